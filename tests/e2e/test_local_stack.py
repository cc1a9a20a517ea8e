"""The whole local stack by the real engine: a failing guest, its repair, a second run; a second node, replaced, killed, removed.

The tests of this module are one story and run in order: each needs the one before.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checkout import LocalStack

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400)]
NAMES = ("local-0", "local-1")
ZERO = "sysctl.user.max_user_namespaces=0"
NEW_AFTER_PROOF = ("RuntimeClass", "ValidatingAdmissionPolicy", "PodTemplate", "core/v1:Namespace")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The copy; whatever happens, its stack is destroyed in the end."""
    made = LocalStack(tmp_path_factory.mktemp("checkout"))
    yield made
    made.pulumi("destroy", "--yes", "--stack", "local")


def test_preview_of_a_new_stack_makes_and_contacts_nothing(checkout: LocalStack) -> None:
    said = checkout.pulumi("preview", "--stack", "local", "--diff")
    assert "user_namespace.enable=1" in said  # what would be written is readable
    assert not (checkout.folder / ".state" / "local").exists()
    assert checkout.processes() == []


def test_guest_that_reads_zero_fails_the_stack_at_the_proof(checkout: LocalStack) -> None:
    checkout.pulumi("config", "set", "--path", "kata-nodes:kata.kernelParams[0]", ZERO, "--stack", "local")
    said = checkout.up(ok=False)
    sentence = next(line for line in said.splitlines() if "[proof-user-namespaces-zero]" in line and "error: " in line)
    for part in ("local-0", "max_user_namespaces", "0", ZERO, "kata.kernelParams"):
        assert part in sentence
    types = checkout.types()
    assert not [one for one in types if any(late in one for late in NEW_AFTER_PROOF)], types


def make(checkout: LocalStack, target: str) -> None:
    """What a person types."""
    done = subprocess.run(
        ["make", target], cwd=checkout.folder, env=checkout.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_corrected_parameter_and_make_up_is_all_it_takes(checkout: LocalStack) -> None:
    checkout.pulumi("config", "rm", "--path", "kata-nodes:kata.kernelParams[0]", "--stack", "local")
    make(checkout, "up")


def test_outputs_hold_what_was_measured(checkout: LocalStack) -> None:
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


def test_no_secret_lies_in_state_in_clear(checkout: LocalStack) -> None:
    text = json.dumps(checkout.state())
    assert "PRIVATE KEY" not in text
    assert "client-key-data" not in text


def test_second_up_changes_nothing(checkout: LocalStack) -> None:
    checkout.up("--expect-no-changes")


def count(checkout: LocalStack, number: int) -> None:
    """Have that many nodes in the stack's file."""

    def change(config: dict[str, Any]) -> None:
        config["kata-nodes:nodes"]["local"]["count"] = number

    checkout.configure(change)


def host_keys(checkout: LocalStack) -> list[str]:
    """The host keys of both machines."""
    return [(checkout.machine(name) / "host_key.pub").read_text() for name in NAMES]


def test_another_node_is_proven_and_leaves_the_first_alone(checkout: LocalStack) -> None:
    before = checkout.resources()
    count(checkout, 2)
    checkout.up()
    assert checkout.changed(before) == {"local-1"}
    nodes = checkout.output("nodes")
    assert [node["name"] for node in nodes] == list(NAMES)
    assert all(node["userNamespaces"] > 0 for node in nodes)
    ports = {json.loads((checkout.machine(name) / "place.json").read_text())["port"] for name in NAMES}
    assert len(set(host_keys(checkout))) == len(ports) == 2
    for name in NAMES:  # sparse: what a machine takes is what it wrote
        assert (checkout.machine(name) / "disk.qcow2").stat().st_blocks * 512 < 3 << 30


def test_machine_that_is_replaced_gets_a_new_key_and_a_proof_and_the_other_stays(checkout: LocalStack) -> None:
    before, keys = checkout.resources(), host_keys(checkout)
    (urn,) = [one["urn"] for one in checkout.state()["deployment"]["resources"] if one["urn"].endswith("::local-1-machine")]
    checkout.up("--replace", urn)
    assert checkout.changed(before) == {"local-1"}
    after = host_keys(checkout)
    assert keys[0] == after[0] and keys[1] != after[1]
    assert before["local-1-proof"][0] != checkout.resources()["local-1-proof"][0]


def test_dead_machine_is_named_and_started_again_as_itself(checkout: LocalStack) -> None:
    place = checkout.machine("local-0") / "place.json"
    before, keys, port = checkout.resources(), host_keys(checkout), json.loads(place.read_text())["port"]
    checkout.kill("local-0")
    said = checkout.pulumi("preview", "--stack", "local")
    assert "The machine of node local-0 no longer runs" in said
    assert "local-0-machine" in said and "local-1-machine" not in said
    assert "The machine of node local-0 no longer runs" in checkout.up()
    assert checkout.changed(before) == {"local-0"}
    now = checkout.resources()
    assert now["local-0-machine"][0] == before["local-0-machine"][0]
    assert now["local-0-proof"][0] != before["local-0-proof"][0]
    assert host_keys(checkout) == keys
    assert json.loads(place.read_text())["port"] == port
    assert "no longer runs" not in checkout.up("--expect-no-changes")


def test_node_whose_machine_is_gone_is_removed_and_takes_nothing_else_with_it(checkout: LocalStack) -> None:
    before = checkout.resources()
    checkout.kill("local-1")
    shutil.rmtree(checkout.machine("local-1"))
    count(checkout, 1)
    checkout.up()
    assert checkout.changed(before) == {"local-1"}
    assert [node["name"] for node in checkout.output("nodes")] == ["local-0"]


def listening() -> set[int]:
    """TCP ports that something listens on, on this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(fields[1].rsplit(":", 1)[1], 16) for fields in map(str.split, lines) if fields[3] == "0A"}


def test_destroy_leaves_nothing_behind(checkout: LocalStack) -> None:
    places = checkout.folder / ".state" / "local" / "local"
    ports = {json.loads(file.read_text())["port"] for file in places.glob("*/place.json") if "port" in file.read_text()}
    assert len(ports) >= 2 and ports <= listening()  # machine and site
    assert len(checkout.processes()) >= 3  # QEMU, etcd, API server; the site is known by its port
    make(checkout, "down")
    assert checkout.types() == []
    assert checkout.processes() == []
    assert not ports & listening()
    assert not list(places.glob("*"))
    assert str(checkout.folder) not in Path("/proc/mounts").read_text()
