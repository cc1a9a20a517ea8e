"""The Kubernetes plugin's messages about objects that cannot be made, in words that a person can act on."""

import re
from collections.abc import Mapping
from typing import Any

from clusterkit import certificate_errors
from nodekit.errors import NodeError
from nodekit.rules.text import printable

MANAGED_BY = "app.kubernetes.io/managed-by"
"""Label that the plugin puts on what it creates, unless it creates by server-side apply (pulumi-kubernetes, `Check`)."""
OWNED = re.compile(r'conflicts? with "([^"]+)"(?: with subresource "[^"]*")?(?: using \S+?)?:((?:\s+(?:- )?\.\S+)+)')
"""A field that is another manager's, or a list of its fields (k8s.io/apimachinery, managedfields, getConflictMessage)."""
FIELD = re.compile(r"(?<!\S)\.\S+")
ADMISSION = re.compile(r"failed calling webhook|\bdenied (the )?request\b")
"""Words about a webhook that failed, and about one or a policy that refuses: what follows is theirs, and they are named."""


def refuse_taking_over(kind: str, metadata: Mapping[str, Any]) -> None:
    """Raise NodeError `cluster-provider-takes-over` unless the plugin will create the object of that `metadata` by POST.

    By server-side apply, the plugin's default, creating is writing: an object that was there already silently becomes the
    stack's, and is deleted with the stack. `metadata` is what the plugin made of the inputs.
    """
    if MANAGED_BY not in (metadata.get("labels") or {}):
        raise NodeError(
            "cluster-provider-takes-over",
            f"{kind} {metadata.get('name')} is not made, because the Kubernetes provider would take over one that exists",
        )


def explained(text: str, kind: str, name: str, exists: str) -> NodeError | None:
    """The refusal behind the plugin's error `text` about the object `kind` `name`, or None where it speaks for itself.

    `exists` is the case of `cluster-object-exists`, which names the way out where the object is there already.
    """
    subject = f"{kind} {name}"
    # What the pods of a Deployment meet, such as a registry that refuses them, is none of the API server's answers.
    text = re.sub(r"^.*\[Pod .*$", "", text, flags=re.MULTILINE)
    if ADMISSION.search(text):
        return None
    if "object is being deleted" in text:
        return NodeError("cluster-object-ending", f"{subject} is still being deleted, so none can be made")
    if ending := re.search(r"in namespace (\S+) because it is being terminated", text):
        return NodeError("cluster-object-ending", f"{subject} cannot be made: namespace {ending[1]} is still being deleted")
    if "already exists" in text:
        return NodeError(
            "cluster-object-exists",
            f"{subject} exists already and was not made by this stack, so it was left as it is",
            exists,
        )
    if owned := OWNED.findall(text):
        fields = "; ".join(f"{field} belongs to {manager}" for manager, paths in owned for field in FIELD.findall(paths))
        return NodeError("cluster-field-owned", f"{subject} was left as it is: {fields}")
    if refused := re.search(r'User "([^"]+)" cannot (\w+) resource "([^"]+)"', text):
        user, verb, resource = refused.groups()
        return NodeError("cluster-forbidden", f"{subject}: user {user} may not {verb} {resource}", verbs=verb, resource=resource)
    if words := re.search(r"(x509: |failed to verify certificate).*", text):
        about = f"{subject}: the API server of the kubeconfig shows a certificate that is not trusted: {printable(words[0], 300)}"
        return certificate_errors.explained(words[0], about)
    if re.search(r"Unauthorized|provide credentials|must be logged in", text):
        return NodeError(
            "cluster-login-refused",
            f"{subject}: the API server does not accept the kubeconfig's credentials; they may have expired",
        )
    if re.search(r"unreachable|connection refused|no such host|i/o timeout|no route to host|deadline exceeded", text):
        return NodeError("cluster-unreachable", f"{subject}: the API server of the kubeconfig does not answer")
    if "apiVersion for this resource does not exist" in text:
        return NodeError("cluster-too-old", f"{subject}: the cluster does not know this kind")
    return None
