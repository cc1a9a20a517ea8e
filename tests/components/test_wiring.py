"""The whole program against a recording engine: types, names, parents, order, options, secrets, and what a preview shows.

What would be lost if these failed: the order (nothing later runs when something earlier failed), pinned host keys, secrets.
"""

import itertools
import json
import re
import runpy
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
import pytest
import yaml
from pulumi.output import Unknown

from clusterkit import pod, pod_proof, proof_guard
from clusterkit.api import cluster_reader
from clusterkit.api.cluster_reader import Situation
from components.cluster import kata_deploy, kata_node_labels, kata_proof
from delivery import login
from delivery.scripts import sent
from nodekit.errors import NodeError
from nodekit.scripts import ladder_script, script
from review import preview as review_preview
from stacks import adoption
from tests.components.recorder import ON_THE_CLUSTER, Recorder, desired, run, states

PROGRAM = Path(__file__).resolve().parents[2] / "__main__.py"
ON_CLUSTER = (
    "kata-class", "sandboxes-guard-policy", "sandboxes-guard-binding", "sandboxes-namespace",
    "sandbox-template",
)  # fmt: skip
LOCAL: dict[str, Any] = {
    "nodes": {"local": {"count": 1}},
    "docker": {"repository": "local"},
    "kata": {"install": "local", "kernelParams": ["sysctl.user.max_user_namespaces=9000"]},
    "kubernetes": {"cluster": "local"},
}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"
EXISTING: dict[str, Any] = {
    "nodes": {
        "existing": [
            {"name": "a", "address": "192.0.2.1", "hostKey": HOST_KEY},
            {"name": "b", "address": "192.0.2.2", "hostKey": HOST_KEY, "user": "admin"},
        ]
    }
}


def stack(config: dict[str, Any], preview: bool = False, secrets: dict[str, str] | None = None, tasks: Any = None) -> Recorder:
    """Run the project's own __main__.py with that configuration."""
    texts = {f"kata-nodes:{key}": json.dumps(value) for key, value in config.items()}
    secrets = {f"kata-nodes:{key}": value for key, value in (secrets or {}).items()}
    pulumi.runtime.set_all_config({**texts, **secrets}, list(secrets))
    with mock.patch.object(kata_node_labels, "cluster", lambda kubeconfig, context: Joined()):
        return run(lambda: runpy.run_path(str(PROGRAM)), preview, tasks)


class Joined:
    """Answers for a cluster that one machine of the stack has joined, under a name of its own."""

    def described_nodes(self) -> list[dict[str, Any]]:
        about = {"name": "worker-7", "uid": "uid-of-worker-7"}
        ours = {"metadata": about, "status": {"nodeInfo": {"machineID": "id-of-nodes-A"}}}
        return [ours, {"metadata": {"name": "other"}, "status": {}}]


@pytest.fixture(scope="module")
def local() -> Recorder:
    """The local stack after an `up`."""
    return stack(LOCAL)


def test_types_and_parents(local: Recorder) -> None:
    placed = {name: (resource.type, resource.parent) for name, resource in local.by_name.items()}
    assert placed["local-0"][0] in ("kata-nodes:index:KataNode", "kata-nodes:index:LocalMachine")
    assert placed["local-0-machine"] == ("command:local:Command", "local-0")
    assert placed["local-0-upload"] == ("command:remote:CopyToRemote", "local-0")
    for child in ("system", "converge", "proof"):
        assert placed[f"local-0-{child}"] == ("command:remote:Command", "local-0")
    assert placed["site-server"] == ("command:local:Command", "site")
    assert placed["cluster-server"] == ("command:local:Command", "cluster")
    assert placed["kata-class"] == ("kubernetes:node.k8s.io/v1:RuntimeClass", "kata")
    admission = "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicy"
    assert placed["sandboxes-guard-policy"] == (admission, "sandboxes-guard")
    assert placed["sandboxes-guard-binding"] == (f"{admission}Binding", "sandboxes-guard")
    assert placed["sandboxes-namespace"] == ("kubernetes:core/v1:Namespace", "sandboxes")
    assert placed["sandbox-template"] == ("kubernetes:core/v1:PodTemplate", "sandbox")


