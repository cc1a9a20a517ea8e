"""`python -m tools.generate` writes every derived file; with --check it only lists those that are stale, and exits 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tools.generate import errors, picture, report_schema, schema, settings

CHECKOUT = Path(__file__).resolve().parents[2]
FILES: dict[str, Callable[[], str]] = {
    "stacks/schema.json": schema.text,
    "docs/reference/settings.md": settings.text,
    "docs/reference/errors.md": errors.text,
    "docs/reference/report.schema.json": report_schema.text,
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


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when something is stale.")] = False,
) -> None:
    """Write what is derived from the code."""
    outdated = stale()
    for name, text in outdated.items():
        print(f"{name} is stale; run make generate" if check else f"wrote {name}")
        if not check:
            (CHECKOUT / name).parent.mkdir(parents=True, exist_ok=True)
            (CHECKOUT / name).write_text(text, encoding="utf-8")
    raise typer.Exit(1 if check and outdated else 0)


if __name__ == "__main__":
    typer.run(main)
