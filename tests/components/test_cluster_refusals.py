"""What components of a cluster refuse before anything is made, in one line and with its remedy."""

import json
from typing import Any

import pulumi
import pytest
import yaml

from clusterkit.api import cluster_reader
from components import (
    JoiningNodes,
    KataDeploy,
    KataNodeLabels,
    KataProof,
    KataRuntimeClass,
    SandboxGuard,
    SandboxNamespace,
    SandboxPodTemplate,
)
from components.cluster import kata_node_labels, kata_proof
from components.cluster.kata_proof import bounds
from components.cluster.proof_settings import PodProof, _completed
from components.cluster.sandbox_pod_template import body_of
from nodekit.errors import NodeError
from tests.components.recorder import run
from tests.components.test_wiring import FakeCluster, Joined

PROOF: PodProof = {
    "pod_template": '{"spec": {"runtimeClassName": "kata-qemu", "containers": [{"name": "sandbox", "image": "i"}]}}',
    "handler": "kata-qemu",
    "kata_version": "3.32.0",
}
POD = PROOF["pod_template"]
KUBECONFIG = yaml.safe_dump({"clusters": []})


def pod_with(variable: object) -> str:
    """The pod template with one more variable."""
    return json.dumps({"spec": {"containers": [{"name": "sandbox", "image": "i", "env": [variable]}]}})


def proves(proof: dict[str, Any]) -> Any:
    return lambda: KataProof(
        "p",
        {"kubeconfig": KUBECONFIG, "namespace": "n", "proof": {**PROOF, **proof}, "nodes": ["one"]},  # type: ignore[typeddict-item]
    )


def joins(proof: dict[str, Any]) -> Any:
    return lambda: JoiningNodes(
        "j",
        {"namespace": "n", "image": "c", "selector": "a=b", "proof": {**PROOF, **proof}},  # type: ignore[typeddict-item]
    )


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())


class Restarting(FakeCluster):
    """Its API server fails for two questions, as one does on a node that was just changed."""

    def __init__(self) -> None:
        self.failures = 2

    def fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise NodeError("cluster-unreachable", "the API server answered 503")

    def situation(self, *about: Any) -> Any:
        self.fail()
        return super().situation(*about)

    def described_nodes(self) -> list[dict[str, Any]]:
        self.fail()
        return super().described_nodes()


@pytest.mark.parametrize("program", [proves({}), lambda: KataNodeLabels("l", LABELS)])
def test_up_asks_an_api_server_again_that_fails_for_a_moment_and_a_preview_does_not(
    program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_reader, "POLL_SECONDS", 0.01)
    for preview in (False, True):
        restarting = Restarting()
        monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig, known=restarting: known)
        monkeypatch.setattr(kata_node_labels, "cluster", lambda kubeconfig, context, known=restarting: known)
        if preview:
            with pytest.raises(pulumi.RunError, match="answered 503"):
                run(program, preview=True)
        else:
            run(program)
        assert restarting.failures == int(preview)


@pytest.mark.parametrize("program", [proves, joins])
def test_sandbox_that_no_rung_counts_for_is_refused_and_not_proven(program: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"sandbox is 'bubblewarp'. Use one of sandbox-runtime, bubblewrap, rootless"):
        run(program({"sandbox": "bubblewarp"}))


@pytest.mark.parametrize(
    "seconds", [0, -1, 0.5, float("inf"), float("nan"), 1e400, 10**6, "1e400", "inf", "٣٠٠", "5 minutes", True]
)
@pytest.mark.parametrize("program", [proves, joins])
def test_bound_in_which_no_proof_can_end_is_refused(program: Any, seconds: Any) -> None:
    with pytest.raises(pulumi.RunError, match=rf"^Key timeoutSeconds is {seconds!r}\. Use a whole number from 1 to 86400"):
        run(program({"timeout_seconds": seconds}))


@pytest.mark.parametrize("seconds", [60, 60.0, "60"])
def test_bound_is_a_whole_number_however_a_language_hands_it_over(seconds: Any) -> None:
    assert _completed({"pod_template": POD, "timeout_seconds": seconds})["timeout_seconds"] == 60


