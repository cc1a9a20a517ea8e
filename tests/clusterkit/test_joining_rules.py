"""What becomes of a joining node, decided without a cluster.

What would be lost if these failed: a Job that proves nothing would be believed, a node would be tried for ever without a wait or
never again, or a patch would take what somebody else has written.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from clusterkit import joining, joining_workload, pod, pod_proof, proof_guard, runtime_class
from clusterkit.daemon_placing import runs_on
from clusterkit.joining import Prove, Proven, Refused, Wait
from clusterkit.pod_proof import Nodes
from clusterkit.pod_verdict import Words
from nodekit.errors import NodeError
from nodekit.scripts import script
from tests.clusterkit.reports import report

ROOT = Path(__file__).resolve().parents[2]
NODE = pod_proof.Node("n", "u", "boot")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SETTINGS = joining.Settings(
    proof="joining-nodes", namespace="joining", selector="a=b",
    pod_template=json.dumps(pod.template("image", "kata-qemu", {}, entry=script("entry.sh"))),
    handler="kata-qemu", kata_version="3.32.0", kernel_params=["user_namespace.enable=1"], nested_sandbox=True,
    sandbox="sandbox-runtime", image=None, timeout_seconds=60, account="prover",
)  # fmt: skip
LADDER = "echo ladder"
IN_THE_IMAGE = """
import sys
from types import SimpleNamespace
import clusterkit.controller.__main__, clusterkit.controller.rounds
clusterkit.controller.rounds.Reconciler(SimpleNamespace(settings=None), None)
print(clusterkit.controller.__file__, *{name.split(".")[0] for name in sys.modules})
"""


def node(**changed: Any) -> dict[str, Any]:
    """A node that is Ready, tainted, and claims the Job `j`."""
    status = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"bootID": "boot"}}
    return {
        "metadata": {"name": "n", "uid": "u", "annotations": {joining.CLAIM_ANNOTATION: "j", "other": "x"}},
        "spec": {"taints": [{"key": runtime_class.TAINT, "effect": "NoSchedule"}]},
        "status": status,
        **changed,
    }


def job_of(ended: str | None, attempt: int = 1, when: datetime = NOW, **changed: Any) -> dict[str, Any]:
    """The claimed Job, ended as `Complete` or `Failed` by the cluster's clock at `when`."""
    settings = joining.Settings(**{**SETTINGS.__dict__, **changed})
    body = deepcopy(joining.job(settings, joining.ask(settings, NODE, attempt, LADDER), "0123abcd"))
    body["metadata"]["uid"] = "j"
    at = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    body["status"] = {"conditions": [{"type": ended, "status": "True", "lastTransitionTime": at}]} if ended else {}
    return body


