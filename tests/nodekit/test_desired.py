"""The desired state's checks: if these fail, a misspelt key silently changes a node."""

import json

import pytest

from nodekit.errors import NodeError
from nodekit.rules.desired import Record


class Inner(Record):
    place: str


class Sample(Record):
    name: str
    count: int = 3
    share: float = 0.5
    on: bool = False
    config_path: str | None = None
    words: list[str] | None = None
    nested: Inner | None = None
    by_machine: dict[str, Inner] | None = None


def test_values_are_read_and_others_default() -> None:
    document = {"name": "n", "count": 4.0, "share": 1, "configPath": "/p", "words": ["a"], "byMachine": {"x": {"place": "p"}}}
    read = Sample.read(document)
    assert read == Sample("n", 4, 1.0, False, "/p", ["a"], None, {"x": Inner("p")})
    assert type(read.count) is int and type(read.share) is float
    assert Sample.read({"name": "n"}).words is None


class Further(Inner, kw_only=True):
    number: int
    words: list[str] | None = None


def test_a_record_is_made_of_its_fields_and_never_changes() -> None:
    further = Further(place="p", number=1)
    assert vars(further) == {"place": "p", "number": 1, "words": None} and further != Inner("p")
    assert repr(further) == "Further(place='p', number=1, words=None)"
    with pytest.raises(AttributeError, match=r"Further.number cannot be changed"):
        further.number = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"Further.words cannot be changed"):
        del further.words


def test_a_record_is_not_made_of_other_fields() -> None:
    with pytest.raises(TypeError, match=r"Further lacks \['number'\], does not know \['numbr'\]"):
        Further(place="p", numbr=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Further takes 1 values without a name, not 2"):
        Further("p", 1)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"Inner has two values for \['place'\]"):
        Inner("p", place="q")  # type: ignore[misc]


def test_what_is_written_is_read_again() -> None:
    state = Sample("n", 4, 1.0, True, None, ["a"], Inner("p"), {"x": Inner("q")})
    assert Sample.read(json.loads(json.dumps(state.document()))) == state


@pytest.mark.parametrize(
    ("document", "named", "value", "expected"),
    [
        ({}, "name", "missing", "a string"),
        ({"name": None}, "name", "None", "a string"),
        ({"name": "n", "count": True}, "count", "True", "a whole number"),
        ({"name": "n", "count": 1.5}, "count", "1.5", "a whole number"),
        ({"name": "n", "share": "x"}, "share", "'x'", "a number"),
        ({"name": "n", "on": 1}, "on", "1", "a boolean"),
        ({"name": "n", "configPath": 1}, "configPath", "1", "a string or null"),
        ({"name": "n", "words": ["a", 1]}, "words", "['a', 1]", "a list of strings or null"),
        ({"name": "n", "nested": []}, "nested", "[]", "an object or null"),
        ({"name": "n", "nested": {"place": 1}}, "nested.place", "1", "a string"),
        ({"name": "n", "byMachine": {"x": {}}}, "byMachine.x.place", "missing", "a string"),
        ({"name": "n", "byMachine": {"x": "y"}}, "byMachine.x", "'y'", "an object"),
        ({"name": "n", "nmae": "x\x1b"}, "nmae", "x", "one of the known keys: byMachine, configPath, count,"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_was_asked(
    document: dict[str, object], named: str, value: str, expected: str
) -> None:
    with pytest.raises(NodeError) as caught:
        Sample.read(document, at="outer")
    assert caught.value.code == "bad-input"
    assert f"outer.{named}" in caught.value.message and value in caught.value.message
    assert expected in caught.value.remedy
    assert "\x1b" not in caught.value.sentence()
