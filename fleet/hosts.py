"""The nodes of a stack as its state has them: how each is reached, what was done with it, and what its proof read."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from delivery import login, results
from fleet.errors import FleetError
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.difference import Difference
from nodekit.rules.node_state import CompareState, DockerState, KataState
from review.documents import SIGNATURE, SIGNED_SECRET

NODE = "kata-nodes:index:KataNode"
STACK = "pulumi:pulumi:Stack"
VERBS = ("docker", "kata")
LAST = ("proof", "converge")
"""Resources that other ones can replace."""
EARLIER = {"program", "preflight", *VERBS}
"""Resources that a node had until 2026-11-29 instead of `converge`."""
NOT_IN_DIGEST = ("hypervisor", "runtime", "sandbox")
"""Settings that a recorded proof has beside its digest, which is over what was done before the proof."""
NOT_UPGRADED = "its state is of another version of this program: the last `pulumi up` with this one did not come to it"
"""What differs on a node that an upgrade of its stack has left out, as where it could not be reached."""


class OtherVersion(FleetError):
    """What another version of this program has written of a node, which this one does not read."""


@dataclass(frozen=True)
class Host:
    """One node of a stack."""

    name: str
    """Of its machine; where several nodes of the stack have it, that of its resource, which tells them apart."""
    connection: Mapping[str, Any] = field(repr=False)
    """The input `connection` of its commands; empty where the stack has none of them."""
    sudo_password: str | None = field(repr=False)
    state: CompareState
    """What the stack has done with it."""
    evidence: Mapping[str, Any] | None
    """What the last proof in the state read."""
    proven: str | None
    """When that proof ended, as the state has it; None where it has no time, as older engines wrote none."""
    promises: tuple[str, ...]
    """Digests of the proof in the state, and of the settings that the stack has put on the node. They differ where the last run
    ended before the proof. A recorded proof with another digest is not the stack's."""
    proof_settings: Mapping[str, Any]
    """Of the proof in the state, what its digest does not cover (NOT_IN_DIGEST)."""
    urns: Mapping[str, str]
    """What each of its resources is for (`converge`, `proof`, …) -> its URN. Without those that were taken out for another one,
    which then failed."""
    gone: bool
    """Whether the stack's file says that the machine no longer exists."""
    differences: tuple[Difference, ...]
    """What the state by itself shows: settings that no proof is of."""

    @property
    def address(self) -> str:
        """As in messages: without the user."""
        host, port = str(self.connection.get("host", "")), int(self.connection.get("port") or 22)
        return host if port == 22 else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def of(deployment: Mapping[str, Any]) -> list[Host]:
    """Every node of a state, by name. Raises OtherVersion where another version of this program wrote all that it has of nodes;
    some of them have it where an upgrade did not come to them, and hide none of the others."""
    resources = [resource for resource in deployment.get("resources") or [] if isinstance(resource, dict)]
    nodes = {str(resource["urn"]): resource for resource in resources if resource.get("type") == NODE}
    children: dict[str, dict[str, dict[str, Any]]] = {urn: {} for urn in nodes}
    for resource in resources:
        parent = resource.get("parent")
        if parent in children and not resource.get("delete"):
            children[parent][_name(resource["urn"]).removeprefix(f"{_name(parent)}-")] = resource
    # One without children is a node whose first step failed, as where the machine could not be reached, or was taken away again.
    present = {urn: parts for urn, parts in children.items() if parts or not nodes[urn].get("delete")}
    read = {urn: _read(nodes[urn], parts) for urn, parts in present.items()}
    hosts = {urn: host for urn, (host, _) in read.items()}
    refusals = {urn: refusal for urn, (_, refusal) in read.items() if refusal}
    if refusals and refusals.keys() >= {urn for urn, host in hosts.items() if not host.gone}:
        raise next(iter(refusals.values()))
    for distinct in (_name, str):
        hosts = _told_apart(hosts, distinct)
    return sorted(hosts.values(), key=lambda host: host.name)


