"""What the proof makes of nodes, Jobs, pods and events, without a cluster.

What would be lost if these failed: a proof that pins nothing, drops the template's class or capabilities, believes a Job without
its pod's report, takes another's pod for its own, or tells a node's failure in the wrong way.
"""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from clusterkit import pod, pod_proof, pod_room, pod_verdict
from clusterkit.api.cluster_reader import Reader
from clusterkit.controller import documents, trimmed
from clusterkit.pod_proof import Node, Nodes, ProofRequest
from clusterkit.pod_verdict import Refusal, Words
from nodekit.errors import CATALOGUE, NodeError
from nodekit.rules.proof.ladder import VARIABLES
from nodekit.scripts import ladder_script, script
from tests.clusterkit.reports import GUEST_ID, ZERO, report

LADDER = ladder_script()
TEMPLATE = pod.template("debian:13-slim", "kata-qemu", {"app": "sandbox"}, entry=script("entry.sh"))
NODE_ID = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
OTHER_ID = "cccccccc-cccc-cccc-cccc-cccccccccccc"
NODE = Node("n", "u", NODE_ID)
NODES = Nodes([NODE, Node("other", "v", OTHER_ID)])
SETTINGS: dict[str, Any] = {
    "pod_template": json.dumps(TEMPLATE), "handler": "kata-qemu", "kata_version": "3.32.0", "kernel_params": [],
    "nested_sandbox": True, "image": None, "timeout_seconds": 300,
}  # fmt: skip


def ask(attempt: int = 1, boot_id: str = "", node: Node = NODE, **changed: Any) -> ProofRequest:
    """One node's proof."""
    return pod_proof.ask("proof", node, {**SETTINGS, **changed}, LADDER, "account", attempt, boot_id)


REQUEST = ask()


def job_that(kind: str | None, reason: str = "", request: ProofRequest = REQUEST, uid: str = "j") -> dict[str, Any]:
    """The Job as the API server holds it, with one condition."""
    job = deepcopy(dict(request.body))
    job["metadata"]["uid"] = uid
    job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason}]} if kind else {}
    return job


def pod_that(
    request: ProofRequest = REQUEST, uid: str = "j", node: str = "n", state: Any = None, **status: Any
) -> dict[str, Any]:
    """The Job's pod with that status; `state` is its container's."""
    pod = deepcopy(dict(request.template))
    owner = {"kind": "Job", "name": "proof-n", "uid": uid, "controller": True}
    pod["metadata"] |= {"name": "proof-n-1", "uid": "p", "ownerReferences": [owner]}
    pod["spec"] |= {"nodeName": node}
    if state:
        status["containerStatuses"] = [{"name": "side", "state": {}}, {"name": "sandbox", "state": state}]
    return {**pod, "status": status}


def ended(message: str, code: int = 0, **fields: Any) -> dict[str, Any]:
    """State of a container that ended."""
    return {"terminated": {"exitCode": code, "message": message, **fields}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """State of a container that does not start."""
    return {"waiting": {"reason": reason, "message": message}}


COMPLETE, FAILED, LATE = job_that("Complete"), job_that("Failed", "BackoffLimitExceeded"), job_that("Failed", "DeadlineExceeded")
PROVEN = report(REQUEST.nonce)
PASSED = pod_that(state=ended(PROVEN))


# What is asked for


def test_the_proofs_pod_is_the_templates_own_pinned_by_the_scheduler() -> None:
    spec = REQUEST.template["spec"]
    original: Any = TEMPLATE["spec"]
    assert spec["runtimeClassName"] == "kata-qemu" and "nodeName" not in spec
    assert spec["automountServiceAccountToken"] is False and spec["restartPolicy"] == "Never"
    assert spec["serviceAccountName"] == "account"
    (container,) = spec["containers"]
    for key in ("image", "securityContext", "resources", "volumeMounts"):
        assert container[key] == original["containers"][0][key]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]
    assert spec["volumes"] == original["volumes"], "nothing that a tenant could write is mounted"


def test_the_guest_is_made_by_the_templates_own_annotations() -> None:
    kata = "io.katacontainers.config.hypervisor.kernel_params"
    theirs = {kata: "sysctl.user.max_user_namespaces=0", pod_proof.ATTEMPT_ANNOTATION: "7"}
    template = {**TEMPLATE, "metadata": {"annotations": theirs}}
    notes = ask(pod_template=json.dumps(template)).template["metadata"]["annotations"]
    assert notes[kata] == theirs[kata], "another guest than that of the template's pods would be proven"
    assert notes[pod_proof.ATTEMPT_ANNOTATION] == "1"


def test_what_waits_for_the_templates_program_does_not_end_the_ladder() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    probe = {"httpGet": {"path": "/", "port": 8080}}
    hooks = {"postStart": probe, "preStop": {"sleep": {"seconds": 300}}}
    spec["containers"][0] |= {"livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe, "lifecycle": hooks}
    # By its own policy a container that ended well would be started again, and the Job would never complete.
    spec["containers"][0] |= {"restartPolicy": "Always", "restartPolicyRules": [], "stdin": True, "stdinOnce": True, "tty": True}
    proving = ask(pod_template=json.dumps(template)).template
    assert proving["spec"] == REQUEST.template["spec"] | {"containers": proving["spec"]["containers"]}
    assert set(proving["spec"]["containers"][0]) == set(REQUEST.template["spec"]["containers"][0])


def test_nothing_of_the_template_keeps_the_pod_from_the_node_that_is_proven() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    zone = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    # With three nodes to prove in one zone and one in another, the third would break the rule for ever.
    spec |= {"topologySpreadConstraints": [zone], "nodeName": "another", "affinity": {"podAntiAffinity": {}}}
    proving = ask(pod_template=json.dumps(template)).template["spec"]
    assert proving == REQUEST.template["spec"] | {"containers": proving["containers"]}


def test_what_the_programs_own_controller_decides_of_its_pods_ends_or_holds_no_proof() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    own = {"activeDeadlineSeconds": 20, "schedulingGates": [{"name": "a.example/b"}], "terminationGracePeriodSeconds": 3600}
    spec |= own
    assert not own.keys() & ask(pod_template=json.dumps(template)).template["spec"].keys()


def test_no_variable_of_the_ladder_comes_from_what_a_tenant_writes_or_the_namespace_lacks() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    kept = [{"name": "A", "value": "a"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    theirs = [
        {"name": "PATH", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "path"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "login", "key": "key"}}},
    ]
    spec["containers"][0] |= {"env": [*theirs, *kept], "envFrom": [{"configMapRef": {"name": "settings"}}]}
    (container,) = ask(pod_template=json.dumps(template)).template["spec"]["containers"]
    others = [each for each in container["env"] if not each["name"].startswith("KATA_NODES_")]
    assert others == kept and "envFrom" not in container


def test_a_template_with_fields_that_are_null_is_one_without_them() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    spec["tolerations"] = spec["initContainers"] = spec["containers"][0]["env"] = None
    assert ask(pod_template=json.dumps({**template, "metadata": None})).template["spec"]["containers"][0]["env"]
    assert ask(pod_template=json.dumps({**template, "metadata": {"labels": None}})).template["metadata"]["labels"]


@pytest.mark.parametrize("variant", [{}, {"user_id": 1000}, {"ordinary_user": True}, {"nested_sandbox": False}])
def test_the_ladder_is_an_argument_and_starts_as_the_templates_container_does(variant: dict[str, Any]) -> None:
    template = pod.template("image", "kata-qemu", {}, command=["server"], entry=script("entry.sh"), **variant)
    (container,) = ask(pod_template=json.dumps(template)).template["spec"]["containers"]
    original: Any = template["spec"]["containers"][0]  # type: ignore[index]
    if pod.enters(original):
        assert container["command"] == original["command"] == ["/bin/sh", "-c", script("entry.sh"), "kata-nodes-entry"]
        options = original["args"][: original["args"].index("server")]
        assert container["args"] == [*options, "/bin/sh", "-c", LADDER]
        assert options == (["--user", "1000"] if "user_id" in variant else [])
    else:
        assert container["command"] == ["/bin/sh", "-c", LADDER] and container["args"] == []
    assert pod.enters(original) == (not variant or "user_id" in variant)
    assert "stdin" not in json.dumps(container).replace(json.dumps(LADDER), "").replace(json.dumps(script("entry.sh")), "")


@pytest.mark.parametrize("text", [LADDER, script("entry.sh")], ids=["ladder", "entry"])
def test_the_kubelet_hands_the_scripts_over_as_they_are(text: str) -> None:
    """It replaces $(NAME) of the container's variables and makes $$ one $ (kubernetes, third_party/forked/golang/expansion)."""
    variables = {variable["name"] for variable in REQUEST.template["spec"]["containers"][0]["env"]}
    assert "$$" not in text
    assert not variables & set(re.findall(r"\$\(([^)]*)\)", text))


def test_the_job_ends_in_time_tries_once_and_has_no_name_to_be_found_under() -> None:
    body = REQUEST.body
    assert body["spec"]["backoffLimit"] == 0 and body["spec"]["activeDeadlineSeconds"] == 300
    assert "ttlSecondsAfterFinished" not in body["spec"] and "name" not in body["metadata"]
    assert ask(timeout_seconds=60).template == REQUEST.template


def test_the_report_keeps_what_is_expected_and_the_seed_documents_parameter() -> None:
    variables = {
        variable["name"]: variable["value"]
        for variable in ask(kernel_params=['a="b c"']).template["spec"]["containers"][0]["env"]
    }
    assert variables["KATA_NODES_KEYS"] == "a user[-_]namespace.enable"
    assert variables["KATA_NODES_NONCE"] == ask(kernel_params=['a="b c"']).nonce
    result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED)
    assert isinstance(result, dict) and result["commandLine"] == "user_namespace.enable=1"


