"""Whose turn it is: a test with the mark `alone` runs while the other workers of the run wait between two tests.

For programs that give themselves a second, whatever the computer: beside other work an emulated guest misses it.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock between processes (flock(2)); the file stays, since another process may wait at it."""
    with open(file, "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def turn(run: str, *, alone: bool) -> Iterator[None]:
    """One test of the run of this name.

    Who wants to be alone holds the door while it waits, so that no other test enters behind the one that it waits for.
    """
    door, room = (Path(tempfile.gettempdir()) / f"kata-nodes-tests-{run}.{name}" for name in ("door", "room"))
    with ExitStack() as entered:
        with locked(door, shared=False):
            entered.enter_context(locked(room, shared=not alone))
        yield
