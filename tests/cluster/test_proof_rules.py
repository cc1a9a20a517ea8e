"""What the proof makes of nodes, Jobs and pods, without a cluster.

What would be lost if these failed: a proof that pins nothing, drops the template's class or capabilities, believes a Job without
its pod's words, or tells a node's failure in the wrong way.
"""

import json
from typing import Any

import pytest

from nodekit.errors import CODES, NodeError
from nodekit.rules import pod, pod_proof
from nodekit.rules.pod_proof import Node, Refusal

TEMPLATE = pod.template("debian:13-slim", "kata-qemu", {"app": "sandbox"})
PROVEN = (
    "n: proven: max_user_namespaces 7563, guest kernel 6.12.0, boot id 0; passed: unshare; not tried: bwrap-user; "
    "failed without counting: bwrap-user-proc"
)


def made(**changed: Any) -> dict[str, Any]:
    """A Job's body."""
    given: dict[str, Any] = {
        "files": "proof-files",
        "image": None,
        "expect": ['a="b c"'],
        "nested_sandbox": True,
        "timeout_seconds": 300,
    }
    return pod_proof.job("proof", "n", "d" * 64, TEMPLATE, **{**given, **changed})


def test_the_proofs_pod_is_the_templates_own_pinned_by_the_scheduler() -> None:
    spec = made()["spec"]["template"]["spec"]
    original: Any = TEMPLATE["spec"]
    assert spec["runtimeClassName"] == "kata-qemu" and "nodeName" not in spec
    assert spec["automountServiceAccountToken"] is False and spec["restartPolicy"] == "Never"
    (container,) = spec["containers"]
    for key in ("image", "securityContext", "resources"):
        assert container[key] == original["containers"][0][key]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]
    assert {one["name"] for one in spec["volumes"]} == {"tmp", "kata-nodes-proof"}
    assert "kata-nodes-proof" not in json.dumps(TEMPLATE)  # the template given is left as it is


def test_the_job_ends_in_time_tries_once_and_has_no_name_to_be_found_under() -> None:
    body = made()
    assert body["spec"]["backoffLimit"] == 0 and body["spec"]["activeDeadlineSeconds"] == 300
    assert "ttlSecondsAfterFinished" not in body["spec"] and "name" not in body["metadata"]
    assert made(timeout_seconds=60)["spec"]["template"] == body["spec"]["template"]
    assert body["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] == 'a="b%20c"'


def test_an_image_of_its_own_is_all_that_differs() -> None:
    one, other = made()["spec"]["template"]["spec"], made(image="busybox@sha256:0")["spec"]["template"]["spec"]
    assert other["containers"][0].pop("image") == "busybox@sha256:0"
    assert one["containers"][0].pop("image") == "debian:13-slim"
    assert one == other


def test_the_digest_changes_with_node_machine_and_what_is_verified() -> None:
    digests = {
        pod_proof.digest("n", "u", {"a": 1}),
        pod_proof.digest("m", "u", {"a": 1}),
        pod_proof.digest("n", "v", {"a": 1}),
        pod_proof.digest("n", "u", {"a": 2}),
    }
    assert len(digests) == 4 and pod_proof.digest("n", "u", {"a": 1}) in digests


@pytest.mark.parametrize("node", ["n", "ip-10-0-0-1.eu-central-1.compute.internal", f"{'a' * 250}-1", f"{'a' * 43}.{'b' * 80}"])
def test_job_names_fit_into_a_label(node: str) -> None:
    name = pod_proof.job_name("proof", node)
    assert len(f"{name}-12345678") <= 63 and not name.endswith((".", "-"))
    assert name != pod_proof.job_name("proof", f"{node}0")


def test_nodes_are_chosen_or_named_as_lacking() -> None:
    nodes = [Node("b", "1", "x"), Node("a", "2", "y"), Node("mute", "3", "")]
    assert [one.name for one in pod_proof.chosen(nodes, ["b", "a", "a"], None)] == ["a", "b"]
    for names, selector, found, named in (
        (["a", "c"], None, nodes, "named c"),
        ([], None, nodes, "no node is named"),
        ([], "x=y", [], "x=y"),
        (["mute"], None, nodes, "mute told the cluster no boot id"),
        ([], "x=y", nodes, "mute told"),
    ):
        with pytest.raises(NodeError, match=named) as error:
            pod_proof.chosen(found, names, selector)
        assert error.value.code == "cluster-node-unknown"


def job_that(kind: str, reason: str = "") -> dict[str, Any]:
    """A Job with one condition."""
    return {"metadata": {"uid": "u"}, "status": {"conditions": [{"type": kind, "status": "True", "reason": reason}]}}


def pod_that(**status: Any) -> dict[str, Any]:
    """A pod with that status."""
    return {"status": status}


def said(message: str) -> dict[str, Any]:
    """A pod that ended with a termination message."""
    return pod_that(phase="Failed", containerStatuses=[{"state": {"terminated": {"message": message}}}])


COMPLETE, FAILED, LATE = job_that("Complete"), job_that("Failed", "BackoffLimitExceeded"), job_that("Failed", "DeadlineExceeded")
UNSCHEDULED = pod_that(
    phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]
)
NO_IMAGE = pod_that(
    phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "pull denied"}}}]
)
CREATING = pod_that(phase="Pending", containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])


