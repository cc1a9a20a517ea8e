"""Settings of the Kubernetes section that would fail on a cluster, or open its guard, are refused at preview."""

from typing import Any

import pytest

from stacks.configuration import ConfigError, load
from stacks.model import StackConfig
from tests.stacks.test_model import loaded, refused


def test_defaults_take_nothing_over_and_let_nothing_through() -> None:
    section = loaded(kubernetes={}).kubernetes
    assert section
    assert (section.adopt_namespace, section.adopt_runtime_class, section.allowed_annotations) == (False, False, [])
    pod = section.pod
    assert (pod.user, pod.read_only_root, pod.service_account_token, pod.seccomp) == ("root", True, False, "RuntimeDefault")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"adopt": True}, ["kata-nodes:kubernetes.adopt", "no such key"]),
        ({"tolerations": ["a b"]}, ["kubernetes.tolerations", "KEY[=VALUE][:EFFECT]", "kubectl taint", "[bad-input]"]),
        ({"tolerations": ["a=b:Never"]}, ["kubernetes.tolerations", "NoSchedule"]),
        ({"overhead": {"memory": "much", "cpu": "1"}}, ["kubernetes.overhead.memory", "'much'"]),
        ({"overhead": {"memory": "1Gi"}}, ["kubernetes.overhead.cpu", "Add the key"]),
        ({"allowedAnnotations": ["io.katacontainers.*"]}, ["kubernetes.allowedAnnotations", "'io.katacontainers.*'"]),
        ({"allowedAnnotations": ["io.kubernetes.cri"]}, ["kubernetes.allowedAnnotations", "io.kubernetes.cri-o."]),
        ({"allowedAnnotations": ["example.org/a"]}, ["kubernetes.allowedAnnotations", "'example.org/a'"]),
        ({"pod": {"user": "daemon"}}, ["kubernetes.pod.user", "'daemon'", "'root' or 'ordinary'"]),
        ({"pod": {"seccomp": "Localhost"}}, ["kubernetes.pod.seccomp", "'Localhost'"]),
        ({"containerRuntime": "docker"}, ["kubernetes.containerRuntime", "'cri-o'"]),
        (
            {"containerRuntime": "k3s", "proof": {"nodes": ["a"], "image": "i"}, "adoptRuntimeClass": True},
            ["kubernetes.containerRuntime", "kubernetes.handler"],
        ),
        ({"cluster": "local", "containerRuntime": "k3s"}, ["kubernetes.containerRuntime", "no nodes that serve this cluster"]),
        ({"proof": {}}, ["kubernetes.proof", "exactly one of nodes and selector"]),
        ({"proof": {"nodes": ["a"], "selector": "b=c"}}, ["kubernetes.proof", "exactly one of nodes and selector"]),
        ({"proof": {"nodes": [], "image": "i"}}, ["kubernetes.proof.nodes", "the list is empty. Write one entry at least"]),
        ({"joiningNodes": {"image": "i", "selector": "a=b c"}}, ["kubernetes.joiningNodes.selector", "No API server can parse"]),
        ({"cluster": "local", "proof": {"nodes": ["a"]}}, ["kata-nodes:kubernetes", "no kubelet"]),
        ({"proof": {"nodes": ["a"]}}, ["kubernetes.proof.image is needed", "docker build --file images/proof/Containerfile"]),
        ({"joiningNodes": {"image": "i"}}, ["kubernetes.joiningNodes.proofImage is needed"]),
        ({"proof": {"nodes": ["a"], "image": "i", "namespace": "sandboxes"}}, ["tenants have no rights", "proof.namespace"]),
        (
            {"proof": {"nodes": ["a"], "image": "i", "namespace": "kata-nodes-joining"}, "joiningNodes": {"image": "i"}},
            ["used for something else", "proof.namespace"],
        ),
        ({"proof": {"selector": "", "image": "i"}}, ["kubernetes.proof.selector", "the label selector ''", "[bad-input]"]),
        ({"proof": {"selector": "a:b", "image": "i"}}, ["the label selector 'a:b'", "kubectl get nodes --selector"]),
        ({"joiningNodes": {"image": "i", "selector": "a b", "proofImage": "p"}}, ["kubernetes.joiningNodes.selector", "'a b'"]),
        ({"namespace": "kube-system", "adoptNamespace": True}, ["kube-system would refuse the cluster's own pods"]),
        ({"namespace": "default"}, ["namespace default is in every cluster", "kubernetes.adoptNamespace"]),
        ({"proof": {"nodes": ["a"], "image": "i", "namespace": "kube-public"}}, ["namespace kube-public is in every cluster"]),
        ({"joiningNodes": {"image": "i", "proofImage": "p", "namespace": "default"}}, ["namespace default is in every cluster"]),
        ({"namespace": "a" * 64, "adoptNamespace": True}, ["kubernetes.namespace", "at most 63"]),
        ({"pod": {"memory": "512m"}}, ["kubernetes.pod", "Key memory is '512m', which counts parts of a byte", "512Mi"]),
        ({"tolerations": ["a=-b"]}, ["kubernetes.tolerations", "'a=-b' is not KEY[=VALUE][:EFFECT]"]),
        ({"pod": {"user": "ordinary", "userId": 5}}, ["pod.userId", "no entry"]),
        ({"pod": {"userId": 0}}, ["kubernetes.pod.userId", "greater than or equal to 1"]),
        ({"pod": {"memory": "4Gi"}}, ["kubernetes.pod", "Key memory is 4Gi", "memoryLimit, 2Gi", "[bad-input]"]),
        ({"pod": {"command": []}}, ["kubernetes.pod.command"]),
        ({"joiningNodes": {}}, ["kubernetes.joiningNodes.image", "Add the key"]),
        ({"cluster": "local", "joiningNodes": {"image": "i"}}, ["kata-nodes:kubernetes", "no node joins the local cluster"]),
        ({"joiningNodes": {"image": "i", "namespace": "sandboxes"}}, ["kata-nodes:kubernetes", "joiningNodes.namespace"]),
        (
            {"joiningNodes": {"image": "i", "proofImage": "p"}, "tolerations": ["kata-nodes/unproven:NoSchedule"]},
            ["kata-nodes:kubernetes", "kata-nodes/unproven", "remove it from tolerations"],
        ),
        ({"adoptRuntimeClass": True, "tolerations": ["a"]}, ["kata-nodes:kubernetes", "adoptRuntimeClass"]),
        ({"handler": "Kata_Qemu"}, ["kubernetes.handler", "'Kata_Qemu'"]),
        ({"handler": "kata", "kataDeploy": {}}, ["kataDeploy decides the handler", "remove kubernetes.handler"]),
        ({"proof": {"nodes": ["rack-1", "Rack-2"]}}, ["kubernetes.proof.nodes[1] (value: 'Rack-2')", "no capitals"]),
        ({"imageMirror": "harbor/hub"}, ["kubernetes.imageMirror", "a registry with a dot or a port"]),
        ({"imageMirror": "https://mirror"}, ["kubernetes.imageMirror", "'https://mirror'"]),
        ({"kataDeploy": {}}, ["kataDeploy and nodes would both configure Kata", "remove one"]),
        ({"kataDeploy": {"chart": "--set=a"}}, ["kubernetes.kataDeploy.chart", "'--set=a'"]),
    ],
)
def test_setting_is_refused_in_words(section: dict[str, Any], words: list[str]) -> None:
    refused(*words, kubernetes=section)


