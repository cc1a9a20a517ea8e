"""Reads the whole numbers of a component's arguments: a program in a language without them hands over floating point or text."""

import re

from nodekit.errors import NodeError
from nodekit.rules.text import printable

DAY = 86400
"""The longest time in seconds: beyond it a wait is a mistake."""
MOST_NODES = 100_000
"""More than any cluster has."""
MOST_PORT = 65535
MOST_ID = 4294967294
"""The last id of a user or group; the one after it means none (chown(2))."""


def whole(key: str, value: object, minimum: int, maximum: int) -> int:
    """The number of a key. Raises NodeError `bad-input` for anything that is not a whole number within the bounds.

    `int()` alone raises errors of its own for an infinity, NaN and text, cuts fractions, and reads digits of every script.
    """
    number = value
    if (isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value)) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
    if isinstance(number, int) and not isinstance(number, bool) and minimum <= number <= maximum:
        return number
    raise NodeError(
        "bad-input", f"Key {key} is {printable(repr(value), 60)}", expected=f"a whole number from {minimum} to {maximum}"
    )
