"""Gives the tests a real sshd on a loopback port, and a real engine with the plugin installed."""

import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from local.process import free_port

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Sshd:
    """A running sshd, and what is needed to log in to it."""

    port: int
    folder: Path
    user: str
    private_key: str
    host_key: str
    command: list[str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        (self.folder / "log").write_text("")
        self.process = subprocess.Popen(self.command)
        deadline = time.monotonic() + 10
        while "Server listening" not in self.log():
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"sshd did not start: {self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    @property
    def connection(self) -> dict[str, Any]:
        """The `connection` input for this server; gives up after one failed dial."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "privateKey": self.private_key,
            "hostKey": self.host_key,
            "dialErrorLimit": 0,
            "perDialTimeout": 10,
        }

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def logins(self) -> int:
        """Connections that logged in since the start."""
        return self.log().count("Accepted publickey")

    def contacts(self) -> int:
        """Connections of any kind since the start."""
        return self.log().count("Connection from ")


def new_key() -> tuple[str, str]:
    """A fresh ed25519 key: private in OpenSSH form, public as in authorized_keys."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    return key.export_private_key().decode(), key.export_public_key().decode().strip()


StartSshd = Callable[..., Sshd]


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[StartSshd]:
    """Starts an sshd with further lines of configuration."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.fail("sshd is missing: apt-get install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    servers: list[Sshd] = []

    def start(*lines: str) -> Sshd:
        folder = tmp_path / f"sshd{len(servers)}"
        folder.mkdir()
        host_private, host_public = new_key()
        user_private, user_public = new_key()
        (folder / "host").write_text(host_private)
        (folder / "host").chmod(0o600)
        (folder / "authorized").write_text(user_public + "\n")
        command = [program, "-D", "-f", str(folder / "config"), "-E", str(folder / "log")]
        server = Sshd(free_port(), folder, getpass.getuser(), user_private, host_public, command)
        servers.append(server)
        settings = [
            *lines,  # sshd takes the first value of a setting
            f"Port {server.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {folder / 'host'}",
            f"AuthorizedKeysFile {folder / 'authorized'}",
            f"PidFile {folder / 'pid'}",
            "PermitRootLogin yes",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "LogLevel VERBOSE",
            "MaxSessions 32",
            "MaxStartups 100",
            "AcceptEnv GREETING PULUMI_COMMAND_*",
            *([] if any(line.startswith("Subsystem ") for line in lines) else ["Subsystem sftp internal-sftp"]),
        ]
        (folder / "config").write_text("\n".join(settings) + "\n")
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def sshd(start_sshd: StartSshd) -> Sshd:
    """An sshd that allows 32 sessions a connection and the variables GREETING and PULUMI_COMMAND_*."""
    return start_sshd()


@dataclass
class Stack:
    """A Pulumi project in a folder of its own."""

    folder: Path
    environment: dict[str, str]

    def program(self, text: str) -> None:
        (self.folder / "__main__.py").write_text("import pulumi\nfrom pulumi_command import local, remote\n" + text)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, fails: bool = False) -> str:
        """The output of the engine, which must succeed, or fail where `fails` is set."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=120)
        assert (process.returncode != 0) == fails, output
        return output

    def up(self, *arguments: str, fails: bool = False) -> str:
        return self.run("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def state(self) -> dict[str, dict[str, Any]]:
        """Resources of the state by name, secrets encrypted."""
        deployment = json.loads(self.run("stack", "export"))["deployment"]
        return {resource["urn"].rpartition("::")[2]: resource for resource in deployment["resources"]}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An empty stack with the plugin installed; what it made is destroyed afterwards."""
    for program in ("pulumi", "pulumi-language-python"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not on PATH: build the tools first (make test does), or deselect: -m 'not engine'")
    home, state, folder = tmp_path / "home", tmp_path / "state", tmp_path / "project"
    for path in (home, state, folder):
        path.mkdir()
    launcher = tmp_path / "pulumi-resource-command"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/plugins/command/main.py" "$@"\n')
    launcher.chmod(0o755)
    (folder / "Pulumi.yaml").write_text("name: plugin-test\nruntime: python\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    environment.pop("SSH_AUTH_SOCK", None)
    result = Stack(folder, environment)
    result.run("plugin", "install", "resource", "command", "1.2.1", "--file", str(launcher))
    result.run("stack", "init", "test")
    yield result
