"""What the Rust runtime refuses."""

from collections.abc import Iterator

from nodekit.rules.kata.kata_start_both import (
    boot_assets,
    empty_volume_mode,
    hypervisor_key,
    nameless_parameters,
    sector_sizes,
    setting_text,
    typed_tables,
    unknown_key,
    unknown_value,
    unset_key,
    unusable_bind_mounts,
    unusable_files,
    wrong_types,
)
from nodekit.rules.kata.kata_start_model import FIRST_UNREAD, Configuration, Machine, Refusal
from nodekit.rules.text import printable

TIMEOUTS = {"dial_timeout_ms": 10, "reconnect_timeout_ms": 3000}
"""What an agent of the Rust runtime waits between two tries and in all, where it is unset (`types/agent.rs`)."""
FIRST_THAT_DENIES = (3, 29, 0)
"""First release whose Rust runtime refuses an unknown key of an agent or a factory (`#[serde(deny_unknown_fields)]`)."""
PLUGINS = {
    "cloud-hypervisor": ((3, 2, 0), (3, 30, 0)),
    "clh": ((3, 30, 0), FIRST_UNREAD),
    "dragonball": ((3, 2, 0), FIRST_UNREAD),
    "firecracker": ((3, 7, 0), FIRST_UNREAD),
    "openvmm": ((4, 1, 0), FIRST_UNREAD),
    "qemu": ((3, 2, 0), FIRST_UNREAD),
    "remote": ((3, 11, 0), FIRST_UNREAD),
}
"""Hypervisor -> the first release whose Rust runtime may know it, and the first that does not (`virt_container/src/lib.rs`,
`init`; `openvmm` only where it was built in)."""


