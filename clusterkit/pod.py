"""The pod of a nested sandbox: its capabilities or an ordinary user, and only together with a Kata RuntimeClass."""

from collections.abc import Mapping, Sequence
from typing import Any

from clusterkit import images, object_names, quantity
from nodekit.errors import NodeError
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.text import printable

ORDINARY_ID = 1000
"""User and group of the variant without capabilities: bubblewrap as a plain user needs user namespaces only."""
MAPPING = "SETFCAP"
"""What root needs besides to map uid 0 into a user namespace, from Linux 5.12 on (user_namespaces(7)). Docker and containerd give
it to every container, and CRI-O to none that does not ask for it (crio.conf(5), default_capabilities)."""
SECCOMP = ("RuntimeDefault", "Unconfined")
"""Seccomp profiles that need no file on the node. Kata does not apply either inside the guest by default
(disable_guest_seccomp); where it does, RuntimeDefault refuses user namespaces to the ordinary user."""
COMMAND = ("sleep", "infinity")
"""What the container runs where nothing else is named: it waits for commands that are executed in it."""
CPU, MEMORY, MEMORY_LIMIT = "250m", "256Mi", "2Gi"
"""What the container requests, and may use, where nothing else is said; Kubernetes quantities."""
ENTRY_NAME = "kata-nodes-entry"
"""The name under which the entry runs; it marks a container that starts through the entry."""
SCRATCH = "1Gi"
"""Bound on /tmp of a read-only root, which lies on the node's disk."""


def check_resources(cpu: str, memory: str, memory_limit: str) -> None:
    """Refuse resources of a container that the API server would refuse, with NodeError `bad-input`: text that is no quantity, and
    a request above its limit, as one that is raised where the limit keeps its default; and those that `quantity.memory` does."""
    quantity.amount("cpu", cpu)
    if quantity.memory("memory", memory) > quantity.memory("memoryLimit", memory_limit):
        problem = f"Key memory is {memory}, which is more than memoryLimit, {memory_limit}"
        raise NodeError("bad-input", problem, expected="a memoryLimit of at least that much")


def security_context(nested_sandbox: bool, *, ordinary_user: bool, read_only_root: bool, seccomp: str) -> dict[str, object]:
    """Security context of the sandbox container.

    As root: the runtime's usual capabilities, and `CAPABILITIES` and `MAPPING` when a sandbox nests in it. The usual ones stay,
    because the proof climbs its ladder with them and common images need them. As an ordinary user: none at all, and no way to
    gain any; it is what Pod Security `restricted` asks for. Raises NodeError `bad-input` for a seccomp profile that is not one
    of `SECCOMP`.
    """
    if seccomp not in SECCOMP:
        expected = f"one of {', '.join(SECCOMP)}"
        raise NodeError("bad-input", f"The seccomp profile {printable(repr(seccomp), 80)} is not known", expected=expected)
    context: dict[str, object] = {"privileged": False, "seccompProfile": {"type": seccomp}}
    if ordinary_user:
        context |= {"runAsNonRoot": True, "runAsUser": ORDINARY_ID, "runAsGroup": ORDINARY_ID}
        context |= {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    elif nested_sandbox:
        context["capabilities"] = {"add": [*CAPABILITIES, MAPPING]}
    if read_only_root:
        context["readOnlyRootFilesystem"] = True
    return context


def enters(container: Mapping[str, Any]) -> bool:
    """Whether a container (core/v1) starts through the entry."""
    command = container.get("command") or []
    return len(command) == 4 and command[0::3] == ["/bin/sh", ENTRY_NAME]


def entry_options(container: Mapping[str, Any]) -> list[str]:
    """The options of the entry in the arguments of a container that `enters`."""
    args = list(container.get("args") or [])
    return args[:2] if args[:1] == ["--user"] else []


def template(
    image: str,
    runtime_class: str,
    labels: dict[str, str],
    nested_sandbox: bool = True,
    *,
    entry: str,
    command: Sequence[str] = COMMAND,
    user_id: int | None = None,
    ordinary_user: bool = False,
    read_only_root: bool = True,
    service_account_token: bool = False,
    seccomp: str = SECCOMP[0],
    cpu: str = CPU,
    memory: str = MEMORY,
    memory_limit: str = MEMORY_LIMIT,
) -> dict[str, object]:
    """A pod template (metadata and spec, Kubernetes core/v1 field names) under `runtime_class`, for any program to use.

    Variants: a nested sandbox as root (the default: its capabilities), one as an ordinary user (`ordinary_user`: none), and
    a pod in which nothing nests (`nested_sandbox` false, as for Firecracker: none, and no promise). `cpu` and `memory` are
    requested, `memory_limit` is what the guest may grow to, in Kubernetes quantities. A read-only root has a writable /tmp,
    where bubblewrap also builds its root.

    `command` is the container's program with its arguments. As root with a nested sandbox it starts through `entry`, the text
    of entry.sh, which uses SYS_ADMIN once, to mount a proc that no path masks: without it bubblewrap cannot mount proc, and
    sandbox-runtime does not start in its default mode. `user_id`: the entry then becomes that user and group without any
    capability, and the sandbox works for it too. The image needs /bin/sh and mount, and setpriv for `user_id`. An ordinary
    user has no capability to mount with, and so only sandbox-runtime's `enableWeakerNestedSandbox`: `procMount: Unmasked` needs
    `hostUsers: false`, which Kata's handler does not support.

    Raises NodeError `bad-input` without a RuntimeClass (capabilities and class are inseparable), without a command, for a
    `user_id` without an entry that could become it, for an unknown seccomp profile, and as `check_resources`.
    """
    check_resources(cpu, memory, memory_limit)
    if not runtime_class:
        raise NodeError(
            "bad-input",
            "A sandbox pod has no RuntimeClass: on the node's own kernel its capabilities would reach the node",
            expected="the name of a Kata RuntimeClass",
        )
    object_names.check("runtimeClass", runtime_class)
    images.check("image", image)
    if not command:
        raise NodeError(
            "bad-input",
            "A sandbox pod has no command: its container would be the entry alone, and end at once",
            expected="the container's program with its arguments",
        )
    entered = nested_sandbox and not ordinary_user
    if user_id is not None and not entered:
        raise NodeError(
            "bad-input",
            "The container has a user id and no entry: only the entry, which needs SYS_ADMIN, becomes that user",
            expected="the user id with a nested sandbox, and without the ordinary user",
        )
    # Programs in other languages than Python send every number as a float.
    options = [] if user_id is None else ["--user", str(int(user_id))]
    started = (
        {"command": ["/bin/sh", "-c", entry, ENTRY_NAME], "args": [*options, *command]} if entered else {"command": list(command)}
    )
    container: dict[str, object] = {
        "name": "sandbox",
        "image": image,
        **started,
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
