"""The proof in a pod: one Job a node, what its pod is told, what it says, and what the end of the Job means."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nodekit.errors import CODES, NodeError
from nodekit.rules import pod_safety
from nodekit.rules.kernel_params import LIMIT
from nodekit.rules.ladder import CHILD_NAMESPACE, SANDBOX, TITLES, judge
from nodekit.rules.text import printable

PROOF_LABEL = "kata-nodes/proof"
"""Label of Jobs and pods: which proof they belong to."""
NODE_ANNOTATION = "kata-nodes/node"
DIGEST_ANNOTATION = "kata-nodes/verified"
"""Digest over what the proof vouches for; in the pod template, which is immutable, so that another one is another Job."""
TAINT = "kata-nodes/unproven"
"""Key of the taint of a node that joined and is not proven yet. The proof's pods tolerate it, and others should not."""
PROVEN_AGAIN_BY = ("handler", "kata_version", "kernel_params", "nested_sandbox", "image")
"""Settings of a proof that prove every node anew when they change, beside the pod template and the scripts."""
PLACE = "/kata-nodes"
"""Where the pod finds its scripts."""
MAX_MESSAGE = 4096
"""Bytes of a termination message that the kubelet keeps (kubernetes.io, Determine the Reason for Pod Failure)."""

_CODE = re.compile(r"\[([a-z-]+)\]$")
_PROVEN = re.compile(
    r"(\S+): proven: max_user_namespaces (\S+), guest kernel (.*), boot id (\S*); "
    r"passed: (.*); not tried: (.*); failed without counting: (.*)"
)


@dataclass(frozen=True)
class Node:
    """A node as the API server knows it."""

    name: str
    uid: str
    """Another one when a machine registered anew under the same name."""
    boot_id: str
    """Boot id of its own kernel, as its kubelet reports it (Node.status.nodeInfo.bootID)."""


def chosen(found: Sequence[Node], names: Sequence[str], selector: str | None) -> list[Node]:
    """The named nodes of `found`, or all of it when a selector chose it, in name order.

    Raises NodeError `cluster-node-unknown` for a name that is not there, for none at all, and for a node that tells no boot id,
    since its own kernel could not be told from a guest.
    """
    if not found and selector:
        raise NodeError(
            "cluster-node-unknown",
            f"no node has the labels {selector}",
            "Correct the selector, or label the nodes: kubectl label node",
        )
    lacking = sorted(set(names) - {node.name for node in found})
    if lacking or not (names or selector):
        raise NodeError(
            "cluster-node-unknown",
            f"the cluster has no node named {', '.join(lacking)}" if lacking else "no node is named",
            "Name nodes as kubectl get nodes does",
        )
    mute = sorted(node.name for node in found if not node.boot_id and (selector or node.name in names))
    if mute:
        raise NodeError(
            "cluster-node-unknown",
            f"{', '.join(mute)} told the cluster no boot id",
            "Start the kubelet there; without the boot id a guest cannot be told from the node's own kernel",
        )
    return sorted((node for node in found if selector or node.name in names), key=lambda node: node.name)


def node_of(found: Mapping[str, Any]) -> Node:
    """From a core/v1 Node."""
    about = found.get("status", {}).get("nodeInfo", {})
    return Node(found["metadata"]["name"], found["metadata"]["uid"], str(about.get("bootID", "")))


