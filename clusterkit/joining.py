"""Decisions about a node that joins unproven: when to prove it, believe a proof, report it, try again, and remove the taint."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, TypeAlias

from clusterkit import pod_proof, pod_verdict
from clusterkit.pod_proof import ATTEMPT_ANNOTATION, DIGEST_ANNOTATION, NODE_ANNOTATION, Node, Nodes, ProofRequest
from clusterkit.pod_verdict import Events, Refusal
from clusterkit.runtime_class import TAINT
from nodekit.errors import NodeError

CLAIM_ANNOTATION = "kata-nodes/joining-job"
"""On a node: uid of the one Job that is believed. It is removed with the node, and nobody who may make Jobs can write it."""
FIRST_WAIT = 10.0
"""Seconds between the end of the first try that failed and the next one; it doubles from try to try."""
LONGEST_WAIT = 600.0
"""Bound on it: an Event is kept for an hour, so that a node that stays unproven always shows one."""
FIRST_CONFLICT_WAIT = 1.0
"""Seconds to wait after a write to a node that had changed meanwhile. It doubles while that goes on, as when a webhook or another
controller undoes each claim: every claim that fails has cost the cluster a Job."""
LONGEST_CONFLICT_WAIT = 60.0
GRACE = 60.0
"""Seconds after its deadline in which a Job ends: a container gets 30 s to end, and the Job controller needs a while."""
EVENTS_NAMESPACE = "default"
"""Where the API server expects Events about objects without a namespace, such as nodes."""
COMPONENT = "kata-nodes-joining"
"""The source that an Event names."""


@dataclass(frozen=True)
class Settings:
    """The controller's settings; `components/cluster/joining_nodes.py` writes them."""

    proof: str
    """Name of the proof: the label of its Jobs, and the beginning of the names of its ConfigMaps."""
    namespace: str
    """Namespace of the controller, its Jobs and its ConfigMaps."""
    selector: str
    """Label selector of the nodes that are proven."""
    pod_template: str
    """JSON of the pod template to prove; the following as for `pod_proof.ask`."""
    handler: str
    kata_version: str
    kernel_params: list[str]
    nested_sandbox: bool
    sandbox: str
    image: str | None
    timeout_seconds: int
    account: str
    """Service account of the Jobs' pods, without a right."""

    def json(self) -> str:
        """As `settings` reads it."""
        return json.dumps(asdict(self), sort_keys=True)


def settings(text: str) -> Settings:
    """From `Settings.json`; raises NodeError `bad-input`."""
    try:
        document = json.loads(text)
        lacking = sorted({field.name for field in fields(Settings)} ^ set(document))
        json.loads(document.get("pod_template", "null"))["spec"]["containers"][0]
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        document, lacking = {}, ["pod_template"]
    if lacking:
        raise NodeError("bad-input", f"the controller's settings lack, or should not have: {', '.join(lacking)}", "settings")
    return Settings(**document)


def tainted(node: Mapping[str, Any]) -> bool:
    """Whether a node (core/v1) carries the taint, with any value and effect."""
    return any(taint["key"] == TAINT for taint in node["spec"].get("taints") or [])


def ready(node: Mapping[str, Any]) -> bool:
    """Whether a node can be proven: its kubelet accepts pods, and has reported the boot id."""
    return bool(pod_verdict.condition(node, "Ready") and pod_proof.node_of(node).boot_id)


