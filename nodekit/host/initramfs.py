"""Build the RAM disk of a proof's guest: static busybox, our first process, the ladder, and the node's own sandbox tools."""

import re
import shutil
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.process import run
from nodekit.host.reading import MAX_PROGRAM, read
from nodekit.rules.proof.ladder import brought
from nodekit.scripts import ladder_script, script

FOLDER = "kata-nodes"
"""Where everything of ours lies in the guest."""
FIRST_PROCESS = f"/{FOLDER}/init"
GUEST_ROOT = f"{FOLDER}/root"
"""What becomes the guest's root."""
MOUNTS = f"""\
/{GUEST_ROOT} /{GUEST_ROOT} none bind
proc /{GUEST_ROOT}/proc proc
sysfs /{GUEST_ROOT}/sys sysfs
dev /{GUEST_ROOT}/dev devtmpfs
tmp /{GUEST_ROOT}/tmp tmpfs mode=1777
"""
"""The mounts of that root, in the form of fstab(5); first the root's own."""
CGROUPS = f"cgroup2 /{GUEST_ROOT}/sys/fs/cgroup cgroup2\n"
"""One more for runc, which starts nothing without it: cgroup2 as Kata's agent mounts it."""
PASSWD = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"
"""Of guests, and of the image that a container without one of its own gets."""
ORDINARY = "nsenter -S 1000 -G 1000"
"""The cheapest start as uid 1000: without a namespace to enter, busybox's nsenter changes the ids alone and looks up no name."""
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
"""Where Debian and Ubuntu put busybox-static."""
APPLETS = (
    *("cat", "chroot", "cp", "echo", "id", "ip", "mkdir", "mount", "nslookup"),
    *("reboot", "rm", "sh", "sleep", "timeout", "true", "umount", "unshare"),
)
"""Programs of busybox that the first process and the ladder use."""
PT_INTERP = 3
"""Type of the ELF program header that names a dynamic loader (elf(5))."""


class Entry(NamedTuple):
    """One entry of a cpio archive: path without a leading slash, mode with its file type, content, device numbers."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(path: str) -> Entry:
    """A folder."""
    return Entry(path, stat.S_IFDIR | 0o755)


def program(path: str, content: bytes) -> Entry:
    """An executable file."""
    return Entry(path, stat.S_IFREG | 0o755, content)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def cpio(entries: Iterable[Entry]) -> bytes:
    """A cpio archive, format newc; the same bytes for the same entries. Not compressed: a guest reads faster than it unpacks.

    Owner root, times 0, inodes counted from 1 (linux Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (inode, entry.mode, 0, 0, links, 0, len(entry.content), 0, 0, *entry.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += b"\0" * (-len(out) % 4) + entry.content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def is_static(content: bytes) -> bool:
    """Whether this is a 64-bit little-endian ELF program that needs no dynamic loader."""
    if len(content) < 64 or content[:6] != b"\x7fELF\x02\x01":
        return False
    (offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    if offset + size * count > len(content):
        return False
    return all(struct.unpack_from("<I", content, offset + size * at)[0] != PT_INTERP for at in range(count))


def static_busybox() -> bytes:
    """The node's static busybox. Raises NodeError `tool-missing`: the remedy names its package."""
    seen = "is not installed"
    for place in BUSYBOX:
        try:
            content = read(place, MAX_PROGRAM)
        except OSError:
            continue
        if not is_static(content):
            seen = f"at {place} needs shared libraries"
            continue
        lacking = sorted(set(APPLETS) - set(run([place, "--list"], timeout=30).stdout.split()))
        if not lacking:
            return content
        seen = f"at {place} lacks {', '.join(lacking)}"
    raise NodeError(
        "tool-missing",
        f"A static busybox is needed for a guest, and the one on this node {seen}",
        package="the package busybox-static",
    )


def closure(name: str) -> dict[str, Path]:
    """Place in the guest -> file of the node, for a program and all that its loader loads, as ldd(1) lists it.

    Empty when the program is not installed.
    """
    program = shutil.which(name)
    if program is None:
        return {}
    listed = run(["ldd", program], timeout=30, check=False).stdout
    libraries = re.findall(r"(?:^|=>)\s*(/\S+) \(0x", listed, flags=re.MULTILINE)
    return {f"/usr/bin/{name}": Path(program), **{path: Path(path) for path in libraries}}


def tool_files(sandbox: str | None) -> dict[str, bytes | str]:
    """Path without a leading slash -> content, or target of a symbolic link: what the ladder runs in a container for a promise.

    Raises NodeError `tool-missing` without a static busybox.
    """
    applets: dict[str, bytes | str] = {f"bin/{applet}": "busybox" for applet in APPLETS}
    return {"bin/busybox": static_busybox(), **applets, **node_files(sandbox)}


def node_files(sandbox: str | None) -> dict[str, bytes]:
    """Path without a leading slash -> content: what a promise of `sandbox` needs and is installed here, with its libraries.

    Raises NodeError `file-unreadable`.
    """
    places = {place: file for tool in brought(sandbox) for place, file in closure(tool).items()}
    return {place.lstrip("/"): _content(file) for place, file in places.items()}


def _content(file: Path) -> bytes:
    try:
        return read(file, MAX_PROGRAM)
    except OSError as error:
        message = f"{file}, which goes into the proof's guest, cannot be read: {error.strerror}"
        raise NodeError("file-unreadable", message, "disk") from None


def build(nonce: str, image_type: str | None = None, sandbox: str | None = None) -> bytes:
    """The RAM disk whose lines start with `nonce`, with the tools for a promise of `sandbox`.

    With `image_type`, it also tries to mount /dev/vda1 as that file system.

    Raises NodeError `tool-missing` without a static busybox.
    """
    environment = f"KATA_NODES_NONCE={nonce}\nKATA_NODES_IMAGE={image_type or ''}\nKATA_NODES_ORDINARY='{ORDINARY}'\n"
    entries = [
        folder("dev"),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        folder(FOLDER),
        program(f"{FOLDER}/init", script("guest_init.sh").encode()),
        program(f"{FOLDER}/mounts", (MOUNTS + CGROUPS * ("runc" in brought(sandbox))).encode()),
        program(f"{FOLDER}/environment", environment.encode()),
        folder(GUEST_ROOT),
        *(folder(f"{GUEST_ROOT}/{place}") for place in ("proc", "sys", "dev", "tmp", "image")),
    ]
    folders: set[str] = set()
    # Not one of APPLETS: where a busybox has no nsenter, each call is made by itself, with setpriv.
    own: dict[str, bytes | str] = {
        "ladder.sh": ladder_script().encode(), "etc/passwd": PASSWD.encode(), "bin/nsenter": "busybox",
    }  # fmt: skip
    for place, content in {**own, **tool_files(sandbox)}.items():
        for parent in list(reversed(Path(place).parents))[1:]:
            if (at := f"{GUEST_ROOT}/{parent}") not in folders:
                folders.add(at)
                entries.append(folder(at))
        at = f"{GUEST_ROOT}/{place}"
        entries.append(link(at, content) if isinstance(content, str) else program(at, content))
    return cpio(entries)
