"""What the API server itself refuses in the namespace of a proof, so that nobody but the proof writes there."""

from collections.abc import Sequence

from clusterkit.guard import text

JOB_CONTROLLERS = ("system:serviceaccount:kube-system:job-controller", "system:kube-controller-manager")
"""Who makes the pods of Jobs: kube-controller-manager, with --use-service-account-credentials (as kubeadm and the clouds run it)
under the first name, without it under the second."""
OWNERS = (*JOB_CONTROLLERS, "system:serviceaccount:kube-system:generic-garbage-collector")
"""Who may change the owners and labels of a pod, and Jobs."""
REPLICA_SETS = "system:serviceaccount:kube-system:replicaset-controller"
"""Who makes the pods of a Deployment."""
MAPS = "-evidence(-[0-9]{2})?$|-settings-"
"""Names of the ConfigMaps that matter: evidence, and the settings of the controller of joining nodes. Others are left alone,
since controllers of many clusters put some into every namespace."""
RULES = {
    "pods": "pods are made by the Job controller alone",
    "images": "the spec, the labels and the owners of a pod stay as they are",
    "connect": "nobody enters a pod: no exec, attach, portforward, proxy or ephemeral container",
    "writes": "Jobs and evidence are written by those alone who may make admission policies effective",
}
"""Name of each rule, as every refusal shows it, and what it says."""


def policy(makers: Sequence[str] = (), writers: Sequence[str] = ()) -> dict[str, object]:
    """The `spec` of a ValidatingAdmissionPolicy for a namespace of proofs.

    `makers` are users beside the Job controller that make pods, `writers` those beside the stack's own user that write Jobs and
    ConfigMaps. The stack's user is recognized by a right that it used to make this policy and that no role for tenants
    holds (`edit` and `admin` have no rights in admissionregistration.k8s.io). What a kubelet reports is a subresource,
    `pods/status`, and is not matched. Deleting is not refused either, since it can only remove a proof. Labels of a pod stay,
    since by them the Job controller itself releases it from one Job and gives it to another (pkg/controller, ClaimPods).
    """
    user = "request.userInfo.username"
    entering = "request.operation == 'CONNECT' || request.?subResource.orValue('') == 'ephemeralcontainers'"
    pods = "request.resource.resource == 'pods' && request.?subResource.orValue('') == ''"
    updated = f"{pods} && request.operation == 'UPDATE'"
    same = " && ".join(f"oldObject.metadata.?{field} == object.metadata.?{field}" for field in ("labels", "ownerReferences"))
    may = (
        "authorizer.group('admissionregistration.k8s.io').resource('validatingadmissionpolicybindings').check('create').allowed()"
    )
    written = (
        "request.resource.resource == 'jobs' || "
        f"(request.resource.resource == 'configmaps' && object.metadata.name.matches({text(MAPS)}))"
    )
    rules = {
        "pods": f"!({pods} && request.operation == 'CREATE') || {user} in {text([*JOB_CONTROLLERS, *makers])}",
        "images": f"!({updated}) || (object.spec == oldObject.spec && ({same} || {user} in {text(list(OWNERS))}))",
        "connect": f"!({entering})",
        "writes": f"!({written}) || {user} in {text([*OWNERS, *writers])} || {may}",
    }
    entered = ["exec", "attach", "portforward", "proxy"]
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                rule("", ["CREATE", "UPDATE"], ["pods", "pods/ephemeralcontainers", "configmaps"]),
                rule("", ["CONNECT"], [f"pods/{way}" for way in entered]),
                rule("batch", ["CREATE", "UPDATE"], ["jobs"]),
            ]
        },
        "validations": [
            {
                "expression": expression,
                "message": f"Rule {name} of the proof's guard ({RULES[name]}).",
                "reason": "Forbidden",
            }
            for name, expression in rules.items()
        ],
    }


def rule(group: str, operations: Sequence[str], names: Sequence[str]) -> dict[str, object]:
    """What is matched of one group."""
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": list(operations), "resources": list(names)}


def binding(policy_name: str, namespace: str) -> dict[str, object]:
    """The `spec` of the binding: the policy holds in that namespace, by a label that the API server itself sets."""
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {"policyName": policy_name, "validationActions": ["Deny", "Audit"], "matchResources": selected}
