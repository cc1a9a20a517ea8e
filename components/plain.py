"""Keeps plain values plain: there is an output only where a value comes from a resource, or is secret.

The SDK makes a task and several futures of each output. Nearly all values of a node are plain, and a hundred nodes would have
tens of thousands of outputs.
"""

from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, Generic, TypeVar

import pulumi

T = TypeVar("T")


class _Whole(Generic[T]):
    """A value that `Output.all` leaves whole. It makes an output of each item of a dict or list."""

    def __init__(self, value: T) -> None:
        self.value = value


def is_plain(value: object) -> bool:
    """Whether neither the value nor anything in it is an output."""
    if isinstance(value, dict):
        return all(map(is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, pulumi.Output) and not isawaitable(value)


def together(outputs: Sequence[pulumi.Output[T]]) -> pulumi.Output[list[T]]:
    """The values of all, which must not contain outputs themselves."""
    wholes = pulumi.Output.all(*(output.apply(_Whole) for output in outputs))
    return wholes.apply(lambda known: [whole.value for whole in known])


def derived(decide: Callable[..., T], *values: Any) -> pulumi.Input[T]:
    """`decide(*values)`: at once if all values are plain, otherwise as an output."""
    later = [at for at, value in enumerate(values) if not is_plain(value)]
    if not later:
        return decide(*values)

    def decided(known: list[Any]) -> T:
        by_place = dict(zip(later, known, strict=True))
        return decide(*(by_place.get(at, value) for at, value in enumerate(values)))

    return together([_output(values[at]) for at in later]).apply(decided)


def unsecret(value: pulumi.Input[T]) -> pulumi.Input[T]:
    """`value`, not secret: what was computed from a secret and tells nothing of it."""
    return pulumi.Output.unsecret(value) if isinstance(value, pulumi.Output) else value


def set_or(value: Any, default: Any) -> Any:
    """`value`, or `default` where it is nothing or empty text, as what a program hands on from a setting that is not set, or from
    an output."""
    return derived(lambda known: default if known is None or known == "" else known, value)


def _output(value: Any) -> pulumi.Output[Any]:
    """Of a dict or list with outputs in it, one of all its values. What an output holds has none."""
    return value if isinstance(value, pulumi.Output) else pulumi.Output.from_input(value)
