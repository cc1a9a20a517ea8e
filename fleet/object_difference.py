"""What differs between an object of a cluster and what a stack wants of it. Pure.

Three sides count: what the stack sets, what the API server made of that when the stack wrote it, with its defaults and its own
way to write quantities, and what is there now. A field that the stack sets differs if it is neither what the stack wants nor what
the server answered then. What a cluster answers is of any form and length here.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from clusterkit.node_labels import LABELLED
from fleet.cluster_objects import ClusterObject
from fleet.hosts import plain
from nodekit.rules.difference import unified
from nodekit.rules.shapes import mapping
from nodekit.rules.text import printable
from review.documents import SIGNATURE, SIGNED_SECRET

WHOLE = ("RuntimeClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PodTemplate")
"""Kinds in which a field more takes away what the others promise: matchConditions of a policy, privileged in a template."""
LABELS = ("metadata", "labels")
ABOUT = ("metadata", "status", "apiVersion", "kind")
"""Parts of an object that others write too."""
SHOWN_PATHS, MAX_ADDITIONS, MAX_TRACES, MAX_ENTRIES, MAX_NODES = 5, 50, 3, 100, 10
"""How much of what a cluster says is shown, or looked at."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Path = tuple[str | int, ...]
ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""A field that is not there: null is a value."""
UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "UNKNOWN"})()
"""What the server answered then, where the state does not have it."""
HIDDEN, OTHER = "[secret]", "[another secret]"


@dataclass(frozen=True)
class ObjectDifference:
    """One thing that is not as the stack wants it."""

    kind: str
    """One of those that docs/guides/fleet.md explains."""
    message: str
    """One sentence."""
    repair: str | None
    """How `pulumi up` puts it right: `update`, `create`, `replace` or `prove`; None where no resource of the stack does."""
    diff: str | None = None
    """Unified diff from what the stack wants (-) to what is there (+)."""
    traces: tuple[str, ...] = ()
    """Who could have caused it."""

    def as_dict(self) -> dict[str, object]:
        """The form in documents."""
        traces = list(self.traces)
        return {"kind": self.kind, "what": self.message, "repair": self.repair, "diff": self.diff, "traces": traces}


@dataclass(frozen=True)
class Comparison:
    """Both sides in the same shape, and where they differ."""

    desired: Any
    present: Any
    changed: tuple[Path, ...]
    added: tuple[Path, ...]


class _Walk:
    """Goes through the fields that the stack sets."""

    def __init__(self) -> None:
        self.changed: list[Path] = []
        self.added: list[Path] = []

    def both(self, desired: Any, recorded: Any, present: Any, path: Path) -> tuple[Any, Any]:
        """The views of what is wanted and of what is there."""
        if isinstance(desired, Mapping) and desired.get(SIGNATURE) == SIGNED_SECRET:
            if _same(plain(desired), recorded, present):
                return HIDDEN, HIDDEN
            self.changed.append(path)
            return HIDDEN, ABSENT if present is ABSENT else OTHER
        if isinstance(desired, Mapping) and isinstance(present, Mapping):
            dropped: Any = {} if recorded is ABSENT else None  # an empty one, which others may have filled since
            return self.mappings(desired, recorded if isinstance(recorded, Mapping) else dropped, present, path)
        if isinstance(desired, list) and isinstance(present, list) and any(isinstance(item, Mapping) for item in desired):
            return self.lists(desired, recorded if isinstance(recorded, list) else None, present, path)
        if _same(plain(desired), recorded, present):
            return present, present
        longer = isinstance(desired, list) and isinstance(present, list) and len(present) > len(desired)
        (self.added if longer else self.changed).append(path)
        return _without_secrets(desired), present

    def mappings(
        self, desired: Mapping[str, Any], recorded: Mapping[str, Any] | None, present: Mapping[str, Any], path: Path
    ) -> tuple[Any, Any]:
        before: dict[str, Any] = {}
        now: dict[str, Any] = {}
        for key, value in desired.items():
            if value is None:
                continue
            then = UNKNOWN if recorded is None else recorded.get(key, ABSENT)
            before[key], now[key] = self.both(value, then, present.get(key, ABSENT), (*path, key))
        if recorded is not None and path[:1] not in (("metadata",), ("status",)):
            for key in [key for key in present if key not in desired and (path or key not in ABOUT)]:
                default = recorded.get(key, ABSENT)
                if not _equal(default, present[key]) and len(self.added) < MAX_ADDITIONS:
                    self.added.append((*path, key))
                    before[key], now[key] = default, present[key]
        return _without_absent(before), _without_absent(now)

    def lists(self, desired: list[Any], recorded: list[Any] | None, present: list[Any], path: Path) -> tuple[Any, Any]:
        before, now = [], []
        for number, (value, then, item) in enumerate(_paired(desired, recorded, present)):
            if value is ABSENT:
                if not _equal(then, item) and len(self.added) < MAX_ADDITIONS:
                    self.added.append((*path, number))
                    now.append(item)
                continue
            left, right = self.both(value, then, item, (*path, number))
            before += [] if left is ABSENT else [left]
            now += [] if right is ABSENT else [right]
        return before, now


def compare(desired: Mapping[str, Any], recorded: Mapping[str, Any], present: Mapping[str, Any]) -> Comparison:
    """`present` beside what the stack sets and what the API server answered then."""
    walk = _Walk()
    before, now = walk.both(desired, recorded or UNKNOWN, present, ())
    # What is there can hold a secret of the stack in another place than the stack put it, such as under another name.
    known = set(_secrets(desired))
    return Comparison(_masked(before, known), _masked(now, known), tuple(walk.changed), tuple(walk.added))


def _without_secrets(value: Any) -> Any:
    """A value of a state, with a word in place of each of its secrets."""
    if isinstance(value, Mapping):
        return HIDDEN if value.get(SIGNATURE) == SIGNED_SECRET else {key: _without_secrets(inner) for key, inner in value.items()}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value


def _secrets(value: Any, marked: bool = False) -> Iterator[str | int | float]:
    """Every text and number that a value of a state marks as a secret."""
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SIGNED_SECRET:
            yield from _secrets(plain(value), True)
        else:
            for inner in value.values():
                yield from _secrets(inner, marked)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner, marked)
    elif marked and isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
        yield value


def _masked(value: Any, known: Collection[str | int | float]) -> Any:
    """A value with a word in place of each text and number that is a known secret."""
    if isinstance(value, Mapping):
        return {key: _masked(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(inner, known) for inner in value]
    return HIDDEN if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value in known else value


def _same(desired: Any, recorded: Any, present: Any) -> bool:
    return _equal(present, desired) or _equal(present, recorded)


def _equal(value: Any, other: Any) -> bool:
    """Equality of JSON, in which true is not 1."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _without_absent(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not ABSENT}


