"""A stack's file means here what it means to the engine.

Lost if this fails: a doctor, and previews of pull requests, that refuse no file which `pulumi up` takes."""

import pytest
import yaml

from stacks.engine_yaml import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("true", True), ("False", False), ("~", None),
        ("2026-01-05", "2026-01-05"), ("12:30", "12:30"), ("22", 22), ("-7", -7), ("0x1F", 31), ("0644", 420), ("'22'", "22"),
        ("27.5", 27.5), ("27.5.1", "27.5.1"), ("", None), ("\ufeffa", "a"),
    ],
)  # fmt: skip
def test_plain_words_are_what_the_engine_takes_them_for(text: str, value: object) -> None:
    assert (document := read_yaml(text)) == value and type(document) is type(value)
    assert read_yaml(yaml.safe_dump({"key": value})) == {"key": value}, "what is written for the engine says the same"
