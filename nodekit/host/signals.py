"""Let a signal end a run so that what was begun is rolled back, and let none of them break that roll-back."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nodekit.errors import NodeError
from nodekit.progress import say_at_once

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM)
"""What timeout(1), a closed connection, a session that systemd ends, a person's ctrl-C, and `bounded` send; often two at once."""
AGAIN_SECONDS = 30
"""After which `bounded` tries again to end what was undoing something before."""

_ending = False
_shields = 0


def obey() -> None:
    """Have the first of `ENDING` print a line and raise SystemExit; later ones, and those in `undisturbed`, change nothing."""
    for number in ENDING:
        signal.signal(number, _arrived)


def _arrived(number: int, frame: FrameType | None) -> None:
    # Not SIG_IGN: what is ignored, the programs that we start would ignore too.
    global _ending
    if not (_ending or _shields):
        _ending = True
        # Now, since timeout(1) may not wait until all is undone.
        why = "this step takes too long" if number == signal.SIGALRM else f"this run was ended by {signal.Signals(number).name}"
        message = f"{os.uname().nodename}: {why} and rolls back what it changed"
        say_at_once(f"error: {NodeError('run-ended', message).sentence()}")
        raise SystemExit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no signal end the with-block, which undoes something; the error that led there ends the run anyway."""
    global _shields
    _shields += 1
    try:
        yield
    finally:
        _shields -= 1


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """End the run by SIGALRM if the with-block takes longer."""
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