def digest(node: str, uid: str, verified: Mapping[str, object]) -> str:
    """What one node's proof vouches for, as 64 hexadecimal digits; `verified` holds everything that must prove it again."""
    text = json.dumps([node, uid, verified], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def scripts_digest(scripts: Mapping[str, str]) -> str:
    """Stands for what the pods run: the scripts `ladder.sh` and `pod_proof.sh`, and the verdicts."""
    return hashlib.sha256(json.dumps([dict(scripts), verdicts()]).encode()).hexdigest()


def node_job(proof: str, node: Node, given: Mapping[str, Any], scripts: str) -> dict[str, Any]:
    """Metadata and spec of the Job that proves `node`, with the digest of all that it vouches for.

    `given`: `pod_template` (JSON of a core/v1 PodTemplateSpec), what PROVEN_AGAIN_BY names, and `timeout_seconds`; `scripts`
    is their `scripts_digest`. Raises NodeError for a template that `pod_safety.safe` refuses.
    """
    template = pod_safety.safe(json.loads(given["pod_template"]))
    verified = {"template": template, "files": scripts, **{key: given.get(key) for key in PROVEN_AGAIN_BY}}
    return job(
        proof,
        node.name,
        digest(node.name, node.uid, verified),
        template,
        files=files_name(proof),
        image=given.get("image"),
        expect=given["kernel_params"],
        nested_sandbox=bool(given["nested_sandbox"]),
        timeout_seconds=int(given["timeout_seconds"]),
    )


def escaped(token: str) -> str:
    """As ladder.sh escapes."""
    return quote(token, safe="!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")


def job_name(proof: str, node: str) -> str:
    """The Job's Pulumi name. The plugin adds a hyphen and eight characters, and 63 is the bound of a name that is a label too."""
    whole = f"{proof}-{node}"
    return whole if len(whole) <= 54 else f"{whole[:43].rstrip('-.')}-{hashlib.sha256(whole.encode()).hexdigest()[:10]}"


def job(
    proof: str,
    node: str,
    verified: str,
    template: Mapping[str, Any],
    *,
    files: str,
    image: str | None,
    expect: Sequence[str],
    nested_sandbox: bool,
    timeout_seconds: int,
) -> dict[str, Any]:
    """Metadata and spec of the Job (batch/v1) that proves one node with the pod of `template` (core/v1 PodTemplateSpec).

    The pod keeps the template's class, capabilities, user and resources, so that scheduler, overhead and RuntimeClass play
    their part; its first container runs the ladder instead of its own program. Pinned by affinity and not by `nodeName`,
    which would pass the scheduler by; the taint of a node that waits for its proof is tolerated. No name is given, so that
    the plugin chooses a new one each time: a Job of a fixed name that was left over from before would be taken over by
    server-side apply, and its old result with it.
    """
    labels = {PROOF_LABEL: proof}
    notes = {NODE_ANNOTATION: node, DIGEST_ANNOTATION: verified}
    spec = deepcopy(dict(template["spec"]))
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    container = {
        **spec["containers"][0],
        "command": ["/bin/sh", f"{PLACE}/pod_proof.sh"],
        "args": [],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [
            {"name": "KATA_NODES_NODE", "value": node},
            {"name": "KATA_NODES_EXPECT", "value": " ".join(map(escaped, expect))},
            {"name": "KATA_NODES_NESTED", "value": "1" if nested_sandbox else "0"},
        ],
        "volumeMounts": [
            *spec["containers"][0].get("volumeMounts", []),
            {"name": "kata-nodes-proof", "mountPath": PLACE, "readOnly": True},
        ],
    }
    if image:
        container["image"] = image
    items = [*({"key": name, "path": name} for name in FILES), {"key": boot_id_key(node), "path": "node-boot-id"}]
    spec |= {
        "restartPolicy": "Never",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned]}}},
        "tolerations": [*spec.get("tolerations", []), {"key": TAINT, "operator": "Exists"}],
        "containers": [container],
        "volumes": [*spec.get("volumes", []), {"name": "kata-nodes-proof", "configMap": {"name": files, "items": items}}],
    }
    return {
        "metadata": {
            "labels": labels,
            "annotations": {
                **notes,
                # The proof waits for all Jobs itself, see KataProof; one that did not pass is made anew by the next `up`.
                "pulumi.com/skipAwait": "true",
                "pulumi.com/replaceUnready": "true",
            },
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": timeout_seconds,
            "template": {
                "metadata": {"labels": {**template.get("metadata", {}).get("labels", {}), **labels}, "annotations": notes},
                "spec": spec,
            },
        },
    }


FILES = ("ladder.sh", "pod_proof.sh", "verdicts")
"""Keys of the ConfigMap that every pod of the proof gets."""


def files_name(proof: str) -> str:
    """Name of the ConfigMap with what the pods run."""
    return f"{proof}-files"


def evidence_name(proof: str) -> str:
    """Name of the ConfigMap with what was measured, which outlives the pods."""
    return f"{proof}-evidence"


def boot_id_key(node: str) -> str:
    """Key of the ConfigMap that holds a node's boot id. Not part of the Job, so that a reboot alone proves nothing again."""
    return f"boot-id.{node}"


def config_map(scripts: Mapping[str, str], nodes: Sequence[Node]) -> dict[str, str]:
    """Data of the ConfigMap: the scripts `ladder.sh` and `pod_proof.sh`, the verdicts, and every node's boot id."""
    return {**scripts, "verdicts": verdicts(), **{boot_id_key(node.name): node.boot_id for node in nodes}}


