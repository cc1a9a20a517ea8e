"""Makes, finds again and destroys the virtual machine that is the node of a local stack.

python3 -m local.machine up|down|status     (settings as JSON on standard input)
"""

import io
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from local import accelerator, limits, parts, process
from local.boot import ADDRESS, BOOT_VARIABLE, SILENT_SECONDS, answers, boot, existing, hung, kernel_trouble, named, place
from local.process import progress
from nodekit.errors import NodeError
from nodekit.host.capture import capture
from nodekit.host.guest import CPUS
from nodekit.host.reading import MAX_OWN, read_text

# The address of this machine in QEMU's user-mode network (qemu(1), -netdev user).
GATEWAY = "10.0.2.2"
# An emulated machine takes 25 s on idle cores of a fast computer; on slow and busy ones 240 s were too few.
SSH_SECONDS = 900
# For an empty overlay, which takes qemu-img 20 ms.
OVERLAY_SECONDS = 60
# An emulated machine has one core, and a tick that does not stop. With two cores, QEMU before 8.1 runs code that the other core
# has patched meanwhile (its commit deba78709ae8), and KVM patches the scheduler where a guest starts and ends: seen as
# `Oops: int3`, and as a machine that stands still. With one core, a wake-up can be lost where a guest is left (QEMU before 10.2
# changes interrupt_request without a lock there): the core slept through its timer for minutes. A periodic timer wakes it again.
EMULATED_CORES = 1
# Without what makes a guest's emulated processor slow (see CPUS). A fifth level of page tables is dearer here: a guest within the
# machine is translated by a walk of both tables for each step of the other, 35 reads where four levels cost 24.
EMULATED_CPU = f"{CPUS['tcg']},+svm"
EMULATED_TICK = " nohz=off highres=off"
PARTS = {"disk": "disk", "kernel": "kernel", "initrd": "initrd"}
NAMES = (
    *("machine.json", "place.json", "process.json", "disk.qcow2", "seed.tar", "host_key.pub", "login_key"),
    *("qemu.log", "console.log"),
)


@dataclass(frozen=True)
class Machine:
    """What is asked for: a name, a private folder, the image to start from and the size; its fields are the JSON keys."""

    name: str
    directory: str
    disk: str
    kernel: str
    initrd: str
    memoryMiB: int
    cores: int
    sshUser: str


def parse(request: Mapping[str, object]) -> Machine:
    """The machine that `request` asks for. Raises NodeError naming the key, the value seen and what it may be."""
    known = set(Machine.__dataclass_fields__)
    if unknown := sorted(set(request) - known):
        raise NodeError("bad-input", f"unknown key {unknown[0]!r}", expected=f"only {', '.join(sorted(known))}")
    name, user = process.text_field(request, "name"), process.text_field({"sshUser": "node", **request}, "sshUser")
    for key, value in (("name", name), ("sshUser", user)):
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value):
            raise NodeError("bad-input", f"{key} is {value!r}", expected="up to 32 of a-z, 0-9 and -, a letter first")
    numbers: dict[str, int] = {}
    for key, bounds in (("memoryMiB", limits.MEMORY_MIB), ("cores", limits.CORES)):
        number = request.get(key, bounds.default)
        # Numbers arrive from some callers as floats.
        whole = int(number) if isinstance(number, int | float) and not isinstance(number, bool) and number % 1 == 0 else None
        if whole is None or not bounds.minimum <= whole <= bounds.maximum:
            raise NodeError(
                "bad-input", f"{key} is {number!r}", expected=f"a whole number from {bounds.minimum} to {bounds.maximum}"
            )
        numbers[key] = whole
    paths = {key: str(process.path_field(request, key)) for key in ("directory", "disk", "kernel", "initrd")}
    return Machine(name=name, sshUser=user, **paths, memoryMiB=numbers["memoryMiB"], cores=numbers["cores"])


