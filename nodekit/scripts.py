"""Read the shell scripts of this package: what a preview shows, a node runs and a pod is started with is one text."""

from importlib import resources


def script(name: str) -> str:
    """The text of a script beside this module, such as `ladder.sh`."""
    return resources.files("nodekit").joinpath(name).read_text(encoding="utf-8")
