"""Checks the result that a verb printed on a node before anything is taken from it: a node can print anything."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from delivery import login
from nodekit.rules.kata.kernel_params import HIGHEST_LIMIT
from nodekit.rules.text import printable

MOST_NESTED = 30
"""Objects and lists within each other in a result. A real one has five; the engine's protocol takes no more than some 50."""
LARGEST = 1 << 63
"""Bound on whole numbers, which the engine's protocol carries as floating point."""


def is_text(value: object) -> bool:
    """Whether a value is a string."""
    return isinstance(value, str)


def is_run(value: object) -> bool:
    """Whether a value names a run of the verb `converge`: it becomes a part of a command line."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{1,32}", value) is not None


def is_namespaces(value: object) -> bool:
    """Whether a value is one that max_user_namespaces can have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_LIMIT


def are_rungs(value: object) -> bool:
    """Whether a value is a list of rungs of the ladder, with a verdict each."""
    return isinstance(value, list) and all(
        isinstance(rung, dict)
        and isinstance(rung.get("name"), str)
        and isinstance(rung.get("passed"), bool | None)
        and isinstance(rung.get("counts"), bool)
        for rung in value
    )


FIELDS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    "system": {"machineId": is_text},
    "converge": {"dockerVersion": is_text, "run": is_run, "machineId": is_text},
    "prove": {
        "passed": lambda value: value is True,  # a proof that fails ends with an error
        "node": is_text,
        "hypervisor": is_text,
        "proven": lambda value: value in ("guest", "container"),
        "rungs": are_rungs,
        "userNamespaces": is_namespaces,
        "guestKernel": is_text,
        "configFile": is_text,
        "kernelParams": is_text,
    },
}
"""Verb -> what a stack takes from its result, and whether a value is of that kind."""


def parsed(text: str) -> Any:
    """The JSON that a node printed last, which can be written again for programs in every language: Python alone reads NaN and
    numbers without end. Raises ValueError with the cause."""
    try:
        document = json.loads(login.last_line(text))
        json.dumps(document, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document


def result(text: str, verb: str) -> dict[str, Any]:
    """The result of a verb. Raises ValueError with the cause for anything that the verb does not print."""
    document = parsed(text)
    if not isinstance(document, dict) or document.get("verb") != verb:
        raise ValueError("it is not one JSON object with that verb")
    if fault := _fault(document, MOST_NESTED):
        raise ValueError(fault)
    for key, is_valid in FIELDS.get(verb, {}).items():
        if key not in document:
            raise ValueError(f"its key {key} is missing")
        value = document[key]
        if not is_valid(value):
            quoted = type(value).__name__ if isinstance(value, (dict, list)) else printable(repr(value), 60)
            raise ValueError(f"its key {key} is {quoted}")
    if verb == "prove" and (refuted := _refuted(document)):
        raise ValueError(f"it says that the proof passed, and {refuted}")
    return document


def _refuted(proof: Mapping[str, Any]) -> str | None:
    """What in the result of a proof contradicts that it passed; None where nothing does."""
    if not proof["rungs"]:
        return "has no rung of it"
    if failed := [rung["name"] for rung in proof["rungs"] if rung["counts"] and rung["passed"] is False]:
        return f"that the rung {failed[0]}, which counts, failed"
    if proof.get("sandbox") is not None and proof["userNamespaces"] == 0:
        return "that the guest allows no user namespace"
    return None


def _fault(value: object, left: int) -> str | None:
    """Why the engine's protocol could not carry a value; None where it can."""
    if isinstance(value, str):
        return None if value.isascii() or _is_unicode(value) else "it has text that is not Unicode"
    if isinstance(value, int):
        return None if abs(value) < LARGEST else "it has a number that is too large"
    if not isinstance(value, (dict, list)):
        return None
    if left == 0:
        return "it is nested too deeply"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (_fault(each, left - 1) for each in inner)), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can hold half a surrogate pair
        return False
    return True
