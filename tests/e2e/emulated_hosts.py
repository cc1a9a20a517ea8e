"""Existing hosts on which a whole `pulumi up` ends well without KVM: Debians in namespaces whose Kata guests are emulated.

Such a host starts in seconds and is a real Debian with real systemd, sshd, sudo, apt, dpkg and dockerd. What differs from a
user's host is what this machine lacks: QEMU emulates where Kata asks for KVM, the devices that Kata needs are plain files, and
Kata is the stand-in's archive with that setting in it.
"""

import contextlib
import dataclasses
import hashlib
import io
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh

from tests.nodekit import debian_node
from tests.nodekit.debian_node import PORT, DebianNode, Image
from tests.nodekit.kata_node import EMULATED
from tests.nodekit.kata_node import QEMU as INSTALLED_QEMU

QEMU = Path(__file__).resolve().parents[1] / "nodekit" / "qemu_emulated.sh"
ARCHIVED_QEMU = "/opt/kata/bin/qemu-emulated"
DROP_IN = "/opt/kata/share/defaults/kata-containers/config.d/10-emulated.toml"
SSHD = "etc/ssh/tests"
"""Where an sshd of the tests has its keys, so that they outlast a reboot."""
DEVICES = "touch /dev/kvm /dev/vhost-vsock /dev/vhost-net; mkdir -p /dev/net; mknod /dev/net/tun c 10 200"
FORWARD = """
import os, socket, sys, threading
listener = socket.socket(fileno=int(sys.argv[1]))
def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
while True:
    caller, _ = listener.accept()
    try:
        callee = socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=10)
    except OSError:
        caller.close()
        continue
    callee.settimeout(None)
    for pair in ((caller, callee), (callee, caller)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""
"""Accepts on a socket of this machine, which it inherits, and calls in the network namespace that it runs in."""


def key_pair() -> tuple[str, str]:
    """A new ed25519 key: private in OpenSSH form, and public as in authorized_keys."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    return key.export_private_key().decode(), key.export_public_key().decode().strip()


def start_sshd(node: DebianNode, port: int, user: str) -> tuple[str, str]:
    """Start an sshd of its own for a new user `user`; the private login key and the host's public key."""
    root = Path(f"/proc/{node.pid}/root")
    login, login_public = key_pair()
    host, host_public = key_pair()
    node.ask("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", user)  # without it sshd calls them locked
    (root / SSHD).mkdir(exist_ok=True)
    (root / SSHD / f"host-{user}").write_text(host)
    (root / SSHD / f"host-{user}").chmod(0o600)
    (root / SSHD / f"keys-{user}").write_text(f"{login_public}\n")
    run_sshd(node, port, user)
    return login, host_public


def run_sshd(node: DebianNode, port: int, user: str) -> None:
    """Start the sshd of a user who is there already, as after a reboot."""
    (Path(f"/proc/{node.pid}/root") / "run/sshd").mkdir(exist_ok=True)
    keys = ("-o", f"HostKey=/{SSHD}/host-{user}", "-o", f"AuthorizedKeysFile=/{SSHD}/keys-{user}", "-o", f"AllowUsers={user}")
    node.ask("/usr/sbin/sshd", "-f", "/dev/null", "-p", str(port), *keys, "-o", "Subsystem=sftp /usr/lib/openssh/sftp-server")
    end = time.monotonic() + 30
    while not node.run("ss", "-Hltn", f"sport = :{port}").stdout:  # sshd listens only after it has left its parent
        assert time.monotonic() < end, f"sshd does not listen on port {port}"
        time.sleep(0.05)


