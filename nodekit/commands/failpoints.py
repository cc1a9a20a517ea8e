"""The question `failpoints`: the places between two effects at which the program can be made to end."""

import argparse
from pathlib import Path

from nodekit.host.failpoints import POINTS, VARIABLE


def arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    parser.epilog = f"With {VARIABLE}=NAME or {VARIABLE}=NAME:N in its environment, the program kills itself there."


def run(root: Path) -> dict[str, object]:
    """Name -> what is done and what is not there."""
    return dict(POINTS)


def text(document: dict[str, object]) -> str:
    """One line for each point."""
    width = max(map(len, document))
    return "".join(f"{name:{width}}  {description}\n" for name, description in document.items())
