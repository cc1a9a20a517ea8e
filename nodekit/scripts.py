"""Read the shell scripts of a room: what a preview shows, a node runs and a pod is started with is one text."""

from importlib import import_module
from typing import Any


def script(name: str, room: str = "nodekit") -> str:
    """The text of a script of a room of this checkout, by default of the node program: such as `ladder.sh`."""
    package = import_module(room)
    # importlib.resources would load zipfile and more, for a tenth of a proof's processor on a node.
    loader: Any = package.__loader__
    return str(loader.get_data(f"{package.__path__[0]}/{name}"), "utf-8")


def ladder_script() -> str:
    """ladder.sh as it is sent to guests, containers and pods: without comments, blank lines and indentation, two fifths less.

    Each Job and pod of a proof carries it, and a cluster keeps every version of each until it compacts its history: 5,000 nodes
    that join at once would fill the 2 GiB that etcd has by default.
    """
    lines = (line.lstrip(" ") for line in script("ladder.sh").splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))
