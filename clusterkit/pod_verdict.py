"""What the Job of a proof, its pod and the cluster's events mean: evidence, a refusal, or another try. Python alone judges."""

import json
import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from clusterkit import pod_companions, pod_log, pod_room
from clusterkit.pod_differences import differences, environment
from clusterkit.pod_proof import BOOT_ANNOTATION, DIGEST_ANNOTATION, NODE_ANNOTATION, Node, Nodes, ProofRequest, attempt_of
from nodekit.errors import NodeError
from nodekit.rules.node_state import SEED_PARAMETER
from nodekit.rules.proof import console, ladder
from nodekit.rules.text import printable

MAX_MESSAGE = 4096
"""Bytes of a termination message that a kubelet keeps (kubernetes.io, Determine the Reason for Pod Failure)."""
MAX_MESSAGES = 12288
"""Bytes that it keeps of those of all containers of a pod, each having an equal share."""
STARTING = ("", "ContainerCreating", "PodInitializing")
"""Reasons of a kubelet for a container that waits for nothing but its turn."""
ENDED_BY_SIGNAL = (128 + 15, 128 + 9)
"""Exit codes of a container that got SIGTERM or SIGKILL."""
NO_STATUS = 255
"""Exit code of a container whose own is not known, because its guest or its shim is gone (containerd, UnknownExitStatus; Kata,
exitCode255 and UNKNOWN_EXIT_STATUS)."""
CLOCKS = 5.0
"""Seconds by which the clocks of a node and of the control plane may differ."""
SHOWN = 600
"""Characters of a cluster's or a container's words that stand in a sentence."""


@dataclass(frozen=True)
class Refusal:
    """Why one node is not proven: a code of `clusterkit/failures.py`, and one line with node, reading, cause and remedy."""

    code: str
    sentence: str


def refusal(code: str, message: str, case: str = "", *, remedy: str | None = None) -> Refusal:
    """With the sentence in the form of every error of this project."""
    return Refusal(code, NodeError(code, message, case, remedy=remedy).sentence())


def line(text: object, limit: int = SHOWN) -> str:
    """Untrusted text as one printable line."""
    return printable(" ".join(str(text or "").split()), limit)


# What events say


@dataclass(frozen=True)
class Words:
    """What events of one kind say of one object: how often it happened, and the last event's words."""

    times: int
    text: str


Events: TypeAlias = Mapping[str, Mapping[str, Words]]
"""By the uid of a Job or a pod, by the event's reason."""


ECHO = re.compile(r"Error: (ErrImagePull|ImagePullBackOff)")
"""What a kubelet adds to every failed pull, under the same reason as the registry's words: it explains nothing, and would count
as a further failure (pkg/kubelet/kuberuntime, startContainer)."""


