"""From what an idle and a busy sandbox take on the node to the overhead of the RuntimeClass, with the origin of each number.

Kubernetes adds `overhead.podFixed` to the requests of a pod, and to its limits where it has any; the kubelet makes the pod's
control group that large (kubernetes.io, Pod Overhead). Kata wants both sides of the overhead in it: what the processes on the
node take, and what the guest takes beyond its containers (docs/how-to/how-to-size-sandbox-overhead-runtime-rs.md).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nodekit.rules.kata.sandbox_processes import Memory
from nodekit.rules.shapes import mapping
from nodekit.rules.text import printable

MARGIN_PERCENT = 10
"""What is added: another sandbox opens more files, and another release is a little larger."""
STEP = 10
"""Proposals are multiples of 10 Mi and of 10 m: what lies below differs from run to run."""


class Use(NamedTuple):
    """A process of a sandbox at one moment."""

    pid: int
    start: int
    name: str
    memory: Memory
    page_tables: int
    """In KiB."""
    cpu_ticks: int
    guest_ticks: int


class Sample(NamedTuple):
    """A sandbox at one moment."""

    at: float
    """In seconds."""
    uses: tuple[Use, ...]
    guest_known: bool
    """Whether the guest's memory could be distinguished from the hypervisor's own."""
    groups: Mapping[str, int]
    """Control group that is the sandbox's alone -> KiB that the kernel itself holds for it."""


class ProcessUse(NamedTuple):
    """A process over an interval."""

    name: str
    memory_kib: int
    """Proportional set size at the end, without the guest's memory."""
    resident_kib: int
    """Resident set size, likewise."""
    cpu_milli: float
    """Thousandths of a processor, without the time in which a processor of the guest ran."""
    guest_milli: float
    """That time."""


class SandboxUse(NamedTuple):
    """A sandbox over an interval."""

    seconds: float
    processes: tuple[ProcessUse, ...]
    guest_kib: int | None
    """The guest's memory that it has touched so far; None where it is counted as the hypervisor's."""
    kernel_kib: int
    """Memory of the node's kernel for these processes: page tables, or more where they have a control group of their own."""
    groups: tuple[str, ...]

    @property
    def memory_kib(self) -> int:
        """Of all processes."""
        return sum(process.memory_kib for process in self.processes)

    @property
    def cpu_milli(self) -> float:
        """Of all processes, without the guest's processors."""
        return sum(process.cpu_milli for process in self.processes)

    @property
    def guest_milli(self) -> float:
        """Of the guest's processors."""
        return sum(process.guest_milli for process in self.processes)

    def as_dict(self) -> dict[str, object]:
        """In a result document."""
        return {
            "seconds": round(self.seconds, 2),
            "processes": [
                {
                    "name": process.name,
                    "memoryMiB": _mib(process.memory_kib),
                    "residentMiB": _mib(process.resident_kib),
                    "cpuMilli": round(process.cpu_milli, 1),
                    "guestCpuMilli": round(process.guest_milli, 1),
                }
                for process in self.processes
            ],
            "memoryMiB": _mib(self.memory_kib),
            "kernelMiB": _mib(self.kernel_kib),
            "guestMiB": None if self.guest_kib is None else _mib(self.guest_kib),
            "cpuMilli": round(self.cpu_milli, 1),
            "guestCpuMilli": round(self.guest_milli, 1),
            "controlGroups": list(self.groups),
        }


class Settings(NamedTuple):
    """What Kata's configuration says that the proposal depends on."""

    guest_mib: int
    """Memory with which a guest starts."""
    whole_in_pod: bool
    """`sandbox_cgroup_only`."""
    guest_budget_mib: int | None = None
    """`overhead_memory`, where the Rust runtime gives a guest that much beyond its containers' limits."""


class Load(NamedTuple):
    """What the busy sandbox did."""

    filled_mib: int
    """Memory that its container filled."""
    processors: int
    """Processors of the guest that it kept busy."""
    files_mib_per_second: float
    """Written to files that the node shares with the guest, and read again."""


