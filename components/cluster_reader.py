"""Reads a cluster through its API: what the Kubernetes plugin cannot list (nodes by label, Jobs with their pods)."""

import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import urllib3
import yaml
from kubernetes import client, config  # type: ignore[import-untyped]
from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped]
from kubernetes.config import kube_config  # type: ignore[import-untyped]
from kubernetes.config.config_exception import ConfigException  # type: ignore[import-untyped]

from controller.answers import limited
from nodekit.errors import NodeError
from nodekit.rules import pod_proof

REQUEST_SECONDS = 20
"""Bound on one request; each is tried three times."""
POLL_SECONDS = 1.0
GRACE_SECONDS = 60
"""Beyond the Jobs' own deadline: the Job controller needs a while to say so."""


_CONNECTING = threading.Lock()


def connected(kubeconfig: Any, context: str | None) -> client.ApiClient:
    """A client of the cluster that a kubeconfig means, exec and token log-ins included.

    The library writes keys and certificates to files and removes them at the program's end, which the engine may cut off: here
    they are read into memory, and the files are gone when this returns.
    """
    with _CONNECTING, tempfile.TemporaryDirectory() as place:
        try:
            api = config.new_client_from_config_dict(kubeconfig, context, persist_config=False, temp_file_path=place)
            given = api.configuration
            known = ssl.create_default_context(cafile=given.ssl_ca_cert)
            if not given.verify_ssl:
                known.check_hostname, known.verify_mode = False, ssl.CERT_NONE
            if given.cert_file:
                known.load_cert_chain(given.cert_file, given.key_file)
        finally:
            # It would hand out the names of the removed files to the next client of the same kubeconfig.
            kube_config._cleanup_temp_files()
    settings = api.rest_client.pool_manager.connection_pool_kw
    for key in ("ca_certs", "cert_file", "key_file"):
        settings.pop(key, None)
    settings["ssl_context"] = known
    return limited(api)


