"""What kata-nodes decides of a cluster's objects without a cluster.

Lost if these fail: a change on a cluster that nobody sees, a drift that is none, a secret on a terminal, what an `up` replaces.
"""

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from clusterkit import guard, pod_proof
from fleet import cluster_objects, cure, object_difference, shown
from fleet.__main__ import _exit, _summary
from fleet.cluster_objects import ClusterObject
from fleet.measure_objects import MeasuredCluster, MeasuredObject, Reading
from fleet.object_difference import ObjectDifference, another_job, another_machine, compare, differences, without_handler
from fleet.stack import Answers
from fleet.stack import of as stack_of
from tests.fleet.objects import (
    CLASS,
    KUBECONFIG,
    OWN,
    TYPES,
    deployment,
    item,
    live,
    resource,
    runtime_class,
    secret,
)

JOB = "kata-nodes:index:KataProof$kubernetes:batch/v1:Job"
PARENT = f"{TYPES}kata-nodes:index:KataProof::proof"
POLICY = "kata-nodes:index:SandboxGuard$kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicy"


def test_the_objects_of_a_stack_are_read_with_how_their_cluster_is_reached() -> None:
    chart = resource("kubernetes:helm.sh/v3:Release", "kata-deploy", {"metadata": {"name": "x"}})
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "old"}}
    replaced = resource("kubernetes:core/v1:Namespace", "old", space, delete=True)
    (cluster,) = cluster_objects.of(deployment(runtime_class(), chart, replaced))
    assert (cluster.name, cluster.kubeconfig, cluster.context) == ("cluster", KUBECONFIG, "prod")
    (described,) = cluster.objects
    assert (described.api_version, described.kind, described.namespace, described.name) == (
        "node.k8s.io/v1",
        "RuntimeClass",
        None,
        "kata",
    )
    assert described.label == "RuntimeClass kata" and described.replaceable and not described.partial
    assert "s3cret" not in repr(cluster), "no traceback shows how to log in"
    assert cluster_objects.of({"resources": None}) == [] == cluster_objects.of(deployment())


def test_providers_of_one_cluster_are_measured_as_one() -> None:
    labelling = f"{TYPES}pulumi:providers:kubernetes::cluster-labelling"
    other = {
        "urn": labelling,
        "type": "pulumi:providers:kubernetes",
        "inputs": {"kubeconfig": secret(KUBECONFIG), "context": "prod"},
    }
    patch = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}}}
    node = resource("kubernetes:core/v1:NodePatch", "kata-labels-n1", patch, provider=f"{labelling}::id")
    state = deployment(runtime_class(), node)
    state["resources"].append(other)
    (cluster,) = cluster_objects.of(state)
    assert [each.label for each in cluster.objects] == ["Node n1", "RuntimeClass kata"]
    other["inputs"]["context"] = "staging"
    assert [each.name for each in cluster_objects.of(state)] == ["cluster", "cluster-labelling"]


def test_of_an_adopted_class_its_handler_counts_and_an_adopted_namespace_is_its_labels_alone() -> None:
    adopted = item(runtime_class(external=True))
    assert adopted.partial and not adopted.replaceable and dict(adopted.desired) == {"handler": "kata-qemu"}
    kept, notes = differences(adopted, live(adopted, overhead={"podFixed": {"memory": "7Mi"}}))
    assert (kept, notes) == ([], [])
    (lost,), _ = differences(adopted, live(adopted, handler="runc"))
    assert lost.kind == "changed" and "handler" in lost.message
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sandboxes"}}
    assert cluster_objects.of(deployment(resource("kubernetes:core/v1:Namespace", "sandboxes", space, external=True))) == []


def test_what_takes_a_value_from_an_object_follows_it_and_what_only_waits_does_not() -> None:
    uses = {"spec": [runtime_class()["urn"]]}
    job = resource(
        JOB, "proof-n1", {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}}, propertyDependencies=uses
    )
    after = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "proof-evidence"}}
    evidence = resource("kubernetes:core/v1:ConfigMap", "proof-evidence", after, propertyDependencies={"data": [job["urn"]]})
    waiting = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "s"}}
    space = resource("kubernetes:core/v1:Namespace", "s", waiting, dependencies=[runtime_class()["urn"]])
    (cluster,) = cluster_objects.of(deployment(runtime_class(), job, evidence, space))
    (chosen,) = [each for each in cluster.objects if each.kind == "RuntimeClass"]
    assert [urn.rpartition("::")[2] for urn in chosen.dependents] == ["proof-n1", "proof-evidence"]


