"""The rules of a rollout: which nodes change together, what leaves a node, and what a person reads when it stops.

Lost if these fail: a wave that is larger than asked for, a node in no wave, a DaemonSet's pod evicted for nothing, a pod lost
that nothing starts again, a person's cordon taken back.
"""

import asyncio
import time
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterkit import rollout
from clusterkit.api import cluster_nodes, cluster_reader
from clusterkit.api.client import Changed
from clusterkit.api.cluster_nodes import ClusterNodes, drained
from nodekit.errors import NodeError

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=4), unique=True, min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("count", "canary", "batch", "sizes"),
    [
        (3, 1, "10%", [1, 1, 1]),
        (100, 1, "10%", [1, *[10] * 9, 9]),
        (29, 2, "10%", [2, *[2] * 13, 1]),
        (5, 1, "50%", [1, 2, 2]),
        (5, 1, "100%", [1, 4]),
        (5, 5, "1", [5]),
        (5, 2, "7", [2, 3]),
        (0, 1, "10%", []),
    ],
)
def test_waves_are_as_large_as_they_may_be(count: int, canary: int, batch: str, sizes: list[int]) -> None:
    assert [len(wave) for wave in rollout.waves([f"n{number}" for number in range(count)], canary, batch)] == sizes


class Restarting:
    """A cluster whose API server is away for some calls, and that has one pod to evict; what was called."""

    def __init__(self, away: int, refused: NodeError | None = None) -> None:
        self.away, self.refused, self.calls = away, refused, list[str]()

    def answer(self, name: str) -> None:
        if self.away:
            self.away -= 1
            raise NodeError("cluster-unreachable", "the API server does not answer")
        self.calls.append(name)

    def leaving(self, node: str, evict_bare_pods: bool) -> list[rollout.Pod]:
        self.answer("leaving")
        self.away += 1
        return []

    def cordon(self, node: str) -> bool:
        self.answer("cordon")
        self.away += 1
        return True

    def evict(self, node: str, evict_bare_pods: bool, first: list[str]) -> dict[str, str]:
        self.answer("evict")
        if self.refused:
            self.away = 1
            raise self.refused
        return {} if self.calls.count("evict") > 1 else {"default/web": ""}

    def emptied(self, node: str) -> bool:
        self.answer("emptied")
        return True

    def take_back(self, node: str) -> bool:
        self.answer("take back")
        return True


def drain(cluster: Restarting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reader, "POLL_SECONDS", 0)
    monkeypatch.setattr(cluster_nodes, "POLL_SECONDS", 0)
    asyncio.run(drained(cluster, "a", seconds=60, evict_bare_pods=False, say=lambda text: None))  # type: ignore[arg-type]


def test_an_api_server_that_restarts_does_not_end_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Restarting(1)
    drain(cluster, monkeypatch)
    assert cluster.calls == ["leaving", "cordon", "evict", "evict", "emptied"]


def test_a_refused_drain_is_reported_although_the_node_cannot_be_uncordoned(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NodeError) as caught:
        drain(Restarting(0, NodeError("cluster-forbidden", "me may not", verbs="create", resource="pods/eviction")), monkeypatch)
    assert caught.value.code == "cluster-forbidden"


class Held:
    """The client of a cluster with one node, whose pod a disruption budget keeps as long as `holding`."""

    def __init__(self) -> None:
        self.holding = True
        self.node: dict[str, Any] = {"metadata": {"name": "a", "resourceVersion": "1", "annotations": {}}, "spec": {}}

    def listed(self, resource: str, path: str, query: Any = None) -> list[dict[str, Any]]:
        return [pod("db", "StatefulSet")] if self.holding else []

    def get(self, resource: str, path: str) -> dict[str, Any]:
        return self.node

    def call(self, verb: str, resource: str, method: str, path: str, body: Any, **options: Any) -> dict[str, Any]:
        if method == "POST":
            raise Changed("evict", 429, {"message": "Cannot evict pod as it would violate the pod's disruption budget."})
        for place, changes in (("annotations", body["metadata"]["annotations"]), ("spec", body.get("spec", {}))):
            fields = self.node["metadata"]["annotations"] if place == "annotations" else self.node["spec"]
            fields |= changes
            for key in [key for key, value in changes.items() if value is None]:
                del fields[key]
        return self.node

    def drain(self, seconds: int = 0) -> None:
        nodes = object.__new__(ClusterNodes)
        client: Any = self
        nodes.client, nodes.owner = client, "p/s"
        asyncio.run(drained(nodes, "a", seconds=seconds, evict_bare_pods=False, say=lambda text: None))


