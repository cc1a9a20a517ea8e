"""Which processes of a node belong to a sandbox, and which of their memory is the guest's: from the texts of /proc (proc(5))."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple, TypeVar

ID_LENGTH = 32
"""Characters of a container's id that name its sandbox everywhere: Kata cuts the 64 to these for Firecracker (`fc.go`)."""
LEAST_KIB = 16 << 10
"""A mapping that is smaller is no part of a guest's memory."""
MERGED = 1.25
"""A mapping may be this much larger than the guest's memory: the kernel merges neighbors that are alike."""
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ (\S+) (\d+)\s*(.*)$")
_KERNEL_THREAD = re.compile(r"^(?:vhost-|kvm-[a-z-]+/)(\d+)$")
"""How Linux names the threads that serve a process: before 6.4 those of vhost, and the timer of KVM."""
Key = TypeVar("Key")


class Identity(NamedTuple):
    """What distinguishes a process."""

    pid: int
    parent: int
    name: str
    """As the kernel cuts it, to 15 characters."""
    start: int
    """Clock ticks from the boot: with the pid it is unique."""
    cpu_ticks: int
    guest_ticks: int
    """Of those, the ones in which a processor of a guest ran. Only KVM counts any."""
    arguments: bytes = b""
    groups: str = ""
    """Content of /proc/PID/cgroup."""
    folder: str = ""
    """Its working folder: that of a shim is its container's bundle."""


class Mapped(NamedTuple):
    """One mapping of /proc/PID/smaps; sizes in KiB."""

    start: int
    shared: bool
    writable: bool
    file: tuple[str, int] | None
    """Device and inode."""
    size: int
    resident: int
    share: int
    """Proportional set size: what several processes map is divided among them."""
    huge: int
    """In huge pages of hugetlbfs, which neither of the two counts."""


class Memory(NamedTuple):
    """Of one process, in KiB."""

    own: int
    """Its proportional share of all that it maps, without the guest's memory."""
    own_resident: int
    """The same with shared pages counted in full."""
    guest: int
    """Its proportional share of the guest's memory."""
    guest_huge: int


class GuestMemory(NamedTuple):
    """Where the guest's memory is mapped."""

    files: frozenset[tuple[str, int]]
    private: frozenset[tuple[int, int]]
    """Process and address."""

    def holds(self, pid: int, mapped: Mapped) -> bool:
        """Whether a mapping of a process is the guest's memory."""
        return mapped.file in self.files if mapped.shared else (pid, mapped.start) in self.private


def is_shim_of(arguments: bytes, container: str) -> bool:
    """Whether /proc/PID/cmdline is of the shim of a container, by its whole id; its command line is containerd's to choose
    (containerd, core/runtime/v2/README.md)."""
    words = arguments.split(b"\0")
    name = words[0].rpartition(b"/")[2]
    return name.startswith(b"containerd-shim") and (b"-id", container.encode()) in pairwise(words)


def identity(stat: str, arguments: bytes = b"", groups: str = "", folder: str = "") -> Identity:
    """A process from its /proc/PID/stat. Raises ValueError for a text that is none.

    The name stands in parentheses and may hold anything, parentheses and blanks included.
    """
    pid, _, rest = stat.partition(" (")
    name, mark, numbers = rest.rpartition(") ")
    fields = numbers.split()
    if not mark or len(fields) < 41:
        raise ValueError("no line of /proc/PID/stat")
    parent, user, system, start, guest = (int(fields[at - 3]) for at in (4, 14, 15, 22, 43))
    return Identity(int(pid), parent, name, start, user + system, guest, arguments, groups, folder)


def members(processes: Iterable[Identity], container: str, own: int) -> list[Identity]:
    """The processes of the sandbox of a container, whatever they are called.

    Those that have its id in their arguments, control group or working folder, what these have started, and the kernel's threads
    that serve them. `own` is this program, which is none of them, like what it has started.
    """
    mark = container[:ID_LENGTH]
    known = {process.pid: process for process in processes}
    children: dict[int, list[int]] = {}
    for process in known.values():
        children.setdefault(process.parent, []).append(process.pid)
    ours = _below([own], children)
    marked = [
        pid
        for pid, process in known.items()
        if mark.encode() in process.arguments or mark in process.groups or mark in process.folder
    ]
    belonging = _below(marked, children)
    serving = {
        pid for pid, process in known.items() if (match := _KERNEL_THREAD.match(process.name)) and int(match[1]) in belonging
    }
    return [known[pid] for pid in sorted((belonging & known.keys()) | serving) if pid not in ours]


def _below(pids: Iterable[int], children: Mapping[int, Sequence[int]]) -> set[int]:
    """Processes with all that they have started, and what that has."""
    reached: set[int] = set()
    waiting = list(pids)
    while waiting:
        if (pid := waiting.pop()) not in reached:
            reached.add(pid)
            waiting += children.get(pid, ())
    return reached


