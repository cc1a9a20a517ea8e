"""Which processes are a sandbox's, which memory is its guest's, and what overhead follows.

Lost if these fail: an overhead that counts a guest's memory twice or not at all, or another sandbox's processes, so that pods are
killed or nodes stay empty.
"""

import pytest

from nodekit.rules.kata import overhead, sandbox_processes
from nodekit.rules.kata.overhead import Load, Sample, SandboxUse, Settings, Use, between, fill_mib, propose
from nodekit.rules.kata.sandbox_processes import GuestMemory, Identity, Mapped, Memory, guest_memory, identity, mappings, members

ID = "0123456789abcdef" * 4
OTHER = "f" * 64
MIB = 1024
"""In KiB."""


def process(
    pid: int, parent: int = 1, name: str = "a program", arguments: str = "", groups: str = "", folder: str = ""
) -> Identity:
    """A process that has used nothing."""
    return Identity(pid, parent, name, pid * 10, 0, 0, arguments.encode(), groups, folder)


NODE = [
    process(1, 0, "systemd"),
    process(50, 1, "dockerd", "dockerd --host"),
    process(60, 50, "nodekit", "python3 nodekit.pyz overhead"),
    process(61, 60, "docker", f"docker logs {ID}"),
    process(100, 1, "containerd-shim", f"/opt/kata/bin/containerd-shim-kata-v2\0-id\0{ID}", folder=f"/run/moby/{ID}"),
    process(101, 100, "virtiofsd", "/libexec/virtiofsd\0--fd=3"),
    process(110, 101, "virtiofsd", "/libexec/virtiofsd\0--fd=3"),
    process(102, 1, "qemu-system-x86", f"/usr/bin/qemu-system-x86_64\0-name\0sandbox-{ID},debug-threads=on"),
    process(103, 2, "vhost-102"),
    process(104, 2, "kvm-pit/102"),
    process(105, 2, "kvm-nx-lpage-re", groups=f"0::/kata_overhead/{ID}\n"),
    process(106, 1, "firecracker", f"firecracker --id {ID[:32]}"),
    process(107, 1, "a shim", "shim start", folder=f"/run/containerd/io.containerd.runtime.v2.task/moby/{ID}"),
    process(200, 1, "containerd-shim", f"containerd-shim-kata-v2 -id {OTHER}", folder=f"/run/moby/{OTHER}"),
    process(201, 200, "qemu-system-x86", f"qemu-system-x86_64 -name sandbox-{OTHER}"),
    process(202, 2, "vhost-201"),
    process(203, 2, "ksoftirqd/102"),
]


def test_a_sandbox_has_its_own_processes_and_threads_of_the_kernel_and_no_others() -> None:
    assert [each.pid for each in members(NODE, ID, 60)] == [100, 101, 102, 103, 104, 105, 106, 107, 110]
    assert members(NODE, "a" * 64, 60) == []


def test_a_sandbox_that_this_program_has_started_by_a_child_of_its_own_is_not_mistaken_for_it() -> None:
    assert 61 in [each.pid for each in members(NODE, ID, 999)], "without knowing itself it would count its own docker"


def test_a_process_is_read_whatever_its_name_holds() -> None:
    numbers = "S 7 1 1 0 -1 0 0 0 0 0 300 200 9 9 20 0 1 0 4711 0 0 " + " ".join(["0"] * 18) + " 180 0 0"
    read = identity(f"42 (od) (d name) {numbers}")
    assert (read.pid, read.name, read.parent, read.start) == (42, "od) (d name", 7, 4711)
    assert (read.cpu_ticks, read.guest_ticks) == (500, 180)
    for text in ("", "42 (x) S 1", "42"):
        with pytest.raises(ValueError, match="no line"):
            identity(text)


def smaps(*entries: str) -> str:
    """As /proc/PID/smaps: `permissions inode size share [huge]` each, in MiB; what is shared is resident twice over."""
    lines = []
    for number, entry in enumerate(entries, start=1):
        permissions, inode, size, share, *huge = entry.split()
        kib = {"Size": int(size) * MIB, "Rss": 2 * int(share) * MIB, "Pss": int(share) * MIB}
        kib["Private_Hugetlb"] = int(huge[0]) * MIB if huge else 0
        path = "" if inode == "0" else " /dev/shm/a file (deleted)"
        lines.append(f"{number:x}000-{number:x}fff {permissions} 00000000 00:1a {inode}                  {path}")
        lines += [f"{key + ':':<20}{value:>8} kB" for key, value in kib.items()]
        lines.append("VmFlags: rd wr sh mr mw me ms sd")
    return "\n".join(lines) + "\n"


