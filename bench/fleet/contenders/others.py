"""Ansible and pyinfra, as their communities use them, from an environment of their own."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.fleet.contenders import BASE, CHANGE, CHECK, Command, Contender, parameter
from bench.fleet.contenders.ssh import write_config
from bench.fleet.hosts import Fleet, Host
from tools.environment import CHECKOUT, virtual_environment

FOLDER = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "bench" / "fleet" / "requirements.txt"
VERSION = "5:27.5.1-1~debian.13~trixie"


class Other(Contender):
    """What both have in common: the locked environment, and the settings of the hosts."""

    def __init__(self, fleet: Fleet, hosts: Sequence[Host], folder: Path, limit: int) -> None:
        self.config = write_config(fleet, hosts, folder)
        self.programs = virtual_environment(LOCK) / "bin"
        super().__init__(fleet, hosts, folder, limit)

    @property
    def settings(self) -> dict[str, str]:
        """What the playbook and the deploy are given."""
        return {
            "repository": f"{self.fleet.address}/debian",
            "docker_version": VERSION,
            "kata_archive": f"{self.fleet.address}/{self.fleet.site.archive}",
            "kata_sha256": self.fleet.site.sha256,
            "kernel_params": f"{BASE} {parameter(self.limit)}",
        }

    def command(self, argv: list[str], **environment: str) -> Command:
        """A program of the environment."""
        own = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(self.programs.parent),
            "HOME": str(self.folder),  # no settings of the person who runs it
        }
        return Command([str(self.programs / argv[0]), *argv[1:]], self.folder, {**os.environ, **own, **environment})


class Ansible(Other):
    """ansible-core with pipelining and as many forks as hosts; the check is its check mode."""

    @property
    def sockets(self) -> Path:
        """Where OpenSSH keeps the sockets of connections that several tasks share."""
        return self.folder / "sockets"

    def set(self, limit: int) -> None:
        super().set(limit)
        names = "".join(f"{host.name}\n" for host in self.hosts)
        (self.folder / "inventory.ini").write_text(f"[all]\n{names}")
        (self.folder / "settings.json").write_text(json.dumps(self.settings))
        (self.folder / "ansible.cfg").write_text(
            f"[defaults]\ninventory = inventory.ini\nforks = {len(self.hosts)}\ninterpreter_python = /usr/bin/python3\n"
            f"[ssh_connection]\npipelining = True\ncontrol_path_dir = {self.sockets}\nssh_common_args = -F {self.config}\n"
        )

    def commands(self, job: str) -> dict[str, Command]:
        check = ["--check", "--diff"] if job == CHECK else []
        argv = ["ansible-playbook", *check, "--extra-vars", "@settings.json", str(FOLDER / "playbook.yml")]
        return {"ansible": self.command(argv, ANSIBLE_CONFIG=str(self.folder / "ansible.cfg"))}

    def fault(self, job: str, printed: str) -> str:
        rows = re.findall(r"ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", printed)
        right = [int(row) == 0 if job == CHECK else int(row) == 1 if job == CHANGE else int(row) > 5 for row in rows]
        return "" if len(right) == len(self.hosts) and all(right) else printed

    def after(self) -> None:
        for socket in self.sockets.glob("*"):
            with contextlib.suppress(subprocess.SubprocessError):
                argv = ["ssh", "-F", str(self.config), "-O", "exit", "-o", f"ControlPath={socket}", "x"]
                subprocess.run(argv, capture_output=True, check=False, timeout=10)


class Pyinfra(Other):
    """pyinfra with as many connections as hosts; the check is its dry run."""

    def set(self, limit: int) -> None:
        super().set(limit)
        settings = {**self.settings, "ssh_user": "root", "ssh_config_file": str(self.config)}
        settings |= {"ssh_key": str(self.folder / "id_ed25519"), "ssh_known_hosts_file": str(self.folder / "known_hosts")}
        hosts = [(host.address, settings) for host in self.hosts]
        (self.folder / "inventory.py").write_text(f"hosts = {hosts!r}\n")

    def commands(self, job: str) -> dict[str, Command]:
        how = ["--dry"] if job == CHECK else ["-y"]
        return {"pyinfra": self.command(["pyinfra", *how, "inventory.py", str(FOLDER / "deploy.py")])}

    def fault(self, job: str, printed: str) -> str:
        rows = re.findall(r"^ {4}(\S.*?) {2,}(\S.*?) {2,}(\S.*?)(?: {2,}.*)?$", printed, re.MULTILINE)
        if job == CHECK:
            return printed if [change for _, change, _ in rows if change not in ("-", "Change")] or not rows else ""
        successes = [success for name, _, success in rows if name == "Grand total"]
        expected = str(len(self.hosts)) if job == CHANGE else successes[0] if successes else ""
        return "" if successes == [expected] else printed