def _paired(desired: list[Any], recorded: list[Any] | None, present: list[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Items that belong together, by their `name` where all have one of their own, otherwise by their place."""
    missing = UNKNOWN if recorded is None else ABSENT
    lists = (desired, recorded or [], present)
    names = [[item.get("name") if isinstance(item, Mapping) else None for item in items] for items in lists]
    if _unique(names[0]) and _unique(names[2]):
        now = dict(zip(names[2], present, strict=True))
        then = dict(zip(names[1], lists[1], strict=True)) if _unique(names[1]) else {}
        yield from ((item, then.get(name, missing), now.pop(name, ABSENT)) for name, item in zip(names[0], desired, strict=True))
        yield from ((ABSENT, then.get(name, missing), item) for name, item in now.items())
        return
    for number in range(max(len(desired), len(present))):
        first, second, third = (items[number] if number < len(items) else ABSENT for items in lists)
        yield first, missing if second is ABSENT else second, third


def _unique(names: Sequence[object]) -> bool:
    return all(isinstance(name, str) for name in names) and len({*names}) == len(names)


def differences(item: ClusterObject, present: Mapping[str, Any] | None) -> tuple[list[ObjectDifference], list[str]]:
    """What differs on an object, and notes on what was changed and takes nothing from what the stack wants.

    `present` is what the API server answers now, None where it has no such object.
    """
    proof = unproven(item)
    if present is None:
        traces = ("the API server's audit log may name who deleted it",)
        # The stack does not make what it adopts. A node's labels are another matter: without the node, an `up` drops them.
        repair = None if item.partial and item.kind != "Node" else "create"
        gone = ObjectDifference("missing", f"{item.label} is not in the cluster", repair, traces=traces)
        return [gone, *proof], []
    about = mapping(present.get("metadata"))
    if since := about.get("deletionTimestamp"):
        message = f"{item.label} is being deleted since {printable(str(since), 40)}"
        return [ObjectDifference("missing", message, None, traces=tuple(_finalizers(about))), *proof], []
    result = compare(item.desired, item.recorded, present)
    whole = item.kind in WHOLE and not item.partial
    kept = result.added if whole else [path for path in result.added if isinstance(path[-1], int) or _set(item.desired, path)]
    added = tuple(kept)
    notes = [] if whole or item.partial else [_note(item, path) for path in result.added if path not in added]
    if not (result.changed or added):
        return proof, notes[:SHOWN_PATHS]
    paths = (*result.changed, *added)
    difference = ObjectDifference(
        kind=_kind(result.changed, added),
        message=_sentence(item, result.changed, added),
        repair=_repair(item, result.changed, added),
        diff=_diff(item, result),
        traces=tuple(writers(item, present, paths)),
    )
    return [difference, *proof], notes[:SHOWN_PATHS]


def unproven(item: ClusterObject) -> list[ObjectDifference]:
    """What the state by itself shows of a proof."""
    return [ObjectDifference("setting", f"{item.label}: {item.unproven}", "prove")] if item.unproven else []


def _set(desired: Any, path: Path) -> bool:
    """Whether the stack sets the field: a list that is longer now is one of these."""
    for step in path:
        place = isinstance(step, int) and isinstance(desired, list) and step < len(desired)
        if not place and not (isinstance(desired, Mapping) and step in desired):
            return False
        desired = desired[step]
    return True


def _kind(changed: Sequence[Path], added: Sequence[Path]) -> str:
    if not changed:
        return "added"
    return "label" if not added and all(map(_is_of_labels, changed)) else "changed"


def _is_of_labels(path: Path) -> bool:
    """Whether it is a label, or the annotation that is set with those of a node."""
    return path[:2] == LABELS or (len(path) > 1 and path == ("metadata", "annotations", LABELLED)[: len(path)])


def _sentence(item: ClusterObject, changed: Sequence[Path], added: Sequence[Path]) -> str:
    parts = []
    for words, paths in (("differs from the stack in", changed), ("has what the stack does not set:", added)):
        if paths:
            rest = f" and {len(paths) - SHOWN_PATHS} more" if len(paths) > SHOWN_PATHS else ""
            parts.append(f"{words} {', '.join(map(dotted, paths[:SHOWN_PATHS]))}{rest}")
    manual = "" if not added or item.replaceable else "; take that away by hand"
    return f"{item.label} {', and '.join(parts)}{manual}"


def _repair(item: ClusterObject, changed: Sequence[Path], added: Sequence[Path]) -> str | None:
    """An addition is not seen by a refresh, which looks at the stack's own fields alone: only another object has none."""
    if added:
        return "replace" if item.replaceable else ("update" if changed else None)
    # Immutable for the API server, so the engine makes another object.
    immutable = (item.kind == "RuntimeClass" and ("handler",) in changed) or plain(item.desired.get("immutable")) is True
    return "create" if immutable else "update"


def _diff(item: ClusterObject, result: Comparison) -> str:
    before, now = (yaml.safe_dump(view, width=100, allow_unicode=True).encode() for view in (result.desired, result.present))
    return unified(item.label, before, now, place="cluster")


def _note(item: ClusterObject, path: Path) -> str:
    return f"{item.label}: {dotted(path)} was set by someone else; `pulumi up` keeps it"


def dotted(path: Path) -> str:
    """A path as people write it."""
    text = ""
    for step in path:
        plain_key = isinstance(step, str) and re.fullmatch(r"[A-Za-z0-9_-]+", step)
        text += f"{'.' if text else ''}{step}" if plain_key else f"[{printable(str(step), 120)}]"
    return printable(text, 300)


def writers(item: ClusterObject, present: Mapping[str, Any], paths: Sequence[Path]) -> list[str]:
    """Who could have changed these fields: the managers that have written since the stack did, first those of these fields.

    `metadata.managedFields` has for each manager what it set and when; its name is what the client says of itself. A field that
    was taken away belongs to nobody.
    """
    entries = _entries(present)
    before = {_about(entry) for entry in _entries(item.recorded)}
    newer = [entry for entry in entries if _about(entry) not in before and entry.get("subresource") != "status"]
    rows = []
    for entry in sorted(newer, key=lambda entry: str(entry.get("time")), reverse=True):
        own = [path for path in paths if _owns(entry.get("fieldsV1"), path)]
        action = f"wrote {', '.join(map(dotted, own[:SHOWN_PATHS]))}" if own else "wrote other fields"
        manager, operation, time = (printable(str(entry.get(key)), 80) for key in ("manager", "operation", "time"))
        rows.append((not own, f"{manager} ({operation}) {action} at {time}"))
    named = [row for _, row in sorted(rows, key=lambda pair: pair[0])][:MAX_TRACES]
    return named or ["the object names nobody who has written to it since; a client that removes a field leaves no name"]


def _entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = mapping(document.get("metadata")).get("managedFields")
    return [entry for entry in entries[:MAX_ENTRIES] if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _about(entry: Mapping[str, Any]) -> str:
    return repr([entry.get(key) for key in ("manager", "operation", "time", "subresource")])


def _owns(fields: Any, path: Path) -> bool:
    """Whether a set of fields (fieldsV1) has this one; below a list it is not told which item."""
    for step in path:
        if isinstance(step, int):
            return True
        fields = fields.get(f"f:{step}") if isinstance(fields, Mapping) else None
        if fields is None:
            return False
        if fields == {}:
            return True
    return True


def _finalizers(about: Mapping[str, Any]) -> Iterator[str]:
    held = about.get("finalizers")
    if isinstance(held, list) and held:
        yield f"finalizers hold it: {printable(', '.join(str(name) for name in held[:SHOWN_PATHS]), 300)}"


def selector(item: ClusterObject) -> dict[str, str]:
    """Labels by which a RuntimeClass selects its nodes; none where it selects no nodes, and so says nothing of any."""
    labels = mapping(mapping(item.recorded.get("scheduling")).get("nodeSelector")) if item.kind == "RuntimeClass" else {}
    return {str(key): str(value) for key, value in labels.items()}


def without_handler(item: ClusterObject, nodes: Iterable[Mapping[str, Any]]) -> list[ObjectDifference]:
    """Nodes that a class selects and that do not report its handler. One that reports no handler at all tells nothing: its
    container runtime is older than that report (Node.status.runtimeHandlers)."""
    handler, lacking, whole = plain(item.desired.get("handler")), [], 0
    for node in nodes:
        whole += 1
        reported = mapping(node.get("status")).get("runtimeHandlers")
        names = [entry.get("name") for entry in reported if isinstance(entry, Mapping)] if isinstance(reported, list) else []
        if any(names) and handler not in names:
            lacking.append(printable(str(mapping(node.get("metadata")).get("name")), 253))
    if not lacking:
        return []
    rest = f" and {len(lacking) - MAX_NODES} more" if len(lacking) > MAX_NODES else ""
    message = (
        f"{len(lacking)} of {whole} nodes that {item.label} selects do not report its handler {handler}: "
        f"{', '.join(sorted(lacking)[:MAX_NODES])}{rest}"
    )
    return [ObjectDifference("handler", message, None)]


def another_job(item: ClusterObject, present: Mapping[str, Any]) -> list[ObjectDifference]:
    """Whether others made the Job of a proof again: the evidence is of the one before, and for an `up` it is no proof."""
    uids = [mapping(about.get("metadata")).get("uid") for about in (item.recorded, present)]
    if uids[0] == uids[1] or not all(isinstance(uid, str) for uid in uids):
        return []
    message = f"{item.label} was made again by someone else, and the proof in the stack is of the one before"
    return [ObjectDifference("setting", message, "prove")]


def another_machine(item: ClusterObject, node: Mapping[str, Any] | None) -> list[ObjectDifference]:
    """Whether the node of a proof was registered after the proof was asked for: it can be another machine of that name."""
    proof_time, registered = (mapping(about.get("metadata")).get("creationTimestamp") for about in (item.recorded, node or {}))
    if not all(isinstance(moment, str) and TIME.fullmatch(moment) for moment in (proof_time, registered)):
        return []
    if str(registered) <= str(proof_time):
        return []
    name = printable(str(item.proof_of), 253)
    message = f"{item.label}: node {name} registered at {registered}, after its proof of {proof_time}"
    return [ObjectDifference("setting", message, "prove")]
