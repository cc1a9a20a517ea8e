"""Whose turn it is: which tests of a run's workers run beside each other.

A test with the mark `alone` runs while the other workers wait between two tests: for programs that give themselves a second,
whatever the computer. Beside other work an emulated guest misses it.

Of the tests that fill a processor, no more run than `HEAVY`. A further worker has the others, which wait for half of their time,
for a namespace that goes away or a node that is taken off a cluster.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HEAVY = min(2, os.cpu_count() or 1)
"""Tests that fill a processor, at most, beside each other."""


@contextmanager
def locked(file: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock between processes (flock(2)); the file stays, since another process may wait at it."""
    with open(file, "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def one_of(files: list[Path]) -> Iterator[None]:
    """Hold one of several locks, whichever is free first."""
    with ExitStack() as opened:
        handles = [opened.enter_context(open(file, "a", encoding="utf-8")) for file in files]
        while True:
            for handle in handles:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
            time.sleep(0.1)


@contextmanager
def turn(run: str, *, alone: bool, heavy: bool = False) -> Iterator[None]:
    """One test of the run of this name.

    Who wants to be alone holds the door while it waits, so that no other test enters behind the one that it waits for.
    """
    door, room, *places = (
        Path(tempfile.gettempdir()) / f"kata-nodes-tests-{run}.{name}" for name in ("door", "room", *map(str, range(HEAVY)))
    )
    with ExitStack() as entered:
        if heavy:
            entered.enter_context(one_of(places))
        with locked(door, shared=False):
            entered.enter_context(locked(room, shared=not alone))
        yield
