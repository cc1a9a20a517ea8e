"""What the API server itself refuses in the namespaces of sandbox pods: the bodies of an admission policy and its binding."""

import json
from collections.abc import Mapping, Sequence

from clusterkit import object_names
from clusterkit.runtime_class import TAINT
from nodekit.errors import NodeError
from nodekit.rules.text import printable

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Label that the API server itself gives every namespace and lets nobody change."""
SYSTEM_NAMESPACE = "kube-system"
"""Where clusters have their own pods: the network's, kube-proxy and others that use the node's namespaces."""
OF_EVERY_CLUSTER = ("default", "kube-node-lease", "kube-public", SYSTEM_NAMESPACE)
"""Namespaces that the API server makes itself (kubernetes.io, Namespaces)."""
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
ORDINARY = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
"""What a pod on the node's own kernel may add: the list of Pod Security `baseline` (kubernetes.io, Pod Security Standards).
It lists what is allowed, not the two that are meant, because runtimes accept a name in upper and lower case, with and without
CAP_, and ALL; they capitalize by Unicode's rules, so that `SYS_ADM\u0131N` is SYS_ADMIN as well."""
SYSCTLS = (
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
)  # fmt: skip
"""Sysctls that `baseline` calls safe; a kubelet refuses those that are not safe in its own release."""
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
CONFINED = ("", "RuntimeDefault", "Localhost")
"""Types of a seccomp or AppArmor profile that `baseline` lets pass."""
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
PROBES = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop")
HANDLERS = ("httpGet", "tcpSocket")
"""Of probes and hooks: those by which a kubelet connects to somewhere."""
NAMED_SOURCES = (
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker", "gcePersistentDisk",
    "glusterfs", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos",
    "vsphereVolume",
)  # fmt: skip
"""Kinds of volumes that name a server, a disk or a driver themselves: with hostPath and gitRepo those that Pod Security
`restricted` refuses. The node connects to a server of the tenant's choice from its own network, and its own kernel, outside of
any guest, reads a file system of the tenant's making. In a claim's volume an administrator has named them."""
NODE_VOLUMES = ("hostPath", "gitRepo", *NAMED_SOURCES)
"""Kinds of volumes by which a pod acts on the node: its files, and a git that a kubelet runs there, as root, with a repository of
the tenant's choice (CVE-2024-10220; kubernetes.io, Volumes, gitRepo; off by default from Kubernetes 1.33 on)."""
OF_THE_RUNTIME = ("io.katacontainers.", "io.kubernetes.cri.", "io.kubernetes.cri-o.")
"""Beginnings of the annotations by which Kata makes a guest: its own, and those of containerd and CRI-O. CRI-O writes a pod's
annotations and labels over its own annotations (`server/sandbox_run_linux.go`), and Kata reads containerd's there too: the size
of the guest, and the sandbox that a container belongs to (`pkg/oci/utils.go`, CalculateSandboxSizing, SandboxID)."""
RULES = {
    "capabilities": "NET_ADMIN, SYS_ADMIN and other node-level capabilities only under a Kata RuntimeClass",
    "privileged": "no privileged container",
    "host-namespaces": "no hostNetwork, hostPID or hostIPC",
    "host-path": "no hostPath or gitRepo volume, and none whose server, disk or driver the pod names",
    "node-network": "no port of the node, and no host in a probe or hook",
    "annotations": "annotations and labels that Kata reads from the allow-list only",
    "baseline": "what is not in a guest keeps to Pod Security baseline",
    "unproven": "no pod under a Kata RuntimeClass comes to a node before its proof",
}
"""Name of each rule, as every refusal shows it, and what it says."""


def text(value: object) -> str:
    """A CEL literal of a string or a list of strings: CEL reads JSON's escapes."""
    return json.dumps(value)


def names(condition: str) -> str:
    """CEL for the names of all containers `c` of a pod, of the three kinds, for which `condition` holds."""
    lists = (f"object.spec.?{kind}.orValue([]).filter(c, {condition}).map(c, c.name)" for kind in CONTAINERS)
    return " + ".join(lists)


def validation(rule: str, expression: str, message: str) -> dict[str, object]:
    """One rule: the CEL that must hold, and the CEL of its message, behind the rule's name and meaning."""
    opening = f"Rule {rule} of the sandbox guard ({RULES[rule]}): "
    return {
        "expression": expression,
        "message": opening.removesuffix(": ") + ".",
        "messageExpression": f"{text(opening)} + {message}",
        "reason": "Forbidden",
    }


