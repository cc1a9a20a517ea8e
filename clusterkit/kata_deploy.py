"""The values for kata-deploy's Helm chart, by release: QEMU alone, and the guests' kernel parameters as a drop-in."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from clusterkit import images, pod_room, rollout, runtime_class
from clusterkit.cluster_errors import ADMISSION
from clusterkit.daemon_placing import KEEPS_AWAY, runs_on
from clusterkit.runtime_class import TAINT
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_config, kernel_params
from nodekit.rules.kata.guest_memory import pod_overhead
from nodekit.rules.kata.kata_layout import version_numbers
from nodekit.rules.node_state import merged_parameters
from nodekit.rules.text import printable

CHART = "oci://ghcr.io/kata-containers/kata-deploy-charts/kata-deploy"
"""The chart as Kata's installation guide names it."""
SHIMS = {"go": "qemu", "rust": "qemu-runtime-rs"}
"""Kata runtime -> the chart's shim for QEMU."""
SYSTEM_LABEL = "kubernetes.io/os"
"""Label by which every kubelet names its operating system; the chart's DaemonSet selects none."""
MACHINES = ("amd64", "arm64", "s390x")
"""Those for which every chart from 3.26.0 on has both shims (`shims.<shim>.supportedArches`)."""
RUST_SINCE = (4, 0, 0)
"""First chart whose `defaultShim` is qemu-runtime-rs, on every machine but ppc64le (values.yaml of 3.32.0, 4.0.0 and 4.1.0). The
Go runtime stays selectable and gets no new features (docs/migrating-config-go-runtime-to-runtime-rs.md)."""
CUSTOM_SINCE = (3, 26, 0)
"""First chart with `customRuntimes`, whose drop-in is written beside a copy of the base file."""
DIGEST_SINCE = (3, 28, 0)
"""First chart that takes an image by digest as it is; before, a tag followed (templates/_helpers.tpl, `kata-deploy.image`)."""
SHIM_DROP_IN_SINCE = (3, 32, 0)
"""First chart with `shims.<shim>.dropIn`, written as 50-user-overrides.toml beside the shim's own base file."""
ANNOTATIONS_SINCE = (4, 0, 0)
"""First chart with `podAnnotations`."""
CONFIG_DIR_SINCE = (3, 29, 0)
"""First chart with `containerd.configDir`; the ones before read none."""
AFFINITY_SINCE = (4, 0, 0)
"""First chart with `affinity`; the ones before read none."""
BASE_SINCE = (3, 15, 0)
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
"""`kernel_params` of the QEMU base files, both runtimes, from 3.15.0; empty before (`arch/amd64-options.mk`). A drop-in
replaces the whole string, so it stands in ours too: guests without it have stayed down."""
NAMESPACE = "kube-system"
"""Of the release where nothing else is said, as in Kata's installation guide."""
DISTRIBUTIONS = ("k8s", "k3s", "rke2", "k0s", "microk8s")
"""What the chart's `k8sDistribution` can be: it says where the nodes' containerd has its configuration."""
MICROK8S_LABEL = "microk8s.io/cluster"
CPU_FLAG = "feature.node.kubernetes.io/cpu-cpuid."
"""Beginning of the labels by which node-feature-discovery reports a processor's features."""
VIRTUALIZATION = ("VMX", "SVM")
"""Features without which a processor of amd64 runs no KVM; the chart's own affinity asks for them too."""
DISCOVERY = "node-feature-discovery"
"""Key of the chart's values under which it installs node-feature-discovery, and then leaves such nodes out itself."""
PODS = "name=kata-deploy"
"""Label selector of the DaemonSet's pods."""
RESTART_SECONDS = 300
"""How long kata-deploy itself waits for a node whose container runtime it restarts (`wait_till_node_is_ready_timeout`)."""
SHOWN = 5
"""Nodes that a refusal names."""
CUSTOM_HANDLER = "kata-nodes-qemu"
ROLL = "kata-nodes/drop-in"


