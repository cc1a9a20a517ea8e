"""Let a signal end a run so that what was begun is rolled back, and let none of them break that roll-back."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nodekit.errors import NodeError
from nodekit.progress import say_at_once

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""What timeout(1), a closed connection, a session that systemd ends, and a person's ctrl-C send; often two at once."""

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
        message = f"{os.uname().nodename}: this run was ended by {signal.Signals(number).name} and rolls back what it changed"
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
