"""The one error that carries a sentence for the person who reads the engine's output."""


class CommandError(Exception):
    """An operation that failed or was refused; its text is what the engine shows."""


class Unreachable(CommandError):
    """The machine does not answer, does not let the user in, or is another one than the pinned."""
