"""Read the JSON documents of `pulumi preview` and `pulumi refresh`, and what differs between two of them.

A document may come from a fork, so nothing of its shape is taken for granted: what is not as it should be is left out.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nodekit.rules.shapes import entries, mapping

MAX_DOCUMENT = 96 << 20
"""Characters of a document that is read; a thousand nodes make about 40 million."""
MAX_OWN_DOCUMENT = 512 << 20
"""Of one that no fork has written: a plan is approved and done also where it is not read."""
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine writes a value that a preview cannot know (sdk/go/common/resource/plugin/rpc.go, UnknownStringValue)."""
SIGNATURE = "4dabf18193072939515e22adb298388d"
"""Key by which the engine marks an object that is not a plain one (sdk/go/common/resource/sig, Key)."""
SIGNED_SECRET = "1b47061264138c4ac30d75fd1eb44270"
"""That key's value for a secret (the same package, Secret)."""
SECRET = "[secret]"
"""How the engine writes a secret into these documents."""
STEPS = {
    "create": "create",
    "import": "create",
    "update": "update",
    "delete": "delete",
    "replace": "replace",
    "create-replacement": "replace",
    "delete-replaced": "replace",
}
"""The engine's steps -> what they mean to a reader; every other step changes nothing."""
SEEN_BY_REFRESH = ("missing", "changed", "label")
"""Kinds of difference of an object that `pulumi refresh` shows too, with the values."""
NO_PROOF_IN_PODS = "the stack holds no proof in pods"
"""What differs where a stack has neither the Jobs of a proof nor its evidence; to a refresh, there is nothing to read."""
NOISE = ("an unhandled error occurred: program exited with non-zero exit code", "preview failed")
"""Beginnings of errors that only report that there was another one."""


@dataclass(frozen=True)
class Resource:
    """One resource and what happens to it."""

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    op: str
    """create, update, replace, delete or same."""
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None
    replaced_by: tuple[str, ...] = ()
    """Inputs of which a change is a replacement."""
    noted: frozenset[str] = frozenset()
    """Paths within the inputs, such as spec.template or triggers[0], that the engine reports as different: it knows even where
    the document shows two equal `[secret]`."""

    @property
    def changed(self) -> frozenset[str]:
        """Names of the inputs that differ."""
        old, new = self.old or {}, self.new or {}
        noted = {path.split(".")[0].split("[")[0] for path in self.noted}
        return frozenset(noted | {key for key in {*old, *new} if old.get(key) != new.get(key)})