ALONE: dict[str, Any] = {"proof": {"selector": "katacontainers.io/kata-runtime=true", "image": "proof@sha256:0"}}


def alone(kubernetes: dict[str, Any], **sections: Any) -> StackConfig:
    """A stack without machines of its own."""
    return load({"kubernetes": ALONE | kubernetes, **sections}.get)


def test_what_is_there_already_is_adopted_under_any_name_that_kubernetes_takes() -> None:
    names = {"namespace": f"team-{'a' * 58}", "runtimeClass": "b" * 63}
    section = alone({**names, "adoptNamespace": True, "adoptRuntimeClass": True, "kataDeploy": None}).kubernetes
    assert section and {"namespace": section.namespace, "runtimeClass": section.runtime_class} == names
    default = alone({"namespace": "default", "adoptNamespace": True}).kubernetes
    assert default and default.guarded == ["default", "kata-nodes-proof"]


def test_handler_is_that_of_the_settings_of_kata_deploy_or_of_the_adopted_class() -> None:
    assert alone({}).handler == "kata-qemu"
    assert alone({"handler": "kata"}).handler == "kata"
    assert alone({"adoptRuntimeClass": True}).handler is None
    rust = {"hypervisor": "firecracker", "runtime": "rust", "nestedSandbox": False}
    with pytest.raises(ConfigError, match=r"no handler for firecracker with the rust runtime.*kubernetes\.handler"):
        alone({}, kata=rust)
    assert alone({"handler": "mine"}, kata=rust).handler == "mine"


@pytest.mark.parametrize("namespace", ["sandboxes", "kata-nodes-proof", "kata-nodes-joining"])
def test_chart_in_a_namespace_whose_guard_would_refuse_its_pods_is_refused(namespace: str) -> None:
    """The first DaemonSet is made before the guard: nodes that come later, and new versions, would get no Kata."""
    with pytest.raises(ConfigError, match=rf"the guard of {namespace} would refuse kata-deploy's own pods"):
        alone({"kataDeploy": {"namespace": namespace}, "joiningNodes": {"image": "i"}, "adoptNamespace": True})
    assert alone({"kataDeploy": {"namespace": "kata"}})


