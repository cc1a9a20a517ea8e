"""What the controller reads and writes on its cluster, through the API and with its own service account's rights."""

import json
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from clusterkit.api.answers import limited, lines
from clusterkit.joining import COMPONENT, EVENTS_NAMESPACE, Settings
from clusterkit.pod_proof import PROOF_LABEL
from nodekit.errors import NodeError

REQUEST_SECONDS = 20
"""Bound on one request; one that could not connect is tried four times."""
PAGE = 200
"""Objects that are listed at once: some 4 MiB of real nodes, whose images make them long."""
WATCH_SECONDS = 600
"""After which the server ends a watch; it goes on from there."""
QUIET_SECONDS = 150
"""After which a watch that says nothing is taken for a lost connection; a server sends a bookmark each minute."""
KINDS = ("nodes", "jobs", "pods", "events")
"""What is listed and watched, in this order: a Job is made before a node claims it, so that one that is not there is gone."""
GONE = 410
"""Status of a list or a watch that would have to go on from what the server has forgotten."""
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"


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
        self.given = given
        self.client = limited(client.ApiClient())
        self.server = self.client.configuration.host
        self.core, self.place = "/api/v1", f"/api/v1/namespaces/{given.namespace}"
        self.jobs = f"/apis/batch/v1/namespaces/{given.namespace}/jobs"

    def ask(
        self, method: str, path: str, query: Mapping[str, object], body: object, kind: str, timeout: urllib3.Timeout
    ) -> urllib3.BaseHTTPResponse:
        """The answer to one request, whatever it says.

        Not by the library's classes for each resource: what they check of every request takes longer than all else that a request
        costs this program, and their models a third of its memory.
        """
        headers = {"Accept": "application/json", "User-Agent": COMPONENT}
        for login in self.client.configuration.auth_settings().values():
            headers[str(login["key"])] = str(login["value"])
        if body is not None:
            headers["Content-Type"] = kind
        text = None if body is None else json.dumps(body)
        address = f"{self.server}{path}?{urlencode(query)}" if query else f"{self.server}{path}"
        pool = self.client.rest_client.pool_manager
        return pool.request(method, address, body=text, headers=headers, timeout=timeout, redirect=False)

    def call(
        self,
        what: str,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        kind: str = "application/json",
        expected: Container[int] = (),
    ) -> dict[str, Any]:
        """The JSON answer of one request; `what` it does and to what, for its refusal; raises Changed for `expected` ones."""
        try:
            answer = self.ask(method, path, query or {}, body, kind, urllib3.Timeout(total=REQUEST_SECONDS))
            document = json.loads(answer.data) if answer.data else {}
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise self.unreachable(error) from None
        if answer.status in expected:
            raise Changed(what)
        if answer.status >= 300 or not isinstance(document, dict):
            raise self.refused(what, answer.status, document)
        return document

    def unreachable(self, error: Exception) -> NodeError:
        """From an answer that does not come."""
        why = getattr(error, "reason", None) or error
        return NodeError(
            "cluster-unreachable",
            f"the API server {self.server} does not answer: {str(why)[:300]}",
            "pod",
        )

    def refused(self, what: str, status: int, answer: object) -> NodeError:
        """From an answer that is none of the wanted ones."""
        said = str(answer.get("message", ""))[:600] if isinstance(answer, dict) else ""
        if status == 401:
            return NodeError(
                "cluster-login-refused", f"the API server {self.server} does not accept the controller's credentials", "token"
            )
        if status == 403:
            return NodeError("cluster-forbidden", f"the controller may not {what}: {said}", "controller")
        answered = f"the API server {self.server} answered {status} when asked to {what}: {said}"
        if 400 <= status < 500 and status != 429:
            return NodeError("cluster-object-refused", answered)
        return NodeError("cluster-unreachable", answered, "log")

    def listing(self, kind: str) -> tuple[str, dict[str, object]]:
        """Where a kind of KINDS is listed, and what selects the proof's objects."""
        proof: dict[str, object] = {"labelSelector": f"{PROOF_LABEL}={self.given.proof}"}
        ways: dict[str, tuple[str, dict[str, object]]] = {
            "nodes": (f"{self.core}/nodes", {"labelSelector": self.given.selector}),
            "jobs": (self.jobs, proof),
            "pods": (f"{self.place}/pods", proof),
            "events": (f"{self.place}/events", {}),
        }
        return ways[kind]

    def pages(self, kind: str) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """Objects of a kind, in pages, each with the version of the cluster that all pages show; raises Changed for too old."""
        path, selected = self.listing(kind)
        following = ""
        while True:
            query = {"limit": PAGE, **selected, **({"continue": following} if following else {})}
            page = self.call(f"list {kind}", "GET", path, query=query, expected=(GONE,))
            yield page["items"], str(page["metadata"]["resourceVersion"])
            following = str(page["metadata"].get("continue") or "")
            if not following:
                return

    def changes(self, kind: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What changes after a version, until the server ends the watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object.

        Raises Changed when the version is too old.
        """
        path, selected = self.listing(kind)
        query = {**selected, "watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = WATCH_SECONDS
        timeout = urllib3.Timeout(connect=REQUEST_SECONDS, read=QUIET_SECONDS)
        try:
            answer = self.ask("GET", path, query, None, "", timeout)
        except urllib3.exceptions.HTTPError as error:
            raise self.unreachable(error) from None
        if answer.status == GONE:
            raise Changed(kind)
        if answer.status != 200:
            raise self.refused(f"watch {kind}", answer.status, parsed(answer))
        # A connection that breaks, or says nothing, is made again by the next watch, which tells when that cannot be.
        with suppress(urllib3.exceptions.HTTPError, ValueError):
            for line in lines(self.client, answer):
                change = json.loads(line)
                if change["type"] == "ERROR":
                    raise Changed(kind)
                yield change["type"], change["object"]

    def make(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The Job of `body`, as made."""
        return self.call(f"create jobs in {self.given.namespace}", "POST", self.jobs, body)

    def remove(self, name: str) -> None:
        """A Job, and its pods after it; one that is gone already is no error."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        with suppress(Changed):
            what = f"delete jobs in {self.given.namespace}"
            self.call(what, "DELETE", f"{self.jobs}/{quote(name)}", options, expected=(404,))

    def patch_node(self, name: str, patch: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
        """By a merge patch, or a JSON patch where it is a list: the node as it is then; Changed where its tests do not hold."""
        kind = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        path = f"{self.core}/nodes/{quote(name)}"
        return self.call(f"patch node {name}", "PATCH", path, patch, kind=kind, expected=(404, 409, 422))

    def tell(self, event: Mapping[str, Any]) -> None:
        """Make an Event; one that was made before is left as it is."""
        with suppress(Changed):
            path = f"{self.core}/namespaces/{EVENTS_NAMESPACE}/events"
            self.call("create events", "POST", path, event, expected=(409,))

    def kept(self, name: str) -> dict[str, str]:
        """Data of a ConfigMap, none when there is no such."""
        with suppress(Changed):
            found = self.call(f"get configmap {name}", "GET", f"{self.place}/configmaps/{quote(name)}", expected=(404,))
            return dict(found.get("data") or {})
        return {}

    def keep(self, name: str, entries: Mapping[str, str | None]) -> None:
        """Entries of a ConfigMap of the proof, the others left as they are; None takes one away. It is made when it is needed."""
        maps = f"{self.place}/configmaps"
        what, change = f"patch configmap {name}", {"data": dict(entries)}
        try:
            self.call(what, "PATCH", f"{maps}/{quote(name)}", change, kind=MERGE_PATCH, expected=(404,))
        except Changed:
            data = {key: value for key, value in entries.items() if value is not None}
            if data:
                about = {"name": name, "labels": {PROOF_LABEL: self.given.proof}}
                self.call("create configmaps", "POST", maps, {"metadata": about, "data": data})


def parsed(answer: urllib3.BaseHTTPResponse) -> object:
    """The JSON of an answer, or nothing where it is none."""
    try:
        return json.loads(answer.data)
    except ValueError:
        return None
