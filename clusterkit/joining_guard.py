"""What the API server itself refuses the controller of joining nodes, since RBAC cannot narrow the right to patch a node."""

from clusterkit.guard import text
from clusterkit.joining import CLAIM_ANNOTATION
from clusterkit.runtime_class import TAINT

SPEC_FIELDS = ("podCIDR", "podCIDRs", "providerID", "unschedulable", "configSource", "externalID", "podPreemptionPolicy")
"""Every field of a node's spec but its taints (core/v1 NodeSpec). A test compares them with what a real API server knows. A field
that an older server does not know is absent before and after, so the rule holds there too."""
METADATA_FIELDS = ("labels", "finalizers", "ownerReferences")
"""What an update may change of an object's metadata, beside annotations."""
RULES = {
    "taints": f"no taint but {TAINT} is changed, and that one is only removed",
    "spec": "nothing else of the spec is changed",
    "metadata": f"no label, finalizer or owner is changed, and no annotation but {CLAIM_ANNOTATION}",
}
"""Name of each rule, as every refusal shows it, and what it says."""


def subject(namespace: str, account: str) -> str:
    """What the API server calls a service account."""
    return f"system:serviceaccount:{namespace}:{account}"


def same(field: str) -> str:
    """CEL: a field of the node is as it was, or is still not there."""
    parent, _, name = field.rpartition(".")
    return f"object.{parent}.?{name} == oldObject.{parent}.?{name}"


def policy(namespace: str, account: str) -> dict[str, object]:
    """The `spec` of a ValidatingAdmissionPolicy: of a node, that service account changes the one taint and its own annotation.

    It matches that account alone, so it costs others nothing and cannot refuse a kubelet. What `patch` reaches is the whole of
    a node but its status, which is a resource of its own that the account has no right to.
    """
    old, new = (f"{root}.spec.?taints.orValue([])" for root in ("oldObject", "object"))
    others = f"filter(t, t.key != {text(TAINT)})"
    taints = f"{old}.{others} == {new}.{others} && {new}.all(t, t in {old})"
    before, after = (f"{root}.metadata.?annotations.orValue({{}})" for root in ("oldObject", "object"))
    annotations = [
        f"{first}.all(k, k == {text(CLAIM_ANNOTATION)} || (k in {other} && {first}[k] == {other}[k]))"
        for first, other in ((before, after), (after, before))
    ]
    rules = {
        "taints": taints,
        "spec": " && ".join(same(f"spec.{field}") for field in SPEC_FIELDS),
        "metadata": " && ".join([*(same(f"metadata.{field}") for field in METADATA_FIELDS), *annotations]),
    }
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes"]}]
        },
        "matchConditions": [
            {"name": "joining-nodes", "expression": f"request.userInfo.username == {text(subject(namespace, account))}"}
        ],
        "validations": [
            {
                "expression": expression,
                "message": f"Rule {rule} of the joining nodes' guard ({RULES[rule]}).",
                "reason": "Forbidden",
            }
            for rule, expression in rules.items()
        ],
    }


def binding(policy_name: str) -> dict[str, object]:
    """The `spec` of the binding: everywhere, since nodes are in no namespace; it refuses and is audited."""
    return {"policyName": policy_name, "validationActions": ["Deny", "Audit"]}
