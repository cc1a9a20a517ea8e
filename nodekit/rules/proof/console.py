"""Explain a guest that never reached the ladder, from its console and from what QEMU or Docker said."""

import re
from typing import NamedTuple

from nodekit.errors import remedy_for
from nodekit.rules.kata.kernel_params import MAX_COMMAND_LINE
from nodekit.rules.text import printable

SHOWN = 300
"""Characters of other people's words that stand in a sentence."""
MAX_READ = 1 << 20
"""Characters of a console that are looked at."""


class Explanation(NamedTuple):
    """Why a guest did not come up, what to do, and whether the same boot can succeed when it is tried again."""

    cause: str
    remedy: str
    retry: bool = False
    base_parameters: bool = False
    """Whether parameters are lacking that Kata's own configuration has."""
    panic: bool = False
    """Whether the guest's kernel stopped without a cause that is known."""


def _line(text: str, pattern: str) -> str:
    """The line in which `pattern` is found, safe to show; empty without one."""
    match = re.search(rf"^.*(?:{pattern}).*$", text, flags=re.MULTILINE)
    return printable(" ".join(match[0].split()), SHOWN) if match else ""


def _behind_firmware(console: str) -> str:
    """What follows the firmware's last line, behind which a quiet kernel says nothing either."""
    _, firmware, behind = console.partition("Booting from ROM")
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|c)", "", behind if firmware else console).strip(" .\r\n")


def _with_words_before(console: str, pattern: str) -> str:
    """The line in which `pattern` is found, behind the last one before it: a first process that ends says there why."""
    behind = _behind_firmware(console)
    line, match = _line(behind, pattern), re.search(pattern, behind)
    words = behind[: match.start()].rpartition("\n")[0].strip() if match else ""
    return f"{printable(' '.join(words.splitlines()[-1].split()), SHOWN // 2)}; {line}" if words else line


BASE_PARAMETERS = remedy_for("proof-base-parameters-lost")
QEMU: tuple[tuple[str, str, str], ...] = (
    (
        r"kvm|KVM|MSR",
        "QEMU cannot run a guest with this node's KVM",
        "Use bare metal, or a machine type whose nested virtualization works; an existing /dev/kvm alone shows nothing",
    ),
    (
        r"[Cc]annot allocate memory|cannot set up guest memory",
        "The node has too little memory for the guest",
        "Free memory on the node",
    ),
    (
        r"kernel too old|could not load kernel|invalid kernel",
        "QEMU cannot load the kernel",
        "Name a bzImage or vmlinux as Kata's kernel",
    ),
    (r"[Cc]ould not open|No such file", "QEMU cannot open a file", "Check that the files that Kata's configuration names exist"),
)
"""What QEMU says -> cause and remedy, the first that fits."""
OWN_NAME = r"^(?:\S{0,4096}/)?(?:qemu-[\w.-]{1,100}|kvm): "
"""How QEMU begins its lines: its own name, which says nothing, as `qemu-kvm` where its kernel cannot be loaded."""
FIRST_PROCESS = r"Attempted to kill init|No working init found|Requested init .{0,300} failed"
"""What a kernel says that has no first process."""
PANIC = r"Kernel panic"
CONSOLE: tuple[tuple[str, str, str], ...] = (
    (r"cgroup: Unknown subsys name", "The guest's kernel lacks a cgroup that its first process mounts", BASE_PARAMETERS),
    (
        r"Out of memory|System is deadlocked on memory|Initramfs unpacking failed: write error",
        "The guest ran out of memory",
        "Raise default_memory in Kata's configuration, or free memory on the node",
    ),
    (
        r"Unable to mount root fs|Cannot open root device",
        "The guest's kernel found no first process: it cannot read the RAM disk, or finds no root",
        "Use an initrd or image that belongs to this kernel, and keep root= and rdinit= out of kata.kernelParams",
    ),
    (
        FIRST_PROCESS,
        "The guest's first process ended or could not be started",
        "Use an initrd or image that belongs to this kernel, and keep init= and rdinit= out of kata.kernelParams",
    ),
    (PANIC, "The guest's kernel stopped", "Use another guest kernel, or other kata.kernelParams"),
)
"""What stands on a console -> cause and remedy, the first that fits. No pattern looks through a whole line of any length from
each place in it: a console without ends of lines would take minutes."""