@dataclass(frozen=True)
class Preview:
    """What one document holds."""

    resources: tuple[Resource, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    made_up: tuple[str, ...] = ()
    """Secrets in whose place made-up values stood."""


def plain(value: Any) -> Any:
    """The value with secrets as `[secret]`, however the engine marked them."""
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SIGNED_SECRET:
            return SECRET
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _resource(step: Mapping[str, Any]) -> Resource | None:
    """From one step of a document."""
    old, new = mapping(step.get("oldState")), mapping(step.get("newState"))
    state = new or old
    urn = _text(step.get("urn"))
    if urn.count("::") < 3 or not state:
        return None
    op = STEPS.get(_text(step.get("op")), "same")
    was, now = (mapping(plain(state.get("inputs"))) if state else None for state in (old, new))
    if op == "update" and was == now and "outputs" in new:
        # A refresh can find what differs in the outputs alone.
        was, now = (mapping(plain(state.get("outputs"))) for state in (old, new))
    noted = {str(path) for path in mapping(step.get("detailedDiff"))}
    return Resource(
        urn=urn,
        type=_text(state.get("type")),
        name=urn.split("::", 3)[3],
        parent=_text(state.get("parent")),
        custom=state.get("custom") is True,
        op=op,
        old=None if op == "create" else was,
        new=None if op == "delete" else now,
        replaced_by=tuple(str(path).split("[")[0] for path in entries(state.get("replaceOnChanges"))),
        noted=frozenset(noted) if op in ("update", "replace") else frozenset(),
    )


def left_out(urn: str) -> Resource:
    """The component with this URN, which a document leaves out: the engine writes none that stays the same, only its children."""
    kind, name = [*urn.split("::", 3), "", "", "", ""][2:4]
    return Resource(urn=urn, type=kind.rpartition("$")[2], name=name, parent="", custom=False, op="same")


def _merged(steps: Iterable[Any]) -> tuple[Resource, ...]:
    """One resource an URN: a replacement is several steps."""
    resources: dict[str, Resource] = {}
    for step in steps:
        resource = _resource(mapping(step))
        if resource is None:
            continue
        before = resources.get(resource.urn)
        if before is None or before.op == "same":
            resources[resource.urn] = resource
        elif resource.op != "same":
            op = resource.op if resource.op == before.op else "replace"
            resources[resource.urn] = replace(before, op=op, old=before.old or resource.old, new=before.new or resource.new)
    return tuple(resources.values())


def _error(message: str) -> str:
    return message.strip().removeprefix("error: ").strip()


def of(file: Path) -> Preview:
    """The preview in a file of ours, which is read no further than one character beyond `MAX_OWN_DOCUMENT`."""
    with open(file, encoding="utf-8", errors="replace") as handle:
        return read(handle.read(MAX_OWN_DOCUMENT + 1), MAX_OWN_DOCUMENT)


def measured(file: Path, refreshed: bool = True) -> list[tuple[str, str]]:
    """What differs, by the document of `kata-nodes drift --json`: names of nodes, objects and proofs, each with a sentence.

    Of objects only what a refresh does not see; all where that has seen nothing (`refreshed`), as that one is being deleted.
    What could not be measured is among them where something else differs. Raises ValueError for any other document.
    """
    with open(file, encoding="utf-8", errors="replace") as handle:
        text = handle.read(MAX_DOCUMENT + 1)
    try:
        document = json.loads(text) if len(text) <= MAX_DOCUMENT else None
    except RecursionError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise ValueError("no document of kata-nodes drift")
    rows = []
    for node in map(mapping, document["nodes"]):
        name = _text(node.get("name"))
        rows += [(name, _text(mapping(difference).get("what"))) for difference in entries(node.get("differences"))]
        rows += [(name, f"not measured: {_text(node.get('cause'))}")] if node.get("reached") is not True else []
    for item in map(mapping, entries(document.get("objects"))):
        name = f"{_text(item.get('kind'))} {_text(item.get('name'))}"
        different = [mapping(difference) for difference in entries(item.get("differences"))]
        seen = SEEN_BY_REFRESH if refreshed else ()
        rows += [(name, _text(each.get("what"))) for each in different if each.get("kind") not in seen]
        rows += [(name, f"not measured: {_text(item.get('cause'))}")] if item.get("reached") is not True else []
    rows += [(name, NO_PROOF_IN_PODS) for name in map(_text, entries(document.get("unfinished"))) if name]
    return rows


def read(text: str, most: int = MAX_DOCUMENT) -> Preview:
    """The preview in `text`: the engine's own document, or ours, which holds it beside the names of made-up secrets. More than
    `most` characters are not read."""
    if len(text) > most:
        return Preview(errors=(f"The preview's document is larger than {most} characters and was not read.",))
    try:
        document = mapping(json.loads(text))
    except (ValueError, RecursionError):
        return Preview(errors=("The preview ended without a document that can be read. See the log of its job.",))
    made_up = tuple(_text(name) for name in entries(document.get("madeUp")))
    document = mapping(document.get("preview")) or document
    try:
        resources = _merged(entries(document.get("steps")))
    except RecursionError:
        return Preview(errors=("The preview's document is nested too deeply and was not read.",))
    messages = [
        (_text(mapping(diagnostic).get("severity")), _error(_text(mapping(diagnostic).get("message"))))
        for diagnostic in entries(document.get("diagnostics"))
    ]
    errors = [message for severity, message in messages if severity == "error" and message]
    return Preview(
        resources=resources,
        errors=tuple(dict.fromkeys([error for error in errors if not error.startswith(NOISE)] or errors)),
        warnings=tuple(dict.fromkeys(message for severity, message in messages if severity == "warning" and message)),
        made_up=made_up,
    )


def _renamed(resource: Resource) -> bool:
    """Whether an object of a cluster gets another name or namespace, for which its plugin makes another object."""
    old, new = (mapping((values or {}).get("metadata")) for values in (resource.old, resource.new))
    return resource.type.startswith("kubernetes:") and any(old.get(key) != new.get(key) for key in ("name", "namespace"))


def between(base: Preview, head: Preview) -> tuple[Resource, ...]:
    """What changes from one preview of a whole new stack to another: no state was asked, so the engine saw no change itself."""
    before = {resource.urn: resource for resource in base.resources}
    after = {resource.urn: resource for resource in head.resources}
    changes = []
    for urn, resource in after.items():
        if urn not in before:
            changes.append(replace(resource, op="create", old=None))
            continue
        pair = replace(resource, op="same", old=before[urn].new)
        if pair.changed:
            replaced = pair.changed & {*resource.replaced_by} or _renamed(pair)
            pair = replace(pair, op="replace" if replaced else "update")
        changes.append(pair)
    return (
        *changes,
        *(replace(resource, op="delete", old=resource.new, new=None) for urn, resource in before.items() if urn not in after),
    )