SIDECAR = {"name": "s"}
INJECTED = {"e": [{"name": "x"}, SIDECAR]}
OTHERS = {"metadata": {"labels": {"a": "b", "c": "d"}, "annotations": {"e": "f"}}, "status": {"g": 1}}
SAME: list[tuple[str, Any, Any, Any]] = [
    ("equal", {"a": 1}, {"a": 1}, {"a": 1}),
    ("the server's way to write a quantity", {"cpu": "0.25"}, {"cpu": "250m"}, {"cpu": "250m"}),
    ("the server's defaults", {"a": 1}, {"a": 1, "b": "default"}, {"a": 1, "b": "default"}),
    ("an empty list that the server drops", {"a": []}, {"b": 1}, {"b": 1}),
    ("an empty mapping that the server drops", {"a": {}}, {"b": 1}, {"b": 1}),
    ("null", {"a": None}, {}, {"a": 7}),
    ("false that the server drops", {"a": False}, {"b": 1}, {"b": 1}),
    ("a mapping in another order", {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"b": 2, "a": 1}),
    ("named items in another order", {"e": [{"name": "x"}, {"name": "y"}]}, {}, {"e": [{"name": "y"}, {"name": "x"}]}),
    ("a default in an item", {"e": [{"name": "x"}]}, {"e": [{"name": "x", "p": 1}]}, {"e": [{"name": "x", "p": 1}]}),
    ("an item that admission adds at once", {"e": [{"name": "x"}]}, INJECTED, INJECTED),
    ("back to what is wanted, after a refresh of something else", {"a": 1}, {"a": 2}, {"a": 1}),
    ("metadata that others write", {"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"a": "b"}}}, OTHERS),
]  # fmt: skip
DIFFERENT: list[tuple[str, Any, Any, Any, set[str], set[str]]] = [
    ("a value", {"a": "160Mi"}, {"a": "160Mi"}, {"a": "1Gi"}, {"a"}, set()),
    ("one that is gone", {"a": {"b": 1}}, {"a": {"b": 1}}, {"a": {}}, {"a.b"}, set()),
    ("a mapping that is gone", {"a": {"b": 1}}, {"a": {"b": 1}}, {}, {"a"}, set()),
    ("false that is gone, which the server kept", {"a": False}, {"a": False}, {}, {"a"}, set()),
    ("true is not 1", {"a": True}, {"a": True}, {"a": 1}, {"a"}, set()),
    ("another type", {"a": {"b": 1}}, {"a": {"b": 1}}, {"a": "b"}, {"a"}, set()),
    ("a word less", {"a": ["x", "y"]}, {"a": ["x", "y"]}, {"a": ["x"]}, {"a"}, set()),
    ("a word more", {"a": ["x"]}, {"a": ["x"]}, {"a": ["x", "y"]}, set(), {"a"}),
    ("words in another order", {"a": ["x", "y"]}, {"a": ["x", "y"]}, {"a": ["y", "x"]}, {"a"}, set()),
    ("an item less", {"e": [{"name": "x"}, {"name": "y"}]}, {}, {"e": [{"name": "y"}]}, {"e[0]"}, set()),
    ("an item more", {"e": [{"name": "x"}]}, {"e": [{"name": "x"}]}, {"e": [{"name": "s"}, {"name": "x"}]}, set(), {"e[1]"}),
    ("an item without a name", {"e": [{"k": 1}, {"k": 2}]}, {}, {"e": [{"k": 1}, {"k": 3}]}, {"e[1].k"}, set()),
    ("a field more", {"a": {"b": 1}}, {"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, set(), {"a.c"}),
    ("a default that was changed", {"a": 1}, {"a": 1, "f": "Fail"}, {"a": 1, "f": "Ignore"}, set(), {"f"}),
    ("a field more of an item", {"e": [SIDECAR]}, {"e": [SIDECAR]}, {"e": [{"name": "s", "p": True}]}, set(), {"e[0].p"}),
    ("one that was empty, which the server dropped", {"a": {}}, {"b": 1}, {"a": {"c": 2}, "b": 1}, set(), {"a.c"}),
    ("an empty one of an item", {"e": [{"name": "x", "s": {}}]}, {"e": [{"name": "x"}]},
     {"e": [{"name": "x", "s": {"p": 1}}]}, set(), {"e[0].s.p"}),
    ("two named alike", {"e": [SIDECAR]}, {}, {"e": [SIDECAR, {"name": "s", "v": 2}]}, set(), {"e[1]"}),
    ("a label", {"metadata": {"labels": {"a.b/c": "d"}}}, {}, {"metadata": {"labels": {}}}, {"metadata.labels[a.b/c]"}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("desired", "recorded", "present"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_what_the_server_makes_of_an_object_is_no_drift(desired: Any, recorded: Any, present: Any) -> None:
    result = compare(desired, recorded, present)
    assert (result.changed, result.added) == ((), ())
    assert result.desired == result.present, "nothing of it is shown as a difference"


@pytest.mark.parametrize(
    ("desired", "recorded", "present", "changed", "added"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT]
)
def test_what_was_changed_behind_the_stack_is_named(
    desired: Any, recorded: Any, present: Any, changed: set[str], added: set[str]
) -> None:
    result = compare(desired, recorded, present)
    assert set(map(object_difference.dotted, result.changed)) == changed
    assert set(map(object_difference.dotted, result.added)) == added
    assert json.dumps(result.desired) != json.dumps(result.present)


def test_a_secret_is_compared_and_never_shown() -> None:
    data = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "stringData": {"key": "s3cret"}}
    stored = {**{key: value for key, value in data.items() if key != "stringData"}, "data": {"key": "czNjcmV0"}}
    kept = item(resource("kubernetes:core/v1:Secret", "s", data, stored))
    assert differences(kept, live(kept))[0] == []
    (different,), _ = differences(kept, live(kept, data={"key": "b3RoZXI="}))
    marked = item(
        resource(
            "kubernetes:core/v1:ConfigMap", "c", {**CLASS, "data": {"a": secret("s3cret")}}, {**CLASS, "data": {"a": "s3cret"}}
        )
    )
    (other,), _ = differences(marked, live(marked, data={"a": "an0ther"}))
    for text in (str(different), str(other)):
        assert "[secret]" in text and "[another secret]" in text
        assert not any(part in text for part in ("s3cret", "czNjcmV0", "b3RoZXI", "an0ther"))


@pytest.mark.parametrize(
    "present",
    [
        [{"name": "plain", "value": "x"}],
        None,
        [{"name": "renamed", "value": "s3cret"}, {"name": "plain", "value": "x"}],
        [{"name": "key", "value": "s3cret", "copy": ["s3cret"]}, {"name": "pin", "value": 7341}, {"name": "plain", "value": "x"}],
    ],
    ids=["taken away", "all taken away", "under another name", "copied"],
)
def test_a_secret_beside_what_was_taken_away_is_never_shown(present: list[dict[str, Any]] | None) -> None:
    def template(key: object, pin: object) -> dict[str, Any]:
        env = [{"name": "key", "value": key}, {"name": "pin", "value": pin}, {"name": "plain", "value": "x"}]
        about = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t", "namespace": "n"}}
        return {**about, "template": {"spec": {"containers": [{"name": "a", "env": env}]}}}

    kept = item(
        resource("kubernetes:core/v1:PodTemplate", "t", template(secret("s3cret"), secret(7341)), template("s3cret", 7341))
    )
    container = {"name": "a", **({} if present is None else {"env": present})}
    (different,), _ = differences(kept, live(kept, template={"spec": {"containers": [container]}}))
    assert "env" in different.message and "[secret]" in str(different.diff)
    assert not any(part in str(different) for part in ("s3cret", "7341"))


def test_who_wrote_since_the_stack_did_is_told_those_of_the_changed_field_first() -> None:
    chosen = item(runtime_class())
    wrote = {"manager": "kubectl-edit", "operation": "Update", "time": "2026-11-26T11:00:00Z",
             "fieldsV1": {"f:overhead": {"f:podFixed": {"f:memory": {}}}}}  # fmt: skip
    later = {"manager": "other", "operation": "Apply", "time": "2026-11-26T12:00:00Z", "fieldsV1": {"f:metadata": {}}}
    status = {**later, "subresource": "status", "manager": "kubelet"}
    about = {"name": "kata", "managedFields": [OWN, later, status, wrote]}
    overhead = {"podFixed": {"memory": "1Gi", "cpu": "250m"}}
    (changed,), _ = differences(chosen, live(chosen, metadata=about, overhead=overhead))
    assert changed.message == "RuntimeClass kata differs from the stack in overhead.podFixed.memory"
    assert changed.traces == (
        "kubectl-edit (Update) wrote overhead.podFixed.memory at 2026-11-26T11:00:00Z",
        "other (Apply) wrote other fields at 2026-11-26T12:00:00Z",
    )
    head, place, *lines = str(changed.diff).splitlines()
    assert (head, place) == ("--- RuntimeClass kata (stack)", "+++ RuntimeClass kata (cluster)")
    assert [line for line in lines if line[:1] in "+-"] == ["-    memory: 160Mi", "+    memory: 1Gi"]


@pytest.mark.parametrize(
    ("fields", "kind", "repair"),
    [
        ({"overhead": {"podFixed": {"memory": "1Gi", "cpu": "250m"}}}, "changed", "update"),
        ({"handler": "kata-clh"}, "changed", "create"),
        ({"extra": True}, "added", "replace"),
        ({"handler": "kata-clh", "extra": True}, "changed", "replace"),
        ({"metadata": {"name": "kata", "deletionTimestamp": "2026-11-26T12:00:00Z", "finalizers": ["a/b"]}}, "missing", None),
    ],
)
def test_each_difference_of_a_class_has_the_repair_that_ends_it(fields: dict[str, Any], kind: str, repair: str | None) -> None:
    chosen = item(runtime_class())
    (difference,), _ = differences(chosen, live(chosen, **fields))
    assert (difference.kind, difference.repair) == (kind, repair)


def test_what_the_stack_adopted_and_is_gone_is_named_and_no_cure_of_it_is_promised() -> None:
    """The stack reads the class and labels the namespace of someone else: an `up` that needs them fails until they are there."""
    adopted = item(runtime_class(external=True))
    labels = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sandboxes", "labels": {"a": "b"}}}
    namespace = item(resource("kubernetes:core/v1:NamespacePatch", "sandboxes-labels", labels))
    for chosen in (adopted, namespace):
        (difference,), _ = differences(chosen, None)
        assert (difference.kind, difference.repair) == ("missing", None), chosen.label
    (difference,), _ = differences(item(runtime_class()), None)
    assert (difference.kind, difference.repair) == ("missing", "create")


def policy() -> ClusterObject:
    """The sandboxes' guard, whose name the engine chose."""
    about = {"name": "guard-policy-1a2b", "annotations": {"pulumi.com/autonamed": "true"}}
    body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": about}
    return item(resource(POLICY, "guard-policy", {**body, "spec": guard.policy(["kata"])}))


def test_every_way_to_disarm_a_guard_is_seen() -> None:
    kept = policy()
    assert differences(kept, live(kept)) == ([], [])
    for change in (
        {"failurePolicy": "Ignore"},
        {"matchConditions": [{"name": "never", "expression": "false"}]},
        {"validations": kept.desired["spec"]["validations"][1:]},
        {"validations": [{**each, "expression": "true"} for each in kept.desired["spec"]["validations"]]},
        {"matchConstraints": {**kept.desired["spec"]["matchConstraints"], "objectSelector": {"matchLabels": {"a": "b"}}}},
        {"matchConstraints": {**kept.desired["spec"]["matchConstraints"], "excludeResourceRules": [{"resources": ["pods"]}]}},
    ):
        (difference,), _ = differences(kept, live(kept, spec={**kept.desired["spec"], **change}))
        assert next(iter(change)) in difference.message and difference.repair in ("update", "replace"), change


def test_a_field_more_elsewhere_is_a_note_and_a_longer_list_of_the_stacks_is_drift() -> None:
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "c", "namespace": "n"}}
    spec = {"template": {"spec": {"containers": [{"name": "a", "image": "i", "args": ["x"]}]}}}
    chosen = item(resource("kubernetes:apps/v1:Deployment", "c", {**body, "spec": spec}))
    restarted = deepcopy(spec)
    restarted["template"]["metadata"] = {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}  # type: ignore[dict-item]
    kept, notes = differences(chosen, live(chosen, spec={**restarted, "replicas": 3}))
    assert kept == [] and len(notes) == 2 and "spec.replicas" in notes[1]
    longer = deepcopy(spec)
    longer["template"]["spec"]["containers"][0]["args"].append("y")
    (difference,), _ = differences(chosen, live(chosen, spec=longer))
    assert (difference.kind, difference.repair) == ("added", None) and difference.message.endswith("take that away by hand")
    longer["template"]["spec"]["containers"].append({"name": "miner", "image": "j"})
    (difference,), _ = differences(chosen, live(chosen, spec=longer))
    assert "containers[1]" in difference.message


def test_a_node_without_its_label_is_named() -> None:
    desired = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"katacontainers.io/kata-runtime": "true"}},
    }
    node = item(resource("kubernetes:core/v1:NodePatch", "kata-labels-n1", desired))
    present = live(node, metadata={"name": "n1", "labels": {"a": "b"}}, spec={"unschedulable": True})
    (difference,), notes = differences(node, present)
    assert notes == [], "all else of a node is not the stack's"
    assert (difference.kind, difference.repair) == ("label", "update")
    marked = {**desired, "metadata": {**desired["metadata"], "annotations": {"kata-nodes/labelled": "uid"}}}
    (again,), _ = differences(item(resource("kubernetes:core/v1:NodePatch", "kata-labels-n1", marked)), present)
    assert again.kind == "label"
    assert "metadata.labels[katacontainers.io/kata-runtime]" in difference.message
    assert "a client that removes a field leaves no name" in difference.traces[0]


def test_a_handler_that_nodes_do_not_report_is_named_and_old_runtimes_are_not_blamed() -> None:
    chosen = item(runtime_class())
    nodes = [
        {"metadata": {"name": "good"}, "status": {"runtimeHandlers": [{"name": ""}, {"name": "kata-qemu"}]}},
        {"metadata": {"name": "bad"}, "status": {"runtimeHandlers": [{"name": ""}, {"name": "runc"}]}},
        {"metadata": {"name": "old"}, "status": {}},
        {"metadata": "x", "status": {"runtimeHandlers": [7, {"name": ["y"]}, {"name": "z"}]}},
    ]
    (difference,) = without_handler(chosen, nodes)
    assert difference.kind == "handler" and "2 of 4 nodes" in difference.message and ": None, bad" in difference.message
    assert without_handler(chosen, nodes[::2]) == []


def proof(uid: str, evidence: str | None, number: int = 0, **of_map: Any) -> list[ClusterObject]:
    """The Job of a proof in a state with that evidence, in the ConfigMap of that number."""
    about = {"name": "proof-n1-x", "namespace": "p", "annotations": {pod_proof.NODE_ANNOTATION: "n1"}, "uid": uid}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**about, "creationTimestamp": "2026-11-26T10:00:00Z"}}
    job = resource(JOB, "proof-n1", body, parent=PARENT)
    entries = [job]
    if evidence is not None:
        for each in range(number + 1):
            name, kept = pod_proof.evidence_name("proof", each), {"n1": evidence} if each == number else {f"n0{each}": "{}"}
            data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": kept}
            uses = {"data": [job["urn"]]}
            entries.append(
                resource("kubernetes:core/v1:ConfigMap", name, data, parent=PARENT, propertyDependencies=uses, **of_map)
            )
    (cluster,) = cluster_objects.of(deployment(*entries))
    return [each for each in cluster.objects if each.kind == "Job"]


