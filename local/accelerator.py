"""Checks whether KVM works on this machine in the only reliable way: a guest kernel must reach user space."""

import json
import os
from pathlib import Path

from local.process import progress, write
from nodekit.host.capture import capture
from nodekit.host.node import boot_id
from nodekit.host.reading import MAX_OWN, read

# `true` of the initial RAM disk as the first process: the kernel then reports that init ended with status 0,
# which it can only say after user space has run.
COMMAND_LINE = "console=ttyS0 panic=-1 rdinit=/bin/true"
PROOF = b"Attempted to kill init! exitcode=0x00000000"
DEVICE = Path("/dev/kvm")
SECONDS = 20
MAX_CONSOLE = 1 << 20
"""Bytes of the guest's console that are kept; a kernel that reaches user space writes some 30 KiB."""


def probe_command(kernel: Path, initrd: Path) -> list[str]:
    """QEMU with KVM, one processor and no device but a serial port on standard output."""
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "512"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-monitor", "none"),
        *("-kernel", str(kernel), "-initrd", str(initrd), "-append", COMMAND_LINE),
    ]


def boots_with_kvm(kernel: Path, initrd: Path) -> bool:
    """Whether a guest of `kernel` and `initrd` reaches user space under KVM within `SECONDS`.

    An existing /dev/kvm, and even a QEMU that starts, have each been seen without it.
    """
    if not DEVICE.exists():
        return False
    result = capture(probe_command(kernel, initrd), timeout=SECONDS, limit=MAX_CONSOLE, until=PROOF, discard=True)
    return PROOF in result.stdout


def choose(kernel: Path, initrd: Path, memory: Path) -> str:
    """`kvm` or `tcg` for this machine and user; determined once per boot and kept in the file `memory`."""
    if DEVICE.exists() and not os.access(DEVICE, os.R_OK | os.W_OK):
        # Another user's result with the same image does not hold for this user.
        progress(f"machine: this user may not open {DEVICE} (usermod --append --groups kvm USER allows it): emulating")
        return "tcg"
    boot = boot_id(Path("/"))
    try:
        known = json.loads(read(memory, MAX_OWN))
        if known["boot"] == boot and known["accelerator"] in ("kvm", "tcg"):
            return str(known["accelerator"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    progress(f"machine: trying KVM with a small guest (at most {SECONDS} s)")
    accelerator = "kvm" if boots_with_kvm(kernel, initrd) else "tcg"
    progress(f"machine: {'KVM works' if accelerator == 'kvm' else 'no guest boots with KVM here: emulating'}")
    try:
        write(memory, json.dumps({"boot": boot, "accelerator": accelerator}))
    except OSError:
        progress(f"machine: {memory.parent} cannot be written: KVM is tried again next time")
    return accelerator
