"""Hosts that answer as proven nodes do, with nothing behind them, to measure what the engine and its program cost."""

import asyncio
import hashlib
import json
import re
import threading
from pathlib import Path
from typing import Any

import asyncssh

PROOFS = Path(__file__).resolve().parents[1] / "tests" / "fleet" / "proofs" / "passed.json"
"""Of a real node, so that a state is as large as a real one."""
PROOF = re.compile(r"nodekit [0-9a-f]{12} prove'")


def evidence(node: str) -> dict[str, Any]:
    """What the verb `prove` prints of a node that passed in a booted guest and in a container."""
    climb = json.loads(PROOFS.read_text())[-1]["climbs"][-1]
    container = {key: climb[key] for key in ("rungs", "userNamespaces", "guestKernel", "commandLine")}
    return {
        "verb": "prove", "node": node, "changed": False, "passed": True, "hypervisor": "qemu", "sandbox": "sandbox-runtime",
        "proven": "container", "bootId": "7e253bf6-9676-4e9f-8afa-872edaf53cf7", "image": None, **container,
        "configFile": "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml",
        "kernelParams": "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 user_namespace.enable=1", "dockerVersion": "27.5.1",
        "note": "", "attempts": 1,
    }  # fmt: skip


def result(command: str, node: str) -> dict[str, Any] | None:
    """What a command of a node prints."""
    if PROOF.search(command):
        return evidence(node)
    machine = {"machineId": hashlib.sha256(node.encode()).hexdigest()[:32]}
    if " converge " in command:
        return {
            "verb": "converge",
            "node": node,
            "changed": True,
            "taken": ["preflight", "docker", "kata"],
            "run": "0" * 16,
            "dockerVersion": "27.5.1",
            **machine,
        }
    if "--remove" in command:
        return None
    return {"verb": "system", "id": "debian", "versionId": "13", **machine}


class _Host(asyncssh.SSHServer):
    """Lets everybody in, and counts who comes."""

    def __init__(self, hosts: "PlayedHosts") -> None:
        self.hosts = hosts

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.hosts.connections += 1

    def begin_auth(self, username: str) -> bool:
        return False


class _Uploads(asyncssh.SFTPServer):
    """Takes files and keeps none."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        return Path("/dev/null").open("r+b")

    def stat(self, path: bytes) -> Any:
        raise asyncssh.SFTPNoSuchFile("nothing is here")


async def _command(process: "asyncssh.SSHServerProcess[str]") -> None:
    document = await process.stdin.read()
    _, mark, state = document.rpartition("\n{\n")
    # A machine's first command has no state.
    node = json.loads("{" + state)["node"] if mark else json.loads(document)["node"] if document.startswith("{") else "host"
    if printed := result(process.command or "", node):
        process.stdout.write(json.dumps(printed) + "\n")
    process.exit(0)


class PlayedHosts:
    """`count` of them, each on a loopback port of its own, with one host key."""

    def __init__(self, count: int) -> None:
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = " ".join(key.export_public_key().decode().split()[:2])
        self.ports = asyncio.run_coroutine_threadsafe(self._listen(count, key), self._loop).result()

    async def _listen(self, count: int, key: asyncssh.SSHKey) -> list[int]:
        self._servers = [
            await asyncssh.listen(
                "127.0.0.1", 0, server_factory=lambda: _Host(self), server_host_keys=[key], process_factory=_command,
                sftp_factory=_Uploads,
            )
            for _ in range(count)
        ]  # fmt: skip
        return [server.get_port() for server in self._servers]

    def entries(self, count: int) -> list[dict[str, Any]]:
        """The first of them, as a stack file lists existing hosts."""
        ports = enumerate(self.ports[:count])
        place = {"address": "127.0.0.1", "user": "admin", "hostKey": self.host_key}
        return [{"name": f"host-{number:04}", "port": port, **place} for number, port in ports]