@pytest.mark.parametrize(
    ("job", "seen", "code", "words"),
    [
        (
            FAILED,
            said("n: read '0': why. Cure. [proof-user-namespaces-zero]"),
            "proof-user-namespaces-zero",
            "n: read '0': why. Cure.",
        ),
        (FAILED, said("sh: not found [no-such-code]"), "proof-container-failed", "no-such-code"),
        (FAILED, said("first\nsecond"), "proof-container-failed", "first second"),
        (FAILED, pod_that(phase="Failed", reason="Evicted", message="low on memory"), "proof-pod-lost", "low on memory"),
        (FAILED, None, "proof-pod-lost", "gone before it had said"),
        (LATE, UNSCHEDULED, "proof-timeout", "Insufficient cpu"),
        (LATE, NO_IMAGE, "proof-container-failed", "pull denied"),
        (LATE, CREATING, "proof-timeout", "the guest did not start"),
        (LATE, pod_that(phase="Running"), "proof-timeout", "hung in the container"),
        (COMPLETE, said("all is well"), "proof-pod-lost", "all is well"),
        (COMPLETE, said(PROVEN.replace("n: ", "m: ", 1)), "proof-pod-lost", "m: proven"),
        (COMPLETE, None, "proof-pod-lost", "its pod is gone"),
        (None, said(PROVEN), "proof-pod-lost", "the Job is gone"),
    ],
)
def test_every_end_but_a_proof_is_a_sentence_with_node_and_remedy(
    job: dict[str, Any] | None, seen: dict[str, Any] | None, code: str, words: str
) -> None:
    found = pod_proof.verdict("n", job, seen, None)
    assert isinstance(found, Refusal) and found.code == code and code in CODES
    assert found.sentence.startswith("n: ") and words in found.sentence and found.sentence.endswith(f"[{code}]")
    assert "\n" not in found.sentence


def test_a_proof_is_believed_by_what_its_own_pod_said() -> None:
    found = pod_proof.verdict("n", COMPLETE, said(PROVEN), None)
    assert isinstance(found, dict)
    assert (found["node"], found["userNamespaces"], found["guestKernel"], found["job"]) == ("n", 7563, "6.12.0", "u")
    rungs = {one["name"]: one["passed"] for one in found["rungs"]}
    assert rungs == {"unshare": True, "bwrap-user": None, "bwrap-user-proc": False}
    assert pod_proof.verdict("n", COMPLETE, None, json.dumps(found)) == found
    assert isinstance(pod_proof.verdict("n", COMPLETE, None, json.dumps({**found, "job": "another"})), Refusal)
    assert isinstance(pod_proof.verdict("n", FAILED, None, json.dumps(found)), Refusal)


def event(uid: str, message: str, when: str, count: int | None = 1) -> dict[str, Any]:
    """A FailedCreate event of the Job controller."""
    return {"involvedObject": {"uid": uid}, "message": message, "lastTimestamp": when, "count": count}


def test_what_the_cluster_says_of_a_pod_that_it_refuses_is_kept_with_the_way_past_it() -> None:
    first, last = (
        'pods "n-a" is forbidden: violates PodSecurity',
        'pods "n-b" is forbidden: violates PodSecurity "baseline:latest"',
    )
    found = pod_proof.unmade(
        [event("u", last, "2026-01-02"), event("u", first, "2026-01-01", None), event("v", "x", "2026-01-01")]
    )
    assert found["u"] == pod_proof.Unmade(2, last) and found["u"].lasting
    assert not found["v"].lasting
    refused = pod_proof.verdict("n", FAILED, None, None, found["u"])
    assert isinstance(refused, Refusal) and refused.code == "proof-pod-refused" and "enforce=privileged" in refused.sentence
    assert 'RuntimeClass "k" not found' in pod_proof.refused_pod("n", 'RuntimeClass "k" not found').sentence


@pytest.mark.parametrize("why", ['exceeded quota: q, requested: pods=1, RuntimeClass "k" not found', "violates PodSecurity"])
def test_a_first_refusal_or_one_that_can_pass_is_waited_for(why: str) -> None:
    """A namespace labelled a moment ago is not known to every API server at once; a quota or a class can still come."""
    times = 1 if "PodSecurity" in why else 9
    assert not pod_proof.Unmade(times, why).lasting
