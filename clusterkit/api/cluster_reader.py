"""Reads a cluster through its API: what the Kubernetes plugin cannot list (nodes by label, Jobs with their pods)."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from clusterkit import pod_proof, pod_verdict
from clusterkit.api.kubeconfig import connected
from nodekit.errors import NodeError

REQUEST_SECONDS = 20
"""Bound on one request; each is tried three times."""
POLL_SECONDS = 1.0
GRACE_SECONDS = 60
"""Added to the Jobs' own deadline: the Job controller needs a while to report it."""


class Reader:
    """One cluster, read as the user of a kubeconfig; every error is a NodeError with a remedy, and none contains a secret."""

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        self.api = connected(kubeconfig, context)
        self.server = self.api.configuration.host
        self.core, self.batch, self.node = client.CoreV1Api(self.api), client.BatchV1Api(self.api), client.NodeV1Api(self.api)

    def read(self, what: str, call: Callable[..., Any], *argv: str, **given: str) -> dict[str, Any]:
        """The JSON answer of one GET."""
        try:
            answer = call(*argv, **given, _preload_content=False, _request_timeout=REQUEST_SECONDS)
            document: dict[str, Any] = json.loads(answer.data)
        except ApiException as error:
            raise self.refused(what, error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self.unreachable(error) from None
        return document

    def unreachable(self, error: Exception) -> NodeError:
        """From a request that got no answer."""
        why = getattr(error, "reason", None) or error
        return NodeError("cluster-unreachable", f"the API server {self.server} does not answer: {str(why)[:300]}")

    def refused(self, what: str, error: ApiException) -> NodeError:
        """From an unexpected answer."""
        if error.status == 401:
            return NodeError(
                "cluster-login-refused",
                f"the API server {self.server} does not accept the kubeconfig's credentials; they may have expired",
            )
        if error.status == 403:
            return NodeError(
                "cluster-forbidden", f"the kubeconfig's user may not read {what}", verbs="get and list", resource=what
            )
        return NodeError(
            "cluster-unreachable",
            f"the API server {self.server} answered {error.status} {error.reason} when asked for {what}",
            "log",
        )

    def nodes(self, names: Sequence[str], selector: str | None) -> list[pod_proof.Node]:
        """The named nodes, or those of a label selector, in name order; raises NodeError `cluster-node-unknown`."""
        listed = self.read("nodes", self.core.list_node, **({"label_selector": selector} if selector else {}))["items"]
        return pod_proof.chosen([pod_proof.node_of(node) for node in listed], names, selector)

    def described_nodes(self) -> list[dict[str, Any]]:
        """Every node (core/v1) as it is now."""
        return list(self.read("nodes", self.core.list_node)["items"])

    def all_nodes(self) -> list[pod_proof.Node]:
        """Every node as it is now."""
        return [pod_proof.node_of(node) for node in self.described_nodes()]

    def require(self, kind: str, name: str, setting: str) -> None:
        """Raise NodeError `cluster-object-missing` if a Namespace or RuntimeClass that `setting` adopts does not exist."""
        call = {"Namespace": self.core.read_namespace, "RuntimeClass": self.node.read_runtime_class}[kind]
        try:
            call(name, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 404:
                raise self.refused(f"{kind} {name}", error) from None
            raise NodeError(
                "cluster-object-missing", f"{kind} {name} is to be adopted, but is not on the cluster", setting=setting
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise self.unreachable(error) from None

    def jobs(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Jobs of a proof by uid."""
        label = f"{pod_proof.PROOF_LABEL}={proof}"
        listed = self.read("jobs", self.batch.list_namespaced_job, namespace, label_selector=label)["items"]
        return {job["metadata"]["uid"]: job for job in listed}

    def pods(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Pods of a proof by the uid of the Job that controls them."""
        label = f"{pod_proof.PROOF_LABEL}={proof}"
        listed = self.read("pods", self.core.list_namespaced_pod, namespace, label_selector=label)["items"]
        return {uid: pod for pod in listed if (uid := pod_verdict.owner(pod))}

    def events(self, namespace: str) -> pod_verdict.Events:
        """What events say of Jobs and pods; nothing where the user may not read events, which only explain."""
        try:
            return pod_verdict.words_of(self.read("events", self.core.list_namespaced_event, namespace)["items"])
        except NodeError as error:
            if error.code != "cluster-forbidden":
                raise
            return {}

    def kept(self, namespace: str, name: str) -> dict[str, str]:
        """Data of a ConfigMap; empty if it does not exist."""
        try:
            found = self.core.read_namespaced_config_map(name, namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return {}
            raise self.refused("configmaps", error) from None
        except urllib3.exceptions.HTTPError as error:
            raise self.unreachable(error) from None
        return dict(found.data or {})

    def situation(self, namespace: str, proof: str, names: Sequence[str], selector: str | None) -> "Situation":
        """The state at the start of a proof: the nodes to prove, and the results of earlier proofs."""
        return Situation(
            self.nodes(names, selector),
            self.all_nodes(),
            self.jobs(namespace, proof),
            self.pods(namespace, proof),
            self.kept(namespace, pod_proof.evidence_name(proof)),
            self.events(namespace),
        )

    def outcome(
        self, namespace: str, proof: str, asked: Mapping[str, tuple[str, pod_proof.Asked]], timeout_seconds: int
    ) -> dict[str, dict[str, Any] | pod_verdict.Refusal]:
        """Evidence or refusal by node, once every Job has ended or cannot pass; `asked` has each node's Job by uid.

        The last state of a pod, and what events reported about it, is remembered: a Job that runs into its deadline removes it.
        """
        before = self.kept(namespace, pod_proof.evidence_name(proof))
        end = time.monotonic() + timeout_seconds + GRACE_SECONDS
        pods: dict[str, dict[str, Any]] = {}
        events: pod_verdict.Events = {}
        while True:
            jobs = self.jobs(namespace, proof)
            pods |= self.pods(namespace, proof)
            running = {node: uid for node, (uid, _) in asked.items() if uid in jobs and not pod_verdict.ended(jobs[uid])}
            if running or {uid for uid, _ in asked.values()} - set(pods):
                events = self.events(namespace)
            waited = [
                node for node, uid in running.items() if pod_verdict.hopeless(node, jobs[uid], pods.get(uid), events) is None
            ]
            if not waited or time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
        nodes = self.all_nodes()
        return {
            node: pod_verdict.verdict(proven, nodes, jobs.get(uid), pods.get(uid), before.get(node), events)
            for node, (uid, proven) in asked.items()
        }


@dataclass(frozen=True)
class Situation:
    """The state at the start of a proof."""

    chosen: list[pod_proof.Node]
    """The nodes to prove."""
    nodes: list[pod_proof.Node]
    """All nodes of the cluster."""
    jobs: dict[str, dict[str, Any]]
    """Jobs of the proof by uid."""
    pods: dict[str, dict[str, Any]]
    """Their pods, by the Job's uid."""
    kept: dict[str, str]
    """Evidence of the previous proof (JSON), by node."""
    events: pod_verdict.Events
    """What the cluster's events say of Jobs and pods."""
