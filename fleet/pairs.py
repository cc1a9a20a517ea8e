"""The matrix of Docker and Kata as rows for a table, and what it says of the pair on a node."""

from collections.abc import Iterator, Sequence

from nodekit.errors import NodeError
from nodekit.rules.docker import docker_matrix
from nodekit.rules.docker.docker_matrix import MATRIX, Verdict, Version


def rows() -> Iterator[list[str]]:
    """Docker's releases, the first Kata that works with them, why, and the sources."""
    for row in MATRIX:
        last = f"before {_dotted(row.end)}" if row.end else "newer"
        rust = f"{_from(row.rust)}{'' if row.rust_known else ' (older ones are untested)'}"
        yield [f"{_dotted(row.first)} and {last}", _from(row.go), rust, row.why, " ".join(row.sources)]


def known(docker: str, kata: str, runtime: str) -> tuple[Verdict, tuple[str, ...]] | None:
    """The verdict on the pair that a node reports, with the sources of its row; None for what is no version."""
    try:
        verdict = docker_matrix.verdict(docker, kata, runtime)
        (release, _) = docker_matrix.reported(docker, "Docker")
    except NodeError:
        return None
    rows = [row for row in MATRIX if row.first <= release and (row.end is None or release < row.end)]
    return verdict, tuple(source for row in rows for source in row.sources)


def with_sources(reason: str, sources: Sequence[str]) -> str:
    """A reason and its sources, which that of a pair that breaks has in it."""
    return f"{reason} ({', '.join(sources)})" if any(source not in reason for source in sources) else reason


def _from(version: Version | None) -> str:
    return "every release" if version is None else f"{_dotted(version)} and newer"


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)
