"""Draining by the real API server and its real disruption budgets, on nodes whose pods kwok plays.

Lost if these fail: pods that a budget keeps, a DaemonSet's pods, a node that a person has cordoned; and a node that stays
cordoned after a drain that failed.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusterkit import rollout
from clusterkit.api import cluster_nodes
from clusterkit.api.cluster_nodes import ClusterNodes, drained
from local import process
from nodekit.errors import NodeError
from tests.clusterkit.control_plane import HANGS, ControlPlane

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
FIRST, SECOND = "node-0", "node-1"
PODS = "/api/v1/namespaces/default/pods"
SETS = "/apis/apps/v1/namespaces/default/replicasets"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
OWNER = "kata-nodes/test"


class Cluster:
    """Two nodes, of which the first is to be drained; what a test makes is removed after it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.nodes = ClusterNodes(plane.kubeconfig, None, OWNER)
        self.messages: list[str] = []
        self.created: list[str] = []

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """An object."""
        created = self.plane.request("POST", path, body)
        self.created.append(f"{path}/{created['metadata']['name']}")
        return created

    def spec(self, app: str) -> dict[str, Any]:
        """Spec of a set whose pods the scheduler places."""
        template = {"metadata": {"labels": {"app": app}}, "spec": self.pod_spec()}
        return {"selector": {"matchLabels": {"app": app}}, "template": template}

    def pod_spec(self) -> dict[str, Any]:
        """Of a pod that runs until it is deleted."""
        return {"containers": [{"name": "sandbox", "image": "image"}], "terminationGracePeriodSeconds": 1}

    def replicas(self, app: str, count: int) -> None:
        """A ReplicaSet whose pods run on the first node, because the second takes none until they do."""
        self.plane.request("PATCH", f"/api/v1/nodes/{SECOND}", {"spec": {"unschedulable": True}})
        self.make(SETS, {"metadata": {"name": app}, "spec": {**self.spec(app), "replicas": count}})
        self.plane.until(f"{count} pods of {app}", lambda: len(self.ready(app)) == count)
        self.plane.request("PATCH", f"/api/v1/nodes/{SECOND}", {"spec": {"unschedulable": None}})

    def ready(self, app: str) -> list[dict[str, Any]]:
        """Running pods."""
        pods = self.plane.items(f"{PODS}?labelSelector=app%3D{app}")
        return [pod for pod in pods if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]]

    def budget(self, name: str, app: str, minimum: int) -> None:
        """A disruption budget that the controller has counted."""
        spec = {"minAvailable": minimum, "selector": {"matchLabels": {"app": app}}}
        self.make(BUDGETS, {"metadata": {"name": name}, "spec": spec})

        def counted() -> bool:
            status = self.plane.request("GET", f"{BUDGETS}/{name}").get("status", {})
            return bool(status.get("observedGeneration") and status.get("currentHealthy"))

        self.plane.until(f"the budget {name}", counted)

    def on(self, node: str) -> set[str]:
        """Names of the pods on a node."""
        return {pod["metadata"]["name"] for pod in self.plane.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")}

    def node(self, name: str = FIRST) -> tuple[bool, str | None]:
        """Whether a node is cordoned, and by which stack."""
        node = self.plane.request("GET", f"/api/v1/nodes/{name}")
        annotations = node["metadata"].get("annotations") or {}
        return bool(node["spec"].get("unschedulable")), annotations.get(rollout.CORDONED_BY)

    def drain(self, seconds: int = 60, *, evict_bare_pods: bool = False) -> None:
        """Drain the first node."""
        asyncio.run(drained(self.nodes, FIRST, seconds=seconds, evict_bare_pods=evict_bare_pods, say=self.messages.append))

    def refused(self, seconds: int = 4) -> NodeError:
        """The refusal of a drain."""
        with pytest.raises(NodeError) as refused:
            self.drain(seconds)
        assert refused.value.code == "drain-refused"
        return refused.value


@pytest.fixture
def cluster(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(cluster_nodes, "POLL_SECONDS", 0.3)
    plane.behave({FIRST: HANGS, SECOND: HANGS})
    cluster = Cluster(plane)
    yield cluster
    for path in reversed(cluster.created):
        if plane.get(path) is not None:
            plane.request("DELETE", f"{path}?gracePeriodSeconds=0")
    for name in (FIRST, SECOND):
        annotations = dict.fromkeys((rollout.CORDONED_BY, rollout.DRAINING))
        patch = {"metadata": {"annotations": annotations}, "spec": {"unschedulable": None}}
        plane.request("PATCH", f"/api/v1/nodes/{name}", patch)
    plane.until("the pods are gone", lambda: not plane.items(PODS))


def test_pods_move_to_other_nodes_as_their_budget_allows_and_daemon_sets_stay(cluster: Cluster) -> None:
    cluster.replicas("web", 3)
    cluster.budget("web", "web", 2)
    path = "/apis/apps/v1/namespaces/default/daemonsets"
    daemons = cluster.make(path, {"metadata": {"name": "agent"}, "spec": cluster.spec("agent")})
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": daemons["metadata"]["uid"], "controller": True}
    cluster.make(
        PODS,
        {
            "metadata": {"name": "agent", "ownerReferences": [owner]},
            "spec": {**cluster.pod_spec(), "nodeName": FIRST},
        },
    )
    cluster.plane.until("four pods", lambda: len(cluster.on(FIRST)) == 4)
    cluster.drain()
    assert cluster.on(FIRST) == {"agent"}
    assert len(cluster.on(SECOND)) == 3
    assert cluster.node() == (True, OWNER) and cluster.nodes.cordoned() == {FIRST: False}
    assert len(cluster.messages) == 1 and "3 pods have to leave" in cluster.messages[0]
    assert cluster.nodes.uncordon(FIRST) and cluster.node() == (False, None)


def test_a_pod_that_its_budget_keeps_is_waited_for_and_then_named_and_the_node_is_as_it_was(cluster: Cluster) -> None:
    cluster.replicas("db", 1)
    cluster.budget("db", "db", 1)
    (name,) = cluster.on(FIRST)
    error = cluster.refused()
    for part in (FIRST, "after 4 s", f"default/{name}", "disruption budget db needs 1 healthy pods and has 1 currently"):
        assert part in error.message
    assert "another replica" in error.remedy and "drainSeconds" in error.remedy
    assert cluster.on(FIRST) == {name}
    assert cluster.node() == (False, None)


def test_a_budget_that_allows_it_later_ends_the_wait(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.replicas("db", 1)
    cluster.budget("db", "db", 1)
    real = ClusterNodes.evict
    rounds: list[dict[str, str]] = []

    def evict(nodes: ClusterNodes, node: str, evict_bare_pods: bool, first: list[str]) -> dict[str, str]:
        rounds.append(real(nodes, node, evict_bare_pods, first))
        if len(rounds) == 2:
            cluster.plane.request("PATCH", f"{SETS}/db", {"spec": {"replicas": 2}})
        return rounds[-1]

    monkeypatch.setattr(ClusterNodes, "evict", evict)
    cluster.drain()
    assert any("disruption budget db" in why for why in rounds[0].values())
    assert cluster.on(FIRST) == set()


def test_a_pod_whose_namespace_is_being_removed_is_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = "/api/v1/namespaces"
    cluster.plane.request("POST", spaces, {"metadata": {"name": "leaving"}})
    cluster.plane.until("its account", lambda: cluster.plane.get(f"{spaces}/leaving/serviceaccounts/default"))
    pod = {"metadata": {"name": "last"}, "spec": {**cluster.pod_spec(), "nodeName": FIRST}}
    cluster.plane.request("POST", f"{spaces}/leaving/pods", pod)
    manager = process.alive(cluster.plane.folder / "kube-controller-manager.process")
    assert manager
    real = ClusterNodes.evict
    rounds: list[dict[str, str]] = []

    def evict(nodes: ClusterNodes, node: str, evict_bare_pods: bool, first: list[str]) -> dict[str, str]:
        rounds.append(real(nodes, node, evict_bare_pods, first))
        os.kill(manager, signal.SIGCONT)
        return rounds[-1]

    monkeypatch.setattr(ClusterNodes, "evict", evict)
    os.kill(manager, signal.SIGSTOP)  # it has not come to that pod yet
    try:
        cluster.plane.request("DELETE", f"{spaces}/leaving")
        cluster.drain(evict_bare_pods=True)
    finally:
        os.kill(manager, signal.SIGCONT)
    assert rounds[0] == {"leaving/last": ""} and cluster.on(FIRST) == set()


def test_a_pod_with_two_budgets_is_refused_at_once(cluster: Cluster) -> None:
    cluster.replicas("db", 1)
    cluster.budget("db", "db", 0)
    cluster.budget("db-too", "db", 0)
    error = cluster.refused(seconds=100)
    assert "more than one disruption budget" in error.message and "Leave one PodDisruptionBudget" in error.remedy
    assert cluster.node() == (False, None)


def test_a_pod_that_nothing_starts_elsewhere_is_refused_before_the_node_is_cordoned(cluster: Cluster) -> None:
    cluster.make(PODS, {"metadata": {"name": "tool"}, "spec": {**cluster.pod_spec(), "nodeName": FIRST}})
    cordons: list[str] = []
    cluster.nodes.cordon = lambda node: bool(cordons.append(node))  # type: ignore[method-assign]
    assert "default/tool" in cluster.refused().message
    assert cordons == [] and cluster.on(FIRST) == {"tool"}


def test_a_pod_that_nothing_starts_elsewhere_goes_where_a_setting_says_so(cluster: Cluster) -> None:
    cluster.make(PODS, {"metadata": {"name": "tool"}, "spec": {**cluster.pod_spec(), "nodeName": FIRST}})
    cluster.drain(evict_bare_pods=True)
    assert cluster.on(FIRST) == set()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"spec": {"unschedulable": True}}, (True, None)),
        ({"spec": {"unschedulable": True}, "metadata": {"annotations": {rollout.CORDONED_BY: "p/other"}}}, (True, "p/other")),
        ({"spec": {"unschedulable": True}, "metadata": {"annotations": {rollout.CORDONED_BY: OWNER}}}, (False, None)),
    ],
)
def test_a_node_that_somebody_cordoned_before_stays_cordoned(
    cluster: Cluster, before: dict[str, Any], after: tuple[bool, str | None]
) -> None:
    cluster.plane.request("PATCH", f"/api/v1/nodes/{FIRST}", before)
    was = cluster.node()
    cluster.drain()
    assert cluster.node() == was
    cluster.nodes.uncordon(FIRST)
    assert cluster.node() == after