def test_each_step_waits_for_the_one_before(local: Recorder) -> None:
    order = ["system", "upload", "converge", "proof"]
    for before, after in itertools.pairwise(order):
        assert f"local-0-{before}" in local.by_name[f"local-0-{after}"].after


def test_nothing_on_the_cluster_before_the_proof(local: Recorder) -> None:
    for name in ON_CLUSTER:
        assert "local-0-proof" in local.by_name[name].after


def test_host_key_is_pinned_and_connection_secret(local: Recorder) -> None:
    for child in ("system", "upload", "converge", "proof"):
        command = local.by_name[f"local-0-{child}"]
        connection = command.inputs["connection"]
        assert connection["hostKey"] == "ssh-ed25519 AAAA"
        assert connection["dialErrorLimit"] >= 60
        assert command.is_secret("connection")


def test_secrets_stay_out_of_every_other_input(local: Recorder) -> None:
    for name, resource in local.by_name.items():
        public = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert "PRIVATE-LOGIN-KEY" not in repr(public), name
        assert "SECRET-KUBECONFIG" not in repr(public), name


def test_output_that_holds_secrets_is_secret(local: Recorder) -> None:
    for name in ("local-0-machine", "cluster-server"):
        assert list(local.by_name[name].request.additionalSecretOutputs) == ["stdout"]
        assert local.by_name[name].inputs["logging"] == "stderr"


def test_commands_are_bounded_and_carry_their_state_on_stdin(local: Recorder) -> None:
    proof, converge, system = (local.by_name[f"local-0-{child}"].inputs for child in ("proof", "converge", "system"))
    assert re.fullmatch(r"sudo -n timeout --kill-after=30 \d+ sh -c '.* prove' # run [0-9a-f]+", proof["create"])
    # converge.sh runs the verb as root, which the login user may be or become.
    for line in (converge["create"], converge["update"]):
        assert re.match(r"timeout \d+ " + re.escape(login.handed(sent("converge.sh", "delivery"), "converge")), line)
    assert re.match(r"timeout \d+ sh -s # machine ", system["create"])
    assert re.match(r"timeout \d+ sh -s -- --remove ", system["delete"])
    for inputs in (proof, converge):
        assert desired(inputs["stdin"])["node"] == "local-0"
    for inputs in (proof, converge, system):
        assert inputs["addPreviousOutputInEnv"] is False


def test_script_that_a_command_takes_from_standard_input_is_exactly_as_long_as_it_says(local: Recorder) -> None:
    """Lost if this fails: a script that begins with the end of another, or a state without its beginning."""
    inputs = local.by_name["local-0-converge"].inputs
    length = int(re.search(r"dd bs=1 count=(\d+) ", inputs["create"])[1])  # type: ignore[index]
    script, state = (part.decode() for part in (inputs["stdin"].encode()[:length], inputs["stdin"].encode()[length:]))
    assert script == sent("converge.sh", "delivery") and json.loads(state) == desired(inputs["stdin"])


def test_release_reaches_preflight_and_kata_for_both_architectures() -> None:
    nodes = stack({**EXISTING, "kata": {"install": "release", "version": "3.32.0"}})
    for at in ("a", "b"):
        steps = states(nodes.by_name, f"nodes-{at}")
        assert set(steps["kata"]["install"]) == {"x86_64", "aarch64"}
        assert steps["preflight"]["kata"]["install"] == steps["kata"]["install"]
        assert steps["preflight"]["kata"]["configPath"] == steps["kata"]["configPath"] == steps["docker"]["configPath"]