def _numbers(version: str) -> tuple[int, int, int]:
    numbers = version_numbers(version)
    if numbers is None or numbers < CUSTOM_SINCE:
        raise NodeError(
            "bad-input",
            f"The chart of Kata {version} takes no drop-in for kernel parameters",
            expected=f"{'.'.join(map(str, CUSTOM_SINCE))} or newer, or configure the nodes over SSH",
        )
    return numbers


def default_runtime(version: str) -> str:
    """The runtime of the chart's own `defaultShim`, where no setting names one."""
    return "rust" if _numbers(version) >= RUST_SINCE else "go"


def shim_of(runtime: str) -> str:
    """The chart's shim for QEMU; raises NodeError `bad-input` for a runtime that Kata does not have."""
    if runtime not in SHIMS:
        raise NodeError("bad-input", f"Kata runtime {printable(runtime, 40)!r} is not known", expected=" or ".join(SHIMS))
    return SHIMS[runtime]


def handler(version: str, runtime: str) -> str:
    """The handler whose guests get the parameters: the shim's own from 3.32.0, a custom runtime's before."""
    return f"kata-{shim_of(runtime)}" if _numbers(version) >= SHIM_DROP_IN_SINCE else CUSTOM_HANDLER


def parameters(version: str, additions: Sequence[str], nested_sandbox: bool) -> str:
    """The whole `kernel_params` of a guest: the release's own, then the document's and the given ones, merged by key."""
    parameters_of_guest = merged_parameters(additions, nested_sandbox)
    base = BASE if _numbers(version) >= BASE_SINCE else ""
    kernel_params.check(parameters_of_guest, base)
    return kernel_params.merge(base, parameters_of_guest)


