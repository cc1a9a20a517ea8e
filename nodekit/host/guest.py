"""Boot one guest under QEMU, bounded in time and memory, and return its console output."""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

from nodekit.errors import NodeError
from nodekit.host.capture import capture
from nodekit.host.files import TEMPORARY, writing
from nodekit.host.reading import MAX_SYSTEM, opened, read_text
from nodekit.progress import say
from nodekit.rules.proof.console import Explanation, explain

MAX_CONSOLE = 1 << 20
"""Bytes of a console that are kept, the first half and the last: a kernel can say more than that before the ladder begins."""
QEMU_NAMES = ("qemu-system-x86_64", "/opt/kata/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm")
"""Where a QEMU is looked for when the configuration names none."""
SPARE_MIB = 256
"""Memory that the node keeps while a guest runs."""
LEAST_MIB = 256
"""Kata's own least memory of a guest (MinHypervisorMemory)."""
CPUS = {"kvm": "host", "tcg": "max,la57=off,erms=off,fsrm=off,smap=off"}
"""The guest's processor by accelerator. An emulated one leaves out what makes each start of a program dear: a fifth level of page
tables, one more read at each miss of its translation buffer; "fast" string instructions, for which a kernel copies and clears
memory byte by byte where it would take eight; and the lock of user memory, which parts the translated code at each access."""
TRIES = 3
"""Boots that are tried on an emulated node, where each one before hung."""
MAX_INITRD = 2 << 30
"""Bytes of a RAM disk that are copied for a guest; Kata's has some 130 MiB."""
COPY = 1 << 20
"""Bytes copied at once into the RAM disk."""


class Plan(NamedTuple):
    """What to boot."""

    qemu: str
    kernel: str
    initrd: tuple[bytes | Path, ...]
    """RAM disks laid one behind the other; the kernel unpacks them in order."""
    image: str | None
    """A disk to attach, read-only."""
    append: str
    """The kernel's command line."""
    memory_mib: int
    vcpus: int
    end: str
    """The line that ends the guest's report."""


class Boot(NamedTuple):
    """One boot: its console, whether the end line appeared, how long it took, and what QEMU said."""

    console: str
    reached: bool
    seconds: float
    qemu_stderr: str
    timed_out: bool


def find_qemu() -> str | None:
    """A QEMU on this machine, or None."""
    return next((program for name in QEMU_NAMES if (program := shutil.which(name))), None)


def new_nonce() -> str:
    """The start of a ladder's lines, different each time: no older text can pass for it."""
    return secrets.token_hex(16)


def memory_mib(field: str) -> int:
    """A field of /proc/meminfo in MiB: MemTotal, or MemAvailable, what this machine can give away (proc(5))."""
    for line in read_text("/proc/meminfo", MAX_SYSTEM).splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) // 1024
    return 0


def memory_for_guest(wanted_mib: int) -> int:
    """`wanted_mib`, or less when the node has less free; never below `LEAST_MIB`."""
    return max(LEAST_MIB, min(wanted_mib, memory_mib("MemAvailable") - SPARE_MIB))