def pod_of(job: dict[str, Any], message: str | None = None) -> dict[str, Any]:
    """The Job's pod, which ended with this message, by default a passing report."""
    template: dict[str, Any] = deepcopy(job["spec"]["template"])
    notes = template["metadata"]["annotations"]
    text = report(pod_proof.nonce(notes[pod_proof.DIGEST_ANNOTATION], pod_proof.attempt_of(template)))
    state = {"terminated": {"exitCode": 0, "message": text if message is None else message}}
    owner = {"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}
    template["metadata"] |= {"uid": "p", "name": "p", "ownerReferences": [owner]}
    template["spec"]["nodeName"] = notes[pod_proof.NODE_ANNOTATION]
    return {**template, "status": {"containerStatuses": [{"name": "sandbox", "state": state}]}}


def decided(
    of: dict[str, Any], job: dict[str, Any] | None, message: str | None = None, since_end: float = 0.0
) -> Prove | Wait | Refused | Proven:
    """With what the Job of now would vouch for."""
    attempt = pod_proof.attempt_of(job) if job else 1
    request = joining.ask(SETTINGS, NODE, attempt, LADDER)
    return joining.step(of, request, job, pod_of(job, message) if job else None, since_end, Nodes([NODE]))


def test_node_is_proven_only_by_the_pod_of_the_job_that_it_claims() -> None:
    step = decided(node(), job_of("Complete"))
    assert isinstance(step, Proven) and step.evidence["job"] == "j"
    assert decided(node(), None) == Prove(1)
    assert decided(node(), job_of(None)) == Wait()
    assert isinstance(decided(node(), job_of("Failed")), Refused)
    other = decided(node(), job_of("Complete"), report("0" * 16))
    assert isinstance(other, Refused) and other.refusal.code == "proof-transcript-incomplete"
    own = decided(node(), job_of("Complete"), report(pod_nonce(), boot_id="status=ok value=boot detail="))
    assert isinstance(own, Refused) and own.refusal.code == "proof-not-a-guest"


def pod_nonce() -> str:
    """What starts the lines of the first try's report."""
    return joining.ask(SETTINGS, NODE, 1, LADDER).nonce


def test_pod_that_cannot_start_is_reported_before_its_time_is_over() -> None:
    events = {"p": {"FailedCreatePodSandBox": Words(1, 'no runtime for "kata-qemu" is configured')}}
    job = job_of(None)
    seen = pod_of(job)
    seen["status"] = {"phase": "Pending"}
    step = joining.step(node(), joining.ask(SETTINGS, NODE, 1, LADDER), job, seen, 0.0, Nodes([NODE]), events)
    assert isinstance(step, Refused) and "no runtime for" in step.refusal.sentence and step.seconds == 70


def test_job_that_does_not_end_is_reported_and_waited_for_without_a_pod_more() -> None:
    job, request = job_of(None), joining.ask(SETTINGS, NODE, 1, LADDER)
    seen = pod_of(job)
    seen["status"] = {"phase": "Running"}
    seen["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert joining.step(node(), request, job, seen, 0.0, Nodes([NODE]), age=joining.overdue(job) - 1) == Wait()
    step = joining.step(node(), request, job, seen, 0.0, Nodes([NODE]), age=joining.overdue(job))
    assert isinstance(step, Refused) and "is being deleted and does not end" in step.refusal.sentence
    assert joining.overdue(job) == 120 and step.seconds == 600


@pytest.mark.parametrize("changed", [{"kernel_params": []}, {"kata_version": "4.0.0"}, {"image": "other"}, {"handler": "other"}])
def test_job_of_other_settings_or_for_another_machine_is_not_a_proof(changed: dict[str, Any]) -> None:
    assert decided(node(), job_of("Complete", **changed)) == Prove(1)
    other = joining.ask(SETTINGS, pod_proof.Node("n", "another", "boot"), 1, LADDER)
    job = job_of("Complete")
    assert joining.step(node(), other, job, pod_of(job), 0.0, Nodes([NODE])) == Prove(1)


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"conditions": [{"type": "Ready", "status": "False"}], "nodeInfo": {"bootID": "boot"}},
        {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"bootID": ""}},
    ],
)
def test_node_that_is_not_up_yet_is_waited_for(status: dict[str, Any]) -> None:
    assert decided(node(status=status), None) == Wait()


def test_waits_grow_are_bounded_and_end_in_another_try() -> None:
    waits = [joining.pause(attempt) for attempt in range(1, 40)]
    assert waits[:4] == [10, 20, 40, 80] and waits == sorted(waits) and waits[-1] == 600
    # The cluster's clock counts for nothing, whether it is ahead or behind.
    for when in (NOW, NOW + timedelta(days=1), NOW - timedelta(days=1)):
        step = decided(node(), job_of("Failed", 3, when), since_end=15)
        assert isinstance(step, Refused) and step.seconds == 25
        assert decided(node(), job_of("Failed", 3, when), since_end=40) == Prove(4)


def test_writes_that_always_conflict_come_ever_more_seldom() -> None:
    waits = [joining.conflict_pause(times) for times in range(1, 40)]
    assert waits[:4] == [1, 2, 4, 8] and waits == sorted(waits) and waits[-1] == 60


