"""Makes an archive in shape and paths of a Kata release, for tests and stack `local`: shim and agent are stand-ins.

It is not Kata Containers. Kernel, QEMU and virtiofsd are the node's own; the rest comes from tools/go/stand-in-shim. Where no Go
builds that, the archive has no shim: guests are proven with its kernel and configuration, and no container is started.
"""

import hashlib
import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.32.0"
NAME = f"kata-static-{VERSION}-amd64.tar.xz"
CONFIGURATIONS = Path(__file__).resolve().parent / "configurations"
PREFIX = "./opt/kata"

BOOT_MODULES = ("vmw_vsock_virtio_transport",)
NETWORK_MODULES = ("virtio_net",)
STAND_IN = b"""This is not Kata Containers.

The shim (where there is one) and the agent in kata-containers-initrd.img are stand-ins from the repository kata-nodes
(tools/go/stand-in-shim), for its tests and its stack `local`: they start a container in a QEMU guest as Kata does, so
that what proves a node can be tried without a genuine release. They are not for use. For a real node take a release of
https://github.com/kata-containers/kata-containers
"""


IDLE = b"""#!/bin/busybox sh
echo "guest is up: no agent in this image"
while :; do /bin/busybox sleep 3600; done
"""
"""The first process of a guest where there is no agent."""


@dataclass(frozen=True)
class ArchiveSources:
    """What the archive is made from."""

    busybox: bytes
    shim: bytes | None
    """None where no Go builds it."""
    agent: bytes
    boot_modules: tuple[bytes, ...]
    """Kernel modules that a guest loads at its start, each after those that it needs."""
    network_modules: tuple[bytes, ...]
    """Those that it loads once it gets a network."""


def kernel_modules(root: Path, names: tuple[str, ...]) -> tuple[bytes, ...]:
    """The modules of the kernel installed in `root`, each after those that it needs; a built-in one is left out."""
    (folder,) = (root / "usr/lib/modules").iterdir()
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.partition(".")[0].replace("-", "_")] = [path, *others.split()]
    # modules.dep names what a module needs from the nearest to the farthest.
    ordered = dict.fromkeys(path for name in names for path in reversed(needs.get(name, [])))
    return tuple(lzma.decompress((folder / path).read_bytes()) for path in ordered)


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An initramfs in the `newc` format (linux Documentation/driver-api/early-userspace/buffer-format.rst).

    `entries` are (path, mode with file type, content); owners and times are 0, inode numbers follow the order. A
    character device has its two numbers as content.
    """
    out = bytearray()
    for inode, (path, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        is_device = mode & 0o170000 == 0o020000
        data, device = (b"", tuple(content)) if is_device else (content, (0, 0))
        name = path.encode() + b"\0"
        links = 2 if mode & 0o040000 == 0o040000 else 1
        numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def initrd(sources: ArchiveSources) -> bytes:
    """An initramfs whose first process is the agent. Not compressed: a guest reads faster than it unpacks."""
    modules = "lib/stand-in"
    folders = ("bin", "dev", "lib", modules, f"{modules}/boot", f"{modules}/network", "proc", "root", "sys")
    entries: list[tuple[str, int, bytes]] = [(name, 0o040755, b"") for name in folders]
    # A Go program does not start without standard streams and /dev/null.
    entries += [("dev/console", 0o020600, bytes((5, 1))), ("dev/null", 0o020666, bytes((1, 3)))]
    entries += [("bin/busybox", 0o100755, sources.busybox), ("init", 0o100755, sources.agent)]
    for folder, contents in (("boot", sources.boot_modules), ("network", sources.network_modules)):
        entries += [(f"{modules}/{folder}/{at:02}.ko", 0o100644, content) for at, content in enumerate(contents)]
    return cpio(entries)


def members(sources: ArchiveSources) -> dict[str, bytes | str]:
    """Every file of the archive by path under /opt/kata: bytes are a file, text is a symbolic link's target."""
    defaults = "share/defaults/kata-containers"
    return {
        "STAND-IN": STAND_IN,
        "VERSION": f"{VERSION}\n".encode(),
        **({"bin/containerd-shim-kata-v2": sources.shim} if sources.shim else {}),
        "bin/qemu-system-x86_64": "/usr/bin/qemu-system-x86_64",
        f"{defaults}/configuration-qemu.toml": (CONFIGURATIONS / "configuration-qemu.toml").read_bytes(),
        f"{defaults}/configuration-fc.toml": (CONFIGURATIONS / "configuration-fc.toml").read_bytes(),
        f"{defaults}/configuration.toml": "configuration-qemu.toml",
        "libexec/virtiofsd": "/usr/libexec/virtiofsd",
        "share/kata-containers/vmlinux.container": "/vmlinux",
        "share/kata-containers/kata-containers-initrd.img": initrd(sources),
    }


def build_archive(folder: Path, sources: ArchiveSources) -> dict[str, str]:
    """Write the archive into `folder` and return its file name and sha256; the same input gives the same bytes."""
    content = members(sources)
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
                entry.size, entry.mode = len(value), 0o755 if name.startswith("bin/") else 0o644
                tar.addfile(entry, io.BytesIO(value))
    packed = lzma.compress(buffer.getvalue())
    (folder / NAME).write_bytes(packed)
    return {"file": NAME, "sha256": hashlib.sha256(packed).hexdigest()}