def test_what_was_taken_out_for_another_proof_that_was_never_made_proves_nothing() -> None:
    """The engine keeps it in the state until the other one is made."""
    evidence = {"node": "n1", "job": "u1"}
    (taken,) = proof("u1", json.dumps(evidence), pendingReplacement=True)
    assert taken.evidence is None and "holds no proof" in str(taken.unproven)
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "e"}, "data": {"n1": json.dumps(evidence)}}
    about = {"name": "proof-n1-x", "namespace": "p", "annotations": {pod_proof.NODE_ANNOTATION: "n1"}, "uid": "u1"}
    job = resource(
        JOB, "proof-n1", {"apiVersion": "batch/v1", "kind": "Job", "metadata": about}, parent=PARENT, pendingReplacement=True
    )
    kept = resource("kubernetes:core/v1:ConfigMap", "proof-evidence", data, parent=PARENT)
    (cluster,) = cluster_objects.of(deployment(job, kept))
    (item,) = [each for each in cluster.objects if each.kind == "Job"]
    assert "holds no proof" in str(item.unproven)


def test_a_proof_in_pods_of_which_nothing_was_made_is_not_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    """As where the API server was out of reach after the nodes were proven: all that the stack had was as deployed."""
    component = {"urn": PARENT, "type": "kata-nodes:index:KataProof"}
    about = {"name": "proof-n1-x", "namespace": "p", "annotations": {pod_proof.NODE_ANNOTATION: "n1"}, "uid": "u1"}
    job = resource(JOB, "proof-n1", {"apiVersion": "batch/v1", "kind": "Job", "metadata": about}, parent=PARENT)
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "proof-evidence"}, "data": {}}
    kept = resource("kubernetes:core/v1:ConfigMap", "proof-evidence", data, parent=PARENT)
    for parts, names in (
        ([], ["proof"]),
        ([job], []),
        ([kept], []),
        ([{**job, "delete": True}, {**kept, "delete": True}], ["proof"]),
    ):
        assert stack_of(deployment(component, *parts)).unfinished == names, "of no nodes, it keeps empty evidence"
    assert stack_of(deployment({**component, "delete": True})).unfinished == []
    answers = Answers([], [], ["proof"])
    assert (_exit(answers), cure.flags(answers)) == (2, [])
    assert _summary("s", answers) == "Stack s: 1 proofs in pods are not there; kata-nodes cure s repairs them."
    shown.write(shown.drift(answers), shown.fleet("s", answers, []))
    assert capsys.readouterr().out.count("proof: the stack holds no proof in pods") == 2
    assert shown.document("s", answers, [])["unfinished"] == ["proof"]


