"""What the Go runtime refuses."""

import math
from collections.abc import Iterator

from nodekit.rules.kata import guest_memory, kata_keys
from nodekit.rules.kata.kata_start_both import (
    boot_assets,
    empty_volume_mode,
    hypervisor_key,
    named_programs,
    nameless_parameters,
    needs_virtiofsd,
    sector_sizes,
    setting_text,
    unknown_key,
    unknown_value,
    unset_key,
    unusable_bind_mounts,
    unusable_files,
    wrong_types,
)
from nodekit.rules.kata.kata_start_model import Configuration, Machine, Refusal
from nodekit.rules.text import printable

MOST_CPUS = 240
"""Processors of a guest with the Go runtime on x86_64 (`src/runtime/pkg/govmm/vmm_amd64.go`, `MaxVCPUs`)."""


def refusals(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`config.go`, `LoadConfiguration`: decode, [runtime], each hypervisor, `checkConfig`; then the sandbox and QEMU."""
    yield from wrong_types(configuration)
    yield from _unknown_keys_of_drop_ins(configuration)
    yield from unknown_value(configuration, ("runtime", "internetworking_model"), ("default", "macvtap", "tcfilter", "none"))
    yield from unknown_value(configuration, ("runtime", "vfio_mode"), ("vfio", "guest-kernel"))
    yield from _several_hypervisors(configuration)
    yield from unusable_files(configuration, machine)
    yield from _devices(configuration)
    if configuration.since(3, 28, 0):
        yield from empty_volume_mode(configuration)
    yield from _experimental(configuration)
    yield from unusable_bind_mounts(configuration, machine)
    yield from _network_namespace(configuration)
    yield from _sizes(configuration, machine)
    yield from _factory(configuration)
    yield from _ports(configuration)
    yield from nameless_parameters(configuration)
    yield from boot_assets(configuration)
    yield from _guest(configuration, machine)
    yield from _most(configuration, machine)


def _unknown_keys_of_drop_ins(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `applyKey`, `getValue`: `key … not found`. The main file's unknown keys are passed over in silence."""
    if configuration.release is None:
        return
    for names, file in configuration.origins.items():
        if names[0] not in ("hypervisor", "agent") or len(names) < 3 or file == configuration.file:
            continue
        if configuration.kind(names[0], names[2]) is None:
            yield unknown_key(configuration, names[0], names[:3], "takes from no drop-in")


def _several_hypervisors(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `updateRuntimeConfigHypervisor`: every table must be whole, and the last of a Go map's random order counts."""
    others = [name for name in configuration.table("hypervisor") if name != configuration.hypervisor]
    if not others:
        return
    where = {
        file
        for names, file in configuration.origins.items()
        if names[0] == "hypervisor" and len(names) > 1 and names[1] in others
    }
    yield Refusal(
        printable(
            f"besides [hypervisor.{configuration.hypervisor}] there is [hypervisor.{others[0]}] in "
            f"{', '.join(sorted(where)) or configuration.file}, and Kata's Go runtime takes one of them at random",
            400,
        ),
        f"Remove [hypervisor.{printable(others[0], 60)}] there",
    )


def _devices(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `newQemuHypervisorConfig` and `newFirecrackerHypervisorConfig`, after the files."""
    drivers = ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm", "virtio-blk-ccw")
    yield from unknown_value(configuration, hypervisor_key(configuration, "block_device_driver"), drivers)
    if configuration.hypervisor != "qemu":
        return
    yield from unknown_value(configuration, hypervisor_key(configuration, "block_device_aio"), ("io_uring", "native", "threads"))
    shared = ("virtio-fs", "virtio-9p", "virtio-fs-nydus", "none")
    yield from unknown_value(configuration, hypervisor_key(configuration, "shared_fs"), shared)
    if needs_virtiofsd(configuration) and not configuration.text("virtio_fs_daemon"):
        yield unset_key(
            configuration,
            "virtio_fs_daemon",
            "Name virtiofsd in virtio_fs_daemon",
        )
    if configuration.text("shared_fs") in ("", "virtio-fs"):
        # `src/runtime/virtcontainers/virtiofsd.go`, `valid`
        modes = ("auto", "always", "never", *(["metadata"] if configuration.perhaps_since(3, 20, 0) else []))
        yield from unknown_value(configuration, hypervisor_key(configuration, "virtio_fs_cache"), modes)
    yield from unknown_value(configuration, hypervisor_key(configuration, "extra_monitor_socket"), ("hmp", "qmp", "qmp-pretty"))
    if configuration.since(3, 29, 0):
        yield from sector_sizes(configuration)


def _experimental(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `LoadConfiguration`: `Unsupported experimental feature`; no release of 3.2 to 4.1 registers any."""
    features = configuration.table("runtime").get("experimental")
    if configuration.read and isinstance(features, list) and features:
        setting = setting_text(configuration, ("runtime", "experimental"), features)
        yield Refusal(f"{setting} names a feature that Kata does not know", "Set experimental to []")


def _network_namespace(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkNetNsConfig`; an unset model is tcfilter."""
    runtime = configuration.table("runtime")
    if runtime.get("disable_new_netns") is True and runtime.get("internetworking_model") != "none":
        setting = setting_text(configuration, ("runtime", "disable_new_netns"), True)
        yield Refusal(f'{setting} needs internetworking_model = "none"', "Set disable_new_netns to false")


def _sizes(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`config.go`, `checkHypervisorConfig`: an empty image or initrd, and an initrd as large as the guest's memory."""
    mib = guest_memory.of_guest(configuration.own.get("default_memory"), "go")
    for program in reversed(
        [program for program in named_programs(configuration) if program.boots and program.path.startswith("/")]
    ):
        file = machine.files[program.path]
        setting = setting_text(configuration, hypervisor_key(configuration, program.key), program.path)
        if file.kind != "file":
            continue
        if file.size == 0:
            yield Refusal(f"{setting} is empty", f"Put the file of Kata's release in its place, or correct {program.key}")
        elif program.key == "initrd" and file.size >> 20 >= mib:
            yield Refusal(
                f"{setting} has {file.size >> 20} MiB, and the guest has {mib} MiB of memory", "Raise default_memory there"
            )


def _factory(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkFactoryConfig`; templates need an initrd up to 3.31."""
    factory = configuration.table("factory")
    old = configuration.version is not None and not configuration.since(3, 32, 0)
    if old and factory.get("enable_template") is True and not configuration.text("initrd"):
        setting = setting_text(configuration, ("factory", "enable_template"), True)
        yield Refusal(f"{setting} needs an initrd, and none is named", "Set enable_template to false")
    number = factory.get("vm_cache_number")
    if configuration.hypervisor != "qemu" and isinstance(number, int) and number > 0:
        setting = setting_text(configuration, ("factory", "vm_cache_number"), number)
        yield Refusal(f"{setting} works with QEMU only", "Set vm_cache_number to 0")


def _ports(configuration: Configuration) -> Iterator[Refusal]:
    """`config.go`, `checkPCIeConfig`; only QEMU's machine types q35 and virt have their values checked."""
    if configuration.hypervisor != "qemu" or not configuration.read:
        return
    hot, cold = (configuration.text(f"{plug}_plug_vfio") or "no-port" for plug in ("hot", "cold"))
    if hot != "no-port" and cold != "no-port":
        setting = setting_text(configuration, hypervisor_key(configuration, "hot_plug_vfio"), hot)
        yield Refusal(f'{setting} stands beside cold_plug_vfio = "{printable(cold, 60)}"', 'Set one of them to "no-port"')
        return
    if (configuration.text("machine_type") or "q35") in ("q35", "virt"):
        ports = ("no-port", "bridge-port", "root-port", "switch-port")
        for key in ("hot_plug_vfio", "cold_plug_vfio"):
            yield from unknown_value(configuration, hypervisor_key(configuration, key), ports)


def _guest(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """`qemu_amd64.go`, `newQemuArch`: `unrecognised machinetype`; `hypervisor.go`, `GetKernelRootParams`: the image's type.

    `hypervisor_config_linux.go`, from 3.28.0 on: no virtio-mmio for a confidential guest. `qemu.go`, `CreateVM`:
    `Vhost-user-blk/scsi is enabled without HugePages`.
    """
    mmio = configuration.text("block_device_driver") == "virtio-mmio"
    if mmio and configuration.own.get("confidential_guest") is True and configuration.since(3, 28, 0):
        setting = setting_text(configuration, hypervisor_key(configuration, "block_device_driver"), "virtio-mmio")
        yield Refusal(f"{setting} is not for a confidential guest", 'Set block_device_driver to "virtio-scsi"')
    qemu = configuration.hypervisor == "qemu"
    if qemu and machine.architecture == "x86_64":
        types = ("q35", "microvm") if configuration.since(3, 27, 0) else ("q35", "microvm", "virt")
        yield from unknown_value(configuration, hypervisor_key(configuration, "machine_type"), types)
    if configuration.text("image"):
        yield from unknown_value(configuration, hypervisor_key(configuration, "rootfs_type"), ("ext4", "xfs", "erofs"))
    store, pages = (configuration.own.get(key) is True for key in ("enable_vhost_user_store", "enable_hugepages"))
    if qemu and store and not pages and configuration.read:
        setting = setting_text(configuration, hypervisor_key(configuration, "enable_vhost_user_store"), True)
        yield Refusal(f"{setting} needs enable_hugepages = true", "Set enable_vhost_user_store to false")


def _most(configuration: Configuration, machine: Machine) -> Iterator[Refusal]:
    """A guest of QEMU that starts with more processors or memory than it may have.

    `config.go`, `defaultVCPUs`, `defaultMaxVCPUs`, `defaultMemSz`; `src/runtime/pkg/govmm/qemu/qemu.go`, `appendCPUs`: `MaxCPUs …
    must be equal to or greater than CPUs`. With static resources the maximum follows from the start
    (`src/runtime/pkg/oci/utils.go`, `SandboxConfig`), and a confidential guest has none (`qemu.go`, `memoryTopology`;
    `qemu_arch_base.go`, `cpuTopology`).
    """
    own = configuration.own
    static = configuration.table("runtime").get("static_sandbox_resource_mgmt") is True
    if configuration.hypervisor != "qemu" or not configuration.read or own.get("confidential_guest") is True:
        return
    cpus, most = own.get("default_vcpus", 0), own.get("default_maxvcpus", 0)
    if machine.architecture == "x86_64" and not static and kata_keys.fits(cpus, "real") and kata_keys.fits(most, "u32"):
        processors = min(machine.cpus, MOST_CPUS)
        start = processors if cpus < 0 or cpus > processors else math.ceil(cpus or 1)
        if start > min(most or processors, processors):
            setting = setting_text(configuration, hypervisor_key(configuration, "default_maxvcpus"), most)
            yield Refusal(
                f"{setting} is less than the {start} processors that a guest starts with on this node (default_vcpus)",
                "Raise default_maxvcpus, or lower default_vcpus",
            )
    maximum, offset = own.get("default_maxmemory", 0), own.get("memory_offset", 0)
    if machine.memory_mib and all(kata_keys.fits(number, "u64") for number in (maximum, offset)):
        memory = guest_memory.of_guest(own.get("default_memory"), "go")
        limit = guest_memory.most_of_guest(machine.memory_mib, maximum, offset)
        if limit < memory and machine.architecture in ("x86_64", "aarch64"):
            setting = setting_text(configuration, hypervisor_key(configuration, "default_memory"), memory)
            yield Refusal(
                f"{setting} is more than the {limit} MiB that QEMU lets the guest grow to, on a node of {machine.memory_mib} MiB "
                f"and with default_maxmemory = {maximum}",
                "Lower default_memory, or raise default_maxmemory",
            )