@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        *(({"name": "KATA_NODES_SECONDS", "value": value}, "KATA_NODES_SECONDS") for value in (
            "20s", "08", "0", "-1", "1e3", "٢٠", "3601", " 20", "20\n", 7.5,
        )),
        ({"name": "KATA_NODES_NETWORK", "value": "yes"}, "KATA_NODES_NETWORK"),
        ({"value": "20"}, "has no name"),
        (7, "has no name"),
    ],
)  # fmt: skip
def test_variable_that_the_ladder_cannot_use_is_refused_before_a_job_is_made(variable: Any, problem: str) -> None:
    """Its shell would end at the first command, which reads as a fault of the node."""
    with pytest.raises(NodeError, match=problem) as caught:
        _completed({"pod_template": pod_with(variable)})
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize("value", ["1", "20", "3600", 20, "", None])
def test_variable_that_the_ladder_can_use_stays(value: Any) -> None:
    assert _completed({"pod_template": pod_with({"name": "KATA_NODES_SECONDS", "value": value})})


@pytest.mark.parametrize("user_id", [0, -1, 1.5, 2**32, "nobody", float("inf")])
def test_user_id_that_no_entry_can_become_is_refused_in_a_sentence(user_id: Any) -> None:
    settings = {"template": "t", "runtime_class": "kata", "image": "i", "user_id": user_id}
    with pytest.raises(NodeError, match=r"^Key userId is") as caught:
        body_of(settings)
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize("program", [proves, joins])
@pytest.mark.parametrize("parameter", ["quiet splash", "", "a=b c", "é"])
def test_parameter_that_no_guest_could_have_is_refused_before_every_node_fails_for_it(program: Any, parameter: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"^Kernel parameter .*\[bad-kernel-parameter\]$"):
        run(program({"kernel_params": [parameter]}))
    run(program({"kernel_params": ["pci=realloc", "pci=nocrs", 'dm-mod.create="a b"']}))


@pytest.mark.parametrize("program", [
    *(lambda image, of=of: of({"image": image}) for of in (proves, joins)),
    lambda image: lambda: JoiningNodes("j", {"namespace": "n", "image": image, "selector": "a=b", "proof": PROOF}),
    lambda image: lambda: SandboxPodTemplate("t", {**TEMPLATE, "image": image}),
])  # fmt: skip
@pytest.mark.parametrize("image", ["registry/proof@sha256:0\n", "a b", "-a", " "])
def test_image_that_no_runtime_could_pull_is_refused(program: Any, image: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"image is .*, which is not the name of an image\. Use the name alone"):
        run(program(image))


def test_template_without_a_class_never_takes_the_capabilities_to_the_node() -> None:
    with pytest.raises(NodeError, match="has no RuntimeClass: on the node's own kernel"):
        body_of({"template": "t", "runtime_class": "", "image": "i"})


@pytest.mark.parametrize(("key", "text"), [("overhead_memory", "2GB"), ("overhead_cpu", "2GB"), ("overhead_memory", "350m")])
def test_overhead_that_is_no_quantity_is_refused_before_the_cluster_is_asked(key: str, text: str) -> None:
    args: Any = {"runtime_class": "kata", "handler": "kata-qemu", "kata_version": "3.32.0", key: text}
    with pytest.raises(pulumi.RunError, match=rf"^Key overhead(Memory|Cpu) is '{text}'.*\[bad-input\]"):
        run(lambda: KataRuntimeClass("k", args))


@pytest.mark.parametrize("chosen", [{"nodes": []}, {"node_selector": ""}, {}, {"nodes": ["one"], "node_selector": "a=b"}])
def test_proof_of_no_node_is_refused_before_the_cluster_is_asked(chosen: dict[str, Any]) -> None:
    args: Any = {"kubeconfig": KUBECONFIG, "namespace": "n", "proof": PROOF, **chosen}
    with pytest.raises(pulumi.RunError, match="p: set exactly one of nodes and node_selector"):
        run(lambda: KataProof("p", args))