def test_parameters_written_are_the_documents_and_ours(local: Recorder) -> None:
    expected = ["user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"]
    steps = states(local.by_name, "local-0")
    assert steps["kata"]["kernelParams"] == steps["proof"]["expect"] == expected


def test_changed_input_proves_again_and_same_input_does_not(local: Recorder) -> None:
    def digest(recorder: Recorder) -> str:
        return str(json.loads(recorder.by_name["local-0-proof"].inputs["stdin"])["digest"])

    changed = stack({**LOCAL, "kata": {**LOCAL["kata"], "kernelParams": []}})
    assert digest(stack(LOCAL)) == digest(local)
    assert digest(changed) != digest(local)


def test_another_machine_behind_an_address_is_never_undone_by_the_key_of_the_one_before(local: Recorder) -> None:
    undoing = [
        command for command in local.by_name.values() if command.type == "command:remote:Command" and "delete" in command.inputs
    ]
    assert [command.name for command in undoing] == ["local-0-system"]
    assert not any("triggers" in command.inputs for command in undoing)


def test_a_program_that_was_sent_again_is_put_in_place_again(local: Recorder) -> None:
    """Lost if this fails: a node whose program is damaged needs its resources taken out of the state, and with them, because they
    depend on them, every object of the cluster, which the next `up` cannot make since it exists."""
    converge = local.by_name["local-0-converge"].inputs
    assert "local-0-upload-id" in converge["update"] and "local-0-upload-id" not in converge["create"]


def test_what_is_on_a_local_machine_goes_with_it(local: Recorder) -> None:
    for child in ("system", "upload", "converge", "proof"):
        assert local.by_name[f"local-0-{child}"].request.deletedWith.endswith("::local-0-machine")


def test_what_is_on_a_local_cluster_goes_with_it(local: Recorder) -> None:
    for child in ON_CLUSTER:
        assert local.by_name[child].request.deletedWith.endswith("::cluster-server")


def test_changed_handler_replaces_the_class(local: Recorder) -> None:
    request = local.by_name["kata-class"].request
    assert list(request.replaceOnChanges) == ["handler"]
    assert request.deleteBeforeReplace


