"""The page docs/reference/speed.md and its picture, written from the JSON lines of a run."""

from pathlib import Path

from bench.fleet import plot, table
from bench.fleet.records import figures, read
from bench.fleet.targets import reached

RECORDS = Path(__file__).resolve().parent / "measured.jsonl"
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
ABOUT = Path(__file__).resolve().parent / "about.md"
"""How the page begins: what is measured, and what of it is real."""
REASONS: dict[str, str] = {}
"""Job -> a sentence that says why it misses a target, for the records that this page is of."""


def derived(records: str) -> dict[Path, str]:
    """The files that are written from these JSON lines."""
    machine, samples = read(records)
    known = figures(samples)
    page = table.page(machine, known, list(reached(known)), REASONS, ABOUT.read_text())
    return {REFERENCE / "speed.md": page, REFERENCE / "speed.svg": plot.svg(known)}