def test_selector_that_the_api_server_would_refuse_is_refused_before_it_is_asked() -> None:
    proof: Any = {"namespace": "n", "proof": PROOF, "kubeconfig": KUBECONFIG, "node_selector": "a:b"}
    joining: Any = {"namespace": "n", "proof": PROOF, "image": "c", "selector": "a:b"}
    for program in (lambda: KataProof("p", proof), lambda: JoiningNodes("j", joining)):
        with pytest.raises(pulumi.RunError, match=r"the label selector 'a:b'.*\[bad-input\]"):
            run(program)


@pytest.mark.parametrize("key", ["least_nodes", "join_seconds"])
@pytest.mark.parametrize("value", [float("inf"), "soon", -1])
def test_number_of_nodes_or_seconds_that_is_none_is_refused(key: str, value: Any) -> None:
    with pytest.raises(NodeError, match=f"is {value!r}") as caught:
        bounds({key: value})
    assert caught.value.code == "bad-input"


@pytest.mark.parametrize("key", ["nested_sandbox", "sandbox", "timeout_seconds", "kernel_params"])
def test_setting_without_a_value_keeps_its_default(key: str) -> None:
    (job,) = (resource for resource in run(proves({key: None})).by_name.values() if resource.type == "kubernetes:batch/v1:Job")
    (same,) = (resource for resource in run(proves({})).by_name.values() if resource.type == "kubernetes:batch/v1:Job")
    assert job.inputs == same.inputs


CLASS: Any = {"runtime_class": "kata", "handler": "kata-qemu", "kata_version": "3.32.0"}
TEMPLATE: Any = {"template": "t", "namespace": "n", "runtime_class": "kata", "image": "i"}
LABELS: Any = {"kubeconfig": KUBECONFIG, "machines": {"nodes-A": "id-of-nodes-A"}}
GUARD: Any = {"namespaces": ["n"], "runtime_classes": ["kata"]}


@pytest.mark.parametrize(
    ("component", "args", "words"),
    [
        (KataRuntimeClass, {**CLASS, "tolerations": ["a b"]}, "toleration 'a b' is not"),
        (KataRuntimeClass, {**CLASS, "kata_version": "latest"}, "Kata version 'latest' is not"),
        (KataNodeLabels, {**LABELS, "kata_version": "latest"}, "Kata version 'latest' is not"),
        (KataDeploy, {"runtime": "golang"}, "Kata runtime 'golang' is not known"),
        (KataDeploy, {"distribution": "eks"}, "distribution 'eks' is not known. Use one of k8s, k3s, rke2, k0s, microk8s"),
        (SandboxGuard, {**GUARD, "namespaces": []}, "has no namespace"),
        (SandboxGuard, {**GUARD, "runtime_classes": [""]}, "has no RuntimeClass"),
        (SandboxPodTemplate, {**TEMPLATE, "seccomp": "runtimeDefault"}, "'runtimeDefault' is not known"),
        (SandboxPodTemplate, {**TEMPLATE, "command": []}, "has no command"),
        (SandboxPodTemplate, {**TEMPLATE, "user_id": 7, "ordinary_user": True}, "a user id and no entry"),
    ],
)
def test_argument_is_refused_in_a_line_with_its_remedy_and_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, component: Any, args: Any, words: str
) -> None:
    monkeypatch.setattr(kata_node_labels, "cluster", lambda kubeconfig, context: Joined())
    with pytest.raises(pulumi.RunError, match=words) as caught:
        run(lambda: component("c", args))
    assert str(caught.value).endswith(". [bad-input]")


