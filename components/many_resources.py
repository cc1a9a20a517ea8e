"""Prepares a process that registers many resources."""

import gc
from typing import Any

from pulumi import log


def prepare() -> None:
    """Leave out of this process what costs more than its own work when it registers hundreds of resources."""
    # Python looks for cyclic garbage after each 700 new objects. Nearly all objects here stay until the end, and looking through
    # them again and again took a third of the program's own time for a hundred nodes.
    gc.set_threshold(50_000)
    # The SDK sends four messages about each resource, which only `pulumi --debug` shows, and the whole program waits for each:
    # most of the time of a preview. The engine's and the plugins' own messages stay.
    log.debug = _silent


def _silent(*_: Any, **__: Any) -> None:
    """Say nothing."""
