"""What this program is to reach beside the others, and whether it does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.fleet.records import Figure, ratio


@dataclass(frozen=True)
class Target:
    """The most that the ratio of two contenders may be at a job."""

    job: str
    contender: str
    other: str
    limit: float


FLOOR, PYINFRA, ANSIBLE = "ssh, the floor", "pyinfra", "ansible"
TARGETS = (
    *(
        Target("check", f"kata-nodes {verb}", other, most)
        for verb in ("status", "drift")
        for other, most in ((FLOOR, 1.5), (PYINFRA, 0.5), (ANSIBLE, 0.1))
    ),
    *(
        Target(job, "pulumi up", other, most)
        for job in ("converge", "change")
        for other, most in ((PYINFRA, 1.0), (ANSIBLE, 0.25))
    ),
)


@dataclass(frozen=True)
class Reached:
    """A target at a number of hosts, and what was measured."""

    target: Target
    hosts: int
    ratio: float

    @property
    def met(self) -> bool:
        """Whether the ratio is at most the target, at the precision that is printed."""
        return round(self.ratio, 2) <= self.target.limit


def reached(known: Sequence[Figure]) -> Iterator[Reached]:
    """Every target at every number of hosts that was measured."""
    sizes = sorted({figure.hosts for figure in known})
    for target in TARGETS:
        for hosts in sizes:
            value = ratio(known, target.job, hosts, target.contender, target.other)
            if value is not None:
                yield Reached(target, hosts, value)
