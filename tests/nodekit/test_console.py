"""A guest that never came up is explained from what consoles really show; a wrong cause sends a person the wrong way."""

import time

import pytest

from nodekit.rules.proof.console import agent_silent, explain, explain_docker, known_fault

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
        # A QEMU whose own name has kvm in it.
        ("", "qemu-kvm: could not load kernel '/opt/vmlinux': not an ELF", False, "QEMU cannot load the kernel", False),
        ("", "/usr/bin/kvm: -initrd /x: Could not open '/x': No such file", False, "QEMU cannot open a file", False),
        ("", "qemu-kvm: -accel kvm: failed to initialize kvm: Permission denied", False, "this node's KVM", False),
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


WARNINGS = """qemu-system-x86_64: warning: host doesn't support requested feature: MSR(48FH).vmx-exit-load-perf [bit 12]
qemu-system-x86_64: warning: TSC frequency mismatch between VM (2400000 kHz) and host (2399998 kHz), and TSC scaling unavailable
qemu-system-x86_64: -accel kvm: warning: No such file or directory
"""


def test_what_qemu_only_warns_of_is_no_cause() -> None:
    panic = explain(
        FIRMWARE + "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", WARNINGS, "", timed_out=False
    )
    assert "first process ended" in panic.cause
    assert "hung: the firmware handed over" in explain(FIRMWARE, WARNINGS, "quiet", timed_out=True).cause
    assert "reset itself" in explain(FIRMWARE, WARNINGS, "quiet", timed_out=False).cause
    assert (
        "cannot run a guest with this node's KVM (QEMU: qemu-system-x86_64: error"
        in explain("", WARNINGS + MSR, "", timed_out=False).cause
    )


def test_what_a_first_process_said_before_it_ended_stands_beside_the_panic() -> None:
    panic = "[   13.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
    why = explain(f"{FIRMWARE}[   13.0] stand-in agent: the agent cannot go on: EINTR\r\n{panic}\r\n", "", "", timed_out=False)
    assert f"(console: [ 13.0] stand-in agent: the agent cannot go on: EINTR; {' '.join(panic.split())})" in why.cause
    why = explain(f"{FIRMWARE}{panic}\r\n", "", "", timed_out=False)
    assert why.cause.endswith(f"(console: {' '.join(panic.split())})")


def test_a_command_line_that_is_too_long_is_named_and_not_tried_again() -> None:
    why = explain(FIRMWARE, "", "a" * 2048, timed_out=True)
    assert "2048 bytes" in why.cause and "kata.kernelParams" in why.remedy and not why.retry
    assert explain(FIRMWARE, "", "a" * 2047, timed_out=True).retry


def test_lost_base_parameters_are_named() -> None:
    why = known_fault("cgroup: Unknown subsys name 'cpuset'")
    assert why is not None and "cgroup_no_v1=all" in why.remedy and why.base_parameters
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
        (
            "failed to create shim task: failed to mount /run/kata-containers/shared/containers/3557/rootfs to "
            "/run/kata-containers/3557/rootfs, with error: ENOENT: No such file or directory: unknown.",
            "does not see the container's files",
        ),
        ("failed to create shim task: type with url runtimeoptions.v1.Options: not found: unknown.", "knows no ConfigPath"),
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


def test_runtime_that_docker_does_not_know_comes_with_what_registers_it() -> None:
    """The next `pulumi up` sees no change on the node, and a person's own edit of daemon.json would be one more."""
    assert "kata-nodes cure" in explain_docker("Error response from daemon: unknown or invalid runtime name: kata").remedy


TASK = "docker: Error response from daemon: failed to create task for container: "
SHIM_TASK = f"{TASK}failed to create shim task: "
LINK = "ln -s /opt/kata/bin/containerd-shim-kata-v2 /usr/local/bin/"


