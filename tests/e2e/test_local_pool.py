"""Two local nodes by the real engine: one replaced, one that dies or hangs, one removed, and the other left alone each time.

The long form of `test_local_stack`, which has one node. The tests are one story and run in order: each needs the one before.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.checkout import LocalStack
from tests.nightly import LONG_FORMS

pytestmark = [pytest.mark.engine, pytest.mark.machine, pytest.mark.timeout(2400), LONG_FORMS]
NAMES = ("local-0", "local-1")


class Pool(LocalStack):
    """A stack of two nodes and no cluster."""

    def count(self, number: int) -> None:
        """Have that many nodes in the stack's file."""

        def change(config: dict[str, Any]) -> None:
            config["kata-nodes:nodes"] = {"local": {"count": number, "memoryMiB": 2304, "cores": 2}}
            config.pop("kata-nodes:kubernetes", None)

        self.configure(change)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """The copy; whatever happens, its stack is destroyed in the end."""
    local_pool = Pool(tmp_path_factory.mktemp("checkout"))
    local_pool.count(2)
    yield local_pool
    local_pool.pulumi("destroy", "--yes", "--stack", "local")


def host_keys(pool: Pool) -> list[str]:
    """The host keys of both machines."""
    return [(pool.machine(name) / "host_key.pub").read_text() for name in NAMES]


def test_both_nodes_come_up_and_each_is_proven(pool: Pool) -> None:
    pool.up()
    nodes = pool.output("nodes")
    assert [node["name"] for node in nodes] == list(NAMES)
    assert all(node["userNamespaces"] > 0 for node in nodes)
    ports = {json.loads((pool.machine(name) / "place.json").read_text())["port"] for name in NAMES}
    assert len(set(host_keys(pool))) == len(ports) == 2
    # Sparse: what a machine takes is what it wrote.
    for name in NAMES:
        assert (pool.machine(name) / "disk.qcow2").stat().st_blocks * 512 < 3 << 30


def test_machine_that_is_replaced_gets_a_new_key_and_a_proof_and_the_other_stays(pool: Pool) -> None:
    before, keys = pool.resources(), host_keys(pool)
    (urn,) = [
        resource["urn"] for resource in pool.state()["deployment"]["resources"] if resource["urn"].endswith("::local-1-machine")
    ]
    pool.up("--replace", urn)
    assert pool.changed(before) == {"local-1"}
    after = host_keys(pool)
    assert keys[0] == after[0] and keys[1] != after[1]
    assert before["local-1-proof"][0] != pool.resources()["local-1-proof"][0]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        pytest.param(signal.SIGKILL, "no longer runs", id="dies"),
        pytest.param(signal.SIGSTOP, "runs but has not answered on its SSH port", id="hangs"),
    ],
)
def test_machine_that_ends_is_named_and_started_again_as_itself(pool: Pool, sent: signal.Signals, words: str) -> None:
    """A stopped QEMU plays the hang: the process lives, and SSH does not answer."""
    sentence = f"The machine of node local-0 {words}"
    place = pool.machine("local-0") / "place.json"
    before, keys, port, pid = pool.resources(), host_keys(pool), json.loads(place.read_text())["port"], pool.pid("local-0")
    os.kill(pid, sent)
    assert sentence in pool.up()
    assert pool.pid("local-0") != pid
    assert pool.changed(before) == {"local-0"}
    now = pool.resources()
    assert now["local-0-machine"][0] == before["local-0-machine"][0]
    assert now["local-0-proof"][0] != before["local-0-proof"][0]
    assert host_keys(pool) == keys
    assert json.loads(place.read_text())["port"] == port
    assert words not in pool.up("--expect-no-changes")


def test_node_whose_machine_is_gone_is_removed_and_takes_nothing_else_with_it(pool: Pool) -> None:
    before = pool.resources()
    pool.kill("local-1")
    shutil.rmtree(pool.machine("local-1"))
    pool.count(1)
    pool.up()
    assert pool.changed(before) == {"local-1"}
    assert [node["name"] for node in pool.output("nodes")] == ["local-0"]


def test_destroy_succeeds_where_the_machine_is_gone_already(pool: Pool) -> None:
    pool.kill("local-0")
    shutil.rmtree(pool.machine("local-0"))
    pool.pulumi("destroy", "--yes", "--stack", "local")
    assert pool.types() == []
    assert not list((pool.folder / ".state" / "local" / "local").glob("*"))
    assert pool.processes() == []
