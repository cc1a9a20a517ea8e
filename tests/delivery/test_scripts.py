"""Scripts without their comments are the same programs; lost if this fails: a line of one that only looks like a comment."""

import subprocess

import pytest

from delivery.scripts import sent
from nodekit.scripts import script


def parsed(text: str) -> str:
    """As bash prints it once it has parsed it: without comments, in its own layout."""
    argv = ["bash", "--pretty-print", "/dev/stdin"]
    return subprocess.run(argv, input=text, text=True, capture_output=True, check=True, timeout=10).stdout


@pytest.mark.parametrize(("name", "room"), [("system.sh", "nodekit"), ("converge.sh", "delivery"), ("as_root.sh", "delivery")])
def test_a_script_that_is_sent_is_the_same_program(name: str, room: str) -> None:
    whole, text = script(name, room), sent(name, room)
    assert parsed(text) == parsed(whole) != ""
    assert text.splitlines()[:2] == whole.splitlines()[:2] and len(text) < 0.8 * len(whole)