def refusals(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`src/runtime-rs/crates/runtimes/src/manager.rs`, `load_config`: decode, `adjust_config`, `validate`; then the sandbox."""
    yield from wrong_types(configuration)
    yield from _unknown_keys(configuration)
    yield from _other_hypervisors(configuration)
    if configuration.since(3, 20, 0) and not configuration.own.get("disable_block_device_use"):
        yield from unknown_value(
            configuration, hypervisor_key(configuration, "block_device_aio"), ("io_uring", "native", "threads")
        )
    yield from unusable_files(configuration, machine)
    yield from unusable_bind_mounts(configuration, machine)
    yield from _hypervisor(configuration, machine)
    models = ("macvtap", "none", "tcfilter", "l3forwarding")  # the last one from 4.1.0 on
    yield from unknown_value(configuration, ("runtime", "internetworking_model"), models)
    yield from unknown_value(configuration, ("runtime", "vfio_mode"), ("vfio", "guest-kernel"))
    if configuration.since(3, 31, 0):
        yield from empty_volume_mode(configuration)
    yield from _runtime(configuration)
    yield from nameless_parameters(configuration)


def _unknown_keys(configuration: Configuration) -> Iterator[Refusal]:
    """`types/agent.rs`, `Agent` and `MemAgent`; `types/hypervisor/mod.rs`, `Factory` and `RootlessUser`: `unknown field`."""
    if configuration.release is None or configuration.release < FIRST_THAT_DENIES:
        return
    for section, names in typed_tables(configuration):
        if section in ("agent", "mem_agent", "factory", "rootless_user"):
            for key in configuration.table(*names):
                if configuration.kind(section, key) is None:
                    yield unknown_key(configuration, section, (*names, key), "refuses")


def _other_hypervisors(configuration: Configuration) -> Iterator[Refusal]:
    """`types/hypervisor/mod.rs`, `Hypervisor::adjust_config` and `validate`, which go over every table.

    `Can not find plugin for hypervisor`; an unset kernel becomes the bare name `vmlinuz` or `vmlinux` (`types/default.rs`), which
    lies in no container's folder (`BootInfo::adjust_config`); `validate` of `qemu.rs`, `ch.rs`, `dragonball.rs` and
    `firecracker.rs` wants an image, or an initrd for all but the last, which wants a path too. `remote` needs neither, and
    `openvmm` was not read.
    """
    if not configuration.read:
        return
    release = configuration.release
    for name in configuration.table("hypervisor"):
        if name == configuration.hypervisor:
            continue
        table, where = configuration.table("hypervisor", name), configuration.origin("hypervisor", name)
        remedy = f"Remove [hypervisor.{printable(name, 60)}] there"
        first, end = PLUGINS.get(name, (FIRST_UNREAD, FIRST_UNREAD))
        if name not in PLUGINS or (release is not None and not first <= release < end):
            yield Refusal(
                printable(f"{where} sets [hypervisor.{name}], a hypervisor that Kata's Rust runtime does not know", 400),
                remedy,
            )
        elif name not in ("remote", "openvmm"):
            boots, programs = (("image",), ["path"]) if name == "firecracker" else (("image", "initrd"), [])
            secure = table.get("confidential_guest") is True and str(table.get("vm_rootfs_driver", "")).endswith("ccw")
            unset = [key for key in ("kernel", *programs) if not table.get(key)]
            if not secure and not any(table.get(key) for key in boots):
                unset += boots
            if unset:
                yield Refusal(
                    printable(
                        f"{where} sets no {' and no '.join(unset)} in [hypervisor.{name}], and Kata's Rust runtime refuses every "
                        "table of a hypervisor that is not whole",
                        400,
                    ),
                    remedy,
                )


def _hypervisor(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`types/hypervisor/qemu.rs` or `firecracker.rs`, `validate`, and then the parts of `mod.rs`.

    The driver and the type of the image's disk: `src/runtime-rs/crates/hypervisor/src/kernel_param.rs`,
    `new_rootfs_kernel_params`, for Firecracker by way of `firecracker/fc_api.rs`, which knows `block_device_driver` alone and no
    default for `rootfs_type`; `qemu/inner.rs`, `start_vm`, attaches no virtio-blk-mmio.
    """
    own, qemu = configuration.own, configuration.hypervisor == "qemu"
    blocks = ("virtio-blk-pci", "virtio-blk-ccw", "virtio-blk-mmio", "virtio-pmem", "virtio-scsi")
    roots = tuple(driver for driver in blocks if driver != "virtio-scsi")
    if qemu:
        for key in ("jailer_path", "valid_jailer_paths"):
            if own.get(key):
                setting = setting_text(configuration, hypervisor_key(configuration, key), own[key])
                yield Refusal(f"{setting} is set, and QEMU has no jailer", f"Remove {key} there")
    uses_blocks = own.get("disable_block_device_use") is not True
    if uses_blocks:
        permitted = [driver for driver in blocks if driver != "virtio-blk-mmio"] if qemu else roots
        yield from unknown_value(configuration, hypervisor_key(configuration, "block_device_driver"), permitted)
        if configuration.since(3, 29, 0):
            yield from sector_sizes(configuration)
    elif not qemu and configuration.read:
        setting = setting_text(configuration, hypervisor_key(configuration, "disable_block_device_use"), True)
        yield Refusal(f"{setting} leaves Firecracker no driver for the guest's image", "Set disable_block_device_use to false")
    yield from boot_assets(configuration)
    yield from _numbers(configuration, machine)
    if qemu and own.get("enable_guest_swap") is True and configuration.since(3, 15, 0) and configuration.read:
        setting = setting_text(configuration, hypervisor_key(configuration, "enable_guest_swap"), True)
        yield Refusal(f"{setting} is not possible with QEMU", "Set enable_guest_swap to false")
    disk = qemu and configuration.text("image") and not configuration.text("initrd")
    drivers = [driver for driver in roots if driver != "virtio-blk-mmio"] if disk else blocks
    yield from unknown_value(configuration, hypervisor_key(configuration, "vm_rootfs_driver"), drivers)
    ports = [own.get(f"pcie_{kind}_port", 0) for kind in ("root", "switch")]
    if configuration.since(3, 17, 0) and all(isinstance(number, int) and number > 0 for number in ports):
        setting = setting_text(configuration, hypervisor_key(configuration, "pcie_root_port"), ports[0])
        yield Refusal(f"{setting} stands beside pcie_switch_port = {ports[1]}", "Set one of them to 0")
    yield from _shared(configuration)
    if configuration.text("image"):
        if not qemu and not configuration.text("rootfs_type") and configuration.read:
            yield unset_key(configuration, "rootfs_type", 'Name the type of the image\'s file system: rootfs_type = "ext4"')
        yield from unknown_value(configuration, hypervisor_key(configuration, "rootfs_type"), ("ext4", "xfs", "erofs"))


def _numbers(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`validate` of `qemu.rs`, `firecracker.rs`, `MemoryInfo`; `types/default.rs` has the limits.

    `CpuInfo::adjust_config` fills `default_maxvcpus` with the node's processors when it is unset, or larger than they are.
    """
    own, qemu = configuration.own, configuration.hypervisor == "qemu"
    limit, minimum = (256, 64) if qemu else (32, 128)
    maximum = own.get("default_maxvcpus", 0)
    if isinstance(maximum, int) and min(maximum or machine.cpus, machine.cpus) > limit and configuration.read:
        setting = setting_text(configuration, hypervisor_key(configuration, "default_maxvcpus"), maximum)
        yield Refusal(
            f"{setting} lets a guest have the node's {machine.cpus} processors, and {configuration.hypervisor} takes {limit}",
            f"Set default_maxvcpus to {limit} or less",
        )
    memory = own.get("default_memory", 0)
    if isinstance(memory, int) and 0 < memory < minimum:
        setting = setting_text(configuration, hypervisor_key(configuration, "default_memory"), memory)
        yield Refusal(f"{setting} is less than {minimum} MiB", "Raise default_memory there")
    if not qemu and own.get("memory_slots", 0) == 0:
        yield unset_key(configuration, "memory_slots", "Set memory_slots, such as Kata's own 10")


def _shared(configuration: Configuration) -> Iterator[Refusal]:
    """`types/hypervisor/mod.rs`, `SharedFsInfo`: `Invalid shared_fs type`, and the modes of virtio-fs' cache.

    With QEMU, which shares files, `src/runtime-rs/crates/resource/src/share_fs/mod.rs`, `new`, knows no virtio-9p, and
    `qemu/inner.rs`, `start_vm`, gives the guest no device for inline-virtio-fs.
    """
    qemu = configuration.hypervisor == "qemu"
    shared = ["virtio-fs"] if qemu else ["virtio-fs", "inline-virtio-fs"]
    if configuration.perhaps_since(3, 18, 0):
        shared.append("none")
    if configuration.perhaps_since(3, 32, 0):
        shared.append("virtio-fs-nydus")
    if not qemu and not configuration.since(3, 29, 0):
        shared.append("virtio-9p")
    yield from unknown_value(configuration, hypervisor_key(configuration, "shared_fs"), shared)
    if "shared_fs" in configuration.own and configuration.text("shared_fs") not in ("none", "virtio-9p"):
        modes = ("never", "auto", "always", "none")  # the last one is taken for `never`
        yield from unknown_value(configuration, hypervisor_key(configuration, "virtio_fs_cache"), modes)


def _runtime(configuration: Configuration) -> Iterator[Refusal]:
    """`types/agent.rs`, `validate`; `runtimes/virt_container/src/lib.rs`, `new_hypervisor` and `new_agent`.

    `runtimes/src/manager.rs`, `init_runtime_handler`: `Unsupported runtime`; an empty name is virt_container. From 4.1.0 on an
    agent must wait at least as long in all as between two tries, and what is unset has a default (`default_reconnect_timeout`):
    4.1.0 refuses its own file for Firecracker, which sets `dial_timeout_ms = 45000` alone.
    """
    runtime = configuration.table("runtime")
    agents = configuration.table("agent")
    for name in agents:
        agent = configuration.table("agent", name)
        dial, whole = (agent.get(key, default) for key, default in TIMEOUTS.items())
        if dial == 0:
            setting = setting_text(configuration, ("agent", name, "dial_timeout_ms"), 0)
            yield Refusal(f"{setting} is not a time to wait", "Set dial_timeout_ms to 10, Kata's own")
        elif configuration.since(4, 1, 0) and isinstance(dial, int) and isinstance(whole, int) and whole < dial:
            if "reconnect_timeout_ms" in agent:
                setting = setting_text(configuration, ("agent", name, "reconnect_timeout_ms"), whole)
                yield Refusal(f"{setting} is less than dial_timeout_ms, {dial}", "Raise reconnect_timeout_ms")
            else:
                setting = setting_text(configuration, ("agent", name, "dial_timeout_ms"), dial)
                yield Refusal(
                    f"{setting} is more than reconnect_timeout_ms, which is {whole} where it is unset",
                    f"Set reconnect_timeout_ms = {dial} in a drop-in",
                )
    yield from unknown_value(configuration, ("runtime", "name"), ("virt_container",))
    started = runtime.get("hypervisor_name", "")
    if isinstance(started, str) and started != configuration.hypervisor:
        setting = setting_text(configuration, ("runtime", "hypervisor_name"), started)
        yield Refusal(
            f"{setting} names another hypervisor than {configuration.hypervisor}",
            f'Set hypervisor_name to "{configuration.hypervisor}", or choose the hypervisor that is named there',
        )
    agent_name = runtime.get("agent_name", "")
    if isinstance(agent_name, str) and agent_name not in agents:
        setting = setting_text(configuration, ("runtime", "agent_name"), agent_name)
        yield Refusal(
            f"{setting} names no table [agent.*] of the configuration", 'Set agent_name to "kata" and keep [agent.kata]'
        )