def test_no_pod_can_come_before_its_guard(local: Recorder) -> None:
    assert {"sandboxes-guard-policy", "sandboxes-guard-binding"} <= local.by_name["sandboxes-namespace"].after
    metadata = local.by_name["sandboxes-namespace"].inputs["metadata"]
    (selector,) = local.by_name["sandboxes-guard-binding"].inputs["spec"]["matchResources"]["namespaceSelector"][
        "matchExpressions"
    ]
    assert selector == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": [metadata["name"]]}
    labels = metadata["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert labels["pod-security.kubernetes.io/warn"] == labels["pod-security.kubernetes.io/audit"] == "baseline"


def test_nothing_of_anybody_else_is_taken_over(local: Recorder) -> None:
    # By server-side apply, the plugin's default, creating takes over what exists, and destroying deletes it.
    assert local.by_name["cluster"].inputs["enableServerSideApply"] == "false"
    for name in ON_CLUSTER:
        assert "::cluster::" in local.by_name[name].request.provider
    for name in ("sandboxes-guard-policy", "sandboxes-guard-binding"):
        assert local.by_name[name].inputs["metadata"] == {}


def test_settings_of_the_cluster_reach_its_objects() -> None:
    settings = {
        "overhead": {"memory": "500Mi", "cpu": "1"},
        "tolerations": ["sandbox=true:NoSchedule"],
        "allowedAnnotations": ["io.katacontainers.config.hypervisor.default_vcpus"],
        "pod": {"user": "ordinary", "readOnlyRoot": False, "serviceAccountToken": True, "seccomp": "Unconfined", "cpu": "2",
                "memory": "1Gi", "memoryLimit": "3Gi"},
    }  # fmt: skip
    resources = stack({**LOCAL, "kubernetes": {"cluster": "local", **settings}}).by_name
    class_inputs = resources["kata-class"].inputs
    assert class_inputs["overhead"] == {"podFixed": {"memory": "500Mi", "cpu": "1"}}
    assert class_inputs["scheduling"]["tolerations"] == [
        {"key": "sandbox", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    ]
    assert "default_vcpus" in repr(resources["sandboxes-guard-policy"].inputs)
    spec = resources["sandbox-template"].inputs["template"]["spec"]
    assert spec == pod.template(
        "docker.io/library/debian:13-slim", "kata-qemu", {}, ordinary_user=True, read_only_root=False, service_account_token=True,
        seccomp="Unconfined", cpu="2", memory="1Gi", memory_limit="3Gi", entry=script("entry.sh"))["spec"]  # fmt: skip


KUBECONFIG = yaml.safe_dump(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://192.0.2.9"}}],
    }
)


def evidence_of(node: str) -> dict[str, Any]:
    """Of a proof that passed."""
    rungs = [{"name": "command-line", "passed": True, "counts": True}, {"name": "unshare", "passed": True, "counts": True}]
    seen = {"userNamespaces": 7563, "commandLine": "user_namespace.enable=1", "rungs": rungs}
    return {"node": node, "proven": "pod", **seen}


class FakeCluster:
    """Answers for a cluster with two nodes, on which every Job passes and everything to adopt is there."""

    def require(self, kind: str, name: str, setting: str) -> None:
        pass

    def require_policies(self) -> None:
        pass

    def described_nodes(self) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "one", "labels": {"pool": "kvm"}}, "status": {"nodeInfo": {"kubeletVersion": "v1+k3s1"}}}]

    def pods_labelled(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        return []

    def situation(self, namespace: str, proof: str, names: list[str], selector: str | None) -> Situation:
        nodes = [pod_proof.Node(name, f"uid-{name}", f"boot-{name}") for name in names or ("one", "two")]
        return Situation(nodes, pod_proof.Nodes(nodes), {}, {}, {}, {})

    def outcome(self, namespace: str, name: str, proofs: dict[str, Any], timeout_seconds: int) -> dict[str, Any]:
        return {node: evidence_of(node) for node, _ in proofs.items()}


def test_every_node_of_the_cluster_is_proven_with_the_templates_own_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    kubernetes = {"proof": {"nodes": ["one", "two"], "timeoutSeconds": 60, "image": "proof@sha256:0"}, "pod": {"cpu": "2"}}
    recorder = stack({**EXISTING, "kubernetes": kubernetes}, secrets={"sshPrivateKey": "KEY", "kubeconfig": KUBECONFIG})
    template = recorder.by_name["sandbox-template"].inputs["template"]["spec"]
    for node in ("one", "two"):
        spec = recorder.by_name[f"proof-{node}"].inputs["spec"]
        assert spec["activeDeadlineSeconds"] == 60
        assert recorder.by_name[f"proof-{node}"].inputs["metadata"]["namespace"] == "kata-nodes-proof"
        pod_spec = spec["template"]["spec"]
        assert pod_spec["runtimeClassName"] == template["runtimeClassName"] == "kata-qemu"
        for key in ("resources", "securityContext"):
            assert pod_spec["containers"][0][key] == template["containers"][0][key]
        assert f"'{node}'" in repr(pod_spec["affinity"])
    assert {"sandbox-template", "kata-class"} <= recorder.by_name["proof-one"].after
    assert {name: proof["userNamespaces"] for name, proof in recorder.outputs["clusterProof"].items()} == {
        "one": 7563,
        "two": 7563,
    }
    assert "192.0.2.9" not in repr(recorder.by_name["proof-one"].inputs)


def test_a_machine_that_serves_the_cluster_gets_the_labels_before_nodes_are_looked_up_by_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    kubernetes = {"proof": {"selector": "katacontainers.io/kata-runtime=true", "image": "proof@sha256:0"}}
    secrets = {"sshPrivateKey": "KEY", "kubeconfig": KUBECONFIG}
    resources = stack({**EXISTING, "kubernetes": kubernetes}, secrets=secrets).by_name
    label = resources["kata-labels-worker-7"]
    assert label.type == "kubernetes:core/v1:NodePatch"
    about = {"name": "worker-7", "labels": {"katacontainers.io/kata-runtime": "true"}}
    # A node that is deleted and joins again under its name, as a reinstalled machine does, has none of the labels.
    assert label.inputs["metadata"] == {**about, "annotations": {"kata-nodes/labelled": "uid-of-worker-7"}}
    assert [name for name in resources if name.startswith("kata-labels-")] == ["kata-labels-worker-7"]
    assert len(warnings) == 1 and "not labelled" in warnings[0] and ": b. " in warnings[0]
    both = {**kubernetes, "containerRuntime": "none"}
    assert "kata-labels" not in stack({**EXISTING, "kubernetes": both}, secrets=secrets).by_name, "they serve no cluster"
    planned = stack({**EXISTING, "kubernetes": kubernetes}, preview=True, secrets=secrets).by_name
    assert "kata-labels" in planned, "a preview contacts no cluster, and shows that there will be labels"


def test_proof_is_alone_in_a_guarded_namespace_before_any_job_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    kubernetes = {"proof": {"nodes": ["one"], "image": "proof@sha256:0", "namespace": "elsewhere"}}
    recorder = stack({**EXISTING, "kubernetes": kubernetes}, secrets={"sshPrivateKey": "KEY", "kubeconfig": KUBECONFIG})
    resources = {
        name: recorder.by_name[f"proof-{name}"] for name in ("account", "guard-policy", "guard-binding", "one", "evidence")
    }
    assert recorder.by_name["proof-place-namespace"].inputs["metadata"]["name"] == "elsewhere"
    assert "sandboxes-guard-binding" in recorder.by_name["proof-place-namespace"].after
    assert {resources[name].inputs["metadata"]["namespace"] for name in ("account", "one", "evidence")} == {"elsewhere"}
    assert resources["account"].inputs["automountServiceAccountToken"] is False
    assert not [
        resource.name for resource in recorder.by_name.values() if resource.type.endswith(("RoleBinding", ":Role", "ClusterRole"))
    ]
    assert resources["guard-policy"].inputs["spec"] == proof_guard.policy()
    assert "'kubernetes.io/metadata.name': 'elsewhere'" in repr(resources["guard-binding"].inputs["spec"])
    assert "proof-guard-binding" in resources["one"].after and "proof-guard-binding" in resources["evidence"].after
    spec = resources["one"].inputs["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["args"][-1] == ladder_script() and container["image"] == "proof@sha256:0"


def test_cluster_alone_gets_kata_by_its_chart_before_all_else_and_fills_the_checklist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    monkeypatch.setattr(kata_deploy, "cluster", lambda kubeconfig, context: FakeCluster())
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())
    kubernetes = {
        "kataDeploy": {
            "chart": "/charts/kata-deploy",
            "image": "mirror.example/kata-deploy",
            "k8sDistribution": "k3s",
            "nodeSelector": {"pool": "kvm"},
            "values": {"podLabels": {"team": "a"}},
        },
        "imageMirror": "mirror.example",
        "proof": {"selector": "a=b", "image": "hub/proof@sha256:0"},
        "joiningNodes": {"image": "hub/joining"},
    }
    recorder = stack({"kubernetes": kubernetes, "kata": {"version": "3.27.0"}}, secrets={"kubeconfig": KUBECONFIG})
    release = recorder.by_name["kata-deploy-release"]
    assert (release.inputs["chart"], release.inputs["version"]) == ("/charts/kata-deploy", "3.27.0")
    values = release.inputs["values"]
    assert values["image"] == {"reference": "mirror.example/kata-deploy"} and values["podLabels"] == {"team": "a"}
    assert (values["nodeSelector"], values["k8sDistribution"]) == ({"pool": "kvm"}, "k3s")
    for name in ON_CLUSTER:
        assert "kata-deploy-release" in recorder.by_name[name].after
    assert recorder.by_name["kata-class"].inputs["handler"] == "kata-nodes-qemu"
    container = recorder.by_name["proof-one"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "mirror.example/hub/proof@sha256:0"
    assert recorder.by_name["sandbox-template"].inputs["template"]["spec"]["containers"][0]["image"].startswith("mirror.example/")
    controller = recorder.by_name["joining-nodes-controller"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert controller["image"] == "mirror.example/hub/joining"
    guarding = repr(recorder.by_name["sandboxes-guard-policy"].inputs["spec"])
    assert 'request.namespace in ["kata-nodes-proof", "kata-nodes-joining"]' in guarding, "elsewhere none comes to a tainted node"
    rows = recorder.outputs["checklist"]
    assert [row["passed"] for row in rows] == [True] * 5
    assert "one: handler kata-nodes-qemu; two: handler kata-nodes-qemu" in rows[0]["measured"]
    assert "the guest's /proc/cmdline" in rows[2]["measured"] and "in a pod of the template" in rows[4]["measured"]
    assert recorder.outputs["nodes"] == []


@pytest.mark.parametrize(("handler", "is_qemu"), [("kata-qemu-runtime-rs", True), ("kata", False), ("kata-clh", False)])
def test_checklist_says_of_an_adopted_class_only_what_is_known_of_its_hypervisor(
    monkeypatch: pytest.MonkeyPatch, handler: str, is_qemu: bool
) -> None:
    """AKS brings Cloud Hypervisor under the handler kata, whatever kata.hypervisor says, and a pod's proof measures none."""
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())
    monkeypatch.setitem(ON_THE_CLUSTER, "kubernetes:node.k8s.io/v1:RuntimeClass", {"handler": handler})
    kubernetes = {"adoptRuntimeClass": True, "runtimeClass": "kata", "proof": {"selector": "a=b", "image": "hub/proof@sha256:0"}}
    rows = stack({"kubernetes": kubernetes}, secrets={"kubeconfig": KUBECONFIG}).outputs["checklist"]
    assert rows[0]["passed"] is is_qemu
    text = f"handler {handler}" if is_qemu else f"handler {handler}, whose hypervisor is not known"
    assert rows[0]["measured"] == f"one: {text}; two: {text}"
    assert ("[hypervisor.qemu]" in rows[2]["item"]) is is_qemu and "None" not in rows[2]["item"]


@pytest.mark.parametrize("preview", [False, True])
def test_nothing_is_proven_before_kata_deploy_has_finished_and_a_preview_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, preview: bool
) -> None:
    class Installing(FakeCluster):
        def pods_labelled(self, namespace: str, selector: str) -> list[dict[str, Any]]:
            return [{"metadata": {"name": "kata-deploy-x"}, "spec": {"nodeName": "one"}, "status": {}}]

    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    monkeypatch.setattr(kata_deploy, "cluster", lambda kubeconfig, context: Installing())
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())
    monkeypatch.setattr(kata_deploy, "TIMEOUT_SECONDS", 0)
    config = {"kubernetes": {"kataDeploy": {"k8sDistribution": "k3s"}, "proof": {"selector": "a=b", "image": "proof@sha256:0"}}}
    if preview:
        assert "proof-account" in stack(config, preview=True, secrets={"kubeconfig": KUBECONFIG}).by_name
        return
    with pytest.raises(
        pulumi.RunError, match=r"on 1 node in 0 s: one \(its pod kata-deploy-x is not ready\).*kata-deploy-unfinished"
    ):
        stack(config, secrets={"kubeconfig": KUBECONFIG})


