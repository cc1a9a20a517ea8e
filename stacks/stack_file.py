"""Reads a stack file as the engine does."""

import re
from typing import Any

import yaml


class AsPulumi(yaml.SafeLoader):
    """Takes plain words for what the engine takes them for (gopkg.in/yaml.v3), which is not YAML 1.1: `yes`, `on` and `12:30` are
    text, and `1e3` is a number."""


AsPulumi.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] in ("null", "merge")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, form, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    AsPulumi.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{form})\\Z"), [*first])


def loaded(text: str | bytes) -> Any:
    """The document of a stack file. Raises yaml.YAMLError or ValueError."""
    return yaml.load(text, AsPulumi)
