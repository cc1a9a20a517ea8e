"""States of stacks with objects on a cluster, as `pulumi stack export --show-secrets` writes them, and API servers' answers."""

import json
from copy import deepcopy
from typing import Any

from fleet import cluster_objects
from fleet.cluster_objects import ClusterObject
from review.documents import SIGNATURE, SIGNED_SECRET

TYPES = "urn:pulumi:s::kata-nodes::"
PROVIDER = f"{TYPES}pulumi:providers:kubernetes::cluster"
KUBECONFIG = "apiVersion: v1\nusers: [{name: a, user: {token: s3cret}}]\n"
OWN = {"manager": "pulumi-kubernetes", "operation": "Update", "time": "2026-11-26T10:00:00Z"}


def secret(value: object) -> dict[str, str]:
    """A secret in a state."""
    return {SIGNATURE: SIGNED_SECRET, "plaintext": json.dumps(value)}


def resource(
    kind: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """One object as the state has it; `kind` is its type with its parents', such as `kubernetes:core/v1:Namespace`."""
    urn = f"{TYPES}{kind}::{name}"
    live = deepcopy(inputs if outputs is None else outputs)
    live.setdefault("metadata", {}).setdefault("managedFields", [OWN])
    about = {"custom": True, "provider": f"{PROVIDER}::some-id", "type": kind.rpartition("$")[2]}
    return {"urn": urn, **about, "inputs": inputs, "outputs": {**live, "__inputs": inputs}, **fields}


def deployment(*resources: dict[str, Any], **access: Any) -> dict[str, Any]:
    """A state with a provider and these."""
    inputs = {"kubeconfig": secret(KUBECONFIG), "context": "prod", **access}
    provider = {"urn": PROVIDER, "type": "pulumi:providers:kubernetes", "custom": True, "inputs": inputs}
    return {"resources": [provider, *resources]}


CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "kata"},
    "handler": "kata-qemu",
    "overhead": {"podFixed": {"memory": "160Mi", "cpu": "0.25"}},
    "scheduling": {"nodeSelector": {"katacontainers.io/kata-runtime": "true"}, "tolerations": []},
}
"""What a stack sets of its class."""
CLASS_LIVE = {
    **CLASS,
    "overhead": {"podFixed": {"memory": "160Mi", "cpu": "250m"}},
    "scheduling": {"nodeSelector": {"katacontainers.io/kata-runtime": "true"}},
}
"""What the API server makes of it."""
KIND = "kata-nodes:index:KataRuntimeClass$kubernetes:node.k8s.io/v1:RuntimeClass"


def runtime_class(**fields: Any) -> dict[str, Any]:
    """The class in the state."""
    return resource(KIND, "kata-class", deepcopy(CLASS), deepcopy(CLASS_LIVE), **fields)


def item(entry: dict[str, Any]) -> ClusterObject:
    """One object of a state that has no other."""
    (cluster,) = cluster_objects.of(deployment(entry))
    (described,) = cluster.objects
    return described


def live(entry: ClusterObject, **fields: Any) -> dict[str, Any]:
    """The object as the stack left it, except for these."""
    return {**deepcopy(dict(entry.recorded)), **fields}
