"""What the API server itself refuses in the namespaces of sandbox pods: the bodies of an admission policy and its binding."""

import json
from collections.abc import Sequence

LABEL = "kata-nodes/guard"
"""Label of the namespaces that a guard watches; its value is the guard's scope, so that two guards on one cluster, each with
its own classes, do not refuse each other's pods."""
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
ORDINARY = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What a pod on the node's own kernel may add: the list of Pod Security `baseline` (kubernetes.io, Pod Security Standards).
A list of what is allowed and not of the two that are meant, because runtimes accept a name in any case, with and without
CAP_, ALL among them, and turn letters to capitals by Unicode's rules, by which `SYS_ADM\u0131N` is SYS_ADMIN as well."""
RULES = {
    "capabilities": "NET_ADMIN, SYS_ADMIN and other node-level capabilities only under a Kata RuntimeClass",
    "privileged": "no privileged container",
    "host-namespaces": "no hostNetwork, hostPID or hostIPC",
    "host-path": "no hostPath volume",
    "annotations": "io.katacontainers annotations from the allow-list only",
}
"""Name of each rule, as every refusal gives it, and what it says."""


def text(value: object) -> str:
    """A CEL literal of a string or a list of strings: CEL reads JSON's escapes."""
    return json.dumps(value)


def names(condition: str) -> str:
    """CEL for the names of all containers `c` of a pod, of the three kinds, for which `condition` holds."""
    lists = (f"object.spec.?{kind}.orValue([]).filter(c, {condition}).map(c, c.name)" for kind in CONTAINERS)
    return " + ".join(lists)


def validation(rule: str, expression: str, said: str) -> dict[str, object]:
    """One rule: the CEL that must hold, and the CEL of its message, behind the rule's name and meaning."""
    opening = f"Rule {rule} of the sandbox guard ({RULES[rule]}): "
    return {
        "expression": expression,
        "message": opening.removesuffix(": ") + ".",
        "messageExpression": f"{text(opening)} + {said}",
        "reason": "Forbidden",
    }


def policy(runtime_classes: Sequence[str], allowed_annotations: Sequence[str] = ()) -> dict[str, object]:
    """The `spec` of a ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1, GA from Kubernetes 1.30).

    `runtime_classes` are the classes under which any capability may be added: it acts inside their guest. What reaches the
    node through a guest as well is refused under every class: `privileged` (the runtime passes the node's devices in), host
    namespaces, and hostPath, because the shim serves that folder as root of the node, so that root of the guest could write
    into any of its files. `allowed_annotations` are the whole keys of `io.katacontainers.` annotations that a pod may carry;
    by default none, since `kernel_params` among them decides whether the guest has user namespaces (Kata's default
    `enable_annotations` permits it).

    Pods alone are matched, at creation and when a debug container joins: whatever makes pods (Deployment, Job, PodTemplate)
    passes here, is tied to no list of kinds, and tells the refusal as its event. Security fields of a pod cannot change
    afterwards, so another update is never refused: a pod from before the guard can still finish and be deleted. Annotations
    can change and are looked at again when they do. What Pod Security `baseline` refuses beyond these rules (host ports,
    unsafe sysctls) is left to the namespace's warnings.

    Raises ValueError without a class, since then the template's own pods could never be made.
    """
    if not runtime_classes or not all(runtime_classes):
        raise ValueError("A sandbox guard needs the name of at least one Kata RuntimeClass.")
    adds = f"c.?securityContext.?capabilities.?add.orValue([]).exists(a, !(a in {text(list(ORDINARY))}))"
    foreign = (
        "object.metadata.?annotations.orValue({}).map(k, k).filter(k, k.startsWith('io.katacontainers.')"
        f" && !(k in {text(list(allowed_annotations))})"
        " && !(oldObject != null && k in oldObject.metadata.?annotations.orValue({})"
        " && oldObject.metadata.annotations[k] == object.metadata.annotations[k]))"
    )
    classes = ", ".join(runtime_classes)
    host = " || ".join(f"object.spec.?{field}.orValue(false)" for field in ("hostNetwork", "hostPID", "hostIPC"))
    variables = {
        "settled": "request.operation == 'UPDATE' && request.?subResource.orValue('') != 'ephemeralcontainers'",
        "guest": f"object.spec.?runtimeClassName.orValue('') in {text(list(runtime_classes))}",
        "adding": names(adds),
        "privileged": names("c.?securityContext.?privileged.orValue(false)"),
        "hostPaths": "object.spec.?volumes.orValue([]).filter(v, has(v.hostPath)).map(v, v.name)",
        "foreign": foreign,
    }
    remedy = {
        "capabilities": f" adds capabilities. Set spec.runtimeClassName to one of: {classes}; or do not add them.",
        "privileged": " is privileged, which would hand the node's devices over. Leave privileged out.",
        "host-namespaces": "Leave hostNetwork, hostPID and hostIPC out of the spec.",
        "host-path": " is a hostPath volume, a way to the node's files. Use emptyDir or a claim.",
        "annotations": " would change how Kata makes the guest. Leave it out, or have it put on the guard's allow-list.",
    }
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["pods", "pods/ephemeralcontainers"],
                }
            ]
        },
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": [
            validation(
                "capabilities",
                "variables.settled || variables.guest || size(variables.adding) == 0",
                f"'container ' + variables.adding.join(', ') + {text(remedy['capabilities'])}",
            ),
            validation(
                "privileged",
                "variables.settled || size(variables.privileged) == 0",
                f"'container ' + variables.privileged.join(', ') + {text(remedy['privileged'])}",
            ),
            validation("host-namespaces", f"variables.settled || !({host})", text(remedy["host-namespaces"])),
            validation(
                "host-path",
                "variables.settled || size(variables.hostPaths) == 0",
                f"variables.hostPaths.join(', ') + {text(remedy['host-path'])}",
            ),
            validation(
                "annotations",
                "size(variables.foreign) == 0",
                f"variables.foreign.join(', ') + {text(remedy['annotations'])}",
            ),
        ],
    }


def binding(policy_name: str, scope: str) -> dict[str, object]:
    """The `spec` of the binding: the policy holds in namespaces whose label `LABEL` is `scope`, refuses and is audited."""
    return {
        "policyName": policy_name,
        "validationActions": ["Deny", "Audit"],
        "matchResources": {"namespaceSelector": {"matchLabels": {LABEL: scope}}},
    }


def namespace_labels(scope: str) -> dict[str, str]:
    """Labels of a namespace of sandbox pods: Pod Security, and the guard of `scope`.

    `baseline` and `restricted` refuse NET_ADMIN and SYS_ADMIN (kubernetes.io, Pod Security Standards); what `privileged` lets
    pass is the guard's to refuse, and people are warned of what `baseline` would have refused.
    """
    return {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": "baseline",
        "pod-security.kubernetes.io/audit": "baseline",
        LABEL: scope,
    }