def values(
    version: str,
    runtime: str,
    kernel_parameters: Sequence[str],
    nested_sandbox: bool,
    image: str | None = None,
    *,
    node_selector: Mapping[str, str] | None = None,
    distribution: str = DISTRIBUTIONS[0],
    chart_values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The chart's values; `image` is the DaemonSet's without its tag, the chart's own when None.

    `node_selector` are labels of the nodes that get Kata, `distribution` one of DISTRIBUTIONS, and `chart_values` values of the
    chart to merge in, known here or not. Raises NodeError `bad-input` for a release without drop-ins, and for a
    value of the chart that a setting decides; or those of `kernel_params.check` and `images.without_tag`.

    A changed drop-in changes the DaemonSet's pods, so they roll and kata-deploy configures every node again: by an
    annotation where the chart has one, before by a toleration of a taint that nobody sets. A tenth of the nodes rolls at a time:
    one by one, as in the chart, a few dozen take longer than Helm waits, and all that was changed is then rolled back.
    """
    numbers, shim = _numbers(version), shim_of(runtime)
    if distribution not in DISTRIBUTIONS:
        problem = f"The Kubernetes distribution {printable(repr(distribution), 40)} is not known"
        raise NodeError("bad-input", problem, expected=f"one of {', '.join(DISTRIBUTIONS)}")
    drop_in = kata_config.drop_in("qemu", parameters(version, kernel_parameters, nested_sandbox))
    digest = hashlib.sha256(drop_in.encode()).hexdigest()[:16]
    chosen: dict[str, Any] = {
        "k8sDistribution": distribution,
        "nodeSelector": dict(node_selector or {}),
        "shims": {"disableAll": True, shim: {"enabled": True}},
        # On a node of another machine, kata-deploy ends where its default shim is none of those that are on.
        "defaultShim": dict.fromkeys(MACHINES, shim),
        # The classes of the stack are made after the proof of the nodes, by the stack.
        "runtimeClasses": {"enabled": False, "createDefault": False},
        "snapshotter": {"setup": []},
        "updateStrategy": {"rollingUpdate": {"maxUnavailable": rollout.BATCH}},
        # A node that waits for its proof gets Kata first.
        "tolerations": [{"key": TAINT, "operator": "Exists"}],
    }
    if image:
        reference = images.without_tag("kubernetes.kataDeploy.image", image, digest=numbers >= DIGEST_SINCE)
        chosen["image"] = {"reference": reference}
    if numbers >= SHIM_DROP_IN_SINCE:
        chosen["shims"] = {"disableAll": True, shim: {"enabled": True, "dropIn": drop_in}}
    else:
        chosen["customRuntimes"] = {
            "enabled": True,
            "runtimes": {
                CUSTOM_HANDLER: {
                    "baseConfig": shim,
                    "dropIn": drop_in,
                    "runtimeClass": _class_text(version),
                    "containerd": {"snapshotter": ""},
                    "crio": {"pullType": ""},
                }
            },
        }
    if numbers >= ANNOTATIONS_SINCE:
        chosen["podAnnotations"] = {ROLL: digest}
    else:
        rolling = {"key": ROLL, "operator": "Equal", "value": digest, "effect": "NoSchedule"}
        chosen["tolerations"] = [{"key": TAINT, "operator": "Exists"}, rolling]
    taints = (chart_values or {}).get("startupTaints")
    if isinstance(taints, list) and any(str(each).partition(":")[0] == TAINT for each in taints):
        # kata-deploy removes these once Kata is installed (charts from 4.0.0 on), which proves nothing.
        message = f"kubernetes.kataDeploy.values: startupTaints {TAINT} is decided by kubernetes.joiningNodes"
        raise NodeError("bad-input", message, "kata-deploy-value")
    return merged(chosen, chart_values or {}, owned(shim, version))


def owned(shim: str, version: str) -> dict[tuple[str, ...], str]:
    """Keys of the chart's values that settings of the stack decide -> which one."""
    keys = {
        ("k8sDistribution",): "kubernetes.kataDeploy.k8sDistribution",
        ("nodeSelector",): "kubernetes.kataDeploy.nodeSelector",
        ("image", "reference"): "kubernetes.kataDeploy.image",
        ("image", "tag"): "kata.version",
        ("defaultShim", "amd64"): "kata.runtime",
        ("shims", shim, "enabled"): "kata.runtime",
        # kata-deploy makes kernel parameters of these, in a drop-in that ours replaces.
        ("shims", shim, "agent", "httpsProxy"): "kata.kernelParams",
        ("shims", shim, "agent", "noProxy"): "kata.kernelParams",
        # It would be part of the handler's name, and of the label that the RuntimeClass selects by.
        ("env", "multiInstallSuffix"): "kata.runtime",
        ("podAnnotations", ROLL): "kata.kernelParams",
    }
    if _numbers(version) >= SHIM_DROP_IN_SINCE:
        return {**keys, ("shims", shim, "dropIn"): "kata.kernelParams"}
    return {
        **keys,
        ("customRuntimes", "enabled"): "kata.kernelParams",
        ("customRuntimes", "runtimes", CUSTOM_HANDLER): "kata.version",
    }


def merged(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], decided: Mapping[tuple[str, ...], str], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`theirs` merged over `ours`, mapping by mapping; lists of the same key are joined, since each entry stands for itself, and
    nothing in place of one, as of a list whose entries are all comments, adds nothing.

    Raises NodeError `bad-input` for a key of `decided`, or where something other than a mapping takes the place of one.
    """
    laid = dict(ours)
    for key, value in theirs.items():
        key_path = (*path, key)
        below = [place for place in decided if place[: len(key_path)] == key_path]
        if key_path in decided or (below and not isinstance(value, Mapping)):
            raise NodeError(
                "bad-input",
                f"kubernetes.kataDeploy.values: {'.'.join(key_path)} is decided by "
                f"{decided[key_path if key_path in decided else below[0]]}",
                "kata-deploy-value",
            )
        before = ours.get(key)
        if isinstance(value, Mapping):
            laid[key] = merged(before if isinstance(before, Mapping) else {}, value, decided, key_path)
        elif isinstance(value, list) and isinstance(before, list):
            laid[key] = [*before, *value]
        elif value is None and isinstance(before, list):
            continue
        else:
            laid[key] = value
    return laid


def distribution_of(node: Mapping[str, Any]) -> str | None:
    """Which of DISTRIBUTIONS a node (core/v1) reports; None where that does not matter: CRI-O's place is the same in all."""
    about = node.get("status", {}).get("nodeInfo", {})
    runtime, kubelet = str(about.get("containerRuntimeVersion", "")), str(about.get("kubeletVersion", ""))
    if runtime.startswith(("cri-o:", "crio:")):
        return None
    if MICROK8S_LABEL in (node["metadata"].get("labels") or {}):
        return "microk8s"
    # Versions such as v1.34.1+k3s1, v1.34.1+rke2r1 and v1.34.1+k0s.
    build = kubelet.partition("+")[2]
    return next((name for name in DISTRIBUTIONS[1:] if build.startswith(name)), DISTRIBUTIONS[0])


def runs_no_kvm(node: Mapping[str, Any]) -> bool:
    """Whether node-feature-discovery reports that a node's processor has no virtualization; False where it reports nothing."""
    labels = node["metadata"].get("labels") or {}
    if not any(name.startswith(CPU_FLAG) for name in labels) or labels.get("kubernetes.io/arch", "amd64") != "amd64":
        return False
    return not any(labels.get(f"{CPU_FLAG}{name}") == "true" for name in VIRTUALIZATION)


def fits(nodes: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], version: str) -> None:
    """Refuse to give Kata to nodes (core/v1) that the chart's values `chosen` do not fit, before anything is made.

    Nodes on which none of its pods would run, such as a control plane whose taint the values do not tolerate, are left out.

    Raises NodeError: `cluster-node-unknown` where no node has the selector's labels, `kata-deploy-distribution` where one reports
    another distribution, since Kata would be configured where its containerd never looks, `kata-deploy-no-kvm` where one is known
    to have no KVM, since it would be labelled as if it had Kata, or runs Windows, where no pod of kata-deploy ever starts.
    """
    selector = chosen["nodeSelector"]
    selected = [node for node in nodes if selector.items() <= (node["metadata"].get("labels") or {}).items()]
    if selector and not selected:
        labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        raise NodeError(
            "cluster-node-unknown",
            f"kubernetes.kataDeploy.nodeSelector: no node has the labels {labels}",
            "labels",
        )
    selected = with_pods(nodes, chosen, version)
    labels_of = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in selected}
    if foreign := {name: "" for name, labels in labels_of.items() if labels.get(SYSTEM_LABEL, "linux") != "linux"}:
        raise NodeError(
            "kata-deploy-no-kvm",
            f"kata-deploy would run on {len(foreign)} of {len(selected)} nodes whose system is not Linux: {listed(foreign)}",
            "linux",
        )
    declared = chosen["k8sDistribution"]
    others = {node["metadata"]["name"]: actual for node in selected if (actual := distribution_of(node)) not in (declared, None)}
    # A folder that is named explicitly replaces the distribution's, in the chart as well.
    elsewhere = _numbers(version) >= CONFIG_DIR_SINCE and (chosen.get("containerd") or {}).get("configDir")
    if others and not elsewhere:
        raise NodeError(
            "kata-deploy-distribution",
            f"kubernetes.kataDeploy.k8sDistribution is {declared}, and {named(others)}",
        )
    without = {node["metadata"]["name"]: "VMX or SVM" for node in selected if runs_no_kvm(node)}
    if without and not (chosen.get(DISCOVERY) or {}).get("enabled"):
        raise NodeError(
            "kata-deploy-no-kvm",
            f"kata-deploy would run on {len(without)} of {len(selected)} nodes whose processor has no virtualization "
            f"(node-feature-discovery labels them so): {listed(without)}",
        )


