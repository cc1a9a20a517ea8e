"""The one error that ends a command of `kata-nodes` with a sentence for the person who typed it."""

from nodekit.rules.text import harmless


class FleetError(Exception):
    """What cannot be done, why, and what to do about it."""

    def __init__(self, text: str) -> None:
        super().__init__(harmless(text))
