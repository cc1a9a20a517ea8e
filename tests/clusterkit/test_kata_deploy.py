"""kata-deploy's values. Lost if these fail: every guest's base parameters, or nodes that keep the old ones."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from clusterkit import kata_deploy
from components.cluster import kata_deploy as component
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_config

SEED, LIMIT = "user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"


def values(version: str, *parameters: str, runtime: str = "go") -> Any:
    return kata_deploy.values(version, runtime, parameters, True)


def written(text: str) -> str:
    """The parameters that a drop-in sets."""
    return kata_config.parameters([("drop-in", text)], "qemu")


@pytest.mark.parametrize(
    ("version", "runtime", "handler"),
    [
        ("3.26.0", "go", "kata-nodes-qemu"),
        ("3.31.0", "rust", "kata-nodes-qemu"),
        ("3.32.0", "go", "kata-qemu"),
        ("4.1.0", "rust", "kata-qemu-runtime-rs"),
    ],
)
def test_the_handler_is_the_one_that_has_the_drop_in(version: str, runtime: str, handler: str) -> None:
    assert kata_deploy.handler(version, runtime) == handler


def test_without_a_runtime_it_is_the_default_of_the_chart() -> None:
    chosen = {version: kata_deploy.default_runtime(version) for version in ("3.26.0", "3.32.0", "4.0.0", "4.2.0")}
    assert chosen == {"3.26.0": "go", "3.32.0": "go", "4.0.0": "rust", "4.2.0": "rust"}


def test_from_3_32_the_shim_has_the_drop_in_and_nothing_else_is_on() -> None:
    chart = values("3.32.0", LIMIT)
    assert chart["shims"] == {"disableAll": True, "qemu": {"enabled": True, "dropIn": chart["shims"]["qemu"]["dropIn"]}}
    assert written(chart["shims"]["qemu"]["dropIn"]) == f"{kata_deploy.BASE} {SEED} {LIMIT}"
    assert "customRuntimes" not in chart
    assert values("4.1.0", runtime="rust")["shims"]["qemu-runtime-rs"]["enabled"] is True


def test_a_proxy_of_the_guests_agent_is_a_kernel_parameter() -> None:
    proxy = "agent.https_proxy=http://192.0.2.1:3128"
    assert written(values("3.32.0", proxy)["shims"]["qemu"]["dropIn"]).endswith(f" {proxy}")


@pytest.mark.parametrize(("version", "runtime", "shim"), [("3.32.0", "rust", "qemu-runtime-rs"), ("4.1.0", "go", "qemu")])
def test_a_node_of_another_machine_has_a_default_shim_that_is_on(version: str, runtime: str, shim: str) -> None:
    """Its kata-deploy ends otherwise, as on a node of arm64: DEFAULT_SHIM must be one of the configured SHIMS."""
    chart = values(version, runtime=runtime)
    assert chart["defaultShim"] == {"amd64": shim, "arm64": shim, "s390x": shim} and chart["shims"][shim]["enabled"] is True


def test_before_a_custom_runtime_has_it_with_the_class_whose_handler_the_chart_reads() -> None:
    custom = values("3.27.0", LIMIT)["customRuntimes"]["runtimes"]["kata-nodes-qemu"]
    assert written(custom["dropIn"]) == f"{kata_deploy.BASE} {SEED} {LIMIT}"
    assert custom["baseConfig"] == "qemu"
    handlers = [line.strip() for line in custom["runtimeClass"].split("\n") if line.strip().startswith("handler:")]
    assert handlers == ["handler: kata-nodes-qemu"]
    assert custom["containerd"] == {"snapshotter": ""} and custom["crio"] == {"pullType": ""}  # the chart reads through both


@pytest.mark.parametrize(("version", "key"), [("3.27.0", "tolerations"), ("3.32.0", "tolerations"), ("4.0.0", "podAnnotations")])
def test_a_changed_drop_in_rolls_the_pods_and_an_unchanged_one_does_not(version: str, key: str) -> None:
    assert values(version, LIMIT)[key] == values(version, LIMIT)[key] != values(version)[key]


@pytest.mark.parametrize("version", ["3.27.0", "3.32.0", "4.1.0"])
def test_a_change_of_many_nodes_ends_before_helm_gives_up(version: str) -> None:
    """One by one, at a minute a node, it would not, and would be rolled back."""
    strategy = values(version)["updateStrategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": "10%"}
    theirs = {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}}}
    own = kata_deploy.values(version, "go", [], True, chart_values=theirs)["updateStrategy"]
    assert own == theirs["updateStrategy"], "who wants it slower says so"


@pytest.mark.parametrize("version", ["3.27.0", "3.32.0", "4.1.0"])
def test_a_node_that_waits_for_its_proof_gets_kata(version: str) -> None:
    assert {"key": "kata-nodes/unproven", "operator": "Exists"} in values(version)["tolerations"]


def test_a_release_without_drop_ins_is_refused_with_the_remedy() -> None:
    with pytest.raises(NodeError) as caught:
        values("3.25.0")
    assert caught.value.code == "bad-input" and "3.26.0 or newer" in caught.value.remedy
    with pytest.raises(NodeError, match="twice"):
        values("3.32.0", "quiet=1", "quiet=0")


def test_values_of_the_chart_are_merged_and_unknown_ones_passed_through() -> None:
    theirs = {
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "shims": {"clh": {"enabled": True}, "qemu": {"containerd": {"snapshotter": "erofs"}}},
        "podLabels": {"team": "a"},
        "ofTheNextRelease": {"deep": [1, None, True]},
    }
    chart = kata_deploy.values("4.0.0", "go", [LIMIT], True, chart_values=theirs)
    assert chart["tolerations"] == [*values("4.0.0", LIMIT)["tolerations"], *theirs["tolerations"]]  # type: ignore[misc]
    shim = chart["shims"]["qemu"]
    assert shim["containerd"] == {"snapshotter": "erofs"} and written(shim["dropIn"]).endswith(LIMIT) and shim["enabled"] is True
    assert chart["shims"]["clh"] == {"enabled": True} and chart["shims"]["disableAll"] is True
    assert (chart["podLabels"], chart["ofTheNextRelease"]) == (theirs["podLabels"], theirs["ofTheNextRelease"])


@pytest.mark.parametrize("version", ["3.27.0", "4.1.0"])
def test_a_list_whose_entries_are_all_comments_takes_none_of_ours_away(version: str) -> None:
    """Lost: the toleration by which a node that waits for its proof gets Kata, and the one by which a changed drop-in rolls."""
    chart = kata_deploy.values(version, "go", [LIMIT], True, chart_values={"tolerations": None, "imagePullSecrets": None})
    assert chart["tolerations"] == values(version, LIMIT)["tolerations"] and chart["imagePullSecrets"] is None


@pytest.mark.parametrize(
    ("version", "theirs", "key", "setting"),
    [
        ("4.1.0", {"k8sDistribution": "k3s"}, "k8sDistribution", "kubernetes.kataDeploy.k8sDistribution"),
        ("4.1.0", {"nodeSelector": {"a": "b"}}, "nodeSelector", "kubernetes.kataDeploy.nodeSelector"),
        ("4.1.0", {"image": {"reference": "x"}}, "image.reference", "kubernetes.kataDeploy.image"),
        ("3.32.0", {"image": {"tag": "4.1.0"}}, "image.tag", "kata.version"),
        ("3.32.0", {"shims": {"qemu": {"dropIn": "x"}}}, "shims.qemu.dropIn", "kata.kernelParams"),
        ("3.32.0", {"shims": {"qemu": {"enabled": False}}}, "shims.qemu.enabled", "kata.runtime"),
        ("3.32.0", {"shims": None}, "shims", "kata.runtime"),
        ("3.27.0", {"customRuntimes": {"enabled": False}}, "customRuntimes.enabled", "kata.kernelParams"),
        (
            "4.1.0",
            {"shims": {"qemu": {"agent": {"httpsProxy": "http://192.0.2.1:3128"}}}},
            "shims.qemu.agent.httpsProxy",
            "kata.kernelParams",
        ),
        ("4.1.0", {"env": {"multiInstallSuffix": "dev"}}, "env.multiInstallSuffix", "kata.runtime"),
        (
            "3.27.0",
            {"customRuntimes": {"runtimes": {"kata-nodes-qemu": {}}}},
            "customRuntimes.runtimes.kata-nodes-qemu",
            "kata.version",
        ),
    ],
)
def test_value_that_a_setting_decides_is_refused_with_that_setting(version: str, theirs: Any, key: str, setting: str) -> None:
    with pytest.raises(NodeError) as caught:
        kata_deploy.values(version, "go", [LIMIT], True, chart_values=theirs)
    assert caught.value.code == "bad-input" and caught.value.message.endswith(f"{key} is decided by {setting}")


@pytest.mark.parametrize("entry", ["kata-nodes/unproven", "kata-nodes/unproven:NoSchedule"])
def test_kata_deploy_does_not_take_the_taint_of_a_node_that_waits_for_its_proof(entry: str) -> None:
    with pytest.raises(NodeError, match=r"startupTaints kata-nodes/unproven is decided by kubernetes\.joiningNodes") as caught:
        kata_deploy.values("4.1.0", "rust", [], True, chart_values={"startupTaints": ["a.example/b", entry]})
    assert caught.value.code == "bad-input"
    others = {"startupTaints": ["a.example/b:NoSchedule"]}
    assert kata_deploy.values("4.1.0", "rust", [], True, chart_values=others)["startupTaints"] == others["startupTaints"]


def node(name: str, kubelet: str = "v1.34.1", runtime: str = "containerd://2.1.4", **labels: str) -> dict[str, Any]:
    about = {"kubeletVersion": kubelet, "containerRuntimeVersion": runtime}
    return {
        "metadata": {"name": name, "labels": {key.replace("__", "/"): value for key, value in labels.items()}},
        "status": {"nodeInfo": about},
    }


MICROK8S = {
    "metadata": {"name": "m", "labels": {"microk8s.io/cluster": "true"}},
    "status": {"nodeInfo": {"kubeletVersion": "v1.34.1"}},
}
DISCOVERED = {
    "metadata": {"name": "old", "labels": {"kubernetes.io/arch": "amd64", "feature.node.kubernetes.io/cpu-cpuid.AVX2": "true"}},
    "status": {"nodeInfo": {"kubeletVersion": "v1.34.1"}},
}


@pytest.mark.parametrize(
    ("described", "distribution"),
    [
        (node("a"), "k8s"),
        (node("a", "v1.34.1-eks-3025e55"), "k8s"),
        (node("a", "v1.34.1-gke.1829001"), "k8s"),
        (node("a", "v1.34.1+k3s1", "containerd://2.1.4-k3s1"), "k3s"),
        (node("a", "v1.34.1+rke2r1", "containerd://2.1.4-k3s2"), "rke2"),
        (node("a", "v1.34.1+k0s"), "k0s"),
        (MICROK8S, "microk8s"),
        (node("a", "v1.34.1+k3s1", "cri-o://1.34.0"), None),
        ({"metadata": {"name": "new"}}, "k8s"),
    ],
)
def test_distribution_is_what_a_node_reports(described: Any, distribution: str | None) -> None:
    assert kata_deploy.distribution_of(described) == distribution


def chosen(distribution: str = "k8s", **settings: Any) -> dict[str, Any]:
    selector = settings.pop("node_selector", None)
    return kata_deploy.values("4.1.0", "rust", [], True, distribution=distribution, node_selector=selector, chart_values=settings)


def test_selector_of_no_node_and_another_distribution_are_refused_with_the_nodes_and_what_they_run() -> None:
    servers = [node(f"s{number}", "v1.34.1+k3s1", pool="kvm") for number in range(7)]
    with pytest.raises(NodeError) as caught:
        kata_deploy.fits(servers, chosen(node_selector={"pool": "none", "a": "b"}), "4.1.0")
    assert caught.value.code == "cluster-node-unknown" and "the labels a=b,pool=none" in caught.value.message
    with pytest.raises(NodeError) as caught:
        kata_deploy.fits(servers, chosen(), "4.1.0")
    assert caught.value.code == "kata-deploy-distribution"
    assert caught.value.message.endswith("is k8s, and s0, s1, s2, s3, s4 and 2 more run k3s")
    kata_deploy.fits(servers, chosen("k3s"), "4.1.0")
    kata_deploy.fits([], chosen(), "4.1.0")
    with pytest.raises(NodeError, match=r"is k3s, and m runs microk8s"):
        kata_deploy.fits([*servers, MICROK8S], chosen("k3s"), "4.1.0")
    kata_deploy.fits([*servers, MICROK8S], chosen("k3s", node_selector={"pool": "kvm"}), "4.1.0")
    kata_deploy.fits(servers, chosen(containerd={"configDir": "/etc/mine/"}), "4.1.0")
    with pytest.raises(NodeError, match="run k3s"):  # a chart that reads no such folder
        kata_deploy.fits(servers, chosen(containerd={"configDir": "/etc/mine/"}), "3.28.0")


def test_nodes_that_are_known_to_have_no_kvm_are_not_labelled_as_if_they_had_kata() -> None:
    able = {
        **DISCOVERED,
        "metadata": {"name": "new", "labels": {"feature.node.kubernetes.io/cpu-cpuid.SVM": "true", "pool": "kvm"}},
    }
    arm = {
        **DISCOVERED,
        "metadata": {"name": "arm", "labels": {**DISCOVERED["metadata"]["labels"], "kubernetes.io/arch": "arm64"}},
    }  # type: ignore[dict-item]
    with pytest.raises(NodeError) as caught:
        kata_deploy.fits([able, DISCOVERED, arm, node("unknown")], chosen(), "4.1.0")
    assert caught.value.code == "kata-deploy-no-kvm" and "1 of 4 nodes" in caught.value.message and "old" in caught.value.message
    kata_deploy.fits([able, DISCOVERED], chosen(node_selector={"pool": "kvm"}), "4.1.0")
    # The chart then leaves them out itself.
    kata_deploy.fits([able, DISCOVERED], chosen(**{"node-feature-discovery": {"enabled": True}}), "4.1.0")


def test_nodes_of_windows_are_refused_before_kata_deploy_waits_for_its_pods_there() -> None:
    """AKS, EKS and GKE do not taint them, and the chart selects no operating system."""
    windows = node("win", **{"kubernetes.io__os": "windows"})
    with pytest.raises(NodeError) as caught:
        kata_deploy.fits([windows, node("lin", **{"kubernetes.io__os": "linux"})], chosen(), "4.1.0")
    assert caught.value.code == "kata-deploy-no-kvm" and "1 of 2 nodes" in caught.value.message and "win" in caught.value.message
    assert "kubernetes.io/os: linux" in caught.value.sentence()
    kata_deploy.fits([windows, node("lin", pool="kvm")], chosen(node_selector={"pool": "kvm"}), "4.1.0")


CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
NOT_MINE = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["kvm"]}]}]
        }
    }
}


def test_a_node_on_which_kata_deploy_has_no_pod_need_not_fit() -> None:
    tainted = {**DISCOVERED, "spec": {"taints": [CONTROL_PLANE]}}
    server = {**node("server", "v1.34.1+k3s1"), "spec": {"taints": [{"key": "CriticalAddonsOnly", "effect": "NoExecute"}]}}
    kata_deploy.fits([tainted, server, node("worker", pool="kvm")], chosen(), "4.1.0")
    with pytest.raises(NodeError, match=r"1 of 1 nodes"):
        kata_deploy.fits([tainted, server], chosen(tolerations=[{"key": CONTROL_PLANE["key"], "operator": "Exists"}]), "4.1.0")
    kata_deploy.fits([DISCOVERED, node("worker", pool="kvm")], chosen(affinity=NOT_MINE), "4.1.0")
    with pytest.raises(NodeError, match=r"1 of 2 nodes"):  # a chart that reads no affinity
        kata_deploy.fits([DISCOVERED, node("worker", pool="kvm")], chosen(affinity=NOT_MINE), "3.32.0")


def test_a_cluster_on_which_kata_deploy_has_no_pod_is_named_with_its_taints() -> None:
    lab = {**node("lab"), "spec": {"taints": [CONTROL_PLANE, {"key": "soft", "effect": "PreferNoSchedule"}]}}
    warning = kata_deploy.nowhere([lab], chosen(), "3.32.0")
    assert f"none of the 1 nodes that there are now, whose taints are {CONTROL_PLANE['key']}. If" in warning
    assert not kata_deploy.nowhere([lab, node("worker")], chosen(), "3.32.0") and not kata_deploy.nowhere([], chosen(), "3.32.0")
    tolerating = chosen(tolerations=[{"operator": "Exists"}])
    assert not kata_deploy.nowhere([lab], tolerating, "3.32.0")
    assert "none of which its affinity selects" in kata_deploy.nowhere([node("worker")], chosen(affinity=NOT_MINE), "4.1.0")


def installing(name: str, kubelet: str = "True", *, labels: dict[str, str] | None = None, **pod: Any) -> tuple[Any, Any]:
    """A node with its labels, and the pod of kata-deploy on it."""
    conditions = [{"type": "Ready", "status": kubelet}]
    machine = {"metadata": {"name": name, "labels": labels or {}}, "status": {"conditions": conditions}}
    status = {"conditions": [{"type": "Ready", "status": pod.pop("ready", "True")}], **pod.pop("status", {})}
    about = {"name": f"kata-deploy-{name}", **pod.pop("about", {})}
    return machine, {"metadata": about, "spec": {"nodeName": name}, "status": status}


KATA = {"katacontainers.io/kata-runtime": "true"}
FROM_4_1 = {**KATA, "kata-deploy.katacontainers.io/default": "true"}
CRASHING = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}}}]}


@pytest.mark.parametrize(
    ("version", "pair", "why"),
    [
        ("3.32.0", installing("a", labels=KATA), None),
        ("4.1.0", installing("a", labels=FROM_4_1), None),
        # Helm calls a DaemonSet ready although as many pods as may be unavailable at a time are not: of a single node, all.
        ("3.32.0", installing("a", ready="False"), "its pod kata-deploy-a is not ready"),
        ("3.32.0", installing("a", labels=KATA, ready="False"), "its pod kata-deploy-a is not ready"),
        ("3.32.0", installing("a", labels=KATA, ready="True", status=CRASHING), None),
        (
            "3.32.0",
            installing("a", ready="False", status=CRASHING),
            "its pod kata-deploy-a is not ready (CrashLoopBackOff: back-off 5m)",
        ),
        # Before 3.31 its pods are ready as soon as they run.
        ("3.27.0", installing("a"), "it has no label katacontainers.io/kata-runtime=true"),
        ("4.1.0", installing("a", labels=KATA), "it has no label kata-deploy.katacontainers.io/default=true"),
        ("3.32.0", installing("a", about={"deletionTimestamp": "2026-01-01T00:00:00Z"}), None),
    ],
)
def test_a_node_is_waited_for_until_kata_deploy_has_finished_there(version: str, pair: Any, why: str | None) -> None:
    machine, pod = pair
    assert kata_deploy.unfinished([machine], [pod], version) == ({"a": why} if why else {})


def test_nodes_that_are_gone_or_silent_are_not_waited_for() -> None:
    silent, its_pod = installing("a", "Unknown")
    _, orphan = installing("b")
    pending = {"metadata": {"name": "kata-deploy-c"}, "spec": {}, "status": {}}
    assert kata_deploy.unfinished([silent], [its_pod, orphan, pending], "3.32.0") == {}
    broken, its_pod = installing("a", "False", ready="False")
    assert sorted(kata_deploy.unfinished([broken], [its_pod], "3.32.0", 299)) == ["a"], "its runtime may be restarting"
    assert kata_deploy.unfinished([broken], [its_pod], "3.32.0", 300) == {}


def test_a_label_that_a_changed_selector_left_behind_is_named_with_its_removal() -> None:
    chosen_node, its_pod = installing("a", labels=KATA)
    excluded, _ = installing("b", labels=KATA)
    plain, _ = installing("c")
    warning = kata_deploy.left_behind([chosen_node, excluded, plain], [its_pod])
    assert "runs on b, labelled" in warning and "kubectl label node NODE katacontainers.io/kata-runtime-" in warning
    assert not kata_deploy.left_behind([chosen_node, plain], [its_pod])
    assert not kata_deploy.left_behind([excluded], []), "deploymentMode: job has no pod that stays"


FULL = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: Too many pods."}


def placeless(name: str) -> dict[str, Any]:
    """A pod of kata-deploy that the scheduler cannot place, as its DaemonSet makes it."""
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned]}}}
    return {"metadata": {"name": f"kata-deploy-{name}"}, "spec": {"affinity": affinity}, "status": {"conditions": [FULL]}}


def test_a_node_without_room_for_kata_deploy_is_named_and_not_left_out_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm counts the release as ready, and a proof by label selects the node not at all."""
    machine, its_pod = installing("a", labels=KATA)
    full = installing("b")[0]

    class Cluster:
        def described_nodes(self) -> list[Any]:
            return [machine, full]

        def pods_labelled(self, namespace: str, selector: str) -> list[Any]:
            return [its_pod, placeless("b")]

    warnings: list[str] = []
    monkeypatch.setattr(component, "cluster", lambda kubeconfig, context: Cluster())
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    asyncio.run(component.finished("kubeconfig", None, "kata", "3.32.0"))
    (warning,) = warnings
    assert "no place on b (0/2 nodes are available: Too many pods): no Kata is installed there" in warning
    assert "and 2 more" in kata_deploy.unplaced([placeless(name) for name in "abcdefg"])
    assert not kata_deploy.unplaced([its_pod])


