"""A copy of the project in an empty folder, and the engine's commands in it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from local.boot import hung
from tests import interrupts

REPOSITORY = Path(__file__).resolve().parents[2]
SILENT = "Server not responding to keepalive"
"""What the command plugin reports of a connection whose machine fell silent."""


def copy(folder: Path) -> None:
    """The files of the project as a clone would have them, with what is not committed yet."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, check=True,
    ).stdout.decode().split("\0")  # fmt: skip
    for name in filter(None, files):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    # `make up` in this checkout leaves the salt of its own passphrase there, and the copy makes another one.
    local = folder / "stacks/Pulumi.local.yaml"
    local.write_text(re.sub(r"^encryptionsalt: .*\n", "", local.read_text(), flags=re.MULTILINE))


class Checkout:
    """A copy of the project in an empty folder, with the engine's environment."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        """`home` is the engine's own folder with its plugins; by default the one that set-up makes."""
        self.folder = folder
        self.within: list[str] = []
        """What starts the engine, such as nsenter(1) with its arguments."""
        interrupts.heed()  # benchmarks, too, make checkouts
        copy(folder)
        own = {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "VIRTUAL_ENV"}
        self.environment = {key: value for key, value in os.environ.items() if key not in own}
        if home:
            self.environment["PULUMI_HOME"] = str(home)
        output = subprocess.run(
            ["bash", "-c", 'eval "$(tools/env local)" && env -0'],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            check=True,
        ).stdout.decode()
        self.environment = dict(pair.split("=", 1) for pair in output.split("\0") if "=" in pair)

    def run(self, *command: str, stdin: str = "") -> tuple[int, str]:
        """Run a command in the copy: its exit status and combined output."""
        begin = time.monotonic()
        result = subprocess.run(
            [*self.within, *command], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, input=stdin, check=False,
        )  # fmt: skip
        print(f"--- {' '.join(command)}: exit {result.returncode} after {time.monotonic() - begin:.0f} s\n{result.stdout}")
        return result.returncode, result.stdout

    def pulumi(self, *argv: str, ok: bool = True, stdin: str = "") -> str:
        """Run a pulumi command; its combined output. Fails unless it ends as `ok` demands."""
        status, output = self.run("pulumi", *argv, "--non-interactive", stdin=stdin)
        assert (status == 0) == ok, output
        return output

    def state(self, stack: str = "local") -> dict[str, Any]:
        """The deployment as the backend holds it."""
        value: dict[str, Any] = json.loads(self.pulumi("stack", "export", "--stack", stack))
        return value

    def output(self, name: str) -> Any:
        """One stack output."""
        return json.loads(self.pulumi("stack", "output", name, "--json", "--show-secrets", "--stack", "local"))

    def types(self) -> list[str]:
        """Types of all resources of the stack."""
        return [resource["type"] for resource in self.state()["deployment"].get("resources", [])]

    def processes(self) -> list[str]:
        """Command lines of running processes that name this folder."""
        lines = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in line:
                lines.append(line)
        return lines


class LocalStack(Checkout):
    """The stack `local` with its machines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.pulumi("stack", "init", "local")

    def up(self, *argv: str, ok: bool = True) -> str:
        """`pulumi up`."""
        return self._up("pulumi", "up", "--yes", "--skip-preview", "--stack", "local", *argv, "--non-interactive", ok=ok)

    def make_up(self) -> str:
        """What a person types."""
        return self._up("make", "up", ok=True)

    def _up(self, *command: str, ok: bool) -> str:
        """Run `command`; once more where a machine hung meanwhile, as its error tells a person to, and for no other failure."""
        status, output = self.run(*command)
        if status != 0 and SILENT in output and (names := [folder.name for folder in self.machines.glob("*/") if hung(folder)]):
            print(f"--- {', '.join(names)} hung under emulation: the same command once more, which starts it again")
            status, output = self.run(*command)
        assert (status == 0) == ok, output
        return output

    def configure(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the configuration in the stack's file."""
        file = self.folder / "stacks" / "Pulumi.local.yaml"
        document = yaml.safe_load(file.read_text())
        change(document["config"])
        file.write_text(yaml.safe_dump(document))

    @property
    def machines(self) -> Path:
        """The folder of the machines' folders."""
        return self.folder / ".state" / "local" / "local"

    def machine(self, name: str) -> Path:
        """A machine's folder."""
        return self.machines / name

    def pid(self, name: str) -> int:
        """The pid of a machine's QEMU."""
        return int(json.loads((self.machine(name) / "process.json").read_text())["pid"])

    def kill(self, name: str) -> None:
        """End a machine's QEMU as a crash would."""
        os.kill(self.pid(name), signal.SIGKILL)

    def resources(self) -> dict[str, tuple[str, str]]:
        """Every command and upload of the state by name: its id, and when it was last made or changed."""
        deployment = self.state()["deployment"]["resources"]
        commands = [resource for resource in deployment if resource["type"].startswith("command:")]
        return {resource["urn"].rpartition("::")[2]: (resource["id"], resource["modified"]) for resource in commands}

    def changed(self, before: dict[str, tuple[str, str]]) -> set[str]:
        """Names of the nodes of which anything was made, changed or removed since; others by their whole name."""
        now = self.resources()
        differing = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
        return {match[0] if (match := re.match(r"local-\d+(?=-)", key)) else key for key in differing}
