"""This very program for a cluster without machines of its own, by the real engine, plugin and control plane.

What would be lost if these failed: class, overhead, guard and proof each pass alone and refuse one another together. The tests
are one story and run in order.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.proving import PROVEN, ZERO, refusals
from tests.clusterkit.test_kata_deploy import write_chart
from tests.e2e.checkout import Checkout

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
NODES = [f"node-{number}" for number in range(3)]
SELECTOR = "katacontainers.io/kata-runtime=true"


class Story:
    """The checkout with its stack `test`, and the cluster."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.plane, self.checkout = plane, Checkout(folder)
        write_chart(folder / "chart", "3.32.0")
        self.checkout.pulumi("stack", "init", "test")
        self.checkout.pulumi("config", "set", "--secret", "kata-nodes:kubeconfig", "--stack", "test", stdin=plane.kubeconfig)
        self.kubernetes: dict[str, Any] = {
            "proof": {"selector": SELECTOR, "timeoutSeconds": 60, "image": "proof@sha256:0"},
            "kataDeploy": {"chart": str(folder / "chart"), "namespace": "default"},
        }

    def pulumi(self, *argv: str, ok: bool = True, **kubernetes: Any) -> str:
        """A command with these settings of the Kubernetes section beside the story's own."""
        text = json.dumps(self.kubernetes | kubernetes)
        self.checkout.pulumi("config", "set", "kata-nodes:kubernetes", "--stack", "test", stdin=text)
        return self.checkout.pulumi(*argv, "--stack", "test", ok=ok)

    def up(self, *argv: str, ok: bool = True, **kubernetes: Any) -> str:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", *argv, ok=ok, **kubernetes)

    def output(self, name: str) -> Any:
        """One stack output."""
        return json.loads(self.checkout.pulumi("stack", "output", name, "--json", "--stack", "test"))

    def pods(self) -> dict[str, dict[str, Any]]:
        """Pods of the proof by node."""
        pods = self.plane.items("/api/v1/namespaces/kata-nodes-proof/pods")
        return {pod["spec"]["nodeName"]: pod for pod in pods}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, plane: ControlPlane) -> Iterator[Story]:
    plane.behave(dict.fromkeys(NODES, PROVEN))
    cluster_story = Story(tmp_path_factory.mktemp("checkout"), plane)
    yield cluster_story
    cluster_story.pulumi("destroy", "--yes", "--skip-preview")


def test_preview_of_a_new_stack_shows_it_and_makes_nothing(story: Story) -> None:
    output = story.pulumi("preview")
    for name in ("kata-deploy-release", "kata-class", "sandboxes-guard-policy", "sandboxes-namespace", "sandbox-template"):
        assert name in output
    assert story.plane.get("/api/v1/namespaces/sandboxes") is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("adoptNamespace", "Namespace sandboxes should be adopted, but is not on the cluster"),
        ("adoptRuntimeClass", "RuntimeClass kata-qemu should be adopted, but is not on the cluster"),
    ],
)
def test_what_is_to_be_adopted_and_is_missing_is_named_with_the_way_out(story: Story, setting: str, message: str) -> None:
    output = story.pulumi("preview", ok=False, **{setting: True})
    assert f"{message}. Correct its name, or have it made: kubernetes.{setting}: false. [cluster-object-missing]" in output
    assert "Traceback" not in output


def test_one_node_that_reads_zero_fails_the_stack(story: Story) -> None:
    story.plane.behave({"node-1": ZERO})
    output = story.up(ok=False)
    assert "1 of 3 nodes are not proven:" in output and "Traceback" not in output
    assert refusals(output) == {"node-1": "proof-user-namespaces-zero"}


def test_proof_runs_as_pods_of_the_template_do_under_guard_class_and_overhead(story: Story) -> None:
    story.plane.behave({"node-1": PROVEN})
    story.up()
    pods = story.pods()
    assert sorted(pods) == NODES
    for pod in pods.values():
        spec = pod["spec"]
        assert spec["runtimeClassName"] == "kata-qemu"
        assert spec["overhead"] == {"cpu": "250m", "memory": "160Mi"}  # put there by the class, at admission
        assert spec["nodeSelector"]["katacontainers.io/kata-runtime"] == "true"  # also by the class
        assert spec["containers"][0]["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "SYS_ADMIN", "SETFCAP"]}
        assert "@sha256:" in spec["containers"][0]["image"]


def test_guard_of_the_stack_refuses_what_the_proof_may(story: Story) -> None:
    (pod, *_) = story.pods().values()
    body = {"metadata": {"name": "plain"}, "spec": {"containers": pod["spec"]["containers"], "volumes": pod["spec"]["volumes"]}}
    with pytest.raises(AssertionError, match="Rule capabilities of the sandbox guard"):
        story.plane.request("POST", "/api/v1/namespaces/sandboxes/pods", body)


def test_outputs_hold_the_evidence_of_every_node(story: Story) -> None:
    rows = story.output("checklist")
    assert [row["passed"] for row in rows] == [True] * 5, rows
    for node in NODES:
        assert f"{node}: 7563" in rows[3]["measured"]
    assert sorted(story.output("clusterProof")) == NODES
    assert story.output("nodes") == []


def test_unchanged_stack_makes_no_job_and_its_preview_knows_the_nodes_of_the_selector(story: Story) -> None:
    before = {job["metadata"]["uid"] for job in story.plane.items("/apis/batch/v1/namespaces/kata-nodes-proof/jobs")}
    story.up("--expect-no-changes")
    story.pulumi("preview", "--expect-no-changes")
    assert {job["metadata"]["uid"] for job in story.plane.items("/apis/batch/v1/namespaces/kata-nodes-proof/jobs")} == before
    story.plane.behave({"node-3": PROVEN})
    output = story.pulumi("preview")
    assert "proof-node-3" in output and "proof-node-1 " not in output


def test_destroy_leaves_nothing_of_it_on_the_cluster(story: Story) -> None:
    story.pulumi("destroy", "--yes", "--skip-preview")
    for name in ("sandboxes", "kata-nodes-proof"):
        assert story.plane.get(f"/api/v1/namespaces/{name}") is None
    assert story.plane.get("/apis/node.k8s.io/v1/runtimeclasses/kata-qemu") is None
    for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings"):
        assert story.plane.items(f"/apis/admissionregistration.k8s.io/v1/{kind}") == []
    assert story.plane.get("/api/v1/namespaces/default/configmaps/told") is None
