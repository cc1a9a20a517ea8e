"""A stack file means to this project's commands what it means to the engine.

Lost if this fails: a doctor, and previews of pull requests, that refuse no file which `pulumi up` takes."""

import pytest
import yaml

from stacks.stack_file import dumped, loaded


def test_words_of_a_stack_file_are_what_the_engine_takes_them_for() -> None:
    """`pulumi config get` of this file prints these values; by YAML 1.1, `yes` and `on` would be truth values."""
    text = """
config:
  p:a: {sel: yes, on: off, time: 12:30, sci: 1e3, octal: 0o17, old: 0755, sum: 1_000, none: ~, is: True, text: "1e3"}
"""
    values = {"sel": "yes", "on": "off", "time": "12:30", "sci": 1000, "octal": 15, "old": 493, "sum": 1000, "none": None}
    values |= {"is": True, "text": "1e3"}
    assert loaded(text) == {"config": {"p:a": values}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("OFF", "OFF"), ("true", True), ("False", False), ("~", None),
        ("12:30", "12:30"), ("2026-01-05", "2026-01-05 00:00:00 +0000 UTC"), ("2026-13-05", "2026-13-05"),
        ("2026-1-5 7:30:00.50", "2026-01-05 07:30:00.5 +0000 UTC"), ("'2026-01-05'", "2026-01-05"), ("2026-01", "2026-01"),
        ("2026-01-05T07:30:00-05:00", "2026-01-05 07:30:00 -0500 -0500"), ("2026-01-05T07:30:00", "2026-01-05T07:30:00"),
        ("22", 22), ("-7", -7), ("0x1F", 31), ("0644", 420), ("'22'", "22"),
        ("27.5", 27.5), ("27.5.1", "27.5.1"), ("", None), ("\ufeffa", "a"), ("089", 89.0),
    ],
)  # fmt: skip
def test_plain_words_are_what_the_engine_takes_them_for(text: str, value: object) -> None:
    assert (document := loaded(text)) == value and type(document) is type(value)


@pytest.mark.parametrize("text", ["a:\t1\nb: [2,\t3]\n", "a: 1\t# one\nb:\t\n\n- 2\t\n- 3", "{a: 1\t, b:\t[2, 3]}\t"])
def test_tab_is_a_blank_where_the_engine_takes_it_as_one(text: str) -> None:
    """A preview of a pull request refused the file that `pulumi up` takes, and so did doctor."""
    assert loaded(text) == {"a": 1, "b": [2, 3]}


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n-\t1\n", "\ta: 1\n"])
def test_tab_that_would_indent_is_refused_as_the_engine_does(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        loaded(text)


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "config:\n  p:a: {version: 1}\n  p:a: {version: 1}\n", "[{a: 1, 'a': 1}]"])
def test_key_that_stands_twice_is_refused_as_the_engine_does(text: str) -> None:
    """A preview of a pull request would show the last one, and `pulumi up` end at once."""
    with pytest.raises(yaml.YAMLError, match=r"stands in line \d already"):
        loaded(text)


def test_keys_that_come_from_an_anchor_may_be_set_again() -> None:
    text = "a: &common {x: 1, y: 2}\nb:\n  <<: *common\n  x: 3\nc: {<<: *common}\n"
    assert loaded(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2}}


@pytest.mark.parametrize("text", ["1e3", "0o17", "089", "5e12", "yes", "12:30", "0x1F", "~", "1_000", ".5", "true", "2026-01-05"])
def test_text_that_is_written_is_read_as_text(text: str) -> None:
    """A machine may be named so, as those whose names are hexadecimal are."""
    assert loaded(dumped({"address": text})) == {"address": text} == yaml.safe_load(dumped({"address": text}))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "a: &a [1]\nb: &a [*a]"])
def test_value_that_contains_itself_is_refused_as_the_engine_does(text: str) -> None:
    """No reader could walk through it: the preview of a pull request ended with a traceback."""
    with pytest.raises(yaml.YAMLError, match="the value of anchor 'a' contains itself"):
        loaded(text)


def test_anchor_that_stands_twice_counts_from_there_on_as_for_the_engine() -> None:
    assert loaded("a: &x 1\nb: *x\nc: &x [2, &y 3]\nd: [*x, *y, *y]") == {"a": 1, "b": 1, "c": [2, 3], "d": [[2, 3], 3, 3]}