def known_fault(console: str) -> Explanation | None:
    """The first fault that a console names, or None."""
    for pattern, cause, remedy in CONSOLE:
        line = (_with_words_before if pattern == FIRST_PROCESS else _line)(console[:MAX_READ], pattern)
        if line:
            return Explanation(
                f"{cause} (console: {line})", remedy, base_parameters=remedy == BASE_PARAMETERS, panic=pattern == PANIC
            )
    return None


def explain(console: str, qemu_stderr: str, command_line: str, *, timed_out: bool) -> Explanation:
    """Why this boot did not reach its end. `timed_out`: QEMU still ran when its time was over."""
    # QEMU goes on after a warning, such as one of a feature that the processor lacks.
    lines = [line for line in qemu_stderr[:MAX_READ].splitlines() if ": warning: " not in line]
    words = [re.sub(OWN_NAME, "", line) for line in lines]
    for pattern, cause, remedy in QEMU:
        line = next((line for line, without in zip(lines, words, strict=True) if re.search(pattern, without)), None)
        if line is not None:
            return Explanation(f"{cause} (QEMU: {printable(' '.join(line.split()), SHOWN)})", remedy)
    fault = known_fault(console)
    if fault is not None:
        return fault
    length = len(command_line.encode(errors="surrogatepass"))
    if length > MAX_COMMAND_LINE:
        return Explanation(
            f"The command line has {length} bytes; with more than {MAX_COMMAND_LINE} an x86 kernel hangs before its first word",
            "Shorten kata.kernelParams",
        )
    behind, firmware = _behind_firmware(console), "Booting from ROM" in console
    if behind:
        last = printable(" ".join(behind.splitlines()[-1].split()), SHOWN)
        state = f"its last line on the console: {last}"
    else:
        state = "the firmware handed over and the kernel said nothing" if firmware else "its console stayed empty"
    if timed_out:
        return Explanation(
            f"The guest hung: {state}",
            "Run again; if it happens again, use a node with working hardware virtualization, or give it more time",
            retry=True,
        )
    if errors := " ".join(" ".join(lines).split()):
        return Explanation(f"QEMU ended: {printable(errors, SHOWN)}", "Run this QEMU by hand on the node to see why")
    return Explanation(
        f"The guest reset itself or ended early; {state}",
        "Raise default_memory in Kata's configuration, or use another guest kernel",
    )


_SILENT = (
    r"timed out connecting to (?:mock )?(?:hybrid )?vsock|timeout waiting for hybrid vsocket handshake"
    r"|Failed to Check if grpc server is working|(?:Check|CreateSandbox)Request timed out|Dead agent"
    r"|(?:hybrid )?vsock: (?:failed to connect|connect timeout)|connect to address \\?\"?h?vsock"
    r"|failed to connect to (?:vsock )?cid"
    r"|failed to create (?:shim )?task.{0,4000}(?:context deadline exceeded|connection reset by peer)"
)
"""All that Kata's runtimes say of a guest whose agent never answered, whatever the reason: Go, `kata_agent.go` and the agent's
`client.go`; Rust, `src/runtime-rs/crates/agent/src/sock` and `virt_container/src/sandbox.rs`."""


def agent_silent(stderr: str) -> bool:
    """Whether the runtime reports only that the guest's agent did not answer; the guest's console may show why."""
    return re.search(_SILENT, stderr[:MAX_READ]) is not None


