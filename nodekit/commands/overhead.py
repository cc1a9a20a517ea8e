"""The verb `overhead`: measure an idle and a busy sandbox, and propose the overhead of their RuntimeClass; changes nothing."""

import os
import shutil
import time
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import docker, guest, sandbox_container
from nodekit.host.container import own_image
from nodekit.host.kata import Effective, effective
from nodekit.host.kata_start import refuse_what_kata_refuses
from nodekit.host.sandbox_container import FILES_MIB, Container, Ready
from nodekit.host.sandbox_processes import sample
from nodekit.progress import step
from nodekit.rules.kata import guest_memory, overhead
from nodekit.rules.kata.overhead import Load, Sample, SandboxUse
from nodekit.rules.node_state import RUNTIME_NAME, OverheadState

SETTLE_SECONDS = 3.0
"""From the moment the load is there to the first look at it: what a start leaves behind goes on for a moment."""


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Measure as `desired`, an OverheadState, says; no container and no image remains.

    Raises NodeError `overhead-not-measured`, `kata-would-refuse`, or one of reading Kata's configuration.
    """
    state = OverheadState.read(desired)
    deadline = time.monotonic() + state.timeout_seconds
    configuration = effective(root, runtime=state.runtime, hypervisor=state.hypervisor, config_path=state.config_path)
    _refuse_without_containers(root, state, configuration)
    refuse_what_kata_refuses(root, configuration, state.hypervisor, state.runtime, state.node)
    guest_mib = guest_memory.of_guest(configuration.hypervisor.get("default_memory"), state.runtime)
    nonce = guest.new_nonce()
    with own_image(nonce, None) as image:
        measuring = _Measuring(root, state, image, nonce, guest_mib, deadline)
        with step("overhead: an idle sandbox"):
            idle, _ = measuring.use(None)
        with step("overhead: a busy sandbox"):
            busy, load = measuring.use(overhead.fill_mib(guest_mib, guest.memory_mib("MemAvailable"), guest.SPARE_MIB))
    known = overhead.settings(configuration.document, configuration.hypervisor, state.runtime, guest_mib)
    return {
        "node": state.node,
        "changed": False,
        "hypervisor": state.hypervisor,
        "runtime": state.runtime,
        "kataVersion": configuration.version,
        "configFile": configuration.config_file,
        "guestMiB": guest_mib,
        "sandboxCgroupOnly": known.whole_in_pod,
        "load": {
            "filledMiB": load.filled_mib,
            "processors": load.processors,
            "filesMiBPerSecond": round(load.files_mib_per_second, 1),
        },
        "idle": idle.as_dict(),
        "busy": busy.as_dict(),
        "proposal": overhead.propose(idle, busy, known, load).as_dict(),
    }


def _refuse_without_containers(root: Path, state: OverheadState, configuration: Effective) -> None:
    """Raise NodeError `overhead-not-measured` where Docker can start no container of Kata here."""
    answer = docker.ask(root)
    if configuration.shim is None:
        message, case = "has no Kata shim, which starts sandboxes", "no-shim"
    elif state.hypervisor == "firecracker":
        message, case = "runs Firecracker, for which Docker has no storage driver", "firecracker"
    elif answer.version is None and shutil.which("docker") is None:
        message, case = "has no Docker, by which the sandboxes are started", "no-docker"
    elif answer.version is None:
        message, case = f"has a dockerd that does not answer: {answer.reason}", "docker-stopped"
    elif RUNTIME_NAME not in answer.runtimes:
        runtimes = ", ".join(sorted(answer.runtimes)) or "none"
        message, case = f"has a dockerd that does not know the runtime {RUNTIME_NAME}, only {runtimes}", "no-runtime"
    else:
        return
    raise NodeError("overhead-not-measured", f"Node {state.node} {message}", case)


class _Measuring:
    """One run on a node."""

    def __init__(self, root: Path, state: OverheadState, image: str, nonce: str, guest_mib: int, deadline: float) -> None:
        self.root, self.state, self.image, self.nonce, self.guest_mib = root, state, image, nonce, guest_mib
        self.deadline = deadline

    def use(self, fill_mib: int | None) -> tuple[SandboxUse, Load]:
        """What a sandbox takes that is idle, or that fills so much memory."""
        left = max(1.0, self.deadline - time.monotonic())
        with sandbox_container.running(self.state.node, self.image, self.nonce, left, fill_mib) as container:
            container.wait_until_ready(self.deadline, 0 if fill_mib is None else 1)
            time.sleep(SETTLE_SECONDS)
            begun = container.ready()
            first = self._sample(container)
            time.sleep(self.state.seconds)
            last = self._sample(container)
            ended = container.ready()
        return overhead.between(first, last, os.sysconf("SC_CLK_TCK")), _load(begun, ended, last.at - first.at)

    def _sample(self, container: Container) -> Sample:
        result = sample(self.root, container.id, self.guest_mib)
        if not result.uses:
            container.ready()  # raises where it has ended
            raise NodeError(
                "overhead-not-measured",
                f"Node {self.state.node}: no process on the node belongs to the sandbox of container {container.id[:12]}",
                "unseen",
            )
        return result


def _load(begun: Ready | None, ended: Ready | None, seconds: float) -> Load:
    if begun is None or ended is None:
        return Load(0, 0, 0)
    return Load(ended.filled_mib, ended.processors, (ended.rounds - begun.rounds) * FILES_MIB / seconds)
