"""The pod of a nested sandbox: exactly two capabilities, and only together with a Kata RuntimeClass."""

CAPABILITIES = ("NET_ADMIN", "SYS_ADMIN")
"""What bubblewrap needs when it runs as uid 0 (bubblewrap.c, network.c). Under Kata they act inside the guest; on runc
the same grant would reach the node, so the two are never set without a RuntimeClass."""


def security_context(nested_sandbox: bool) -> dict[str, object]:
    """Security context of the sandbox container: the runtime's usual capabilities, and the two when a sandbox nests in it.

    The usual ones stay, because the proof climbs its ladder with them and common images need them.
    """
    context: dict[str, object] = {"privileged": False, "seccompProfile": {"type": "RuntimeDefault"}}
    if nested_sandbox:
        context["capabilities"] = {"add": list(CAPABILITIES)}
    return context


def template(image: str, runtime_class: str, labels: dict[str, str], nested_sandbox: bool = True) -> dict[str, object]:
    """A pod template (metadata and spec, Kubernetes core/v1 field names) under `runtime_class`.

    Raises ValueError without a RuntimeClass: capabilities and class are inseparable.
    """
    if not runtime_class:
        raise ValueError("A sandbox pod needs a RuntimeClass: on the node's own kernel its capabilities would reach the node.")
    return {
        "metadata": {"labels": labels},
        "spec": {
            "runtimeClassName": runtime_class,
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "sandbox",
                    "image": image,
                    "securityContext": security_context(nested_sandbox),
                    "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
                }
            ],
        },
    }
