"""Builds the document of a stack from its state, its outputs and what its nodes answered. A pure function: it asks nobody.

What nodes, guests and states hold can have any form and length: what does not have the expected form is left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fleet import pairs
from fleet.cluster_objects import ClusterObject as ClusterItem
from fleet.explain import origin, remarks
from fleet.hosts import Host
from fleet.measure import MOST, Measured
from fleet.measure_objects import GONE, MeasuredCluster, MeasuredObject
from fleet.report.document import (
    NEVER_MEASURED,
    PROOF_IN_PODS,
    VERSION,
    Check,
    Climb,
    ClusterObject,
    Failure,
    Node,
    Outcome,
    Pair,
    Parameter,
    PastProof,
    Proof,
    Report,
    Rung,
    Step,
    StepState,
    Verdict,
)
from fleet.stack import without_proof
from nodekit.rules.kata import kernel_params
from nodekit.rules.proof.ladder import COMMANDS, MAX_VALUE, TITLES
from nodekit.rules.proof.sandboxes import SANDBOXES
from nodekit.rules.shapes import mapping
from nodekit.rules.text import printable

VERBS = {"preflight": "preflight", "docker": "Docker", "kata": "Kata"}
"""Verb -> the step that it takes."""
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")
SUMMARIZED = ("kernelParams", "configFile", "userNamespaces", "guestKernel")
"""What the stack's output `nodes` repeats of each node's proof."""
GUEST, CONTAINER = "booted guest", "container"
CONTRADICTION = Failure(
    "result-missing",
    "What is recorded as a pass has a rung that failed and that the promise needs: the record is damaged, or somebody edited it.",
    "Prove the node again: kata-nodes prove NODE, or for a pod's proof pulumi up.",
)
WORST: tuple[Outcome, ...] = ("failed", "unproven", "drifted", "proven")
"""The first of these that a node has is its stack's."""