def with_pods(nodes: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], version: str) -> list[Mapping[str, Any]]:
    """The nodes on which kata-deploy has a pod, by the chart's values."""
    keys = ("nodeSelector", "tolerations", *(["affinity"] if _numbers(version) >= AFFINITY_SINCE else []))
    return [node for node in nodes if runs_on(node, {key: chosen.get(key) for key in keys})]


def nowhere(nodes: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], version: str) -> str:
    """What to tell a person where kata-deploy has a pod on none of the nodes; empty where it has. Others may still join."""
    if not nodes or with_pods(nodes, chosen, version):
        return ""
    taints = [taint for node in nodes for taint in (node.get("spec") or {}).get("taints") or []]
    keys = printable(", ".join(sorted({str(taint["key"]) for taint in taints if taint.get("effect") in KEEPS_AWAY})), 300)
    why = f"whose taints are {keys}" if keys else "none of which its affinity selects"
    return (
        f"kata-deploy runs on none of the {len(nodes)} nodes that there are now, {why}. If it should, tolerate the taints or "
        "change the affinity in kubernetes.kataDeploy.values, and for the sandboxes in kubernetes.tolerations."
    )


def unfinished(
    nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], version: str, waited: float = 0.0
) -> dict[str, str]:
    """Nodes (core/v1) whose pod of kata-deploy has more to do there, each with what shows it; `waited` are seconds.

    Helm waits for all but as many pods as may be unavailable at a time (`pkg/kube/ready.go`, daemonSetReady), which is at least
    one: for nothing on a single node. The chart's pods have a readiness probe from 3.31 on; before, only the node's labels
    show that Kata is there, and nothing shows that a changed drop-in is. A node whose kubelet is silent is left out, since it may
    never come back, and one that is not Ready after RESTART_SECONDS: it starts no pod either.
    """
    by_name = {node["metadata"]["name"]: node for node in nodes}
    reasons = {}
    for pod in pods:
        about, status = pod["metadata"], pod.get("status", {})
        node = by_name.get(pod["spec"].get("nodeName", ""))
        if node is None or about.get("deletionTimestamp") or _ready(node) == "Unknown":
            continue
        if _ready(node) == "False" and waited >= RESTART_SECONDS:
            continue
        labels = node["metadata"].get("labels") or {}
        lacking = [f"{key}={value}" for key, value in runtime_class.node_selector(version).items() if labels.get(key) != value]
        if _ready(pod) != "True":
            states = [each.get("state") or {} for each in status.get("containerStatuses") or []]
            waiting = [state["waiting"] for state in states if state.get("waiting")]
            words = [": ".join(filter(None, (each.get("reason"), each.get("message")))) for each in waiting]
            cause = f" ({printable('; '.join(words), 300)})" if any(words) else ""
            reasons[node["metadata"]["name"]] = f"its pod {about['name']} is not ready{cause}"
        elif lacking:
            reasons[node["metadata"]["name"]] = f"it has no label {', '.join(lacking)}"
    return reasons


