"""Whether a node has the memory for a guest of Kata, which is known before anything on the node is changed."""

from nodekit.errors import NodeError
from nodekit.rules.kata.kata_layout import release

RELEASE_MIB = 2048
"""`default_memory` in the configuration of every release."""
DEFAULT_MIB = {"go": 2048, "rust": 128}
"""What each runtime takes where `default_memory` is unset or 0, and the Go runtime for less than 256. Sources: Go `config.go`,
`defaultMemSz`; Rust `kata-types/src/config/default.rs`, `DEFAULT_QEMU_MEMORY_SIZE_MB` and Firecracker's."""
LEAST_GO_MIB = 256
IMAGE_MIB = 1024
"""What the Go runtime adds to the most memory of a guest, for its image."""


def of_guest(configured: object, runtime: str) -> int:
    """Memory in MiB of the guest that Kata starts with `configured` as its `default_memory`."""
    minimum = LEAST_GO_MIB if runtime == "go" else 1
    return configured if isinstance(configured, int) and configured >= minimum else DEFAULT_MIB[runtime]


def most_of_guest(total_mib: int, maximum_mib: int, offset_mib: int) -> int:
    """Memory in MiB that the Go runtime lets a guest of QEMU grow to, from `default_maxmemory` and `memory_offset`.

    Kata adds room for an image that is mapped like memory (3.2 to 4.1: `config.go`, `defaultMaxMemSz`; `qemu.go`,
    `genericMemoryTopology`).
    """
    return min(maximum_mib or total_mib, total_mib) + IMAGE_MIB + offset_mib


def refuse_too_little(node: str, total_mib: int, guest_mib: int, offset_mib: int) -> None:
    """Raise NodeError `node-memory-too-small` where QEMU would not start a guest of Kata's Go runtime, however much is free.

    QEMU wants the most that a guest may grow to (`most_of_guest`) to be at least what the guest starts with: "maximum memory size
    must be at least the initial memory size" (kata-containers/runtime issue 1182). The Rust runtime starts a guest of QEMU with
    the node's memory at most, in every release (`qemu/cmdline_generator.rs`, `Memory::new`; from 3.28 on `MemoryInfo` of
    `types/hypervisor/mod.rs`), so nothing is refused there.
    """
    if most_of_guest(total_mib, 0, offset_mib) < guest_mib:
        raise NodeError(
            "node-memory-too-small",
            f"Node {node} has {total_mib} MiB of memory, and a guest of Kata starts with {guest_mib} MiB (default_memory): QEMU "
            "would refuse to start it",
        )


def pod_overhead(kata_version: str, memory: str | None = None, cpu: str | None = None) -> dict[str, str]:
    """Pod overhead: the given one, otherwise that of the QEMU classes, 320Mi/250m from release 4.0.0 and 160Mi/250m before.

    The defaults are kata-deploy's own values. They are low: an idle container in a guest of 2048 MiB measured 352 MiB of
    resident memory on the node (QEMU 302, virtiofsd 10, shim 48), and up to 1.1 GiB was reported. Raises NodeError `bad-input`.
    """
    major, _, _ = release(kata_version)
    return {"memory": memory or ("320Mi" if major >= 4 else "160Mi"), "cpu": cpu or "250m"}


def shortage(available_mib: int, guest_mib: int, kata_version: str) -> str | None:
    """A warning where a guest that uses all its memory would not fit beside what runs now; None where it would.

    It does not refuse: a guest takes its memory only as it uses it, and what runs now may end.
    """
    overhead = int(pod_overhead(kata_version)["memory"].removesuffix("Mi"))
    if available_mib >= guest_mib + overhead:
        return None
    return (
        f"{available_mib} MiB of memory are available now, and a guest may grow to {guest_mib} MiB, with {overhead} more for its "
        "QEMU and shim: a sandbox that uses all of its memory could get programs on this node killed"
    )
