"""The matrix of Docker and Kata as rows for a table."""

from collections.abc import Iterator

from nodekit.rules.docker.docker_matrix import MATRIX, Version


def rows() -> Iterator[list[str]]:
    """Docker's releases, the first Kata that works with them, why, and the sources."""
    for row in MATRIX:
        last = f"before {_dotted(row.end)}" if row.end else "newer"
        rust = f"{_from(row.rust)}{'' if row.rust_known else ' (older ones are untested)'}"
        yield [f"{_dotted(row.first)} and {last}", _from(row.go), rust, row.why, " ".join(row.sources)]


def _from(version: Version | None) -> str:
    return "every release" if version is None else f"{_dotted(version)} and newer"


def _dotted(version: Version) -> str:
    return ".".join(str(part) for part in version)
