"""What breaks a program that was written for a release: names and types of the schema, and names of children."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Schema = Mapping[str, Any]
"""A package's schema as schema.json holds it."""


@dataclass(frozen=True)
class Child:
    """A resource that a program registers; one without a parent belongs to the stack itself."""

    type: str
    name: str
    parent: "Child | None" = None
    aliases: tuple["Alias", ...] = field(default=())

    def urns(self) -> set[str]:
        """The URNs, without stack and project, by which the engine finds it in a state: its own first of all, and by its aliases.

        As the engine does, a child inherits its parent's aliases, and with a renamed parent the name that begins with its own.
        """
        urns = set()
        for before in {("", "")} if self.parent is None else self.parent.identities():
            for kind, name in (
                (self.type, self.name),
                *((alias.type or self.type, alias.name or self.name) for alias in self.aliases),
            ):
                if self.parent and name.startswith(self.parent.name):
                    name = before[1] + name.removeprefix(self.parent.name)
                urns.add(f"{before[0]}{'$' if before[0] else ''}{kind}::{name}")
        for alias in self.aliases:
            if alias.in_stack:
                urns.add(f"{alias.type or self.type}::{alias.name or self.name}")
            if alias.urn:
                urns.add(alias.urn)
        return urns

    def identities(self) -> set[tuple[str, str]]:
        """Its qualified types with its names."""
        return {(kind, name) for kind, _, name in (urn.rpartition("::") for urn in self.urns())}

    @property
    def urn(self) -> str:
        """Its own URN, without stack and project."""
        kind = self.type
        parent = self.parent
        while parent:
            kind, parent = f"{parent.type}${kind}", parent.parent
        return f"{kind}::{self.name}"


@dataclass(frozen=True)
class Alias:
    """One alias as a program gives it; what is empty is as the resource has it."""

    name: str = ""
    type: str = ""
    urn: str = ""
    in_stack: bool = False
    """Whether it stood in the stack itself, without a parent."""


def lost(released: Iterator[str] | list[str], now: list[Child]) -> list[str]:
    """Sentences on resources of a release that an update would delete, because no resource of today is known as them."""
    known = set().union(*(child.urns() for child in now)) if now else set()
    return [
        f"{urn} is gone: an update deletes it. Give today's resource an alias of that name or type."
        for urn in released
        if urn not in known
    ]


def kind_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A property's type alone: descriptions change as they please."""
    return {key: kind_of(value) if isinstance(value, Mapping) else value for key, value in spec.items() if key != "description"}


def type_text(spec: Mapping[str, Any]) -> str:
    """A type in a few letters, as list of string."""
    kind = spec.get("$ref") or spec.get("type", "any")
    inner = spec.get("items") or spec.get("additionalProperties")
    return f"{'plain ' if spec.get('plain') else ''}{kind}{f' of {type_text(inner)}' if inner else ''}"


def accepts(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether an input takes all that it took: the same type, or no longer a plain one."""
    if {**before, "plain": None, "items": None} != {**now, "plain": None, "items": None}:
        return False
    if now.get("plain") and not before.get("plain"):
        return False
    return ("items" in before) == ("items" in now) and ("items" not in before or accepts(before["items"], now["items"]))


def inputs(where: str, before: Schema, now: Schema, properties: str, required: str) -> Iterator[str]:
    """What breaks programs that set these properties."""
    for name, spec in before.get(properties, {}).items():
        if name not in now.get(properties, {}):
            yield f"{where}: input {name} is gone or has another name."
        elif not accepts(was := kind_of(spec), new := kind_of(now[properties][name])):
            yield f"{where}: input {name} was {type_text(was)} and is {type_text(new)}."
    for name in sorted({*now.get(required, ())} - {*before.get(required, ())}):
        yield f"{where}: input {name} is newly required."


def outputs(where: str, before: Schema, now: Schema) -> Iterator[str]:
    """What breaks programs that read these properties."""
    for name, spec in before.get("properties", {}).items():
        if name not in now.get("properties", {}):
            yield f"{where}: output {name} is gone or has another name."
        elif (was := kind_of(spec)) != (new := kind_of(now["properties"][name])):
            yield f"{where}: output {name} was {type_text(was)} and is {type_text(new)}."
    for name in sorted({*before.get("required", ())} & {*now.get("properties", ())} - {*now.get("required", ())}):
        yield f"{where}: output {name} is no longer always there."


def reachable(schema: Schema, properties: str) -> set[str]:
    """Types that the components' inputs or outputs hold, however deep."""
    names: set[str] = set()
    waiting: list[Any] = [resource.get(properties, {}) for resource in schema.get("resources", {}).values()]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, Mapping):
            continue
        name = str(value.get("$ref", "")).removeprefix("#/types/")
        if name in schema.get("types", {}) and name not in names:
            names.add(name)
            waiting.append(schema["types"][name].get("properties", {}))
        waiting += value.values()
    return names


def breaks(released: Schema, now: Schema) -> list[str]:
    """Sentences on everything in today's schema that breaks programs written for the released one; additions do not."""
    sentences = []
    for name, before in released.get("resources", {}).items():
        after = now.get("resources", {}).get(name)
        if after is None:
            sentences.append(f"{name} is gone or has another name.")
            continue
        sentences += inputs(name, before, after, "inputProperties", "requiredInputs")
        sentences += outputs(name, before, after)
    for name in sorted(reachable(released, "inputProperties")):
        sentences += inputs(name, released["types"][name], now.get("types", {}).get(name, {}), "properties", "required")
    for name in sorted(reachable(released, "properties")):
        sentences += outputs(name, released["types"][name], now.get("types", {}).get(name, {}))
    return sentences
