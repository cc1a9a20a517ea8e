"""The budget: ratios at small sizes that may not worsen by more than a fifth. Ratios, because machines differ."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.fleet.records import Figure, ratio

FILE = Path(__file__).resolve().parent / "budget.json"
ALLOWED = 1.2
"""Most that a ratio may be, as a multiple of the one in the file."""


@dataclass(frozen=True)
class Entry:
    """A ratio of two contenders at a job and a number of hosts, as it was when the file was written."""

    job: str
    hosts: int
    contender: str
    other: str
    ratio: float


PAIRS = (
    ("check", "kata-nodes status", "ssh, the floor"),
    ("check", "kata-nodes drift", "ssh, the floor"),
    ("converge", "pulumi up", "node program alone"),
    ("change", "pulumi up", "node program alone"),
)
SIZES = (1, 4)


def entries(text: str) -> list[Entry]:
    """From the text of the file."""
    return [Entry(**document) for document in json.loads(text)]


def text(known: Sequence[Figure]) -> str:
    """The text of the file for what was measured; raises ValueError where a pair was not."""
    rows = []
    for job, contender, other in PAIRS:
        for hosts in SIZES:
            value = ratio(known, job, hosts, contender, other)
            if value is None:
                raise ValueError(f"{contender} and {other} were not both measured at {job} of {hosts} hosts")
            rows.append(json.dumps(asdict(Entry(job, hosts, contender, other, round(value, 2)))))
    return "[\n " + ",\n ".join(rows) + "\n]\n"


def broken(budget: Sequence[Entry], known: Sequence[Figure]) -> Iterator[str]:
    """A sentence for each ratio that has worsened by more than is allowed, or was not measured."""
    for entry in budget:
        pair = f"{entry.job} of {entry.hosts} host{'s'[: entry.hosts > 1]}: {entry.contender} / {entry.other}"
        value = ratio(known, entry.job, entry.hosts, entry.contender, entry.other)
        if value is None:
            yield f"{pair} was not measured"
        elif value > entry.ratio * ALLOWED:
            yield f"{pair} is {value:.2f}, more than {ALLOWED} x {entry.ratio:.2f} of the budget"
