"""The page docs/reference/speed.md and its picture, written from the JSON lines of a run."""

from pathlib import Path

from bench.fleet import plot, table
from bench.fleet.records import figures, read
from bench.fleet.targets import reached

RECORDS = Path(__file__).resolve().parent / "measured.jsonl"
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
ABOUT = Path(__file__).resolve().parent / "about.md"
"""How the page begins: what is measured, and what of it is real."""
REASONS = {
    "converge": (
        "First converge: pyinfra needs less work, and does less. On each host this program compares packages, files and "
        "services before it changes any, keeps a journal, simulates what apt would do, boots a guest (simulated here) and "
        "judges it: 2.3 s of a processor against 1.4 s, of which apt and dpkg have 0.9 s in any case. `pulumi up` "
        "itself has 2.9 s for one host and 0.5 s for each further one, for the engine, its plugins and the program's "
        "imports."
    ),
    "check": (
        "Check: the floor is out of reach where hosts share the processors with what looks at them, as here. On a host "
        "the floor costs 0.07 s of a processor and the verb `compare` 0.26 s, for Python with the node program, dpkg, "
        "and the sums of the program. `kata-nodes` itself has 1.2 s for one host, half of it for the engine, which "
        "exports the state, and a third for the imports of the SSH library; a further host adds 0.04 s, half of "
        "what `ssh` takes. pyinfra's commands take 0.21 s on a host: they look at the files and packages of the deploy alone."
    ),
    "change": (
        "One changed parameter: `pulumi up` itself has 2.4 to 3.4 s of a processor for one host, almost all of it "
        "before the first connection: the engine, its plugins and the imports of the program. Each further host "
        "adds 0.6 s there, for the resources that change, which was not taken apart further. The verbs "
        "on a host, the proof among them, take 0.4 to 0.5 s, and pyinfra's commands 0.2 s."
    ),
}
"""Job -> why it misses a target, for the records that this page is of."""


def derived(records: str) -> dict[Path, str]:
    """The files that are written from these JSON lines."""
    machine, samples = read(records)
    known = figures(samples)
    page = table.page(machine, known, list(reached(known)), REASONS, ABOUT.read_text())
    return {REFERENCE / "speed.md": page, REFERENCE / "speed.svg": plot.svg(known)}