class Reader:
    """One cluster, read as the user of a kubeconfig; every error is a NodeError with a remedy, and none tells a secret."""

    def __init__(self, kubeconfig: str, context: str | None) -> None:
        try:
            self.api = connected(yaml.safe_load(kubeconfig), context)
        except (ConfigException, yaml.YAMLError, ssl.SSLError, TypeError, ValueError, AttributeError, KeyError):
            # Their texts may hold parts of the kubeconfig.
            raise NodeError(
                "cluster-login-refused",
                f"the kubeconfig cannot be used with the context {context or '(its current one)'}",
                "Set it anew: pulumi config set --secret kata-nodes:kubeconfig < FILE",
            ) from None
        self.server = self.api.configuration.host
        self.core, self.batch, self.node = client.CoreV1Api(self.api), client.BatchV1Api(self.api), client.NodeV1Api(self.api)

    def read(self, what: str, call: Callable[..., Any], *argv: str, **given: str) -> dict[str, Any]:
        """The JSON answer of one GET."""
        try:
            answer = call(*argv, **given, _preload_content=False, _request_timeout=REQUEST_SECONDS)
            document: dict[str, Any] = json.loads(answer.data)
        except ApiException as error:
            raise self.refused(what, error) from None
        except (urllib3.exceptions.HTTPError, ConfigException) as error:
            raise self.unreachable(error) from None
        return document

    def unreachable(self, error: Exception) -> NodeError:
        """From a request that got no answer."""
        why = getattr(error, "reason", None) or error
        return NodeError(
            "cluster-unreachable",
            f"the API server {self.server} does not answer: {str(why)[:300]}",
            "Start it, or open the way to it from here; a kubeconfig of another cluster is set by: "
            "pulumi config set --secret kata-nodes:kubeconfig < FILE",
        )

    def refused(self, what: str, error: ApiException) -> NodeError:
        """From an answer that is none of the wanted ones."""
        if error.status == 401:
            return NodeError(
                "cluster-login-refused",
                f"the API server {self.server} does not accept the kubeconfig's credentials; they may have expired",
                "Get new ones, then: pulumi config set --secret kata-nodes:kubeconfig < FILE",
            )
        if error.status == 403:
            return NodeError(
                "cluster-forbidden",
                f"the kubeconfig's user may not read {what}",
                f"Grant it the verbs get and list on {what}",
            )
        return NodeError(
            "cluster-unreachable",
            f"the API server {self.server} answered {error.status} {error.reason} when asked for {what}",
            "Look at the API server's log",
        )

    def nodes(self, names: Sequence[str], selector: str | None) -> list[pod_proof.Node]:
        """The named nodes, or those of a label selector, in name order; raises NodeError `cluster-node-unknown`."""
        found = [
            pod_proof.node_of(one)
            for one in self.read("nodes", self.core.list_node, **({"label_selector": selector} if selector else {}))["items"]
        ]
        return pod_proof.chosen(found, names, selector)

    def require(self, kind: str, name: str, setting: str) -> None:
        """Refuse, by NodeError `cluster-object-missing`, where a Namespace or RuntimeClass that `setting` adopts is not there."""
        call = {"Namespace": self.core.read_namespace, "RuntimeClass": self.node.read_runtime_class}[kind]
        try:
            call(name, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status != 404:
                raise self.refused(f"{kind} {name}", error) from None
            raise NodeError(
                "cluster-object-missing",
                f"{kind} {name} is to be adopted and is not on the cluster",
                f"Correct its name, or have it made: {setting}: false",
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise self.unreachable(error) from None

    def jobs(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Jobs of a proof by uid."""
        label = f"{pod_proof.PROOF_LABEL}={proof}"
        found = self.read("jobs", self.batch.list_namespaced_job, namespace, label_selector=label)
        return {one["metadata"]["uid"]: one for one in found["items"]}

    def pods(self, namespace: str, proof: str) -> dict[str, dict[str, Any]]:
        """Pods of a proof by the uid of the Job that owns them."""
        label = f"{pod_proof.PROOF_LABEL}={proof}"
        found = self.read("pods", self.core.list_namespaced_pod, namespace, label_selector=label)["items"]
        return {owner["uid"]: one for one in found for owner in one["metadata"].get("ownerReferences", ())}

    def unmade(self, namespace: str) -> dict[str, pod_proof.Unmade]:
        """By the uid of the Job: why it has no pod; nothing where the user may not read events, which only explain."""
        chosen = "reason=FailedCreate,involvedObject.kind=Job"
        try:
            events = self.read("events", self.core.list_namespaced_event, namespace, field_selector=chosen)
        except NodeError as error:
            if error.code != "cluster-forbidden":
                raise
            return {}
        return pod_proof.unmade(events["items"])

    def kept(self, namespace: str, name: str) -> dict[str, str]:
        """Data of a ConfigMap, none when there is no such."""
        try:
            found = self.core.read_namespaced_config_map(name, namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return {}
            raise self.refused("configmaps", error) from None
        return dict(found.data or {})

    def outcome(
        self, namespace: str, proof: str, wanted: dict[str, str], timeout_seconds: int
    ) -> dict[str, dict[str, Any] | pod_proof.Refusal]:
        """Evidence or refusal by node, once every Job has ended or can have no pod; `wanted` is the uid of each node's Job.

        The last state of a pod is remembered, because a Job that runs into its deadline removes it.
        """
        before = self.kept(namespace, pod_proof.evidence_name(proof))
        end = time.monotonic() + timeout_seconds + GRACE_SECONDS
        seen: dict[str, dict[str, Any]] = {}
        while True:
            found = self.jobs(namespace, proof)
            seen |= self.pods(namespace, proof)
            running = [uid for uid in wanted.values() if uid in found and not pod_proof.ended(found[uid])]
            unmade = self.unmade(namespace) if set(wanted.values()) - set(seen) else {}
            running = [uid for uid in running if uid in seen or uid not in unmade or not unmade[uid].lasting]
            if not running or time.monotonic() > end:
                break
            time.sleep(POLL_SECONDS)
        return {
            node: pod_proof.verdict(node, found.get(uid), seen.get(uid), before.get(node), unmade.get(uid))
            for node, uid in wanted.items()
        }
