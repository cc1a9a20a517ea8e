"""The pod of a nested sandbox: exactly two capabilities or an ordinary user, and only together with a Kata RuntimeClass."""

CAPABILITIES = ("NET_ADMIN", "SYS_ADMIN")
"""What bubblewrap needs when it runs as uid 0 (bubblewrap.c, network.c). Under Kata they act inside the guest; on runc
the same grant would reach the node, so the two are never set without a RuntimeClass."""
ORDINARY_ID = 1000
"""User and group of the variant without capabilities: bubblewrap as a plain user needs user namespaces only."""
SECCOMP = ("RuntimeDefault", "Unconfined")
"""Seccomp profiles that need no file on the node. Kata does not apply either inside the guest by default
(disable_guest_seccomp); where it does, RuntimeDefault refuses user namespaces to the ordinary user."""
SCRATCH = "1Gi"
"""Bound on /tmp of a read-only root, which lies on the node's disk."""


def security_context(
    nested_sandbox: bool, *, ordinary_user: bool = False, read_only_root: bool = False, seccomp: str = "RuntimeDefault"
) -> dict[str, object]:
    """Security context of the sandbox container.

    As root: the runtime's usual capabilities, and the two when a sandbox nests in it. The usual ones stay, because the proof
    climbs its ladder with them and common images need them. As an ordinary user: none at all, and no way to gain any; it is
    what Pod Security `restricted` asks for. Raises ValueError for a seccomp profile that is not one of `SECCOMP`.
    """
    if seccomp not in SECCOMP:
        raise ValueError(f"The seccomp profile {seccomp!r} is not one of {', '.join(SECCOMP)}.")
    context: dict[str, object] = {"privileged": False, "seccompProfile": {"type": seccomp}}
    if ordinary_user:
        context |= {"runAsNonRoot": True, "runAsUser": ORDINARY_ID, "runAsGroup": ORDINARY_ID}
        context |= {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    elif nested_sandbox:
        context["capabilities"] = {"add": list(CAPABILITIES)}
    if read_only_root:
        context["readOnlyRootFilesystem"] = True
    return context


def template(
    image: str,
    runtime_class: str,
    labels: dict[str, str],
    nested_sandbox: bool = True,
    *,
    ordinary_user: bool = False,
    read_only_root: bool = True,
    service_account_token: bool = False,
    seccomp: str = "RuntimeDefault",
    cpu: str = "250m",
    memory: str = "256Mi",
    memory_limit: str = "2Gi",
) -> dict[str, object]:
    """A pod template (metadata and spec, Kubernetes core/v1 field names) under `runtime_class`, for any program to use.

    Variants: a nested sandbox as root (the default: both capabilities), one as an ordinary user (`ordinary_user`: none), and
    a pod in which nothing nests (`nested_sandbox` false, as for Firecracker: none, and no promise). `cpu` and `memory` are
    requested, `memory_limit` is what the guest may grow to, in Kubernetes quantities. A read-only root has a writable /tmp,
    where bubblewrap also builds its root. `procMount` stays out: no guest has shown yet that it unmasks /proc.

    Raises ValueError without a RuntimeClass (capabilities and class are inseparable) and for an unknown seccomp profile.
    """
    if not runtime_class:
        raise ValueError("A sandbox pod needs a RuntimeClass: on the node's own kernel its capabilities would reach the node.")
    container: dict[str, object] = {
        "name": "sandbox",
        "image": image,
        "securityContext": security_context(
            nested_sandbox, ordinary_user=ordinary_user, read_only_root=read_only_root, seccomp=seccomp
        ),
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit}},
    }
    spec: dict[str, object] = {
        "runtimeClassName": runtime_class,
        "automountServiceAccountToken": service_account_token,
        "restartPolicy": "Never",
        "containers": [container],
    }
    if read_only_root:
        container["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
        spec["volumes"] = [{"name": "tmp", "emptyDir": {"sizeLimit": SCRATCH}}]
    return {"metadata": {"labels": labels}, "spec": spec}
