"""A test that must be alone waits for the one that runs, and no other begins before it has ended.

Lost if this fails: programs that give themselves a second fail beside other work, and nobody believes the nightly run."""

import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack

from tests import turns


def begun(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_a_test_that_must_be_alone_comes_next_and_has_no_other_beside_it() -> None:
    run, order = uuid.uuid4().hex, []
    alone_may_end = threading.Event()

    def alone() -> None:
        with turns.turn(run, alone=True):
            order.append("alone")
            alone_may_end.wait(30)

    def other() -> None:
        with turns.turn(run, alone=False):
            order.append("other")

    with ExitStack() as first:
        first.enter_context(turns.turn(run, alone=False))
        with turns.turn(run, alone=False):
            order.append("beside")  # two that need not be alone
        waiting = begun(alone)
        waiting.join(0.3)
        behind = begun(other)
        behind.join(0.3)
        assert order == ["beside"] and waiting.is_alive() and behind.is_alive()
    behind.join(0.3)
    assert order == ["beside", "alone"] and behind.is_alive()
    alone_may_end.set()
    for thread in (waiting, behind):
        thread.join(30)
    assert order == ["beside", "alone", "other"]