def words_of(events: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Words]]:
    """From core/v1 Events."""
    by_object: dict[str, dict[str, Words]] = {}
    telling = (event for event in events if not ECHO.fullmatch(str(event.get("message", ""))))
    for event in sorted(telling, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")):
        reasons = by_object.setdefault(str(event.get("involvedObject", {}).get("uid")), {})
        reason = str(event.get("reason", ""))
        count = event.get("count") or (event.get("series") or {}).get("count") or 1
        times = int(count) + (reasons[reason].times if reason in reasons else 0)
        reasons[reason] = Words(times, line(event.get("message"), 900))
    return by_object


NO_HANDLER = re.compile(r'no runtime for "|failed to find runtime handler|runtime handler .{0,80} not (found|supported)')
"""What containerd (internal/cri, getSandboxRuntime) and CRI-O say of a handler that they do not know."""
NO_USERS = re.compile(r"(runtime|handler .{0,80}) does not support user namespaces")
"""What a kubelet says of hostUsers: false where the handler does not offer it (pkg/kubelet/userns, userns_manager.go)."""
NETWORK = re.compile(r"\b(cni|network|networkplugin)\b", re.IGNORECASE)
"""Words of a failure that passes once the node's network is up."""
NO_IMAGE = re.compile(r"not found|denied|unauthorized|manifest unknown|no match for platform|invalid reference", re.IGNORECASE)
"""A registry's words for failures that a retry does not change."""
CONSTRAINT = "security context constraint"
"""Words of OpenShift, which checks more than Pod Security."""
WEBHOOK = "denied the request"
"""Words of the API server where a webhook refuses; of a policy it says `denied request`."""
LIMIT_RANGE = ("usage per ", "max limit to request ratio per ")
"""Words of a LimitRange about a resource, before those of a container or a pod (plugin/pkg/admission/limitranger)."""
IN_VAIN = ("PodSecurity", "ValidatingAdmissionPolicy", CONSTRAINT, WEBHOOK, *LIMIT_RANGE)
"""Words of refusals of a pod that a retry does not change."""


def hopeless(request: ProofRequest, job: Mapping[str, Any], pod: Mapping[str, Any] | None, events: Events) -> Refusal | None:
    """Why a running Job can no longer pass, by its events and its pod's state; None while it can.

    It does not give up on what can pass by itself: a network that comes up, a scheduler that finds no room yet, a namespace
    whose labels are not known everywhere yet.
    """
    node = request.node.name
    if pod is None:
        unmade = events.get(job["metadata"]["uid"], {}).get("FailedCreate")
        # A single refusal can come from the moment before a namespace or a policy is known everywhere.
        lasting = unmade and unmade.times > 1 and any(word in unmade.text for word in IN_VAIN)
        return refused_pod(node, unmade.text) if unmade and lasting else None
    reasons = events.get(str(pod["metadata"].get("uid")), {})
    sandbox = None if begun(pod) else reasons.get("FailedCreatePodSandBox")
    if sandbox and (lasts(sandbox.text) or (sandbox.times > 2 and not NETWORK.search(sandbox.text))):
        return no_sandbox(node, sandbox.text)
    waiting = waiting_of(pod, request.climbing)
    reason, text = str(waiting.get("reason", "")), str(waiting.get("message") or "")
    pulled = reasons.get("Failed", Words(0, ""))
    often = pulled.times > 2 or NO_IMAGE.search(f"{text} {pulled.text}")
    if reason in ("InvalidImageName", "ErrImageNeverPull") or (reason in ("ErrImagePull", "ImagePullBackOff") and often):
        return no_image(node, text if NO_IMAGE.search(text) else pulled.text or text or reason)
    mount = reasons.get("FailedMount")
    if mount and mount.times > 4 and not begun(pod):
        return refusal(
            "proof-container-failed", f"{node}: a volume of the pod cannot be mounted: {line(mount.text).rstrip('.')}", "volume"
        )
    return None


def lasts(why: str) -> bool:
    """Whether a pod sandbox that could not be made once cannot be made later either."""
    fault = console.explain_kata(why)
    return bool(NO_HANDLER.search(why) or NO_USERS.search(why) or (fault and not fault.retry))


def refused_pod(node: str, why: str) -> Refusal:
    """The API server makes no pod for the Job."""
    case = next((word for word in REFUSALS if word in why), "")
    return refusal("proof-pod-refused", f"{node}: the cluster refuses the proof's pod: {line(why, 900).rstrip('.')}", case)


REFUSALS = (*IN_VAIN, "RuntimeClass", "must specify", "quota")
"""Words of the API server's refusals of a pod for which `proof-pod-refused` has a remedy of its own."""


def no_sandbox(node: str, why: str) -> Refusal:
    """The node's container runtime cannot start the pod."""
    if NO_HANDLER.search(why):
        return refusal(
            "proof-container-failed",
            f"{node}: the node's container runtime does not know the handler: {line(why).rstrip('.')}",
            "handler",
        )
    if NO_USERS.search(why):
        return refusal(
            "proof-container-failed",
            f"{node}: the runtime's handler offers no user namespaces of the pod's own: {line(why).rstrip('.')}",
            "host-users",
        )
    fault = console.explain_kata(why)
    cause = f"{fault.cause} (the cluster says: {line(why).rstrip('.')})" if fault else line(why).rstrip(".")
    return refusal("proof-container-failed", f"{node}: the runtime cannot start the pod: {cause}", "runtime")


def no_image(node: str, why: str) -> Refusal:
    """The node cannot get the image."""
    return refusal("proof-container-failed", f"{node}: the image cannot be pulled: {line(why).rstrip('.')}", "pull")


# Whether the Job and its pod are what was asked for


def condition(described: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of an object that holds, or an empty one."""
    conditions = described.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind and each["status"] == "True"), {})


def ended(job: Mapping[str, Any]) -> bool:
    """Whether a Job has passed or failed for good."""
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def why_failed(job: Mapping[str, Any]) -> str:
    """The reason of a Job that did not complete. One that goes on is looked at when its time is over, as if at its deadline.

    From Kubernetes 1.31 on a Job is Failed once its pods have ended, and FailureTarget until then.
    """
    failed = condition(job, "Failed") or condition(job, "FailureTarget")
    return str(failed.get("reason", "")) if failed else "DeadlineExceeded"


def owner(pod: Mapping[str, Any]) -> str | None:
    """Uid of the Job that controls a pod."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((str(each["uid"]) for each in owners if each.get("controller") and each.get("kind") == "Job"), None)


def status_of(pod: Mapping[str, Any] | None, climbing: str) -> Mapping[str, Any]:
    """Status of the container that climbs, by its name: statuses come in any order, and webhooks put containers before it."""
    statuses = (pod or {}).get("status", {}).get("containerStatuses") or []
    empty: Mapping[str, Any] = {}
    return next((each for each in statuses if each.get("name") == climbing), empty)


def unreported(pod: Mapping[str, Any], climbing: str) -> bool:
    """Whether the ladder ended well in a pod of which the node has no termination message; its log may have one (`pod_log`)."""
    terminated = status_of(pod, climbing).get("state", {}).get("terminated") or {}
    return terminated.get("exitCode") == 0 and not terminated.get("signal") and not terminated.get("message")


def reported(request: ProofRequest, pod: Mapping[str, Any], log: str) -> dict[str, Any]:
    """Such a pod with the message that its `log` holds; as it is where that has none."""
    message = pod_log.message(log, request.nonce, [*request.expect, SEED_PARAMETER])
    statuses = []
    for each in pod["status"]["containerStatuses"]:
        own = {"terminated": {**each["state"]["terminated"], "message": message}} if each["name"] == request.climbing else None
        statuses.append({**each, "state": own} if own else each)
    return {**pod, "status": {**pod["status"], "containerStatuses": statuses}}


def begun(pod: Mapping[str, Any] | None) -> bool:
    """Whether a container of a pod has started, an init container too: then there is a guest, whatever failed before."""
    status = (pod or {}).get("status", {})
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return any({"running", "terminated"} & (each.get("state") or {}).keys() for each in statuses)


def waiting_of(pod: Mapping[str, Any] | None, climbing: str) -> Mapping[str, Any]:
    """For what the container that climbs waits, or the init container before it; nothing where it does not wait."""
    own: Mapping[str, Any] = status_of(pod, climbing).get("state", {}).get("waiting") or {}
    before = [
        (each.get("state") or {}).get("waiting") or {}
        for each in (pod or {}).get("status", {}).get("initContainerStatuses") or []
    ]
    return next((each for each in before if own and each.get("reason", "") not in STARTING), own)


def forged(request: ProofRequest, job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Refusal | None:
    """The refusal of a Job, or of a pod of it, that is not what was asked for."""
    name = request.node.name
    template = job["spec"]["template"]
    notes = template["metadata"].get("annotations") or {}
    differing = [] if notes.get(DIGEST_ANNOTATION) == request.digest else [f"annotation {DIGEST_ANNOTATION}"]
    differing += [] if attempt_of(template) == attempt_of(request.template) else ["the try"]
    differing += differences(request.template["spec"], template["spec"])
    subject = "its Job"
    if pod is not None and not differing:
        subject = f"the pod {line(pod['metadata'].get('name'), 80)}"
        spec = pod["spec"]
        differing += [] if owner(pod) == job["metadata"]["uid"] else ["its controller"]
        # A pod that is not scheduled yet is on no node.
        differing += [] if spec.get("nodeName") in (None, "", name) else ["nodeName"]
        differing += differences(request.template["spec"], spec, str(status_of(pod, request.climbing).get("imageID", "")))
    if not differing:
        return None
    return refusal(
        "proof-forged", f"{name}: {subject} is not what was asked for, and is not believed: {', '.join(differing)} differs"
    )


# The verdict


def verdict(
    request: ProofRequest,
    nodes: Nodes,
    job: Mapping[str, Any] | None,
    pod: Mapping[str, Any] | None,
    before: str | None = None,
    events: Events | None = None,
    uid: str = "",
) -> dict[str, Any] | Refusal:
    """What a Job and the last that was seen of its pod mean: evidence, or the refusal.

    A guest has the boot id of none of the `nodes`. A Job that completed is believed only with its pod's report, judged by the
    ladder's judge. `before` is the evidence of the last proof (JSON). It stands for a pod that is gone when it is of the same
    Job, and where the Job is gone too, as a cluster removes those that have ended, if it is of the one with the uid `uid`, which
    was asked for. `events` say why there is no pod, or why it does not start.
    """
    name, events = request.node.name, events or {}
    present = nodes.by_name.get(name)
    if present is None or present.uid != request.node.uid:
        return refusal(
            "proof-pod-lost",
            f"{name}: the node left the cluster while it was proven, or another machine took its name",
            "replaced",
        )
    kept = evidence_of(before)
    proven = bool(kept.get("job")) and kept.get("node") == name and stands(kept)
    if job is None and proven and kept["job"] == uid:
        return no_guest(name, str(kept.get("guestBootId", "")), nodes.by_boot_id) or kept
    if job is None:
        return refusal("proof-pod-lost", f"{name}: the Job is gone from the cluster", "refresh")
    if untrue := forged(request, job, pod):
        return untrue
    # Before a reboot the node's own kernel had another boot id.
    own = {str((job["metadata"].get("annotations") or {}).get(BOOT_ANNOTATION, "")): name}
    boot_ids = ChainMap(nodes.by_boot_id, own)
    if pod is not None and pod_room.turned_away(pod) and (away := no_room(name, pod, present.short_of)):
        return away  # its container may have ended too, which explains less
    terminated = status_of(pod, request.climbing).get("state", {}).get("terminated")
    if pod is not None and (gone := disrupted(name, job, pod, terminated or {})):
        return gone
    accepted = proven and kept["job"] == job["metadata"]["uid"]
    if accepted and condition(job, "Complete") and (pod is None or unreported(pod, request.climbing)):
        return no_guest(name, str(kept.get("guestBootId", "")), boot_ids) or kept
    if terminated and ended_by_deadline(job, pod or {}, terminated):
        return timed_out(request, job, pod, {})
    if terminated:
        judged = of_container(request, terminated, present.boot_id, boot_ids, containers_of(pod))
        # Of a kernel between the two that are known, no boot id is known, and it may have run the ladder.
        restarted = present.boot_id not in own and not accepted
        if isinstance(judged, Refusal):
            return rebooted(name, "which ended the guest") if restarted and ended_from_outside(terminated) else judged
        if older := not_of_the_pod(present, job, pod or {}, terminated, judged):
            return older
        if condition(job, "Complete"):
            return rebooted(name) if restarted else {**judged, "job": job["metadata"]["uid"]}
        late = why_failed(job) == "DeadlineExceeded"
        if other := pod_companions.unfinished(pod or {}, request.climbing, late):
            return refusal("proof-container-failed", f"{name}: the ladder ended, and {other}", "beside")
        return timed_out(request, job, pod, {})
    if condition(job, "Complete"):
        state = "its pod says nothing" if pod else "its pod is gone and with it what it reported"
        return refusal("proof-pod-lost", f"{name}: the Job ended, and {state}")
    unmade = events.get(job["metadata"]["uid"], {}).get("FailedCreate")
    if pod is None and unmade:
        return refused_pod(name, unmade.text)
    return hopeless(request, job, pod, events) or unfinished(request, job, pod, events, present.short_of)


def evidence_of(text: str | None) -> dict[str, Any]:
    """Kept evidence, or nothing where it is not evidence."""
    try:
        kept = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def stands(kept: Mapping[str, Any]) -> bool:
    """Whether kept evidence has rungs, and none that counts has failed."""
    rungs = kept.get("rungs")
    return (
        isinstance(rungs, list)
        and bool(rungs)
        and all(isinstance(rung, dict) and not (rung.get("counts") and rung.get("passed") is False) for rung in rungs)
    )


def no_guest(node: str, guest: str, boot_ids: Mapping[str, str]) -> Refusal | None:
    """The refusal of a boot id that is not a guest's: the kernel of this node, or of another, ran the ladder."""
    if ladder.BOOT_ID.fullmatch(guest) and guest not in boot_ids:
        return None
    whose = f"node {boot_ids[guest]}'s own" if guest in boot_ids else "not one of a kernel"
    return refusal(
        "proof-not-a-guest", f"{node}: the boot id {line(guest, 60)!r} is {whose}, so the ladder ran in no guest", "handler"
    )


def not_of_the_pod(
    node: Node, job: Mapping[str, Any], pod: Mapping[str, Any], terminated: Mapping[str, Any], evidence: Mapping[str, Any]
) -> Refusal | None:
    """The refusal of a kernel that ran before the pod was there (`ladder.ran_before`)."""
    age = age_of(job, pod, terminated)
    if age is None or not ladder.ran_before(
        evidence["guestKernel"], (rung["at"] for rung in evidence["rungs"]), node.kernel, age
    ):
        return None
    return refusal(
        "proof-not-a-guest",
        f"{node.name}: the ladder's kernel is of the node's release, {line(node.kernel, 80)}, and ran before the pod was there, "
        f"{age:.0f} s before the ladder's end, so the ladder ran in no guest",
        "handler",
    )


def age_of(job: Mapping[str, Any], pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> float | None:
    """Seconds from a pod's start to the end of its ladder; None where they are not known.

    Both times are of the node's clock. Where it was set meanwhile, as when a node finds its time server, they lie outside of the
    time that the Job took by the control plane's clock, and that time counts.
    """
    began, end = instant(pod.get("status", {}).get("startTime")), instant(terminated.get("finishedAt"))
    if began is None or end is None:
        return None
    about = job.get("status", {})
    start, completed = instant(about.get("startTime")), instant(about.get("completionTime"))
    longest = completed - start if start is not None and completed is not None else None
    if end - began >= 0 and (longest is None or end - began <= longest + CLOCKS):
        return end - began
    return longest


def rebooted(node: str, consequence: str = "so no guest can be told from it") -> Refusal:
    """The refusal of a node that was started again before its report was judged, or made."""
    return refusal("proof-pod-lost", f"{node}: the node was started again while it was proven, {consequence}")


def ended_by_deadline(job: Mapping[str, Any], pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> bool:
    """Whether the end of a container is that of its Job's time: a kubelet sends SIGTERM, and SIGKILL after a while.

    One that ended long before fails the Job by itself, unless another container of the pod runs on.
    """
    late = condition(job, "Failed") or condition(job, "FailureTarget")
    start, end = instant(job.get("status", {}).get("startTime")), instant(terminated.get("finishedAt"))
    deadline = float(job["spec"]["activeDeadlineSeconds"])
    early = start is not None and end is not None and end + behind(pod) < start + deadline - CLOCKS
    return (
        late.get("reason") == "DeadlineExceeded"
        and terminated.get("exitCode") in ENDED_BY_SIGNAL
        and terminated.get("reason") != "OOMKilled"
        and not early
    )


def behind(pod: Mapping[str, Any]) -> float:
    """Seconds by which a node's clock is behind that of the control plane: its kubelet started the pod before the scheduler had
    placed it there. 0 where that does not show."""
    scheduled = instant(condition(pod, "PodScheduled").get("lastTransitionTime"))
    began = instant(pod.get("status", {}).get("startTime"))
    return max(0.0, scheduled - began) if scheduled is not None and began is not None else 0.0


def instant(text: object) -> float | None:
    """Seconds of a time of the cluster (RFC 3339); None for anything else."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None


def containers_of(pod: Mapping[str, Any] | None) -> int:
    """How many containers share what a kubelet keeps of termination messages (pkg/kubelet/status, normalizeStatus)."""
    spec = (pod or {}).get("status", {})
    return sum(len(spec.get(kind) or []) for kind in ("containerStatuses", "initContainerStatuses"))


def of_container(
    request: ProofRequest,
    terminated: Mapping[str, Any],
    node_boot_id: str,
    boot_ids: Mapping[str, str],
    containers: int,
) -> dict[str, Any] | Refusal:
    """What the end of a container, one of so many of its pod, means: its report, judged, or why there is none."""
    name = request.node.name
    message = str(terminated.get("message") or "").encode()[:MAX_MESSAGE].decode(errors="ignore")
    code = terminated.get("exitCode")
    if code == 137 or terminated.get("signal") or terminated.get("reason") == "OOMKilled":
        return killed(name, terminated)
    if code == NO_STATUS:
        why = f"{name}: the guest, or the shim that serves it, ended before the ladder did (exit code {NO_STATUS})"
        return refusal("proof-container-failed", why, "guest")
    if code != 0:
        return refusal(
            "proof-container-failed",
            f"{name}: the container ended with {line(code, 20)} before the ladder did, with the message {line(message)!r}",
            "image",
        )
    if not message:
        why = f"{name}: the ladder ended, and neither its container's termination message nor its log holds the report"
        return refusal("proof-transcript-incomplete", why, "log")
    judged = ladder.judge(
        message,
        request.nonce,
        node_boot_id,
        request.expect,
        sandbox=request.sandbox,
        network=environment(request.template["spec"]["containers"][0]).get("KATA_NODES_NETWORK") == "1",
        place="pod",
    )
    if judged.code == "proof-transcript-incomplete" and len(message.encode()) == MAX_MESSAGES // max(1, containers):
        size = MAX_MESSAGES // containers
        why = f"{name}: the pod has {containers} containers, so the kubelet cut the ladder's report at {size} bytes"
        return refusal(judged.code, why, "containers")
    if judged.code is not None:
        return refusal(judged.code, f"{name}: {judged.message}", remedy=judged.remedy)
    return no_guest(name, judged.boot_id, boot_ids) or {
        "node": name,
        "proven": "pod",
        "userNamespaces": judged.user_namespaces if judged.user_namespaces >= 0 else None,
        "guestKernel": judged.guest_kernel,
        "guestBootId": judged.boot_id,
        "commandLine": judged.command_line,
        "rungs": [rung.as_dict() for rung in judged.rungs],
    }


def ended_from_outside(terminated: Mapping[str, Any]) -> bool:
    """Whether a container was killed, or lost with its guest, as by a reboot of its node, and not for its own memory limit."""
    code = terminated.get("exitCode")
    return terminated.get("reason") != "OOMKilled" and bool(code in (137, NO_STATUS) or terminated.get("signal"))


def killed(node: str, terminated: Mapping[str, Any]) -> Refusal:
    """The container was ended from outside."""
    code, signal, reason = (line(terminated.get(key), 40) for key in ("exitCode", "signal", "reason"))
    how = ", ".join([f"exit code {code}", *([f"signal {signal}"] if signal else []), *([reason] if reason else [])])
    case = "memory" if reason == "OOMKilled" else "killed"
    return refusal("proof-container-failed", f"{node}: the container was killed before the ladder ended ({how})", case)


TURNED_AWAY = {
    "evicted": "the kubelet evicted the pod before it had reported",
    "full": "the kubelet has no room for the pod",
    "rejected": "the kubelet does not start the pod",
}
"""What happened to a pod that a kubelet turned away (`pod_room.turned_away`)."""


def no_room(node: str, pod: Mapping[str, Any], short_of: str) -> Refusal | None:
    """The refusal of a pod that its node has no room for, rejected or evicted; None for every other pod."""
    if away := pod_room.turned_away(pod):
        words, kind = away
        code = "proof-pod-lost" if kind == "evicted" else "proof-pod-unscheduled"
        return refusal(code, f"{node}: {TURNED_AWAY[kind]}: {line(words).rstrip('.')}", kind)
    unscheduled = pod_room.unscheduled(pod)
    if unscheduled is None:
        return None
    own = f"; the node says: {line(short_of, 300).rstrip('.')}" if short_of else ""
    message = f"{node}: the scheduler cannot place a pod on it: {line(unscheduled).rstrip('.')}{own}"
    return refusal("proof-pod-unscheduled", message, pod_room.kind(unscheduled, short_of))


def disrupted(node: str, job: Mapping[str, Any], pod: Mapping[str, Any], terminated: Mapping[str, Any]) -> Refusal | None:
    """The refusal of a pod that was preempted, drained away or ended for a taint, so that its Job failed; else None."""
    words = pod_room.disrupted(pod)
    if not words or not condition(job, "Failed") or why_failed(job) == "DeadlineExceeded" or terminated.get("exitCode") == 0:
        return None
    message = f"{node}: the pod had to leave the node before it had reported: {line(words).rstrip('.')}"
    return refusal("proof-pod-lost", message, "disrupted")


def unfinished(
    request: ProofRequest, job: Mapping[str, Any], pod: Mapping[str, Any] | None, events: Events, short_of: str
) -> Refusal:
    """Why a pod reported nothing: not scheduled, not started, lost, or still running at the end of its time."""
    node = request.node.name
    status = (pod or {}).get("status", {})
    reasons = events.get(str((pod or {}).get("metadata", {}).get("uid")), {})
    if pod is not None and (away := no_room(node, pod, short_of)):
        return away
    if (sandbox := reasons.get("FailedCreatePodSandBox")) and not begun(pod):
        return no_sandbox(node, sandbox.text)
    waiting = waiting_of(pod, request.climbing)
    late = why_failed(job) == "DeadlineExceeded"
    # A sidecar runs on once all of them have begun.
    initialized = pod is not None and condition(pod, "Initialized")
    if pod is not None and not (late and initialized) and (failure := pod_companions.init_failure(pod, late)):
        return refusal("proof-container-failed", f"{node}: {failure}", "container")
    why = str(waiting.get("message") or waiting.get("reason") or "")
    if "Image" in str(waiting.get("reason")):
        return no_image(node, why)
    if why not in STARTING:
        return refusal("proof-container-failed", f"{node}: the container did not start: {line(why)}", "container")
    if not late:
        cause = line(status.get("message") or status.get("reason") or "no event about it", 300)
        return refusal("proof-pod-lost", f"{node}: the pod disappeared before it reported anything ({cause})", "node")
    if short_of.startswith(pod_room.NOT_READY):
        why = line(short_of, 300).rstrip(".")
        return refusal("proof-pod-lost", f"{node}: nothing is heard of the pod any more, and the node says: {why}", "node")
    return timed_out(request, job, pod, reasons)


def timed_out(
    request: ProofRequest, job: Mapping[str, Any], pod: Mapping[str, Any] | None, reasons: Mapping[str, Words]
) -> Refusal:
    """What did not happen while there was time; `reasons` are the events about the pod."""
    case, last = "", None
    if not ended(job) and job["spec"].get("suspend"):
        stopped, case = "its Job is suspended", "suspended"
    elif pod is None:
        stopped = "no pod of its Job is there"
    elif terminated := status_of(pod, request.climbing).get("state", {}).get("terminated"):
        ran = ended_by_deadline(job, pod, terminated)
        stopped = "the ladder did not end in the container" if ran else "the ladder ended, and its Job did not complete"
    elif not ended(job) and pod["metadata"].get("deletionTimestamp"):
        stopped, case = f"its pod {line(pod['metadata'].get('name'), 80)} is being deleted and does not end", "hangs"
    elif pod.get("status", {}).get("phase") == "Running":
        stopped = "the ladder did not end in the container"
    else:
        stopped, last = "the guest did not start", max(reasons.values(), key=lambda words: words.times, default=None)
    seen = f"; the cluster says: {line(last.text, 300).rstrip('.')}" if last else ""
    return refusal("proof-timeout", f"{request.node.name}: the pod did not end in time: {stopped}{seen}", case)


def try_of(
    ask: Callable[[int, str], ProofRequest],
    nodes: Nodes,
    jobs: Mapping[str, Mapping[str, Any]],
    pods: Mapping[str, Mapping[str, Any]],
    before: str | None,
    events: Events | None = None,
) -> ProofRequest:
    """Which try of a node's proof should be on the cluster; `ask` takes its number and the boot id of BOOT_ANNOTATION.

    A Job with the same digest stays while it runs, and once its evidence is accepted. One that ended otherwise, or can no longer
    pass, is replaced by the next try although nothing in the inputs changed.
    """
    first = ask(1, "")
    same = [
        job
        for job in jobs.values()
        if (notes := job["spec"]["template"]["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION) == first.digest
        and notes.get(NODE_ANNOTATION) == first.node.name
        and not job["metadata"].get("deletionTimestamp")
    ]
    if not same:
        return first
    newest = max(same, key=lambda job: attempt_of(job["spec"]["template"]))
    attempt = attempt_of(newest["spec"]["template"])
    request = ask(attempt, str((newest["metadata"].get("annotations") or {}).get(BOOT_ANNOTATION, "")))
    pod = pods.get(newest["metadata"]["uid"])
    if ended(newest):
        failed = isinstance(verdict(request, nodes, newest, pod, before, events), Refusal)
    else:
        failed = hopeless(request, newest, pod, events or {}) is not None
    return ask(attempt + 1, "") if failed else request