def emulated_archive(image: Image) -> bytes:
    """The stand-in's archive of Kata with two more files, by which its guests are emulated."""
    packed = io.BytesIO()
    extra = {
        DROP_IN: (EMULATED.replace(INSTALLED_QEMU, ARCHIVED_QEMU).encode(), 0o644),
        ARCHIVED_QEMU: (QEMU.read_bytes(), 0o755),
    }
    with (
        tarfile.open(Path(image.site) / image.archive["file"]) as source,
        tarfile.open(fileobj=packed, mode="w:xz", preset=0) as archive,
    ):
        for member in source:
            archive.addfile(member, source.extractfile(member) if member.isreg() else None)
        for path, (content, mode) in extra.items():
            member = tarfile.TarInfo(f".{path}")
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Forward:
    """A port of this machine's loopback that leads to a port in a node's network namespace, until it is cut."""

    def __init__(self, node: DebianNode, port: int) -> None:
        self._node, self._target = node, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        number = self._listener.fileno()
        enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--target={self._node.holder.pid}", "--net", "--"]
        return subprocess.Popen([*enter, sys.executable, "-c", FORWARD, str(number), str(self._target)], pass_fds=[number])

    def cut(self) -> None:
        """End every connection, and take none until `join`: callers wait in the queue of the listening socket."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let nothing pass, while every connection stays open."""
        self._process.send_signal(signal.SIGSTOP)

    def join(self) -> None:
        """Take connections again."""
        self._process = self._start()

    def close(self) -> None:
        """End it for good."""
        self.cut()
        self._listener.close()


@dataclasses.dataclass
class EmulatedHost:
    """A running host: its node, the user who logs in there, and the port of this machine that leads to its sshd."""

    node: DebianNode
    user: str
    login_key: str
    host_key: str
    forward: Forward

    @property
    def root(self) -> Path:
        """The host's file system, as this machine sees it."""
        return Path(f"/proc/{self.node.pid}/root")

    def reboot(self) -> None:
        """Have its power cut and start it again; see `debian_node.after_a_power_cut`."""
        self.node = debian_node.after_a_power_cut(self.node)
        self.node.ask("sh", "-ec", DEVICES)
        run_sshd(self.node, 22, self.user)

    def entry(self, name: str) -> dict[str, Any]:
        """The host's entry in a stack file."""
        place = {"address": "127.0.0.1", "port": self.forward.port}
        return {"name": name, **place, "user": self.user, "hostKey": self.host_key}


@contextlib.contextmanager
def emulated_host(user: str = "admin", password: str | None = None) -> Iterator[EmulatedHost]:
    """A host whose `user` may become root by sudo, with `password` if there is one; gone on return."""
    image = debian_node.image()
    with tempfile.TemporaryDirectory(prefix="kata-nodes-site-") as folder:
        archive = emulated_archive(image)
        (Path(folder) / "debian").symlink_to(Path(image.site) / "debian")
        (Path(folder) / image.archive["file"]).write_bytes(archive)
        about = {"file": image.archive["file"], "sha256": hashlib.sha256(archive).hexdigest()}
        with debian_node.booted(dataclasses.replace(image, site=folder, archive=about), debian_node.program()) as node:
            node.ask("sh", "-ec", DEVICES)
            node.ask("rm", "-r", str(Path(debian_node.PROGRAM).parent))
            login, host_key = start_sshd(node, 22, user)
            node.ask("usermod", "--append", "--groups", "sudo", user)
            if password is None:
                Path(f"/proc/{node.pid}/root/etc/sudoers.d/{user}").write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")
            else:
                assert node.run("chpasswd", stdin=f"{user}:{password}\n").returncode == 0
            forward = Forward(node, 22)
            try:
                yield EmulatedHost(node, user, login, host_key, forward)
            finally:
                forward.close()


def stack_config(hosts: dict[str, EmulatedHost]) -> dict[str, Any]:
    """The plain configuration of a stack for these hosts by name."""
    image = next(iter(hosts.values())).node.image
    site = f"http://127.0.0.1:{PORT}"
    return {
        "kata-nodes:nodes": {"existing": [host.entry(name) for name, host in hosts.items()]},
        "kata-nodes:docker": {"repository": {"address": f"{site}/debian", "fingerprint": image.fingerprint}},
        "kata-nodes:kata": {
            "install": {"address": f"{site}/{image.archive['file']}", "sha256": image.archive["sha256"]},
        },
    }