def qemu_command(machine: Machine, port: int, accelerator: str) -> list[str]:
    """QEMU's arguments: virtio disk over the image, seed disk, SSH forwarded from `port` of the loopback address."""
    directory = Path(machine.directory)

    def option(path: Path) -> str:
        # A comma ends a value in QEMU's option lists; doubled it stands for itself. What -serial gets is no list.
        return str(path).replace(",", ",,")

    cpu, cores, tick = {"kvm": ("host", machine.cores, ""), "tcg": (EMULATED_CPU, EMULATED_CORES, EMULATED_TICK)}[accelerator]
    # On a busy host the seed disk, which holds sshd's keys, can appear later than the 90 s that systemd waits.
    append = f"root=/dev/vda rw console=ttyS0 quiet panic=10 systemd.default_device_timeout_sec={SSH_SECONDS}"
    return [
        *("qemu-system-x86_64", "-name", machine.name, "-machine", "q35", "-nodefaults", "-no-user-config"),
        *("-accel", accelerator, "-cpu", cpu),
        *("-smp", str(cores), "-m", str(machine.memoryMiB)),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{directory / 'console.log'}"),
        *("-kernel", machine.kernel, "-initrd", machine.initrd),
        *("-append", f"{append} systemd.hostname={machine.name}{tick}"),
        *("-drive", f"if=none,id=disk,format=qcow2,discard=unmap,file={option(directory / 'disk.qcow2')}"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-drive", f"if=none,id=seed,format=raw,readonly=on,file={option(directory / 'seed.tar')}"),
        *("-device", "virtio-blk-pci,drive=seed"),
        *("-netdev", f"user,id=net,hostfwd=tcp:{ADDRESS}:{port}-:22", "-device", "virtio-net-pci,netdev=net"),
        *("-device", "virtio-rng-pci"),
    ]


def seed(machine: Machine, host_key: bytes, host_public: bytes, login_public: bytes) -> bytes:
    """The seed disk: a tar archive with what this machine has of its own, unpacked at every boot before sshd."""
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n".encode()
    files = [
        ("etc/hosts", hosts, 0o644, 0),
        ("etc/ssh/ssh_host_ed25519_key", host_key, 0o600, 0),
        ("etc/ssh/ssh_host_ed25519_key.pub", host_public, 0o644, 0),
        (f"home/{machine.sshUser}/.ssh/authorized_keys", login_public, 0o600, 1000),
    ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data, mode, owner in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def new_key() -> tuple[bytes, bytes]:
    """A fresh ed25519 key pair in OpenSSH's formats: private, public line without comment."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def document(machine: Machine) -> dict[str, object]:
    """What is written down of a machine: its settings, and which build of the image its disk lies over.

    An image that is built again at the same path has other blocks, over which the disk would be damaged.
    """
    image = Path(machine.disk).stat()
    return {**asdict(machine), "image": f"{image.st_size} bytes of {int(image.st_mtime)}"}


def create(machine: Machine) -> None:
    """Make keys, seed disk and overlay; `machine.json` comes last and means that all of it is there."""
    directory = Path(machine.directory)
    host_key, host_public = new_key()
    login_key, login_public = new_key()
    process.write(directory / "host_key.pub", host_public)
    process.write(directory / "login_key", login_key)
    process.write(directory / "seed.tar", seed(machine, host_key, host_public, login_public))
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", machine.disk, str(directory / "disk.qcow2")]
    try:
        result = capture(overlay, timeout=OVERLAY_SECONDS, limit=MAX_OWN)
    except FileNotFoundError as error:
        raise NodeError("tool-missing", "qemu-img is not installed", "this-machine", package="qemu-utils") from error
    if result.timed_out or result.code != 0:
        output = result.stderr.decode(errors="replace").strip()[:500] or f"it did not end within {OVERLAY_SECONDS} s"
        raise NodeError("local-disk-failed", f"qemu-img: {output}")
    process.write(directory / "machine.json", json.dumps(document(machine)))


def start(machine: Machine) -> None:
    """Start QEMU on the port it had before, or on a free one, and wait until its sshd answers.

    Raises NodeError with the end of the console when it does not; QEMU is ended then, as on an interruption.
    """
    directory = Path(machine.directory)
    if shutil.which("qemu-system-x86_64") is None:
        raise NodeError("tool-missing", "qemu-system-x86_64 is not installed", "this-machine", package="qemu-system-x86")
    kernel, initrd = Path(machine.kernel), Path(machine.initrd)
    chosen = accelerator.choose(kernel, initrd, kernel.parent / "accelerator.json")
    record = directory / "process.json"
    with turn(directory, chosen):
        previous = place(directory).get("port")
        port = process.free_port(previous if isinstance(previous, int) else None)
        process.write(directory / "place.json", json.dumps({"port": port, "accelerator": chosen}))
        for log in ("qemu.log", "console.log"):
            (directory / log).unlink(missing_ok=True)
        try:
            process.spawn(qemu_command(machine, port, chosen), record, directory / "qemu.log")
            wait_for_ssh(directory, port)
        except BaseException:
            process.stop(record)
            raise


@contextmanager
def turn(directory: Path, chosen: str) -> Iterator[None]:
    """Hold the right to boot among the machines beside `directory`: emulated ones boot one after the other.

    A booting machine takes every core: three at once on two busy cores took 150 s each, where one takes 25 s on idle cores, and
    eight would not have booted within `SSH_SECONDS`.
    """
    if chosen != "tcg":
        yield
        return
    progress("machine: waiting for its turn to boot")
    with process.owned(directory.parent):
        yield


def wait_for_ssh(directory: Path, port: int) -> None:
    """Return once an SSH server greets on `port`. Raises NodeError after `SSH_SECONDS` or when QEMU ended."""
    for waited in process.waiting("machine: waiting for SSH", SSH_SECONDS, 0.5):
        if process.alive(directory / "process.json") is None:
            said_by_qemu = process.tail(directory / "qemu.log", 5)
            raise NodeError("local-machine-not-up", f"QEMU ended by itself: {said_by_qemu}", "ended")
        # No shorter tries: sshd counts each that ends before a login against its source, then closes all (PerSourcePenalties).
        if answers(port):
            progress(f"machine: SSH answers on {ADDRESS}:{port} after {waited:.0f} s")
            return
    console = process.tail(directory / "console.log")
    raise NodeError(
        "local-machine-not-up",
        f"no SSH server answered on {ADDRESS}:{port} within {SSH_SECONDS} s; the console ends with:\n{console}\n",
    )


def described(machine: Machine) -> dict[str, object]:
    """What a caller needs to reach the machine. Holds the private login key: it must not be printed in a log."""
    directory = Path(machine.directory)
    last = place(directory)
    return {
        "name": machine.name,
        "address": ADDRESS,
        "port": last["port"],
        "user": machine.sshUser,
        "hostKey": read_text(directory / "host_key.pub", MAX_OWN).strip(),
        "privateKey": read_text(directory / "login_key", MAX_OWN),
        "accelerator": last["accelerator"],
        "boot": last["boot"],
        "gateway": GATEWAY,
        "pid": process.alive(directory / "process.json"),
    }


def up(request: dict[str, object]) -> dict[str, object]:
    """Have the machine running: left alone when it runs as asked, started again when it died or hangs, else replaced."""
    machine = parse(parts.completed(request, PARTS))
    for path in (machine.disk, machine.kernel, machine.initrd):
        if not Path(path).is_file():
            raise NodeError("local-image-missing", f"{path} does not exist")
    directory = Path(machine.directory)
    record = directory / "process.json"
    with process.owned(directory):
        before, desired = existing(directory), document(machine)
        kept = before is not None and {"image": desired["image"], **before} == desired
        if not kept:
            if before is not None:
                progress(f"machine: {machine.name} is replaced, its settings or its image changed")
            clear(directory)
        try:
            if existing(directory) is None:
                create(machine)
            if hung(directory, SILENT_SECONDS):
                end_hung(machine)
            name = os.environ.get(BOOT_VARIABLE) or boot(directory).name
            if process.alive(record) is None:
                start(machine)
            else:
                wait_for_ssh(directory, int(str(place(directory)["port"])))
            named(directory, name)
        except BaseException:
            # A machine that stood here before, with all that was done on it, outlives a failed start.
            if not kept:
                clear(directory)
                directory.rmdir()
            raise
        return described(machine)


def end_hung(machine: Machine) -> None:
    """End the QEMU of a machine that hangs; disk, keys and port stay for its next start."""
    directory = Path(machine.directory)
    trouble = kernel_trouble(directory)
    progress(
        f"machine: {machine.name} has not answered on its SSH port for {SILENT_SECONDS} s: starting it again"
        + (f"; its console says:\n{trouble}" if trouble else "")
    )
    process.stop(directory / "process.json")


def clear(directory: Path) -> None:
    """End the machine in `directory` and empty the folder."""
    process.stop(directory / "process.json")
    process.empty(directory, NAMES)


def down(request: dict[str, object]) -> dict[str, object]:
    """Destroy the machine and its folder; nothing to destroy is not an error."""
    return process.removed(request, clear)


def status(request: dict[str, object]) -> dict[str, object]:
    """Whether the machine exists, runs, and answers on its SSH port; changes nothing."""
    directory = process.path_field(request, "directory")
    pid = process.alive(directory / "process.json")
    answering = False
    if pid is not None:
        answering = answers(int(str(place(directory)["port"])))
    return {"exists": existing(directory) is not None, "pid": pid, "answers": answering}


if __name__ == "__main__":
    sys.exit(process.serve_verbs({"up": up, "down": down, "status": status}, "local.machine"))
