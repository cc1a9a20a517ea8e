"""The question `compat`: whether a Docker works with a Kata, and if not, the reason and the remedy."""

import argparse
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import apt, kata
from nodekit.rules import node_state
from nodekit.rules.docker.docker_matrix import refuse_if_incompatible, verdict
from nodekit.rules.docker.docker_packages import DAEMONS, upstream_version
from nodekit.rules.kata.kata_layout import RUNTIMES


def arguments(parser: argparse.ArgumentParser) -> None:
    """The pair that is asked about."""
    parser.add_argument("--docker", metavar="V", help="Docker's version, such as 27.5.1 (default: what is installed)")
    parser.add_argument("--kata", metavar="V", help="Kata's version, such as 3.32.0 (default: what is installed)")
    parser.add_argument(
        "--runtime", choices=RUNTIMES, default=node_state.KATA_RUNTIME, help="Kata's runtime (default: %(default)s)"
    )


def run(root: Path, *, docker: str | None, kata: str | None, runtime: str) -> dict[str, object]:
    """The verdict. Raises NodeError `docker-kata-incompatible`, or `bad-input` for a version that is malformed or unknown."""
    docker = docker or _docker(root)
    kata = kata or _kata(root)
    refuse_if_incompatible(docker, kata, runtime)
    result = verdict(docker, kata, runtime)
    return {"docker": docker, "kata": kata, "runtime": runtime, "compatible": True, "reason": result.reason}


def text(document: dict[str, object]) -> str:
    """The reason, as one line."""
    return f"{document['reason']}\n"


def _docker(root: Path) -> str:
    states = apt.package_states(DAEMONS, root)
    name = next((name for name in DAEMONS if name in states), None)
    if name is None:
        raise NodeError("bad-input", f"None of {', '.join(DAEMONS)} is installed on {root}", expected="--docker VERSION")
    return upstream_version(states[name].version)


def _kata(root: Path) -> str:
    installed = kata.version(root)
    if installed is None:
        raise NodeError("bad-input", f"Nothing on {root} shows which Kata is installed", expected="--kata VERSION")
    return installed
