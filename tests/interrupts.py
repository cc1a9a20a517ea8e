"""Has what tests and benchmarks start end by SIGINT, also in a background job of a shell."""

import signal


def heed() -> None:
    """Undo what a shell does to a background job: it ignores SIGINT, and so does all that it starts.

    Pulumi ends its language hosts by that signal, and waits 5 s for each that ignores it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
