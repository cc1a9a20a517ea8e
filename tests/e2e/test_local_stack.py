"""The whole local stack by the real engine: a failing guest, the cure, a second run, removal.

The tests of this module are one story and run in order: each needs the one before.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkout import Checkout

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400)]
ZERO = "sysctl.user.max_user_namespaces=0"
NEW_AFTER_PROOF = ("RuntimeClass", "ValidatingAdmissionPolicy", "PodTemplate", "core/v1:Namespace")


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
    assert len(checkout.processes()) >= 3  # QEMU, etcd, API server; the site is known by its port
    checkout.pulumi("destroy", "--yes", "--stack", "local")
    assert checkout.processes() == []
    assert not ports & listening()
    assert not list(places.glob("*"))
    assert str(checkout.folder) not in Path("/proc/mounts").read_text()