def _read(component: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> tuple[Host, OtherVersion | None]:
    """A node, and why what was done with it cannot be read: it has then what tells how to reach it, and no step."""
    try:
        return _host(component, parts), None
    except OtherVersion as error:
        known = {which: part for which, part in parts.items() if which not in (*EARLIER, "converge")}
        return replace(_host(component, known), differences=(Difference("setting", NOT_UPGRADED, "prove"),)), error


def _told_apart(hosts: Mapping[str, Host], distinct: Callable[[str], str]) -> dict[str, Host]:
    """By URN: hosts, of which those of one name get one by their URN instead. Pools can have machines of the same name."""
    counts = Counter(host.name for host in hosts.values())
    return {urn: replace(host, name=distinct(urn)) if counts[host.name] > 1 else host for urn, host in hosts.items()}


def outputs(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the stack as its state has them."""
    resources = (resource for resource in deployment.get("resources") or [] if isinstance(resource, dict))
    values = next((plain(resource.get("outputs")) for resource in resources if resource.get("type") == STACK), None)
    return values if isinstance(values, dict) else {}


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _planned(component: Mapping[str, Any]) -> str:
    """The node's name as the stack's program gives it, or else that of its resource."""
    plan = plain(component.get("inputs") or {}).get("plan")
    return str((plan.get("node") if isinstance(plan, dict) else None) or _name(str(component["urn"])))


def _host(component: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> Host:
    name, kept = _planned(component), bool(component.get("retainOnDelete"))
    inputs = {which: plain(part.get("inputs") or {}) for which, part in parts.items()}
    stdin = {which: str(inputs.get(which, {}).get("stdin") or "") for which in ("system", "converge", "proof")}
    # Taken out for another one, which then failed: the engine keeps it by name, and the next `up` makes it.
    proof, converge = ({} if (parts.get(which) or {}).get("pendingReplacement") else parts.get(which) or {} for which in LAST)
    converged = login.desired_state(stdin["converge"]) if converge else {}
    # Nor is it one of this node any more where a later run took a step, and the proof after that failed or was never made.
    run = (_result(converge, "converge") or {}).get("run")
    if not str(inputs.get("proof", {}).get("create", "")).endswith(f" # run {run}"):
        proof = {}
    documents = {which: document for which in VERBS if isinstance(document := converged.get(which), dict)}
    if proof:
        documents["proof"] = login.desired_state(stdin["proof"])
    evidence = _result(proof, "prove")
    digest = next((str(triggers[-1]) for triggers in [inputs.get("upload", {}).get("triggers") or []] if len(triggers) > 1), None)
    node = next((str(document["node"]) for document in documents.values() if "node" in document), name)
    # A program can have all it makes kept: such a node is there as well as others, and its own resource is kept too.
    gone = not kept and any(part.get("retainOnDelete") for part in parts.values())
    if EARLIER & parts.keys() and "converge" not in parts and not gone:
        raise OtherVersion(
            f"The state of node {name} was written by an earlier version of this program. Run `pulumi up` with this one."
        )
    try:
        kata = KataState.read(documents["kata"]) if "kata" in documents else None
        state = CompareState(
            node=node,
            program=digest if converge else None,
            boot_id=(evidence or {}).get("bootId"),
            preflight=node_state.preflight(kata) if kata else None,
            docker=DockerState.read(documents["docker"]) if "docker" in documents else None,
            kata=kata,
        )
    except NodeError as error:
        if not gone:
            raise OtherVersion(
                f"The state of node {name} was written by another version of this program ({error.message}). "
                "Run `pulumi up` with this one."
            ) from None
        state = CompareState(node=node)  # no `up` writes it again, and nobody measures it
    proof_document = documents.get("proof")
    machine = str(next(iter(inputs.get("converge", {}).get("triggers") or []), ""))
    settings_digest = node_state.digest([documents.get("docker"), documents.get("kata"), {"program": digest, "machine": machine}])
    promises = [(proof_document or {}).get("digest"), settings_digest]
    return Host(
        name=state.node,
        connection=_connection(inputs.values()),
        sudo_password=_sudo_password(stdin["system"]),
        state=state,
        evidence=evidence,
        proven=modified if isinstance(modified := proof.get("modified"), str) else None,
        promises=tuple(promise for promise in promises if isinstance(promise, str)),
        proof_settings={key: value for key, value in (proof_document or {}).items() if key in NOT_IN_DIGEST},
        urns={which: str(part["urn"]) for which, part in parts.items() if not part.get("pendingReplacement")},
        gone=gone,
        differences=tuple(_settings(proof_document, evidence, settings_digest)),
    )


def _connection(inputs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """How a node is reached, by the first of its commands. Raises TypeError or ValueError for what no engine wrote."""
    connection: Any = next((command["connection"] for command in inputs if command.get("connection")), {})
    if not isinstance(connection, dict):
        raise TypeError("a connection is an object")
    int(connection.get("port") or 22)
    return connection


def _settings(proof: Mapping[str, Any] | None, evidence: Mapping[str, Any] | None, digest: str) -> Iterator[Difference]:
    """Whether the proof is of what was done: its digest covers the states of the verbs, the program and the machine."""
    if proof is None:
        yield Difference("setting", "the stack holds no proof of it: the last run ended before", "prove")
        return
    if evidence is None:
        yield Difference("setting", "the stack holds no result of its proof that can be read", "prove")
    if proof.get("digest") != digest:
        yield Difference("setting", "the last proof is of other settings than those on the node", "prove")


def plain(value: Any) -> Any:
    """A value of a state without the marks of its secrets."""
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SIGNED_SECRET:
            return plain(json.loads(value["plaintext"])) if "plaintext" in value else None
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def _sudo_password(stdin: str) -> str | None:
    """What stands between as_root.sh and the script that it runs (delivery.login.before)."""
    before, mark, _ = stdin.partition("\n#!/bin/sh\n")
    return before.rpartition("\n")[2] or None if mark else None


def _result(command: Mapping[str, Any], verb: str) -> dict[str, Any] | None:
    """What the verb printed, as the state has it of a command."""
    try:
        document = results.parsed(str(plain(command.get("outputs") or {}).get("stdout") or ""))
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("verb") == verb else None
