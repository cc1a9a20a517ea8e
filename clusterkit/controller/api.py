"""What the controller reads and writes on its cluster, through the API and with its own service account's rights."""

import json
from collections.abc import Callable, Container, Mapping
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from clusterkit import pod_verdict
from clusterkit.api.answers import limited
from clusterkit.joining import EVENTS_NAMESPACE, Settings
from clusterkit.pod_proof import PROOF_LABEL
from nodekit.errors import NodeError

REQUEST_SECONDS = 20
"""Bound on one request; one that could not connect is tried four times."""


class Changed(Exception):
    """What was to be written is no longer what it was when it was read, or is gone: look again."""


class Api:
    """One cluster; every other error is a NodeError with a remedy."""

    def __init__(self, given: Settings) -> None:
        """In a pod as its service account, elsewhere as the kubeconfig says. Raises NodeError `cluster-login-refused`."""
        try:
            try:
                config.load_incluster_config()  # type: ignore[no-untyped-call]
            except ConfigException:
                config.load_kube_config()  # type: ignore[no-untyped-call]
        except ConfigException as error:
            raise NodeError(
                "cluster-login-refused",
                f"there is neither a service account's token nor a kubeconfig to use: {error}",
                "controller",
            ) from None
        self.given, self.label = given, f"{PROOF_LABEL}={given.proof}"
        api = limited(client.ApiClient())
        self.server = api.configuration.host
        self.core, self.batch = client.CoreV1Api(api), client.BatchV1Api(api)

    def call(
        self, what: str, request: Callable[..., Any], *argv: object, expected: Container[int] = (), **more: object
    ) -> dict[str, Any]:
        """The JSON answer of one request; `what` it does and to what, for its refusal; raises Changed for `expected` ones."""
        try:
            answer = request(*argv, **more, _preload_content=False, _request_timeout=REQUEST_SECONDS)
            document: dict[str, Any] = json.loads(answer.data)
        except ApiException as error:
            raise Changed(what) if error.status in expected else self.refused(what, error) from None
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            why = getattr(error, "reason", None) or error
            raise NodeError(
                "cluster-unreachable", f"the API server {self.server} does not answer: {str(why)[:300]}", "pod"
            ) from None
        return document

    def refused(self, what: str, error: ApiException) -> NodeError:
        """From an answer that is none of the wanted ones."""
        if error.status == 401:
            return NodeError(
                "cluster-login-refused", f"the API server {self.server} does not accept the controller's credentials", "token"
            )
        if error.status == 403:
            return NodeError("cluster-forbidden", f"the controller may not {what}: {said(error)}", "controller")
        answered = f"the API server {self.server} answered {error.status} {error.reason} when asked to {what}: {said(error)}"
        if error.status and 400 <= error.status < 500 and error.status != 429:
            return NodeError("cluster-object-refused", answered)
        return NodeError("cluster-unreachable", answered, "log")

    def nodes(self) -> list[dict[str, Any]]:
        """Nodes (core/v1) of the selector."""
        found = self.call("list nodes", self.core.list_node, label_selector=self.given.selector)
        return list(found["items"])

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Jobs of the proof by uid."""
        asked = self.batch.list_namespaced_job, self.given.namespace
        found = self.call(f"list jobs in {self.given.namespace}", *asked, label_selector=self.label)
        return {one["metadata"]["uid"]: one for one in found["items"]}

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods of the proof by the uid of the Job that controls them."""
        asked = self.core.list_namespaced_pod, self.given.namespace
        found = self.call(f"list pods in {self.given.namespace}", *asked, label_selector=self.label)
        return {uid: pod for pod in found["items"] if (uid := pod_verdict.owner(pod))}

    def events(self) -> pod_verdict.Events:
        """What events in the namespace say of Jobs and pods."""
        listed = self.call(f"list events in {self.given.namespace}", self.core.list_namespaced_event, self.given.namespace)
        return pod_verdict.words_of(listed["items"])

    def make(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The Job of `body`, as made."""
        what = f"create jobs in {self.given.namespace}"
        return self.call(what, self.batch.create_namespaced_job, self.given.namespace, body)

    def remove(self, found: Mapping[str, Any]) -> None:
        """A Job, and its pods after it; one that is gone already is no error."""
        asked = self.batch.delete_namespaced_job, found["metadata"]["name"], self.given.namespace
        try:
            self.call(f"delete jobs in {self.given.namespace}", *asked, expected=(404,), propagation_policy="Background")
        except Changed:
            return

    def patch_node(self, name: str, patch: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Merge patch, or JSON patch where it is a list; raises Changed where its tests or its uid do not hold."""
        self.call(f"patch node {name}", self.core.patch_node, name, patch, expected=(404, 409, 422))

    def tell(self, event: Mapping[str, Any]) -> None:
        """Make an Event; one that was made before is left as it is."""
        try:
            self.call("create events", self.core.create_namespaced_event, EVENTS_NAMESPACE, event, expected=(409,))
        except Changed:
            return

    def kept(self, name: str) -> dict[str, str] | None:
        """Data of a ConfigMap, or None when there is none."""
        try:
            asked = self.core.read_namespaced_config_map, name, self.given.namespace
            found = self.call(f"get configmap {name}", *asked, expected=(404,))
        except Changed:
            return None
        return dict(found.get("data") or {})

    def keep(self, name: str, wanted: Mapping[str, str]) -> None:
        """A ConfigMap with exactly this data, made where there is none."""
        before = self.kept(name)
        if before is None:
            body = {"metadata": {"name": name}, "data": dict(wanted)}
            self.call("create configmaps", self.core.create_namespaced_config_map, self.given.namespace, body)
        elif before != wanted:
            change = {**dict.fromkeys(before), **wanted}
            asked = self.core.patch_namespaced_config_map, name, self.given.namespace
            self.call(f"patch configmap {name}", *asked, {"data": change})


def said(error: ApiException) -> str:
    """What the API server says to it, such as the rule that refused."""
    try:
        return str(json.loads(error.body or "")["message"])[:600]
    except (ValueError, TypeError, KeyError):
        return str(error.reason)
