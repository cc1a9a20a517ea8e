"""What boots the node: Debian's kernel unpacked, and a RAM disk that mounts the root disk and does nothing else."""

import struct
from pathlib import Path

from tools.image.archive import cpio, kernel_modules
from tools.image.packages import run

MODULES = ("virtio_pci", "virtio_blk", "ext4")
FIRST_PROCESS = b"""#!/bin/busybox sh
# Debian's own RAM disk takes an emulated machine some 20 seconds, which this one does in 2.
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /sbin/init
"""


def payload(kernel: bytes) -> bytes:
    """The compressed part of a kernel, without the length at its end (linux, Documentation/arch/x86/boot.rst)."""
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    begin = (kernel[0x1F1] + 1) * 512 + offset
    return kernel[begin : begin + length - 4]


def add_vmlinux(root: Path) -> None:
    """Lay /vmlinux beside the kernel in `root`: what it unpacks itself to, for which each emulated boot takes seconds.

    Kata's releases ship their kernel so too. Raises `ToolError` where Debian's is compressed in another way.
    """
    # An absolute link means the node's own root, not this machine's.
    kernel = root / str((root / "vmlinuz").readlink()).lstrip("/")
    (root / "vmlinux.zst").write_bytes(payload(kernel.read_bytes()))
    run(["chroot", str(root), "zstd", "--decompress", "--quiet", "--rm", "/vmlinux.zst"])


def initrd(busybox: bytes, modules: tuple[bytes, ...]) -> bytes:
    """The RAM disk; `modules` are loaded in their order. /bin/true is what `local/accelerator.py` starts."""
    entries = [(name, 0o040755, b"") for name in ("bin", "dev", "modules", "root")]
    # A first process has no standard streams without it.
    entries += [("dev/console", 0o020600, bytes((5, 1))), ("init", 0o100755, FIRST_PROCESS)]
    entries += [(f"bin/{name}", 0o100755, busybox) for name in ("busybox", "true")]
    return cpio(entries + [(f"modules/{at:02}.ko", 0o100644, content) for at, content in enumerate(modules)])


def initrd_of(root: Path) -> bytes:
    """The one for the system installed in `root`."""
    return initrd((root / "usr/bin/busybox").read_bytes(), kernel_modules(root, MODULES))
