"""On which nodes a DaemonSet runs. Lost if these fail: a stack refused for a node that it never touches, or one not refused."""

from typing import Any

import pytest

from clusterkit.daemon_placing import runs_on

TAINT = {"key": "pool", "value": "gpu", "effect": "NoSchedule"}


def node(*taints: dict[str, str], **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "a", "labels": labels}, "spec": {"taints": list(taints)} if taints else {}}


def requiring(*terms: Any) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def condition(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("tolerations", "runs"),
    [
        (None, False),
        ([], False),
        ([{"operator": "Exists"}], True),
        ([{"key": "pool", "operator": "Exists"}], True),
        ([{"key": "pool", "value": "gpu"}], True),
        ([{"key": "pool", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}], True),
        ([{"key": "pool", "operator": "Exists", "effect": "NoExecute"}], False),
        ([{"key": "pool", "operator": "Equal", "value": "cpu"}], False),
        ([{"key": "pool"}], False),
        ([{"value": "gpu"}], False),
        ([{"key": "other", "operator": "Exists"}], False),
        ("all", False),
    ],
)
def test_a_taint_keeps_a_pod_away_unless_it_is_tolerated(tolerations: Any, runs: bool) -> None:
    assert runs_on(node(TAINT), {"tolerations": tolerations}) is runs


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "pool", "effect": "PreferNoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
    ],
)
def test_some_taints_keep_no_pod_of_a_daemon_set_away(taint: dict[str, str]) -> None:
    assert runs_on(node(taint), {})


@pytest.mark.parametrize(
    ("spec", "runs"),
    [
        ({}, True),
        ({"nodeSelector": {"pool": "kvm"}}, True),
        ({"nodeSelector": {"pool": "kvm", "zone": "a"}}, False),
        (requiring({"matchExpressions": [condition("pool", "In", "kvm", "x")]}), True),
        (requiring({"matchExpressions": [condition("pool", "NotIn", "kvm")]}), False),
        (requiring({"matchExpressions": [condition("zone", "NotIn", "a")]}), True),
        (requiring({"matchExpressions": [condition("pool", "Exists"), condition("zone", "Exists")]}), False),
        (requiring({"matchExpressions": [condition("zone", "DoesNotExist")]}), True),
        (requiring({"matchExpressions": [condition("cores", "Gt", "7")]}), True),
        (requiring({"matchExpressions": [condition("cores", "Lt", "8")]}), False),
        (requiring({"matchExpressions": [condition("pool", "Gt", "7")]}), False),
        (requiring({"matchFields": [condition("metadata.name", "In", "a")]}), True),
        (requiring({"matchFields": [condition("metadata.name", "NotIn", "a")]}), False),
        (requiring({}, {"matchExpressions": [condition("pool", "Exists")]}), True),
        (requiring({}), False),
        ({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}, True),
        ({"affinity": None}, True),
    ],
)
def test_selector_and_required_affinity_decide(spec: Any, runs: bool) -> None:
    assert runs_on(node(pool="kvm", cores="8"), spec) is runs
