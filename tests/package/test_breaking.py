"""Each way to break a program that was written for a release is found, and additions are allowed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.package.breaking import Alias, Child, breaks, lost

TEXT = {"type": "string", "description": "words"}
SCHEMA: dict[str, Any] = {
    "resources": {
        "kata-nodes:index:Thing": {
            "inputProperties": {
                "text": TEXT,
                "few": {"type": "array", "items": {"type": "string", "plain": True}},
                "hosts": {"type": "array", "items": {"$ref": "#/types/kata-nodes:index:Host", "plain": True}},
            },
            "requiredInputs": ["text"],
            "properties": {"made": TEXT, "node": {"$ref": "#/types/kata-nodes:index:Node"}},
            "required": ["made", "node"],
        }
    },
    "types": {
        "kata-nodes:index:Host": {"type": "object", "properties": {"name": TEXT, "port": TEXT}, "required": ["name"]},
        "kata-nodes:index:Node": {"type": "object", "properties": {"address": TEXT}, "required": ["address"]},
    },
}


def changed(change: Callable[[Any, Any, Any], object]) -> list[str]:
    """What breaks after `change` of the component and the two types."""
    now = json.loads(json.dumps(SCHEMA))
    types = now["types"]
    change(now["resources"]["kata-nodes:index:Thing"], types["kata-nodes:index:Host"], types["kata-nodes:index:Node"])
    return breaks(SCHEMA, now)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda thing, host, node: thing["inputProperties"].pop("text"), "input text is gone"),
        (lambda thing, host, node: thing["properties"].pop("made"), "output made is gone"),
        (lambda thing, host, node: thing["inputProperties"]["text"].update(type="number"), "was string and is number"),
        (lambda thing, host, node: thing["inputProperties"]["text"].update(plain=True), "was string and is plain string"),
        (lambda thing, host, node: thing["inputProperties"]["few"]["items"].update(type="number"), "array of plain number"),
        (lambda thing, host, node: thing["inputProperties"]["few"].pop("items"), "was array of plain string and is array"),
        (lambda thing, host, node: thing["properties"]["made"].update(type="boolean"), "output made was string and is boolean"),
        (lambda thing, host, node: thing["requiredInputs"].append("few"), "input few is newly required"),
        (lambda thing, host, node: thing["required"].remove("made"), "output made is no longer always there"),
        (lambda thing, host, node: host["properties"].pop("name"), "Host: input name is gone"),
        (lambda thing, host, node: host["required"].append("port"), "Host: input port is newly required"),
        (lambda thing, host, node: node["properties"].pop("address"), "Node: output address is gone"),
        (lambda thing, host, node: node["required"].clear(), "Node: output address is no longer always there"),
    ],
)
def test_break_of_the_schema_is_found(change: Callable[[Any, Any, Any], object], message: str) -> None:
    (sentence,) = changed(change)
    assert message in sentence


def test_renamed_component_is_found() -> None:
    now = json.loads(json.dumps(SCHEMA))
    now["resources"]["kata-nodes:index:Other"] = now["resources"].pop("kata-nodes:index:Thing")
    assert breaks(SCHEMA, now) == ["kata-nodes:index:Thing is gone or has another name."]


@pytest.mark.parametrize(
    "change",
    [
        lambda thing, host, node: thing["inputProperties"].update(more=TEXT),
        lambda thing, host, node: thing["properties"].update(more=TEXT),
        lambda thing, host, node: thing["inputProperties"]["text"].update(description="other words"),
        lambda thing, host, node: thing["inputProperties"]["few"]["items"].pop("plain"),
        lambda thing, host, node: thing["requiredInputs"].clear(),
        lambda thing, host, node: host["properties"].update(more=TEXT),
        lambda thing, host, node: host["required"].clear(),
        lambda thing, host, node: node["properties"].update(more=TEXT),
        lambda thing, host, node: node["required"].append("more"),
    ],
)
def test_addition_breaks_nothing(change: Callable[[Any, Any, Any], object]) -> None:
    assert changed(change) == []


PARENT = Child("kata-nodes:index:Thing", "it")
RELEASED = ["kata-nodes:index:Thing$command:local:Command::it-done", "kata-nodes:index:Thing::it"]


def test_child_that_stays_is_not_lost() -> None:
    another = Child("command:local:Command", "it-more", PARENT)
    assert lost(RELEASED, [PARENT, Child("command:local:Command", "it-done", PARENT), another]) == []


@pytest.mark.parametrize(
    "child",
    [
        Child("command:local:Command", "it-renamed", PARENT),
        Child("command:remote:Command", "it-done", PARENT),
        Child("command:local:Command", "it-done"),
        Child("command:local:Command", "it-done", Child("kata-nodes:index:Between", "it-between", PARENT)),
    ],
    ids=["name", "type", "parent", "between"],
)
def test_child_of_another_name_type_or_parent_is_lost(child: Child) -> None:
    (sentence,) = lost(RELEASED, [PARENT, child])
    assert sentence.startswith(f"{RELEASED[0]} is gone")


@pytest.mark.parametrize(
    "child",
    [
        Child("command:local:Command", "it-renamed", PARENT, (Alias(name="it-done"),)),
        Child("command:remote:Command", "it-done", PARENT, (Alias(type="command:local:Command"),)),
        Child("command:remote:Command", "it-x", PARENT, (Alias(urn=RELEASED[0]),)),
    ],
    ids=["name", "type", "urn"],
)
def test_alias_keeps_a_changed_child(child: Child) -> None:
    assert lost(RELEASED, [PARENT, child]) == []


def test_children_inherit_their_parents_aliases() -> None:
    renamed = Child("kata-nodes:index:Other", "new", None, (Alias(name="it", type="kata-nodes:index:Thing"),))
    assert lost(RELEASED, [renamed, Child("command:local:Command", "new-done", renamed)]) == []
    without = Child("kata-nodes:index:Other", "new")
    assert len(lost(RELEASED, [without, Child("command:local:Command", "new-done", without)])) == 2


def test_alias_into_the_stack_keeps_what_got_a_parent() -> None:
    moved = Child("kata-nodes:index:Thing", "it", Child("kata-nodes:index:Pool", "pool"), (Alias(in_stack=True),))
    assert lost(RELEASED[1:], [moved]) == []