def verdicts() -> str:
    """The findings of the ladder's judge for pod_proof.sh, so that both say the same: key, code, title, cause, remedy.

    Each is what the judge says of a ladder that met just this; "@" in a cause stands for what the pod saw.
    """
    limit = f"rung=command-line status=ok value={LIMIT}=0 detail="
    met = {
        "boot-id/node": "status=ok value=node detail=",
        "boot-id/unread": "status=ok value= detail=",
        "command-line/lacks": "status=ok value= detail=",
        "user-namespaces/absent": "status=absent value= detail=",
        "user-namespaces/unreadable": "status=fail value= detail=",
        "user-namespaces/not-a-number": "status=ok value= detail=",
        "user-namespaces/child": f"status=ok value={CHILD_NAMESPACE} detail=",
        "user-namespaces/hardened": "status=ok value=0 detail=",
        "user-namespaces/set": "status=ok value=0 detail=",
        "unshare/absent": "status=absent value= detail=",
    }
    words = {"spent": "ENOSPC", "forbidden": "Permission%20denied", "lacking": "not%20implemented", "other": ""}
    met |= {f"{rung}/{why}": f"status=fail value=1 detail={said}" for rung in SANDBOX[1:] for why, said in words.items()}
    rows = []
    for key, line in met.items():
        rung = key.split("/")[0]
        before = f"n {limit}\n" if key == "user-namespaces/set" else ""
        expected = ["@"] if rung == "command-line" else []
        said = judge(f"{before}n rung={rung} {line}\nn end", "n", "node", expected)
        cause = said.rungs[-1].cause
        if before:
            cause = cause.replace(f"{LIMIT}=0", "@", 1)
        # The judge's own remedy speaks of the node's busybox, which goes into the proof's guest there.
        remedy = (
            "Name a proof image that has unshare, of util-linux or busybox" if key == "unshare/absent" else said.rungs[-1].remedy
        )
        rows.append((key, said.code, TITLES[rung], cause, remedy))
    cause = "the ladder was started and its transcript @; lines read: @"
    remedy = "Run again; when it stays so, look at the guest's memory and at the runtime's log on the node"
    rows.append(("transcript/incomplete", "proof-transcript-incomplete", "the transcript", cause, remedy))
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


@dataclass(frozen=True)
class Refusal:
    """Why one node is not proven: a key of `CODES`, and one line with node, reading, cause and remedy."""

    code: str
    sentence: str


def evidence(message: str) -> dict[str, Any] | None:
    """What the termination message of a passed proof says, or None when it is none."""
    match = _PROVEN.fullmatch(message.strip())
    if match is None:
        return None
    node, reading, kernel, boot_id, *lists = (printable(part) for part in match.groups())
    named = [[name for name in text.split(", ") if name != "none"] for text in lists]
    rungs = [{"name": name, "passed": passed} for passed, names in zip((True, None, False), named, strict=True) for name in names]
    return {
        "node": node,
        "proven": "pod",
        "userNamespaces": int(reading) if re.fullmatch("[0-9]{1,10}", reading) else None,
        "guestKernel": kernel,
        "guestBootId": boot_id,
        "rungs": rungs,
    }


def condition(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of an object that holds, or an empty one."""
    return next(
        (one for one in found.get("status", {}).get("conditions") or [] if one["type"] == kind and one["status"] == "True"), {}
    )


def ended(found: Mapping[str, Any]) -> bool:
    """Whether a Job has passed or failed for good."""
    return bool(condition(found, "Complete") or condition(found, "Failed"))


def termination(pod: Mapping[str, Any] | None) -> str:
    """The termination message of a pod's first container, in one line."""
    statuses = ((pod or {}).get("status", {}).get("containerStatuses") or [{}])[0]
    said = statuses.get("state", {}).get("terminated", {}).get("message") or ""
    return printable(" ".join(said.split()), MAX_MESSAGE)


@dataclass(frozen=True)
class Unmade:
    """Why the Job controller could not make a pod, by the events that it leaves on the Job."""

    times: int
    why: str

    @property
    def lasting(self) -> bool:
        """Whether trying on is in vain. Once alone can be the moment before a namespace or policy is known everywhere."""
        return self.times > 1 and any(word in self.why for word in ("PodSecurity", "ValidatingAdmissionPolicy"))


def unmade(events: Sequence[Mapping[str, Any]]) -> dict[str, Unmade]:
    """By the uid of the Job: what its FailedCreate events (core/v1 Event) say, the last one's words."""
    found: dict[str, Unmade] = {}
    for event in sorted(events, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or "")):
        uid = str(event["involvedObject"].get("uid"))
        times = int(event.get("count") or 1) + (found[uid].times if uid in found else 0)
        found[uid] = Unmade(times, printable(" ".join(str(event.get("message", "")).split()), 900))
    return found


