"""Let one run at a time change a node, and name the run that holds it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.files import refusal_case

LOCK = "run/kata-nodes.lock"
POLL = 0.1
"""Seconds between two tries."""


def holder(root: Path) -> str | None:
    """The process id of the run that holds the node's lock; None when nobody does. Raises NodeError `file-unreadable`."""
    try:
        handle = os.open(root / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NodeError("file-unreadable", f"/{LOCK} cannot be read: {error.strerror}", refusal_case(error, "disk")) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(handle)
    finally:
        os.close(handle)
    return None


def _named(handle: int) -> str:
    holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
    return f"process {holder if holder.isdigit() else 'unknown'}"


@contextmanager
def node_lock(root: Path, timeout: float) -> Iterator[None]:
    """Hold the node's lock for the with-block; the kernel frees it when the process ends, however it ends.

    Waits up to `timeout` seconds. Raises NodeError `node-busy` naming the holder's process id.
    """
    path = root / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NodeError("file-unwritable", f"/{LOCK} cannot be opened: {error.strerror}", refusal_case(error)) from None
    try:
        end = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise NodeError("node-busy", f"Another run holds /{LOCK} ({_named(handle)}); waited {timeout:g} s") from None
                time.sleep(POLL)
        with suppress(OSError):  # a full /run: the lock holds without the name of who has it
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        reach("lock-taken")
        yield
    finally:
        os.close(handle)