def test_a_proof_of_other_settings_or_of_a_machine_before_is_named() -> None:
    (proven,) = proof("u1", json.dumps({"node": "n1", "job": "u1"}))
    assert proven.evidence == {"node": "n1", "job": "u1"}
    assert proven.proof_of == "n1" and proven.unproven is None and differences(proven, live(proven))[0] == []
    (elsewhere,) = proof("u1", json.dumps({"node": "n1", "job": "u1"}), number=2)
    assert elsewhere.unproven is None
    (other,) = proof("u2", json.dumps({"node": "n1", "job": "u1"}))
    (difference,), _ = differences(other, live(other))
    assert (difference.kind, difference.repair) == ("setting", "prove") and "other settings" in difference.message
    (never,) = proof("u1", None)
    assert "holds no proof" in str(never.unproven)
    (difference,) = another_job(proven, {"metadata": {"uid": "u7"}})
    assert (difference.kind, difference.repair) == ("setting", "prove") and "made again by someone else" in difference.message
    assert [another_job(proven, each) for each in ({}, {"metadata": {"uid": 7}}, {"metadata": {"uid": "u1"}})] == [[], [], []]
    (difference,) = another_machine(proven, {"metadata": {"creationTimestamp": "2026-11-26T10:00:01Z"}})
    assert difference.kind == "setting" and "registered at 2026-11-26T10:00:01Z" in difference.message
    for node in (None, {}, {"metadata": {"creationTimestamp": "2026-11-26T09:00:00Z"}}, {"metadata": {"creationTimestamp": "~"}}):
        assert another_machine(proven, node) == []