def test_a_drain_that_fails_after_one_that_was_killed_leaves_no_node_cordoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is cut off in the middle of its drain, as where a drain beside it fails and the engine ends the program."""
    monkeypatch.setattr(cluster_nodes, "POLL_SECONDS", 0)
    cluster = Held()
    killed = mock.patch.object(ClusterNodes, "evict", side_effect=asyncio.CancelledError)
    with killed, pytest.raises(asyncio.CancelledError):
        cluster.drain()
    assert cluster.node["spec"] == {"unschedulable": True}
    for _ in range(2):
        with pytest.raises(NodeError, match="still has pods"):
            cluster.drain()
        assert cluster.node["spec"] == {} and cluster.node["metadata"]["annotations"] == {}


def test_a_node_whose_change_has_begun_stays_cordoned_when_another_drain_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's change was made, and Kata's drains the node again: nothing has proven it yet."""
    monkeypatch.setattr(cluster_nodes, "POLL_SECONDS", 0)
    cluster = Held()
    cluster.holding = False
    cluster.drain()
    assert cluster.node["spec"] == {"unschedulable": True}
    cluster.holding = True
    with pytest.raises(NodeError, match="still has pods"):
        cluster.drain()
    assert cluster.node["spec"] == {"unschedulable": True}
    assert cluster.node["metadata"]["annotations"] == {rollout.CORDONED_BY: "p/s"}


def test_thousands_of_machines_are_found_without_looking_through_all_of_them_for_each() -> None:
    """With a rollout every machine asks in every run, also where nothing changes; 600 took half a minute, 1000 two."""
    count = 2000
    ids = {f"host-{number}": f"{number:032x}" for number in range(count)}
    reads: list[str] = []

    class Client:
        def listed(self, resource: str, path: str) -> list[dict[str, Any]]:
            reads.append(path)
            infos = [{"nodeInfo": {"machineID": identifier}} for identifier in ids.values()]
            return [{"metadata": {"name": f"node-{number}"}, "status": info} for number, info in enumerate(infos)]

    nodes = object.__new__(ClusterNodes)
    client: Any = Client()
    nodes.client, nodes._listed, nodes._machines = client, None, {}
    begin = time.monotonic()
    assert [nodes.name_of(host, identifier) for host, identifier in ids.items()] == [f"node-{number}" for number in range(count)]
    assert time.monotonic() - begin < 10 and len(reads) == 1
    with pytest.raises(NodeError, match="so have machines host-7, other"):
        nodes.name_of("other", ids["host-7"])


