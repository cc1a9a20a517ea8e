"""A desired state that writes and reads itself: its fields are the keys, and a wrong key changes nothing."""

import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from nodekit.errors import NodeError
from nodekit.rules.text import printable

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_):
        """Only type checkers use it, and a node may have Python 3.10, in which it is not."""
        return lambda cls: cls


R = TypeVar("R", bound="Record")


@dataclass_transform(frozen_default=True)
class Record:
    """Base of every desired state and of what it holds: the annotated names of a class are its fields, which never change.

    Types of fields: str, int, float, bool, list[str], another record, dict[str, another record], and each of them `| None`.
    It does what a frozen dataclass does, without the half millisecond that each of those takes at every start (docs/adr/0037).
    """

    fields: ClassVar[dict[str, type]] = {}
    """Name -> type, in the order of the class, those of its base first."""
    positions: ClassVar[int] = 0
    """How many of them, from the first, may be given without their names."""

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        cls.fields = {**cls.fields, **cls.__annotations__}
        cls.positions = cls.positions if kw_only else len(cls.fields)

    def __init__(self, *values: object, **named: object) -> None:
        names = list(self.fields)
        if len(values) > self.positions:
            raise TypeError(f"{type(self).__name__} takes {self.positions} values without a name, not {len(values)}")
        whole = {**dict(zip(names, values, strict=False)), **named}
        if doubled := named.keys() & set(names[: len(values)]):
            raise TypeError(f"{type(self).__name__} has two values for {sorted(doubled)}")
        lacking = [name for name in names if name not in whole and not hasattr(type(self), name)]
        if lacking or whole.keys() - self.fields.keys():
            raise TypeError(f"{type(self).__name__} lacks {lacking}, does not know {sorted(whole.keys() - self.fields.keys())}")
        self.__dict__.update({name: whole[name] if name in whole else getattr(type(self), name) for name in names})
        self.__post_init__()

    def __post_init__(self) -> None:
        """Refuse values that no node may get."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]  # lists are among the values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    @classmethod
    def read(cls: type[R], document: Mapping[str, object], at: str = "") -> R:
        """From JSON's objects, defaults filled in.

        A whole float becomes an int where an int is expected; a bool is never a number. `at` names the key that holds this
        object (`repository`), for messages. Raises NodeError `bad-input` for a key that is unknown, missing or ill-typed.
        """
        prefix = f"{at}." if at else ""
        by_key = {_key(name): name for name in cls.fields}
        for key in document:
            if key not in by_key:
                raise NodeError(
                    "bad-input",
                    f"Key {prefix}{printable(str(key), 80)} is not known (value {_quoted(document[key])})",
                    expected=f"one of the known keys: {', '.join(sorted(by_key))}",
                )
        values: dict[str, Any] = {}
        for key, name in by_key.items():
            kind = cls.fields[name]
            if key in document:
                values[name] = _typed(kind, document[key], f"{prefix}{key}")
            elif not hasattr(cls, name):
                raise NodeError("bad-input", f"Key {prefix}{key} is missing", expected=f"{_name(kind)} as {prefix}{key}")
        return cls(**values)

    def document(self) -> dict[str, object]:
        """As JSON's objects, every key written."""
        return {_key(name): _plain(value) for name, value in vars(self).items()}


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