def of_kind(volume: str) -> str:
    """Such as `an nfs volume`, for sentences."""
    return f"{'an' if volume[0] in 'aeiou' or volume in ('fc', 'nfs', 'rbd') else 'a'} {volume} volume"


def confinement(at: str) -> dict[str, str]:
    """What a pod and each of its containers can set against `baseline`, with CEL that is true when it does.

    `at` is the CEL path of either one's securityContext.
    """
    options = f"{at}.?seLinuxOptions"
    return {
        "an unconfined seccompProfile": f"!({at}.?seccompProfile.?type.orValue('') in {text(list(CONFINED))})",
        "an unconfined appArmorProfile": f"!({at}.?appArmorProfile.?type.orValue('') in {text(list(CONFINED))})",
        "seLinuxOptions": f"!({options}.?type.orValue('') in {text(list(SELINUX_TYPES))})"
        f" || {options}.?user.orValue('') != '' || {options}.?role.orValue('') != ''",
    }


def containers_that_set(settings: Mapping[str, str]) -> list[str]:
    """CEL for which containers set something, as lists of texts; `settings` says for each thing when a container `c` does."""
    return [f"({names(sets)}).map(n, 'container ' + n + {text(f' sets {setting}')})" for setting, sets in settings.items()]


def on_the_nodes_network() -> str:
    """CEL for what containers set on the node's network, as a list of texts.

    A port of the node is forwarded to the pod in place of what listens there, such as the kubelet; and the kubelet connects to
    the host of a probe or hook from the node's own network. A guest is between neither.
    """
    places = (f"c.?{probe.replace('.', '.?')}.?{kind}" for probe in PROBES for kind in HANDLERS)
    settings = {
        "a hostPort": "c.?ports.orValue([]).exists(p, p.?hostPort.orValue(0) != 0)",
        "a host in a probe or hook": " || ".join(f"{place}.?host.orValue('') != ''" for place in places),
    }
    return " + ".join(containers_that_set(settings))


def before_a_proof(namespaces: Sequence[str]) -> str:
    """CEL for what brings a pod outside `namespaces` to a node that is not proven yet, as a list of texts.

    A scheduler keeps pods from a tainted node, and a pod that names its node bypasses it. A toleration can also be added later.
    """
    tolerates = f".spec.?tolerations.orValue([]).exists(t, t.?key.orValue('') in {text(['', TAINT])})"
    return (
        f"request.namespace in {text(list(namespaces))} ? [] : "
        f"(object{tolerates} && !(oldObject != null && oldObject{tolerates}) ? [{text(f'tolerates the taint {TAINT}')}] : [])"
        " + (request.operation == 'CREATE' && object.spec.?nodeName.orValue('') != '' ? ['names its node'] : [])"
    )


def for_the_runtime(allowed: Sequence[str]) -> str:
    """CEL for the annotations and labels of `OF_THE_RUNTIME` that an object has and `allowed` does not name, as a list of texts.

    An update brings back those that are there already: a pod from before the guard can still finish.
    """

    def of(kind: str, words: str) -> str:
        ours, before = (f"{root}.metadata.?{kind}.orValue({{}})" for root in ("object", "oldObject"))
        same = f"oldObject != null && k in {before} && oldObject.metadata.{kind}[k] == object.metadata.{kind}[k]"
        read = f"{text(list(OF_THE_RUNTIME))}.exists(p, k.startsWith(p))"
        return f"{ours}.map(k, k).filter(k, {read} && !(k in {text(list(allowed))}) && !({same})).map(k, {words})"

    return f"{of('annotations', 'k')} + {of('labels', text('label ') + ' + k')}"


