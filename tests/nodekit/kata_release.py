"""A release-shaped archive served over HTTP on loopback, and a throw-away root to install it into."""

import hashlib
import http.server
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serving import running

BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
FOLDER = "opt/kata/share/defaults/kata-containers"
CONFIG = f"""\
# A comment that must stay.
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"   # and this one
kernel = "/opt/kata/share/kata-containers/vmlinux.container"
# kernel_params = "commented out"
kernel_params = "{BASE}"
default_memory = 2048
"""


def archive(version: str = "3.32.0", members: dict[str, bytes] | None = None, links: dict[str, str] | None = None) -> bytes:
    """A .tar.xz as releases are; `members` and `links` come on top."""
    files = {
        "./opt/kata/VERSION": f"{version}\n".encode(),
        f"./{FOLDER}/configuration-qemu.toml": CONFIG.encode(),
        "./opt/kata/bin/containerd-shim-kata-v2": b"#!/bin/sh\n",
        **(members or {}),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", preset=0) as tar:
        for name, target in {f"./{FOLDER}/configuration.toml": "configuration-qemu.toml", **(links or {})}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o4755
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@contextmanager
def served(data: bytes) -> Iterator[tuple[str, str]]:
    """Address and sha256 of `data` while the block runs."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the standard library's
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}/kata-static.tar.xz", hashlib.sha256(data).hexdigest()


def tree(root: Path) -> dict[str, str]:
    """Every file and link below `root` with its content, without the lock."""
    entries = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            entries[name] = f"-> {path.readlink()}"
        elif path.is_file() and name != "run/kata-nodes.lock":
            entries[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return entries
