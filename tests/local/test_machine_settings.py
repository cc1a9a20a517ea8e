"""What is asked for reaches QEMU exactly, and bad settings are refused by name."""

import io
import tarfile
from typing import Any

import pytest

from local import limits, machine
from nodekit.errors import NodeError

SETTINGS: dict[str, Any] = {
    "name": "node-1",
    "directory": "/var/lib/one",
    "disk": "/cache/disk.raw",
    "kernel": "/cache/kernel",
    "initrd": "/cache/initrd.img",
    "memoryMiB": 4096.0,
    "cores": 2,
}


def test_whole_numbers_may_arrive_as_floats() -> None:
    assert machine.parse(SETTINGS).memoryMiB == 4096
    assert isinstance(machine.parse(SETTINGS).memoryMiB, int)


def test_sizes_and_user_have_defaults() -> None:
    parsed = machine.parse({key: value for key, value in SETTINGS.items() if key not in ("memoryMiB", "cores")})
    assert (parsed.memoryMiB, parsed.cores, parsed.sshUser) == (4096, limits.CORES.default, "node")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ""),
        ("name", "Node 1"),
        ("name", "a,b"),
        ("name", "x" * 40),
        ("name", None),
        ("sshUser", "../root"),
        ("directory", "relative"),
        ("disk", "/a\nb"),
        ("kernel", 1),
        ("memoryMiB", limits.MEMORY_MIB.minimum - 1),
        ("memoryMiB", limits.MEMORY_MIB.maximum + 1),
        ("memoryMiB", "4096"),
        ("memoryMiB", 4096.5),
        ("memoryMiB", float("nan")),
        ("cores", True),
        ("cores", 0),
        ("colour", "red"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(NodeError, match=key) as caught:
        machine.parse({**SETTINGS, key: value})
    assert caught.value.code == "bad-input"
    assert caught.value.remedy.startswith("Use ")


def test_qemu_gets_exactly_these_arguments() -> None:
    assert machine.qemu_command(machine.parse(SETTINGS), 2222, "tcg") == [
        "qemu-system-x86_64",
        *("-name", "node-1", "-machine", "q35", "-nodefaults", "-no-user-config"),
        *("-accel", "tcg", "-cpu", "max,la57=off,erms=off,fsrm=off,smap=off,+svm", "-smp", "1", "-m", "4096"),
        *("-display", "none", "-monitor", "none", "-serial", "file:/var/lib/one/console.log"),
        *("-kernel", "/cache/kernel", "-initrd", "/cache/initrd.img"),
        "-append",
        "root=/dev/vda rw console=ttyS0 quiet panic=10 systemd.default_device_timeout_sec=900 systemd.hostname=node-1 "
        "nohz=off highres=off",
        *("-drive", "if=none,id=disk,format=qcow2,discard=unmap,file=/var/lib/one/disk.qcow2"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-drive", "if=none,id=seed,format=raw,readonly=on,file=/var/lib/one/seed.tar"),
        *("-device", "virtio-blk-pci,drive=seed"),
        *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22", "-device", "virtio-net-pci,netdev=net"),
        *("-device", "virtio-rng-pci"),
    ]


def test_kvm_hands_the_real_processor_through() -> None:
    command = machine.qemu_command(machine.parse(SETTINGS), 2222, "kvm")
    assert [command[command.index(option) + 1] for option in ("-accel", "-cpu", "-smp")] == ["kvm", "host", "2"]
    assert "nohz" not in command[command.index("-append") + 1]


def test_a_comma_in_a_path_adds_no_option() -> None:
    command = machine.qemu_command(machine.parse({**SETTINGS, "directory": "/a,readonly=on"}), 2222, "tcg")
    assert "if=none,id=disk,format=qcow2,discard=unmap,file=/a,,readonly=on/disk.qcow2" in command
    assert "file:/a,readonly=on/console.log" in command  # taken as it is (QEMU, chardev/char.c)


def test_the_ssh_port_is_open_to_this_machine_only() -> None:
    command = machine.qemu_command(machine.parse(SETTINGS), 2222, "tcg")
    assert [part for part in command if "hostfwd" in part] == ["user,id=net,hostfwd=tcp:127.0.0.1:2222-:22"]


def test_the_seed_holds_the_keys_with_the_owners_that_sshd_requires() -> None:
    packed = machine.seed(machine.parse(SETTINGS), b"private", b"public", b"login")
    assert len(packed) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        seen = {entry.name: (entry.uid, entry.gid, entry.mode) for entry in tar}
        login = tar.extractfile("home/node/.ssh/authorized_keys")
        assert login is not None and login.read() == b"login"
    assert seen == {
        "etc/hosts": (0, 0, 0o644),
        "etc/ssh/ssh_host_ed25519_key": (0, 0, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (0, 0, 0o644),
        "home/node/.ssh/authorized_keys": (1000, 1000, 0o600),
    }


def test_every_machine_has_keys_of_its_own() -> None:
    first, second = machine.new_key(), machine.new_key()
    assert first[0] != second[0]
    assert first[1].startswith(b"ssh-ed25519 AAAA")
    assert first[0].startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
