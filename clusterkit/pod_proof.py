"""The proof in a pod, as it is asked for: which nodes, and one Job for each; pod_verdict.py judges the result."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from clusterkit import pod, pod_room, pod_safety
from clusterkit.runtime_class import TAINT
from nodekit.errors import NodeError
from nodekit.rules.kata.kernel_params import Parameter
from nodekit.rules.node_state import SEED_PARAMETER, promised
from nodekit.rules.proof.ladder import JUDGE_VERSION, VARIABLES

OF_THE_TEMPLATE = ("KATA_NODES_NETWORK", "KATA_NODES_NAME", "KATA_NODES_SECONDS")
"""Variables of the ladder that a template can set for its proof: it looks for an address and a route too (1), resolves a name,
and gives each command another number of seconds."""
PROOF_LABEL = "kata-nodes/proof"
"""Label of Jobs and pods: which proof they belong to."""
NODE_ANNOTATION = "kata-nodes/node"
DIGEST_ANNOTATION = "kata-nodes/verified"
"""Digest over what the proof vouches for; in the pod template, which is immutable, so that another one is another Job."""
ATTEMPT_ANNOTATION = "kata-nodes/attempt"
"""Which try a Job is; in the pod template as well, so that another try is another Job."""
BOOT_ANNOTATION = "kata-nodes/boot-id"
"""On a Job: boot id of the node's own kernel when the Job was asked for, so that a reboot before the verdict hides nothing."""
PROVEN_AGAIN_BY = ("handler", "kata_version", "kernel_params", "nested_sandbox", "sandbox", "image")
"""Settings of a proof that prove every node again when they change, beside the pod template and the ladder."""
OF_THE_PROGRAM = (
    "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "envFrom",
    "restartPolicy", "restartPolicyRules", "stdin", "stdinOnce", "tty",
)  # fmt: skip
"""Fields of the template's container that are for its own program: a kubelet ends a container that does not answer, and starts
one again whose own policy says so (from 1.35 on)."""
OF_THE_PROGRAMS_POD = ("activeDeadlineSeconds", "schedulingGates", "terminationGracePeriodSeconds")
"""Fields of the template that bound and hold its program's pods: a proof has its own bound, no controller that lets it go, and
nothing to save at its end, which its Job waits for (`joining.GRACE`)."""
OF_THE_PLACE = ("nodeName", "affinity", "topologySpreadConstraints")
"""Fields of the template that choose its pods' nodes among several: a proof is of every one."""
FROM_OBJECTS = ("configMapKeyRef", "secretKeyRef")
"""Where a variable can come from that the program's namespace has and the proof's has not, or has from a tenant."""
MESSAGE_FILE = "/dev/termination-log"
"""Where a container writes its last words; every container's default (kubernetes.io, Determine the Reason for Pod Failure)."""


@dataclass(frozen=True)
class Node:
    """A node as the API server knows it."""

    name: str
    uid: str
    """Another one when another machine registered under the same name."""
    boot_id: str
    """Boot id of its own kernel, as its kubelet reports it (Node.status.nodeInfo.bootID)."""
    short_of: str = ""
    """What it lacks to take pods, as `pod_room.held` says it."""
    kernel: str = ""
    """Release of its own kernel (Node.status.nodeInfo.kernelVersion)."""


class Nodes:
    """All nodes of a cluster as they are now. Every proof is judged against all of them, and a cluster may have thousands."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.by_name: dict[str, Node] = {}
        self.by_boot_id: dict[str, str] = {}
        """Boot id of a node's own kernel -> its name."""
        self._reporting: dict[str, set[str]] = {}
        """Boot id -> the names of all nodes that report it."""
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """A node as it is now, in place of what was known under its name."""
        before = self.by_name.get(node.name)
        self.by_name[node.name] = node
        self.by_boot_id[node.boot_id] = node.name
        self._reporting.setdefault(node.boot_id, set()).add(node.name)
        if before and before.boot_id != node.boot_id:
            self._leave(before)

    def remove(self, name: str) -> None:
        """A node that is gone."""
        self._leave(self.by_name.pop(name))

    def _leave(self, node: Node) -> None:
        """A node no longer has its boot id; where another one reports the same, it is that one's."""
        names = self._reporting[node.boot_id]
        names.discard(node.name)
        if names:
            self.by_boot_id[node.boot_id] = next(iter(names))
        else:
            del self._reporting[node.boot_id], self.by_boot_id[node.boot_id]