RELEASE_ERRORS = [
    ('create: failed to create: namespaces "kata" not found', "kata-deploy-release", "kubectl create namespace kata"),
    ("cannot re-use a name that is still in use", "kata-deploy-release", "helm uninstall kata-deploy --namespace kata"),
    ('"kata-deploy" has no deployed releases', "kata-deploy-release", "helm uninstall kata-deploy --namespace kata"),
    (
        "another operation (install/upgrade/rollback) is in progress",
        "kata-deploy-release",
        "helm rollback kata-deploy --namespace kata",
    ),
    (
        'Unable to continue with install: ServiceAccount "kata-deploy-sa" in namespace "kube-system" exists and cannot be '
        "imported into the current release: invalid ownership metadata; label validation error",
        "kata-deploy-release",
        "Remove the Kata that was installed",
    ),
    (
        "release kata-deploy failed, and has been rolled back due to atomic being set: context deadline exceeded",
        "kata-deploy-unfinished",
        "kubectl --namespace kata get pods",
    ),
    (  # newer ones name what is not ready, on a line of its own
        "release kata-deploy failed, and has been uninstalled due to atomic being set: resource DaemonSet/kata/kata-deploy not "
        "ready. status: InProgress, message: Available: 0/1\ncontext deadline exceeded",
        "kata-deploy-unfinished",
        "kubectl --namespace kata get pods",
    ),
    (  # the webhook's words, and no pod's
        "release kata-deploy failed, and has been uninstalled due to atomic being set: Internal error occurred: failed calling "
        'webhook "validate.kyverno.svc-fail": context deadline exceeded',
        "",
        "",
    ),
    (
        'release kata-deploy failed, and has been rolled back due to atomic being set: admission webhook "w" denied the request: '
        "its review timed out",
        "",
        "",
    ),
    ("failed pre-install: 1 error occurred", "", ""),
    ("context deadline exceeded", "", ""),
]