HOSTILE = "\x1b[2J\u202e\ud800\n::error::x"


@pytest.mark.parametrize(
    "present",
    [
        {},
        {"metadata": []},
        {"metadata": {"managedFields": "x"}},
        {"metadata": {"managedFields": [None, 7, {"fieldsV1": [[]], "manager": {"a": HOSTILE}, "time": HOSTILE}]}},
        {"handler": HOSTILE, "overhead": [HOSTILE], "scheduling": None},
        {"handler": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE, "metadata": {"deletionTimestamp": HOSTILE, "finalizers": [HOSTILE]}},
        {"handler": ["x" * 500_000], "overhead": {"podFixed": {str(number): HOSTILE for number in range(5_000)}}},
        {"scheduling": {"nodeSelector": "x", "tolerations": [[{"name": []}]] * 300}},
    ],
)
def test_whatever_a_cluster_answers_is_compared_and_shown_harmless(present: dict[str, Any]) -> None:
    chosen = item(runtime_class())
    different, _ = differences(chosen, present)
    assert different
    text = json.dumps([each.as_dict() for each in different], ensure_ascii=False)
    assert len(text) < 200_000 and not any(mark in text for mark in ("\x1b", "\u202e", "\ud800", "\n::error"))


def answers(*measured: tuple[ClusterObject, ObjectDifference]) -> Answers:
    """What a stack without nodes answered."""
    (cluster,) = cluster_objects.of(deployment(runtime_class()))
    objects = tuple(MeasuredObject(each, None, (difference,)) for each, difference in measured)
    return Answers([], [MeasuredCluster(cluster, None, objects, 0.1)])