def apart(guest_mib: int, *by_process: list[Mapped]) -> list[tuple[float, float]]:
    """Own and guest memory of each process in MiB."""
    numbered = dict(enumerate(by_process, start=1))
    guest = guest_memory(numbered, guest_mib * MIB)
    read = [sandbox_processes.memory(pid, mapped, guest) for pid, mapped in numbered.items()]
    return [(memory.own / MIB, (memory.guest + memory.guest_huge) / MIB) for memory in read]


OWN = ("r-xp 77 20 12", "rw-p 0 64 8", "rw-s 5 1 1")


@pytest.mark.parametrize(
    ("guest_mib", "hypervisor", "expected"),
    [
        (2048, ("rw-s 9 2048 200",), (21, 200)),
        (2048, ("rw-p 0 1024 30", "rw-s 9 2048 200"), (51, 200)),  # the buffer of an emulated guest is the hypervisor's
        (512, ("rw-p 0 1024 30", "rw-p 0 512 90"), (51, 90)),
        (2048, ("rw-p 0 2049 70",), (21, 70)),  # merged with a neighbor
        (4096, ("rw-s 9 3072 200", "rw-s 10 1024 50"), (21, 250)),  # with the hole that Cloud Hypervisor leaves
        (4096, ("rw-p 0 3072 200", "rw-p 0 1024 50"), (21, 250)),
        (2048, ("rw-s 9 2048 0 2048",), (21, 2048)),  # on hugetlbfs, which no share counts
        (2048, ("rw-s 9 1024 40",), (61, 0)),
        (2048, ("rw-p 0 1500 20", "rw-p 0 1500 20"), (61, 0)),
        (2048, ("r--s 9 2048 40",), (61, 0)),  # what cannot be written is no memory of a guest
    ],
    ids=[
        "shared",
        "emulated",
        "emulated-private",
        "merged",
        "hole",
        "private-hole",
        "huge",
        "too-small",
        "too-large",
        "read-only",
    ],
)
def test_the_guests_memory_is_set_apart_by_its_size(
    guest_mib: int, hypervisor: tuple[str, ...], expected: tuple[float, float]
) -> None:
    assert apart(guest_mib, mappings(smaps(*OWN, *hypervisor))) == [expected]


def test_memory_that_hypervisor_and_virtiofsd_share_is_counted_once() -> None:
    qemu, virtiofsd = mappings(smaps(*OWN, "rw-s 9 2048 150")), mappings(smaps("r-xp 3 4 3", "rw-s 9 1024 30", "rw-s 9 1024 20"))
    assert apart(2048, qemu, virtiofsd) == [(21, 150), (3, 50)]


def test_a_guest_in_the_shim_itself_is_set_apart_too() -> None:
    (shim,) = apart(2048, mappings(smaps(*OWN, "rw-s 12 2048 99")))
    assert shim == (21, 99)


def test_two_arenas_of_a_shim_are_no_guest() -> None:
    shim, hypervisor = mappings(smaps("rw-p 0 64 9", "rw-p 0 64 9")), mappings(smaps("rw-p 0 128 50"))
    assert apart(128, shim, hypervisor) == [(18, 0), (0, 50)]


def test_what_has_no_mapping_that_large_has_no_known_guest() -> None:
    assert guest_memory({1: mappings(smaps(*OWN))}, 2048 * MIB) is None
    assert guest_memory({1: []}, 2048 * MIB) is None
    assert isinstance(guest_memory({1: mappings(smaps("rw-s 9 2048 1"))}, 2048 * MIB), GuestMemory)


@pytest.mark.parametrize(
    ("groups", "path"),
    [
        (f"0::/kata_overhead/{ID}\n", f"/kata_overhead/{ID}"),
        (f"1:name=systemd:/x\n0::/system.slice/docker-{ID}.scope\n", f"/system.slice/docker-{ID}.scope"),
        ("0::/system.slice/docker.service\n", None),  # the sandbox shares it with dockerd
        (f"4:memory:/kata_overhead/{ID}\n", None),
        ("", None),
    ],
)
def test_only_a_group_that_is_the_sandboxs_alone_speaks_for_it(groups: str, path: str | None) -> None:
    assert sandbox_processes.group_of(groups, ID) == path


