"""Compose the command line with which Kata boots a guest, so that a proof boots the same."""

import math
from collections.abc import Mapping

from nodekit.errors import NodeError
from nodekit.rules.kata.kernel_params import MAX_COMMAND_LINE

MAX_VCPUS = 240
"""Most virtual processors that Kata's Go runtime gives a guest on amd64 (govmm MaxVCPUs)."""

_AMD64 = (
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1 "
    "noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0"
)
"""kernelParams of Kata's src/runtime/virtcontainers/qemu_amd64.go."""
_SYSTEMD = "systemd.unit=kata-containers.target systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket"
"""systemdKernelParam of Kata's src/runtime/pkg/katautils/create.go; the same in runtime-rs kernel_param.rs."""
_FIRECRACKER = (
    "pci=off reboot=k panic=1 iommu=off net.ifnames=0 random.trust_cpu=on acpi=off 8250.nr_uarts=0 agent.log_vport=1025"
)
"""fcKernelParams of Kata's src/runtime/virtcontainers/fc.go, without debug output."""

Table = Mapping[str, object]
"""The merged table `[hypervisor.<name>]` of Kata's configuration."""


def _root(table: Table, *, nvdimm: bool) -> str:
    """Parameters of a root image: GetKernelRootParams of hypervisor.go, new_rootfs_kernel_params of kernel_param.rs.

    An image with kernel_verity_params gets the plain device here: the proof's own first process mounts no root by them.
    """
    kind = str(table.get("rootfs_type") or "ext4")
    flags = "data=ordered,errors=remount-ro ro" if kind == "ext4" else "ro"
    if nvdimm:
        flags = f"dax,{flags}" if kind == "ext4" else f"dax {flags}"
    return f"root={'/dev/pmem0p1' if nvdimm else '/dev/vda1'} rootflags={flags} rootfstype={kind}"


def around_config(table: Table, *, runtime: str, hypervisor: str, cpus: int) -> tuple[str, str]:
    """What Kata itself puts before and behind the configuration's parameters, in its order.

    `cpus` is how many processors the node has. Parameters that only an [agent] table or debug settings other than
    `enable_debug` add are left out. Sources: kernelParameters of qemu.go, SetKernelParams of config.go, fcInitConfiguration
    of fc.go; for the Rust runtime qemu/cmdline_generator.rs and firecracker/fc_api.rs.
    """
    image = bool(table.get("image"))
    if runtime == "rust":
        firecracker = hypervisor == "firecracker"
        before = ["reboot=k panic=1", _SYSTEMD, *(["pci=off iommu=off"] if firecracker else [])]
        if image:
            before.append(_root(table, nvdimm=not firecracker and table.get("vm_rootfs_driver") == "virtio-pmem"))
        return " ".join(before), "" if firecracker else f"{_selinux(table)} console=hvc0"
    if hypervisor == "firecracker":
        return (_SYSTEMD if image else ""), f"{_root(table, nvdimm=False)} {_FIRECRACKER}"
    parts = [_AMD64]
    if table.get("enable_iommu") is True:
        parts.append("intel_iommu=on iommu=pt")
    if image:
        parts.append(_root(table, nvdimm=table.get("disable_image_nvdimm") is not True))
    parts.append("console=ttyS0" if table.get("use_legacy_serial") is True else "console=hvc0 console=hvc1")
    parts.append("debug" if table.get("enable_debug") is True else "quiet")
    if image:
        parts.append("systemd.show_status=false")
    parts.append(f"panic=1 nr_cpus={_most_cpus(table.get('default_maxvcpus'), cpus)} {_selinux(table)}")
    if image:
        parts.append(_SYSTEMD)
    if table.get("block_device_driver", "virtio-scsi") == "virtio-scsi":
        parts.append("scsi_mod.scan=none")
    return " ".join(parts), ""


def _selinux(table: Table) -> str:
    return f"selinux={0 if table.get('disable_guest_selinux') is True else 1}"


def _most_cpus(configured: object, cpus: int) -> int:
    """defaultMaxVCPUs of config.go: 0, or more than there are, means all that there are."""
    most = min(cpus, MAX_VCPUS)
    return configured if isinstance(configured, int) and 0 < configured <= most else most


def boot_cpus(table: Table, cpus: int) -> int:
    """Processors that a guest starts with: default_vcpus rounded up, 1 when unset or 0, all when negative or too many."""
    configured = table.get("default_vcpus", 1)
    if isinstance(configured, float) and not math.isfinite(configured):  # TOML has inf and nan
        return cpus
    requested = math.ceil(configured) if isinstance(configured, (int, float)) else 1
    return 1 if requested == 0 else requested if 0 < requested <= cpus else cpus


def compose(table: Table, kernel_params: str, *, runtime: str, hypervisor: str, cpus: int, first_process: str | None) -> str:
    """The command line of a proof: Kata's own parameters, then the configuration's, then what it takes to see anything.

    `first_process` is the proof's own, or None to start Kata's. Raises NodeError `kernel-parameters-too-long`.
    """
    ours = ["console=ttyS0"]
    if hypervisor == "firecracker":
        ours.insert(0, "8250.nr_uarts=1")  # Kata turns the serial port off there
    if first_process is not None:
        ours.append(f"rdinit={first_process}")
    before, behind = around_config(table, runtime=runtime, hypervisor=hypervisor, cpus=cpus)
    line = " ".join(part for part in (before, kernel_params.strip(), behind, *ours) if part)
    length = len(line.encode())
    if length > MAX_COMMAND_LINE:
        raise NodeError(
            "kernel-parameters-too-long",
            f"The guest's command line has {length} bytes and an x86 kernel boots with {MAX_COMMAND_LINE} at most: "
            f"{len(before) + len(behind)} are Kata's own, {len(kernel_params.encode())} stand in kernel_params",
        )
    return line