_UNPULLED = Explanation(
    "the image could not be pulled", "Set verification.image to an image that the node can pull, or load it on the node"
)
_PUT_BACK = (
    "Put it back: where kata.install is set, the next run does so; otherwise install that Kata again as it was installed, or "
    "correct its configuration"
)
_SHIM = "/opt/kata/bin/containerd-shim-kata-v2"
_NO_MEMORY = r"cannot set up guest memory|[Cc]annot allocate memory"
KATA: tuple[tuple[str, str, str], ...] = (
    (
        r"binary not installed|fork/exec \S{0,4096}containerd-shim-kata\S{0,100}: no such file",
        "the Kata shim is not installed, or not linked where containerd looks for it",
        f"Link the shim (ln -s {_SHIM} /usr/local/bin/), or set kata.install, which installs and links it",
    ),
    (
        r"type with url runtimeoptions\.v1\.Options: not found",
        "what Docker starts as Kata's shim is none: it knows no ConfigPath",
        _PUT_BACK,
    ),
    (
        r"failed to mount /run/kata-containers/shared/",
        "the guest does not see the container's files, as without a file system that it shares with the node",
        'Have shared_fs = "virtio-fs" in Kata\'s configuration, or a snapshotter of block devices where there is none',
    ),
    (
        _SILENT,
        "the guest's agent did not answer in time",
        "Look at kata.kernelParams and at the guest's kernel and image; on a slow node raise dial_timeout",
    ),
    (
        r"cannot be both set|Can not configure both initrd and image|having both an image and an initrd",
        "Kata's configuration names both an image and an initrd",
        'Keep one of image and initrd in it, and set the other to ""',
    ),
    (
        r"add any hypervisor device to devices cgroup",
        "the node has no /dev/kvm",
        "Use a node with hardware virtualization and load kvm_intel or kvm_amd",
    ),
    (r"/dev/vhost-vsock", "vhost_vsock is not loaded", "Load the kernel module vhost_vsock on the node"),
    (r"Cannot find usable config file", "Kata finds no configuration file", "Set kata.configPath to a file that exists"),
    (
        r"cgroup mountpoint does not exist",
        "this Kata needs a cgroup hierarchy that the node does not have mounted",
        "Use a newer Kata, which knows cgroup v2, or boot the node with systemd.unified_cgroup_hierarchy=0",
    ),
    (
        r"failed to set MSR|[Cc]ould not access KVM|ioctl\(KVM_|failed to initialize kvm",
        "QEMU cannot run a guest with this node's KVM",
        "Use bare metal, or a machine type whose nested virtualization works; an existing /dev/kvm alone shows nothing",
    ),
    (
        _NO_MEMORY,
        "the node has too little memory for the guest",
        "Free memory on the node, or lower default_memory in Kata's configuration",
    ),
    (
        r"file (?P<path>\S+) does not exist|(?:file|path) `?(?P<other>/[^\s`]+)`? is invalid: No such file",
        "a file that Kata's configuration names is missing, {path}",
        _PUT_BACK,
    ),
    (
        r"fork/exec (?P<path>\S+): no such file",
        "a program that Kata's configuration names is missing, {path}",
        _PUT_BACK,
    ),
    (
        r"fork/exec (?P<path>\S+): permission denied",
        "a program that Kata's configuration names cannot be executed, {path}",
        "Make it executable (chmod 0755)",
    ),
    (
        r"toml: line|incompatible types|error decoding file|error applying key",
        "Kata cannot read its configuration",
        "Correct the file, or drop-in, that is named",
    ),
)
"""What Kata's runtimes say -> cause and remedy, the first that fits; most as measured with genuine Kata."""
DOCKER: tuple[tuple[str, str, str], ...] = (
    (
        r"permission denied while trying to connect to the [Dd]ocker|Cannot connect to the Docker daemon"
        r"|failed to connect to the docker API",
        "dockerd does not answer",
        "See 'systemctl status docker' on the node",
    ),
    (
        r"no space left on device",
        "the node's disk is full",
        "Free space where Docker keeps its images (docker system df)",
    ),
    (
        r"toomanyrequests|429 Too Many Requests",
        "the registry's rate limit for this node is reached",
        "Log in to the registry on the node, use a mirror, or set verification.image to an image of another registry",
    ),
    (
        r"no matching manifest for",
        "the image does not exist for this node's architecture",
        "Set verification.image to an image for the node's architecture",
    ),
    (
        r"unknown or invalid runtime name|Unknown runtime specified",
        "Docker does not know the runtime",
        "Register the runtime: kata-nodes cure, since an up alone does not look at the node again",
    ),
    (
        r"pull access denied|manifest unknown|failed to resolve reference|no such host",
        _UNPULLED.cause,
        _UNPULLED.remedy,
    ),
    (
        r'exec: "?/bin/sh"?|"/bin/sh": (stat|executable)|exec: "?sh"?|exec sh failed|"sh": executable file not found',
        "the image has no shell",
        "Set verification.image to an image with a shell, unshare and ip",
    ),
)
"""What Docker itself says -> cause and remedy, the first that fits."""