@pytest.mark.parametrize(("text", "code", "remedy"), RELEASE_ERRORS, ids=[str(number) for number in range(len(RELEASE_ERRORS))])
def test_a_release_that_helm_cannot_make_has_its_way_out(
    text: str, code: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an interrupted up, another's release or a kata-deploy without Helm leave it (helm, pkg/action)."""
    printed: list[str] = []
    hooks: list[Any] = []
    monkeypatch.setattr(component, "calls_back_on_error", lambda: True)
    monkeypatch.setattr(pulumi, "ErrorHook", lambda _, hook: hooks.append(hook))
    monkeypatch.setattr(pulumi.log, "error", printed.append)
    component.release_options(SimpleNamespace(), None, "kata-release")  # type: ignore[arg-type]
    failed: Any = SimpleNamespace(errors=[text], new_inputs={"namespace": "kata"}, old_inputs=None)
    assert asyncio.run(hooks[0](failed)) is False
    assert [remedy in line and line.endswith(f"[{code}]") for line in printed] == ([True] if code else [])


def reading(monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[Any, Any]]) -> list[float]:
    """Have the component see one pair of node and pod after the other; how long it slept."""
    slept: list[float] = []

    class Cluster:
        def described_nodes(self) -> list[Any]:
            return [pairs[0][0]]

        def pods_labelled(self, namespace: str, selector: str) -> list[Any]:
            assert (namespace, selector) == ("kata", "name=kata-deploy")
            return [(pairs.pop(0) if len(pairs) > 1 else pairs[0])[1]]

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(component, "cluster", lambda kubeconfig, context: Cluster())
    monkeypatch.setattr(component, "time", SimpleNamespace(monotonic=lambda: sum(slept)))
    monkeypatch.setattr("asyncio.sleep", sleep)
    monkeypatch.setattr(pulumi.log, "info", lambda text: None)
    return slept