def report(
    stack: str,
    hosts: Sequence[Host],
    measured: Sequence[Measured],
    outputs: Mapping[str, Any],
    written: str,
    clusters: Sequence[MeasuredCluster] = (),
    unfinished: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> Report:
    """The document. `measured` holds what those of `hosts` answered that are not gone, `clusters` what API servers did;
    `unfinished` names the proofs in pods that are not there, and `elsewhere` says which nodes the stack has no proof of."""
    by_name = {answer.host.name: answer for answer in measured}
    nodes = [_node(host, by_name.get(host.name)) for host in hosts]
    # Several proofs can be of one node, and the worse must not hide behind the better.
    jobs = [
        (each.item.proof_of, each, each.cause or cluster.cause)
        for cluster in clusters
        for each in cluster.objects
        if each.item.proof_of is not None
    ]
    proofs = mapping(outputs.get("clusterProof"))
    pods = [_pod(name, {}, job, cause) for name, job, cause in jobs]
    # The outputs are those of the last `up` that succeeded: where the state has Jobs, it is newer. A `destroy` that ended before
    # leaves the outputs alone.
    kept = any(each.item.keeps_evidence for cluster in clusters for each in cluster.objects)
    pods += [_pod(name, output, None, None) for name, output in proofs.items()] if kept and not jobs else []
    nodes += sorted(pods, key=lambda node: node.name)
    objects = [_absent(name) for name in unfinished]
    objects += [_object(cluster, each) for cluster in clusters for each in cluster.objects if each.item.proof_of is None]
    outcome = worst([node.outcome for node in nodes])
    if unfinished and outcome != "failed":
        outcome = "unproven"
    if outcome == "proven" and any(each.state == "differs" for each in objects):
        outcome = "drifted"
    ended_before = outcome in ("failed", "unproven") and bool(nodes or unfinished)
    ended_before = ended_before or not _are_of(outputs, hosts, [job.item for _, job, _ in jobs])
    rows = _mappings(outputs.get("checklist"))
    if ended_before or (all(node.outcome == "gone" for node in nodes) and _is_of_nodes(rows)):
        rows = []
    return Report(
        version=VERSION,
        kind="stack",
        written=written,
        stack=_text(stack),
        outcome=outcome,
        nodes=tuple(nodes),
        objects=tuple(objects),
        checklist=tuple(Check(_text(row.get("item")), row.get("passed") is True, _text(row.get("measured"))) for row in rows),
        not_proven=(*_texts(outputs.get("notProven")), *map(_text, elsewhere)),
    )


def _are_of(outputs: Mapping[str, Any], hosts: Sequence[Host], jobs: Sequence[ClusterItem]) -> bool:
    """Whether the outputs are of the proofs that the state has, as far as they tell: an `up` that ended after new proofs, and
    before its end, leaves the outputs of the one before it."""
    summaries, proofs = outputs.get("nodes"), mapping(outputs.get("clusterProof"))
    if isinstance(summaries, list):
        reported = {str(each.get("name")): each for each in summaries if isinstance(each, dict)}
        evidence = {host.state.node: host.evidence or {} for host in hosts if not host.gone}
        if reported.keys() != evidence.keys():
            return False
        if any(reported[name].get(key) != proof.get(key) for name, proof in evidence.items() for key in SUMMARIZED):
            return False
    uids = {str(job.proof_of): (job.evidence or {}).get("job") for job in jobs}
    return not (proofs and jobs) or uids == {name: mapping(proof).get("job") for name, proof in proofs.items()}


def _is_of_nodes(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a checklist is of nodes that were proven: without evidence, the row of the capabilities alone can pass."""
    return sum(row.get("passed") is True for row in rows) > 1


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a stack with such nodes; machines that are gone do not count."""
    return next((outcome for outcome in WORST if outcome in outcomes), "unproven")


def _node(host: Host, measured: Measured | None) -> Node:
    document = (measured and measured.document) or {}
    history = measured.records if measured else []
    record = measured.record if measured else None
    proof = _recorded(record) if record is not None else None
    # A record keeps the rungs of its newest proof alone, which can be one of other settings. The state has those of its own.
    if proof is None or (proof.passed and not proof.climbs):
        proof = _in_state(host)
    unmeasured = "the stack's file says that the machine no longer exists" if host.gone else (measured and measured.cause) or ""
    differences = [] if measured is None else measured.changes  # a failed proof is told as such
    return Node(
        name=_text(host.name),
        address=_text(host.address),
        outcome="gone" if host.gone else _outcome(proof, bool(differences)),
        not_measured=_text(unmeasured),
        steps=_steps(host, document, proof),
        proof=proof,
        configuration=_text(_configuration(host, measured).get("configFile")),
        parameters=_parameters(host, measured),
        pair=_pair(host, measured),
        not_tried=_not_tried(proof),
        timeline=_timeline(history, host),
        timeline_note=_timeline_note(document, history, host),
        differences=_cut([f"{_text(each.get('what'))} [{_text(each.get('kind'))}]" for each in differences]),
    )


def _outcome(proof: Proof | None, differs: bool) -> Outcome:
    if proof is None:
        return "unproven"
    if not proof.passed:
        return "failed"
    return "drifted" if differs else "proven"


def _recorded(entry: Mapping[str, Any]) -> Proof:
    """The proof as the node's record has it."""
    error = entry.get("error")
    failure = Failure(*(_text(error.get(key)) for key in ("code", "message", "remedy"))) if isinstance(error, dict) else None
    proof = Proof(
        source="node",
        began=_time(entry.get("began")) or None,
        ended=None,
        seconds=_number(entry.get("seconds")),
        passed=entry.get("passed") is True,
        hypervisor=_text(entry.get("hypervisor")),
        sandbox=_text(entry.get("sandbox")) or None,
        failure=failure,
        climbs=tuple(_climb(_text(climb.get("place")), climb) for climb in _mappings(entry.get("climbs"))),
        notes=tuple(filter(None, [_text(entry.get("note"))])),
    )
    return _consistent(proof)


def _consistent(proof: Proof) -> Proof:
    """The proof, which is not passed where a rung that counts has failed, whatever is written beside it."""
    counted = [rung for climb in proof.climbs for rung in climb.rungs if rung.counts]
    refuted = any(climb.verdict == "failed" for climb in proof.climbs) or any(rung.verdict == "failed" for rung in counted)
    return replace(proof, passed=False, failure=CONTRADICTION) if proof.passed and refuted else proof


def _in_state(host: Host) -> Proof | None:
    """The proof as the stack's state has it: the result of the verb `prove`."""
    evidence = host.evidence
    if evidence is None:
        return None
    climb = _climb(f"{CONTAINER} of the runtime" if evidence.get("proven") == "container" else GUEST, evidence)
    proof = Proof(
        source="state",
        began=_time(evidence.get("began")) or None,
        ended=_time(host.proven) or None,
        seconds=None,
        passed=evidence.get("passed") is True,
        hypervisor=_text(evidence.get("hypervisor")),
        sandbox=_text(evidence.get("sandbox")) or None,
        failure=None,
        climbs=(climb,),
        notes=tuple(filter(None, [_text(evidence.get("note"))])),
    )
    return _consistent(proof)


def _climb(place: str, reading: Mapping[str, Any]) -> Climb:
    rungs = tuple(_rung(each) for each in _mappings(reading.get("rungs")))
    passed = reading.get("passed", True) is True  # what a state or an output holds has passed
    return Climb(
        place=place,
        verdict="passed" if passed else "failed",
        seconds=_number(reading.get("seconds")),
        guest_kernel=_text(reading.get("guestKernel")),
        user_namespaces=_whole(reading.get("userNamespaces")),
        command_line=_text(reading.get("commandLine")),
        rungs=rungs,
    )


def _promised(climb: Climb) -> str | None:
    """The sandbox that was promised where the ladder was climbed, by the rungs that counted: no pod names it."""
    counted = {rung.name for rung in climb.rungs if rung.counts}
    commands = [command for command in COMMANDS if command.name in counted]
    able = [sandbox for sandbox in SANDBOXES if all(sandbox in command.sandboxes for command in commands)]
    if not (commands and able):
        return None
    # What counts for one sandbox can be a part of what counts for another.
    return min(able, key=lambda sandbox: sum(sandbox in command.sandboxes for command in COMMANDS))


def _rung(reading: Mapping[str, Any]) -> Rung:
    verdicts: dict[object, Verdict] = {True: "passed", False: "failed"}
    passed, name = reading.get("passed"), _text(reading.get("name"))
    return Rung(
        name=name,
        looks_at=TITLES.get(name, ""),
        verdict=verdicts.get(passed, "not tried") if isinstance(passed, bool) else "not tried",
        counts=reading.get("counts") is True,
        value=_text(reading.get("value")),
        detail=_text(reading.get("detail")),
        at=_number(reading.get("at")),
    )


def _steps(host: Host, measured: Mapping[str, Any], proof: Proof | None) -> tuple[Step, ...]:
    # A run that ended between two of them leaves none in the state. The node itself knows how far it came.
    taken = {*VERBS} if host.state.kata is not None else {*_texts(measured.get("converged"))}
    steps = [Step(name, "done" if verb in taken else "not reached", "") for verb, name in VERBS.items()]
    if proof is None:
        return (*steps, Step("guest proof", "not reached", ""), Step("container proof", "not reached", ""))
    return (*steps, *_proof_steps(proof))


def _proof_steps(proof: Proof) -> Iterator[Step]:
    climbs = [(climb.place == GUEST, climb.verdict == "passed") for climb in proof.climbs]
    code = proof.failure.code if proof.failure else ""
    container = next((passed for is_guest, passed in climbs if not is_guest), None)
    # The state keeps the climb in the container alone, which comes after a guest that was passed.
    guest = next((passed for is_guest, passed in climbs if is_guest), True if container is not None else None)
    if guest is None:
        yield Step("guest proof", "failed", code)
        yield Step("container proof", "not reached", "")
        return
    yield Step("guest proof", "done" if guest else "failed", "" if guest else code)
    if container is not None:
        yield Step("container proof", "done" if container else "failed", "" if container else code)
    elif not guest:
        yield Step("container proof", "not reached", "")
    else:
        state: StepState = "not tried" if proof.passed else "failed"
        yield Step("container proof", state, "; ".join(proof.notes) if proof.passed else code)


def _parameters(host: Host, measured: Measured | None) -> tuple[Parameter, ...]:
    settings = host.state.kata
    if settings is None:
        return ()
    tokens = kernel_params.tokens(_text(_configuration(host, measured).get("kernelParams")))[:MOST]
    return tuple(Parameter(token, origin(token, settings.kernel_params), remarks(token)) for token in tokens)


def _configuration(host: Host, measured: Measured | None) -> Mapping[str, Any]:
    """What Kata reads on the node, as measured, or else as the proof in the state has it."""
    settings = host.state.kata
    if settings is not None:
        kata = mapping(mapping(measured.status if measured else {}).get("kata"))
        read = mapping(mapping(kata.get("configurations")).get(settings.runtime)).get(settings.hypervisor)
        if isinstance(read, dict) and "kernelParams" in read:
            return read
    return host.evidence or {}


def _pair(host: Host, measured: Measured | None) -> Pair | None:
    """As measured, or as the proof and the stack have it."""
    settings = host.state.kata
    if settings is None:
        return None
    status = mapping(measured.status if measured else {})
    daemon = mapping(mapping(status.get("docker")).get("daemon")).get("version")
    # One that does not answer now is not the version that answered the proof.
    docker = _text(daemon if status else (host.evidence or {}).get("dockerVersion"))
    release = mapping(status.get("kata")).get("version")
    kata = release if isinstance(release, str) else settings.version
    known = pairs.known(docker, kata, settings.runtime)
    if known is None:
        return None
    verdict, sources = known
    return Pair(_text(docker), _text(kata), settings.runtime, verdict.ok, _text(verdict.reason), sources)


def _not_tried(proof: Proof | None) -> tuple[str, ...]:
    if proof is None:
        return ()
    rungs: dict[str, list[str]] = {}
    for climb in proof.climbs:
        for rung in climb.rungs:
            if rung.verdict == "not tried":
                why = f"{rung.name} ({rung.looks_at or 'a rung'}): {rung.detail or 'no reason was recorded'}"
                rungs.setdefault(why, []).append(climb.place)
    return (*proof.notes, *(f"{why}; {', '.join(places)}" for why, places in rungs.items()))


def _timeline(history: Sequence[Mapping[str, Any]], host: Host) -> tuple[PastProof, ...]:
    if history:
        return tuple(_past(entry, _recorded(entry)) for entry in reversed(history))
    evidence, proof = host.evidence, _in_state(host)
    if evidence is None or proof is None:
        return ()
    return (_past({**evidence, "began": host.proven}, proof),)


def _past(entry: Mapping[str, Any], proof: Proof) -> PastProof:
    """A line, whose verdict is that of the proof: what contradicts itself did not pass."""
    return PastProof(
        when=_time(entry.get("began")),
        seconds=_number(entry.get("seconds")),
        passed=proof.passed,
        code=proof.failure.code if proof.failure else "",
        guest_kernel=_text(entry.get("guestKernel")),
        user_namespaces=_whole(entry.get("userNamespaces")),
        docker=_text(entry.get("dockerVersion")),
    )


def _timeline_note(document: Mapping[str, Any], history: Sequence[object], host: Host) -> str:
    if history:
        return "The node keeps its last 20 proofs. Times are by its clock; a proof that was killed leaves no record."
    none = (
        "The node has no record of its proofs; an earlier version of the program kept none."
        if document
        else "The node was not measured, so its record of proofs is not known."
    )
    return f"{none} The time is when the stack recorded the result." if host.evidence else none


def _pod(name: str, output: object, job: MeasuredObject | None, cause: str | None) -> Node:
    """A node of a cluster, which a pod has proven: by the stack's state, or by its output where the state has no Job of it."""
    result = (job.item.evidence or {}) if job else mapping(output)
    climb = _climb("pod", result)
    proof = Proof(
        source="cluster",
        began=None,
        ended=None,
        seconds=None,
        passed=True,
        hypervisor=_text(result.get("hypervisor")),
        sandbox=_promised(climb),
        failure=None,
        climbs=(climb,),
        notes=tuple(filter(None, [_text(result.get("note"))])),
    )
    known = _consistent(proof) if result and not (job and job.item.unproven) else None
    gone = job is not None and job.gone
    return Node(
        name=_text(name),
        address="",
        outcome="gone" if gone else _outcome(known, job is not None and bool(job.differences)),
        not_measured=f"it {GONE}" if gone else _text(cause) if job else NEVER_MEASURED,
        steps=(Step("pod proof", "not reached" if known is None else "done" if known.passed else "failed", ""),),
        proof=known,
        configuration="",
        parameters=(),
        pair=None,
        not_tried=_not_tried(known),
        timeline=(),
        timeline_note="Of pods' proofs the stack keeps the last one, without times.",
        differences=_sentences(job) if job else (),
    )


def _object(cluster: MeasuredCluster, measured: MeasuredObject) -> ClusterObject:
    item, cause = measured.item, measured.cause or cluster.cause
    return ClusterObject(
        cluster=_text(cluster.cluster.name),
        kind=_text(item.kind),
        namespace=_text(item.namespace),
        name=_text(item.name),
        state="differs" if measured.differences else "not measured" if cause else "as made",
        not_measured=_text(cause),
        differences=_sentences(measured),
    )


def _absent(name: str) -> ClusterObject:
    """A proof in pods that is not there."""
    return ClusterObject(
        cluster="",
        kind=PROOF_IN_PODS,
        namespace="",
        name=_text(name),
        state="differs",
        not_measured="",
        differences=(f"{_text(without_proof(name))} [setting]",),
    )


def _sentences(measured: MeasuredObject) -> tuple[str, ...]:
    return _cut([f"{_text(each.message)} [{each.kind}]" for each in measured.differences])


def _cut(differences: Sequence[str]) -> tuple[str, ...]:
    """The first differences, and how many there are beside them."""
    rest = len(differences) - MOST
    return (*differences[:MOST], *([f"{rest} more differences are not in this document"] if rest > 0 else []))


def _text(value: object) -> str:
    """A value as text that is safe to show, on one line; empty for what is no single value."""
    if value is None or isinstance(value, (dict, list)):
        return ""
    return printable(" ".join(str(value)[: 2 * MAX_VALUE].split()), MAX_VALUE)


def _time(value: object) -> str:
    """A moment in UTC as nodes and states write it, by which others are told to be older; empty for anything else."""
    return value if isinstance(value, str) and TIME.fullmatch(value) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for each in value[:MOST] if (text := _text(each))) if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    """A time; None for anything else, for JSON knows infinities in Python only."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9 else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12 else None


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value[:MOST] if isinstance(each, dict)] if isinstance(value, list) else []
