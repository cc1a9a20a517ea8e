"""The whole local stack by the real engine: a failing guest, the cure, a second run, removal.

The tests of this module are one story and run in order: each needs the one before.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400)]
ZERO = "sysctl.user.max_user_namespaces=0"
NEW_AFTER_PROOF = ("RuntimeClass", "PodTemplate", "core/v1:Namespace")


class Checkout:
    """A copy of the project in an empty folder, with the engine's environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY, capture_output=True, check=True,
        ).stdout.decode().split("\0")  # fmt: skip
        for name in filter(None, files):
            if (REPOSITORY / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)
        own = {"PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "VIRTUAL_ENV"}
        self.environment = {key: value for key, value in os.environ.items() if key not in own}
        shown = subprocess.run(
            ["bash", "-c", 'eval "$(tools/env)" && env -0'], cwd=folder, env=self.environment, capture_output=True, check=True
        ).stdout.decode()
        self.environment = dict(pair.split("=", 1) for pair in shown.split("\0") if "=" in pair)

    def pulumi(self, *argv: str, ok: bool = True) -> str:
        """Run a pulumi command for stack `local`; its combined output. Fails unless it ends as `ok` says."""
        begin = time.monotonic()
        done = subprocess.run(
            ["pulumi", *argv, "--non-interactive"], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        print(f"--- pulumi {' '.join(argv)}: exit {done.returncode} after {time.monotonic() - begin:.0f} s\n{done.stdout}")
        assert (done.returncode == 0) == ok, done.stdout
        return done.stdout

    def state(self) -> dict[str, Any]:
        """The deployment as the backend holds it."""
        value: dict[str, Any] = json.loads(self.pulumi("stack", "export", "--stack", "local"))
        return value

    def output(self, name: str) -> Any:
        """One stack output."""
        return json.loads(self.pulumi("stack", "output", name, "--json", "--show-secrets", "--stack", "local"))

    def types(self) -> list[str]:
        """Types of all resources of the stack."""
        return [one["type"] for one in self.state()["deployment"].get("resources", [])]

    def processes(self) -> list[str]:
        """Command lines of running processes that name this folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.folder) in line:
                found.append(line)
        return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The copy; whatever happens, its stack is destroyed in the end."""
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    made.pulumi("stack", "init", "local")
    yield made
    made.pulumi("destroy", "--yes", "--stack", "local")


def test_preview_of_a_new_stack_makes_and_contacts_nothing(checkout: Checkout) -> None:
    said = checkout.pulumi("preview", "--stack", "local", "--diff")
    assert "user_namespace.enable=1" in said  # what would be written is readable
    assert not (checkout.folder / ".state" / "local").exists()
    assert checkout.processes() == []


def test_guest_that_reads_zero_fails_the_stack_at_the_proof(checkout: Checkout) -> None:
    checkout.pulumi("config", "set", "--path", "kata-nodes:kata.kernelParams[0]", ZERO, "--stack", "local")
    said = checkout.pulumi("up", "--yes", "--skip-preview", "--stack", "local", ok=False)
    sentence = next(line for line in said.splitlines() if "[proof-user-namespaces-zero]" in line and "error: " in line)
    for part in ("local-0", "max_user_namespaces", "0", ZERO, "kata.kernelParams"):
        assert part in sentence
    types = checkout.types()
    assert not [one for one in types if any(late in one for late in NEW_AFTER_PROOF)], types


def test_corrected_parameter_is_all_it_takes(checkout: Checkout) -> None:
    checkout.pulumi("config", "rm", "--path", "kata-nodes:kata.kernelParams[0]", "--stack", "local")
    checkout.pulumi("up", "--yes", "--skip-preview", "--stack", "local")


def test_outputs_hold_what_was_measured(checkout: Checkout) -> None:
    rows = checkout.output("checklist")
    assert [row["passed"] for row in rows] == [True] * 5, rows
    assert set(rows[0]) == {"item", "passed", "measured"}
    (node,) = checkout.output("nodes")
    assert set(node) == {
        "name", "address", "dockerVersion", "kernelParams", "configFile", "userNamespaces", "guestKernel",
    }  # fmt: skip
    assert node["dockerVersion"] == "27.5.1"
    assert node["userNamespaces"] > 0
    base = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
    assert node["kernelParams"] == f"{base} user_namespace.enable=1"
    assert node["configFile"].startswith("/opt/kata/share/defaults/kata-containers/")
    assert checkout.output("runtimeClass") == "kata-qemu"
    assert checkout.output("podTemplate") == "nested-sandbox"
    assert checkout.output("settings")["daycare"] == {"docker": {"runtime": "kata", "capAdd": ["NET_ADMIN", "SYS_ADMIN"]}}


def test_no_secret_lies_in_state_in_clear(checkout: Checkout) -> None:
    text = json.dumps(checkout.state())
    assert "PRIVATE KEY" not in text
    assert "client-key-data" not in text


def test_second_up_changes_nothing(checkout: Checkout) -> None:
    checkout.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes", "--stack", "local")


def listening() -> set[int]:
    """TCP ports that something listens on, on this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(fields[1].rsplit(":", 1)[1], 16) for fields in map(str.split, lines) if fields[3] == "0A"}


def test_destroy_leaves_nothing_behind(checkout: Checkout) -> None:
    places = checkout.folder / ".state" / "local" / "local"
    ports = {json.loads(file.read_text())["port"] for file in places.glob("*/place.json") if "port" in file.read_text()}
    assert len(ports) >= 2 and ports <= listening()  # machine and site
    assert len(checkout.processes()) >= 4  # QEMU, site, etcd, API server
    checkout.pulumi("destroy", "--yes", "--stack", "local")
    assert checkout.processes() == []
    assert not ports & listening()
    assert not list(places.glob("*"))
    assert str(checkout.folder) not in Path("/proc/mounts").read_text()
