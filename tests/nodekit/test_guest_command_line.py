"""The command line of a proof is the one that Kata makes, with what it takes to see anything behind it."""

import itertools

import pytest

from nodekit.errors import NodeError
from nodekit.rules.kata.kernel_params import KATA_ADDS, tokens
from nodekit.rules.proof.guest_command_line import boot_cpus, compose

AMD64 = (
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1 "
    "noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0"
)
SYSTEMD = "systemd.unit=kata-containers.target systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket"


@pytest.mark.parametrize(
    ("runtime", "hypervisor", "table", "expected"),
    [
        (
            "go",
            "qemu",
            {"initrd": "i", "disable_guest_selinux": True, "block_device_driver": "virtio-scsi", "default_maxvcpus": 0},
            f"{AMD64} console=hvc0 console=hvc1 quiet panic=1 nr_cpus=4 selinux=0 scsi_mod.scan=none USER",
        ),
        (
            "go",
            "qemu",
            {"image": "i", "rootfs_type": "ext4", "block_device_driver": "virtio-blk", "default_maxvcpus": 2},
            f"{AMD64} root=/dev/pmem0p1 rootflags=dax,data=ordered,errors=remount-ro ro rootfstype=ext4 console=hvc0 "
            f"console=hvc1 quiet systemd.show_status=false panic=1 nr_cpus=2 selinux=1 {SYSTEMD} USER",
        ),
        (
            "go",
            "qemu",
            {
                **{"image": "i", "rootfs_type": "erofs", "disable_image_nvdimm": True, "block_device_driver": "virtio-blk"},
                **{"enable_iommu": True, "use_legacy_serial": True, "enable_debug": True, "default_maxvcpus": 999},
            },
            f"{AMD64} intel_iommu=on iommu=pt root=/dev/vda1 rootflags=ro rootfstype=erofs console=ttyS0 debug "
            f"systemd.show_status=false panic=1 nr_cpus=4 selinux=1 {SYSTEMD} USER",
        ),
        (
            "rust",
            "qemu",
            {"image": "i", "rootfs_type": "ext4", "vm_rootfs_driver": "virtio-pmem", "disable_guest_selinux": True},
            f"reboot=k panic=1 {SYSTEMD} root=/dev/pmem0p1 rootflags=dax,data=ordered,errors=remount-ro ro rootfstype=ext4 "
            "USER selinux=0 console=hvc0",
        ),
        (
            "rust",
            "firecracker",
            {"image": "i"},
            f"reboot=k panic=1 {SYSTEMD} pci=off iommu=off root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro "
            "rootfstype=ext4 USER 8250.nr_uarts=1",
        ),
        (
            "go",
            "firecracker",
            {"image": "i"},
            f"{SYSTEMD} USER root=/dev/vda1 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 pci=off reboot=k panic=1 "
            "iommu=off net.ifnames=0 random.trust_cpu=on acpi=off 8250.nr_uarts=0 agent.log_vport=1025 8250.nr_uarts=1",
        ),
    ],
)
def test_the_line_is_katas_own(runtime: str, hypervisor: str, table: dict[str, object], expected: str) -> None:
    line = compose(table, "USER", runtime=runtime, hypervisor=hypervisor, cpus=4, first_process="/x/init")
    assert line == f"{expected} console=ttyS0 rdinit=/x/init"


def test_katas_own_first_process_is_started_when_asked() -> None:
    line = compose({"initrd": "i"}, "", runtime="rust", hypervisor="qemu", cpus=1, first_process=None)
    assert line.endswith("selinux=1 console=hvc0 console=ttyS0") and "rdinit" not in line


def test_quoted_and_repeated_parameters_stay_as_they_are() -> None:
    parameters = 'dm-mod.create="a b" systemd.mask=x systemd.mask=y'
    line = compose({"initrd": "i"}, parameters, runtime="go", hypervisor="qemu", cpus=1, first_process="/x")
    assert f" {parameters} " in line
    assert 'dm-mod.create="a b"' in tokens(line)


def test_a_line_of_2047_bytes_is_made_and_one_of_2048_refused() -> None:
    def line_of(size: int) -> str:
        return compose({"initrd": "i"}, "a" * size, runtime="go", hypervisor="qemu", cpus=1, first_process="/x")

    room = 2047 - len(line_of(0)) - 1
    assert len(line_of(room)) == 2047
    with pytest.raises(NodeError) as caught:
        line_of(room + 1)
    assert caught.value.code == "kernel-parameters-too-long"
    assert "2048 bytes" in caught.value.message and "kata.kernelParams" in caught.value.remedy


def test_the_budget_of_kernel_params_leaves_room_for_kata() -> None:
    """For the longest line that Kata's runtimes make without debug settings, and what a table [agent.kata] adds: a pipe of at
    most 1 MiB (fs.pipe-max-size), bounds of at most 9999 seconds."""
    table = {"image": "image", "rootfs_type": "ext4", "enable_iommu": True, "vm_rootfs_driver": "virtio-pmem"}
    agent = "agent.container_pipe_size=1048576 agent.cdh_api_timeout=9999 agent.launch_process_timeout=9999"
    for runtime, hypervisor in itertools.product(("go", "rust"), ("qemu", "firecracker")):
        line = compose(table, "", runtime=runtime, hypervisor=hypervisor, cpus=240, first_process="/kata-nodes/init")
        assert len(f"{line} {agent} ") <= KATA_ADDS


@pytest.mark.parametrize(
    ("configured", "cpus"), [(1, 1), (0, 1), (1.5, 2), (-1, 4), (99, 4), ("x", 1), (float("inf"), 4), (float("nan"), 4)]
)
def test_processors_of_a_guest(configured: object, cpus: int) -> None:
    assert boot_cpus({"default_vcpus": configured}, 4) == cpus
