"""Refuses arguments that a component cannot use, in a sentence: no schema has checked those of a Python program."""

import difflib
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from inspect import isawaitable
from typing import Any, ForwardRef, NotRequired, TypeVar, Union, get_args, get_origin, is_typeddict
from weakref import WeakKeyDictionary

import pulumi

from delivery import login
from nodekit.errors import NodeError
from nodekit.rules.text import harmless, printable

Args = TypeVar("Args", bound=Mapping[str, Any])

WORDS = {str: "text", bool: "a boolean", int: "a whole number", list: "a list", dict: "a dict of keys and values"}
"""Type of an argument -> what a person calls it."""
LATER = (Awaitable, pulumi.Output)


class ArgumentError(pulumi.RunError):
    """An argument that is refused. The message has the key as Python programs write it."""

    def __init__(self, component: str, path: tuple[str, ...], reason: str) -> None:
        self.component, self.path, self.reason = component, path, reason
        super().__init__(self.spelled(str))

    def spelled(self, spell: Callable[[str], str]) -> str:
        """The message, with each key as `spell` writes it."""
        return harmless(f"{self.component}: {'.'.join(map(spell, self.path)) or 'args'}: {self.reason}.")


@dataclass(frozen=True)
class Kind:
    """What an argument must be."""

    base: Any
    """One of WORDS, a record (TypedDict), or Any."""
    later: bool
    """Whether it may be another resource's output."""
    items: "Kind | None" = None
    """Of each value in a list or dict."""

    @property
    def words(self) -> str:
        """What a person calls it."""
        return WORDS.get(self.base, WORDS[dict])


_DEMANDED: WeakKeyDictionary[pulumi.Output[Any], tuple[Kind, bool, bool]] = WeakKeyDictionary()
"""What outputs are held to already: a pool hands those of its arguments on to each of its nodes."""


def checked(component: pulumi.ComponentResource, record: type[Args], name: str, args: Args) -> Args:
    """The arguments of the `component` with that name, without those that are None, which are left out.

    Raises ArgumentError where a required one is lacking, for one that `record` does not have, for one of another type, and for
    the output of a resource where the argument decides which resources there are. An output holds its value later, and raises
    then. What is awaited becomes an output: a coroutine can be awaited once, and a component reads some arguments several times.
    No message shows a value, which could be a secret.
    """
    whole = Kind(record, later=False)
    result: Args = _checked(f"{type(component).__name__} {printable(str(name), 100)}", whole, {} if args is None else args, ())
    return result


def _checked(component: str, kind: Kind, value: Any, path: tuple[str, ...], required: bool = False, is_item: bool = False) -> Any:
    if isinstance(value, pulumi.Output) or isawaitable(value):
        if not kind.later:
            plain = "a dict, whose values may be outputs," if is_typeddict(kind.base) else "a plain value,"
            raise ArgumentError(component, path, f"it must be {plain} not a secret or another resource's output")
        demand = (kind, required, is_item)
        if isinstance(value, pulumi.Output) and ((not required and kind.base in (int, Any)) or _DEMANDED.get(value) == demand):
            return value

        def known_later(known: Any) -> Any:
            if known is None and (required or is_item):
                raise ArgumentError(component, path, f"the output that it is set to holds nothing. Set it to {kind.words}")
            return None if known is None else _checked(component, kind, known, path, required)

        output: pulumi.Output[Any] = pulumi.Output.from_input(value)
        later = output.apply(known_later)
        _DEMANDED[later] = demand
        return later
    if is_typeddict(kind.base) and isinstance(value, Mapping):
        return _record(component, kinds_of(kind.base), kind.base.__required_keys__, value, path)
    if kind.base is list and isinstance(value, list | tuple):
        items = kind.items or kind
        return [_checked(component, items, item, _item(path, number), is_item=True) for number, item in enumerate(value)]
    if kind.base is dict and isinstance(value, Mapping):
        items = kind.items or kind
        return {key: _checked(component, items, item, (*path, str(key)), is_item=True) for key, item in value.items()}
    if (kind.base in WORDS and kind.base is not int and not isinstance(value, kind.base)) or is_typeddict(kind.base):
        quotes = ", in quotes" if kind.base is str and isinstance(value, int | float) else ""
        raise ArgumentError(component, path, f"it is of type {type(value).__name__}. Set it to {kind.words}{quotes}")
    if required and value == "":
        raise ArgumentError(component, path, f"it is empty. Set it to {kind.words}")
    return value


def _record(
    component: str, kinds: Mapping[str, Kind], required: Collection[str], value: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    for key in value:
        if key not in kinds:
            place = (*path, printable(str(key), 60))
            raise ArgumentError(component, place, f"there is no such key. {instead(str(key), list(kinds))}")
    for key, kind in kinds.items():
        if key in required and value.get(key) is None:
            if key == "host_key":  # its remedy says where the key is read
                try:
                    login.pinned(None, "host")
                except NodeError as error:
                    raise pulumi.RunError(harmless(f"{component}: {'.'.join((*path, key))}: {error.sentence()}")) from None
            raise ArgumentError(component, (*path, key), f"the key is required. Set it to {kind.words}")
    # How a machine is reached may be nothing where `--target` leaves the machine out (Pulumi 3.255 and older).
    needed = [key for key in required if "host_key" not in kinds or key not in ("address", "host_key")]
    return {
        key: _checked(component, kinds[key], item, (*path, key), key in needed) for key, item in value.items() if item is not None
    }


def _item(path: tuple[str, ...], number: int) -> tuple[str, ...]:
    return (*path[:-1], f"{path[-1]}[{number}]")


def instead(key: str, known: list[str]) -> str:
    """What to write for a key that does not exist: kernelParams and kernel-params are ways to write kernel_params."""

    def words(text: str) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower().replace("-", "_")

    meant = difflib.get_close_matches(words(key), by_words := {words(each): each for each in known}, 1)
    if meant:
        return f"Write {by_words[meant[0]]}"
    return f"Remove it; there are {', '.join(known)}" if known else "Remove it"


@cache
def kinds_of(record: Any) -> dict[str, Kind]:
    """What each key of a record must be."""
    return {key: _kind(hint) for key, hint in record.__annotations__.items()}


def _kind(hint: Any) -> Kind:
    """Of an annotation: `pulumi.Input[X]` is a union of X, an awaitable of it, and an output, which the SDK names as text."""
    if get_origin(hint) is NotRequired:
        return _kind(get_args(hint)[0])
    members = get_args(hint) if get_origin(hint) is Union else (hint,)
    values = [member for member in members if not isinstance(member, ForwardRef | str) and get_origin(member) not in LATER]
    (value,) = values
    later = len(values) < len(members)
    origin, inner = get_origin(value) or value, get_args(value)
    if not inner:
        return Kind(origin, later)
    items = _kind(inner[-1])
    # Where a whole list may be an output, so may each of its values.
    return Kind(dict if origin is dict else list, later, replace(items, later=items.later or later))
