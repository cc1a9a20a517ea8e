"""A desired state that writes and reads itself: the fields of a dataclass are its keys, and a wrong key changes nothing."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from nodekit.errors import NodeError
from nodekit.rules.text import printable

R = TypeVar("R", bound="Record")


@dataclasses.dataclass(frozen=True)
class Record:
    """Base of every desired state and of what it holds.

    Types of fields: str, int, float, bool, list[str], another record, dict[str, another record], and each of them `| None`.
    """

    @classmethod
    def read(cls: type[R], document: Mapping[str, object], at: str = "") -> R:
        """From JSON's objects, defaults filled in.

        A whole float becomes an int where an int is expected; a bool is never a number. `at` names the key that holds this
        object (`repository`), for messages. Raises NodeError `bad-input` for a key that is unknown, missing or ill-typed.
        """
        prefix = f"{at}." if at else ""
        by_key = {_key(field.name): field for field in dataclasses.fields(cls)}
        for key in document:
            if key not in by_key:
                raise NodeError(
                    "bad-input",
                    f"Key {prefix}{printable(str(key), 80)} is not known (value {_quoted(document[key])})",
                    expected=f"one of the known keys: {', '.join(sorted(by_key))}",
                )
        kinds = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, field in by_key.items():
            kind = kinds[field.name]
            if key in document:
                values[field.name] = _typed(kind, document[key], f"{prefix}{key}")
            elif field.default is dataclasses.MISSING:
                raise NodeError("bad-input", f"Key {prefix}{key} is missing", expected=f"{_name(kind)} as {prefix}{key}")
        return cls(**values)

    def document(self) -> dict[str, object]:
        """As JSON's objects, every key written."""
        return {_key(field.name): _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _key(name: str) -> str:
    """The key of a field: `config_path` is `configPath`."""
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _plain(value: Any) -> object:
    if isinstance(value, Record):
        return value.document()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _typed(kind: Any, value: object, at: str) -> object:
    """`value` as a `kind`; raises NodeError `bad-input`."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        (inner,) = (part for part in typing.get_args(kind) if part is not type(None))
        return _typed(inner, value, at) if isinstance(value, Mapping) else _scalar(kind, inner, value, at)
    return _scalar(kind, kind, value, at)


def _scalar(whole: Any, kind: Any, value: object, at: str) -> object:
    """`value` as a `kind`, which is `whole` in messages."""
    if isinstance(value, Mapping):
        if isinstance(kind, type) and issubclass(kind, Record):
            return kind.read(value, at)
        if typing.get_origin(kind) is dict:
            inner = typing.get_args(kind)[1]
            return {str(key): _typed(inner, part, f"{at}.{printable(str(key), 40)}") for key, part in value.items()}
    elif typing.get_origin(kind) is list:
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return value
    elif isinstance(value, bool):
        if kind is bool:
            return value
    elif kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif kind is float and isinstance(value, int):
        return float(value)
    elif kind in (str, int, float) and isinstance(value, kind):
        return value
    raise NodeError("bad-input", f"Key {at} is {_quoted(value)}, not {_name(whole)}", expected=f"{_name(whole)} as {at}")


def _name(kind: Any) -> str:
    """A type as a person reads it."""
    if isinstance(kind, types.UnionType):
        return " or ".join(_name(part) for part in typing.get_args(kind))
    names = {str: "a string", int: "a whole number", float: "a number", bool: "a boolean", types.NoneType: "null"}
    if typing.get_origin(kind) is list:
        return "a list of strings"
    return names.get(kind, "an object")


def _quoted(value: object) -> str:
    return printable(repr(value), 120)