HOST = {
    "name": "a",
    "address": "192.0.2.7",
    "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN2JRkVKn5u5tPHhxFLY7nwP0ptMvGZbKMz7bhUAZ3W",
}


@pytest.mark.parametrize(
    ("kubernetes", "handler"),
    [
        ({}, "kata-qemu"),
        ({"containerRuntime": "k3s"}, "kata-qemu"),
        ({"handler": "kata"}, "kata"),
        ({"containerRuntime": "none"}, None),
        ({"adoptRuntimeClass": True}, None),
        ({"cluster": "local"}, None),
        (None, None),
    ],
)
def test_nodes_of_a_cluster_learn_of_its_handler_and_others_do_not(
    kubernetes: dict[str, Any] | None, handler: str | None
) -> None:
    sections = {"nodes": {"existing": [HOST]}, "kubernetes": kubernetes}
    assert load(sections.get).served_handler == handler


def test_proof_image_has_a_default_only_where_nothing_nests() -> None:
    section = {"proof": {"nodes": ["a"]}, "joiningNodes": {"image": "i"}}
    assert load({"kubernetes": section, "kata": {"nestedSandbox": False}}.get).kubernetes
    proven = load({"kubernetes": {**section, "proof": {"nodes": ["a"], "image": "p"}}}.get).kubernetes
    assert proven and proven.proof_image == "p"
    own = {**section, "proof": {"nodes": ["a"], "image": "p"}, "joiningNodes": {"image": "i", "proofImage": "q"}}
    other = load({"kubernetes": own}.get).kubernetes
    assert other and other.proof_image == "q"
    with pytest.raises(ConfigError, match=r"pod\.userId: without a nested sandbox"):
        load({"kubernetes": {**section, "pod": {"userId": 5}}, "kata": {"nestedSandbox": False}}.get)


def test_cluster_alone_expects_the_parameters_that_kata_deploy_writes_and_no_others() -> None:
    assert alone({"kataDeploy": {}}).parameters == ["user_namespace.enable=1"]
    assert alone({}).parameters == []


def test_handler_is_the_one_whose_guests_get_the_parameters() -> None:
    assert alone({"kataDeploy": {}}, kata={"version": "3.27.0"}).handler == "kata-nodes-qemu"
    assert alone({"kataDeploy": {}}, kata={"version": "3.32.0"}).handler == "kata-qemu"
    assert alone({"kataDeploy": {}}, kata={"version": "4.1.0"}).handler == "kata-qemu-runtime-rs", "the chart's own default"
    assert alone({"kataDeploy": {}}, kata={"version": "4.1.0", "runtime": "go"}).handler == "kata-qemu"
    assert alone({"adoptRuntimeClass": True, "handler": "x"}, kata={"version": "4.1.0"}).kata.runtime == "go"
    assert alone({}, kata={"version": "4.1.0", "runtime": "rust"}).handler == "kata-qemu-runtime-rs"


@pytest.mark.parametrize(
    ("kubernetes", "sections", "words"),
    [
        ({}, {"docker": {"version": "27.5.1"}}, ["docker: settings of nodes, and the stack has none", "add nodes"]),
        ({}, {"kata": {"configPath": "/a"}}, ["kata.configPath: settings of nodes"]),
        ({}, {"kata": {"kernelParams": ["quiet"]}}, ["kata.kernelParams: nobody would write them", "kubernetes.kataDeploy"]),
        ({"kataDeploy": {}}, {"kata": {"version": "3.25.0"}}, ["3.25.0", "3.26.0 or newer", "[bad-input]"]),
        ({"kataDeploy": {"k8sDistribution": "kind"}}, {}, ["kubernetes.kataDeploy.k8sDistribution", "'k3s'"]),
        ({"kataDeploy": {"nodeSelector": {"a b": "c"}}}, {}, ["kubernetes.kataDeploy.nodeSelector", "a b"]),
        ({"kataDeploy": {"values": {"nodeSelector": {"a": "b"}}}}, {}, ["is decided by kubernetes.kataDeploy.nodeSelector"]),
        ({"kataDeploy": {}}, {"kata": {"kernelParams": ["a=" + "b" * 2100]}}, ["2047", "[kernel-parameters-too-long]"]),
        (
            {"kataDeploy": {}},
            {"kata": {"hypervisor": "firecracker", "nestedSandbox": False}},
            ["kataDeploy installs QEMU", "'firecracker'"],
        ),
    ],
)
def test_what_has_no_effect_on_a_cluster_alone_is_refused(
    kubernetes: dict[str, Any], sections: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        alone(kubernetes, **sections)
    for text in words:
        assert text in str(caught.value), str(caught.value)
