"""`python -m tools.generate` writes every derived file; with --check it only says which of them are stale, and exits 1."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.generate import errors, picture, schema, settings

CHECKOUT = Path(__file__).resolve().parents[2]
FILES: dict[str, Callable[[], str]] = {
    "stacks/schema.json": schema.text,
    "docs/reference/settings.md": settings.text,
    "docs/reference/errors.md": errors.text,
    "docs/run.svg": picture.text,
}
"""File of the checkout -> what should stand in it."""


def stale() -> dict[str, str]:
    """File -> new content, for those that differ."""
    expected = {name: make() for name, make in FILES.items()}
    return {
        name: text
        for name, text in expected.items()
        if not (CHECKOUT / name).is_file() or (CHECKOUT / name).read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description="Write what is derived from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something is stale")
    check = parser.parse_args().check
    outdated = stale()
    for name, text in outdated.items():
        print(f"{name} is stale; run make generate" if check else f"wrote {name}")
        if not check:
            (CHECKOUT / name).parent.mkdir(parents=True, exist_ok=True)
            (CHECKOUT / name).write_text(text, encoding="utf-8")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