def test_a_failed_drain_leaves_a_cordon_that_was_there_before(cluster: Cluster) -> None:
    cluster.replicas("db", 1)
    cluster.budget("db", "db", 1)
    cluster.plane.request(
        "PATCH",
        f"/api/v1/nodes/{FIRST}",
        {"spec": {"unschedulable": True}, "metadata": {"annotations": {rollout.CORDONED_BY: OWNER}}},
    )
    cluster.refused()
    assert cluster.node() == (True, OWNER)


def test_a_person_who_cordons_the_node_in_between_keeps_it_cordoned(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., dict[str, Any] | None] = rollout.cordon
    read: list[str] = []

    def cordon(node: dict[str, Any], owner: str) -> dict[str, Any] | None:
        patch = real(node, owner)
        if not read:
            cluster.plane.request("PATCH", f"/api/v1/nodes/{FIRST}", {"spec": {"unschedulable": True}})
        read.append(owner)
        return patch

    monkeypatch.setattr(rollout, "cordon", cordon)
    assert not cluster.nodes.cordon(FIRST)
    assert cluster.node() == (True, None) and len(read) == 2


def test_a_machine_is_known_by_its_id_and_one_of_no_node_is_left(cluster: Cluster) -> None:
    information = cluster.plane.request("GET", f"/api/v1/nodes/{SECOND}")["status"]["nodeInfo"]
    status = {"status": {"nodeInfo": {**information, "machineID": "a" * 32}}}
    cluster.plane.request("PATCH", f"/api/v1/nodes/{SECOND}/status", status)
    assert cluster.nodes.name_of("host", f"{'a' * 32}\n") == SECOND
    assert cluster.nodes.name_of("another", "b" * 32) is None


def test_a_machine_with_the_id_of_another_has_no_node_drained(cluster: Cluster) -> None:
    information = cluster.plane.request("GET", f"/api/v1/nodes/{SECOND}")["status"]["nodeInfo"]
    status = {"status": {"nodeInfo": {**information, "machineID": "c" * 32}}}
    cluster.plane.request("PATCH", f"/api/v1/nodes/{SECOND}/status", status)
    assert cluster.nodes.name_of("first", "c" * 32) == SECOND
    with pytest.raises(NodeError, match="so have machines first, second"):
        cluster.nodes.name_of("second", "c" * 32)
