"""The desired state's checks: lost if these fail is that a misspelt key changes a node in silence."""

import pytest

from nodekit.errors import NodeError
from nodekit.rules.desired import REQUIRED, Spec, take

SPEC: Spec = {
    "name": (str, REQUIRED),
    "count": (int, 3),
    "share": (float, 0.5),
    "on": (bool, False),
    "path": (str | None, None),
    "words": (list[str], []),
    "more": (dict | None, None),
}


def test_given_values_are_taken_and_others_default() -> None:
    assert take({"name": "n", "count": 4.0, "share": 1, "path": "/p", "words": ["a"]}, SPEC) == {
        "name": "n", "count": 4, "share": 1.0, "on": False, "path": "/p", "words": ["a"], "more": None,
    }  # fmt: skip
    assert type(take({"name": "n", "count": 4.0}, SPEC)["count"]) is int


@pytest.mark.parametrize(
    ("given", "named", "shown", "asked"),
    [
        ({}, "name", "missing", "a string"),
        ({"name": None}, "name", "None", "a string"),
        ({"name": "n", "count": True}, "count", "True", "a whole number"),
        ({"name": "n", "count": 1.5}, "count", "1.5", "a whole number"),
        ({"name": "n", "share": "x"}, "share", "'x'", "a number"),
        ({"name": "n", "on": 1}, "on", "1", "a boolean"),
        ({"name": "n", "path": 1}, "path", "1", "a string or null"),
        ({"name": "n", "words": ["a", 1]}, "words", "['a', 1]", "a list of strings"),
        ({"name": "n", "more": []}, "more", "[]", "an object or null"),
        ({"name": "n", "nmae": "x\x1b"}, "nmae", "x", "one of the known keys: count,"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_was_asked(
    given: dict[str, object], named: str, shown: str, asked: str
) -> None:
    with pytest.raises(NodeError) as caught:
        take(given, SPEC, at="outer")
    assert caught.value.code == "bad-input"
    assert f"outer.{named}" in caught.value.message and shown in caught.value.message
    assert asked in caught.value.remedy
    assert "\x1b" not in caught.value.sentence()
