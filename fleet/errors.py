"""The one error that ends a command of `kata-nodes` with a sentence for the person who typed it, and causes on one line."""

from nodekit.rules.text import harmless, printable


class FleetError(Exception):
    """What cannot be done, why, and what to do about it."""

    def __init__(self, text: str) -> None:
        super().__init__(harmless(text))


def one_line(text: str) -> str:
    """Words of another machine, which on several lines would look like those of others."""
    return printable(" ".join(text.split()))
