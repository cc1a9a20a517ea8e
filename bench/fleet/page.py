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
        "First converge: pyinfra needs less work, and does less. On each host this program compares packages, files "
        "and services before it changes any, keeps a journal, simulates what apt would do, boots a guest (simulated "
        "here) and judges it: 1.6 s of a processor against 1.0 s, most of which are apt and dpkg. `pulumi up` itself "
        "has 2.0 s for one host, 3.5 s for ten and 22 s for fifty: before and after each step, the engine writes the "
        "state of all hosts into a backend of one's own, so this part grows with the square of their number ([pulumi "
        "22075](https://github.com/pulumi/pulumi/issues/22075)). Fifty hosts that cost nothing were brought up in 15 s, "
        "and in 4 s without that, by `PULUMI_SKIP_CHECKPOINTS=true` ([at what "
        "price](../guides/existing-hosts.md#many-machines))."
    ),
    "check": (
        "Check: on a host the floor costs 0.05 s of a processor and the verb `compare` 0.13 s, of which 0.07 s are "
        "Python with the node program (it was a quarter more, see [ADR "
        "37](../adr/0037-values-of-the-node-program-are-named-tuples.md)), and the rest the login, the sums of the "
        "program, and dpkg. `kata-nodes` itself has 0.9 s for one host (a quarter to import the SSH library, a fifth "
        "for the engine, which exports the state, an eighth for typer and rich), and 0.01 s for each further one, an "
        "eighth of what `ssh` takes: so the ratio falls from 5.6 with one host to 1.4 with fifty. pyinfra's commands "
        "take a quarter longer on a host than `compare`; with fifty hosts the floor itself takes half of its time, so "
        "that half of pyinfra's time is the floor's."
    ),
    "change": (
        "One changed parameter: `pulumi up` itself has 1.9 s of a processor for one host, almost all of it before the "
        "first connection: the engine, its plugins and the imports of the program. For ten it has 3.5 s and for fifty "
        "21 s, most of it for the state, as above: with fifty hosts that cost nothing 16 s, and 4 s without. The verbs "
        "on a host, the proof among them, take 0.25 s, and pyinfra's commands 0.17 s."
    ),
}
"""Job -> why it misses a target, for the records that this page is of."""


def derived(records: str) -> dict[Path, str]:
    """The files that are written from these JSON lines."""
    machine, samples = read(records)
    known = figures(samples)
    page = table.page(machine, known, list(reached(known)), REASONS, ABOUT.read_text())
    return {REFERENCE / "speed.md": page, REFERENCE / "speed.svg": plot.svg(known)}