def test_what_the_kernel_gives_back_is_not_its_memory_for_a_sandbox() -> None:
    new = f"anon 5\nkernel {30 << 20}\nslab {12 << 20}\nslab_reclaimable {10 << 20}\n"
    old = f"kernel_stack {1 << 20}\npagetables {8 << 20}\nslab {12 << 20}\nslab_reclaimable {10 << 20}\n"
    assert [sandbox_processes.kernel_memory(text) // MIB for text in (new, old, "", "odd")] == [20, 11, 0, 0]
    assert sandbox_processes.page_tables("Name:\tx\nVmPTE:\t    4104 kB\n") == 4104


def use(
    pid: int, name: str, own: int, guest: int = 0, ticks: int = 0, guest_ticks: int = 0, start: int = 1, huge: int = 0
) -> Use:
    """A process at one moment; memory in MiB."""
    return Use(pid, start, name, Memory(own * MIB, own * 2 * MIB, guest * MIB, huge * MIB), 4 * MIB, ticks, guest_ticks)


def test_time_is_that_of_the_interval_and_the_guests_is_set_apart() -> None:
    first = Sample(100.0, (use(1, "qemu", 40, 100, 500, 300), use(2, "virtiofsd", 9, 20, 50), use(3, "gone", 1)), True, {})
    last = Sample(
        110.0, (use(1, "qemu", 41, 110, 1500, 1200), use(2, "virtiofsd", 10, 30, 80, start=2), use(4, "new", 1, 0, 20)), True,
        {"/kata_overhead/x": 30 * MIB},
    )  # fmt: skip
    measured = between(first, last, 100)
    assert [(each.name, each.cpu_milli, each.guest_milli) for each in measured.processes] == [
        ("qemu", pytest.approx(100), pytest.approx(900)),
        ("virtiofsd", pytest.approx(80), 0),  # another process under the pid of one that ended
        ("new", pytest.approx(20), 0),
    ]
    assert (measured.memory_kib, measured.guest_kib, measured.kernel_kib) == (52 * MIB, 140 * MIB, 30 * MIB)
    assert between(first, last._replace(groups={}), 100).kernel_kib == 12 * MIB, "page tables"
    assert between(first, last._replace(guest_known=False), 100).guest_kib is None


def test_huge_pages_of_a_guest_are_counted_once() -> None:
    uses = (use(1, "qemu", 40, 0, huge=2048), use(2, "virtiofsd", 10, 0, huge=2048))
    assert between(Sample(0, uses, True, {}), Sample(1, uses, True, {}), 100).guest_kib == 2048 * MIB


def sandbox(host: int, guest: int | None, cpu: float, guest_cpu: float = 0, kernel: int = 10) -> SandboxUse:
    """A sandbox over an interval, with two processes; memory in MiB."""
    processes = (
        overhead.ProcessUse("qemu-system-x86", (host - 10) * MIB, host * MIB, cpu, guest_cpu),
        overhead.ProcessUse("virtiofsd", 10 * MIB, 12 * MIB, 0, 0),
    )
    return SandboxUse(10.0, processes, None if guest is None else guest * MIB, kernel * MIB, ())


IDLE, BUSY = sandbox(80, 200, 20, 10), sandbox(96, 1300, 130, 900, 14)
DEFAULT, LOAD = Settings(2048, whole_in_pod=False), Load(1024, 1, 15.4)


def reasons(text: str, known: Settings = DEFAULT) -> str:
    """The one reason that holds a text."""
    (reason,) = [reason for reason in propose(IDLE, BUSY, known, LOAD).reasons if text in reason]
    return reason


def test_the_proposal_covers_node_and_guest_with_a_margin() -> None:
    proposal = propose(IDLE, BUSY, DEFAULT, LOAD)
    assert (proposal.memory, proposal.cpu) == ("350Mi", "150m"), "(96 + 14 + 200) x 1.1 = 341, 130 x 1.1 = 143"
    assert proposal.comparable and proposal.memory_at_most is None
    assert "96 MiB in the busy sandbox (qemu-system-x86 86, virtiofsd 10), 80 MiB in the other" in reasons("of processes")
    assert "200 MiB, which an idle guest has touched of its 2048 MiB" in reasons("beyond its containers")
    assert "1024 MiB filled, the guest has touched 1300 MiB" in reasons("Not counted")
    assert "14 MiB (page tables)" in reasons("node's kernel")
    assert "10 %" in reasons("Margin")
    assert "idle sandbox takes 30m, its guest included; a busy one 130m" in reasons("Processors")


def test_the_idle_sandbox_counts_where_it_takes_more() -> None:
    proposal = propose(sandbox(120, 200, 300, 0, 20), BUSY, DEFAULT, LOAD)
    assert (proposal.memory, proposal.cpu) == ("380Mi", "330m")


def test_sums_that_are_whole_steps_stay_and_nothing_is_free() -> None:
    assert propose(sandbox(80, 110, 100, 0), sandbox(80, 110, 0, 1), DEFAULT, LOAD).memory == "220Mi"
    assert propose(sandbox(80, 110, 0), sandbox(80, 110, 0, 1), DEFAULT, LOAD).cpu == "10m"


def test_a_whole_sandbox_in_the_pods_group_has_a_bound_that_kills_nothing() -> None:
    known = DEFAULT._replace(whole_in_pod=True)
    proposal = propose(IDLE, BUSY, known, LOAD)
    assert (proposal.memory, proposal.memory_at_most) == ("350Mi", "2380Mi")
    assert "with 2380Mi none is killed" in reasons("sandbox_cgroup_only is true", known=known)
    assert "without a limit" in reasons("sandbox_cgroup_only is false")


def test_what_the_rust_runtime_gives_a_guest_beyond_limits_is_covered() -> None:
    known = DEFAULT._replace(guest_budget_mib=256, whole_in_pod=True)
    proposal = propose(IDLE, BUSY, known, LOAD)
    assert (proposal.memory, proposal.memory_at_most) == ("410Mi", "410Mi")
    assert "256 MiB beyond its containers' limits (overhead_memory), which counts" in reasons("overhead_memory", known=known)
    small = known._replace(guest_budget_mib=64)
    assert propose(IDLE, BUSY, small, LOAD).memory == "350Mi" and "raise overhead_memory" in reasons("64 MiB beyond", known=small)


def test_a_guest_without_kvm_proposes_nothing_to_set_and_says_so() -> None:
    emulated = BUSY._replace(processes=tuple(each._replace(guest_milli=0) for each in BUSY.processes))
    proposal = propose(IDLE, emulated, DEFAULT, LOAD)
    assert not proposal.comparable and proposal.cpu == "40m", "the hypervisor's time is the guest's, and is no overhead"
    assert "Set nothing by this" in proposal.reasons[-2]


def test_a_guest_whose_memory_is_not_known_is_counted_idle() -> None:
    proposal = propose(sandbox(280, None, 20), sandbox(1396, None, 130, 900), DEFAULT._replace(whole_in_pod=True), LOAD)
    assert (proposal.memory, proposal.memory_at_most) == ("320Mi", None)
    assert "could not be distinguished" in proposal.reasons[0] and "touched of its" not in " ".join(proposal.reasons)


@pytest.mark.parametrize(
    ("runtime", "document", "table", "expected"),
    [
        ("go", {}, {}, (False, None)),
        ("go", {"runtime": {"sandbox_cgroup_only": True}}, {"overhead_memory": 128}, (True, None)),
        ("rust", {"runtime": {"static_sandbox_resource_mgmt": True}}, {"overhead_memory": 128}, (False, 128)),
        ("rust", {"runtime": {"static_sandbox_resource_mgmt": False}}, {"overhead_memory": 128}, (False, None)),
        ("rust", {"runtime": {"static_sandbox_resource_mgmt": True}}, {"overhead_memory": "128"}, (False, None)),
        ("rust", {"runtime": "odd"}, {}, (False, None)),
    ],
)
def test_katas_settings_decide(
    runtime: str, document: dict[str, object], table: dict[str, object], expected: tuple[bool, int | None]
) -> None:
    known = overhead.settings(document, table, runtime, 2048)
    assert (known.whole_in_pod, known.guest_budget_mib) == expected


@pytest.mark.parametrize(
    ("guest", "available", "expected"), [(2048, 64000, 1024), (2048, 1256, 500), (2048, 100, 0), (512, 8000, 256)]
)
def test_a_load_leaves_the_node_its_memory(guest: int, available: int, expected: int) -> None:
    assert fill_mib(guest, available, 256) == expected
