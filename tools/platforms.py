"""Check that the locks install from wheels alone on every supported platform and Python; prints what does not."""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "x86_64-apple-darwin", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LOCKS = ("requirements-dev.txt", "policy/requirements.txt")
"""The two widest; the others hold parts of the first, with the same hashes."""


def missing(lock: Path, platform: str, python: str) -> str | None:
    """The package of a lock that has no wheel there, or another obstacle; None where all have one."""
    # Wheels need no building, so none of the Pythons has to be there: uv would look for a download of each, and retry.
    argv = ["uv", "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--color", "never", "--no-python-downloads"]
    argv += ["--python-platform", platform, "--python-version", python, str(lock)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    package = re.search(r"(\S+==\S+) has no usable wheels", " ".join(result.stderr.split()))
    return f"{package[1]} has no wheel" if package else result.stderr.strip()


def gaps(locks: Sequence[Path]) -> Iterator[str]:
    """A line for each lock that does not install from wheels on one of the platforms."""
    cases = list(product(locks, PLATFORMS, PYTHONS))
    with ThreadPoolExecutor(4) as pool:
        for (lock, platform, python), gap in zip(cases, pool.map(lambda case: missing(*case), cases), strict=True):
            if gap:
                yield f"{lock.name} on {platform} with Python {python}: {gap}"


def main() -> int:
    """Print the gaps; 1 when there is one."""
    argparse.ArgumentParser(prog="tools.platforms", description=__doc__).parse_args()
    lines = list(gaps([CHECKOUT / lock for lock in LOCKS]))
    print("\n".join(lines) if lines else f"{len(LOCKS)} locks install on {len(PLATFORMS)} platforms with {len(PYTHONS)} Pythons")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
