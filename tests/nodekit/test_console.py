"""A guest that never came up is explained from what really stands on consoles; a wrong cause sends a person the wrong way."""

import pytest

from nodekit.rules.console import explain, explain_docker, known_fault

FIRMWARE = "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\nBooting from ROM..\x1bc\x1b[?7l\x1b[2J"
"""What QEMU 7.2 leaves on the serial console before a quiet kernel."""
MSR = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\nqemu-system-x86_64: ../../target/i386/kvm/kvm.c:3183: Assert\n"


@pytest.mark.parametrize(
    ("console", "stderr", "timed_out", "cause", "retry"),
    [
        ("", MSR, False, "cannot run a guest with this node's KVM", False),
        ("", "qemu: linux kernel too old to load a ram disk", False, "cannot load the kernel", False),
        ("", "qemu: cannot set up guest memory 'pc.ram': Cannot allocate memory", False, "too little memory", False),
        ("", "something new", False, "QEMU ended: something new", False),
        (
            FIRMWARE + "[    1.6] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n",
            "",
            False,
            "found no first process",
            False,
        ),
        (
            FIRMWARE + "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
            "",
            False,
            "first process ended",
            False,
        ),
        (FIRMWARE + "Kernel panic - not syncing: System is deadlocked on memory", "", True, "ran out of memory", False),
        (FIRMWARE + "Kernel panic - not syncing: timer doesn't work", "", False, "kernel stopped", False),
        (FIRMWARE + "cgroup: Unknown subsys name 'cpuset'\r\n", "", True, "cgroup that its first process mounts", False),
        (FIRMWARE, "", True, "hung: the firmware handed over and the kernel said nothing", True),
        (FIRMWARE, "", False, "reset itself", False),
        ("", "", True, "hung: its console stayed empty", True),
        (FIRMWARE + "[    0.5] Freeing initrd memory: 2024K\r\n", "", True, "Freeing initrd memory", True),
    ],
)
def test_a_boot_is_explained(console: str, stderr: str, timed_out: bool, cause: str, retry: bool) -> None:
    why = explain(console, stderr, "quiet", timed_out=timed_out)
    assert cause in why.cause and why.retry is retry and why.remedy


def test_a_command_line_that_is_too_long_is_named_and_not_tried_again() -> None:
    why = explain(FIRMWARE, "", "a" * 2048, timed_out=True)
    assert "2048 bytes" in why.cause and "kata.kernelParams" in why.remedy and not why.retry
    assert explain(FIRMWARE, "", "a" * 2047, timed_out=True).retry


def test_lost_base_parameters_are_named() -> None:
    why = known_fault("cgroup: Unknown subsys name 'cpuset'")
    assert why is not None and "cgroup_no_v1=all" in why.remedy
    assert known_fault("all is well") is None


@pytest.mark.parametrize(
    ("stderr", "cause"),
    [
        ("failed to create shim task: timed out connecting to vsock 1234:1024", "agent did not answer"),
        ('runtime "io.containerd.kata.v2" binary not installed "containerd-shim-kata-v2"', "shim is not installed"),
        ("failed to add any hypervisor device to devices cgroup", "no /dev/kvm"),
        ("open /dev/vhost-vsock: no such device", "vhost_vsock"),
        ("Cannot find usable config file (file /x does not exist)", "finds no configuration file"),
        ("/opt/c.toml: file /opt/vmlinux does not exist: not found", "a file that Kata's configuration names"),
        ("fork/exec /opt/virtiofsd: no such file or directory", "a program that Kata's configuration names"),
        ('toml: line 3 (last key "x"): expected value', "cannot read its configuration"),
        ("Error response from daemon: unknown or invalid runtime name: kata", "does not know the runtime"),
        ("pull access denied for nosuch", "could not be pulled"),
        ('exec: "sh": executable file not found in $PATH', "no shell"),
        ("something new\nand more", "something new and more"),
        ("", "nothing"),
    ],
)
def test_what_docker_says_is_explained(stderr: str, cause: str) -> None:
    why = explain_docker(stderr)
    assert cause in why.cause and why.remedy and not why.retry


def test_a_consoles_words_are_bounded_and_stripped_of_control_characters() -> None:
    for why in (explain("Kernel panic \x07" + "A" * 9000, "", "", timed_out=False), explain_docker("\x1b[31m" + "A" * 9000)):
        assert len(why.cause) < 500 and all(c.isprintable() for c in why.cause)
