"""Reads a stack's file as the engine does: go-yaml 3 takes `yes`, `on`, a day and 12:30 for text, unlike YAML 1.1 and PyYAML."""

import re
from typing import Any

import yaml

_PREFIX = "tag:yaml.org,2002:"
_PATTERNS = {
    f"{_PREFIX}bool": re.compile(r"(true|True|TRUE|false|False|FALSE)$"),
    f"{_PREFIX}int": re.compile(r"[-+]?(0b[0-1_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
}
"""What counts as such without quotes (go-yaml 3, resolve.go)."""


class _Loader(yaml.SafeLoader):
    """Tells plain words apart as the engine does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, _PATTERNS.get(tag, pattern)) for tag, pattern in resolvers if tag != f"{_PREFIX}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str | bytes) -> Any:
    """The document of a stack's file. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)
