"""Why a node accepts no pod, or evicts one: the scheduler's words, what the node reports, and the kubelet's own refusal."""

import re
from collections.abc import Mapping
from typing import Any

ROOM_SECONDS = 10
"""How long to wait for a full node: a pod that is just ending makes room, and nobody should wait longer for the cause."""
FULL = re.compile(r"Too many pods|Insufficient [\w.-]+")
"""What the scheduler says of a node without room (pkg/scheduler/framework/plugins/noderesources, fit.go)."""
TAINT = re.compile(r"untolerated taint")
"""What it says of a taint; up to 1.34 with the taint's name, later without (plugins/tainttoleration)."""
VOLUME = re.compile(r"persistent ?volume|volume node affinity", re.IGNORECASE)
"""What it says of a claim that is not there or not bound, and of a volume that the node cannot reach (plugins/volumebinding)."""
CORDONED = "were unschedulable"
GATED = "scheduling gates"
"""What the API server says of a pod that no scheduler looks at yet (pkg/registry/core/pod, applySchedulingGatedCondition). A
proof's pod has no gate of its own, and the guard of its namespace lets nobody take one off."""
PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")
"""Conditions under which a kubelet evicts pods and its node gets a taint. Each stays for 5 minutes at least
(evictionPressureTransitionPeriod)."""
REJECTED = "was rejected"
"""What a kubelet says of a pod that it does not start, whatever the reason."""
DISRUPTION = "DisruptionTarget"
"""Condition of a pod that something takes off its node (kubernetes.io, Pod disruption conditions)."""

NOT_READY = "not Ready"
"""How `held` begins for a node whose kubelet accepts no pods, or reports nothing any more, as on a machine that is gone."""


def unready(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The condition of a node (core/v1) that says that it is not Ready; none for one that has not reported yet."""
    conditions = node.get("status", {}).get("conditions") or []
    return [each for each in conditions if each["type"] == "Ready" and each["status"] != "True"]


def pressures(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions of a node (core/v1) that say what it is short of."""
    conditions = node.get("status", {}).get("conditions") or []
    return [each for each in conditions if each["type"] in PRESSURES and each["status"] == "True"]


def held(node: Mapping[str, Any]) -> str:
    """What a node (core/v1) lacks to take pods, in the words of its conditions; empty where it lacks nothing."""
    named = [(NOT_READY, each) for each in unready(node)] + [(str(each["type"]), each) for each in pressures(node)]
    return "; ".join(f"{name}, {each.get('message') or 'without a message'}" for name, each in named)


def unscheduled(pod: Mapping[str, Any]) -> str | None:
    """The scheduler's words for a pod that it cannot place; None for every other pod."""
    for each in pod.get("status", {}).get("conditions") or []:
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return str(each.get("message") or each.get("reason") or "")
    return None


def kind(words: str, short_of: str) -> str:
    """What keeps the pod away: `full`, `cordoned`, `gated`, `volume`, `pressure`, `unready`, or empty for labels and taints.

    `short_of` is what `held` says of the node.
    """
    if FULL.search(words):
        return "full"
    if CORDONED in words:
        return "cordoned"
    if GATED in words:
        return "gated"
    if VOLUME.search(words):
        return "volume"
    if not (short_of and TAINT.search(words)):
        return ""
    return "unready" if short_of.startswith(NOT_READY) else "pressure"


def lasts(words: str, short_of: str) -> bool:
    """Whether the pod will not be placed soon either: labels and taints can change, a volume may be in the making, and a node
    that is not Ready may be so again in seconds."""
    return kind(words, short_of) not in ("", "volume", "unready")


def makes_way(pod: Mapping[str, Any]) -> bool:
    """Whether the scheduler has ended other pods for a pod that it could not place: they have their time to end, 30 s mostly."""
    return bool(pod.get("status", {}).get("nominatedNodeName"))


def disrupted(pod: Mapping[str, Any]) -> str:
    """Why a pod was taken off its node, in the words of the condition that preemption, eviction and NoExecute taints leave."""
    for each in pod.get("status", {}).get("conditions") or []:
        if each["type"] == DISRUPTION and each["status"] == "True":
            return str(each.get("message") or each.get("reason") or "")
    return ""


def turned_away(pod: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a kubelet rejected a pod that was scheduled to it, or ended one: the words, and `full`, `rejected` or `evicted`."""
    status = pod.get("status", {})
    reason, words = str(status.get("reason") or ""), str(status.get("message") or "")
    if status.get("phase") != "Failed":
        return None
    if reason == "Evicted":
        return words, "evicted"
    # OutOfpods, OutOfcpu, OutOfmemory: somebody else's pod came first (pkg/kubelet/lifecycle, predicate.go).
    if reason.startswith("OutOf"):
        return words, "full"
    # Devices, topology, sysctls, AppArmor, labels that have changed since, a node that shuts down (pkg/kubelet, rejectPod).
    return (words, "rejected") if REJECTED in words else None