def qemu_command(plan: Plan, initrd: str, accel: str) -> list[str]:
    """QEMU's command line: machine q35, a serial console, nothing else but a read-only disk for an image.

    setpriv(1) ends QEMU when this program ends, however it ends. `graphics=off` lets the firmware write on the serial
    console, which shows a guest that never left it.
    """
    command = [
        *("setpriv", "--pdeathsig", "KILL", plan.qemu, "-machine", "q35,graphics=off", "-accel", accel),
        *("-cpu", CPUS[accel], "-smp", str(plan.vcpus), "-m", str(plan.memory_mib)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-kernel", plan.kernel, "-initrd", initrd, "-append", plan.append),
    ]
    if plan.image is not None:
        escaped = plan.image.replace(",", ",,")
        command += ["-drive", f"file={escaped},format=raw,if=none,id=image,readonly=on", "-device", "virtio-blk-pci,drive=image"]
    return command


def boot(plan: Plan, *, accel: str, timeout: float) -> Boot:
    """Boot a guest and read its console until its end line, its own end, or `timeout` seconds. QEMU is gone on return.

    `accel` is QEMU's name of the accelerator: `kvm` or `tcg`. Raises NodeError `tool-missing` without QEMU or setpriv,
    `file-unreadable` for a kernel or RAM disk, `file-unwritable` where there is no room for a copy of the RAM disk.
    """
    if shutil.which(plan.qemu) is None:
        raise NodeError("tool-missing", f"QEMU {plan.qemu} is not installed on this node", "configured")
    if not os.access(plan.kernel, os.R_OK):
        raise NodeError("file-unreadable", f"The guest kernel {plan.kernel} cannot be read", "configured", key="kernel")
    begin = time.monotonic()
    with _disk(plan.initrd) as disk:
        try:
            result = capture(
                qemu_command(plan, f"/proc/self/fd/{disk.fileno()}", accel),
                timeout=begin + timeout - time.monotonic(),
                limit=MAX_CONSOLE,
                pass_fds=(disk.fileno(),),
                until=plan.end.encode(),
                discard=True,
            )
        except FileNotFoundError:
            raise NodeError("tool-missing", "setpriv is not installed on this node", package="the package util-linux") from None
    return Boot(
        result.stdout.decode(errors="replace"),
        plan.end.encode() in result.stdout,
        round(time.monotonic() - begin, 1),
        result.stderr.decode(errors="replace"),
        result.timed_out,
    )


def boot_patiently(plan: Plan, *, accel: str, timeout: float, emulated: bool) -> tuple[Boot, int, Explanation | None]:
    """The last boot, how many there were, and why it did not reach its end if it did not.

    `timeout` bounds each boot. A hang, or a panic without a cause that is known, is tried again, `TRIES` boots at most, and only
    where the node is `emulated`: there second-level guests are known to hang now and then, and one in hundreds panics early;
    anywhere else either is a finding.
    """
    for attempt in range(1, TRIES + 1):
        result = boot(plan, accel=accel, timeout=timeout)
        if result.reached:
            return result, attempt, None
        why = explain(result.console, result.qemu_stderr, plan.append, timed_out=result.timed_out)
        if not ((why.retry or why.panic) and emulated):
            break
        end = "the guest's kernel stopped after" if why.panic else "the guest hung for"
        say(f"{end} {result.seconds:g} s on this emulated node (boot {attempt} of {TRIES})")
    return result, attempt, why


def _disk(parts: Sequence[bytes | Path]) -> IO[bytes]:
    """The parts one behind the other in a file without a name: nothing is left behind, whatever happens."""
    with writing(TEMPORARY), ExitStack() as opened_here:
        disk = opened_here.enter_context(tempfile.TemporaryFile(dir=TEMPORARY))
        for part in parts:
            _add(disk, part)
        disk.flush()
        opened_here.pop_all()
    return disk


def _add(disk: IO[bytes], part: bytes | Path) -> None:
    for piece in (part,) if isinstance(part, bytes) else _pieces(part):
        disk.write(piece)
    disk.write(b"\0" * (-disk.tell() % 4))  # the kernel looks for the next archive at a multiple of four


def _pieces(part: Path) -> Iterator[bytes]:
    """A RAM disk of the node; an error of the disk that it is copied to is not one of reading it."""
    try:
        with opened(part) as source:
            if (size := os.fstat(source.fileno()).st_size) > MAX_INITRD:
                raise NodeError("file-invalid", f"The RAM disk {part} holds {size} bytes, more than {MAX_INITRD}", "initrd")
            while piece := source.read(COPY):
                yield piece
    except OSError as error:
        raise NodeError(
            "file-unreadable", f"The RAM disk {part} cannot be read: {error.strerror}", "configured", key="initrd"
        ) from None
