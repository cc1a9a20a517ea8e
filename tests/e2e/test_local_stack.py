"""The whole local stack by the real engine: the first run, a second without a change, and the end of it all.

The tests of this module are one story and run in order: each needs the one before. Two nodes, and machines that die or hang, are
in `test_local_pool.py`; a guest that reads 0 and its cure in `test_canaries.py`, on a host that costs less than a machine.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checkout import LocalStack

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The copy; whatever happens, its stack is destroyed in the end."""
    stack = LocalStack(tmp_path_factory.mktemp("checkout"))
    yield stack
    stack.pulumi("destroy", "--yes", "--stack", "local")


def test_preview_of_a_new_stack_makes_and_contacts_nothing(checkout: LocalStack) -> None:
    output = checkout.pulumi("preview", "--stack", "local", "--diff")
    assert "user_namespace.enable=1" in output  # a preview shows what would be written
    assert not (checkout.folder / ".state" / "local").exists()
    assert checkout.processes() == []


def test_make_up_is_all_it_takes(checkout: LocalStack) -> None:
    checkout.make_up()


def test_outputs_hold_what_was_measured(checkout: LocalStack) -> None:
    rows = checkout.output("checklist")
    assert [row["passed"] for row in rows] == [True] * 5, rows
    assert set(rows[0]) == {"item", "passed", "measured"}
    (node,) = checkout.output("nodes")
    assert set(node) == {
        "name", "address", "dockerVersion", "kernelParams", "configFile", "userNamespaces", "guestKernel", "machineId",
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


def listening() -> set[int]:
    """TCP ports that something listens on, on this machine."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(fields[1].rsplit(":", 1)[1], 16) for fields in map(str.split, lines) if fields[3] == "0A"}


def test_destroy_leaves_nothing_behind(checkout: LocalStack) -> None:
    places = checkout.machines
    ports = {json.loads(file.read_text())["port"] for file in places.glob("*/place.json") if "port" in file.read_text()}
    assert len(ports) >= 2 and ports <= listening()  # machine and site
    assert len(checkout.processes()) >= 3  # QEMU, etcd, API server; the site is known by its port
    status, output = checkout.run("make", "down")
    assert status == 0, output
    assert checkout.types() == []
    assert checkout.processes() == []
    assert not ports & listening()
    assert not list(places.glob("*"))
    assert str(checkout.folder) not in Path("/proc/mounts").read_text()
