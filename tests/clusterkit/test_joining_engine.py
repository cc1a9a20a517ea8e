"""The controller of joining nodes on a real control plane, as its own service account, on nodes that kwok plays.

What would be lost if these failed: pods would come to a node that was never proven, a proven node would stay empty, a Job of
before would count as proof, or a controller that was taken over could change nodes at will.
"""

import http.client
import json
import re
import signal
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterkit import joining, joining_guard, joining_workload, pod_proof, pod_verdict
from local import cluster, process
from nodekit.scripts import ladder_script
from tests.clusterkit.control_plane import HANGS, ControlPlane
from tests.clusterkit.joining import JOBS, NAMESPACE, OTHER, UNPROVEN, Joining
from tests.clusterkit.proving import PROVEN, ZERO, ZERO_TEXT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def story(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Joining:
    """Account, rights and settings, once for all tests; none of them changes these."""
    return Joining(tmp_path_factory.mktemp("controller"), plane)


@pytest.fixture
def controller(story: Joining) -> Iterator[Joining]:
    """Not yet started; ended afterwards."""
    yield story
    if story.running:
        story.stop()


def untainted(controller: Joining, node: str) -> None:
    """Wait for it."""
    try:
        controller.plane.until(f"the proof of {node}", lambda: UNPROVEN not in controller.taints(node), 60)
    except AssertionError:
        print(controller.log())
        raise


def test_node_that_passes_loses_exactly_the_one_taint_and_no_other_is_touched(controller: Joining, plane: ControlPlane) -> None:
    plane.behave({"plain-0": PROVEN}, taints=[OTHER])
    plane.behave({"joins-0": PROVEN}, taints=[OTHER, UNPROVEN, {**UNPROVEN, "value": "x", "effect": "NoExecute"}])
    before = controller.node("plain-0"), controller.node("joins-0")
    controller.start()
    untainted(controller, "joins-0")
    after = controller.node("plain-0"), controller.node("joins-0")
    assert after[0]["metadata"] == before[0]["metadata"] and "plain-0" not in controller.log()
    assert controller.taints("joins-0") == [OTHER]
    assert after[1]["metadata"]["labels"] == before[1]["metadata"]["labels"]
    assert after[1]["metadata"].get("annotations", {}) == before[1]["metadata"].get("annotations", {})
    evidence = json.loads(controller.evidence()["joins-0"])
    assert evidence["userNamespaces"] == 7563 and evidence["node"] == "joins-0"
    plane.until("the end of its Job", lambda: not plane.items(JOBS))
    assert controller.stop() == 0


def test_node_that_fails_is_reported_and_is_proven_once_it_is_repaired(controller: Joining, plane: ControlPlane) -> None:
    controller.start()
    plane.until("its first look", lambda: "proving nodes" in controller.log())
    plane.behave({"joins-1": ZERO}, taints=[UNPROVEN])
    plane.until("the Event", lambda: controller.events("joins-1"))
    (event,) = controller.events("joins-1")
    assert event["message"].startswith(f"joins-1: {ZERO_TEXT}") and event["type"] == "Warning"
    assert event["involvedObject"]["uid"] == controller.node("joins-1")["metadata"]["uid"]
    assert controller.taints("joins-1") == [UNPROVEN]
    (first,) = controller.jobs("joins-1")
    plane.behave({"joins-1": PROVEN})
    assert UNPROVEN in controller.taints("joins-1")
    untainted(controller, "joins-1")
    assert "joins-1: try 2" in controller.log() and first["metadata"]["uid"] not in [
        job["metadata"]["uid"] for job in controller.jobs("joins-1")
    ]
    assert len(controller.events("joins-1")) == 1
    # Evidence adds up.
    assert {"joins-0", "joins-1"} <= set(controller.evidence())


def test_earlier_completed_job_is_not_a_proof(controller: Joining, plane: ControlPlane) -> None:
    """Of the same node, labels and digest, made by somebody else, and passed."""
    plane.behave({"joins-2": PROVEN})
    node = pod_proof.node_of(controller.node("joins-2"))
    body = joining.job(controller.settings, joining.ask(controller.settings, node, 1, ladder_script()), "0123abcd")
    left = plane.request("POST", JOBS, body)
    path = f"{JOBS}/{left['metadata']['name']}"
    plane.until("the Job of before", lambda: pod_verdict.condition(plane.request("GET", path), "Complete"))
    plane.behave({"joins-2": ZERO})
    plane.request("PATCH", "/api/v1/nodes/joins-2", {"spec": {"taints": [UNPROVEN]}})
    controller.start()
    plane.until("the Event", lambda: controller.events("joins-2"))
    assert controller.taints("joins-2") == [UNPROVEN]
    assert left["metadata"]["uid"] not in [job["metadata"]["uid"] for job in controller.jobs("joins-2")]


def test_controller_that_is_killed_in_the_middle_goes_on_with_the_same_job(controller: Joining, plane: ControlPlane) -> None:
    plane.behave({"joins-3": HANGS}, taints=[UNPROVEN])
    controller.start()
    plane.until("the claim", lambda: joining.claim(controller.node("joins-3")))
    claim = joining.claim(controller.node("joins-3"))
    controller.stop(signal.SIGKILL)
    plane.behave({"joins-3": PROVEN})
    controller.start()
    untainted(controller, "joins-3")
    assert "joins-3: try" not in controller.log()
    evidence = controller.evidence()
    assert json.loads(evidence["joins-3"])["job"] == claim


def test_api_server_that_stops_is_reported_and_waited_for(controller: Joining, plane: ControlPlane) -> None:
    controller.start()
    plane.until("its first look", lambda: "proving nodes" in controller.log())
    process.stop(plane.folder / "cluster" / "apiserver.process", grace=5)
    plane.until("our words", lambda: "[cluster-unreachable]" in controller.log())
    assert cluster.up({**plane.settings})["server"] == plane.server
    plane.behave({"joins-4": PROVEN}, taints=[UNPROVEN])
    untainted(controller, "joins-4")
    assert "Traceback" not in controller.log()


def test_probe_is_answered_and_memory_is_left_below_the_limit(controller: Joining, plane: ControlPlane) -> None:
    controller.start()
    plane.until("its first look", lambda: "proving nodes" in controller.log())

    def answers() -> bool:
        address = urllib.parse.urlsplit(controller.health)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=5)
        try:
            connection.request("GET", address.path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    plane.until("the probe's answer", answers, 20)
    assert controller.running
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{controller.running.pid}/status").read_text())
    assert resident and int(resident[1]) < 160 * 1024, "the Deployment's limit leaves too little for the lists of nodes"
    print(resident[0])


@pytest.fixture(scope="module")
def bounded(story: Joining, plane: ControlPlane) -> str:
    """A node to be changed; known once the policy holds."""
    plane.behave({"bounded": PROVEN}, taints=[OTHER, UNPROVEN])
    plane.request("PATCH", "/api/v1/nodes/bounded", {"metadata": {"annotations": {"a": "b"}}})
    label = {"metadata": {"labels": {"a": "b"}}}
    plane.until("the policy", lambda: story.patch_as_controller("bounded", label)[0] == 403)
    return "bounded"


@pytest.mark.parametrize(
    ("patch", "rule"),
    [
        ({"metadata": {"labels": {"a": "b"}}}, "metadata"),
        ({"metadata": {"labels": {"kubernetes.io/hostname": None}}}, "metadata"),
        ({"metadata": {"annotations": {"a": "c"}}}, "metadata"),
        ({"metadata": {"annotations": {"a": None}}}, "metadata"),
        ({"metadata": {"annotations": {"new": "b"}}}, "metadata"),
        ({"metadata": {"finalizers": ["example.org/f"]}}, "metadata"),
        ({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}}, "metadata"),
        ({"spec": {"unschedulable": True}}, "spec"),
        ({"spec": {"providerID": "other"}}, "spec"),
        ({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}, "spec"),
        ({"spec": {"taints": None}}, "taints"),
        ({"spec": {"taints": [UNPROVEN]}}, "taints"),
        ({"spec": {"taints": [{**OTHER, "value": "b"}, UNPROVEN]}}, "taints"),
        ({"spec": {"taints": [OTHER, UNPROVEN, {"key": "more", "effect": "NoExecute"}]}}, "taints"),
        ({"spec": {"taints": [OTHER, {**UNPROVEN, "effect": "NoExecute"}]}}, "taints"),
        ({"spec": {"taints": [OTHER, UNPROVEN, {**UNPROVEN, "effect": "NoExecute"}]}}, "taints"),
        ({"spec": {"taints": [OTHER]}, "metadata": {"labels": {"a": "b"}}}, "metadata"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_account_may_change_nothing_else_of_a_node(story: Joining, bounded: str, patch: dict[str, object], rule: str) -> None:
    status, answer = story.patch_as_controller(bounded, patch)
    assert status == 403 and f"Rule {rule} of the joining nodes' guard ({joining_guard.RULES[rule]})" in answer, answer


def test_account_may_take_the_taint_away_and_write_its_claim(story: Joining, bounded: str) -> None:
    node = story.node(bounded)
    assert story.patch_as_controller(bounded, joining.claiming(node, "u"))[0] == 200
    assert story.patch_as_controller(bounded, {"spec": {"taints": [OTHER]}})[0] == 200
    assert story.patch_as_controller(bounded, joining.untainting(node, "u")[0:1])[0] == 200


@pytest.mark.parametrize("changed", ["claim", "uid", "taints"])
def test_taint_is_not_taken_when_the_node_changed_meanwhile(story: Joining, bounded: str, changed: str) -> None:
    node = story.node(bounded)
    node["metadata"].setdefault("annotations", {})[joining.CLAIM_ANNOTATION] = "u"
    if changed == "uid":
        node["metadata"]["uid"] = "another"
        assert story.patch_as_controller(bounded, joining.claiming(node, "u"))[0] == 422
    elif changed == "taints":
        node["spec"]["taints"].reverse()
    patch = [
        operation for operation in joining.untainting(node, "u") if changed == "claim" or "annotations" not in operation["path"]
    ]
    assert story.patch_as_controller(bounded, patch)[0] == 422


def test_policy_bounds_nobody_else(plane: ControlPlane, bounded: str) -> None:
    plane.request("PATCH", f"/api/v1/nodes/{bounded}?dryRun=All", {"spec": {"unschedulable": True}})


def test_policy_knows_every_field_of_a_nodes_spec(plane: ControlPlane) -> None:
    schemas = plane.request("GET", "/openapi/v3/api/v1")["components"]["schemas"]
    assert {*joining_guard.SPEC_FIELDS, "taints"} == set(schemas["io.k8s.api.core.v1.NodeSpec"]["properties"])


def test_deployment_is_what_the_server_knows_and_pod_security_lets_pass(story: Joining, plane: ControlPlane) -> None:
    spec = joining_workload.deployment("image", "controller", "settings")
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments?dryRun=All&fieldValidation=Strict"
    plane.request("POST", path, {"kind": "Deployment", "metadata": {"name": "controller"}, "spec": spec})
    strict = {"metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    plane.request("POST", "/api/v1/namespaces", strict)
    story.plane.until("its account", lambda: plane.get("/api/v1/namespaces/strict/serviceaccounts/default"))
    pod_spec = {**spec["template"]["spec"], "serviceAccountName": "default"}  # type: ignore[index]
    plane.request("POST", "/api/v1/namespaces/strict/pods?dryRun=All", {"metadata": {"name": "controller"}, "spec": pod_spec})


def test_account_without_rights_and_a_silent_server_are_reported_in_one_line(controller: Joining) -> None:
    for token, server, message in (
        (controller.token_of("default"), None, ["may not list nodes", "[cluster-forbidden]"]),
        ("none", None, ["credentials", "[cluster-login-refused]"]),
        (None, f"https://{cluster.ADDRESS}:{process.free_port()}", ["does not answer", "[cluster-unreachable]"]),
    ):
        controller.start(token, server)
        assert controller.running and controller.running.wait(60) == 1
        text = controller.log()
        assert "Traceback" not in text and len(text.splitlines()) == 1, text
        for part in message:
            assert part in text
