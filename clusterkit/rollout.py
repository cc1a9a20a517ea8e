"""Which nodes of a cluster change together, which pods leave a node first, and what to report when a rollout stops."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterkit.daemon_placing import tolerate
from nodekit.errors import NodeError

CANARY, BATCH, DRAIN_SECONDS = 1, "10%", 900
LEAST_DRAIN_SECONDS, MOST_DRAIN_SECONDS = 10, 86400
CORDONED_BY = "kata-nodes/cordoned-by"
"""Annotation of a node: the stack that has cordoned it. A node that is cordoned without it was cordoned by a person."""
DRAINING = "kata-nodes/draining"
"""Annotation of a node: the stack whose drain has cordoned it, as long as nothing on the machine has changed since."""
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of the pods that a kubelet reports of its own static pods; the API server cannot end them."""
BUDGET = "DisruptionBudget"
"""Reason of the causes in a refused eviction that name a budget."""
NAMESPACE_ENDS = "NamespaceTerminating"
"""Reason of the cause in a refused eviction whose pod's namespace is being removed: the pod is deleted without it."""
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
"""Taint of a cordoned node (kubernetes.io, Well-Known Labels, Annotations and Taints)."""
SEVERAL_BUDGETS = "more than one PodDisruptionBudget"
"""In the API server's message about a pod that it never evicts (pkg/registry/core/pod/storage/eviction.go)."""


@dataclass(frozen=True)
class Pod:
    """A pod that has to leave a node."""

    namespace: str
    name: str
    uid: str
    ending: bool
    """Whether it is being deleted already."""
    comes_back: bool
    """Whether it tolerates a cordon, so that the pod in its place may come to the same node, for ever."""

    @property
    def path(self) -> str:
        """As in messages."""
        return f"{self.namespace}/{self.name}"


