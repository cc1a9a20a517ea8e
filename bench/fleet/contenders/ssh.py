"""Plain parallel `ssh`: the floor, and what carries the node program alone."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.fleet.contenders import CHECK, Command, Contender
from bench.fleet.hosts import Fleet, Host

SCRIPT = Path(__file__).resolve().parents[1] / "parallel_ssh.sh"
FLOOR = "python3 -c 'import json'"


def write_config(fleet: Fleet, hosts: Sequence[Host], folder: Path) -> Path:
    """A configuration of OpenSSH by which `hosts` are reached as root, with keys that are known."""
    key, known = folder / "id_ed25519", folder / "known_hosts"
    key.write_text(fleet.login_key)
    key.chmod(0o600)
    known.write_text("".join(f"{host.address} {fleet.host_key}\n" for host in hosts))
    names = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in hosts)
    common = f"  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
    config = folder / "ssh_config"
    config.write_text(f"{names}Host *\n{common}  StrictHostKeyChecking yes\n")
    return config


class Ssh(Contender):
    """One connection a host, which runs one `python3` that imports json."""

    def __init__(self, fleet: Fleet, hosts: Sequence[Host], folder: Path, limit: int) -> None:
        self.config = write_config(fleet, hosts, folder)
        super().__init__(fleet, hosts, folder, limit)

    def everywhere(self, command: str, inputs: dict[str, str]) -> Command:
        """The command on every host, each with its own standard input."""
        for name, text in inputs.items():
            (self.folder / f"{name}.in").write_text(text)
        argv = ["sh", str(SCRIPT), str(self.config), str(self.folder), command, *inputs]
        return Command(argv, self.folder, dict(os.environ))

    def commands(self, job: str) -> dict[str, Command]:
        return {"ssh, the floor": self.everywhere(FLOOR, {host.name: "" for host in self.hosts})} if job == CHECK else {}