def flags(*measured: tuple[ClusterObject, str | None]) -> list[str] | None:
    """The flags, with names in place of URNs."""
    chosen = cure.flags(answers(*((each, ObjectDifference("changed", "x", repair)) for each, repair in measured)))
    return None if chosen is None else [flag.rpartition("::")[2] for flag in chosen]


def test_cure_refreshes_and_targets_just_what_differs_and_what_follows_from_it() -> None:
    (job,) = proof("u1", "{}")
    assert flags((policy(), "update")) == ["--target", "guard-policy", "--refresh"]
    assert flags((policy(), "replace")) == ["--target-replace", "guard-policy", "--refresh"]
    assert flags((job, "create")) == ["--target", "proof-n1", "--target", "proof-evidence", "--refresh"]
    assert flags((policy(), None)) is None
    (never,) = proof("u1", None)
    assert flags((never, "prove")) == ["--refresh"], "evidence that was never made can be no target"
    assert flags((never, "prove"), (policy(), "replace")) == ["--replace", "guard-policy", "--refresh"]


def test_a_row_an_object_and_one_for_a_cluster_that_is_not_reached() -> None:
    (cluster,) = cluster_objects.of(deployment(runtime_class()))
    chosen = item(runtime_class())
    (difference,), _ = differences(chosen, None)
    reached = MeasuredCluster(cluster, None, (MeasuredObject(chosen, None, (difference,)),), 0.1)
    assert [str(cell) for cell in shown.object_rows(reached)[0]] == ["RuntimeClass", "", "kata", "missing"]
    dead = MeasuredCluster(cluster, "it does not answer", (MeasuredObject(chosen, None),), 0.1)
    assert [str(cell) for cell in shown.object_rows(dead)[0]] == ["cluster", "", "cluster", "not reached: it does not answer"]
    document = shown.document("s", Answers([], [dead]), [])
    assert document["clusters"][0]["reached"] is False and document["objects"][0]["reached"] is False
    assert document["objects"][0]["cause"] == "it does not answer" and dead.unmeasured == 1


def test_a_cluster_that_is_not_reached_has_a_remedy_and_a_code_as_in_an_up() -> None:
    """`kata-nodes drift` said that the credentials may have expired, and nothing of what to do."""
    (cluster,) = cluster_objects.of(deployment(runtime_class()))
    nowhere = replace(cluster, context="nowhere")
    cause = str(Reading(nowhere, 10.0, lambda _: None).result().cause)
    assert cause.startswith("the kubeconfig has no context nowhere; its contexts: none. Name one of them"), cause
    assert cause.endswith("[kubeconfig-invalid]")
    server = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "prod", "context": {"cluster": "c"}}
    text = json.dumps({"clusters": [server], "contexts": [context]})
    measured = Reading(replace(cluster, kubeconfig=text), 10.0, lambda _: None).result()
    cause = str(measured.cause)
    assert "does not answer" in cause and "make it reachable" in cause and cause.endswith("[cluster-unreachable]")