def mappings(smaps: str) -> list[Mapped]:
    """Every mapping of a process from its /proc/PID/smaps."""
    result: list[Mapped] = []
    head: re.Match[str] | None = None
    sizes: dict[str, int] = {}
    for line in [*smaps.splitlines(), "0-0 ---p 0 0:0 0"]:
        if match := _MAPPING.match(line):
            if head is not None:
                result.append(_mapped(head, sizes))
            head, sizes = match, {}
        else:
            key, _, value = line.partition(":")
            number = value.split()[:1]
            if number and number[0].isdigit():
                sizes[key] = int(number[0])
    return result


def _mapped(head: re.Match[str], sizes: Mapping[str, int]) -> Mapped:
    start, _, permissions, device, inode, _ = head.groups()
    return Mapped(
        start=int(start, 16),
        shared=permissions[3] == "s",
        writable=permissions[1] == "w",
        file=(device, int(inode)) if int(inode) else None,
        size=sizes.get("Size", 0),
        resident=sizes.get("Rss", 0),
        share=sizes.get("Pss", 0),
        huge=sizes.get("Shared_Hugetlb", 0) + sizes.get("Private_Hugetlb", 0),
    )


def guest_memory(by_process: Mapping[int, Sequence[Mapped]], guest_kib: int) -> GuestMemory | None:
    """Where a guest of that much memory is mapped; None where nothing that is mapped can be it.

    With virtio-fs it is a file that hypervisor and virtiofsd share, otherwise private memory of the hypervisor; two of either
    where a hypervisor leaves a hole for devices (Cloud Hypervisor and Firecracker, at 3 GiB). Its size is what distinguishes it:
    its name would be a matter of the hypervisor.
    """
    sizes: dict[tuple[str, int], int] = {}
    for mapped_by in by_process.values():
        files: dict[tuple[str, int], int] = {}
        for mapped in mapped_by:
            if mapped.writable and mapped.shared and mapped.file is not None:
                files[mapped.file] = files.get(mapped.file, 0) + mapped.size
        for file, size in files.items():
            sizes[file] = max(size, sizes.get(file, 0))
    shared = [(size, file) for file, size in sizes.items()]
    private = [
        [(mapped.size, (pid, mapped.start)) for mapped in mapped_by if mapped.writable and not mapped.shared]
        for pid, mapped_by in by_process.items()
    ]
    for number in (1, 2):
        if backing := _fitting(shared, guest_kib, number):
            return GuestMemory(backing, frozenset())
    for number in (1, 2):
        for of_process in private:
            if places := _fitting(of_process, guest_kib, number):
                return GuestMemory(frozenset(), places)
    return None


def _fitting(sized: Sequence[tuple[int, Key]], whole: int, number: int) -> frozenset[Key]:
    """That number of entries which together have the whole size, or little more; empty where none do."""
    most = whole * MERGED
    large = [entry for entry in sized if LEAST_KIB <= entry[0] <= most]
    sums = [(sum(size for size, _ in entries), entries) for entries in combinations(large, number)]
    fitting = [entry for entry in sums if whole <= entry[0] <= most]
    return frozenset(key for _, key in min(fitting, key=lambda entry: entry[0])[1]) if fitting else frozenset()


def memory(pid: int, mapped_by: Sequence[Mapped], guest: GuestMemory | None) -> Memory:
    """What a process has in memory, with the guest's set apart."""
    own = [mapped for mapped in mapped_by if guest is None or not guest.holds(pid, mapped)]
    rest = [mapped for mapped in mapped_by if guest is not None and guest.holds(pid, mapped)]
    return Memory(
        own=sum(mapped.share + mapped.huge for mapped in own),
        own_resident=sum(mapped.resident + mapped.huge for mapped in own),
        guest=sum(mapped.share for mapped in rest),
        guest_huge=sum(mapped.huge for mapped in rest),
    )


def page_tables(status: str) -> int:
    """KiB of a process's page tables, from its /proc/PID/status."""
    match = re.search(r"^VmPTE:\s*(\d+) kB$", status, re.MULTILINE)
    return int(match[1]) if match else 0


def group_of(groups: str, container: str) -> str | None:
    """The control group (version 2) of a process if it is the sandbox's alone: its path then bears the sandbox's id."""
    for line in groups.splitlines():
        path = line.removeprefix("0::")
        if path != line and container[:ID_LENGTH] in path:
            return path
    return None


def kernel_memory(memory_stat: str) -> int:
    """KiB that the kernel itself holds for a control group, from its memory.stat, without what it gives back under pressure.

    Before Linux 5.18 the file has no sum.
    """
    values = {key: int(value) for key, _, value in (line.partition(" ") for line in memory_stat.splitlines()) if value.isdigit()}
    parts = ("kernel_stack", "pagetables", "sec_pagetables", "percpu", "sock", "slab")
    whole = values.get("kernel", sum(values.get(part, 0) for part in parts))
    return max(0, whole - values.get("slab_reclaimable", 0)) >> 10
