"""Identify this machine: its operating system, its boot, and whether its processor is emulated."""

import shlex
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.files import read_bytes
from nodekit.host.process import run
from nodekit.host.reading import MAX_SYSTEM, read_text, start

FIRST_PROCESSOR = 64 << 10
"""Bytes of /proc/cpuinfo that are read: the entry of one processor has some 1.5 KiB, and all are alike."""


class OsRelease(NamedTuple):
    """The three fields of os-release(5) that packages depend on, such as `debian`, `13`, `trixie`."""

    id: str
    version_id: str
    codename: str


def os_release(root: Path) -> OsRelease:
    """The operating system of the node; a missing field is empty. Raises NodeError `unsupported-os` without that file."""
    content = read_bytes(root, "/etc/os-release")
    if content is None:
        content = read_bytes(root, "/usr/lib/os-release")
    if content is None:
        raise NodeError("unsupported-os", "The node has no /etc/os-release")
    fields: dict[str, str] = {}
    for line in content.decode(errors="replace").splitlines():
        key, mark, value = line.strip().partition("=")
        if not mark or key.startswith("#"):
            continue
        try:
            fields[key] = "".join(shlex.split(value))
        except ValueError:
            continue  # a line that no shell can read counts for nothing
    return OsRelease(fields.get("ID", ""), fields.get("VERSION_ID", ""), fields.get("VERSION_CODENAME", ""))


def boot_id(root: Path) -> str:
    """The kernel's random id of this boot: it distinguishes a guest from its node. Raises NodeError `file-unreadable`."""
    try:
        return read_text(root / "proc/sys/kernel/random/boot_id", MAX_SYSTEM).strip()
    except OSError as error:
        raise NodeError("file-unreadable", f"/proc/sys/kernel/random/boot_id cannot be read: {error.strerror}", "proc") from None


def emulated() -> bool:
    """Whether this machine's processor is QEMU's TCG: guests are slow there, and sometimes hang."""
    try:
        if b"QEMU TCG" in start("/proc/cpuinfo", FIRST_PROCESSOR):
            return True
    except OSError:
        pass  # the second hint decides
    try:
        # systemd-detect-virt(1): `qemu` is QEMU without KVM, `kvm` is with it.
        return run(["systemd-detect-virt", "--vm"], timeout=10, check=False).stdout.strip() == "qemu"
    except NodeError:
        return False
