"""The page of a report in a real browser: that it can be read by everybody, in every light, on paper, and without a network.

Lost if these fail: a page that only its author could read, or one that asks somebody else for something.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.report import html, summary
from tests.fleet import samples
from tests.fleet.browser import NARROW, WIDE, Page, missing, opened

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(missing()), reason=missing())]
PAGES: dict[str, Callable[[], str]] = {
    "proven": lambda: html.report(samples.proven()),
    "failed": lambda: html.report(samples.failed()),
    "clustered": lambda: html.report(samples.clustered()),
    "fleet": lambda: html.fleet(
        summary.fleet(
            [summary.of(samples.proven()), summary.of(samples.failed()), summary.unreadable("prod", "no such stack")],
            samples.MADE,
        )
    ),
}
VIEWS = [(size, dark) for size in (WIDE, NARROW) for dark in (False, True)]
TAB = 9
PICTURE = 960
"""Pixels of the top of a page that documents show."""
FOCUS = """(() => {
    const focus = document.activeElement;
    const name = focus.className || focus.getAttribute("href") || focus.tagName;
    return [name, getComputedStyle(focus).outlineStyle, focus.getBoundingClientRect().left];
})()"""
"""What has the focus, whether that is seen, and where it is."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page in a browser."""
    with opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each page as a file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, make in PAGES.items():
        (folder / f"{name}.html").write_text(make())
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_in_any_light_at_any_width_and_nothing_is_loaded(page: Page, files: dict[str, Path], name: str) -> None:
    page.requested.clear()
    page.complaints.clear()
    for size, dark in VIEWS:
        page.show(files[name], size=size, dark=dark)
        assert page.axe() == [], (name, size, dark)
        assert page.ask("document.documentElement.scrollWidth") <= size[0], "the page itself scrolls sideways"
        assert page.ask("getComputedStyle(document.body).backgroundColor") == (
            "rgb(18, 21, 24)" if dark else "rgb(255, 255, 255)"
        )
        if folder := os.environ.get("KATA_NODES_PICTURES"):  # for people to look at; docs/report.png is the top of one
            place = Path(folder) / f"{name}-{'wide' if size == WIDE else 'narrow'}-{'dark' if dark else 'light'}"
            place.with_suffix(".png").write_bytes(page.picture())
            Path(f"{place}-top.png").write_bytes(page.picture(PICTURE))
    assert set(page.requested) == {files[name].as_uri()} and page.complaints == []


def test_the_policy_of_the_page_stops_what_should_ever_slip_through(page: Page, files: dict[str, Path], tmp_path: Path) -> None:
    """The same page with what a broken template would let through: neither script nor foreign style nor image."""
    (tmp_path / "planted.html").write_text(
        files["proven"].read_text().replace(
            "</main>", "<script>document.title = 'run'</script><style>body{background:red}</style>"
            "<img src='file:///etc/hostname' onerror=\"document.title='run'\"></main>"
        )
    )  # fmt: skip
    page.complaints.clear()
    page.show(tmp_path / "planted.html")
    assert page.ask("document.title").startswith("staging")
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len([line for line in page.complaints if "Content Security Policy" in line]) >= 3
    page.complaints.clear()


def test_one_node_is_printed_on_two_pages_in_black_on_white(page: Page, files: dict[str, Path]) -> None:
    page.show(files["proven"], dark=True)
    paper = page.printed()
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) <= 2
    if folder := os.environ.get("KATA_NODES_PICTURES"):
        (Path(folder) / "proven.pdf").write_bytes(paper)


@pytest.mark.parametrize("name", PAGES)
def test_a_screen_reader_finds_landmarks_headings_and_headers_of_tables(page: Page, files: dict[str, Path], name: str) -> None:
    page.show(files[name])
    roles = page.roles()
    landmarks = {role for role, _ in roles}
    assert {"banner", "main", "contentinfo", "heading", "table", "columnheader", "rowheader"} <= landmarks
    assert ("navigation" in landmarks) == (name in ("failed", "clustered"))
    if name != "fleet":
        (flow,) = [text for role, text in roles if role == "image"]
        steps = ("pod proof: 1/2 not reached",) if name == "clustered" else ("preflight: ", "guest proof: ")
        assert flow.startswith("stack file: done; ") and all(step in flow for step in steps)
    assert page.ask("[...document.querySelectorAll('th')].every((cell) => cell.scope)")
    levels = page.ask("[...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


def test_the_keyboard_reaches_everything_and_what_has_the_focus_is_seen(page: Page, files: dict[str, Path]) -> None:
    page.show(files["failed"], size=NARROW)
    reached = []
    for _ in range(80):
        page.press("Tab", TAB)
        focus = page.ask(FOCUS)
        if focus[0] == "BODY":
            break
        reached.append(focus)
    assert reached[0][0] == "skip" and reached[0][2] >= 0, "the first thing is the way past the head"
    assert all(style != "none" for _, style, _ in reached[1:])
    scrolling = page.ask("document.querySelectorAll('.scroll').length")
    assert [name for name, _, _ in reached].count("scroll") == scrolling > 5
    assert len([name for name, _, _ in reached if name.startswith("#node-")]) == 6