def chosen(nodes: Sequence[Node], names: Sequence[str], selector: str | None) -> list[Node]:
    """The named nodes of `nodes`, or all of it when a selector chose it, in name order.

    Raises NodeError `cluster-node-unknown` for a name that is not there, for neither names nor a selector, and for a node that
    reports no boot id, since its own kernel could not be distinguished from a guest.
    """
    lacking = sorted(set(names) - {node.name for node in nodes})
    if lacking or not (names or selector):
        raise NodeError(
            "cluster-node-unknown", f"the cluster has no node named {', '.join(lacking)}" if lacking else "no node is named"
        )
    mute = sorted(node.name for node in nodes if not node.boot_id and (selector or node.name in names))
    if mute:
        raise NodeError("cluster-node-unknown", f"{', '.join(mute)} reported no boot id to the cluster", "boot-id")
    return sorted((node for node in nodes if selector or node.name in names), key=lambda node: node.name)


def node_of(document: Mapping[str, Any]) -> Node:
    """From a core/v1 Node."""
    about = document.get("status", {}).get("nodeInfo", {})
    return Node(
        document["metadata"]["name"],
        document["metadata"]["uid"],
        str(about.get("bootID", "")),
        pod_room.held(document),
        str(about.get("kernelVersion", "")),
    )