def beyond_baseline() -> str:
    """CEL for what a pod sets against Pod Security `baseline`, and the guard's other rules do not refuse, as a list of texts.

    The controls are those of kubernetes.io, Pod Security Standards, of Kubernetes 1.37, which older servers' own `baseline`
    lacks in part. `hostUsers: false` (GA in 1.36) loosens none of them here: its user namespace is still one of the node's
    kernel, and an unmasked proc is for guests alone.
    """
    of_containers = {
        "a procMount": "!(c.?securityContext.?procMount.orValue('') in ['', 'Default'])",
        **confinement("c.?securityContext"),
    }
    context = "object.spec.?securityContext"
    annotations = "object.metadata.?annotations.orValue({})"
    return " + ".join(
        [
            *containers_that_set(of_containers),
            *(f"({sets} ? [{text(f'the pod sets {setting}')}] : [])" for setting, sets in confinement(context).items()),
            f"{context}.?sysctls.orValue([]).filter(s, !(s.name in {text(list(SYSCTLS))}))"
            ".map(s, 'the pod sets sysctl ' + s.name)",
            # The form of before 1.30, which the API server still copies into the field.
            f"{annotations}.map(k, k).filter(k, k.startsWith({text(APPARMOR_ANNOTATION)})"
            " && !(object.metadata.annotations[k] in ['', 'runtime/default'])"
            " && !object.metadata.annotations[k].startsWith('localhost/')).map(k, 'the annotation ' + k)",
        ]
    )


def refuse_text(names: object, where: str) -> None:
    """Raise NodeError `bad-input` for text in place of a list of names: each letter would count as a name."""
    if isinstance(names, str):
        problem = f"A sandbox guard's {where} are {printable(repr(names), 80)}, which is text"
        raise NodeError("bad-input", problem, expected="a list of names")


def policy(
    runtime_classes: Sequence[str],
    allowed_annotations: Sequence[str] = (),
    privileged_in_guest: bool = False,
    proof_namespaces: Sequence[str] = (),
) -> dict[str, object]:
    """The `spec` of a ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1, GA from Kubernetes 1.30).

    `runtime_classes` are the classes under which any capability may be added: it acts inside their guest. What reaches the
    node through a guest as well is refused under every class: `privileged` (the runtime passes the node's devices in), host
    namespaces, hostPath, because the shim serves that folder as root of the node, so that root of the guest could write into
    any of its files, the other `NODE_VOLUMES`, and the node's network (`on_the_nodes_network`). `allowed_annotations` are the
    whole keys of the annotations and labels of `OF_THE_RUNTIME` that a pod may carry; by default none, since `kernel_params`,
    for one, decides whether the guest has user namespaces (Kata's default `enable_annotations` permits it).
    `privileged_in_guest` lets `privileged` pass under `runtime_classes`: for nodes whose runtime withholds the node's devices
    (`privileged_without_host_devices` of the handler, in containerd and CRI-O), which no API server can see.
    `proof_namespaces` are those of proofs, where nodes join unproven: pods under `runtime_classes` come to such a node from
    there alone.

    Only pods are matched, at creation, when a debug container joins, and for their annotations and labels at every change: a
    binding, by which a scheduler places a pod, adds its own, and who may write a pod's status may write them too. Whatever
    makes pods (Deployment, Job, PodTemplate) passes here, so no list of kinds is needed, and shows the refusal as its event.
    Security fields of a pod cannot change afterwards, so another update is never refused: a pod from before the guard can still
    finish and be deleted. Annotations and labels can change and are looked at again when they do. A pod on the node's own
    kernel is held to the rest of Pod Security `baseline` (`beyond_baseline`); one in a guest is warned of it by the namespace.

    Raises NodeError `bad-input` without a class, since then the template's own pods could never be made.
    """
    refuse_text(runtime_classes, "RuntimeClasses")
    refuse_text(allowed_annotations, "annotations")
    refuse_text(proof_namespaces, "namespaces of proofs")
    if not runtime_classes or not all(runtime_classes):
        expected = "the name of at least one Kata RuntimeClass"
        raise NodeError("bad-input", "A sandbox guard has no RuntimeClass, or one without a name", expected=expected)
    adds = f"c.?securityContext.?capabilities.?add.orValue([]).exists(a, !(a in {text(list(ORDINARY))}))"
    classes = ", ".join(runtime_classes)
    binds = "request.kind.kind == 'Binding'"
    host = " || ".join(f"object.spec.?{field}.orValue(false)" for field in ("hostNetwork", "hostPID", "hostIPC"))
    variables = {
        # Of a Binding, which has no spec, the annotations alone.
        "settled": f"{binds} || (request.operation == 'UPDATE' && request.?subResource.orValue('') != 'ephemeralcontainers')",
        "guest": f"object.spec.?runtimeClassName.orValue('') in {text(list(runtime_classes))}",
        "adding": names(adds),
        "privileged": names(
            "c.?securityContext.?privileged.orValue(false) || c.?securityContext.?windowsOptions.?hostProcess.orValue(false)"
        ),
        "hostPaths": " + ".join(
            f"object.spec.?volumes.orValue([]).filter(v, has(v.{kind})).map(v, v.name + {text(f' is {of_kind(kind)}')})"
            for kind in NODE_VOLUMES
        ),
        "network": f"variables.settled ? [] : {on_the_nodes_network()}",
        "foreign": for_the_runtime(allowed_annotations),
        "beyond": f"variables.settled || variables.guest ? [] : {beyond_baseline()}",
    }
    inside = "variables.guest || " if privileged_in_guest else ""
    remedy = {
        "capabilities": f" adds capabilities. Set spec.runtimeClassName to one of: {classes}; or do not add them.",
        "privileged": " is privileged, which would expose the node's devices. Remove privileged.",
        "host-namespaces": "Remove hostNetwork, hostPID and hostIPC from the spec.",
        "host-path": ", a way to the node. Use emptyDir or a claim.",
        "node-network": ". Remove it, which acts on the node and not in the pod; use a Service.",
        "annotations": " would change how Kata makes the guest. Remove it, or add it to the guard's allow-list.",
        "baseline": f". Remove it, or run the pod in a guest: spec.runtimeClassName one of: {classes}.",
    }
    unproven = []
    if proof_namespaces:
        variables["early"] = f"{binds} || !variables.guest ? [] : {before_a_proof(proof_namespaces)}"
        waits = text(". Remove that: the node may be one that is not proven yet.")
        message = f"'the pod ' + variables.early.join(' and ') + {waits}"
        unproven.append(validation("unproven", "size(variables.early) == 0", message))
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["pods", "pods/ephemeralcontainers", "pods/status", "pods/binding", "bindings"],
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
                f"variables.settled || {inside}size(variables.privileged) == 0",
                f"'container ' + variables.privileged.join(', ') + {text(remedy['privileged'])}",
            ),
            validation("host-namespaces", f"variables.settled || !({host})", text(remedy["host-namespaces"])),
            validation(
                "host-path",
                "variables.settled || size(variables.hostPaths) == 0",
                f"variables.hostPaths.join(', ') + {text(remedy['host-path'])}",
            ),
            validation(
                "node-network",
                "size(variables.network) == 0",
                f"variables.network.join(', ') + {text(remedy['node-network'])}",
            ),
            validation(
                "annotations",
                "size(variables.foreign) == 0",
                f"variables.foreign.join(', ') + {text(remedy['annotations'])}",
            ),
            validation(
                "baseline",
                "size(variables.beyond) == 0",
                f"variables.beyond.join(', ') + {text(remedy['baseline'])}",
            ),
            *unproven,
        ],
    }


