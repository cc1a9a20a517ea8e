"""What a node has for guests: the processor's flag, KVM, the modules that Kata needs, and the file that loads them at a start."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nodekit.host import modules
from nodekit.host.files import read_bytes
from nodekit.host.journal import Transaction
from nodekit.host.node import FIRST_PROCESSOR
from nodekit.host.reading import start
from nodekit.rules.difference import Difference, of_file
from nodekit.rules.kata.kernel_modules import DEVICES, KVM_MODULES, needed

MODULES_FILE = "/etc/modules-load.d/kata-nodes.conf"


class Presence(NamedTuple):
    """What a node has for guests. Each has been seen true where no guest ever came up."""

    flag: str | None
    """`vmx` or `svm`."""
    kvm: bool
    """Whether /dev/kvm can be opened for reading and writing."""
    devices: dict[str, bool]
    """Module -> whether its device is there."""

    def as_dict(self) -> dict[str, object]:
        """The `kvm` object of the result."""
        return {
            "flag": self.flag,
            "module": KVM_MODULES.get(self.flag or ""),
            "device": self.kvm,
            "vhostVsock": self.devices["vhost_vsock"],
            "vhostNet": self.devices["vhost_net"],
            "tun": self.devices["tun"],
        }


def cpu_flag() -> str | None:
    """`vmx` or `svm`, as the processor says, or None."""
    processor = start("/proc/cpuinfo", FIRST_PROCESSOR).decode(errors="replace")
    match = re.search(r"^flags\s*:.*\b(vmx|svm)\b", processor, flags=re.MULTILINE)
    return match[1] if match else None


def presence(flag: str | None) -> Presence:
    """Measure what is there."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        kvm = True
    except OSError:
        kvm = False
    return Presence(flag, kvm, {module: Path(device).exists() for module, device in DEVICES.items()})


def keep(root: Path, change: Transaction, required: list[str]) -> bool:
    """Have the modules loaded at every start; those built into the kernel need no line. Whether that changed a file."""
    content = _content(root, required)
    return content is not None and change.write(MODULES_FILE, content, 0o644, is_own=True)


def _content(root: Path, required: list[str]) -> bytes | None:
    """What `MODULES_FILE` should hold; None where every module is built into the kernel."""
    inside = modules.built_in(root)
    lines = "".join(f"{module}\n" for module in required if module not in inside)
    return f"# Kata needs these (kata-nodes preflight).\n{lines}".encode() if lines else None


def differences(root: Path) -> Iterator[Difference]:
    """The modules, devices and file of modules that the verb `preflight` would bring; changes nothing."""
    flag = cpu_flag()
    required = needed(flag)
    hardware, unloaded = presence(flag), modules.unloaded(root, required)
    for module in required:
        device = DEVICES.get(module, "/dev/kvm")
        if not (hardware.devices[module] if module in DEVICES else hardware.kvm):
            yield Difference("module", f"{device} is missing, which the module {module} provides", "preflight", device)
        elif module in unloaded:
            yield Difference("module", f"the module {module} is not loaded", "preflight")
    content = _content(root, required)
    now = read_bytes(root, MODULES_FILE)
    if content is not None and now != content:
        message = f"{MODULES_FILE} does not name the modules to load at each start"
        yield of_file("file", message, "preflight", MODULES_FILE, content, now)