LOG_MESSAGE = re.compile(r'\bmsg="((?:[^"\\]|\\.){0,4000})"')
"""What a line of the Go shim's log says (logrus, TextFormatter); the Rust shim's lines are the message alone."""
LOG_WORDS = 2
"""How many of the last errors in Kata's log are shown."""


def errors_logged(log: str) -> str:
    """The last errors of Kata's own log in one line; empty without any."""
    lines = [line for line in log[-MAX_READ:].splitlines() if line.strip()]
    words = [match[1] if (match := LOG_MESSAGE.search(line)) else line for line in lines]
    return "; ".join(printable(" ".join(each.split()), SHOWN) for each in [*dict.fromkeys(words)][-LOG_WORDS:])


def explain_kata(text: str) -> Explanation | None:
    """What keeps Kata from starting a guest, or None where the words are not Kata's. `retry`: it can pass by itself."""
    for pattern, cause, remedy in KATA:
        if _line(text, pattern):
            return Explanation(_filled(cause, pattern, text), remedy, retry=pattern in (_SILENT, _NO_MEMORY))
    return None


_PULLED = r"^Digest: sha256:|^Status: (?:Downloaded newer image|Image is up to date)"
_PULL = rf"^Unable to find image |: Pulling from |^[0-9a-f]{{12}}: |{_PULLED}"
"""Docker's lines at the end of a pull that went well, and all about one."""
_AFTER_PULL = (
    r"failed to create (?:shim )?task|failed to create shim|failed to start|failed to set up"
    r"|OCI runtime|error during container init"
)
"""Failures that come after a pull, whatever of its lines is there."""


def explain_docker(stderr: str) -> Explanation:
    """Why `docker run` did not start the ladder. `retry` is never set: Docker does not distinguish a hang from a fault."""
    text = stderr[:MAX_READ]
    for pattern, cause, remedy in (*KATA, *DOCKER):
        output = _line(text, pattern)
        if output:
            return Explanation(f"{_filled(cause, pattern, text)} (Docker: {output})", remedy)
    # Docker's own lines of a pull mean nothing once the image is there, and what fails after it is not the pull's fault.
    lines = [line for line in text.splitlines() if not re.search(_PULL, line)]
    is_pulled = re.search(rf"{_PULLED}|{_AFTER_PULL}", text, re.MULTILINE) is not None
    output = printable(" ".join(" ".join(lines).split()), SHOWN) or "nothing"
    if "Unable to find image" in text and not is_pulled:
        return Explanation(f"{_UNPULLED.cause} (Docker: {output})", _UNPULLED.remedy)
    return Explanation(
        f"the container ended before the ladder (Docker: {output})", "Run the same `docker run` by hand on the node"
    )


def _filled(cause: str, pattern: str, text: str) -> str:
    """The cause with the path that the pattern finds, where it has a place for one."""
    match = re.search(pattern, text)
    paths = [value for value in match.groupdict().values() if value] if match else []
    return cause.format(path=printable(paths[0], 200)) if paths else cause