def test_no_variable_of_an_image_speaks_to_the_ladder() -> None:
    names = set(re.findall(r"KATA_NODES_[A-Z]+", LADDER))
    assert names == {*VARIABLES, "KATA_NODES_NONCE"}
    assert names <= {variable["name"] for variable in REQUEST.template["spec"]["containers"][0]["env"]}


def test_a_template_can_have_its_proof_look_at_the_network_and_wait_longer_and_nothing_else() -> None:
    template = json.loads(SETTINGS["pod_template"])
    theirs = [{"name": name, "value": "1"} for name in (*VARIABLES, "KATA_NODES_NONCE")]
    template["spec"]["containers"][0] |= {"env": [*theirs, {"name": "KATA_NODES_NAME", "valueFrom": {"fieldRef": {}}}]}
    (container,) = ask(pod_template=json.dumps(template)).template["spec"]["containers"]
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert len(values) == len(container["env"])
    assert {name for name in VARIABLES if values[name] == "1"} == {"KATA_NODES_NETWORK", "KATA_NODES_SECONDS"}


def test_an_image_of_its_own_is_all_that_differs() -> None:
    plain, other = (deepcopy(ask(image=image).template["spec"]) for image in (None, "busybox@sha256:0"))
    assert other["containers"][0].pop("image") == "busybox@sha256:0"
    assert plain["containers"][0].pop("image") == "debian:13-slim"
    plain["containers"][0].pop("env"), other["containers"][0].pop("env")
    assert plain == other


def test_the_digest_changes_with_what_must_prove_again_and_every_try_has_a_nonce_of_its_own() -> None:
    known = {
        ask(**change).digest
        for change in (
            {}, {"handler": "x"}, {"kata_version": "x"}, {"kernel_params": ["x"]}, {"nested_sandbox": False},
            {"sandbox": "bubblewrap"}, {"image": "x"}, {"node": Node("n", "another", NODE_ID)}, {"node": Node("m", "u", NODE_ID)},
        )
    }  # fmt: skip
    assert len(known) == 9
    assert ask(node=Node("n", "u", OTHER_ID)).digest == ask(attempt=2).digest == REQUEST.digest
    assert len({ask(attempt).nonce for attempt in (1, 2, 3)}) == 3


def test_each_sandbox_and_none_reach_the_judge() -> None:
    assert REQUEST.sandbox == "sandbox-runtime" and ask(sandbox="rootless").sandbox == "rootless"
    assert ask(nested_sandbox=False, sandbox="rootless").sandbox is None
    fails = report(REQUEST.nonce, srt_call="status=fail value=1 detail=x")
    assert isinstance(pod_verdict.verdict(REQUEST, NODES, COMPLETE, pod_that(state=ended(fails))), Refusal)
    plain = ask(sandbox="bubblewrap")
    fails = report(plain.nonce, srt_call="status=fail value=1 detail=x")
    job, its_pod = job_that("Complete", request=plain), pod_that(plain, state=ended(fails))
    assert isinstance(pod_verdict.verdict(plain, NODES, job, its_pod), dict)


@pytest.mark.parametrize("node", ["n", "ip-10-0-0-1.eu-central-1.compute.internal", f"{'a' * 250}-1", f"{'a' * 43}.{'b' * 80}"])
def test_job_names_fit_into_a_label(node: str) -> None:
    name = pod_proof.job_name("proof", node)
    assert len(f"{name}-12345678") <= 63 and not name.endswith((".", "-"))
    assert name != pod_proof.job_name("proof", f"{node}0")


def test_nodes_are_chosen_or_named_as_lacking() -> None:
    nodes = [Node("b", "1", "x"), Node("a", "2", "y"), Node("mute", "3", "")]
    assert [node.name for node in pod_proof.chosen(nodes, ["b", "a", "a"], None)] == ["a", "b"]
    assert pod_proof.chosen([], [], "x=y") == []
    for names, selector, existing, named in (
        (["a", "c"], None, nodes, "named c"),
        ([], None, nodes, "no node is named"),
        (["mute"], None, nodes, "mute reported no boot id to the cluster"),
        ([], "x=y", nodes, "mute reported"),
    ):
        with pytest.raises(NodeError, match=named) as error:
            pod_proof.chosen(existing, names, selector)
        assert error.value.code == "cluster-node-unknown"


# The verdict

UNSCHEDULED = pod_that(
    node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]
)
EVICTED = pod_that(state=ended("", 137, reason="Error"), phase="Failed", reason="Evicted", message="low on memory")
NO_IMAGE = pod_that(phase="Pending", state=waiting("ImagePullBackOff", "pull denied"))
CREATING = pod_that(phase="Pending", state=waiting("ContainerCreating"))


@pytest.mark.parametrize(
    ("job", "seen", "code", "words"),
    [
        (COMPLETE, pod_that(state=ended(report(REQUEST.nonce, **ZERO))), "proof-user-namespaces-zero", "read '0'"),
        (COMPLETE, pod_that(state=ended(report(REQUEST.nonce, end=False))), "proof-transcript-incomplete", "has no end"),
        (COMPLETE, pod_that(state=ended(report("0" * 16))), "proof-transcript-incomplete", "lines read: none"),
        (COMPLETE, pod_that(state=ended("all is well")), "proof-transcript-incomplete", "lines read: none"),
        (
            COMPLETE,
            pod_that(
                state=ended(report(REQUEST.nonce, bwrap_user="status=absent value= detail=bwrap%20is%20not%20installed%20here"))
            ),
            "proof-tool-missing",
            "bwrap is not installed here",
        ),
        (FAILED, pod_that(state=ended("first\nsecond", 127)), "proof-container-failed", "ended with 127"),
        # What both runtimes of Kata, and containerd, report of a container whose guest or shim is gone.
        (FAILED, pod_that(state=ended("", 255, reason="Error")), "proof-container-failed", "code 255). See what ended it in the"),
        (FAILED, pod_that(state=ended("", 137, reason="OOMKilled")), "proof-container-failed", "exit code 137, OOMKilled"),
        (FAILED, pod_that(state=ended(PROVEN, 137, reason="Error")), "proof-container-failed", "was killed"),
        (FAILED, pod_that(state=ended("", 0, signal=9)), "proof-container-failed", "signal 9"),
        (FAILED, pod_that(state=ended(PROVEN)), "proof-timeout", "did not end in time"),
        (FAILED, pod_that(phase="Failed", reason="Evicted", message="low on disk"), "proof-pod-lost", "low on disk. Free what"),
        (FAILED, EVICTED, "proof-pod-lost", "the kubelet evicted the pod before it had reported: low on memory"),
        (
            FAILED,
            pod_that(phase="Failed", reason="OutOfpods", message="x"),
            "proof-pod-unscheduled",
            "has no room for the pod: x",
        ),
        (FAILED, None, "proof-pod-lost", "disappeared before it reported"),
        (LATE, UNSCHEDULED, "proof-pod-unscheduled", "Insufficient cpu"),
        (LATE, NO_IMAGE, "proof-container-failed", "pull denied"),
        (LATE, CREATING, "proof-timeout", "the guest did not start"),
        (LATE, pod_that(phase="Running"), "proof-timeout", "did not end in the container"),
        (COMPLETE, None, "proof-pod-lost", "its pod is gone"),
        (None, PASSED, "proof-pod-lost", "the Job is gone"),
    ],
)
def test_every_end_but_a_proof_is_a_sentence_with_node_and_remedy(
    job: dict[str, Any] | None, seen: dict[str, Any] | None, code: str, words: str
) -> None:
    result = pod_verdict.verdict(REQUEST, NODES, job, seen)
    assert isinstance(result, Refusal) and result.code == code and code in CATALOGUE
    assert result.sentence.startswith("n: ") and words in result.sentence and result.sentence.endswith(f"[{code}]")
    assert "\n" not in result.sentence and "docker" not in result.sentence.lower()


