"""Makes a Kata release archive in shape and paths, whose guest parts are the node's own kernel and QEMU."""

import gzip
import hashlib
import io
import lzma
import tarfile
from pathlib import Path

VERSION = "3.32.0"
NAME = f"kata-static-{VERSION}-amd64.tar.xz"
CONFIGURATIONS = Path(__file__).resolve().parent / "configurations"
PREFIX = "./opt/kata"

INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
echo "guest is up: no agent in this image"
while :; do /bin/busybox sleep 3600; done
"""


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An initramfs in the `newc` format (linux Documentation/driver-api/early-userspace/buffer-format.rst).

    `entries` are (path, mode with file type, content); owners and times are 0, inode numbers follow the order.
    """
    out = bytearray()
    for inode, (path, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        name = path.encode() + b"\0"
        links = 2 if mode & 0o040000 == 0o040000 else 1
        numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def initrd(busybox: bytes) -> bytes:
    """A gzip-compressed initramfs that mounts the usual file systems and idles."""
    directories = [(name, 0o040755, b"") for name in ("bin", "dev", "proc", "sys")]
    files = [("bin/busybox", 0o100755, busybox), ("init", 0o100755, INIT)]
    return gzip.compress(cpio(directories + files), mtime=0)


def members(busybox: bytes) -> dict[str, bytes | str]:
    """Every file of the archive by path under /opt/kata: bytes are a file, text is a symbolic link's target."""
    defaults = "share/defaults/kata-containers"
    return {
        "VERSION": f"{VERSION}\n".encode(),
        "bin/qemu-system-x86_64": "/usr/bin/qemu-system-x86_64",
        f"{defaults}/configuration-qemu.toml": (CONFIGURATIONS / "configuration-qemu.toml").read_bytes(),
        f"{defaults}/configuration-fc.toml": (CONFIGURATIONS / "configuration-fc.toml").read_bytes(),
        f"{defaults}/configuration.toml": "configuration-qemu.toml",
        "share/kata-containers/vmlinux.container": "/vmlinuz",
        "share/kata-containers/kata-containers-initrd.img": initrd(busybox),
    }


def build_archive(folder: Path, busybox: bytes) -> dict[str, str]:
    """Write the archive into `folder` and return its file name and sha256; the same input gives the same bytes."""
    content = members(busybox)
    parents = {str(parent) for name in content for parent in Path(name).parents if str(parent) != "."}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for directory in ("./", "./opt/", f"{PREFIX}/", *(f"{PREFIX}/{name}/" for name in sorted(parents))):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, value in sorted(content.items()):
            entry = tarfile.TarInfo(f"{PREFIX}/{name}")
            if isinstance(value, str):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, value, 0o777
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(value), 0o644
                tar.addfile(entry, io.BytesIO(value))
    packed = lzma.compress(buffer.getvalue())
    (folder / NAME).write_bytes(packed)
    return {"file": NAME, "sha256": hashlib.sha256(packed).hexdigest()}
