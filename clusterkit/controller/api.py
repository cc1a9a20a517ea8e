"""What the controller reads and writes on its cluster, with its own service account's rights."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException
from urllib3.util.ssl_ import create_urllib3_context

from clusterkit import pod_log
from clusterkit.api.client import CONTROLLER, JSON_PATCH, MERGE_PATCH, METADATA, METADATA_LIST, Changed, Client, lenient
from clusterkit.controller import documents
from clusterkit.joining import COMPONENT, EVENTS_NAMESPACE, Settings
from clusterkit.pod_proof import PROOF_LABEL
from nodekit.errors import NodeError

KINDS = ("nodes", "jobs", "pods", "events")
"""What is listed and watched, in this order: a Job is made before a node claims it, so that one that is not there is gone."""


class Api:
    """The objects of one proof: nodes, Jobs, pods, events and evidence. Raises Changed, and NodeError for everything else."""

    def __init__(self, settings: Settings) -> None:
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
        api = client.ApiClient()
        api.user_agent = COMPONENT
        manager, self.server = api.rest_client.pool_manager, api.configuration.host
        options = manager.connection_pool_kw
        context = options["ssl_context"] = lenient(create_urllib3_context(cert_reqs=options["cert_reqs"]))
        if not (options.get("ca_certs") or options.get("ca_cert_data")):
            context.load_default_certs()  # as urllib3 does where it makes the context
        # Without TLS a proxy, which the manager knows, would need each request's whole address.
        pool = manager.connection_from_url(self.server) if self.server.startswith("https:") else None
        self.settings, self.client = settings, Client(api, CONTROLLER, pool=pool)
        self.core, self.place = "/api/v1", f"/api/v1/namespaces/{settings.namespace}"
        self.jobs = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"

    def listing(self, kind: str) -> tuple[str, dict[str, object]]:
        """Where a kind of KINDS is listed, and what selects the proof's objects."""
        proof: dict[str, object] = {"labelSelector": f"{PROOF_LABEL}={self.settings.proof}"}
        ways: dict[str, tuple[str, dict[str, object]]] = {
            "nodes": (f"{self.core}/nodes", {"labelSelector": self.settings.selector}),
            "jobs": (self.jobs, proof),
            "pods": (f"{self.place}/pods", proof),
            # The others, such as that a pod was scheduled, explain no failure, and make most of what happens here.
            "events": (f"{self.place}/events", {"fieldSelector": "type=Warning"}),
        }
        return ways[kind]

    def pages(self, kind: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """As `Client.pages`, for a kind of KINDS."""
        return self.client.pages(kind, *self.listing(kind), documents.PAGES[kind])

    def changes(self, kind: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """As `Client.watch`, for a kind of KINDS."""
        return self.client.watch(kind, *self.listing(kind), version, documents.CHANGES[kind])

    def has_node(self, name: str) -> bool:
        """Whether the cluster has a node of that name, with the selector's labels or without."""
        query = {"fieldSelector": f"metadata.name={name}", "limit": 1}
        listed = self.client.call("list", "nodes", "GET", f"{self.core}/nodes", query=query, accept=METADATA_LIST)
        return bool(listed.get("items"))

    def make(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The Job of `body`, as made."""
        resource, sent = f"jobs in {self.settings.namespace}", documents.sent(body)
        return self.client.call("create", resource, "POST", self.jobs, sent, read=documents.JOB)

    def log(self, pod: str, container: str) -> str:
        """What a container of a pod has printed."""
        query = {"container": container, "limitBytes": pod_log.MOST}
        return self.client.text(f"pods/log in {self.settings.namespace}", f"{self.place}/pods/{quote(pod)}/log", query)

    def remove(self, name: str) -> None:
        """A Job, and its pods after it; one that is gone already is not an error."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        resource = f"jobs in {self.settings.namespace}"
        with suppress(Changed):
            path = f"{self.jobs}/{quote(name)}"
            self.client.call("delete", resource, "DELETE", path, options, accept=METADATA, expected=(404,))

    def patch_node(self, name: str, patch: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
        """By a merge patch, or a JSON patch where it is a list: the node as it is then; Changed where its tests do not hold."""
        content_type = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        path = f"{self.core}/nodes/{quote(name)}"
        expected = (404, 409, 422)
        return self.client.call(
            "patch", f"node {name}", "PATCH", path, patch, content_type=content_type, expected=expected, read=documents.NODE
        )

    def tell(self, event: Mapping[str, Any]) -> None:
        """Make an Event; one that was made before is left as it is."""
        with suppress(Changed):
            path = f"{self.core}/namespaces/{EVENTS_NAMESPACE}/events"
            self.client.call("create", "events", "POST", path, event, accept=METADATA, expected=(409,))

    def kept(self, name: str) -> dict[str, str]:
        """Data of a ConfigMap, empty where it does not exist."""
        config_map = self.client.get(f"configmap {name}", f"{self.place}/configmaps/{quote(name)}")
        return dict((config_map or {}).get("data") or {})

    def keep(self, name: str, entries: Mapping[str, str | None]) -> None:
        """Write entries of a ConfigMap of the proof and leave the others; None removes one. The map is made when it is needed."""
        maps = f"{self.place}/configmaps"
        change = {"data": dict(entries)}
        try:
            self.client.call(
                "patch",
                f"configmap {name}",
                "PATCH",
                f"{maps}/{quote(name)}",
                change,
                content_type=MERGE_PATCH,
                accept=METADATA,  # the evidence of thousands of nodes otherwise, at each change of one
                expected=(404,),
            )
        except Changed:
            data = {key: value for key, value in entries.items() if value is not None}
            if data:
                about = {"name": name, "labels": {PROOF_LABEL: self.settings.proof}}
                self.client.call("create", "configmaps", "POST", maps, {"metadata": about, "data": data})