@pytest.mark.parametrize("preview", [False, True])
def test_kata_comes_to_no_node_of_a_cluster_that_is_too_old_for_the_guard(monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    """Lost: a 1.29 whose container runtimes were all restarted, before the guard could not be made."""

    class Old(FakeCluster):
        def require_policies(self) -> None:
            raise NodeError("cluster-too-old", "it knows no policies")

    monkeypatch.setattr(kata_deploy, "cluster", lambda kubeconfig, context: FakeCluster())
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: Old())
    config = {"kubernetes": {"kataDeploy": {"k8sDistribution": "k3s"}, "proof": {"selector": "a=b", "image": "proof@sha256:0"}}}
    charts: list[str] = []
    monkeypatch.setattr(kata_deploy, "values", lambda _: charts.append("values"))
    with pytest.raises(pulumi.RunError, match=r"it knows no policies\. Update the cluster.*\[cluster-too-old\]"):
        stack(config, preview, secrets={"kubeconfig": KUBECONFIG})
    assert not charts


MADE_UP = review_preview.kubeconfig("c")


def test_preview_without_the_secrets_asks_no_cluster_and_shows_what_it_would_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost: the comment on a pull request of each stack without nodes over SSH, whose preview failed with the cluster that the
    made-up kubeconfig does not lead to."""

    def contacted(*_: object) -> None:
        raise NodeError("cluster-too-old", "it was asked")

    for module, name in ((kata_deploy, "cluster"), (adoption, "reader"), (kata_proof, "reader")):
        monkeypatch.setattr(module, name, contacted)
    config: dict[str, Any] = {
        "kata": {"kernelParams": ["sysctl.user.max_user_namespaces=9000"]},
        "kubernetes": {
            "kataDeploy": {"k8sDistribution": "k3s"},
            "adoptNamespace": True,
            "namespace": "boxes",
            "proof": {"selector": "a=b", "image": "proof@sha256:0"},
        },
    }
    previewed = stack(config, preview=True, secrets={"kubeconfig": MADE_UP}).by_name
    assert "max_user_namespaces=9000" in json.dumps(previewed["kata-deploy-release"].inputs["values"])
    assert previewed["sandbox-template"].inputs["metadata"]["namespace"] == "boxes"
    assert "proof-evidence" in previewed and not [name for name in previewed if name.startswith("proof-one")]
    assert isinstance(previewed["cluster"].inputs["kubeconfig"], Unknown)  # so that the plugin dials nothing
    for preview, kubeconfig in ((False, MADE_UP), (True, KUBECONFIG)):
        with pytest.raises(pulumi.RunError, match="it was asked"):
            stack(config, preview, secrets={"kubeconfig": kubeconfig})


def test_adopted_objects_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())
    recorder = stack({**LOCAL, "kubernetes": {"cluster": "local", "adoptNamespace": True, "adoptRuntimeClass": True}})
    assert "kata-class" not in recorder.by_name and "sandboxes-namespace" not in recorder.by_name
    labels = recorder.by_name["sandboxes-labels"]
    assert labels.type == "kubernetes:core/v1:NamespacePatch"
    assert labels.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "::cluster-adopting::" in labels.request.provider
    assert "enableServerSideApply" not in recorder.by_name["cluster-adopting"].inputs


def test_an_api_server_that_restarts_while_the_adopted_is_looked_for_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack may just have changed the node on which it runs."""
    failing = [NodeError("cluster-unreachable", "the API server does not answer") for _ in range(3)]

    class Restarting(FakeCluster):
        def require(self, kind: str, name: str, setting: str) -> None:
            if failing:
                raise failing.pop()

    monkeypatch.setattr(cluster_reader, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: Restarting())
    stack({**LOCAL, "kubernetes": {"cluster": "local", "adoptNamespace": True, "adoptRuntimeClass": True}})
    assert not failing


