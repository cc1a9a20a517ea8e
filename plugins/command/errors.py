"""The one error that carries a sentence for the person who reads the engine's output."""

from nodekit.rules.text import harmless


class CommandError(Exception):
    """An operation that failed or was refused; its text is what the engine shows, made `harmless`: it may quote a server."""

    def __init__(self, text: str) -> None:
        super().__init__(harmless(text))


class Unreachable(CommandError):
    """The machine does not answer, does not let the user in, or has another key than the pinned one."""
