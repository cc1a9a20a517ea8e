"""Progress lines on standard error: what is done, what runs, how long it takes. A lost listener stops nothing."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nodekit.rules.text import harmless

PATIENCE = 10.0
"""Seconds to wait for a listener that reads nothing; it gets no further line."""

_deaf = False


def say(text: str) -> None:
    """Print one line at once, where somebody listens; what a site, a package or a guest put into it is made harmless.

    Never raises.
    """
    global _deaf
    if _deaf or sys.stderr is None:  # None: the program was started without one
        return
    try:
        if _writable():
            print(harmless(text), file=sys.stderr, flush=True)
        else:
            _deaf = True
    except (OSError, ValueError):
        _deaf = True


def say_at_once(text: str) -> None:
    """Print one line from a signal's handler, which may interrupt `say`; none where nobody reads. Never raises."""
    if _deaf or sys.stderr is None:
        return
    with suppress(OSError, ValueError):
        number = sys.stderr.fileno()
        if select.select([], [number], [], 0)[1]:
            os.write(number, f"{harmless(text)}\n".encode())


def is_heard() -> bool:
    """Whether somebody still reads: a connection that was cut takes no further line."""
    return not _deaf


def _writable() -> bool:
    """Whether a line can be written at once: a pipe that is ready takes 4096 bytes (pipe(7))."""
    with suppress(OSError, ValueError):  # not a file of the system, as in a test
        return bool(select.select([], [sys.stderr], [], PATIENCE)[1])
    return True


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and say how many seconds it took once it is done."""
    say(f"{text} ...")
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"{text}: failed after {time.monotonic() - begin:.1f} s")
        raise
    say(f"{text}: done in {time.monotonic() - begin:.1f} s")