@pytest.mark.parametrize(
    ("stderr", "cause", "cure"),
    [
        (
            f"{SHIM_TASK}/c.toml: file /opt/kata/vmlinux does not exist: not found",
            "is missing, /opt/kata/vmlinux",
            "kata.install",
        ),
        (f"{SHIM_TASK}/c.toml: file /opt/kata/initrd does not exist: not found", "is missing, /opt/kata/initrd", "kata.install"),
        (f"{SHIM_TASK}/c.toml: file /opt/kata/qemu does not exist: not found", "is missing, /opt/kata/qemu", "kata.install"),
        (
            f"{SHIM_TASK}fork/exec /opt/kata/libexec/virtiofsd: no such file or directory",
            "a program that Kata's configuration names is missing, /opt/kata/libexec/virtiofsd",
            "kata.install",
        ),
        (f"{SHIM_TASK}fork/exec /opt/kata/bin/jailer: permission denied", "cannot be executed, /opt/kata/bin/jailer", "chmod"),
        (f"{SHIM_TASK}Cannot find usable config file (file /c.toml does not exist)", "no configuration file", "kata.configPath"),
        (
            f'{TASK}failed to resolve runtime path: "io.containerd.kata.v2" binary not installed "containerd-shim-kata-v2"',
            "shim is not installed",
            LINK,
        ),
        (
            f"{TASK}failed to start shim: fork/exec /usr/local/bin/containerd-shim-kata-v2: no such file or directory",
            "shim is not installed, or not linked",
            LINK,
        ),
        (f'{SHIM_TASK}toml: line 3 (last key "hypervisor.qemu"): expected value', "cannot read its configuration", "drop-in"),
        (f'{SHIM_TASK}error decoding file "/c/config.d/50-a": toml: line 1', "50-a", "drop-in"),
        (
            f"{SHIM_TASK}incompatible types: TOML value has type []any; destination has type string",
            "cannot read its configuration",
            "Correct",
        ),
        (f"{SHIM_TASK}failed to add any hypervisor device to devices cgroup", "no /dev/kvm", "kvm_intel"),
        (f"{SHIM_TASK}open /dev/vhost-vsock: no such device", "vhost_vsock is not loaded", "vhost_vsock"),
        (f"{SHIM_TASK}timed out connecting to vsock 123:1024", "agent did not answer in time", "dial_timeout"),
        (f"{SHIM_TASK}Image and initrd path cannot be both set", "both an image and an initrd", "Keep one"),
        (f"{SHIM_TASK}cgroups: cgroup mountpoint does not exist: unknown", "cgroup hierarchy", "cgroup v2"),
        (
            f"{SHIM_TASK}failed to handle message: Virtio-fs daemon path /x/virtiofsd is invalid: No such file or directory",
            "is missing, /x/virtiofsd",
            "kata.install",
        ),
    ],
)
def test_every_fault_of_a_genuine_shim_has_its_cause_and_its_cure(stderr: str, cause: str, cure: str) -> None:
    why = explain_docker(stderr)
    assert cause in why.cause and cure in why.remedy, why


@pytest.mark.parametrize(
    "message",
    [
        "timed out connecting to vsock 7:1024",
        "timed out connecting to hybrid vsocket hvsock:///run/vc/firecracker/x/root/kata.hvsock:1024",
        "timeout waiting for hybrid vsocket handshake",
        "Failed to Check if grpc server is working: rpc error: code = DeadlineExceeded",
        "CheckRequest timed out",
        "CreateSandboxRequest timed out",
        "Dead agent",
        "hybrid vsock: failed to connect to HybridVsock { uds: /run/x }, err connect",
        'connect to address "vsock://3"',
        "context deadline exceeded",
        "read vsock host(2): connection reset by peer",
    ],
)
def test_every_way_in_which_a_runtime_says_that_the_agent_is_silent_leads_to_the_console(message: str) -> None:
    assert agent_silent(f"{SHIM_TASK}{message}: unknown")
    assert "agent did not answer" in explain_docker(f"{SHIM_TASK}{message}: unknown").cause


def test_a_fault_with_a_cause_of_its_own_is_no_silent_agent() -> None:
    assert not agent_silent(f"{SHIM_TASK}open /dev/vhost-vsock: no such device")
    assert not agent_silent('Get "https://registry/v2/": read tcp: connection reset by peer')


PULLED = """\
Unable to find image 'debian:13-slim' locally
13-slim: Pulling from library/debian
Status: Downloaded newer image for debian:13-slim
"""
MSR_FAULT = f"""{PULLED}\
docker: Error response from daemon: failed to create shim task: failed to launch qemu: exit status 1, error messages from qemu \
log: qemu-system-x86_64: error: failed to set MSR 0x48d to 0x5600000016: unknown.
"""


def test_what_follows_a_pull_is_the_cause_and_not_the_pull() -> None:
    assert "this node's KVM" in explain_docker(MSR_FAULT).cause
    other = explain_docker(f"{PULLED}docker: Error response from daemon: something new").cause
    assert "something new" in other and "pull" not in other and "Unable" not in other


@pytest.mark.parametrize(
    "error", ["", "docker: Error response from daemon: Get https://registry-1.docker.io/v2/: net/http: request canceled"]
)
def test_a_pull_that_never_ended_is_the_cause(error: str) -> None:
    assert "could not be pulled" in explain_docker(f"Unable to find image 'x:1' locally\n{error}").cause


def test_a_consoles_words_are_bounded_and_stripped_of_control_characters() -> None:
    for why in (explain("Kernel panic \x07" + "A" * 9000, "", "", timed_out=False), explain_docker("\x1b[31m" + "A" * 9000)):
        assert len(why.cause) < 500 and all(c.isprintable() for c in why.cause)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "word"),
    [("", "Requested init "), ("", "failed to create task "), ("fork/exec ", "containerd-shim-kata-v2"), ("", "\x1b[0")],
)
def test_a_console_without_the_end_of_a_line_is_explained_in_time(begin: str, word: str) -> None:
    text = begin + word * ((1 << 20) // len(word))
    started = time.process_time()
    for read in (known_fault, explain_docker, agent_silent):
        read(text)
    explain(text, "", "", timed_out=True)
    assert time.process_time() - started < 20, "a guest or an image decides for how long a proof reads"


def test_a_fault_in_a_long_line_is_found() -> None:
    fault = "docker: failed to create shim task: timed out connecting to vsock 12:1024"
    assert agent_silent("x" * 200_000 + fault)
    assert "the guest's agent did not answer" in explain_docker("x" * 200_000 + fault + "y" * 200_000).cause