@pytest.mark.parametrize(
    "text",
    [
        "spec: {}", "[]", "{}", '{"spec": null}', '{"spec": {"containers": []}}', '{"spec": {"containers": [{}]}}',
        '{"kind": "PodTemplate", "template": {"spec": {"containers": [{"name": "a"}]}}}', "[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("program", [proves, joins])
def test_pod_template_that_is_none_is_refused(program: Any, text: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"is not JSON of a PodTemplateSpec with a container\. Use the output podTemplate"):
        run(program({"pod_template": text}))


@pytest.mark.parametrize("name", ["myProof", "my_proof", "prüfung", "p" * 64])
@pytest.mark.parametrize(
    ("component", "args"),
    [
        (KataProof, {"kubeconfig": KUBECONFIG, "namespace": "n", "proof": PROOF, "nodes": ["one"]}),
        (JoiningNodes, {"namespace": "n", "image": "c", "selector": "a=b", "proof": PROOF}),
        (SandboxGuard, GUARD),
    ],
)
def test_name_of_a_component_that_no_object_could_have_is_refused_in_a_preview(component: Any, args: Any, name: str) -> None:
    """The engine adds to it what makes a name unique, and the API server refused it when the nodes were changed."""
    if component is SandboxGuard and name == "p" * 64:
        return  # of the guard it is not a label
    with pytest.raises(pulumi.RunError, match=rf"^{component.__name__} '{name}' cannot name its objects.*\[bad-input\]$"):
        run(lambda: component(name, args), preview=True)


@pytest.mark.parametrize(
    ("component", "args"),
    [
        (KataRuntimeClass, CLASS),
        (KataRuntimeClass, {**CLASS, "adopt": True}),
        (KataDeploy, {}),
        (KataNodeLabels, LABELS),
        (SandboxNamespace, {"namespace": "n"}),
        (SandboxPodTemplate, TEMPLATE),
    ],
)
def test_component_whose_objects_have_names_of_their_own_may_be_called_anything(
    monkeypatch: pytest.MonkeyPatch, component: Any, args: Any
) -> None:
    monkeypatch.setattr(kata_node_labels, "cluster", lambda kubeconfig, context: Joined())
    for resource in run(lambda: component("myPrüfung", args), preview=True).by_name.values():
        if resource.type.startswith("kubernetes:"):
            assert resource.inputs.get("metadata", resource.inputs).get("name", "").isascii(), resource.name
            assert resource.type.endswith("RuntimeClass") or resource.inputs.get("metadata", resource.inputs)["name"]


@pytest.mark.parametrize(
    ("component", "args", "key"),
    [
        (KataRuntimeClass, {**CLASS, "runtime_class": "Kata"}, "runtimeClass"),
        (KataRuntimeClass, {**CLASS, "handler": "kata.qemu"}, "handler"),
        (SandboxNamespace, {"namespace": "mySandboxes"}, "namespace"),
        (SandboxNamespace, {"namespace": "my_sandboxes", "adopt": True}, "namespace"),
        (SandboxGuard, {**GUARD, "namespaces": ["mySandboxes"]}, "namespaces"),
        (SandboxPodTemplate, {**TEMPLATE, "template": "t" * 64}, "template"),
        (SandboxPodTemplate, {**TEMPLATE, "namespace": "a.b"}, "namespace"),
        (SandboxPodTemplate, {**TEMPLATE, "runtime_class": "Kata"}, "runtimeClass"),
        (KataProof, {"kubeconfig": KUBECONFIG, "namespace": "N", "proof": PROOF, "nodes": ["one"]}, "namespace"),
        (JoiningNodes, {"namespace": "N", "image": "c", "selector": "a=b", "proof": PROOF}, "namespace"),
        (KataDeploy, {"namespace": "N"}, "namespace"),
    ],
)
def test_name_of_an_object_that_no_api_server_takes_is_refused_in_a_preview(component: Any, args: Any, key: str) -> None:
    argument = {"runtimeClass": "runtime_class"}.get(key, key)
    for name in (args[argument], pulumi.Output.secret):

        def program(name: Any = name) -> None:
            component("c", {**args, argument: name if not callable(name) else name(args[argument])})

        with pytest.raises(pulumi.RunError, match=rf"^Key {key} is not a name that Kubernetes takes\. Use small letters"):
            run(program, preview=True)