def test_each_config_map_of_a_large_proof_has_room_for_the_longest_evidence() -> None:
    longest = {f"node-{number:03d}": {"text": "x" * (6 * 1024 - 20)} for number in range(301)}
    maps = [pod_proof.evidence_data(longest, number) for number in pod_proof.evidence_numbers(len(longest))]
    assert [len(each) for each in maps] == [150, 150, 1] and {name for each in maps for name in each} == set(longest)
    assert max(sum(len(name) + len(text) for name, text in each.items()) for each in maps) < 1 << 20
    assert [len(pod_proof.evidence_numbers(nodes)) for nodes in (0, 1, 150, 151, 5000)] == [1, 1, 1, 2, 34]
    names = [pod_proof.evidence_name("p", number) for number in (0, 1, 33)]
    assert names == ["p-evidence", "p-evidence-01", "p-evidence-33"]
    assert all(re.search(proof_guard.MAPS, name) for name in names), "the guard keeps tenants from each"


def test_evidence_has_a_place_by_the_nodes_name_and_the_role_reaches_each() -> None:
    places = Counter(pod_proof.evidence_map("p", f"node-{number}") for number in range(5000))
    assert set(places) == set(pod_proof.evidence_maps("p")) and len(places) == 64
    assert max(places.values()) * 6 * 1024 < 1 << 20, "5,000 nodes of the longest evidence have room"


@pytest.mark.parametrize("attempt", ["", "x", "-1", "²", "9" * 30])
def test_attempt_that_somebody_wrote_does_not_stop_the_controller(attempt: str) -> None:
    job = job_of("Failed")
    job["metadata"]["annotations"][pod_proof.ATTEMPT_ANNOTATION] = attempt
    assert pod_proof.attempt_of(job) == 1


def test_untainting_tests_all_that_it_removes_and_removes_nothing_else() -> None:
    ours, other = {"key": runtime_class.TAINT, "value": "x", "effect": "NoExecute"}, {"key": "a", "effect": "NoSchedule"}
    patch = joining.untainting(node(spec={"taints": [ours, other, ours]}), "j")
    assert [operation["path"] for operation in patch if operation["op"] == "remove"] == [
        "/metadata/annotations/kata-nodes~1joining-job", "/spec/taints/2", "/spec/taints/0",
    ]  # fmt: skip
    tests = {operation["path"]: operation["value"] for operation in patch if operation["op"] == "test"}
    claim = {"/metadata/uid": "u", "/metadata/annotations/kata-nodes~1joining-job": "j"}
    assert tests == {**claim, "/spec/taints/2": ours, "/spec/taints/0": ours}
    for place, operation in enumerate(patch):
        if operation["op"] == "remove":
            assert patch[place - 1]["op"] == "test" and patch[place - 1]["path"] == operation["path"]


def test_jobs_pod_goes_where_the_taint_keeps_others_out_and_is_the_one_of_up() -> None:
    body = job_of(None)
    up = pod_proof.ask("joining-nodes", NODE, SETTINGS.__dict__, LADDER, "prover")
    assert body["spec"] == up.body["spec"] and body["spec"]["template"]["spec"]["serviceAccountName"] == "prover"
    assert {"key": runtime_class.TAINT, "operator": "Exists"} in body["spec"]["template"]["spec"]["tolerations"]
    assert not [key for key in body["metadata"]["annotations"] if key.startswith("pulumi.com/")]
    assert body["metadata"]["name"] == "joining-nodes-n-0123abcd"


def test_settings_arrive_as_they_were_written_and_others_are_refused() -> None:
    assert joining.settings(SETTINGS.json()) == SETTINGS
    for text in (
        "",
        "[]",
        "{}",
        json.dumps({**json.loads(SETTINGS.json()), "more": 1}),
        SETTINGS.json().replace("containers", "c"),
    ):
        with pytest.raises(NodeError) as error:
            joining.settings(text)
        # An image of another version of the program meets settings that it does not know.
        assert error.value.code == "bad-input" and "Build the controller's image from the version" in error.value.remedy