def binding(policy_name: str, namespaces: Sequence[str]) -> dict[str, object]:
    """The `spec` of the binding: the policy holds in the `namespaces` of these names, refuses and is audited.

    By name and not by a label of ours: who may label a namespace could take the guard off it. Raises NodeError
    `bad-input` without one, for one that no namespace can have, and for the cluster's own, whose pods it would refuse when they
    are made again.
    """
    refuse_text(namespaces, "namespaces")
    if not namespaces or not all(namespaces):
        expected = "the name of at least one namespace"
        raise NodeError("bad-input", "A sandbox guard has no namespace, or one without a name", expected=expected)
    if SYSTEM_NAMESPACE in namespaces:
        problem = f"A sandbox guard of {SYSTEM_NAMESPACE} would refuse the cluster's own pods, which reach into their node"
        raise NodeError("bad-input", problem, expected="a namespace that is made for sandboxes")
    names = [object_names.check_label("namespaces", name) for name in namespaces]
    selected = {"key": NAMESPACE_LABEL, "operator": "In", "values": names}
    return {
        "policyName": policy_name,
        "validationActions": ["Deny", "Audit"],
        "matchResources": {"namespaceSelector": {"matchExpressions": [selected]}},
    }


def namespace_labels() -> dict[str, str]:
    """Labels of a namespace of sandbox pods: Pod Security.

    `baseline` and `restricted` refuse NET_ADMIN and SYS_ADMIN (kubernetes.io, Pod Security Standards); what `privileged` lets
    pass is the guard's to refuse, and people are warned of what `baseline` would have refused.
    """
    return {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": "baseline",
        "pod-security.kubernetes.io/audit": "baseline",
    }