def test_adopted_class_of_another_handler_stops_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())
    kubernetes = {"cluster": "local", "adoptRuntimeClass": True, "handler": "kata-clh"}
    with pytest.raises(pulumi.RunError, match=r"kata-qemu.*'kata-qemu'.*'kata-clh'.*\[runtime-class-handler\]"):
        stack({**LOCAL, "kubernetes": kubernetes})


def test_class_leads_to_the_handler_of_the_settings() -> None:
    recorder = stack({**LOCAL, "kubernetes": {"cluster": "local", "handler": "kata-vm-isolation"}})
    assert recorder.by_name["kata-class"].inputs["handler"] == "kata-vm-isolation"


def test_template_grants_what_a_sandbox_needs_and_no_more_under_the_class(local: Recorder) -> None:
    spec = local.by_name["sandbox-template"].inputs["template"]["spec"]
    assert spec["runtimeClassName"] == "kata-qemu"
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "SYS_ADMIN", "SETFCAP"]}
    assert spec["automountServiceAccountToken"] is False


def test_preview_of_a_new_stack_knows_no_node(local: Recorder) -> None:
    recorder = stack(LOCAL, preview=True)
    assert set(recorder.by_name) == set(local.by_name)


def test_existing_nodes_need_no_local_parts() -> None:
    recorder = stack(EXISTING, secrets={"sshPrivateKey": "PRIVATE-LOGIN-KEY"})
    assert not [resource for resource in recorder.by_name.values() if resource.type == "command:local:Command"]
    assert recorder.by_name["nodes-a-proof"].inputs["create"].startswith("timeout ")
    assert recorder.by_name["nodes-b-proof"].inputs["create"].startswith("sudo -n timeout ")
    state = states(recorder.by_name, "nodes-a")["docker"]
    assert state["repository"]["address"] == "https://download.docker.com/linux/{id}"
    test_secrets_stay_out_of_every_other_input(recorder)