def claim(node: Mapping[str, Any]) -> str:
    """Uid of the Job that the controller made for this node, or nothing."""
    return str((node["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION, ""))


def made_for(job: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether a Job was made to prove the node of this name."""
    notes = job["metadata"].get("annotations") or {}
    return bool(notes.get(NODE_ANNOTATION) == node["metadata"]["name"])


@dataclass(frozen=True)
class Prove:
    """Make the Job of this try, in place of the one before."""

    attempt: int


@dataclass(frozen=True)
class Wait:
    """Nothing to do before something changes on the cluster."""


@dataclass(frozen=True)
class Refused:
    """Report why the node is not proven, and look again in `seconds`."""

    refusal: Refusal
    seconds: float


@dataclass(frozen=True)
class Proven:
    """Keep the evidence and remove the taint."""

    evidence: dict[str, Any]


Step: TypeAlias = Prove | Wait | Refused | Proven
"""What to do next for a tainted node."""


def step(
    node: Mapping[str, Any],
    request: ProofRequest,
    job: Mapping[str, Any] | None,
    pod: Mapping[str, Any] | None,
    since_end: float,
    nodes: Nodes,
    events: Events | None = None,
    age: float = 0.0,
) -> Step:
    """Decide for a tainted node.

    `job` is the Job that the node claims (None: no such Job), `pod` the last that was seen of its pod, and `request` the try that
    the Job is by its annotations: one with another digest, from other settings or another machine under the name, is no proof.
    `since_end` are the seconds since the Job was first seen to have ended, by the controller's own clock that only goes forward:
    the times in the Job's status are of the cluster's clock, which may be hours off, and `age` those since it was first seen at
    all. `nodes` are all that the cluster has now, `events` what it says of Jobs and pods.

    A Job that is overdue, since its pod hangs or something suspends it, is reported and waited for: where one guest hangs, each
    further try could leave another there.
    """
    if not ready(node):
        return Wait()
    if job is None or job["spec"]["template"]["metadata"].get("annotations", {}).get(DIGEST_ANNOTATION) != request.digest:
        return Prove(1)
    if not pod_verdict.ended(job):
        refused = pod_verdict.hopeless(request, job, pod, events or {})
        # Reported at once; the next try comes when the Job has ended, at its deadline at the latest.
        left = float(job["spec"]["activeDeadlineSeconds"]) + pause(pod_proof.attempt_of(job))
        if refused or age < overdue(job):
            return Refused(refused, left) if refused else Wait()
    judged = pod_verdict.verdict(request, nodes, job, pod, None, events)
    if not pod_verdict.ended(job):
        return Refused(judged, LONGEST_WAIT) if isinstance(judged, Refusal) else Wait()
    if not isinstance(judged, Refusal):
        return Proven(judged)
    attempt = pod_proof.attempt_of(job)
    left = pause(attempt) - since_end
    return Refused(judged, left) if left > 0 else Prove(attempt + 1)


def overdue(job: Mapping[str, Any]) -> float:
    """Seconds after which a Job should have ended."""
    return float(job["spec"]["activeDeadlineSeconds"]) + GRACE


def pause(attempt: int) -> float:
    """Seconds after the try `attempt` that failed."""
    return min(FIRST_WAIT * 2.0 ** min(attempt - 1, 16), LONGEST_WAIT)


def conflict_pause(times: int) -> float:
    """Seconds before the next write to a node after so many in a row that failed because it had changed."""
    return min(FIRST_CONFLICT_WAIT * 2.0 ** min(times - 1, 16), LONGEST_CONFLICT_WAIT)


def ask(config: Settings, node: Node, attempt: int, ladder: str) -> ProofRequest:
    """A try of a node's proof, as `up` asks for it; see `pod_proof.ask`."""
    return pod_proof.ask(config.proof, node, vars(config), ladder, config.account, attempt)


def job(config: Settings, request: ProofRequest, suffix: str) -> dict[str, Any]:
    """The Job (batch/v1) of a try; `suffix` makes its name a new one each time."""
    about = request.body["metadata"] | {"name": f"{pod_proof.job_name(config.proof, request.node.name)}-{suffix}"}
    notes = {**about["annotations"], ATTEMPT_ANNOTATION: str(pod_proof.attempt_of(request.template))}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {**about, "annotations": notes}, "spec": request.body["spec"]}


def claiming(node: Mapping[str, Any], uid: str) -> dict[str, Any]:
    """Merge patch by which a node claims a Job; its own uid makes the server refuse it for another machine of that name."""
    return {"metadata": {"uid": node["metadata"]["uid"], "annotations": {CLAIM_ANNOTATION: uid}}}


def untainting(node: Mapping[str, Any], uid: str) -> list[dict[str, Any]]:
    """JSON patch that removes the taint and the claim of the Job `uid`, and nothing else.

    It tests the machine, the claim, and each taint at its place. If any of them changed meanwhile, it fails and does not remove
    what is there now.
    """
    at_claim = "/metadata/annotations/" + CLAIM_ANNOTATION.replace("~", "~0").replace("/", "~1")
    patch = [
        {"op": "test", "path": "/metadata/uid", "value": node["metadata"]["uid"]},
        {"op": "test", "path": at_claim, "value": uid},
        {"op": "remove", "path": at_claim},
    ]
    # From the last, since what is removed moves what comes after it.
    for place, taint in reversed(list(enumerate(node["spec"]["taints"]))):
        if taint["key"] == TAINT:
            at = f"/spec/taints/{place}"
            patch += [{"op": "test", "path": at, "value": taint}, {"op": "remove", "path": at}]
    return patch


def event(node: Mapping[str, Any], uid: str, refusal: Refusal, now: datetime) -> dict[str, Any]:
    """The Event (core/v1) that shows on a node why the Job `uid` proved nothing: one for each Job, by its name."""
    about = node["metadata"]
    when = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"kata-nodes.{uid}", "namespace": EVENTS_NAMESPACE},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": about["name"], "uid": about["uid"]},
        "type": "Warning",
        "reason": "NotProven",
        "message": refusal.sentence,
        "source": {"component": COMPONENT},
        "firstTimestamp": when,
        "lastTimestamp": when,
        "count": 1,
    }
