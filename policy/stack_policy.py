"""The rules of the policy pack, for each resource and for the whole stack, applied to what the engine sends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterkit import pod_safety
from clusterkit.runtime_class import HANDLERS
from delivery import login
from nodekit.errors import NodeError
from nodekit.rules.docker import docker_matrix
from nodekit.rules.text import printable
from policy.plain_secrets import Secret, secrets

NODE = "kata-nodes:index:KataNode"
CLUSTER_PROOF = "kata-nodes:index:KataProof"
NODE_GROUP = "kata-nodes:index:AwsNodeGroup"
"""Its machines prove themselves at their first boot, and join no cluster otherwise (aws/first_boot.sh)."""
POD_TEMPLATE = "kata-nodes:index:SandboxPodTemplate"
PROOFS = {NODE: ("-proof", "command:remote:Command"), CLUSTER_PROOF: ("-evidence", "kubernetes:core/v1:ConfigMap")}
"""What proves -> end of the name, and type, of the child that is not made unless the proof has passed."""
REMOTE, COMMANDS = "command:remote:", "command:"
EXPOSED = ("create", "update", "delete", "interpreter", "environment")
"""Inputs of commands that an error repeats, or that every process of the machine may read."""
CLASSES = tuple(sorted(set(HANDLERS.values())))
"""RuntimeClasses that lead into a Kata guest by default: they are named as kata-deploy names the handlers."""

NO_SECRETS = {"kubernetes:external-secrets.io/": "secretKey", "kubernetes:bitnami.com/": "encryptedData"}
"""Beginning of the types of objects that keep secrets out of a stack -> their field that is named as one and holds none: the name
of a key (ExternalSecret, PushSecret), and what only the cluster can decrypt (SealedSecret)."""

_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_UNKNOWN = {
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}


class Unknown:
    """Stands for what a preview cannot know."""


@dataclass(frozen=True)
class Resource:
    """One resource of a whole stack."""

    urn: str
    type: str
    name: str
    parent: str
    """URN of its parent, or nothing."""


Judge = Callable[[str, Mapping[str, Any], Mapping[str, Any]], list[NodeError]]
"""From the type of a resource, its inputs (`values`) and the rule's settings to what is wrong with it."""


def values(sent: object) -> Any:
    """What the engine sends, its marks of secret and unknown values made ours (pulumi, sdk/go/common/resource/properties.go)."""
    if isinstance(sent, Mapping):
        if sent.get(_SIGNATURE) == _SECRET:
            return Secret(values(sent.get("value")))
        return {key: values(below) for key, below in sent.items()}
    if isinstance(sent, list):
        return [values(below) for below in sent]
    return Unknown() if isinstance(sent, str) and sent in _UNKNOWN else sent


def opened(value: object) -> Any:
    """A value without the marks of what is secret."""
    if isinstance(value, Secret):
        return opened(value.value)
    if isinstance(value, Mapping):
        return {key: opened(below) for key, below in value.items()}
    return [opened(below) for below in value] if isinstance(value, list) else value


