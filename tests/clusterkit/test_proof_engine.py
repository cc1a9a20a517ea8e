"""Proofs by the real engine, Kubernetes plugin, API server, controller manager and scheduler, on nodes that kwok plays.

What would be lost if these failed: a node that reads 0 would pass in silence, one bad node would hide the others, an old Job
would count as proof, or every `up` would prove everything again.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusterkit.control_plane import HANGS, NONCE, ControlPlane, exits, stuck
from tests.clusterkit.proving import JOBS, NAMESPACE, PROVEN, ZERO, ZERO_TEXT, Proving, refusals
from tests.clusterkit.reports import report
from tests.nightly import nightly

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
TWENTY = [f"node-{number}" for number in range(20)]


@pytest.fixture
def proving(plane: ControlPlane, tmp_path: Path) -> Iterator[Proving]:
    """A stack whose objects are gone afterwards; every node passes to begin with."""
    plane.behave(dict.fromkeys(TWENTY, PROVEN))
    story = Proving(tmp_path, plane, nodes=TWENTY[:4])
    yield story
    story.run("destroy", "--yes", "--skip-preview")
    plane.until("the end of all Jobs", lambda: not plane.items(JOBS))


def test_two_of_twenty_fail_both_are_named_and_the_cure_is_proven(proving: Proving, plane: ControlPlane) -> None:
    plane.behave({"node-3": ZERO, "node-17": ZERO})
    output = proving.up(nodes=None, node_selector="katacontainers.io/kata-runtime=true", fails=True)
    assert "2 of 20 nodes are not proven:" in output and "Traceback" not in output
    assert refusals(output) == {"node-3": "proof-user-namespaces-zero", "node-17": "proof-user-namespaces-zero"}
    assert f"node-17: {ZERO_TEXT}" in output
    assert not proving.has("after") and not proving.has("proof-evidence")  # nothing comes after a proof that failed
    before = proving.jobs()

    plane.behave({"node-3": PROVEN, "node-17": PROVEN})
    proving.up()
    after = proving.jobs()
    assert {node for node in after if after[node] != before[node]} == {"node-3", "node-17"}
    assert proving.has("after")
    evidence = proving.evidence()
    assert sorted(evidence) == sorted(TWENTY)
    assert evidence["node-17"]["userNamespaces"] == 7563 and evidence["node-17"]["job"] == after["node-17"]

    proving.up("--expect-no-changes")
    assert proving.jobs() == after


def test_each_way_to_fail_is_told_apart(proving: Proving, plane: ControlPlane) -> None:
    other = str(plane.request("GET", "/api/v1/nodes/node-7")["status"]["nodeInfo"]["bootID"])
    same_kernel = report(NONCE, boot_id=f"status=ok value={other} detail=")
    plane.behave({"node-0": HANGS, "node-1": exits(0, same_kernel), "node-2": exits(127, "/bin/sh: no such file")})
    plane.behave({"node-3": stuck("FailedCreatePodSandBox", "plugin failed (add): cni plugin not initialized")})
    output = proving.up(timeout_seconds=8, fails=True)
    assert refusals(output) == {
        "node-0": "proof-timeout",
        "node-1": "proof-not-a-guest",
        "node-2": "proof-container-failed",
        "node-3": "proof-container-failed",
    }
    assert "cni plugin not initialized" in output, "what can pass by itself is reported at the end of the time"


def test_a_namespace_that_refuses_the_pod_is_reported_at_once_with_the_remedy(proving: Proving, plane: ControlPlane) -> None:
    strict = {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
    plane.request("POST", "/api/v1/namespaces", {"metadata": strict})
    begin = time.monotonic()
    output = proving.up(namespace="strict", timeout_seconds=250, fails=True)
    assert time.monotonic() - begin < 120
    assert refusals(output) == dict.fromkeys(TWENTY[:4], "proof-pod-refused")
    assert 'violates PodSecurity "baseline:latest"' in output and 'must not include "NET_ADMIN", "SYS_ADMIN"' in output
    assert "pod-security.kubernetes.io/enforce=privileged" in output


# The garbage collector removes the pods of a node that is gone once it has missed it for 40 s, at its next look of one in 20 s.
@pytest.mark.parametrize("collected", [pytest.param(False, id="at-once"), nightly(True, id="collected")])
def test_a_node_that_goes_away_under_its_proof_is_named(proving: Proving, plane: ControlPlane, collected: bool) -> None:
    plane.behave({"node-2": HANGS})

    def bound() -> list[str]:
        pods = plane.items(f"/api/v1/namespaces/{NAMESPACE}/pods")
        return [item["metadata"]["name"] for item in pods if item["spec"].get("nodeName") == "node-2"]

    def go() -> None:
        plane.until("the Job", lambda: "node-2" in proving.jobs())
        plane.until("the pod", bound)
        plane.remove_node("node-2")
        for name in [] if collected else bound():
            plane.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}?gracePeriodSeconds=0")

    going = threading.Thread(target=go)
    going.start()
    output = proving.up(timeout_seconds=100, fails=True)
    going.join()
    assert refusals(output) == {"node-2": "proof-pod-lost"}


# test_proof_rules shows that each of them changes the digest; this shows that a changed digest starts another proof.
@pytest.mark.parametrize("each", [pytest.param(False, id="parameters"), nightly(True, id="each")])
def test_what_the_proof_vouches_for_proves_again_and_nothing_else_does(proving: Proving, plane: ControlPlane, each: bool) -> None:
    proving.up()
    known = proving.jobs()

    def changed(**inputs: object) -> set[str]:
        nonlocal known
        before = known
        proving.up(**inputs)
        known = proving.jobs()
        return {node for node in {*known, *before} if known.get(node) != before.get(node)}

    four = set(TWENTY[:4])
    assert changed(timeout_seconds=50) == set()
    assert changed(kernel_params=[]) == four
    if each:
        assert changed(kata_version="3.33.0") == four
        assert changed(handler="kata-qemu-runtime-rs") == four
        assert changed(image="busybox:1.37") == four
        assert changed(sandbox="bubblewrap") == four
    assert changed(nodes=TWENTY[:5]) == {"node-4"}
    assert changed(nodes=TWENTY[1:5]) == {"node-0"}
    # A reboot changes the boot id and nothing that was proven; another machine that registers under the name does.
    plane.request("PATCH", "/api/v1/nodes/node-1/status", {"status": {"nodeInfo": {"bootID": "another"}}})
    assert changed() == set()
    plane.remove_node("node-1")
    plane.behave({"node-1": PROVEN})
    assert changed() == {"node-1"}


def test_a_missing_handler_is_reported_at_once_in_the_clusters_own_words(proving: Proving, plane: ControlPlane) -> None:
    message = 'Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "kata-qemu" is configured'
    plane.behave({"node-1": stuck("FailedCreatePodSandBox", message)})
    begin = time.monotonic()
    output = proving.up(timeout_seconds=300, fails=True)
    assert time.monotonic() - begin < 60, "most of it is the engine's own start"
    assert refusals(output) == {"node-1": "proof-container-failed"} and 'no runtime for "kata-qemu" is configured' in output
    plane.behave({"node-1": PROVEN})
    proving.up()
    assert proving.evidence()["node-1"]["userNamespaces"] == 7563


def test_evidence_outlives_the_pods_in_as_many_config_maps_as_it_needs(proving: Proving, plane: ControlPlane) -> None:
    proving.up(nodes_of_map=2)
    known = proving.evidence()
    maps = {each["metadata"]["name"]: set(each["data"]) for each in plane.items(f"/api/v1/namespaces/{NAMESPACE}/configmaps")}
    maps.pop("kube-root-ca.crt", None)
    assert maps == {"proof-evidence": set(TWENTY[:2]), "proof-evidence-01": set(TWENTY[2:4])}
    for item in plane.items(f"/api/v1/namespaces/{NAMESPACE}/pods"):
        plane.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{item['metadata']['name']}")
    proving.up("--expect-no-changes")
    assert proving.evidence() == known
    before = proving.jobs()
    proving.up(nodes=TWENTY[1:3])
    assert proving.has("proof-evidence") and not proving.has("proof-evidence-01")
    assert proving.jobs() == {node: before[node] for node in TWENTY[1:3]}, "whose evidence moved is not proven again"


def test_an_earlier_job_is_not_a_proof(proving: Proving, plane: ControlPlane) -> None:
    """The same stack, the same inputs, Jobs that passed on the cluster, and a state that does not know them.

    By server-side apply, the plugin's default, which takes over what has the name of a new object.
    """
    proving.up(server_side=True)
    left = proving.jobs()
    proving.run("stack", "rm", "--force", "--yes")
    proving.run("stack", "init", "test")
    plane.behave({"node-1": ZERO})
    assert set(refusals(proving.up(fails=True))) == {"node-1"}
    for job in plane.items(JOBS):
        if job["metadata"]["uid"] in left.values():
            plane.request("DELETE", f"{JOBS}/{job['metadata']['name']}?propagationPolicy=Background")
    for place, name in (("default", "after"), (NAMESPACE, "proof-evidence")):
        plane.request("DELETE", f"/api/v1/namespaces/{place}/configmaps/{name}")
    for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        left_over, *_ = sorted(
            plane.items(f"/apis/admissionregistration.k8s.io/v1/{kind}"), key=lambda item: item["metadata"]["creationTimestamp"]
        )
        plane.request("DELETE", f"/apis/admissionregistration.k8s.io/v1/{kind}/{left_over['metadata']['name']}")


@pytest.mark.parametrize(
    ("inputs", "code", "named"),
    [
        ({"nodes": ["node-1", "node-99"]}, "cluster-node-unknown", "node-99"),
        ({"nodes": None, "node_selector": "no=such"}, "cluster-node-unknown", "no=such"),
    ],
)
def test_nodes_that_are_not_there_are_named_before_any_job(
    proving: Proving, inputs: dict[str, object], code: str, named: str
) -> None:
    output = proving.up(fails=True, **inputs)
    assert f"[{code}]" in output and named in output and "Traceback" not in output
    assert proving.jobs() == {}


def test_preview_shows_named_nodes_and_makes_nothing(proving: Proving) -> None:
    # Stack, provider, component, its account, guard (2) and evidence, four Jobs, what comes after.
    assert "12 to create" in proving.run("preview")
    assert proving.jobs() == {}
    proving.up()
    proving.run("preview", "--expect-no-changes")