def left_behind(nodes: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> str:
    """What to tell a person of nodes that have Kata's label and no pod of kata-deploy; empty where there are none.

    Before 4.1.0, a pod that a changed selector takes off a node removes nothing there while its DaemonSet exists (kata-deploy,
    `cleanup`).
    """
    served = {pod["spec"].get("nodeName") for pod in pods}
    label = runtime_class.NODE_LABEL
    labelled = [node["metadata"]["name"] for node in nodes if (node["metadata"].get("labels") or {}).get(label) == "true"]
    left = {name: "" for name in labelled if name not in served}
    if not pods or not left:
        return ""
    return (
        f"no pod of kata-deploy runs on {listed(left)}, labelled {label}=true: sandboxes are scheduled there, and a proof by "
        f"that label covers them. Where a changed nodeSelector left the label behind, remove it: kubectl label node NODE {label}-"
    )


def unplaced(pods: Sequence[Mapping[str, Any]]) -> str:
    """What to tell a person of nodes on which the scheduler finds no place for kata-deploy's pod; empty where there are none.

    Helm counts such a pod among those that may be unavailable, and the node has no label by which a proof would find it.
    """
    words = {_node_of(pod): message for pod in pods if (message := pod_room.unscheduled(pod)) is not None}
    if not words:
        return ""
    some = [f"{name} ({printable(' '.join(text.split()), 200).rstrip('.')})" for name, text in sorted(words.items())[:SHOWN]]
    rest = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return (
        f"kata-deploy's pod has no place on {', '.join(some)}{rest}: no Kata is installed there, and a proof by its label "
        "leaves out what never had it. Make room there and run pulumi up again, or leave the node out with "
        "kubernetes.kataDeploy.nodeSelector."
    )


def _node_of(pod: Mapping[str, Any]) -> str:
    """The node that a pod of a DaemonSet is for, also before it is scheduled (pkg/controller/daemon/util)."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    fields = [each for term in terms for each in term.get("matchFields") or [] if each.get("key") == "metadata.name"]
    return str(next((name for each in fields for name in each.get("values") or []), "a node"))


def _ready(described: Mapping[str, Any]) -> str:
    """Whether a node or a pod is ready: True, False, or Unknown for a node that has long reported nothing."""
    conditions = described.get("status", {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "False")


def not_finished(reasons: Mapping[str, str], seconds: int) -> NodeError:
    """The refusal of a release whose pods did not finish in time; `reasons` as `unfinished` returns them."""
    some = [f"{name} ({reason})" for name, reason in sorted(reasons.items())[:SHOWN]]
    rest = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    nodes = "node" if len(reasons) == 1 else "nodes"
    return NodeError(
        "kata-deploy-unfinished",
        f"kata-deploy has not finished on {len(reasons)} {nodes} in {seconds} s: {', '.join(some)}{rest}",
    )


def release_failed(text: str, namespace: str) -> NodeError | None:
    """What Helm's error `text` about the release in `namespace` means; None where it speaks for itself (helm, pkg/action)."""
    if ADMISSION.search(text):
        return None  # the words are a webhook's or a policy's, which they name
    release = f"kata-deploy's release in namespace {printable(namespace, 63)}"
    if re.search(r"(?s)has been (uninstalled|rolled back) due to .*(deadline exceeded|timed out)", text):
        return NodeError(
            "kata-deploy-unfinished",
            f"{release} was taken back, because its pods were not ready in time",
            "taken-back",
            namespace=namespace,
        )
    for words, why, case in (
        ("cannot re-use a name that is still in use", "exists already, and is not this stack's", "exists"),
        ("has no deployed releases", "was never complete", "exists"),
        ("another operation (install/upgrade/rollback) is in progress", "is being changed, or such a run was cut off", "pending"),
        (f'namespaces "{namespace}" not found', "is not made, because there is no such namespace", "namespace"),
        ("invalid ownership metadata", "is not made, because objects of its names exist without it", "objects"),
    ):
        if words in text:
            return NodeError("kata-deploy-release", f"{release} {why}", case, namespace=namespace)
    return None


def listed(nodes: Mapping[str, str]) -> str:
    """The first names, and how many more there are."""
    names = sorted(nodes)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def named(others: Mapping[str, str]) -> str:
    """Which nodes run which distribution."""
    by_kind = {kind: {name: kind for name, other in others.items() if other == kind} for kind in sorted(set(others.values()))}
    return "; ".join(f"{listed(nodes)} {'runs' if len(nodes) == 1 else 'run'} {kind}" for kind, nodes in by_kind.items())


def _class_text(version: str) -> str:
    """The RuntimeClass that the chart insists on for a custom runtime: it reads the handler out of this text, line by line."""
    overhead = pod_overhead(version)
    return (
        "kind: RuntimeClass\napiVersion: node.k8s.io/v1\n"
        f"metadata:\n  name: {CUSTOM_HANDLER}\n  labels:\n    app.kubernetes.io/managed-by: kata-deploy\n"
        f"handler: {CUSTOM_HANDLER}\n"
        f"overhead:\n  podFixed:\n    memory: {overhead['memory']}\n    cpu: {overhead['cpu']}\n"
        f'scheduling:\n  nodeSelector:\n    {runtime_class.NODE_LABEL}: "true"\n'
    )
