"""Rounds over joining nodes when the cluster refuses, without a cluster.

What would be lost if these failed: one bad node would keep all others from their proof, or a refusal would be met with a Job a
second.
"""

import json
from collections import Counter
from datetime import datetime, timezone
from typing import Any

import pytest

from clusterkit import joining, pod_proof
from clusterkit.controller.api import Api, Changed
from clusterkit.controller.rounds import Rounds
from clusterkit.pod_verdict import Words
from nodekit.errors import NodeError
from tests.clusterkit.reports import GUEST_ID
from tests.clusterkit.test_joining_rules import GIVEN, node, pod_of


class Cluster(Api):
    """Two tainted nodes, and whatever is made for them."""

    def __init__(self) -> None:
        self.given = GIVEN
        self.found = {name: node() for name in ("a", "b")}
        for name, one in self.found.items():
            one["metadata"] |= {"name": name, "uid": f"uid-{name}", "annotations": {}}
        self.made: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.refusing: dict[str, Exception] = {}
        self.data: dict[str, dict[str, str]] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return list(self.found.values())

    def jobs(self) -> dict[str, dict[str, Any]]:
        return dict(self.made)

    def pods(self) -> dict[str, dict[str, Any]]:
        return {}

    def events(self) -> dict[str, dict[str, Words]]:
        return {}

    def make(self, body: Any) -> dict[str, Any]:
        uid = f"job-{len(self.asked)}-{self.asked.total()}"
        self.asked[body["metadata"]["annotations"][pod_proof.NODE_ANNOTATION]] += 1
        self.made[uid] = {**body, "metadata": {**body["metadata"], "uid": uid, "name": uid}}
        return self.made[uid]

    def remove(self, found: Any) -> None:
        self.made.pop(found["metadata"]["uid"])

    def patch_node(self, name: str, patch: Any) -> None:
        if name in self.refusing:
            raise self.refusing[name]
        if isinstance(patch, dict):
            self.found[name]["metadata"]["annotations"] |= patch["metadata"]["annotations"]
        else:
            self.found[name]["spec"]["taints"] = []

    def kept(self, name: str) -> dict[str, str] | None:
        return self.data.get(name)

    def keep(self, name: str, wanted: Any) -> None:
        self.data[name] = dict(wanted)

    def tell(self, event: Any) -> None:
        self.asked["events"] += 1


def ends(cluster: Cluster, name: str, kind: str) -> str:
    """The Job that a node claims ends; its uid."""
    uid = joining.claim(cluster.found[name])
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.made[uid]["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": when}]}
    return uid


def test_node_that_the_cluster_refuses_keeps_no_other_from_its_proof_and_is_left_alone_for_a_while() -> None:
    cluster = Cluster()
    cluster.refusing["a"] = NodeError("cluster-forbidden", "no", "controller")
    rounds = Rounds(cluster)
    for _ in range(5):
        assert rounds.once() <= 300
    assert cluster.asked == {"a": 1, "b": 1}
    assert list(cluster.made) == [joining.claim(cluster.found["b"])]


def test_node_that_changed_while_it_was_looked_at_is_looked_at_again_at_once() -> None:
    cluster = Cluster()
    cluster.refusing["a"] = Changed("patch node a")
    rounds = Rounds(cluster)
    assert rounds.once() == 1
    cluster.refusing.clear()
    rounds.once()
    assert {joining.claim(one) for one in cluster.found.values()} == set(cluster.made) and len(cluster.made) == 2


def test_pod_that_a_deadline_took_away_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    rounds = Rounds(cluster)
    rounds.once()
    uid = joining.claim(cluster.found["a"])
    monkeypatch.setattr(cluster, "pods", lambda: {uid: pod_of(cluster.made[uid])})
    rounds.once()
    monkeypatch.setattr(cluster, "pods", dict)
    ends(cluster, "a", "Complete")
    assert rounds.once() == 1
    assert not cluster.found["a"]["spec"]["taints"]
    rounds.once()
    rounds.once()
    assert uid not in cluster.made and uid not in rounds.seen


def test_refusal_is_told_once_and_evidence_of_nodes_that_are_gone_goes() -> None:
    cluster = Cluster()
    cluster.data["joining-nodes-evidence"] = {"gone": "{}", "b": "{}"}
    rounds = Rounds(cluster)
    rounds.once()
    ends(cluster, "b", "Failed")
    assert rounds.once() <= 10 and rounds.once() <= 10
    assert cluster.asked["events"] == 1
    uid = ends(cluster, "a", "Complete")
    rounds.seen[uid] = pod_of(cluster.made[uid])
    rounds.once()
    assert json.loads(cluster.data["joining-nodes-evidence"]["a"])["guestBootId"] == GUEST_ID
    assert set(cluster.data["joining-nodes-evidence"]) == {"a", "b"}
