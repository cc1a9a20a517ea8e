"""A reader finds what a page names: targets of the Makefile, settings, and names in the code."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
ROOMS = (
    "aws",
    "bench",
    "clusterkit",
    "components",
    "delivery",
    "fleet",
    "local",
    "nodekit",
    "policy",
    "review",
    "stacks",
    "tools",
)
_TARGET = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")


def targets(text: str) -> set[str]:
    """Targets of the Makefile that code spans of a page name."""
    return {match[1] for span in _SPAN.findall(text) if (match := re.match(r"make ([a-z][a-z0-9-]*)", span))}


def settings(text: str) -> set[str]:
    """Settings of a stack's file that code spans of a page name, such as `kata.version`."""
    return {
        span for span in _SPAN.findall(text) if re.fullmatch(r"(nodes|docker|kata|kubernetes|verification)(\.[A-Za-z]+)+", span)
    }


def constants(text: str) -> set[str]:
    """Constants of the code that code spans of a page name."""
    return {span for span in _SPAN.findall(text) if re.fullmatch(r"[A-Z]+(_[A-Z]+)*", span)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_targets_that_a_page_names_are_there(page: Path) -> None:
    assert targets(page.read_text()) <= set(_TARGET.findall((REPOSITORY / "Makefile").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_settings_that_a_page_names_are_there(page: Path) -> None:
    rows = (REPOSITORY / "docs" / "reference" / "settings.md").read_text()
    known = {key.replace("[]", "").replace(".*", "") for key in re.findall(r"^\| `([^`]+)` \|", rows, re.MULTILINE)}
    assert settings(page.read_text()) <= known


def test_constants_that_a_contributor_is_sent_to_are_there() -> None:
    code = "\n".join(file.read_text() for room in ROOMS for file in (REPOSITORY / room).rglob("*.py") if "venv" not in file.parts)
    missing = {
        name
        for name in constants((REPOSITORY / "CONTRIBUTING.md").read_text())
        if not re.search(rf"^([A-Z_]+, )*{name}\b", code, re.M)
    }
    assert missing == set()


def test_names_that_are_nowhere_are_found() -> None:
    text = "`make no-such` `make test STACK=a` `NO_SUCH` `STEPS` `make` `kata.no.such` `kata`"
    assert (targets(text), constants(text), settings(text)) == ({"no-such", "test"}, {"NO_SUCH", "STEPS"}, {"kata.no.such"})
