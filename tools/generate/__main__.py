"""`python -m tools.generate` writes every derived file that is not as the code says."""

from collections.abc import Callable
from pathlib import Path

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


if __name__ == "__main__":
    for name, text in stale().items():
        (CHECKOUT / name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
