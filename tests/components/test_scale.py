"""What each further host costs the program. Lost if this fails: previews of a hundred hosts in seconds."""

import asyncio
from typing import Any

from tests.components.test_wiring import HOST_KEY, stack

MOST_TASKS = 125
"""Of a host: its nine registrations take the SDK some ninety. Each output between plain values and them adds one or more."""


def tasks(hosts: int) -> int:
    """Tasks of the event loop in a preview."""
    started = 0

    def counted(loop: asyncio.AbstractEventLoop, coroutine: Any, **names: Any) -> "asyncio.Task[Any]":
        nonlocal started
        started += 1
        return asyncio.Task(coroutine, loop=loop, **names)

    entry = {"address": "192.0.2.1", "user": "admin", "hostKey": HOST_KEY}
    existing = [{"name": f"host-{number}", "port": 1024 + number, **entry} for number in range(hosts)]
    config = {"nodes": {"existing": existing}, "kata": {"install": "release"}}
    stack(config, preview=True, secrets={"sshPrivateKey": "KEY"}, tasks=counted)
    return started


def test_a_host_takes_few_tasks_of_the_program_and_a_later_one_no_more() -> None:
    few, some, many = (tasks(hosts) for hosts in (1, 6, 16))
    assert (many - some) / 10 == (some - few) / 5 <= MOST_TASKS
