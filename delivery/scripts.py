"""Shell scripts as a command carries them: the state of a stack keeps each twice for every node."""

from functools import cache

from nodekit import scripts

HEAD = 2
"""Lines at the beginning that stay: the interpreter, and what the script is for."""


@cache
def sent(name: str, room: str = "nodekit") -> str:
    """The text of a script of a room of this checkout, without its comments and its indentation."""
    lines = scripts.script(name, room).splitlines(keepends=True)
    return "".join([*lines[:HEAD], *(line.lstrip(" ") for line in lines[HEAD:] if not line.lstrip().startswith("#"))])
