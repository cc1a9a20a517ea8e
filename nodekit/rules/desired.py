"""Check a desired state key by key, so that a wrong one is refused before anything is touched."""

import types
import typing
from collections.abc import Mapping
from typing import Any

from nodekit.errors import NodeError
from nodekit.rules.text import printable

REQUIRED: object = object()
"""Stands for the default of a key that must be given."""
Spec = Mapping[str, tuple[Any, Any]]
"""Key -> (type, default or `REQUIRED`). Types: str, int, float, bool, dict, list[str], and each of them `| None`."""


def take(desired: Mapping[str, object], spec: Spec, at: str = "") -> dict[str, Any]:
    """The values of `desired` as `spec` types them, defaults filled in.

    A whole float becomes an int where an int is asked; a bool is never a number. `at` names the key that holds this
    object (`repository`), for messages. Raises NodeError `bad-input` for a key that is unknown, missing or ill-typed.
    """
    prefix = f"{at}." if at else ""
    for key in desired:
        if key not in spec:
            raise NodeError(
                "bad-input",
                f"Key {prefix}{printable(str(key), 80)} is not known (value {_shown(desired[key])})",
                expected=f"one of the known keys: {', '.join(sorted(spec))}",
            )
    taken: dict[str, Any] = {}
    for key, (kind, default) in spec.items():
        if key not in desired:
            if default is REQUIRED:
                raise NodeError("bad-input", f"Key {prefix}{key} is missing", expected=f"{_name(kind)} as {prefix}{key}")
            taken[key] = default
            continue
        value = desired[key]
        fits, taken[key] = _fit(kind, value)
        if not fits:
            raise NodeError(
                "bad-input",
                f"Key {prefix}{key} is {_shown(value)}, not {_name(kind)}",
                expected=f"{_name(kind)} as {prefix}{key}",
            )
    return taken


def _fit(kind: Any, value: object) -> tuple[bool, object]:
    """Whether `value` is of `kind`, and the value as that kind."""
    if isinstance(kind, types.UnionType):
        found = [one for one in (_fit(part, value) for part in typing.get_args(kind)) if one[0]]
        return found[0] if found else (False, value)
    if typing.get_origin(kind) is list:
        inner = typing.get_args(kind)[0]
        return isinstance(value, list) and all(_fit(inner, one)[0] for one in value), value
    if kind is type(None):
        return value is None, value
    if isinstance(value, bool):
        return kind is bool, value
    if kind is int and isinstance(value, float) and value.is_integer():
        return True, int(value)
    if kind is float and isinstance(value, int):
        return True, float(value)
    return isinstance(value, kind), value


def _name(kind: Any) -> str:
    """A type as a person reads it."""
    if isinstance(kind, types.UnionType):
        return " or ".join(_name(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return f"a list of {_name(typing.get_args(kind)[0]).split(' ', 1)[1]}s"
    names = {str: "a string", int: "a whole number", float: "a number", bool: "a boolean", dict: "an object"}
    return names.get(kind, "null")


def _shown(value: object) -> str:
    return printable(repr(value), 120)
