"""What is computed from plain values and from outputs. Lost if this fails: secrets, and what a preview does not know."""

import asyncio
from importlib import metadata
from typing import Any

import pulumi
import pytest
from pulumi.output import UNKNOWN

from components.plain import derived, together
from components.plugin_resource import PLUGINS


def read(output: Any) -> tuple[Any, bool, bool]:
    """Its value, and whether it is known and secret."""

    async def inside() -> tuple[Any, bool, bool]:
        value: pulumi.Output[Any] = output()
        return await value.future(), await value.is_known(), await value.is_secret()

    return asyncio.run(inside())


def test_plain_values_give_a_plain_value_at_once() -> None:
    assert derived(lambda *values: values, 1, ["a"], {"b": None}) == (1, ["a"], {"b": None})


def test_an_output_anywhere_in_a_value_is_waited_for_and_stays_secret() -> None:
    def output() -> Any:
        secret = pulumi.Output.secret("s")
        return derived(lambda *values: [*values], "plain", {"list": [secret]}, None, pulumi.Output.from_input(2))

    assert read(output) == (["plain", {"list": ["s"]}, None, 2], True, True)


def test_what_a_preview_does_not_know_is_not_decided_on() -> None:
    def output() -> Any:
        return derived(pytest.fail, "plain", pulumi.Output.from_input(UNKNOWN))

    assert read(output) == (None, False, False)


def test_a_refusal_of_plain_values_needs_no_event_loop_to_be_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        derived(lambda value: 1 / value, 0)


def test_records_are_taken_whole_and_in_order() -> None:
    records = [{"rungs": [{"name": "a"}]}, {"rungs": []}]
    assert read(lambda: together([*map(pulumi.Output.from_input, records)])) == (records, True, False)
    assert read(lambda: together([])) == ([], True, False)


def test_the_command_plugin_is_the_one_that_its_package_asks_for() -> None:
    """`pulumi install` downloads the plugin that the package names; another version here would be a second one."""
    assert PLUGINS["command"] == metadata.version("pulumi-command")
