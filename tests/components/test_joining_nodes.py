"""The controller of joining nodes as the engine sees it: off by default, after the proof, bounded before it has a right."""

import json
from typing import Any

import pytest
import yaml

from clusterkit import joining, joining_guard, joining_workload, pod_proof, runtime_class
from components.cluster import kata_proof
from nodekit.scripts import ladder_script
from tests.components.recorder import Recorder
from tests.components.test_wiring import EXISTING, FakeCluster, stack

ADDRESS = "https://192.0.2.9"
KUBECONFIG = yaml.safe_dump(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": ADDRESS}}],
    }
)
CHILDREN = (
    "joining-namespace",
    *(f"joining-nodes-{child}" for child in (
        "account", "guard-policy", "guard-binding", "proof-account", "proof-policy", "proof-binding", "nodes", "nodes-binding",
        "own", "own-binding", "events", "events-binding", "settings", "controller",
    )),
)  # fmt: skip


def recorded(monkeypatch: pytest.MonkeyPatch, **kubernetes: Any) -> Recorder:
    """The stack with these settings of its cluster."""
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    config = {**EXISTING, "kubernetes": {"proof": {"nodes": ["one"], "image": "proof@sha256:0"}, **kubernetes}}
    return stack(config, secrets={"sshPrivateKey": "KEY", "kubeconfig": KUBECONFIG})


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """With the controller, and what it proves changed from the defaults."""
    return recorded(
        monkeypatch, joiningNodes={"image": "registry/controller@sha256:0", "selector": "pool=kata"}, pod={"cpu": "2"}
    )


def test_it_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in recorded(monkeypatch).by_name if name.startswith("joining")]


def test_all_of_it_comes_after_the_proof_of_up_and_has_its_own_names(recorder: Recorder) -> None:
    for name in CHILDREN:
        resource = recorder.by_name[name]
        assert {
            "proof-evidence",
            "sandbox-template",
            "sandboxes-guard-binding",
            "nodes-a-proof",
            "nodes-b-proof",
        } <= resource.after, name
        assert "::cluster::" in resource.request.provider
        # By names of the engine's making nothing is taken over; the namespace's own is refused where it is taken.
        assert ("name" in resource.inputs.get("metadata", {})) == (name == "joining-namespace"), name
    assert set(CHILDREN) | {"joining", "joining-nodes"} == {name for name in recorder.by_name if name.startswith("joining")}


def test_account_has_no_right_to_nodes_before_the_policy_bounds_it(recorder: Recorder) -> None:
    assert {"joining-nodes-guard-binding", "joining-nodes-proof-binding"} <= recorder.by_name["joining-nodes-nodes-binding"].after
    bindings = {f"joining-nodes-{child}-binding" for child in ("nodes", "own", "events")}
    assert bindings <= recorder.by_name["joining-nodes-controller"].after


def test_controller_is_alone_in_a_guarded_namespace(recorder: Recorder) -> None:
    labels = recorder.by_name["joining-namespace"].inputs["metadata"]["labels"]
    assert labels == recorder.by_name["sandboxes-namespace"].inputs["metadata"]["labels"]
    for child in ("account", "proof-account", "own", "own-binding", "settings", "controller"):
        assert recorder.by_name[f"joining-nodes-{child}"].inputs["metadata"] == {"namespace": "kata-nodes-joining"}
    assert recorder.by_name["joining-nodes-events"].inputs["metadata"] == {"namespace": joining.EVENTS_NAMESPACE}


def test_roles_are_the_ones_that_are_tried_on_a_real_server(recorder: Recorder) -> None:
    for child, rules in (
        ("nodes", joining_workload.NODE_RULES),
        ("own", joining_workload.own_rules("joining-nodes")),
        ("events", joining_workload.EVENT_RULES),
    ):
        assert recorder.by_name[f"joining-nodes-{child}"].inputs["rules"] == rules


def test_policy_is_about_the_account_that_the_controller_runs_as(recorder: Recorder) -> None:
    # The recorder answers with no name that an engine would make.
    policy = recorder.by_name["joining-nodes-guard-policy"].inputs["spec"]
    spec = recorder.by_name["joining-nodes-controller"].inputs["spec"]["template"]["spec"]
    account = spec["serviceAccountName"]
    assert policy == joining_guard.policy("kata-nodes-joining", account)
    for child in ("nodes-binding", "own-binding", "events-binding"):
        (subject,) = recorder.by_name[f"joining-nodes-{child}"].inputs["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": account, "namespace": "kata-nodes-joining"}


def test_it_proves_what_up_proves(recorder: Recorder) -> None:
    data = recorder.by_name["joining-nodes-settings"].inputs["data"]
    settings = joining.settings(data[joining_workload.SETTINGS_KEY])
    assert (settings.selector, settings.namespace, settings.proof) == ("pool=kata", "kata-nodes-joining", "joining-nodes")
    up = recorder.by_name["proof-one"].inputs["spec"]
    ours = joining.ask(settings, pod_proof.Node("one", "uid-one", "boot"), 1, ladder_script()).body["spec"]
    ours, up = (json.loads(json.dumps(spec).replace("joining-nodes", "proof")) for spec in (ours, up))
    assert ours == up


def test_controller_runs_as_nobody_and_can_run_where_every_node_waits(recorder: Recorder) -> None:
    deployment = recorder.by_name["joining-nodes-controller"].inputs["spec"]
    assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
    spec = deployment["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["image"] == "registry/controller@sha256:0"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert {"key": runtime_class.TAINT, "operator": "Exists"} in spec["tolerations"]


def test_image_and_bound_of_the_proof_can_be_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    joining_settings = {"image": "i", "proofImage": "busybox@sha256:0", "timeoutSeconds": 77, "namespace": "elsewhere"}
    recorder = recorded(monkeypatch, joiningNodes=joining_settings)
    settings = joining.settings(recorder.by_name["joining-nodes-settings"].inputs["data"][joining_workload.SETTINGS_KEY])
    assert (settings.image, settings.timeout_seconds, settings.namespace) == ("busybox@sha256:0", 77, "elsewhere")
    assert settings.selector == "katacontainers.io/kata-runtime=true"
