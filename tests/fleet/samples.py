"""Reports to look at: of real proofs, whose records tests/fleet/test_fleet.py took from a node, and of hostile ones.

`KATA_NODES_PROOF_SAMPLES=tests/fleet/proofs pytest tests/fleet/test_fleet.py` takes them again.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fleet import hosts
from fleet.cluster_objects import Cluster, ClusterObject
from fleet.hosts import Host
from fleet.measure import Measured
from fleet.measure_objects import MeasuredCluster, MeasuredObject
from fleet.object_difference import ObjectDifference
from fleet.report import build
from fleet.report.document import Report
from nodekit.rules.desired import Record
from nodekit.rules.proof.capabilities import CAPABILITIES
from stacks.checklist import checklist
from tests.fleet.test_rules import DOCKER, KATA, deployment

R = TypeVar("R", bound=Record)

PROOFS = Path(__file__).parent / "proofs"
MADE = "2026-11-26T18:00:00Z"
EVIDENCE = {"verb": "prove", "passed": True, "hypervisor": "qemu", "sandbox": "sandbox-runtime", "userNamespaces": 1815}
FILE, PARAMETERS = (
    "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml",
    "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 user_namespace.enable=1",
)
STAND_IN = "Kata itself: shim and agent of this stack are stand-ins"


def record(name: str) -> list[dict[str, Any]]:
    """The proofs of a node, the oldest first."""
    return list(json.loads((PROOFS / f"{name}.json").read_text()))


def with_values(record: R, **values: object) -> R:
    """The same record with other values."""
    return type(record)(**{**vars(record), **values})


def host(name: str) -> Host:
    """A node of a stack that came to its proof."""
    (node,) = hosts.of(deployment())
    assert node.state.kata
    state = with_values(node.state, kata=with_values(node.state.kata, kernel_params=["user_namespace.enable=1"]))
    return replace(
        node,
        name=name,
        state=state,
        proven="2026-11-26T09:12:04.250Z",
        connection={**node.connection, "host": f"{name}.example.net"},
        differences=(),
        evidence=EVIDENCE,
        promises=tuple({str(proof["digest"]) for name in ("passed", "failed") for proof in record(name)}),
        proof_settings={"hypervisor": "qemu", "runtime": "go", "sandbox": "sandbox-runtime"},
    )


def status() -> dict[str, Any]:
    """Of what the node program's `status` measures, what a report shows."""
    read = {"configFile": FILE, "kernelParams": PARAMETERS}
    return {
        "docker": {"daemon": {"version": DOCKER["version"]}},
        "kata": {"version": KATA["version"], "configurations": {"go": {"qemu": read}}},
    }


def measured(of: Host, proofs: list[dict[str, Any]], **keys: Any) -> Measured:
    """What a node answers that keeps these proofs."""
    return Measured(of, {"verb": "compare", "proofs": proofs, "status": status(), "differences": [], **keys}, None, 1.0)


def outputs(proofs: list[dict[str, Any]]) -> dict[str, Any]:
    """Those of a stack that is up, whose one node keeps these proofs."""
    climb = proofs[-1]["climbs"][-1]
    evidence = {**EVIDENCE, **climb, "node": "n1", "proven": "container", "kernelParams": PARAMETERS, "configFile": FILE}
    rows = checklist([evidence], hypervisor="qemu", capabilities=CAPABILITIES, granted_by="PodTemplate")
    return {"checklist": rows, "notProven": [STAND_IN]}


def proven() -> Report:
    """A stack of one node, which is proven."""
    node = host("n1")
    return build.report("staging", [node], [measured(node, record("passed"))], outputs(record("passed")), MADE)


def clusters(text: str = "", cause: str | None = None) -> list[MeasuredCluster]:
    """A cluster with a class that was changed, a namespace as made, and the Jobs of two nodes, of which one left no proof; with
    `text` as every name and word."""

    def item(kind: str, namespace: str | None, name: str, **of_job: Any) -> ClusterObject:
        rest: dict[str, Any] = {"desired": {}, "recorded": {}, "partial": False, "replaceable": False, "dependents": ()}
        space = namespace and (text or namespace)
        return ClusterObject(f"urn:{name}", "v1", text or kind, space, text or name, **rest, **of_job)

    evidence = {**record("passed")[-1]["climbs"][-1], "note": text}
    never = text or "Job proofs/w2: the stack holds no proof of it: the last run ended before"
    unproven = ObjectDifference("setting", never, "prove")
    changed = ObjectDifference("changed", text or "RuntimeClass kata: .overhead.podFixed.memory differs", "update")
    items = (
        MeasuredObject(item("Job", "proofs", "w1", proof_of=text or "w1", evidence=evidence), cause),
        MeasuredObject(item("Job", "proofs", "w2", proof_of=f"{text or 'w2'} "), None, (unproven,)),
        MeasuredObject(item("Namespace", None, "proofs"), cause),
        MeasuredObject(item("RuntimeClass", None, "kata"), None, (changed,)),
    )
    cluster = Cluster(text or "cluster", None, None, tuple(each.item for each in items))
    return [MeasuredCluster(cluster, None, items, 0.5)]


def evidence_alone() -> list[MeasuredCluster]:
    """A cluster of which the state has the evidence of a proof and none of its Jobs: they were deleted, and refreshed away."""
    rest: dict[str, Any] = {"desired": {}, "recorded": {}, "partial": False, "replaceable": False, "dependents": ()}
    item = ClusterObject("urn:proof-evidence", "v1", "ConfigMap", "proofs", "proof-evidence", **rest, keeps_evidence=True)
    return [MeasuredCluster(Cluster("cluster", None, None, (item,)), None, (MeasuredObject(item, None),), 0.5)]


def clustered() -> Report:
    """A stack of a cluster: a node that a pod has proven, one that is not proven, and a class that somebody changed."""
    return build.report("lab", [], [], {}, MADE, clusters())


def failed() -> Report:
    """A stack of three: one whose guest read 0, one that is proven, one that cannot be reached and was proven before."""
    first, second, third = host("n1"), host("n2"), host("n3")
    gone = Measured(third, None, "cannot reach n3.example.net within 10 s", 10.0)
    answers = [measured(first, record("failed")), measured(second, record("passed")), gone]
    return build.report("rack", [first, second, third], answers, {}, MADE)