def digest(*verified: object) -> str:
    """What a proof vouches for, as 64 hexadecimal digits; `verified` holds everything that must prove a node again."""
    return hashlib.sha256(json.dumps(verified, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=4)
def shared(pod_template: str, ladder: str, again: str) -> tuple[Mapping[str, Any], str]:
    """What is the same for all nodes of a proof: its safe template (`pod_safety.safe`), and a digest of its settings.

    Kept, since the controller asks for it at every change of a node. Nobody may change the template.
    """
    template = pod_safety.safe(json.loads(pod_template))
    return template, digest(template, ladder, again, JUDGE_VERSION)


@dataclass(frozen=True)
class ProofRequest:
    """The proof of one node: the Job that is asked for, and by what its pod's report is judged."""

    node: Node
    body: Mapping[str, Any]
    """Metadata and spec of the Job (batch/v1)."""
    expect: tuple[str, ...]
    """Parameters that the guest's command line must have."""
    sandbox: str | None
    """Which sandbox is promised to work in the guest (`sandboxes.SANDBOXES`), or None."""

    @property
    def template(self) -> Mapping[str, Any]:
        """The Job's pod template."""
        template: Mapping[str, Any] = self.body["spec"]["template"]
        return template

    @property
    def climbing(self) -> str:
        """Name of the container in which the ladder is climbed."""
        return str(self.template["spec"]["containers"][0]["name"])

    @property
    def digest(self) -> str:
        """What the Job vouches for."""
        return str(self.template["metadata"]["annotations"][DIGEST_ANNOTATION])

    @property
    def nonce(self) -> str:
        """What starts every line of the pod's report."""
        return nonce(self.digest, attempt_of(self.template))


def ask(
    proof: str, node: Node, settings: Mapping[str, Any], ladder: str, account: str, attempt: int = 1, boot_id: str = ""
) -> ProofRequest:
    """The proof of `node`.

    `settings`: `pod_template` (JSON of a core/v1 PodTemplateSpec), what PROVEN_AGAIN_BY names, and `timeout_seconds`; `ladder` is
    the text of ladder.sh, `account` the pod's service account, and `boot_id` what BOOT_ANNOTATION says, by default the node's
    present one. Raises NodeError for a template that `pod_safety.safe` refuses, and for a sandbox that `promised` does.
    """
    again = json.dumps({key: settings.get(key) for key in PROVEN_AGAIN_BY}, sort_keys=True)
    template, of_all = shared(settings["pod_template"], ladder, again)
    vouched = digest(node.name, node.uid, of_all)
    body = job(
        proof,
        node.name,
        vouched,
        template,
        ladder=ladder,
        account=account,
        image=settings.get("image"),
        expect=settings["kernel_params"],
        timeout_seconds=int(settings["timeout_seconds"]),
        attempt=attempt,
        boot_id=boot_id or node.boot_id,
    )
    sandbox = promised(settings.get("sandbox"), bool(settings["nested_sandbox"]))
    return ProofRequest(node, body, tuple(settings["kernel_params"]), sandbox)


def nonce(vouched: str, attempt: int) -> str:
    """Starts the lines of one Job's pod. Each try has its own, so the report of an earlier try never counts for this one."""
    return hashlib.sha256(f"{vouched} {attempt}".encode()).hexdigest()[:16]


def attempt_of(described: Mapping[str, Any]) -> int:
    """Which try a Job, a pod or a pod template is, by its annotation; 1 where that is not a number."""
    text = str((described["metadata"].get("annotations") or {}).get(ATTEMPT_ANNOTATION, ""))
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 1


def key_pattern(token: str) -> str:
    """A shell's pattern of the names that the kernel takes for this one's (`Parameter.key`), in text that ladder.sh escaped."""
    name = Parameter(token).name
    alike = "./" if name.startswith(("sysctl.", "sysctl/")) else "-_"
    patterns = {**dict.fromkeys("*?[]\\", "?"), **dict.fromkeys(alike, f"[{alike}]")}
    return "".join(patterns.get(character) or quote(character, safe="!\"#$&'()+,-./:;<=>@^_`{|}~") for character in name)


def job_name(proof: str, node: str) -> str:
    """The Job's Pulumi name. The plugin adds a hyphen and eight characters, and 63 is the bound of a name that is a label too."""
    whole = f"{proof}-{node}"
    return whole if len(whole) <= 54 else f"{whole[:43].rstrip('-.')}-{hashlib.sha256(whole.encode()).hexdigest()[:10]}"


def job(
    proof: str,
    node: str,
    vouched: str,
    template: Mapping[str, Any],
    *,
    ladder: str,
    account: str,
    image: str | None,
    expect: Sequence[str],
    timeout_seconds: int,
    attempt: int,
    boot_id: str,
) -> dict[str, Any]:
    """Metadata and spec of the Job (batch/v1) that proves one node with the pod of `template` (core/v1 PodTemplateSpec).

    The pod keeps the template's class, capabilities, user and resources, so that scheduler, overhead and RuntimeClass are part
    of the proof, the annotations, by which Kata makes the guest, and the entry through which its container starts. The ladder
    runs instead of the container's own program, and without OF_THE_PROGRAM. It is an argument: nothing that a tenant could write
    is read, and the Go shim loses the output of a container that reads its standard input (kata-containers 13640). It only
    reports, so that the Job completes whatever it finds. The pod is pinned by affinity, not by `nodeName`, which would bypass
    the scheduler; the taint of a node that waits for its proof is tolerated. The Job has no name, so the plugin chooses a new one
    each time: server-side apply would take over an old Job of a fixed name together with its result.
    """
    labels = {PROOF_LABEL: proof}
    notes = {NODE_ANNOTATION: node, DIGEST_ANNOTATION: vouched, ATTEMPT_ANNOTATION: str(attempt)}
    spec = {key: value for key, value in template["spec"].items() if key not in (*OF_THE_PROGRAMS_POD, *OF_THE_PLACE)}
    about = template.get("metadata") or {}
    pinned = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    first = spec["containers"][0]
    climbing = ["/bin/sh", "-c", ladder]
    started = {"args": [*pod.entry_options(first), *climbing]} if pod.enters(first) else {"command": climbing, "args": []}
    theirs = {variable["name"]: variable.get("value") for variable in first.get("env") or []}
    ours = {
        "KATA_NODES_NONCE": nonce(vouched, attempt),
        **dict.fromkeys(VARIABLES, ""),
        **{name: str(theirs[name]) for name in OF_THE_TEMPLATE if theirs.get(name)},
        "KATA_NODES_MESSAGE": MESSAGE_FILE,
        # What the report keeps of the command line: the checklist always has a row for the seed document's parameter.
        "KATA_NODES_KEYS": " ".join(dict.fromkeys(map(key_pattern, [*expect, SEED_PARAMETER]))),
    }
    container = {
        **{key: value for key, value in first.items() if key not in OF_THE_PROGRAM},
        **started,
        "terminationMessagePath": MESSAGE_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [
            *(variable for variable in first.get("env") or [] if variable["name"] not in ours and not of_an_object(variable)),
            *({"name": name, "value": value} for name, value in ours.items()),
        ],
    }
    if image:
        container["image"] = image
    spec |= {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [pinned]}}},
        "tolerations": [*(spec.get("tolerations") or []), {"key": TAINT, "operator": "Exists"}],
        "containers": [container],
    }
    return {
        "metadata": {"labels": labels, "annotations": {**notes, BOOT_ANNOTATION: boot_id}},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": timeout_seconds,
            "template": {
                "metadata": {
                    "labels": {**(about.get("labels") or {}), **labels},
                    "annotations": {**(about.get("annotations") or {}), **notes},
                },
                "spec": spec,
            },
        },
    }


