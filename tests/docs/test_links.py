"""A reader finds every page, and every link has a target."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
OTHERS = [
    *(REPOSITORY / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "policy/README.md")),
    REPOSITORY / "plugins/command/README.md",
    *sorted((REPOSITORY / "examples").glob("**/README.md")),
]
"""Those that lie beside what they are about."""
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def faults(page: Path, text: str) -> list[str]:
    """Links of a page within the checkout that lead nowhere."""
    broken = []
    for link in _LINK.findall(re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", text, flags=re.M | re.S)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_no_link_leads_nowhere(page: Path) -> None:
    assert faults(page, page.read_text()) == []


def test_dead_links_and_dead_anchors_are_found() -> None:
    text = "[a](README.md) [b](no.md) [c](README.md#quickstart) [d](README.md#no-such) [e](https://example.org) `[f](no.md)`"
    assert faults(REPOSITORY / "README.md", text) == ["no.md", "README.md#no-such"]


def test_every_page_has_a_row_in_the_index() -> None:
    index = (REPOSITORY / "docs" / "README.md").read_text()
    pages = [page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES[1:]]
    assert [name for name in pages if f"]({name})" not in index and not name.startswith("adr/") and name != "README.md"] == []


def test_no_two_decisions_have_one_number() -> None:
    numbers = [page.name[:4] for page in (REPOSITORY / "docs" / "adr").iterdir()]
    assert len(numbers) == len(set(numbers))