RUNS = job_that(None)
ENDING = job_that("FailureTarget", "DeadlineExceeded")
SUSPENDED = {**RUNS, "spec": {**RUNS["spec"], "suspend": True}}


def hanging(**status: Any) -> dict[str, Any]:
    """A pod that is being deleted."""
    pod = pod_that(**status)
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return pod


@pytest.mark.parametrize(
    ("job", "seen", "words"),
    [
        (RUNS, None, "no pod of its Job is there. Read the runtime's log"),
        (SUSPENDED, None, "its Job is suspended. Exempt the proof's namespace from what suspends Jobs, such as Kueue"),
        (RUNS, pod_that(phase="Running"), "the ladder did not end in the container"),
        (RUNS, CREATING, "the guest did not start"),
        # From 1.31 on a Job fails for good once its pods have ended, which some never do.
        (ENDING, hanging(phase="Running"), "its pod proof-n-1 is being deleted and does not end. Read the runtime's log"),
        (LATE, hanging(phase="Running"), "the ladder did not end in the container"),
        (
            RUNS,
            pod_that(containerStatuses=[{"name": "sandbox", "state": ended(PROVEN)}]),
            "the ladder ended, and its Job did not complete",
        ),
    ],
)
def test_a_job_that_does_not_end_in_time_is_not_taken_for_a_pod_that_is_lost(
    job: dict[str, Any], seen: dict[str, Any] | None, words: str
) -> None:
    result = pod_verdict.verdict(REQUEST, NODES, job, seen)
    assert isinstance(result, Refusal) and result.code == "proof-timeout" and f"did not end in time: {words}" in result.sentence
    kept = [trimmed.job(documents_read("jobs", job)), trimmed.pod(documents_read("pods", seen)) if seen else None]
    assert pod_verdict.verdict(REQUEST, NODES, *kept) == result, "the controller keeps all that decides"


