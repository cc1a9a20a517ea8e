"""Prepares a process that registers many resources."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

from pulumi import log
from pulumi.runtime import resource

STACK_TRACE = getattr(resource, "_get_stack_trace", None)
"""The SDK's own; a process may be prepared again."""


def prepare() -> None:
    """Leave out of this process what costs more than its own work when it registers hundreds of resources."""
    # Python looks for cyclic garbage after each 700 new objects. Nearly all objects here stay until the end, and looking through
    # them again and again took a third of the program's own time for a hundred nodes.
    gc.set_threshold(50_000)
    # The SDK sends four messages about each resource, which only `pulumi --debug` shows, and the whole program waits for each:
    # most of the time of a preview. The engine's and the plugins' own messages stay.
    log.debug = _silent
    # It also sends the whole stack of each registration, some twenty frames of Python's, its own and the program's, and a state
    # keeps them: a fifth of it. What the engine shows, the resource's own source, is the first. The name is the SDK's own; where
    # it has another, a state is longer.
    if STACK_TRACE is not None:
        vars(resource)["_get_stack_trace"] = partial(_first_frame, STACK_TRACE)


def _first_frame(whole: Callable[[], Any]) -> Any:
    trace = whole()
    del trace.frames[1:]
    return trace


def _silent(*_: Any, **__: Any) -> None:
    """Say nothing."""
