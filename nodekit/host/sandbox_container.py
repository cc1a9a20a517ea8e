"""Run a container whose sandbox is looked at from the node, and leave nothing of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.container import DOCKER, environment, remove
from nodekit.host.process import run
from nodekit.rules.node_state import RUNTIME_NAME
from nodekit.rules.proof.console import explain_docker
from nodekit.rules.text import printable
from nodekit.scripts import script

CALL_SECONDS = 60.0
"""Bound on one answer of Docker's command line."""
POLL = 1.0
"""Seconds between two looks at what the container prints; each costs a slow node most of a second."""
FILES_MIB = 16
"""Written to shared files each second by a busy container, and read again."""


class Ready(NamedTuple):
    """What the container has done by now."""

    filled_mib: int
    processors: int
    rounds: int
    """How often it has written and read `FILES_MIB`."""


class Container:
    """A running container of the runtime."""

    def __init__(self, node: str, name: str, nonce: str, id: str) -> None:
        self.node, self.name, self.nonce, self.id = node, name, nonce, id

    def wait_until_ready(self, deadline: float, rounds: int) -> Ready:
        """Wait until its load is there and has done so many rounds; raises NodeError `overhead-not-measured`."""
        while (ready := self.ready()) is None or ready.rounds < rounds:
            if time.monotonic() > deadline:
                raise NodeError(
                    "overhead-not-measured", f"Node {self.node}: the container {self.name} was not ready in time", "time"
                )
            time.sleep(POLL)
        return ready

    def ready(self) -> Ready | None:
        """What it has printed, or None before its load is there; raises NodeError `overhead-not-measured` where it has ended."""
        result = run([*DOCKER, "logs", self.name], timeout=CALL_SECONDS, env=environment(), check=False)
        if result.code != 0:
            raise NodeError(
                "overhead-not-measured",
                f"Node {self.node}: the container {self.name} ended before its sandbox was measured "
                f"(Docker: {printable(' '.join(result.stderr.split()), 300)})",
                "ended",
            )
        lines = [line.split()[1:] for line in result.stdout.splitlines() if line.startswith(self.nonce)]
        numbers = next((words[1:] for words in lines if words[:1] == ["ready"]), None)
        if numbers is None or len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            return None
        return Ready(int(numbers[0]), int(numbers[1]), lines.count(["round"]))


@contextmanager
def running(node: str, image: str, nonce: str, seconds: float, fill_mib: int | None) -> Iterator[Container]:
    """A container of `image` with a load: idle without `fill_mib`, else busy. It is gone afterwards, at the latest by itself.

    Raises NodeError `overhead-not-measured` with the cause where it does not start in `seconds`.
    """
    name, env = f"kata-nodes-overhead-{nonce[:12]}-{'idle' if fill_mib is None else 'busy'}", environment()
    command = [*DOCKER, "run", "--detach", "--rm", "--name", name, "--runtime", RUNTIME_NAME, "--network", "bridge"]
    # Its output is read whatever the daemon's own way of logging is.
    command += ["--log-driver", "json-file", "--log-opt", "max-size=1m", "--entrypoint", "/bin/sh"]
    command += ["-e", f"KATA_NODES_NONCE={nonce}", "-e", f"KATA_NODES_SECONDS={seconds:.0f}"]
    if fill_mib is not None:
        command += ["--tmpfs", f"/fill:size={fill_mib + 1}m"]
        command += ["-e", f"KATA_NODES_FILL={fill_mib}", "-e", f"KATA_NODES_WRITTEN={FILES_MIB}"]
    try:
        try:
            result = run([*command, image, "-c", script("sandbox_load.sh")], timeout=seconds, env=env, check=False)
        except NodeError as error:
            if error.code != "command-timeout":
                raise
            raise NodeError(
                "overhead-not-measured", f"Node {node}: the container {name} did not start within {seconds:.0f} s", "time"
            ) from None
        if result.code != 0:
            why = explain_docker(result.stderr)
            raise NodeError(
                "overhead-not-measured",
                f"Node {node}: the container of runtime {RUNTIME_NAME} did not start (exit code {result.code}): {why.cause}",
                remedy=why.remedy,
            )
        yield Container(node, name, nonce, result.stdout.strip())
    finally:
        remove(name)