def documents_read(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """As the controller reads it from a watch."""
    whole = {**document, "metadata": {**document["metadata"], "resourceVersion": "1"}}
    read: dict[str, Any] = documents.CHANGES[kind](json.dumps({"type": "ADDED", "object": whole}).encode())["object"]
    return read


def beside(state: dict[str, Any], own: dict[str, Any], init: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A pod with a second container in that state, and an init container in another."""
    pod = pod_that(state=own, **status)
    pod["status"]["containerStatuses"][0]["state"] = state
    pod["status"]["initContainerStatuses"] = [{"name": "set-up", "state": init or ended("")}]
    return pod


@pytest.mark.parametrize(
    ("job", "seen", "words"),
    [
        (
            FAILED,
            beside(waiting("PodInitializing"), waiting("PodInitializing"), ended("no such\nhost", 3), phase="Failed"),
            "the init container set-up ended with 3 before the ladder began, with the message 'no such host'",
        ),
        (
            FAILED,
            beside(ended("", 2), ended(PROVEN), phase="Failed"),
            "the ladder ended, and the container side beside it ended with 2",
        ),
        (
            LATE,
            beside({"running": {}}, ended(PROVEN), phase="Running"),
            "the ladder ended, and the container side beside it did not end in time",
        ),
        # The deadline ends what still runs.
        (LATE, beside(ended("", 143), ended(PROVEN), phase="Failed"), "the container side beside it did not end in time"),
        # As one that waits for a service of its program's namespace.
        *(
            (
                LATE,
                beside(waiting("PodInitializing"), waiting("PodInitializing"), init, phase="Pending"),
                "the init container set-up did not end in time, so that the ladder never began",
            )
            for init in ({"running": {}}, ended("", 137))
        ),
    ],
)
def test_a_container_beside_the_ladder_that_fails_the_job_is_named(job: dict[str, Any], seen: dict[str, Any], words: str) -> None:
    for state in (seen, trimmed.pod({**seen, "metadata": {**seen["metadata"], "resourceVersion": "1"}})):
        result = pod_verdict.verdict(REQUEST, NODES, job, state)
        assert isinstance(result, Refusal) and result.code == "proof-container-failed" and words in result.sentence


def test_a_sidecar_that_runs_on_is_not_taken_for_an_init_container_that_hangs() -> None:
    begun = {"type": "Initialized", "status": "True"}
    states = (waiting("PodInitializing"), {"running": {}})
    for own in states:
        seen = beside(states[0], own, states[1], phase="Pending", conditions=[begun])
        for read in (seen, trimmed.pod(documents_read("pods", seen))):
            result = pod_verdict.verdict(REQUEST, NODES, LATE, read)
            assert isinstance(result, Refusal) and result.code == "proof-timeout" and "set-up" not in result.sentence


def test_the_image_of_an_init_container_that_cannot_be_pulled_is_reported_as_that() -> None:
    init = waiting("ImagePullBackOff", 'Back-off pulling image "setup:1": not found')
    seen = beside(waiting("PodInitializing"), waiting("PodInitializing"), init, phase="Pending")
    early, last = pod_verdict.hopeless(REQUEST, RUNNING, seen, {}), pod_verdict.verdict(REQUEST, NODES, LATE, seen)
    for result in (early, last):
        assert isinstance(result, Refusal) and result.code == "proof-container-failed"
        assert 'cannot be pulled: Back-off pulling image "setup:1"' in result.sentence
    # A sidecar that is being restarted keeps no ladder from its start.
    seen = beside({"running": {}}, {"running": {}}, waiting("CrashLoopBackOff", "back-off"), phase="Running")
    result = pod_verdict.verdict(REQUEST, NODES, LATE, seen)
    assert isinstance(result, Refusal) and "the ladder did not end in the container" in result.sentence


@pytest.mark.parametrize(
    "seen",
    [
        pod_that(state={"running": {}}, phase="Running"),
        beside(waiting("PodInitializing"), waiting("PodInitializing"), {"running": {}}, phase="Pending"),
    ],
    ids=["running", "initializing"],
)
def test_a_pod_that_started_after_all_is_judged_by_what_it_did_then(seen: dict[str, Any]) -> None:
    """As on a node that has just joined, whose network came up after the first tries, or whose first guests were slow."""
    for reason, text in ((SANDBOX, CNI), (SANDBOX, SILENT), ("FailedMount", 'object "n"/"kube-root-ca.crt" not registered')):
        events = {"p": {reason: Words(5, text)}}
        assert pod_verdict.hopeless(REQUEST, RUNNING, seen, events) is None
        result = pod_verdict.verdict(REQUEST, NODES, LATE, seen, None, events)
        assert isinstance(result, Refusal) and "cannot start the pod" not in result.sentence


def test_a_proof_is_believed_by_what_its_own_pod_reported() -> None:
    result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED)
    assert isinstance(result, dict)
    assert (result["node"], result["userNamespaces"], result["guestKernel"], result["job"]) == ("n", 7563, "6.12.0", "j")
    rungs = {rung["name"]: rung["passed"] for rung in result["rungs"]}
    assert rungs["srt-call"] is True and rungs["sandbox-runtime"] is None
    assert pod_verdict.verdict(REQUEST, NODES, COMPLETE, None, json.dumps(result)) == result
    for kept in (json.dumps({**result, "job": "another"}), json.dumps({**result, "node": "m"}), "[]", "no JSON"):
        assert isinstance(pod_verdict.verdict(REQUEST, NODES, COMPLETE, None, kept), Refusal)
    assert isinstance(pod_verdict.verdict(REQUEST, NODES, FAILED, None, json.dumps(result)), Refusal)


def up_for(seconds: str, kernel: str = "6.12.0", job: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any] | Refusal:
    """The verdict on a pod of a minute whose ladder's kernel had run so long, on a node with the kernel 6.12.0."""
    job = job or COMPLETE
    boot_id, release = (f"status=ok value={value} detail=" for value in (GUEST_ID, kernel))
    text = report(REQUEST.nonce, boot_id=f"{boot_id} at={seconds}" if seconds else boot_id, kernel=release)
    seen = pod_that(state=ended(text, finishedAt="2026-01-01T00:01:00Z"), **{"startTime": "2026-01-01T00:00:00Z", **fields})
    described: Any = {"metadata": {"name": "n", "uid": "u", "resourceVersion": "1"}, "status": {"nodeInfo": {}}}
    described["status"]["nodeInfo"] = {"bootID": NODE_ID, "kernelVersion": "6.12.0", "osImage": "Debian"}
    verdicts = [
        pod_verdict.verdict(REQUEST, Nodes([node]), of, pod)
        for node, of, pod in (
            (pod_proof.node_of(described), job, seen),
            (
                pod_proof.node_of(trimmed.node(documents_read("nodes", described))),
                trimmed.job(documents_read("jobs", job)),
                trimmed.pod(documents_read("pods", seen)),
            ),
        )
    ]
    assert verdicts[0] == verdicts[1], "up and the controller of joining nodes agree"
    return verdicts[0]


def test_a_kernel_that_ran_before_the_pod_passes_for_no_guest() -> None:
    """A node that is a container of LXC reports a boot id of its own, and runc's pods there read the one of its kernel."""
    result = up_for("86400.00")
    assert isinstance(result, Refusal) and result.code == "proof-not-a-guest"
    assert "ran before the pod was there, 60 s before the ladder's end" in result.sentence
    assert "runc is not Kata" in result.sentence
    assert isinstance(up_for("66.00"), Refusal)
    # Guests are started for their pod; one of another release may have waited for it.
    assert isinstance(up_for("86400.00", "6.18.0"), dict)
    assert all(isinstance(up_for(seconds), dict) for seconds in ("12.00", "64.00", ""))
    assert isinstance(up_for("86400.00", startTime=None), dict)


@pytest.mark.parametrize("began", ["2026-01-01T01:00:00Z", "2036-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_a_clock_that_was_set_while_the_ladder_ran_makes_a_guest_no_older_nor_its_node_younger(began: str) -> None:
    """A node finds its time server some seconds after its start: then its own times say nothing of how long the pod ran."""
    job = deepcopy(COMPLETE)
    job["status"] |= {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:02Z"}
    assert isinstance(up_for("58.00", job=job, startTime=began), dict)
    result = up_for("86400.00", job=job, startTime=began)
    assert isinstance(result, Refusal) and "62 s before the ladder's end" in result.sentence
    assert isinstance(up_for("58.00", job=job), dict) and isinstance(up_for("86400.00", job=job), Refusal)


def test_a_proof_stands_although_its_job_is_removed_once_it_has_ended() -> None:
    """As a policy with ttlSecondsAfterFinished does; every later `up` failed, and its remedy proved all nodes again."""
    result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED)
    assert isinstance(result, dict)
    kept = json.dumps(result)
    assert pod_verdict.verdict(REQUEST, NODES, None, None, kept, None, "j") == result
    failed = [{**rung, "counts": True, "passed": False} for rung in result["rungs"]]
    for wrong in ({"job": "another"}, {"job": ""}, {"node": "m"}, {"rungs": []}, {"rungs": failed}, {"guestBootId": NODE_ID}):
        assert isinstance(pod_verdict.verdict(REQUEST, NODES, None, None, json.dumps({**result, **wrong}), None, "j"), Refusal)
    for before, uid in ((kept, ""), (kept, "another"), (None, "j")):
        gone = pod_verdict.verdict(REQUEST, NODES, None, None, before, None, uid)
        assert isinstance(gone, Refusal) and "the Job is gone" in gone.sentence
    another = Nodes([replace(NODES.by_name["n"], uid="another machine")])
    assert isinstance(pod_verdict.verdict(REQUEST, another, None, None, kept, None, "j"), Refusal)


@pytest.mark.parametrize(
    ("boot_id", "nodes", "words"),
    [
        (NODE_ID, NODES, "node"),
        (OTHER_ID, NODES, "node other's own"),
        # The node was started again after the pod had run: its earlier kernel is not a guest's either.
        (NODE_ID, Nodes([Node("n", "u", "dddddddd-dddd-dddd-dddd-dddddddddddd")]), "node n's own"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_the_boot_id_of_a_node_never_counts_for_a_guest(boot_id: str, nodes: Nodes, words: str, kept: bool) -> None:
    transcript = report(REQUEST.nonce, boot_id=f"status=ok value={boot_id} detail=")
    evidence = {"node": "n", "job": "j", "proven": "pod", "guestBootId": boot_id, "rungs": [{"counts": True, "passed": True}]}
    seen, before = (None, json.dumps(evidence)) if kept else (pod_that(state=ended(transcript)), None)
    result = pod_verdict.verdict(REQUEST, nodes, COMPLETE, seen, before)
    assert isinstance(result, Refusal) and result.code == "proof-not-a-guest" and words in result.sentence


def test_another_machine_under_the_name_is_not_proven_by_the_one_before() -> None:
    for nodes in ([], [Node("n", "another", NODE_ID)]):
        result = pod_verdict.verdict(REQUEST, Nodes(nodes), COMPLETE, PASSED)
        assert isinstance(result, Refusal) and result.code == "proof-pod-lost" and "another machine" in result.sentence


def first(document: dict[str, Any]) -> dict[str, Any]:
    """The first container of a pod or of a Job."""
    spec: dict[str, Any] = document["spec"]
    container: dict[str, Any] = spec.get("template", {"spec": spec})["spec"]["containers"][0]
    return container


Change = Callable[[dict[str, Any]], object]
FORGED: dict[str, Change] = {
    "container.command": lambda document: first(document).update(command=["/bin/true"]),
    "container.args": lambda document: first(document).update(args=["/bin/sh", "-c", "echo"]),
    "container.image": lambda document: first(document).update(image="busybox"),
    "container.env": lambda document: first(document)["env"].append({"name": "LD_PRELOAD", "value": "/x"}),
    "serviceAccountName": lambda document: (
        document["spec"].get("template", document)["spec"].update(serviceAccountName="default")
    ),
    "runtimeClassName": lambda document: document["spec"].get("template", document)["spec"].pop("runtimeClassName"),
}


@pytest.mark.parametrize("of", ["job", "pod"])
@pytest.mark.parametrize("field", FORGED)
def test_job_and_pod_that_are_not_what_was_asked_for_are_refused_by_what_differs(of: str, field: str) -> None:
    job, seen = deepcopy(COMPLETE), deepcopy(PASSED)
    FORGED[field](job if of == "job" else seen)
    result = pod_verdict.verdict(REQUEST, NODES, job, seen)
    assert isinstance(result, Refusal) and result.code == "proof-forged" and f"{field} differs" in result.sentence
    assert ("its Job" if of == "job" else "the pod proof-n-1") in result.sentence


def test_a_pod_of_another_job_node_or_try_is_refused() -> None:
    for seen, words in (
        (pod_that(uid="another", state=ended(PROVEN)), "its controller"),
        (pod_that(node="m", state=ended(PROVEN)), "nodeName"),
        (pod_that(ask(attempt=2), state=ended(report(ask(attempt=2).nonce))), "container.env"),
    ):
        result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, seen)
        assert isinstance(result, Refusal) and result.code == "proof-forged" and words in result.sentence
    loose = deepcopy(PASSED)
    loose["metadata"]["ownerReferences"][0]["controller"] = False
    assert pod_verdict.owner(loose) is None and pod_verdict.owner(PASSED) == "j"
    old = job_that("Complete", request=ask(kata_version="3.0.0"))
    result = pod_verdict.verdict(REQUEST, NODES, old, PASSED)
    assert isinstance(result, Refusal) and pod_proof.DIGEST_ANNOTATION in result.sentence


def test_a_webhook_that_names_a_mirror_is_believed_by_the_images_digest() -> None:
    request = ask(image="proof@sha256:0")
    seen = pod_that(request, state=ended(report(request.nonce)))
    first(seen)["image"] = "mirror.example/proof@sha256:0"
    job = job_that("Complete", request=request)
    assert isinstance(pod_verdict.verdict(request, NODES, job, seen), Refusal)
    seen["status"]["containerStatuses"][1]["imageID"] = "mirror.example/proof@sha256:0"
    assert isinstance(pod_verdict.verdict(request, NODES, job, seen), dict)


def test_what_the_api_server_adds_and_leaves_out_is_not_taken_for_forgery() -> None:
    request = ask(nested_sandbox=False)
    job, seen = job_that("Complete", request=request), pod_that(request, state=ended(report(request.nonce)))
    for document in (job, seen):
        container = first(document)
        container |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
        if not container["args"]:
            del container["args"]
        document["spec"] |= {"dnsPolicy": "ClusterFirst"}
    assert isinstance(pod_verdict.verdict(request, NODES, job, seen), dict)


def test_a_pods_message_is_bounded_and_printable() -> None:
    long = "x" * pod_verdict.MAX_MESSAGE + "\n" + PROVEN
    result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, pod_that(state=ended(long)))
    assert isinstance(result, Refusal) and len(result.sentence) < 2000
    result = pod_verdict.verdict(REQUEST, NODES, FAILED, pod_that(state=ended("\x1b[31m" * 3000, 1)))
    assert isinstance(result, Refusal) and result.sentence.isprintable() and len(result.sentence) < 2000
    assert len(PROVEN.encode()) < pod_verdict.MAX_MESSAGE


# What events say


def event(uid: str, message: str, when: str, count: int | None = 1) -> dict[str, Any]:
    """An event."""
    return {
        "involvedObject": {"uid": uid}, "message": message, "lastTimestamp": when, "count": count, "reason": "FailedCreate",
    }  # fmt: skip


def test_events_are_counted_by_object_and_reason_and_the_last_words_stay() -> None:
    first_words, last = (
        'pods "n-a" is forbidden: violates PodSecurity',
        'pods "n-b" is forbidden: violates PodSecurity "baseline"',
    )
    counted = pod_verdict.words_of(
        [event("j", last, "2026-01-02"), event("j", first_words, "2026-01-01", None), event("v", "x", "2026")]
    )
    assert counted["j"]["FailedCreate"] == Words(2, last) and counted["v"]["FailedCreate"] == Words(1, "x")
    refused = pod_verdict.verdict(REQUEST, NODES, FAILED, None, None, counted)
    assert isinstance(refused, Refusal) and refused.code == "proof-pod-refused" and "enforce=privileged" in refused.sentence
    assert 'RuntimeClass "k" not found' in pod_verdict.refused_pod("n", 'RuntimeClass "k" not found').sentence


RUNNING = job_that(None)
HANDLER = 'Failed to create pod sandbox: rpc error: failed to get sandbox runtime: no runtime for "kata-qemu" is configured'
SHIM = "Failed to create pod sandbox: rpc error: failed to create containerd task: failed to create shim task: /x does not exist"
CNI = 'Failed to create pod sandbox: plugin type="flannel" failed (add): cni plugin not initialized'
GONE = "Failed to create pod sandbox: failed to create shim task: /c.toml: file /x does not exist: not found"
SILENT = "Failed to create pod sandbox: failed to create shim task: timed out connecting to vsock 5:1024: unknown"
USERS = "Failed to create pod sandbox: can't set spec.hostUsers: false, RuntimeClass handler 'k' does not support user namespaces"
DENIED = 'admission webhook "validate.kyverno.svc-fail" denied the request: resource Pod/x was blocked: quota of capabilities'
SANDBOX = "FailedCreatePodSandBox"


@pytest.mark.parametrize(
    ("seen", "reason", "words", "code", "message"),
    [
        (CREATING, SANDBOX, Words(1, HANDLER), "proof-container-failed", 'no runtime for "kata-qemu" is configured'),
        (CREATING, SANDBOX, Words(3, SHIM), "proof-container-failed", "/x does not exist"),
        (CREATING, SANDBOX, Words(2, SHIM), None, ""),
        (
            CREATING,
            SANDBOX,
            Words(1, GONE),
            "proof-container-failed",
            "configuration names is missing, /x (the cluster",
        ),
        (CREATING, SANDBOX, Words(2, SILENT), None, ""),
        (CREATING, SANDBOX, Words(3, SILENT), "proof-container-failed", "the guest's agent did not answer in time"),
        (CREATING, SANDBOX, Words(1, USERS), "proof-container-failed", "Remove hostUsers: false"),
        (CREATING, SANDBOX, Words(9, CNI), None, ""),
        (CREATING, "FailedMount", Words(5, 'configmap "a" not found'), "proof-container-failed", 'configmap "a" not found'),
        (CREATING, "FailedMount", Words(4, "x"), None, ""),
        (CREATING, "Scheduled", Words(9, "x"), None, ""),
        (UNSCHEDULED, "FailedScheduling", Words(9, "x"), None, ""),
        (NO_IMAGE, "BackOff", Words(1, "x"), "proof-container-failed", "the image cannot be pulled: pull denied"),
        (pod_that(state=waiting("ErrImagePull", "i/o timeout")), "Failed", Words(1, "i/o timeout"), None, ""),
        (pod_that(state=waiting("ErrImagePull", "i/o timeout")), "Failed", Words(3, "x"), "proof-container-failed", "pulled: x"),
        (pod_that(state=waiting("InvalidImageName", "bad")), "x", Words(1, "x"), "proof-container-failed", "pulled: bad"),
        (None, "FailedCreate", Words(2, "violates PodSecurity"), "proof-pod-refused", "PodSecurity"),
        (None, "FailedCreate", Words(1, "violates PodSecurity"), None, ""),
        (
            None,
            "FailedCreate",
            Words(2, 'unable to validate against any security context constraint: [provider "anyuid": Forbidden]'),
            "proof-pod-refused",
            "Let the proof's service account use one",
        ),
        (
            None,
            "FailedCreate",
            Words(2, 'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'),
            "proof-pod-refused",
            "Change the namespace's LimitRange",
        ),
        (
            None,
            "FailedCreate",
            Words(2, "memory max limit to request ratio per Container is 2, but provided ratio is 8.000000"),
            "proof-pod-refused",
            "Change the namespace's LimitRange",
        ),
        (None, "FailedCreate", Words(2, DENIED), "proof-pod-refused", "Exempt the namespaces of proof and sandboxes"),
        (None, "FailedCreate", Words(9, 'failed calling webhook "validate.kyverno.svc-fail": timeout'), None, ""),
        (None, "FailedCreate", Words(9, 'exceeded quota, RuntimeClass "k" not found'), None, ""),
    ],
)
def test_lasting_failures_are_reported_early_and_passing_ones_are_waited_out(
    seen: dict[str, Any] | None, reason: str, words: Words, code: str | None, message: str
) -> None:
    result = pod_verdict.hopeless(REQUEST, RUNNING, seen, {"p" if seen else "j": {reason: words}})
    assert (result.code if result else None) == code
    assert result is None or message in result.sentence


@pytest.mark.parametrize(
    ("words", "conditions", "kind", "remedy"),
    [
        ("0/3 nodes are available: 1 Too many pods, 2 node(s) didn't match.", [], "full", "Make room on the node"),
        ("0/1 nodes are available: 1 Insufficient memory.", [], "full", "Make room on the node"),
        ("0/1 nodes are available: 1 node(s) were unschedulable.", [], "cordoned", "Run kubectl uncordon"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", ["DiskPressure"], "pressure", "Free what the node"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint(s).", ["Ready"], "", "Set the labels"),
        ("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", ["DiskPressure"], "", "Set the labels"),
        ("Scheduling is blocked due to non-empty scheduling gates", [], "gated", "Exempt the proof's namespace from what puts"),
        ('0/1 nodes are available: persistentvolumeclaim "data" not found.', [], "volume", "Create what the template's volumes"),
        ("0/1 nodes are available: 1 node(s) had volume node affinity conflict.", [], "volume", "Create what the template's"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", [], "volume", "Create what the"),
    ],
)
def test_each_reason_of_the_scheduler_has_its_own_remedy(words: str, conditions: list[str], kind: str, remedy: str) -> None:
    reported = [{"type": condition, "status": "True", "message": f"kubelet has {condition}"} for condition in conditions]
    node = pod_proof.node_of({"metadata": {"name": "n", "uid": "u"}, "status": {"conditions": reported}})
    assert pod_room.kind(words, node.short_of) == kind
    seen = pod_that(node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    refusal = pod_verdict.verdict(REQUEST, Nodes([node]), LATE, seen)
    assert isinstance(refusal, Refusal) and refusal.code == "proof-pod-unscheduled"
    assert words.rstrip(".") in refusal.sentence and remedy in refusal.sentence
    assert ("kubelet has DiskPressure" in refusal.sentence) == ("DiskPressure" in conditions)


def test_a_volume_that_is_still_being_made_is_waited_for() -> None:
    for words in (
        '0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim "n-data".',
        "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
    ):
        assert not pod_room.lasts(words, "")


def test_a_pod_for_which_others_have_to_leave_is_waited_for_while_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the template's pods, or all of the cluster, have a priority: those that leave have 30 s and more to end."""
    monkeypatch.setattr(Reader, "all_nodes", lambda _: [Node("full", "u", NODE_ID), Node("n", "v", GUEST_ID)])
    reader = object.__new__(Reader)
    nominated = {**UNSCHEDULED, "status": {**UNSCHEDULED["status"], "nominatedNodeName": "n"}}
    assert reader.roomless({"full": UNSCHEDULED, "n": nominated}) == ["full"]


def test_a_node_that_left_before_its_pod_was_placed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an autoscaler ends it meanwhile: the scheduler says no more than that no other node is meant."""
    words = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    waiting = pod_that(node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    monkeypatch.setattr(Reader, "all_nodes", lambda _: [Node("n", "u", NODE_ID)])
    assert object.__new__(Reader).roomless({"n": waiting, "left": waiting}) == ["left"]


@pytest.mark.parametrize(
    "words",
    [
        "default-scheduler: preempting to accommodate a higher priority pod",
        "Eviction API: evicting",
        "Taint manager: deleting due to NoExecute taint",
    ],
)
@pytest.mark.parametrize("state", [{"running": {}}, ended("", 137, reason="Error")], ids=["running", "killed"])
def test_a_pod_that_was_preempted_or_drained_away_is_reported_as_that(words: str, state: dict[str, Any]) -> None:
    """What is seen last of it depends on the moment: its container still runs, or has been killed."""
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "X", "message": words}
    seen = pod_that(state=state, phase="Running", conditions=[{"type": "PodScheduled", "status": "True"}, taken])
    for read in (seen, trimmed.pod(documents_read("pods", seen))):
        refusal = pod_verdict.verdict(REQUEST, NODES, FAILED, read)
        assert isinstance(refusal, Refusal) and refusal.code == "proof-pod-lost"
        assert f"the pod had to leave the node before it had reported: {words}. Wait until" in refusal.sentence
    reported = pod_that(state=ended(PROVEN), conditions=[taken])
    assert isinstance(pod_verdict.verdict(REQUEST, NODES, COMPLETE, reported), dict)


@pytest.mark.parametrize("status", ["Unknown", "False"])
def test_a_machine_that_is_gone_while_its_node_is_not_is_reported_as_that_and_no_taint_is_to_be_removed(status: str) -> None:
    """As where a group has ended it and no cloud controller removes its node, or its kubelet has stopped for a while."""
    stopped = {"type": "Ready", "status": status, "message": "Kubelet stopped posting node status."}
    described: Any = {"metadata": {"name": "n", "uid": "u", "resourceVersion": "1"}, "status": {"conditions": [stopped]}}
    node = pod_proof.node_of(described)
    assert pod_proof.node_of(trimmed.node(described)) == node
    words = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    seen = pod_that(node="", phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": words}])
    refusal = pod_verdict.verdict(REQUEST, Nodes([node]), LATE, seen)
    assert isinstance(refusal, Refusal) and refusal.code == "proof-pod-unscheduled"
    assert "Kubelet stopped posting" in refusal.sentence and "kubectl delete node" in refusal.sentence
    # It may come back while the Job has time.
    assert not pod_room.lasts(words, node.short_of)
    running = pod_that(phase="Running")
    refusal = pod_verdict.verdict(REQUEST, Nodes([node]), LATE, running)
    assert isinstance(refusal, Refusal) and refusal.code == "proof-pod-lost"
    assert "Kubelet stopped posting" in refusal.sentence and "still exists and is Ready" in refusal.sentence


def test_a_pull_that_failed_once_is_reported_once_and_in_the_registrys_words() -> None:
    """As a kubelet makes its events: the registry's words, and beside them its own, under the same reason."""
    messages = ("Failed to pull image: i/o timeout", "Error: ErrImagePull", "Error: ImagePullBackOff")
    events = [
        {"involvedObject": {"uid": "p"}, "reason": "Failed", "message": text, "lastTimestamp": f"2026-01-01T00:00:0{at}Z"}
        for at, text in enumerate(messages)
    ]
    assert pod_verdict.words_of(events)["p"]["Failed"] == Words(1, messages[0])


def test_a_quota_that_wants_another_field_is_not_to_be_raised() -> None:
    for words, remedy in (
        ("exceeded quota: q", "Raise the namespace's quota"),
        ("failed quota: q: must specify limits.cpu", "LimitRange"),
    ):
        result = pod_verdict.verdict(REQUEST, NODES, LATE, None, None, {"j": {"FailedCreate": Words(9, f"forbidden: {words}")}})
        assert isinstance(result, Refusal) and result.code == "proof-pod-refused" and remedy in result.sentence


def test_at_the_end_of_the_time_the_clusters_own_words_are_reported() -> None:
    for words, expected in ((CNI, "cni plugin not initialized"), (HANDLER, "no runtime for")):
        result = pod_verdict.verdict(REQUEST, NODES, LATE, CREATING, None, {"p": {SANDBOX: Words(1, words)}})
        assert isinstance(result, Refusal) and expected in result.sentence
    result = pod_verdict.verdict(REQUEST, NODES, LATE, CREATING, None, {"p": {"Pulling": Words(1, "Pulling image x")}})
    assert isinstance(result, Refusal) and "the cluster says: Pulling image x" in result.sentence


# Proving again


def tried(*jobs: dict[str, Any], pods: Any = None, before: str | None = None, events: Any = None) -> int:
    """Which try is to be there."""
    by_uid = {job["metadata"]["uid"]: job for job in jobs}
    return pod_proof.attempt_of(pod_verdict.try_of(ask, NODES, by_uid, pods or {}, before, events).template)


def test_a_try_stays_while_it_runs_or_its_evidence_is_accepted_and_is_replaced_otherwise() -> None:
    evidence = pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED)
    kept = json.dumps(evidence)
    assert tried() == 1 and tried(RUNNING) == 1
    assert tried(COMPLETE, before=kept) == 1 and tried(COMPLETE, pods={"j": PASSED}) == 1
    assert tried(COMPLETE) == 2 and tried(FAILED) == 2, "what a pod said is lost, or it failed"
    zero = pod_that(state=ended(report(REQUEST.nonce, **ZERO)))
    assert tried(COMPLETE, pods={"j": zero}) == 2, "a ladder that ended completes its Job whatever it met"
    assert tried(COMPLETE, before=json.dumps({**json.loads(kept), "guestBootId": NODE_ID})) == 2
    for rungs in ([], None, [1], [{"name": "srt-call", "counts": True, "passed": False}]):
        assert tried(COMPLETE, before=json.dumps({**json.loads(kept), "rungs": rungs})) == 2, "no judge accepted that"
    assert tried(COMPLETE, before="[" * 100_000) == 2 and tried(COMPLETE, before="[]") == 2, "it is no evidence"
    assert tried(job_that("Failed", request=ask(attempt=3), uid="k"), COMPLETE, before=kept) == 4, "the newest try counts"
    assert tried(RUNNING, pods={"j": CREATING}, events={"p": {SANDBOX: Words(1, HANDLER)}}) == 2
    assert tried(job_that("Failed", request=ask(kata_version="3.0.0"))) == 1, "of other settings"
    assert tried(job_that("Failed", request=ask(node=Node("other", "v", OTHER_ID)))) == 1, "of another node"
    gone = deepcopy(FAILED)
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert tried(gone) == 1


def test_what_all_nodes_share_is_checked_once_and_changed_by_no_request() -> None:
    pod_proof.shared.cache_clear()
    requests = [ask(node=node) for node in (NODE, Node("other", "v", OTHER_ID), NODE)]
    assert pod_proof.shared.cache_info().misses == 1
    assert requests[0].body == requests[2].body == REQUEST.body and requests[1].digest != REQUEST.digest
    assert ask(kernel_params=["quiet"]).digest != REQUEST.digest and ask(image="another").digest != REQUEST.digest


def test_a_reboot_changes_nothing_of_the_job_that_is_there_and_its_first_boot_id_stays_known() -> None:
    rebooted = Node("n", "u", "dddddddd-dddd-dddd-dddd-dddddddddddd")

    def again(attempt: int, boot_id: str) -> ProofRequest:
        return ask(attempt, boot_id, node=rebooted)

    kept = json.dumps(pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED))
    assert pod_verdict.try_of(again, Nodes([rebooted]), {"j": COMPLETE}, {}, kept).body == REQUEST.body
    assert GUEST_ID in kept


def test_a_node_that_was_started_again_before_the_verdict_is_proven_again() -> None:
    """Its kernel between the two that are known has a boot id that nobody knows, and may have run the ladder."""
    restarted = Nodes([Node("n", "u", "dddddddd-dddd-dddd-dddd-dddddddddddd"), Node("other", "v", OTHER_ID)])
    result = pod_verdict.verdict(REQUEST, restarted, COMPLETE, PASSED)
    assert isinstance(result, Refusal) and result.code == "proof-pod-lost" and "started again" in result.sentence
    assert "pulumi up again" in result.sentence
    kept = json.dumps(pod_verdict.verdict(REQUEST, NODES, COMPLETE, PASSED))
    assert isinstance(pod_verdict.verdict(REQUEST, restarted, COMPLETE, PASSED, kept), dict), "it was accepted before"


@pytest.mark.parametrize("end", [ended("", 255, reason="Unknown"), ended("", 137, reason="Error")], ids=["lost", "killed"])
def test_a_guest_that_ended_with_its_node_is_not_told_as_killed_for_lack_of_memory(end: dict[str, Any]) -> None:
    """As where the node's updates, or an operator, start it again meanwhile: neither its overhead nor its cgroups are wrong."""
    restarted = Nodes([Node("n", "u", "dddddddd-dddd-dddd-dddd-dddddddddddd"), Node("other", "v", OTHER_ID)])
    result = pod_verdict.verdict(REQUEST, restarted, FAILED, pod_that(state=end, phase="Failed"))
    assert isinstance(result, Refusal) and result.code == "proof-pod-lost"
    assert "the node was started again while it was proven, which ended the guest. Run pulumi up again" in result.sentence
    for nodes, state in ((NODES, end), (restarted, ended("", 137, reason="OOMKilled")), (restarted, ended("sh: no", 127))):
        own = pod_verdict.verdict(REQUEST, nodes, FAILED, pod_that(state=state, phase="Failed"))
        assert isinstance(own, Refusal) and own.code == "proof-container-failed"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("UnexpectedAdmissionError", "Pod was rejected: Allocate failed due to no healthy devices present"),
        ("SysctlForbidden", 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"),
        ("NodeShutdown", "Pod was rejected as the node is shutting down"),
    ],
)
def test_a_pod_that_the_kubelet_rejects_is_not_told_as_one_whose_node_is_gone(reason: str, words: str) -> None:
    seen = pod_that(phase="Failed", reason=reason, message=words)
    for read in (seen, trimmed.pod(documents_read("pods", seen))):
        result = pod_verdict.verdict(REQUEST, NODES, FAILED, read)
        assert isinstance(result, Refusal) and result.code == "proof-pod-unscheduled"
        assert f"n: the kubelet does not start the pod: {words}. Correct what it names, on the node" in result.sentence


def test_a_gated_pod_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can take the gate off: the guard of the proof's namespace keeps the spec of each pod as it is."""
    gate = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    gate["message"] = "Scheduling is blocked due to non-empty scheduling gates"
    monkeypatch.setattr(Reader, "all_nodes", lambda _: [NODE])
    assert object.__new__(Reader).roomless({"n": pod_that(node="", phase="Pending", conditions=[gate])}) == ["n"]


def injected(pod: dict[str, Any], name: str, state: dict[str, Any]) -> dict[str, Any]:
    """The pod with a container that a webhook puts before the others."""
    changed = deepcopy(pod)
    changed["spec"]["containers"].insert(0, {"name": name, "image": "proxy"})
    changed["status"]["containerStatuses"].insert(0, {"name": name, "state": state})
    return changed


def test_a_report_that_comes_back_in_the_log_alone_is_read_there() -> None:
    """As under Firecracker, which shares no files with its guest: no node would ever be proven."""
    silent = pod_that(state=ended(""))
    for read in (silent, trimmed.pod(documents_read("pods", silent))):
        assert pod_verdict.unreported(read, "sandbox")
        refusal = pod_verdict.verdict(REQUEST, NODES, COMPLETE, read)
        assert isinstance(refusal, Refusal) and refusal.code == "proof-transcript-incomplete"
        assert "neither its container's termination message nor its log" in refusal.sentence and "pods/log" in refusal.sentence
        log = PROVEN.replace("detail=\n", "detail= at=12.34\n")
        completed = pod_verdict.reported(REQUEST, read, f"mounting\n{log}bye\n")
        evidence = pod_verdict.verdict(REQUEST, NODES, COMPLETE, completed)
        assert isinstance(evidence, dict) and evidence["guestBootId"] == GUEST_ID and evidence["rungs"][0]["at"] == 12.34
        # The evidence stands, so that a run after it asks for no log and makes no further Job.
        assert pod_verdict.verdict(REQUEST, NODES, COMPLETE, read, json.dumps(evidence)) == evidence
        other = Nodes([NODE, Node("other", "v", GUEST_ID)])
        forged = pod_verdict.verdict(REQUEST, other, COMPLETE, read, json.dumps(evidence))
        assert isinstance(forged, Refusal) and forged.code == "proof-not-a-guest"
    for completed in (PASSED, pod_that(state=ended("", 1)), pod_that(state=ended("", 0, signal=9)), pod_that(phase="Running")):
        assert not pod_verdict.unreported(completed, "sandbox")
    requests: list[tuple[object, ...]] = []
    reader = object.__new__(Reader)

    def text(*request: object) -> str:
        requests.append(request)
        if len(requests) > 1:
            raise NodeError("cluster-forbidden", "no", verbs="get", resource="pods/log")
        return PROVEN

    reader.client = SimpleNamespace(text=text)  # type: ignore[assignment]
    completed = reader.reported("proofs", REQUEST, silent)
    assert isinstance(pod_verdict.verdict(REQUEST, NODES, COMPLETE, completed), dict)
    assert requests == [
        ("pods/log", "/api/v1/namespaces/proofs/pods/proof-n-1/log", {"container": "sandbox", "limitBytes": 1 << 18})
    ]
    assert reader.reported("proofs", REQUEST, silent) == silent and reader.reported("proofs", REQUEST, PASSED) == PASSED


def test_the_log_of_a_pod_is_read_once_for_its_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each preview would read the logs of all nodes otherwise."""
    reader, logs, kept = object.__new__(Reader), [PROVEN], dict[str, str]()
    reader.client = SimpleNamespace(text=lambda *_: logs.pop())  # type: ignore[assignment]
    monkeypatch.setattr(Reader, "evidence", lambda *_: kept)
    monkeypatch.setattr(Reader, "jobs", lambda *_: {"j": COMPLETE})
    monkeypatch.setattr(Reader, "pods", lambda *_: {"j": pod_that(state=ended(""))})
    monkeypatch.setattr(Reader, "all_nodes", lambda _: [NODE])
    (evidence,) = reader.outcome("proofs", "proof", {"n": ("j", REQUEST)}, 1).values()
    assert isinstance(evidence, dict) and not logs
    kept["n"] = json.dumps(evidence)
    assert reader.outcome("proofs", "proof", {"n": ("j", REQUEST)}, 1) == {"n": evidence}


def test_the_container_that_climbs_is_read_wherever_a_webhook_puts_another() -> None:
    zero = pod_that(state=ended(report(REQUEST.nonce, **ZERO)))
    forged = injected(zero, "helper", ended(PROVEN))
    for read in (forged, trimmed.pod(documents_read("pods", forged))):
        result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, read)
        assert isinstance(result, Refusal) and result.code == "proof-user-namespaces-zero"
    assert isinstance(pod_verdict.verdict(REQUEST, NODES, COMPLETE, injected(PASSED, "istio-proxy", ended(""))), dict)
    result = pod_verdict.verdict(REQUEST, NODES, LATE, injected(PASSED, "istio-proxy", {"running": {}}))
    assert isinstance(result, Refusal) and "istio-proxy beside it did not end" in result.sentence
    assert "keep what adds others, such as a service mesh, out of the proof's namespace" in result.sentence
    mirrored = injected(PASSED, "istio-proxy", {"running": {}})
    pinned = ask(image="debian@sha256:1234")
    mirrored["spec"]["containers"][1] |= deepcopy(pinned.template["spec"]["containers"][0])
    mirrored["spec"]["containers"][1]["image"] = "m/debian@sha256:1234"
    mirrored["metadata"]["annotations"] = pinned.template["metadata"]["annotations"]
    mirrored["status"]["containerStatuses"][-1]["imageID"] = "m/debian@sha256:1234"
    late = job_that("Failed", "DeadlineExceeded", request=pinned)
    result = pod_verdict.verdict(pinned, NODES, late, mirrored)
    assert isinstance(result, Refusal) and result.code != "proof-forged"


HOST_PATH = {"name": "host", "hostPath": {"path": "/usr/bin"}}


@pytest.mark.parametrize(
    ("pod_spec", "container", "field"),
    [
        ({}, {"envFrom": [{"configMapRef": {"name": "theirs"}}]}, "container.envFrom"),
        ({}, {"securityContext": {"privileged": True}}, "container.securityContext"),
        ({}, {"securityContext": {"capabilities": {"add": ["ALL"]}}}, "container.securityContext"),
        ({}, {"securityContext": {"procMount": "Unmasked"}}, "container.securityContext"),
        ({"hostPID": True}, {}, "hostPID"),
        ({"hostNetwork": True}, {}, "hostNetwork"),
        ({}, {"volumeMounts": [{"name": "tools", "mountPath": "/usr/bin"}]}, "container.volumeMounts"),
        ({}, {"volumeMounts": [{"name": "tools", "mountPath": "/usr/bin/bwrap", "subPath": "b"}]}, "container.volumeMounts"),
        *(
            ({}, {"volumeMounts": [{"name": "tools", "mountPath": path}]}, "container.volumeMounts")
            for path in ("/", ".", "usr/bin", "//usr/bin", "/./usr/bin", "/tmp/../usr/bin", "/etc", "/etc/ld.so.preload")
        ),
        ({}, {"volumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/certs/ca.crt", "subPath": "ca.crt"}]}, None),
        ({}, {"securityContext": {"runAsUser": 0}}, "container.securityContext"),
        ({"volumes": [HOST_PATH]}, {"volumeMounts": [{"name": "host", "mountPath": "/data"}]}, "container.volumeMounts"),
        ({}, {"volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/x"}]}, None),
        ({"securityContext": {"fsGroup": 1000}}, {"securityContext": {"seLinuxOptions": {"level": "s0"}}}, None),
        ({"volumes": [HOST_PATH]}, {}, None),
    ],
)
def test_rights_variables_and_tools_that_a_webhook_adds_are_not_believed(
    pod_spec: dict[str, Any], container: dict[str, Any], field: str | None
) -> None:
    changed = deepcopy(PASSED)
    changed["spec"] |= pod_spec
    own = changed["spec"]["containers"][0]
    for key, value in container.items():
        own[key] = {**own[key], **value} if isinstance(own.get(key), dict) else value
    for read in (changed, trimmed.pod(documents_read("pods", changed))):
        result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, read)
        if field is None:
            assert isinstance(result, dict)
        else:
            assert isinstance(result, Refusal) and result.code == "proof-forged" and field in result.sentence


CONFINED: dict[str, Any] = {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda spec: spec.pop("securityContext"), "container.securityContext"),
        (lambda spec: spec["securityContext"].pop("runAsUser"), "container.securityContext"),
        (lambda spec: spec["securityContext"].update(runAsUser=2000), None),
        (
            lambda spec: spec["containers"][0]["securityContext"].update(seccompProfile={"type": "Unconfined"}),
            "container.securityContext",
        ),
        (lambda spec: spec.pop("hostUsers"), "hostUsers"),
        (lambda spec: spec.update(volumes=[{"name": "tools", "hostPath": {"path": "/usr/bin"}}]), "container.volumeMounts"),
        (lambda spec: None, None),
    ],
)
def test_what_confines_the_template_may_not_be_taken_away(change: Callable[[dict[str, Any]], object], field: str | None) -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    spec |= {"securityContext": CONFINED, "hostUsers": False, "volumes": [{"name": "tools", "emptyDir": {}}]}
    spec["containers"][0]["volumeMounts"] = [{"name": "tools", "mountPath": "/opt/tools"}]
    request = ask(pod_template=json.dumps(template))
    changed = pod_that(request, state=ended(report(request.nonce)))
    change(changed["spec"])
    for read in (changed, trimmed.pod(documents_read("pods", changed))):
        result = pod_verdict.verdict(request, NODES, job_that("Complete", request=request), read)
        if field is None:
            assert isinstance(result, dict)
        else:
            assert isinstance(result, Refusal) and result.code == "proof-forged" and field in result.sentence


def test_a_ladder_that_was_killed_long_before_the_end_of_the_time_is_reported_as_that() -> None:
    """A sidecar that runs on keeps the Job until its deadline."""
    late = job_that("Failed", "DeadlineExceeded")
    late["status"]["startTime"] = "2026-01-01T00:00:00Z"
    for at, code in (("2026-01-01T00:01:00Z", "proof-container-failed"), ("2026-01-01T00:05:01Z", "proof-timeout")):
        seen = injected(pod_that(state=ended("", 137, reason="Error", finishedAt=at)), "side", {"running": {}})
        for job in (late, trimmed.job(documents_read("jobs", late))):
            result = pod_verdict.verdict(REQUEST, NODES, job, seen)
            assert isinstance(result, Refusal) and result.code == code, result


@pytest.mark.parametrize("code", [137, 143])
def test_a_node_whose_clock_is_behind_is_not_told_to_have_killed_what_its_jobs_time_ended(code: int) -> None:
    late = job_that("Failed", "DeadlineExceeded")
    late["status"]["startTime"] = "2026-01-01T00:10:00Z"
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:10:20Z"}
    for at, expected in (("2026-01-01T00:14:01Z", "proof-timeout"), ("2026-01-01T00:10:01Z", "proof-container-failed")):
        state = ended("", code, reason="Error", finishedAt=at)  # a minute behind
        seen = pod_that(state=state, startTime="2026-01-01T00:09:21Z", conditions=[scheduled])
        for read in (seen, trimmed.pod(documents_read("pods", seen))):
            result = pod_verdict.verdict(REQUEST, NODES, late, read)
            assert isinstance(result, Refusal) and result.code == expected, result


@pytest.mark.parametrize("kind", ["Failed", "FailureTarget"])
@pytest.mark.parametrize("code", [137, 143])
def test_the_end_of_a_jobs_time_is_not_reported_as_a_kill(kind: str, code: int) -> None:
    late = job_that(kind, "DeadlineExceeded")
    result = pod_verdict.verdict(REQUEST, NODES, late, pod_that(state=ended("", code, reason="Error")))
    assert isinstance(result, Refusal) and result.code == "proof-timeout" and "did not end in the container" in result.sentence
    for seen in (ended("", 137, reason="OOMKilled"), ended("", 1)):
        result = pod_verdict.verdict(REQUEST, NODES, late, pod_that(state=seen))
        assert isinstance(result, Refusal) and result.code == "proof-container-failed"


def test_a_report_that_many_containers_cut_is_reported_as_that() -> None:
    seen = pod_that(state=ended(PROVEN[: 12288 // 10]))
    seen["status"]["containerStatuses"] += [{"name": f"side-{at}", "state": {}} for at in range(8)]
    result = pod_verdict.verdict(REQUEST, NODES, COMPLETE, seen)
    assert isinstance(result, Refusal) and "the pod has 10 containers" in result.sentence and "service mesh" in result.sentence


def test_a_network_that_the_template_looks_for_must_be_in_the_report() -> None:
    template = deepcopy(TEMPLATE)
    spec: Any = template["spec"]
    spec["containers"][0]["env"] = [{"name": "KATA_NODES_NETWORK", "value": "1"}]
    request = ask(pod_template=json.dumps(template))
    result = pod_verdict.verdict(
        request, NODES, job_that("Complete", request=request), pod_that(request, state=ended(report(request.nonce)))
    )
    assert isinstance(result, Refusal) and result.code == "proof-transcript-incomplete" and "network" in result.sentence
