"""The catalogue and the code that raises its failures belong together: both know the same codes, cases and values."""

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import grimp
import pytest

from nodekit import errors
from nodekit.errors import NodeError, remedy_for
from nodekit.failures import Failure
from review.catalogue import KNOWN, ROOMS

CHECKOUT = Path(__file__).resolve().parents[2]
PRODUCT = [
    path
    for path in sorted(CHECKOUT.rglob("*.py"))
    if path.relative_to(CHECKOUT).parts[0] not in ("bench", "examples", "tests", "tools") and path.name != "failures.py"
]
PACKAGES = ["nodekit", "delivery", "aws", "clusterkit", "local", "stacks", "policy"]
"""Rooms with failures of their own."""
SCRIPTS = sorted(path for room in ("aws", "delivery", "nodekit") for path in (CHECKOUT / room).rglob("*.sh"))
OWN = {"details", "remedy"}
"""Arguments of an error that are no values of its remedy."""
RAISING = {"NodeError": 2, "remedy_for": 1, "refusal": 2}
"""What takes a code, and the place of the case among its arguments."""
REMEDY_IN_SCRIPT = re.compile(r'"(?:[^"]*\. )?([^".][^"]*?)\.? \[([a-z0-9-]+)\]"')
"""A remedy with its code in a shell script."""


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file of the product, parsed."""
    return {path: ast.parse(path.read_text()) for path in PRODUCT}


def sites() -> Iterator[tuple[str, ast.Call, str, list[str], set[str], bool]]:
    """Each call with a code: its place, itself, its code, the cases it may name, its values, and whether it brings a remedy."""
    for path, tree in trees().items():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            name = ast.unparse(call.func).rpartition(".")[2]
            if name not in RAISING:
                continue
            at = RAISING[name]
            case = call.args[at : at + 1]
            cases = [node.value for node in ast.walk(case[0]) if isinstance(node, ast.Constant)] if case else [""]
            values = {word.arg for word in call.keywords if word.arg} - OWN
            brings = any(word.arg == "remedy" for word in call.keywords)
            yield (
                f"{path.relative_to(CHECKOUT)}:{call.lineno}",
                call,
                str(call.args[0].value),
                list(map(str, cases)),
                values,
                brings,
            )


def words() -> set[str]:
    """Every text that stands in the product's code."""
    return {
        node.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def in_scripts() -> Iterator[tuple[str, str, str]]:
    """Script, code and remedy of each failure that a shell script reports."""
    for path in SCRIPTS:
        for remedy, code in REMEDY_IN_SCRIPT.findall(path.read_text()):
            yield path.name, code, remedy


def test_every_place_names_a_code_and_a_case_of_the_catalogue() -> None:
    strange = [where for where, _, code, _, _, _ in sites() if code not in KNOWN]
    assert strange == []
    unknown = [
        (where, code, case)
        for where, call, code, cases, _, _ in sites()
        for case in cases
        if case
        and case not in KNOWN[code].cases
        and isinstance(call.args[RAISING[ast.unparse(call.func).rpartition(".")[2]]], ast.Constant)
    ]
    assert unknown == []


def test_every_place_has_imported_the_room_of_its_code() -> None:
    """Else the program would end with KeyError there, and a node's program does not carry the failures of other rooms."""
    room_of = {code: room for room in ROOMS for code in ROOMS[room]}
    names = {
        room: next(name for name in PACKAGES if ROOMS[room] is import_module(f"{name}.failures").CATALOGUE) for room in ROOMS
    }
    graph = grimp.build_graph(*PACKAGES, "components", "plugins", "fleet", cache_dir=None)
    closures: dict[str, set[str]] = {}
    lacking = []
    for where, call, code, cases, _, _ in sites():
        path = Path(where.partition(":")[0])
        module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        if module not in closures:
            closures[module] = {name.partition(".")[0] for name in graph.find_upstream_modules(module)} | {path.parts[0]}
        if names[room_of[code]] not in closures[module]:
            lacking.append((where, code))
        if path.parts[0] == "nodekit":
            lacking += [(where, f"{code} {case}") for case in cases if case and not known_to_nodes(call, code, case)]
    assert lacking == []


def known_to_nodes(call: ast.Call, code: str, case: str) -> bool:
    """Whether the node program holds a case, or the text is not a case."""
    written = isinstance(call.args[RAISING[ast.unparse(call.func).rpartition(".")[2]]], ast.Constant)
    return case in ROOMS["On a node"][code].cases or not written


def test_no_room_can_change_what_another_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "CATALOGUE", dict(errors.CATALOGUE))
    with pytest.raises(ValueError, match="bad-input"):
        errors.add({"bad-input": Failure("Another cause.")})
    with pytest.raises(ValueError, match="bad-input stdin"):
        errors.add({}, {"bad-input": {"stdin": "Another remedy"}})
    errors.add({"new": Failure("A cause.", "Do {this}")}, {"new": {"other": "Do that"}})
    assert remedy_for("new", this="it") == "Do it" and remedy_for("new", "other") == "Do that"