def test_the_release_is_up_once_every_node_has_kata(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = reading(monkeypatch, [installing("a", ready="False"), installing("a"), installing("a", labels=KATA)])
    asyncio.run(component.finished("kubeconfig", None, "kata", "3.32.0"))
    assert len(slept) == 2


def test_a_node_that_joins_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = reading(monkeypatch, [installing("a"), installing("b"), installing("c")])
    asyncio.run(component.finished("kubeconfig", None, "kata", "3.32.0"))
    assert len(slept) == 1


def test_a_node_on_which_kata_deploy_never_finishes_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = reading(monkeypatch, [installing("a", ready="False", status=CRASHING)])
    with pytest.raises(pulumi.RunError, match=r"2400 s.*: a \(its pod .*CrashLoopBackOff.*\[kata-deploy-unfinished\]"):
        asyncio.run(component.finished("kubeconfig", None, "kata", "3.32.0"))
    assert sum(slept) >= component.TIMEOUT_SECONDS


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: kata-deploy\nversion: {version}\n",
    "templates/installed.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: installed\ndata:\n  values: {{{{ .Values | toJson | quote }}}}\n"
    ),
}
"""A chart in kata-deploy's place that only keeps its values."""
PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from components.cluster.kata_deploy import KataDeploy
inputs = json.loads(pathlib.Path("inputs.json").read_text())
inputs["kubeconfig"] = pulumi.Output.secret(inputs["kubeconfig"])
provider = k8s.Provider("cluster", kubeconfig=inputs["kubeconfig"])
created = KataDeploy("kata", inputs, pulumi.ResourceOptions(providers={"kubernetes": provider}))
pulumi.export("handler", created.handler)
"""


def write_chart(folder: Path, version: str) -> None:
    """Lay the chart out."""
    for name, text in CHART.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(version=version))


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_real_helm_engine_gets_the_values_and_a_change_is_an_upgrade(tmp_path: Path) -> None:
    from tests.clusterkit.control_plane import HANGS, ControlPlane
    from tests.clusterkit.proving import Proving

    plane = ControlPlane(tmp_path / "plane")
    try:
        write_chart(tmp_path / "chart", "3.32.0")
        proving = Proving(tmp_path / "stack", plane)
        (proving.folder / "__main__.py").write_text(PROGRAM)
        proving.inputs = {
            "kubeconfig": plane.kubeconfig, "chart": str(tmp_path / "chart"), "version": "3.32.0", "runtime": "go",
            "kernel_params": [LIMIT], "nested_sandbox": True, "namespace": "default",
        }  # fmt: skip

        def installed() -> dict[str, Any]:
            config_map = plane.get("/api/v1/namespaces/default/configmaps/installed")
            assert config_map is not None
            values: dict[str, Any] = json.loads(json.loads(config_map)["data"]["values"])
            return values

        plane.behave({"node-0": HANGS})
        for refused, message in (
            ({"node_selector": {"pool": "kvm"}}, "no node has the labels pool=kvm. "),
            ({"node_selector": None, "distribution": "k3s"}, "k8sDistribution is k3s, and node-0 runs k8s. "),
        ):
            assert message in proving.up(fails=True, **refused)
            assert plane.get("/api/v1/namespaces/default/configmaps/installed") is None, "nothing is half done"
        label = {"kubernetes.io/hostname": "node-0"}
        proving.up(distribution=None, node_selector=label, values={"podLabels": {"team": "a"}})
        assert (installed()["nodeSelector"], installed()["k8sDistribution"], installed()["podLabels"]) == (
            label,
            "k8s",
            {"team": "a"},
        )
        assert written(installed()["shims"]["qemu"]["dropIn"]).endswith(LIMIT)
        assert json.loads(proving.run("stack", "output", "handler", "--json")) == "kata-qemu"
        before = installed()["tolerations"]
        proving.up("--expect-no-changes")
        proving.up(kernel_params=["quiet"])
        assert written(installed()["shims"]["qemu"]["dropIn"]).endswith("quiet")
        assert installed()["tolerations"] != before
        proving.run("destroy", "--yes", "--skip-preview")
        assert plane.get("/api/v1/namespaces/default/configmaps/installed") is None
    finally:
        plane.close()
