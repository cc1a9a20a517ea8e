"""On which nodes a DaemonSet's pods run: by the selector, the required affinity and the tolerations of their spec."""

from collections.abc import Mapping
from typing import Any

from nodekit.rules.shapes import entries, mapping

KEEPS_AWAY = ("NoSchedule", "NoExecute")
ALWAYS_TOLERATED = tuple(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
        "network-unavailable",
    )
)
"""Taints of a node's passing states; all but the last are tolerated by every DaemonSet's pods (kubernetes.io, DaemonSet)."""


def runs_on(node: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Whether a DaemonSet with the pod fields of `spec` (nodeSelector, affinity, tolerations) has a pod on a node (core/v1)."""
    labels = node["metadata"].get("labels") or {}
    selector = mapping(spec.get("nodeSelector"))
    taints = mapping(node.get("spec")).get("taints") or []
    return (
        selector.items() <= labels.items()
        and _matches(node, mapping(mapping(spec.get("affinity")).get("nodeAffinity")))
        and all(_tolerated(taint, entries(spec.get("tolerations"))) for taint in taints)
    )


def _tolerated(taint: Mapping[str, Any], tolerations: list[Any]) -> bool:
    if taint.get("effect") not in KEEPS_AWAY or taint.get("key") in ALWAYS_TOLERATED:
        return True
    return tolerate(tolerations, taint)


def tolerate(tolerations: list[Any], taint: Mapping[str, Any]) -> bool:
    """Whether one of the tolerations of a pod is of the taint."""
    return any(_tolerates(mapping(each), taint) for each in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """As `ToleratesTaint` of core/v1: without a key it tolerates every one, without an effect each effect."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def _matches(node: Mapping[str, Any], affinity: Mapping[str, Any]) -> bool:
    """Whether one of the required terms holds, each of which is a list of conditions; an empty term holds nowhere."""
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not isinstance(required, Mapping):
        return True
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    for term in map(mapping, entries(required.get("nodeSelectorTerms"))):
        conditions = [(labels, each) for each in entries(term.get("matchExpressions"))]
        conditions += [(fields, each) for each in entries(term.get("matchFields"))]
        if conditions and all(_holds(values, mapping(each)) for values, each in conditions):
            return True
    return False


def _holds(values: Mapping[str, str], condition: Mapping[str, Any]) -> bool:
    value, named = values.get(str(condition.get("key"))), entries(condition.get("values"))
    match condition.get("operator"):
        case "In":
            return value is not None and value in named
        case "NotIn":
            return value not in named
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                difference = int(value or "") - int(named[0])
            except (ValueError, IndexError, TypeError):
                return False
            return difference > 0 if operator == "Gt" else difference < 0
    return False
