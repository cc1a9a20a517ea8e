"""How components read the cluster's API."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pulumi

from clusterkit.api.cluster_reader import patiently

Read = TypeVar("Read")


async def read_in_thread(read: Callable[[], Read]) -> Read:
    """What `read` returns, off the event loop; raises NodeError.

    In an `up` an API server that fails is asked again for a while: the stack may just have changed the node on which it runs, or
    nodes may be joining for half an hour. A preview says at once that a cluster cannot be reached.
    """
    if pulumi.runtime.is_dry_run():
        return await asyncio.to_thread(read)
    return await asyncio.to_thread(patiently, read)