def verdict(
    node: str,
    found: Mapping[str, Any] | None,
    pod: Mapping[str, Any] | None,
    before: str | None,
    unmade: Unmade | None = None,
) -> dict[str, Any] | Refusal:
    """What a Job and the last that was seen of its pod mean: evidence, or the refusal.

    A Job that completed is believed only with what its pod said, which names the node and says `proven`; `before` is the
    evidence of the last proof (JSON), which stands for a pod that is gone when it is of the same Job; `unmade` says why there
    never was a pod.
    """
    said = termination(pod)
    kept = json.loads(before) if before else {}
    if found and condition(found, "Complete"):
        proven = evidence(said)
        if proven and proven["node"] == node:
            return {**proven, "job": found["metadata"]["uid"]}
        if pod is None and kept.get("job") == found["metadata"]["uid"]:
            return dict(kept)
        what = f"its pod said {said!r}" if pod else "its pod is gone and with it what it said"
        return refusal(
            "proof-pod-lost",
            f"{node}: the Job passed, and {what}",
            "Delete the Job; where pulumi up made it, run pulumi refresh, then pulumi up",
        )
    if found is None:
        return refusal("proof-pod-lost", f"{node}: the Job is gone from the cluster", "Run pulumi refresh, then pulumi up")
    match = _CODE.search(said)
    if match and match[1] in CODES:
        return Refusal(match[1], said if said.startswith(f"{node}: ") else f"{node}: {said}")
    if said:
        return refusal(
            "proof-container-failed",
            f"{node}: the container ended before the ladder and said {said[:600]!r}",
            "Name a proof image that has /bin/sh, and look at the runtime's log on the node",
        )
    if pod is None and unmade:
        return refused_pod(node, unmade.why)
    return unfinished(node, condition(found, "Failed").get("reason", ""), pod)


PASSED_BY = {
    "PodSecurity": "Label the namespace pod-security.kubernetes.io/enforce=privileged (SandboxNamespace does), or use the "
    "template for an ordinary user, which needs no capability",
    "ValidatingAdmissionPolicy": "Do what the rule says; the sandbox guard admits the capabilities under its own RuntimeClasses",
    "RuntimeClass": "Make the RuntimeClass, or name one that is there",
    "quota": "Raise the namespace's quota: each node's proof is a pod with the template's requests and the class's overhead",
}
"""A word of the API server's refusal of a pod -> the way past it."""


def refused_pod(node: str, why: str) -> Refusal:
    """The API server makes no pod for the Job."""
    remedy = next((way for word, way in PASSED_BY.items() if word in why), "Mend what it names, then run again")
    return refusal("proof-pod-refused", f"{node}: the cluster refuses the proof's pod: {why.rstrip('.')}", remedy)


def unfinished(node: str, reason: str, pod: Mapping[str, Any] | None) -> Refusal:
    """Why a pod said nothing: not scheduled, not started, lost, or still at it at the end of its time."""
    status = (pod or {}).get("status", {})
    unscheduled = next(
        (one for one in status.get("conditions") or [] if one["type"] == "PodScheduled" and one["status"] == "False"), None
    )
    waiting = ((status.get("containerStatuses") or [{}])[0]).get("state", {}).get("waiting")
    if unscheduled:
        why = printable(" ".join(str(unscheduled.get("message", "")).split()), 600)
        return refusal(
            "proof-timeout",
            f"{node}: the scheduler found no room for the pod: {why}",
            "Give the node the labels that the RuntimeClass asks for and room for the pod with its overhead, or leave it out",
        )
    if waiting and (told := waiting.get("message") or waiting.get("reason", "")) != "ContainerCreating":
        return refusal(
            "proof-container-failed",
            f"{node}: the container did not start: {printable(' '.join(told.split()), 600)}",
            "Make the image one that the node can pull, and the handler of the RuntimeClass one that its containerd knows",
        )
    if reason != "DeadlineExceeded":
        cause = printable(str(status.get("message") or status.get("reason") or "no word of it"), 300)
        return refusal(
            "proof-pod-lost",
            f"{node}: the pod was gone before it had said anything ({cause})",
            "Look whether the node still is, and is Ready; then run again",
        )
    where = "the ladder hung in the container" if status.get("phase") == "Running" else "the guest did not start"
    return refusal(
        "proof-timeout",
        f"{node}: the pod did not end in the time it was given: {where}",
        "Look at the runtime's log on the node, and raise the proof's timeoutSeconds only when the node is merely slow",
    )


def refusal(code: str, message: str, remedy: str) -> Refusal:
    """With the sentence in the form of every error of this project."""
    return Refusal(code, f"{message}. {remedy}. [{code}]")
