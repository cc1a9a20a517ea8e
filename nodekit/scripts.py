"""Read the shell scripts of a room: what a preview shows, a node runs and a pod is started with is one text."""

from importlib import resources


def script(name: str, room: str = "nodekit") -> str:
    """The text of a script of a room of this checkout, by default of the node program: such as `ladder.sh`."""
    return resources.files(room).joinpath(name).read_text(encoding="utf-8")
