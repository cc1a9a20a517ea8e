"""A Debian node in namespaces whose containers of the runtime `kata` run in emulated guests, by the stand-in for Kata's shim.

It starts in seconds and needs neither KVM nor vhost-vsock, so that what a proof finds in a container can be tried fault by fault.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.nodekit.debian_node import PROGRAM, DebianNode, Image, booted

FOLDER = "/opt/kata/share/defaults/kata-containers"
DROP_INS = f"{FOLDER}/config.d"
FAULT = f"{DROP_INS}/70-fault.toml"
"""A drop-in behind ours: what an administrator of the node may have put there."""
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
"""The kernel_params of the configuration file itself."""
PARAMETER = "user_namespace.enable=1"
"""The kernel_params of the stack."""
QEMU = "/usr/local/bin/qemu-emulated"
EMULATED = (
    f'[hypervisor.qemu]\npath = "{QEMU}"\ndefault_memory = 512\n[agent.kata]\ndial_timeout = 90\n[stand_in]\nemulated = true\n'
)
RUNTIME = {"runtimeType": "io.containerd.kata.v2"}


def write(node: DebianNode, path: str, content: str | bytes, mode: int = 0o644) -> None:
    """A file of the node, with the folders above it."""
    file = Path(f"/proc/{node.pid}/root") / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)


def remove(node: DebianNode, path: str) -> None:
    """Remove a file of the node, if it is there."""
    (Path(f"/proc/{node.pid}/root") / path.lstrip("/")).unlink(missing_ok=True)


def register(node: DebianNode, runtime: dict[str, object], **settings: object) -> None:
    """Make `kata` a runtime of the node's Docker, with other settings of the daemon, and have the daemon read them."""
    write(node, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": runtime}, **settings}))
    node.ask("systemctl", "reset-failed", "docker.service")
    node.ask("systemctl", "restart", "docker.service")


@contextmanager
def with_kata(image: Image, program: bytes) -> Iterator[DebianNode]:
    """The node with the archive's Kata installed by the verb `kata`, and its runtime registered."""
    with booted(image, program) as node:
        node.ask("sh", "-c", "mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
        node.succeed("kata", {**node.kata(), "kernelParams": [PARAMETER]})
        write(node, QEMU, (Path(__file__).parent / "qemu_emulated.sh").read_bytes(), 0o755)
        write(node, f"{DROP_INS}/60-emulated.toml", EMULATED)
        register(node, dict(RUNTIME))
        yield node


def image(node: DebianNode, name: str, replaced: dict[str, str] | None = None, *, without: str = "", user: str = "root") -> str:
    """An image of the node's Docker from the files that the proof's own is made of; `replaced` are scripts by path, without the
    leading slash, and `without` is a path that is left out."""
    code = (
        f"import sys; sys.path.insert(0, {PROGRAM!r}); from nodekit.host import container; "
        "sys.stdout.buffer.write(container.root_file_system('rootless'))"
    )
    node.ask("sh", "-ec", 'rm -rf /run/image; mkdir /run/image; python3 -I -c "$0" | tar -xC /run/image', code)
    if without:
        remove(node, f"/run/image/{without}")
    for path, text in (replaced or {}).items():
        remove(node, f"/run/image/{path}")
        write(node, f"/run/image/{path}", text, 0o755)
    node.ask("sh", "-c", f"tar -C /run/image -c . | docker import --change 'USER {user}' - {name}")
    return name


def left(node: DebianNode) -> str:
    """What is still there of containers of the runtime and of what the proof made for them; empty soon after they ended."""
    script = """
    timeout 60 sh -c 'while pgrep -x "containerd-shim|virtiofsd|qemu-system-x86" >/dev/null; do sleep 0.2; done' ||
        pgrep -l -x "containerd-shim|virtiofsd|qemu-system-x86" || true
    docker ps --all --quiet
    docker images --quiet kata-nodes-proof
    grep kata-stand-in /proc/mounts || true
    ls -d /run/kata-stand-in 2>/dev/null || true
    """
    return node.ask("sh", "-c", script)