def pods(kind: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> list[NodeError]:
    """Pods of every kind; `settings` hold `runtimeClasses`, the names of the classes that lead into a Kata guest."""
    if not kind.startswith("kubernetes:"):
        return []
    classes: Sequence[str] = settings["runtimeClasses"]
    return [
        NodeError(error.code, f"{printable(at, 200)}: {error.message}", remedy=error.remedy)
        for at, spec in pod_safety.pod_specs(opened(inputs))
        for error in pod_safety.unsafe(spec, classes)
    ]


def pairs(kind: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> list[NodeError]:
    """The pair of Docker and Kata in the plan of a node or of a group, and in the node program's desired state."""
    plain = opened(inputs)
    if kind in (NODE, NODE_GROUP):
        state, docker = plain.get("plan"), "dockerVersion"
    else:
        state, docker = login.desired_state(plain.get("stdin")) if kind == f"{REMOTE}Command" else None, "version"
        if isinstance(state, Mapping):
            state = state.get("docker", state)  # of `-converge`, which has a state for each of its steps
    pair = [state.get(key) for key in (docker, "kataVersion", "kataRuntime")] if isinstance(state, Mapping) else []
    known = [version for version in pair if isinstance(version, str)]
    if len(known) != 3:
        return []
    try:
        docker_matrix.refuse_if_incompatible(*known)
    except NodeError as error:
        return [error]
    return []


def host_keys(kind: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> list[NodeError]:
    """The host key of every hop of every command and copy over SSH."""
    connection = opened(inputs).get("connection") if kind.startswith(REMOTE) else None
    if not isinstance(connection, Mapping):
        return []
    errors = []
    hops = {"host": connection, "bastion": connection.get("proxy")}
    for host, hop in hops.items():
        if not isinstance(hop, Mapping) or isinstance(hop.get("hostKey"), Unknown):
            continue
        try:
            login.pinned(key if isinstance(key := hop.get("hostKey"), str) else None, host)
        except NodeError as error:
            errors.append(error)
    return errors


def plain_secrets(kind: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> list[NodeError]:
    """Secrets that the engine does not keep encrypted, and those on command lines, which no encryption helps."""
    errors = []
    left_out = next((field for beginning, field in NO_SECRETS.items() if kind.startswith(beginning)), None)
    for key, value in (_without(inputs, left_out) if left_out else inputs).items():
        if kind.startswith(COMMANDS) and key in EXPOSED:
            places = {secret.at: secret.description for secret in secrets(value, key)} | dict.fromkeys(
                _kept(value, key), "a secret"
            )
            errors += [
                NodeError(
                    "secret-on-command-line",
                    f"{printable(at, 200)} holds {words}, and errors and other processes show command lines and environments",
                )
                for at, words in places.items()
            ]
        else:
            errors += [
                NodeError(
                    "secret-in-plain",
                    f"{printable(secret.at, 200)} holds {secret.description} in plain, "
                    "which lies in the stack's state and previews",
                )
                for secret in secrets(value, key, key)
                if not secret.kept
            ]
    return errors


def _without(value: Any, left_out: str) -> Any:
    """A value without the fields of a name, wherever they are."""
    if isinstance(value, Secret):
        return Secret(_without(value.value, left_out))
    if isinstance(value, Mapping):
        return {key: _without(below, left_out) for key, below in value.items() if key != left_out}
    return [_without(below, left_out) for below in value] if isinstance(value, list) else value


def _kept(value: object, at: str) -> list[str]:
    """Places of what the engine keeps encrypted: where somebody called it a secret, it is one, whatever its form."""
    if isinstance(value, Secret):
        return [at]
    if isinstance(value, Mapping):
        return [place for key, below in value.items() for place in _kept(below, f"{at}.{key}")]
    if isinstance(value, list):
        return [place for index, below in enumerate(value) for place in _kept(below, f"{at}[{index}]")]
    return []


def proofs(resources: Sequence[Resource]) -> list[tuple[str, NodeError]]:
    """Nodes and pod templates that nothing proves, by URN."""
    children = {(resource.parent, resource.name, resource.type) for resource in resources}
    errors = []
    for resource in resources:
        if resource.type in PROOFS:
            ending, kind = PROOFS[resource.type]
            if (resource.urn, f"{resource.name}{ending}", kind) not in children:
                errors.append(
                    (resource.urn, _unproven(f"{resource.name} is in the stack without {resource.name}{ending}, which proves it"))
                )
    if not any(resource.type in (NODE, NODE_GROUP, CLUSTER_PROOF) for resource in resources):
        problem = "is a pod template, and the stack proves neither node nor cluster"
        errors += [
            (resource.urn, _unproven(f"{resource.name} {problem}")) for resource in resources if resource.type == POD_TEMPLATE
        ]
    return errors


def _unproven(problem: str) -> NodeError:
    return NodeError("proof-missing", problem)