def placeholders(remedy: str) -> set[str]:
    """The names of the values that a remedy shows."""
    return {name for _, name, _, _ in string.Formatter().parse(remedy) if name}


def test_every_place_gives_its_remedy_the_values_that_it_shows_and_no_others() -> None:
    wrong = []
    for where, _, code, cases, values, _ in sites():
        failure = KNOWN[code]
        shown_names = [
            placeholders(failure.cases[case] if case else failure.remedy) for case in cases if not case or case in failure.cases
        ]
        if shown_names and values != set().union(*shown_names):
            wrong.append((where, code, cases, values, shown_names))
    assert wrong == []


def test_a_remedy_that_is_not_of_the_catalogue_comes_from_a_diagnosis_and_is_not_written_at_the_place() -> None:
    written = [
        where
        for where, call, _, _, _, brings in sites()
        for word in call.keywords
        if brings
        and word.arg == "remedy"
        and isinstance(word.value, ast.Constant | ast.JoinedStr)
        and ast.unparse(word.value) != "None"
    ]
    assert written == []
    without = [where for where, _, code, cases, _, brings in sites() if cases == [""] and not KNOWN[code].remedy and not brings]
    assert [where for where in without if "remedy_for" not in where] == []


def test_every_code_and_case_of_the_catalogue_is_used() -> None:
    used = words() | {code for _, code, _ in in_scripts()}
    assert [code for code in KNOWN if code not in used] == []
    remedies = [(code, remedy) for _, code, remedy in in_scripts()]
    unused = [
        (code, case)
        for code, failure in KNOWN.items()
        for case, remedy in failure.cases.items()
        if case not in used and not any(code == of and pattern(remedy).fullmatch(text) for of, text in remedies)
    ]
    assert unused == []


def pattern(remedy: str) -> re.Pattern[str]:
    """What a remedy looks like with any values."""
    return re.compile(".+".join(re.escape(part) for part in re.split(r"\{\w+\}", remedy)))


def test_scripts_report_the_remedies_of_the_catalogue_word_for_word() -> None:
    assert len(list(in_scripts())) > 20
    strange = [
        (script, code, text)
        for script, code, text in in_scripts()
        if not any(pattern(remedy).fullmatch(text) for remedy in (KNOWN[code].remedy, *KNOWN[code].cases.values()) if remedy)
    ]
    assert strange == []


def test_an_error_shows_its_remedy_with_its_values() -> None:
    error = NodeError("file-invalid", "/etc/x is not JSON", file="/etc/x")
    assert error.remedy == "Correct /etc/x by hand, then run again"
    assert error.sentence() == "/etc/x is not JSON. Correct /etc/x by hand, then run again. [file-invalid]"
    with pytest.raises(KeyError):
        remedy_for("file-invalid")