class Returning:
    """The client of a cluster on whose cordoned node the pod of an operator that tolerates every taint comes back each time."""

    def __init__(self, tolerations: list[Any]) -> None:
        self.pods = {name: pod(name) for name in ("web", "operator")}
        self.pods["operator"]["spec"] = {"tolerations": tolerations}
        self.evicted: list[str] = []

    def listed(self, resource: str, path: str, query: Any = None) -> list[dict[str, Any]]:
        return list(self.pods.values())

    def get(self, resource: str, path: str) -> dict[str, Any]:
        return {"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {}}

    def call(self, verb: str, resource: str, method: str, path: str, body: Any, **options: Any) -> dict[str, Any]:
        if method == "POST":
            name = body["metadata"]["name"]
            self.evicted.append(name)
            evicted = self.pods.pop(name)
            if evicted.get("spec", {}).get("tolerations"):
                self.pods[name] = {**evicted, "metadata": {**evicted["metadata"], "uid": f"uid-{len(self.evicted)}"}}
        return {}


EVERY_TAINT = [{"operator": "Exists"}]


@pytest.mark.parametrize("tolerations", [EVERY_TAINT, [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]])
def test_a_pod_that_comes_back_because_it_tolerates_the_cordon_is_evicted_once(
    tolerations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of cilium-operator (issue 28549) and tigera-operator (2537) did; kubectl drain waits for the first ones alone."""
    monkeypatch.setattr(cluster_nodes, "POLL_SECONDS", 0)
    nodes = object.__new__(ClusterNodes)
    client: Any = Returning(tolerations)
    nodes.client, nodes.owner = client, "o"
    asyncio.run(drained(nodes, "a", seconds=1, evict_bare_pods=False, say=lambda text: None))
    assert sorted(client.evicted) == ["operator", "web"] and list(client.pods) == ["operator"]


def test_a_pod_that_came_before_the_cordon_was_known_is_evicted_too() -> None:
    nodes = object.__new__(ClusterNodes)
    client: Any = Returning(EVERY_TAINT)
    nodes.client = client
    assert nodes.evict("a", False, ["uid-operator"]) == {"team/web": "", "team/operator": ""}
    assert sorted(client.evicted) == ["operator", "web"]


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(NAMES, st.integers(1, 60), st.one_of(st.integers(1, 70).map(str), st.integers(1, 100).map("{}%".format)))
def test_every_node_is_in_one_wave_and_no_wave_is_larger_than_asked_for(nodes: list[str], canary: int, batch: str) -> None:
    canary = min(canary, len(nodes))
    first, *others = rollout.waves(nodes, canary, batch)
    assert [name for wave in (first, *others) for name in wave] == nodes
    share = int(batch.rstrip("%"))
    most = max(1, len(nodes) * share / 100) if batch.endswith("%") else share
    assert len(first) == canary and all(1 <= len(wave) <= most for wave in others)


@pytest.mark.parametrize(
    ("canary", "batch", "text", "remedy"),
    [
        (0, "10%", "rollout.canary is 0", "from 1 on"),
        (4, "10%", "rollout.canary is 4, and there are 3 nodes", "at most the number of nodes"),
        (1, "0", "rollout.batch is 0", "from 1% to 100%"),
        (1, "0%", "rollout.batch is 0%", "from 1% to 100%"),
        (1, "101%", "rollout.batch is 101%", "from 1% to 100%"),
        (1, "-1", "rollout.batch is '-1'", "from 1% to 100%"),
        (1, "1.5", "rollout.batch is '1.5'", "from 1% to 100%"),
        (1, "10 %", "rollout.batch is '10 %'", "from 1% to 100%"),
        (1, "", "rollout.batch is ''", "from 1% to 100%"),
    ],
)
def test_waves_of_no_node_are_refused_with_the_remedy(canary: int, batch: str, text: str, remedy: str) -> None:
    with pytest.raises(NodeError) as refused:
        rollout.waves(["a", "b", "c"], canary, batch)
    assert refused.value.code == "rollout-refused"
    assert text in refused.value.message and remedy in refused.value.remedy


def pod(name: str, owner: str | None = "ReplicaSet", *, phase: str = "Running", **about: Any) -> dict[str, Any]:
    """A pod whose controller is of the kind `owner`."""
    owners = [{"kind": owner, "name": "o", "controller": True}] if owner else []
    metadata = {"namespace": "team", "name": name, "uid": f"uid-{name}", "ownerReferences": owners, **about}
    return {"metadata": metadata, "status": {"phase": phase}}


def test_pods_of_daemon_sets_static_pods_and_finished_ones_stay() -> None:
    pods = [
        pod("web"), pod("agent", "DaemonSet"), pod("etcd", "Node", annotations={rollout.MIRROR: "x"}),
        pod("done", None, phase="Succeeded"), pod("failed", None, phase="Failed"), pod("db", "StatefulSet"),
        pod("going", None, deletionTimestamp="2026-11-26T17:00:00Z"),
    ]  # fmt: skip
    leaving = rollout.leaving("n", pods, evict_bare_pods=False)
    assert [(pod.name, pod.ending) for pod in leaving] == [("web", False), ("db", False), ("going", True)]


@pytest.mark.parametrize("owners", [[], [{"kind": "Thing", "name": "t"}]])
def test_pods_that_nothing_starts_elsewhere_are_refused_by_name_unless_a_setting_says_otherwise(owners: list[Any]) -> None:
    pods = [pod("web"), pod("tool", None, ownerReferences=owners)]
    with pytest.raises(NodeError, match="team/tool") as refused:
        rollout.leaving("n", pods, evict_bare_pods=False)
    assert refused.value.code == "drain-refused" and "evictBarePods: true" in refused.value.remedy
    assert "web" not in refused.value.message
    assert [pod.name for pod in rollout.leaving("n", pods, evict_bare_pods=True)] == ["web", "tool"]


def node(*, cordoned: bool, owner: str | None) -> dict[str, Any]:
    """A node as the API server has it."""
    annotations = {rollout.CORDONED_BY: owner} if owner else {}
    spec = {"unschedulable": True} if cordoned else {}
    return {"metadata": {"name": "n", "resourceVersion": "7", "annotations": annotations}, "spec": spec}


@pytest.mark.parametrize(
    ("cordoned", "owner", "cordons", "uncordons"),
    [
        (False, None, True, False),
        (True, None, False, False),  # a person's
        (True, "p/other", False, False),
        (True, "p/s", False, True),  # a run that was killed
        (False, "p/s", True, True),  # a person has uncordoned it meanwhile
    ],
)
def test_only_the_stacks_own_cordon_is_taken_back(cordoned: bool, owner: str | None, cordons: bool, uncordons: bool) -> None:
    known = node(cordoned=cordoned, owner=owner)
    assert (rollout.cordon(known, "p/s") is not None, rollout.uncordon(known, "p/s") is not None) == (cordons, uncordons)


def test_a_cordon_and_its_mark_are_one_write_of_the_object_that_was_read() -> None:
    patch = rollout.cordon(node(cordoned=False, owner=None), "p/s")
    about = {"resourceVersion": "7", "annotations": {rollout.CORDONED_BY: "p/s", rollout.DRAINING: "p/s"}}
    assert patch == {"metadata": about, "spec": {"unschedulable": True}}
    back = rollout.uncordon(node(cordoned=True, owner="p/s"), "p/s")
    assert back == {
        "metadata": {"resourceVersion": "7", "annotations": {rollout.CORDONED_BY: None, rollout.DRAINING: None}},
        "spec": {"unschedulable": None},
    }


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(st.data(), NAMES)
def test_a_stopped_rollout_names_every_node_in_one_state(data: st.DataObject, nodes: list[str]) -> None:
    some = st.sets(st.sampled_from(nodes))
    begun, cordoned = data.draw(some), data.draw(some)
    proven = data.draw(some) - cordoned
    error = rollout.stopped(nodes[-1], rollout.waves(nodes, 1, "3"), begun, proven, cordoned)
    states = dict(part.split(": ") for part in error.message.partition(": ")[2].split("; "))
    names = {state: [] if listed == "none" else listed.split(", ") for state, listed in states.items()}
    assert names.pop("cordoned") == [name for name in nodes if name in cordoned]
    assert sorted(name for listed in names.values() for name in listed) == sorted(nodes)
    assert set(names["unchanged"]) == set(nodes) - begun - cordoned
    assert set(names["changed and proven"]) == begun & proven
    assert "pulumi up again" in error.remedy


def test_a_stopped_rollout_names_the_wave() -> None:
    error = rollout.stopped("b", [["a"], ["b", "c"], ["d"]], {"a", "b"}, {"a"}, {"b"})
    assert error.message == (
        "The rollout stops at b in wave 2 of 3: changed and proven: a; changing: b; unchanged: c, d; cordoned: b"
    )
