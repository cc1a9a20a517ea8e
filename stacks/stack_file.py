"""Reads a stack file as the engine does, and writes one that it reads as it was meant."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml


class AsPulumi(yaml.SafeLoader):
    """Takes plain words for what the engine takes them for (gopkg.in/yaml.v3), which is not YAML 1.1: `yes`, `on` and `12:30` are
    text, `1e3` is a number, and a date is the text of its first second. As there, a tab is a blank where it does not indent, and
    a key that stands twice is an error, as is an anchor within itself."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.unfinished: list[str] = []
        """Anchors of the nodes that are being read."""

    def scan_to_next_token(self) -> None:
        """Go past blanks and comments, a tab among them where the engine takes it as one: not before the key of a block."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """The node; raises yaml.composer.ComposerError for one that contains itself, which no reader could walk through.

        An anchor that stands twice counts from there on.
        """
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor: str | None = getattr(event, "anchor", None)
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and anchor in self.unfinished:
            raise yaml.composer.ComposerError(None, None, f"the value of anchor {anchor!r} contains itself", event.start_mark)
        if anchor is None or is_alias:
            return super().compose_node(parent, index)
        self.anchors.pop(anchor, None)
        self.unfinished.append(anchor)
        node = super().compose_node(parent, index)
        self.unfinished.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as it is written; raises yaml.constructor.ConstructorError for a key that stands twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[str, yaml.ScalarNode] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (other := first.setdefault(key.value, key)) is not key:
                text = f"the key {key.value!r} stands in line {other.start_mark.line + 1} already"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
        return node

    def construct_timestamp(self, node: yaml.ScalarNode) -> str:
        """The text that a program gets of it (Go's time.Time.String); its own where there is no such day or time."""
        parts = next((match.groups() for form in TIMESTAMPS if (match := form.fullmatch(node.value))), ())
        try:
            year, month, day, hour, minute, second = [*map(int, parts[:6]), 0, 0, 0][:6]
            moment = datetime(year, month, day, hour, minute, second)
        except ValueError:
            return str(node.value)
        fraction, zone = ("".join(text or "" for text in parts[at : at + 1]) for at in (6, 7))
        offset = zone.replace(":", "") if zone not in ("", "Z", "+00:00") else ""
        return f"{moment.isoformat(' ')}{fraction.rstrip('0').rstrip('.')} {f'{offset} {offset}' if offset else '+0000 UTC'}"


_DAY, _TIME = "([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})", r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(\.[0-9]+)?"
TIMESTAMPS = [re.compile(_DAY + after) for after in ("", f" {_TIME}", f"[Tt]{_TIME}(Z|[-+][0-9]{{2}}:[0-9]{{2}})")]
"""As yaml.v3 has them (resolve.go, allowedTimestampFormats): year to second, its fraction, and the zone."""
AsPulumi.add_constructor("tag:yaml.org,2002:timestamp", AsPulumi.construct_timestamp)
AsPulumi.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] in ("null", "merge")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, form, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("timestamp", "|".join(pattern.pattern for pattern in TIMESTAMPS), "0123456789"),
):
    AsPulumi.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{form})\\Z"), [*first])


class ForPulumi(yaml.SafeDumper):
    """Writes in quotes what the engine, or YAML 1.1, would take for something else than text, such as a host named 1e3."""


ForPulumi.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *AsPulumi.yaml_implicit_resolvers.get(first, [])]
    for first in {**yaml.SafeDumper.yaml_implicit_resolvers, **AsPulumi.yaml_implicit_resolvers}
}


def loaded(text: str | bytes) -> Any:
    """The document of a stack file. Raises yaml.YAMLError or ValueError."""
    return yaml.load(text, AsPulumi)


def misplaced(document: Mapping[Any, Any]) -> list[str]:
    """Keys of a stack file with a namespace, such as kata-nodes:docker, beside `config`: the engine passes over them."""
    return [key for key in document if isinstance(key, str) and ":" in key]


def namespaced(config: Mapping[Any, Any], project: str) -> dict[str, Any]:
    """The keys of a stack file's configuration as the engine takes them: one that names no namespace is of the project's."""
    return {str(key) if ":" in str(key) else f"{project}:{key}": value for key, value in config.items()}


def handed_over(value: Any) -> Any:
    """A value of a stack file's configuration as a program reads it: text may be JSON, as of `pulumi config set KEY '{…}'`, and a
    whole number is one in every notation."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return _with_whole_numbers(value)


def _with_whole_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_whole_numbers(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(below) for below in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def dumped(document: Mapping[str, Any]) -> str:
    """The text of a stack file with that document, its keys in their order."""
    return yaml.dump(document, Dumper=ForPulumi, sort_keys=False)