def waves(nodes: Sequence[str], canary: int, batch: str) -> list[list[str]]:
    """The nodes in the order in which they change: `canary` of them, then `batch` at a time; every node is in one wave.

    `batch` is a number, or a percentage of all nodes, rounded down, of which one node at least changes. Raises NodeError
    `rollout-refused`.
    """
    if canary < 1:
        raise NodeError("rollout-refused", f"rollout.canary is {canary}, so the first wave would have no node")
    share = re.fullmatch(r"([0-9]{1,9})(%?)", batch)
    if share is None:
        raise NodeError("rollout-refused", f"rollout.batch is {batch!r}, which is neither a number of nodes nor a percentage")
    number, percentage = int(share[1]), bool(share[2])
    if number < 1 or (percentage and number > 100):
        raise NodeError("rollout-refused", f"rollout.batch is {batch}, and a wave has at least one node and at most all of them")
    if not nodes:
        return []
    if canary > len(nodes):
        raise NodeError("rollout-refused", f"rollout.canary is {canary}, and there are {len(nodes)} nodes", "canary")
    size = max(1, len(nodes) * number // 100) if percentage else number
    rest = nodes[canary:]
    return [list(nodes[:canary]), *(list(rest[start : start + size]) for start in range(0, len(rest), size))]


def refuse_without_cluster(handler: object) -> None:
    """Refuse waves of nodes on which no `handler` is registered; raises NodeError `rollout-refused`."""
    if not handler:
        raise NodeError("rollout-refused", "a rollout drains nodes of a cluster, and these nodes serve none", "cluster")


def described(waves_of_nodes: Sequence[Sequence[str]]) -> str:
    """The waves as a preview shows them."""
    named = [f"{number} ({', '.join(nodes)})" for number, nodes in enumerate(waves_of_nodes, 1)]
    return f"rollout in {len(named)} {'wave' if len(named) == 1 else 'waves'}: {', then '.join(named)}"


def cordon(node: Mapping[str, Any], owner: str) -> dict[str, Any] | None:
    """The merge patch that keeps further pods away from `node`; None where it is cordoned already, by `owner` or by others."""
    if node["spec"].get("unschedulable"):
        return None
    about = {"resourceVersion": node["metadata"]["resourceVersion"], "annotations": {CORDONED_BY: owner, DRAINING: owner}}
    return {"metadata": about, "spec": {"unschedulable": True}}


def emptied(node: Mapping[str, Any], owner: str) -> dict[str, Any] | None:
    """The merge patch that ends `owner`'s drain, after which the machine changes; None where none is going on."""
    if not is_drained_by(node, owner):
        return None
    return {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"], "annotations": {DRAINING: None}}}


def uncordon(node: Mapping[str, Any], owner: str) -> dict[str, Any] | None:
    """The merge patch that undoes `owner`'s `cordon`; None where it is not `owner` who has cordoned `node`."""
    if not is_cordoned_by(node, owner):
        return None
    annotations = {CORDONED_BY: None, DRAINING: None}
    about = {"resourceVersion": node["metadata"]["resourceVersion"], "annotations": annotations}
    return {"metadata": about, "spec": {"unschedulable": None}}


def take_back(node: Mapping[str, Any], owner: str) -> dict[str, Any] | None:
    """The same for a drain that failed, where it or one before it that was killed has cordoned `node`; None where the machine's
    change has begun, which nothing has proven yet."""
    return uncordon(node, owner) if is_drained_by(node, owner) else None


def is_drained_by(node: Mapping[str, Any], owner: str) -> bool:
    """Whether a drain of the stack `owner` has cordoned `node`, and nothing there has changed since."""
    return bool((node["metadata"].get("annotations") or {}).get(DRAINING) == owner)


def is_cordoned_by(node: Mapping[str, Any], owner: str) -> bool:
    """Whether the stack `owner` has cordoned `node` and not taken it back."""
    return bool((node["metadata"].get("annotations") or {}).get(CORDONED_BY) == owner)


def leaving(node: str, pods: Iterable[Mapping[str, Any]], evict_bare_pods: bool) -> list[Pod]:
    """The pods (core/v1) of `node` that a drain waits for.

    Those of DaemonSets, static pods and finished ones stay, as with kubectl drain. Raises NodeError `drain-refused` for pods
    that no controller would start elsewhere, unless `evict_bare_pods`.
    """
    pods_to_leave: list[Pod] = []
    bare: list[str] = []
    for pod in pods:
        about = pod["metadata"]
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or MIRROR in (about.get("annotations") or {}):
            continue
        controllers = [owner["kind"] for owner in about.get("ownerReferences") or [] if owner.get("controller")]
        if "DaemonSet" in controllers:
            continue
        comes_back = tolerate(pod.get("spec", {}).get("tolerations") or [], CORDON)
        leaver = Pod(about["namespace"], about["name"], about["uid"], bool(about.get("deletionTimestamp")), comes_back)
        pods_to_leave.append(leaver)
        if not (controllers or leaver.ending or evict_bare_pods):
            bare.append(leaver.path)
    if bare:
        text = f"Node {node} is not drained: no controller would start its pods elsewhere: {_some(sorted(bare))}"
        raise NodeError("drain-refused", text, "bare")
    return pods_to_leave


def held_up(node: str, pod: Pod, status: Mapping[str, Any]) -> str:
    """Why an eviction of `pod` was refused for now, by the API server's `status`.

    Raises NodeError `drain-refused` where it will always be refused.
    """
    message = str(status.get("message") or "the API server gives no reason")
    if SEVERAL_BUDGETS in message:
        text = f"Node {node} is not drained: {pod.path} has more than one disruption budget, so the API server never evicts it"
        raise NodeError("drain-refused", text, "budgets")
    causes = (status.get("details") or {}).get("causes") or []
    return "; ".join(str(cause.get("message")) for cause in causes if cause.get("reason") == BUDGET) or message


def namespace_ends(status: Mapping[str, Any]) -> bool:
    """Whether an eviction was refused, by the API server's `status`, because the pod's namespace is being removed."""
    causes = (status.get("details") or {}).get("causes") or []
    return any(cause.get("reason") == NAMESPACE_ENDS for cause in causes)


def not_empty(node: str, seconds: int, pods: Mapping[str, str]) -> NodeError:
    """The refusal of a drain that did not end in time: `pods` are left, each with what keeps it, empty where it is ending."""
    some = [f"{path} ({why.rstrip('.') or 'is ending'})" for path, why in sorted(pods.items())]
    case = "budget" if any(pods.values()) else "ending"
    return NodeError("drain-refused", f"Node {node} still has pods after {seconds} s: {_some(some)}", case)


def stopped(
    node: str,
    waves_of_nodes: Sequence[Sequence[str]],
    begun: Collection[str],
    proven: Collection[str],
    cordoned: Collection[str],
    draining: Collection[str] = (),
) -> NodeError:
    """The state of the rollout when a step on `node` fails.

    `begun` are the nodes whose change began in this run, `proven` those that passed since, and `cordoned` those that the stack
    has cordoned: their change has begun as well, now or in a run before, but for those that are still `draining`.
    """
    number = next(number for number, nodes in enumerate(waves_of_nodes, 1) if node in nodes)
    states: dict[str, list[str]] = {"changed and proven": [], "changing": [], "unchanged": []}
    order = [name for nodes in waves_of_nodes for name in nodes]
    for name in order:
        if name not in begun and (name not in cordoned or name in draining):
            states["unchanged"].append(name)
        else:
            states["changed and proven" if name in proven else "changing"].append(name)
    states["cordoned"] = [name for name in order if name in cordoned]
    listed = "; ".join(f"{state}: {', '.join(names) or 'none'}" for state, names in states.items())
    return NodeError("rollout-stopped", f"The rollout stops at {node} in wave {number} of {len(waves_of_nodes)}: {listed}")


def _some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