def test_checklist_has_the_five_rows(local: Recorder) -> None:
    rows = local.outputs["checklist"]
    assert [row["passed"] for row in rows] == [True] * 5
    assert "7563" in rows[3]["measured"]


def test_secret_within_a_section_is_refused_since_the_state_would_show_it() -> None:
    texts = {f"kata-nodes:{key}": json.dumps(value) for key, value in EXISTING.items()}
    pulumi.runtime.set_all_config(texts, ["kata-nodes:nodes"])
    with pytest.raises(pulumi.RunError, match=r"kata-nodes:nodes: it is set as a secret.*Set it without --secret.*sshPrivateKey"):
        run(lambda: runpy.run_path(str(PROGRAM)))


def test_another_account_that_the_plugin_of_the_stack_would_not_have_is_refused() -> None:
    aws = {"region": "eu-central-1", "instanceType": "m7i.metal-24xl", "image": "ami-0123456789abcdef0", "vpc": "vpc-1"}
    machines = {**aws, "subnets": ["subnet-1"], "instances": {"sshFrom": ["203.0.113.0/24"]}}
    texts = {"kata-nodes:nodes": json.dumps({"aws": machines}), "aws:allowedAccountIds": '["123456789012"]'}
    pulumi.runtime.set_all_config(texts, [])
    with pytest.raises(pulumi.RunError, match=r"aws:allowedAccountIds: it would have no effect"):
        run(lambda: runpy.run_path(str(PROGRAM)), preview=True)


@pytest.mark.parametrize("text", ["", "hello"])
def test_section_without_keys_is_refused_with_a_remedy(text: str) -> None:
    texts = {f"kata-nodes:{key}": json.dumps(value) for key, value in EXISTING.items()}
    pulumi.runtime.set_all_config({**texts, "kata-nodes:docker": text}, [])
    with pytest.raises(pulumi.RunError, match=rf"kata-nodes:docker \(value: '{text}'\): it has keys of its own.*Write its keys"):
        run(lambda: runpy.run_path(str(PROGRAM)))


def test_refused_configuration_makes_nothing() -> None:
    with pytest.raises(pulumi.RunError, match=r"kata-nodes:kata\.hypervisr"):
        stack({**LOCAL, "kata": {"hypervisr": "qemu"}})
