"""Reads a cluster through its API: what the Kubernetes plugin cannot list (nodes by label, Jobs with their pods)."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import quote

from clusterkit import pod_log, pod_proof, pod_room, pod_verdict
from clusterkit.api.client import PERSON, Client
from clusterkit.api.kubeconfig import connected
from nodekit.errors import NodeError

POLL_SECONDS = 1.0
GRACE_SECONDS = 60
"""Added to the Jobs' own deadline: the Job controller needs a while to report it."""
PATIENCE_SECONDS = 60
"""How long an API server may fail while proofs run: another one is elected or started, and the Jobs go on meanwhile."""
ADOPTABLE = {"Namespace": "/api/v1/namespaces", "RuntimeClass": "/apis/node.k8s.io/v1/runtimeclasses"}
"""Where the kinds are that a stack can adopt."""
POLICIES = ("/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
"""Where an API server lists the resources of a group, and the one that guards are made of, from Kubernetes 1.30 on."""


Read = TypeVar("Read")


def patiently(read: Callable[[], Read]) -> Read:
    """What `read` returns; asked again while the API server fails, for a while. Raises NodeError."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return read()
        except NodeError as error:
            if error.code != "cluster-unreachable" or time.monotonic() > end:
                raise
        time.sleep(POLL_SECONDS)


class Reader:
    """One cluster, read as the user of a kubeconfig; every error is a NodeError with a remedy, and none contains a secret."""

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        connection = connected(kubeconfig, context)
        self.client = Client(connection.api, PERSON, connection)

    def nodes(self, names: Sequence[str], selector: str | None) -> list[pod_proof.Node]:
        """The named nodes, or those of a label selector, in name order; raises NodeError `cluster-node-unknown`."""
        nodes = self.client.listed("nodes", "/api/v1/nodes", {"labelSelector": selector} if selector else {})
        return pod_proof.chosen([pod_proof.node_of(node) for node in nodes], names, selector)

    def described_nodes(self) -> list[dict[str, Any]]:
        """Every node (core/v1) as it is now."""
        return self.client.listed("nodes", "/api/v1/nodes")

    def all_nodes(self) -> list[pod_proof.Node]:
        """Every node as it is now."""
        return [pod_proof.node_of(node) for node in self.described_nodes()]

    def pods_labelled(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Pods (core/v1) of a namespace, by a label selector."""
        return self.client.listed("pods", f"/api/v1/namespaces/{quote(namespace)}/pods", {"labelSelector": selector})

    def require(self, kind: str, name: str, setting: str) -> None:
        """Raise NodeError `cluster-object-missing` if a Namespace or RuntimeClass that `setting` adopts does not exist."""
        if self.client.get(f"{kind} {name}", f"{ADOPTABLE[kind]}/{quote(name)}") is None:
            raise NodeError(
                "cluster-object-missing", f"{kind} {name} should be adopted, but is not on the cluster", setting=setting
            )

    def require_policies(self) -> None:
        """Raise NodeError `cluster-too-old` where the API server knows no ValidatingAdmissionPolicy. Where the user may not ask
        that, it shows when one is made."""
        group, policies = POLICIES
        try:
            listed = self.client.get("the resources of admissionregistration.k8s.io", group) or {}
        except NodeError as error:
            if error.code != "cluster-forbidden":
                raise
            return
        if not any(each.get("name") == policies for each in listed.get("resources") or []):
            problem = f"the API server {self.client.server} knows no ValidatingAdmissionPolicy, which the sandboxes' guard needs"
            raise NodeError("cluster-too-old", f"{problem}, so nothing is changed on its nodes")

    def jobs(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Jobs of a proof by uid."""
        selected = {"labelSelector": f"{pod_proof.PROOF_LABEL}={proof}"}
        jobs = self.client.listed("jobs", f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs", selected)
        return {job["metadata"]["uid"]: job for job in jobs}

    def pods(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Pods of a proof by the uid of the Job that controls them."""
        selected = {"labelSelector": f"{pod_proof.PROOF_LABEL}={proof}"}
        pods = self.client.listed("pods", f"/api/v1/namespaces/{quote(namespace)}/pods", selected)
        return {uid: pod for pod in pods if (uid := pod_verdict.owner(pod))}

    def reported(self, namespace: str, request: pod_proof.ProofRequest, pod: dict[str, Any]) -> dict[str, Any]:
        """The pod of a proof with its report, out of its log where the node has no message of it; as it is where that cannot be
        read, which its verdict reports."""
        if not pod_verdict.unreported(pod, request.climbing):
            return pod
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod['metadata']['name'])}/log"
        with suppress(NodeError):
            query = {"container": request.climbing, "limitBytes": pod_log.MOST}
            return pod_verdict.reported(request, pod, self.client.text("pods/log", path, query))
        return pod

    def events(self, namespace: str) -> pod_verdict.Events:
        """What events say of Jobs and pods; empty where the user may not read events, since they only explain."""
        try:
            return pod_verdict.words_of(self.client.listed("events", f"/api/v1/namespaces/{quote(namespace)}/events"))
        except NodeError as error:
            if error.code != "cluster-forbidden":
                raise
            return {}

    def evidence(self, namespace: str, proof: str) -> dict[str, str]:
        """Evidence (JSON) that a proof left, by node; a ConfigMap that is full has another after it."""
        evidence: dict[str, str] = {}
        for number in range(pod_proof.MOST_MAPS):
            name = pod_proof.evidence_name(proof, number)
            path = f"/api/v1/namespaces/{quote(namespace)}/configmaps/{quote(name)}"
            data = (self.client.get(f"configmap {name}", path) or {}).get("data") or {}
            evidence |= data
            if len(data) < pod_proof.NODES_OF_MAP:
                break
        return evidence

    def situation(self, namespace: str, proof: str, names: Sequence[str], selector: str | None) -> "Situation":
        """The state at the start of a proof: the nodes to prove, and the results of earlier proofs."""
        return Situation(
            self.nodes(names, selector),
            pod_proof.Nodes(self.all_nodes()),
            self.jobs(namespace, proof),
            self.pods(namespace, proof),
            self.evidence(namespace, proof),
            self.events(namespace),
        )

    def outcome(
        self, namespace: str, proof: str, requests: Mapping[str, tuple[str, pod_proof.ProofRequest]], timeout_seconds: int
    ) -> dict[str, dict[str, Any] | pod_verdict.Refusal]:
        """Evidence or refusal by node, once every Job has ended or cannot pass; `requests` has each node's Job by uid.

        A node without room counts as one of these when it stays so for `pod_room.ROOM_SECONDS`.

        The last state of a pod, and what events reported about it, is remembered: a Job that runs into its deadline removes it.
        """
        before = patiently(lambda: self.evidence(namespace, proof))
        end = time.monotonic() + timeout_seconds + GRACE_SECONDS
        pods: dict[str, dict[str, Any]] = {}
        events: pod_verdict.Events = {}
        waiting_since: dict[str, float] = {}
        while True:
            jobs = patiently(lambda: self.jobs(namespace, proof))
            pods |= patiently(lambda: self.pods(namespace, proof))
            running = {node: uid for node, (uid, _) in requests.items() if uid in jobs and not pod_verdict.ended(jobs[uid])}
            if running or {uid for uid, _ in requests.values()} - set(pods):
                events = patiently(lambda: self.events(namespace))
            unplaced = {node: pods[uid] for node, uid in running.items() if uid in pods}
            roomless = patiently(partial(self.roomless, unplaced))
            waiting_since = {node: waiting_since.get(node, time.monotonic()) for node in roomless}
            waited = [
                node
                for node, uid in running.items()
                if pod_verdict.hopeless(requests[node][1], jobs[uid], pods.get(uid), events) is None
                and time.monotonic() - waiting_since.get(node, time.monotonic()) < pod_room.ROOM_SECONDS
            ]
            if not waited or time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
        for node, (uid, proven) in requests.items():
            # Where the evidence of a Job is kept already, no log says more.
            if uid in pods and pod_verdict.evidence_of(before.get(node)).get("job") != uid:
                pods[uid] = self.reported(namespace, proven, pods[uid])
        nodes = pod_proof.Nodes(patiently(self.all_nodes))
        return {
            node: pod_verdict.verdict(proven, nodes, jobs.get(uid), pods.get(uid), before.get(node), events, uid)
            for node, (uid, proven) in requests.items()
        }

    def roomless(self, pods: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Nodes that take no pod now and will not soon, or have left, of those whose proof's pod is not scheduled."""
        waiting = {node: pod for node, pod in pods.items() if not pod_room.makes_way(pod)}
        words = {node: message for node, pod in waiting.items() if (message := pod_room.unscheduled(pod)) is not None}
        short_of = {node.name: node.short_of for node in self.all_nodes()} if words else {}
        return [
            node for node, message in words.items() if node not in short_of or pod_room.lasts(message, short_of.get(node, ""))
        ]


@dataclass(frozen=True)
class Situation:
    """The state at the start of a proof."""

    chosen: list[pod_proof.Node]
    """The nodes to prove."""
    nodes: pod_proof.Nodes
    jobs: dict[str, dict[str, Any]]
    """Jobs of the proof by uid."""
    pods: dict[str, dict[str, Any]]
    """Their pods, by the Job's uid."""
    kept: dict[str, str]
    """Evidence of the previous proof (JSON), by node."""
    events: pod_verdict.Events
    """What the cluster's events say of Jobs and pods."""

    @cached_property
    def machines(self) -> dict[str, pod_proof.Node]:
        """The nodes to prove, by name: each of thousands is looked up."""
        return {node.name: node for node in self.chosen}

    @cached_property
    def jobs_of_nodes(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Jobs of the proof by uid, by the name of the node that they prove."""
        by_node: dict[str, dict[str, dict[str, Any]]] = {}
        for uid, job in self.jobs.items():
            notes = job["spec"]["template"]["metadata"].get("annotations") or {}
            by_node.setdefault(str(notes.get(pod_proof.NODE_ANNOTATION)), {})[uid] = job
        return by_node
