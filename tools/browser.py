"""Get what tests look at the page of `kata-nodes report` with: a headless Chromium, and axe, which judges its accessibility.

Where one of them is not available, it prints why and ends with 0: the tests that need it are skipped with that reason.
"""

import argparse
import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tools import cache, local
from tools.cache import SetupError, exit_status, say

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Names on PATH, of which the first that is there is used; the first is Debian's smallest package, without a user interface."""
PACKAGE = "chromium-headless-shell"
AXE = "4.14.1"
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""Of the package's archive, as the registry publishes it (`npm view axe-core@4.14.1 dist.integrity`)."""
SECONDS = 300


def program() -> Path | None:
    """The browser of this machine."""
    place = next(filter(None, (shutil.which(name, path=local.SYSTEM_PATH) or shutil.which(name) for name in PROGRAMS)), None)
    return Path(place) if place else None


def axe_script() -> Path:
    """Where axe is, or will be."""
    return cache.root() / f"parts/axe-core-{AXE}" / "axe.min.js"


def unpacked(archive: bytes, folder: Path) -> None:
    """Put axe's script into `folder`, from an archive that must be the pinned one; raises SetupError."""
    seen = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if seen != AXE_SHA512:
        raise SetupError(
            f"axe-core {AXE} has sha512 {seen}, and {AXE_SHA512} is pinned. The registry or a mirror holds another file."
        )
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as members:
        content = members.extractfile("package/axe.min.js")
        assert content is not None
        (folder / "axe.min.js").write_bytes(content.read())


def fetch_axe(folder: Path) -> None:
    """Get it from npm's registry, as npm is configured; raises SetupError."""
    if not shutil.which("npm"):
        raise SetupError("axe-core comes from npm's registry, and there is no npm. Install Node.js with npm.")
    argv = ["npm", "pack", "--silent", "--ignore-scripts", f"axe-core@{AXE}", "--pack-destination", str(folder)]
    try:
        result = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SetupError(f"axe-core {AXE} cannot be downloaded by npm: it did not end within {SECONDS} s.") from None
    archives = list(folder.glob("*.tgz"))
    if result.returncode != 0 or len(archives) != 1:
        raise SetupError(f"axe-core {AXE} cannot be downloaded by npm: {' '.join(result.stderr.split())[-300:]}.")
    unpacked(archives[0].read_bytes(), folder)
    archives[0].unlink()


def main(argv: Sequence[str] = ()) -> int:
    """Set up what is missing; 0 also where that is not possible."""
    argparse.ArgumentParser(prog="tools.browser", description=__doc__).parse_args(argv)

    def run() -> None:
        try:
            if program() is None:
                local.install([PACKAGE])
            cache.entry(axe_script().parent.relative_to(cache.root()).as_posix(), fetch_axe, f"Downloading axe-core {AXE}")
        except SetupError as error:
            say(f"The tests of the page in a browser will be skipped: {error}")

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