def of_an_object(variable: Mapping[str, Any]) -> bool:
    """Whether a container's variable has its value from a ConfigMap or a Secret."""
    return any((variable.get("valueFrom") or {}).get(kind) for kind in FROM_OBJECTS)


NODES_OF_MAP = 150
"""Nodes whose evidence one ConfigMap of `up`'s proof holds: it has 1 MiB, and a node's evidence is some 3 KB, never above
6 KiB."""

MOST_MAPS = 100
"""ConfigMaps of a proof at most: their numbers have two digits, which the guard keeps from tenants (`proof_guard.MAPS`)."""


def evidence_name(proof: str, number: int = 0) -> str:
    """Name of a ConfigMap with what was measured, which outlives the pods; `number` counts those of a proof of many nodes."""
    return f"{proof}-evidence-{number:02d}" if number else f"{proof}-evidence"


def evidence_numbers(nodes: int) -> range:
    """Numbers of the ConfigMaps for so many nodes; there is always the first."""
    return range(max(1, -(-nodes // NODES_OF_MAP)))


def evidence_data(by_node: Mapping[str, Any], number: int) -> dict[str, str]:
    """Data of such a ConfigMap: its share of the evidence in name order, as JSON."""
    names = sorted(by_node)[number * NODES_OF_MAP : (number + 1) * NODES_OF_MAP]
    return {node: json.dumps(by_node[node], sort_keys=True) for node in names}


EVIDENCE_MAPS = 64
"""ConfigMaps that the evidence of joining nodes, which come one by one, is spread over: room for 15,000 nodes, and for 5,000 at
the worst."""


def evidence_maps(proof: str) -> list[str]:
    """Names of these ConfigMaps."""
    return [f"{evidence_name(proof)}-{number:02d}" for number in range(EVIDENCE_MAPS)]


def evidence_map(proof: str, node: str) -> str:
    """Which of them a node's evidence is in."""
    return evidence_maps(proof)[hashlib.sha256(node.encode()).digest()[0] % EVIDENCE_MAPS]