def test_rights_are_the_least_and_reach_no_secret() -> None:
    rules = [*joining_workload.NODE_RULES, *joining_workload.EVENT_RULES, *joining_workload.own_rules("p")]
    verbs = {str(resource): set(rule["verbs"]) for rule in rules for resource in rule["resources"]}  # type: ignore[attr-defined]
    assert (
        verbs["nodes"] == {"list", "watch", "patch"}
        and verbs["pods"] == {"list", "watch"}
        and verbs["events"] == {"list", "watch"}
    )
    assert joining_workload.EVENT_RULES == [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]
    assert set(verbs) == {"nodes", "events", "jobs", "pods", "pods/log", "configmaps"} and verbs["pods/log"] == {"get"}
    named = [rule["resourceNames"] for rule in rules if "patch" in rule["verbs"] and "nodes" not in rule["resources"]]  # type: ignore[operator]
    assert named == [pod_proof.evidence_maps("p")] and set(named[0]).isdisjoint({"p-settings"})


def locked(path: Path) -> Iterator[tuple[str, str]]:
    """Each package of a lock with its version and hashes."""
    for block in re.split(r"\n(?=[a-z])", path.read_text()):
        name, _, rest = block.partition("==")
        yield name, " ".join(re.findall(r"^[^ ]+|sha256:[0-9a-f]+", rest))


def test_controller_of_a_cluster_with_arm_nodes_too_starts_where_its_image_is_for() -> None:
    spec: Any = joining_workload.deployment("image", "account", "settings")["template"]
    (preferred,) = spec["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["weight"] == 100
    assert preferred["preference"] == {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}
    # Where every node for it is of another processor, an image for both still runs.
    assert "kubernetes.io/arch" not in spec["spec"]["nodeSelector"]


def test_controller_of_a_cluster_with_windows_nodes_too_starts_on_linux() -> None:
    """Lost otherwise: it waits for ever on a node that has no image of it, and so does the `up`."""
    spec: Any = joining_workload.deployment("image", "account", "settings")["template"]
    linux, windows = (
        {"metadata": {"name": system, "labels": {"kubernetes.io/os": system, "kubernetes.io/arch": "amd64"}}, "spec": {}}
        for system in ("linux", "windows")
    )
    assert runs_on(linux, spec["spec"]) and not runs_on(windows, spec["spec"])


def test_image_gets_the_packages_of_the_projects_own_lock() -> None:
    whole, part = (
        dict(locked(ROOT / "requirements-dev.txt")),
        dict(locked(ROOT / "clusterkit" / "controller" / "requirements.txt")),
    )
    assert "kubernetes" in part and "pulumi" not in part
    assert {name: whole[name] for name in part} == part


@pytest.mark.slow
def test_controller_needs_no_file_and_no_package_that_its_image_lacks(tmp_path: Path) -> None:
    """As clusterkit/controller/Containerfile copies them."""
    copies = re.findall(
        r"^COPY (?!--)(.*) (/program/\S*)$", (ROOT / "clusterkit" / "controller" / "Containerfile").read_text(), re.M
    )
    for sources, target in copies:
        place = tmp_path / target.removeprefix("/program/")
        (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", *(str(ROOT / source) for source in sources.split()), str(place)], check=True)
    result = subprocess.run(
        [sys.executable, "-c", IN_THE_IMAGE], cwd=tmp_path, env={"PATH": ""}, text=True, capture_output=True, check=True
    )
    place, *loaded = result.stdout.split()
    assert place.startswith(str(tmp_path))
    packages = {"pulumi", "pulumi_kubernetes", "tomlkit", "boto3", "cryptography", "aws", "components", "stacks"}
    assert not packages & set(loaded)