class Proposal(NamedTuple):
    """Overhead of a pod, as Kubernetes quantities."""

    memory: str
    cpu: str
    memory_at_most: str | None
    """Where all processes are in the pod's control group: with this one no guest has its pod killed, whatever it touches."""
    comparable: bool
    """Whether the guests ran on KVM, as those of users do."""
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """In a result document."""
        return {
            "memory": self.memory,
            "cpu": self.cpu,
            "memoryAtMost": self.memory_at_most,
            "comparable": self.comparable,
            "reasons": list(self.reasons),
        }


def settings(document: Mapping[str, object], table: Mapping[str, object], runtime: str, guest_mib: int) -> Settings:
    """From the merged configuration and its hypervisor's table. Only the Rust runtime knows `overhead_memory` (from 4.0.0)."""
    options = mapping(document.get("runtime"))
    budget = table.get("overhead_memory")
    sized = runtime == "rust" and options.get("static_sandbox_resource_mgmt") is True
    return Settings(
        guest_mib=guest_mib,
        whole_in_pod=options.get("sandbox_cgroup_only") is True,
        guest_budget_mib=budget if sized and isinstance(budget, int) else None,
    )


def fill_mib(guest_mib: int, available_mib: int, spare_mib: int) -> int:
    """Memory that the busy container fills: half of its guest's, and no more than half of what the node can spare."""
    return max(0, min(guest_mib // 2, (available_mib - spare_mib) // 2))


def between(first: Sample, last: Sample, ticks_per_second: int) -> SandboxUse:
    """What the sandbox took from `first` to `last`; a process that `first` does not have started in between."""
    seconds = last.at - first.at
    before = {(use.pid, use.start): use for use in first.uses}

    def milli(now: int, then: int) -> float:
        return max(0, now - then) / ticks_per_second / seconds * 1000

    processes = []
    for use in last.uses:
        old = before.get((use.pid, use.start))
        whole = milli(use.cpu_ticks, old.cpu_ticks if old else 0)
        guest = min(whole, milli(use.guest_ticks, old.guest_ticks if old else 0))
        processes.append(ProcessUse(use.name, use.memory.own, use.memory.own_resident, whole - guest, guest))
    touched = sum(use.memory.guest for use in last.uses) + max((use.memory.guest_huge for use in last.uses), default=0)
    tables = sum(use.page_tables for use in last.uses)
    return SandboxUse(
        seconds=seconds,
        processes=tuple(sorted(processes, key=lambda process: (-process.memory_kib, process.name))),
        guest_kib=touched if last.guest_known else None,
        kernel_kib=max(tables, sum(last.groups.values())),
        groups=tuple(sorted(last.groups)),
    )


def propose(idle: SandboxUse, busy: SandboxUse, known: Settings, load: Load) -> Proposal:
    """The overhead that covers both sandboxes."""
    host = max(idle.memory_kib, busy.memory_kib if busy.guest_kib is not None else 0)
    kernel = max(idle.kernel_kib, busy.kernel_kib)
    touched = -(-(idle.guest_kib or 0) // 1024)
    guest_mib = max(touched, known.guest_budget_mib or 0)
    comparable = busy.guest_milli > 0
    idle_cpu = idle.cpu_milli + idle.guest_milli
    most = guest_mib if known.guest_budget_mib else known.guest_mib
    at_most = _memory(host + kernel, most) if known.whole_in_pod and idle.guest_kib is not None else None
    reasons = [
        *_of_memory(idle, busy, known, load),
        *_of_groups(known, at_most),
        *_of_cpu(idle_cpu, busy.cpu_milli if comparable else None, load),
        f"Margin: {MARGIN_PERCENT} % are added, and the sums are rounded up to the next {STEP} Mi and {STEP}m.",
    ]
    return Proposal(
        memory=_memory(host + kernel, guest_mib),
        cpu=f"{_up(max(idle_cpu, busy.cpu_milli if comparable else 0))}m",
        memory_at_most=at_most,
        comparable=comparable,
        reasons=tuple(reasons),
    )


def _of_memory(idle: SandboxUse, busy: SandboxUse, known: Settings, load: Load) -> Iterator[str]:
    if idle.guest_kib is None:
        yield (
            f"Memory: the processes of an idle sandbox take {_rounded(idle.memory_kib)}: {_processes(idle.processes)}. The "
            f"guest's own memory ({known.guest_mib} MiB, default_memory) could not be distinguished from the hypervisor's, so "
            "what it has touched is in this, and the busy sandbox, which touched more of it, does not count."
        )
    else:
        first, second = (busy, idle) if busy.memory_kib >= idle.memory_kib else (idle, busy)
        yield (
            f"Memory of processes on the node: {_rounded(first.memory_kib)} in the {'busy' if first is busy else 'idle'} sandbox "
            f"({_processes(first.processes)}), {_rounded(second.memory_kib)} in the other. Pages that several processes share "
            "are divided among them; the guest's memory is left out. The larger sum counts."
        )
    groups = "as the sandbox's control groups count it" if idle.groups or busy.groups else "page tables"
    yield f"Memory of the node's kernel for them: {_rounded(max(idle.kernel_kib, busy.kernel_kib))} ({groups})."
    if idle.guest_kib is not None:
        yield (
            f"Memory of the guest beyond its containers: {_rounded(idle.guest_kib)}, which an idle guest has touched of its "
            f"{known.guest_mib} MiB (default_memory): kernel, agent and what they keep. No container's limit covers it."
        )
        if known.guest_budget_mib is not None:
            larger = known.guest_budget_mib * 1024 >= idle.guest_kib
            yield (
                f"Kata gives a guest {known.guest_budget_mib} MiB beyond its containers' limits (overhead_memory), "
                + ("which counts in place of it." if larger else "less than that: raise overhead_memory to it.")
            )
        yield (
            f"Not counted: what containers themselves touch, which is in their own requests and limits (busy, with "
            f"{load.filled_mib} MiB filled, the guest has touched {_rounded(busy.guest_kib or 0)}), and the node's page cache of "
            "shared files, which it takes back."
        )


def _of_groups(known: Settings, at_most: str | None) -> Iterator[str]:
    if not known.whole_in_pod:
        yield (
            "sandbox_cgroup_only is false: shim and virtiofsd run outside of the pod's control group without a limit, so for "
            "them this overhead only reserves room when pods are placed; the guest's memory is charged to the pod."
        )
        return
    yield (
        "sandbox_cgroup_only is true: all of this is charged to the pod's control group, whose limit is the containers' limits "
        "and this overhead; the kernel kills the sandbox of a pod that exceeds it."
        + (f" A guest may touch all of its memory in time; with {at_most} none is killed for that." if at_most else "")
    )


def _of_cpu(idle: float, busy: float | None, load: Load) -> Iterator[str]:
    text = f"Processors: an idle sandbox takes {idle:.0f}m, its guest included"
    if busy is None:
        yield (
            f"{text}. That counts: the node's kernel has counted no time of a guest's processors in the busy sandbox either: the "
            "guest did not run on KVM, and its work cannot be distinguished from the hypervisor's."
        )
        yield "An emulated guest takes other memory and time than one on KVM. Set nothing by this; measure on a node with KVM."
        return
    yield (
        f"{text}; a busy one {busy:.0f}m beside its guest's processors, of which the container kept {load.processors} busy while "
        f"it wrote and read {load.files_mib_per_second:.0f} MiB of shared files each second. The larger counts."
    )


def _processes(processes: Iterable[ProcessUse]) -> str:
    parts = [f"{printable(process.name, 40)} {process.memory_kib / 1024:.0f}" for process in processes if process.memory_kib]
    return ", ".join(parts) or "none"


def _memory(kib: int, mib: int) -> str:
    return f"{_up(kib / 1024 + mib)}Mi"


def _up(value: float) -> int:
    """With the margin, to the next step."""
    return max(STEP, math.ceil(round(value * (100 + MARGIN_PERCENT) / 100 / STEP, 6)) * STEP)


def _rounded(kib: int) -> str:
    return f"{kib / 1024:.0f} MiB"


def _mib(kib: int) -> float:
    return round(kib / 1024, 1)
