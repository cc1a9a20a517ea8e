"""Three local nodes by the real engine: one replaced, one killed, one removed, and the rest left alone each time.

The long form of `test_local_stack`, which has two nodes. The tests are one story and run in order: each needs the one before.
"""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.checkout import LocalStack
from tests.nightly import LONG_FORMS

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400), LONG_FORMS]
NAMES = ("local-0", "local-1", "local-2")


class Pool(LocalStack):
    """A stack of three nodes and no cluster."""

    def count(self, number: int) -> None:
        """Have that many nodes in the stack's file."""

        def change(config: dict[str, Any]) -> None:
            config["kata-nodes:nodes"] = {"local": {"count": number, "memoryMiB": 2304, "cores": 2}}
            config.pop("kata-nodes:kubernetes", None)

        self.configure(change)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The copy; whatever happens, its stack is destroyed in the end."""
    made = Pool(tmp_path_factory.mktemp("checkout"))
    made.count(3)
    yield made
    made.pulumi("destroy", "--yes", "--stack", "local")


def test_three_nodes_come_up_and_each_is_proven(pool: Pool) -> None:
    pool.up()
    nodes = pool.output("nodes")
    assert [node["name"] for node in nodes] == list(NAMES)
    assert all(node["userNamespaces"] > 0 for node in nodes)
    keys = {(pool.machine(name) / "host_key.pub").read_text() for name in NAMES}
    ports = {json.loads((pool.machine(name) / "place.json").read_text())["port"] for name in NAMES}
    assert len(keys) == len(ports) == 3
    # Sparse: what a machine takes is what it wrote.
    for name in NAMES:
        disk = (pool.machine(name) / "disk.qcow2").stat()
        assert disk.st_blocks * 512 < 3 << 30


def test_disks_and_keys_of_others_stay_when_one_machine_is_replaced(pool: Pool) -> None:
    before, keys = pool.resources(), {name: (pool.machine(name) / "host_key.pub").read_text() for name in NAMES}
    (urn,) = [one["urn"] for one in pool.state()["deployment"]["resources"] if one["urn"].endswith("::local-1-machine")]
    pool.up("--replace", urn)
    assert pool.changed(before) == {"local-1"}
    after = {name: (pool.machine(name) / "host_key.pub").read_text() for name in NAMES}
    assert {name for name in NAMES if keys[name] != after[name]} == {"local-1"}
    assert before["local-1-proof"][0] != pool.resources()["local-1-proof"][0]


def test_removed_node_takes_nothing_else_with_it(pool: Pool) -> None:
    before = pool.resources()
    pool.count(2)
    pool.up()
    assert pool.changed(before) == {"local-2"}
    assert not pool.machine("local-2").exists()
    assert [node["name"] for node in pool.output("nodes")] == ["local-0", "local-1"]


def test_dead_machine_is_named_and_started_again_as_itself(pool: Pool) -> None:
    place = pool.machine("local-0") / "place.json"
    before, key, port = pool.resources(), (pool.machine("local-0") / "host_key.pub").read_text(), json.loads(place.read_text())
    pool.kill("local-0")
    said = pool.pulumi("preview", "--stack", "local")
    assert "The machine of node local-0 no longer runs" in said
    assert "local-0-machine" in said and "local-1-machine" not in said
    assert "The machine of node local-0 no longer runs" in pool.up()
    assert pool.changed(before) == {"local-0"}
    now = pool.resources()
    assert now["local-0-machine"][0] == before["local-0-machine"][0]
    assert now["local-0-proof"][0] != before["local-0-proof"][0]
    assert (pool.machine("local-0") / "host_key.pub").read_text() == key
    assert json.loads(place.read_text())["port"] == port["port"]


def test_nothing_is_left_to_do_then(pool: Pool) -> None:
    said = pool.up("--expect-no-changes")
    assert "no longer runs" not in said


def test_destroy_succeeds_where_machines_are_gone_already(pool: Pool) -> None:
    pool.kill("local-0")
    pool.kill("local-1")
    shutil.rmtree(pool.machine("local-1"))
    pool.pulumi("destroy", "--yes", "--stack", "local")
    assert pool.types() == []
    assert not list((pool.folder / ".state" / "local" / "local").glob("*"))
    assert pool.processes() == []
