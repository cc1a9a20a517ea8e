"""Cordon, drain and uncordon the nodes of a cluster, as one stack and as the user of a kubeconfig."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

from clusterkit import node_labels, rollout
from clusterkit.api.client import MERGE_PATCH, PERSON, Changed, Client
from clusterkit.api.cluster_reader import patiently
from clusterkit.api.kubeconfig import connected
from nodekit.errors import NodeError

POLL_SECONDS = 2.0
PATCH_TRIES = 5
"""Node controllers and kubelets write to the same object; each try begins with what is there."""


class ClusterNodes:
    """The nodes of one cluster; every error is a NodeError with a remedy, and none contains a secret."""

    def __init__(self, kubeconfig: str, context: str | None, owner: str) -> None:
        """`owner` is the stack, by which its own cordons are known."""
        connection = connected(kubeconfig, context)
        self.client, self.owner = Client(connection.api, PERSON, connection), owner
        self._listed: dict[str, list[Mapping[str, Any]]] | None = None
        """The nodes by their machine's id."""
        self._machines: dict[str, dict[str, str]] = {}
        """The machines that were asked for, and each one's id as it was written, by that id."""

    def name_of(self, host: str, machine_id: str, *, again: bool = False) -> str | None:
        """Name of the node that the machine `host` is; None where it is none of this cluster's.

        The nodes are listed once, and `again` for callers that are about to change one. Raises NodeError
        `cluster-machine-id-shared`, also where another machine said before that it has this id.
        """
        identifier = node_labels.plain(machine_id)
        machines = self._machines.setdefault(identifier, {})
        machines[host] = machine_id
        if again or self._listed is None:
            self._listed = node_labels.nodes_by_id(self.client.listed("nodes", "/api/v1/nodes"))
        # Of thousands of machines each asks, so that looking through all of them each time would take minutes.
        return node_labels.nodes_of(machines, self._listed.get(identifier, []))[0].get(host)

    def cordoned(self) -> dict[str, bool]:
        """The nodes that the stack has cordoned, and whether each is still being drained, so that nothing on it has changed."""
        nodes = self.client.listed("nodes", "/api/v1/nodes")
        ours = [node for node in nodes if rollout.is_cordoned_by(node, self.owner)]
        return {str(node["metadata"]["name"]): rollout.is_drained_by(node, self.owner) for node in ours}

    def cordon(self, node: str) -> bool:
        """Keep further pods away; whether that changed the node."""
        return self._patch(node, rollout.cordon)

    def uncordon(self, node: str) -> bool:
        """Take the stack's own cordon back; whether that changed the node."""
        return self._patch(node, rollout.uncordon)

    def emptied(self, node: str) -> bool:
        """Note that the drain has ended and the machine changes; whether that changed the node."""
        return self._patch(node, rollout.emptied)

    def take_back(self, node: str) -> bool:
        """Uncordon after a drain that failed, where nothing on the machine has changed; whether that changed the node."""
        return self._patch(node, rollout.take_back)

    def _patch(self, node: str, patch_of: Callable[[dict[str, Any], str], dict[str, Any] | None]) -> bool:
        path = f"/api/v1/nodes/{quote(node)}"
        for _ in range(PATCH_TRIES):
            current = self.client.get(f"node {node}", path)
            patch = patch_of(current, self.owner) if current else None
            if patch is None:
                return False
            with suppress(Changed):
                self.client.call("patch", f"node {node}", "PATCH", path, patch, content_type=MERGE_PATCH, expected=(404, 409))
                return True
        raise NodeError("cluster-unreachable", f"node {node} changed {PATCH_TRIES} times while it was being patched", "log")

    def leaving(self, node: str, evict_bare_pods: bool) -> list[rollout.Pod]:
        """Pods of `node` that a drain waits for; raises NodeError `drain-refused`."""
        pods = self.client.listed("pods", "/api/v1/pods", {"fieldSelector": f"spec.nodeName={node}"})
        return rollout.leaving(node, pods, evict_bare_pods)

    def evict(self, node: str, evict_bare_pods: bool, first: Collection[str]) -> dict[str, str]:
        """Ask for the eviction of each pod that has to leave `node`: those still there, each with what holds it up.

        One that comes back since it tolerates the cordon stays, as with kubectl drain; `first` are the uids of those before it.
        """
        pods = [pod for pod in self.leaving(node, evict_bare_pods) if pod.uid in first or not pod.comes_back]
        return {pod.path: self._evict(node, pod) for pod in pods}

    def _evict(self, node: str, pod: rollout.Pod) -> str:
        """Why a pod is not being evicted; empty where it is."""
        if pod.ending:
            return ""
        path = f"/api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}/eviction"
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": pod.namespace, "name": pod.name},
            # Another pod of that name, as a StatefulSet makes it, may be on another node.
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            self.client.call("create", "pods/eviction", "POST", path, body, expected=(403, 404, 409, 429, 500))
        except Changed as refused:
            status = refused.document if isinstance(refused.document, dict) else {}
            if refused.status in (429, 500):
                return rollout.held_up(node, pod, status)
            if refused.status == 403 and refused.refusal and not rollout.namespace_ends(status):
                raise refused.refusal from None
        return ""


async def drained(nodes: ClusterNodes, node: str, *, seconds: int, evict_bare_pods: bool, say: Callable[[str], None]) -> None:
    """Cordon `node` and evict its pods, within `seconds`; where that fails, it is uncordoned if this call has cordoned it, or one
    before it that was killed.

    Raises NodeError `drain-refused`.
    """
    end = time.monotonic() + seconds
    # Another node of the wave may run the API server, which is away while that node changes: hence each call with patience.
    waiting = False
    try:
        leaving = await asyncio.to_thread(patiently, partial(nodes.leaving, node, evict_bare_pods))  # refuses before any change
        first = [pod.uid for pod in leaving]
        await asyncio.to_thread(patiently, partial(nodes.cordon, node))
        while remaining := await asyncio.to_thread(patiently, partial(nodes.evict, node, evict_bare_pods, first)):
            if time.monotonic() >= end:
                raise rollout.not_empty(node, seconds, remaining)
            if not waiting:
                say(f"draining node {node}, up to {seconds} s: {len(remaining)} pods have to leave")
            waiting = True
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.to_thread(patiently, partial(nodes.emptied, node))
    except NodeError:
        with suppress(NodeError):  # the first failure is the one to report; the next run goes on from a cordoned node
            await asyncio.to_thread(nodes.take_back, node)
        raise
