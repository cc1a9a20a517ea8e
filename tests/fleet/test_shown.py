"""What a person reads, on a terminal and in a pipe.

Lost if these fail: a drift of a large fleet that takes minutes to show, or lines that are cut, joined or folded in a pipe.
"""

import dataclasses
import io
import re
from typing import Any

import pytest
from rich.text import Text

from fleet import hosts, shown
from fleet.measure import Measured
from fleet.stack import Answers
from tests.fleet import samples
from tests.fleet.test_rules import deployment

DIFF = "--- /x (stack)\n+++ /x (node)\n@@ -1,2 +1,2 @@\n-  a:\tb\n+  c d\n   e"
LINES = [*(f"    {row.expandtabs()}" for row in DIFF.replace(":\t", ":       ").splitlines())]


class Terminal(io.StringIO):
    """In the place of one."""

    def isatty(self) -> bool:
        return True


def answers(number: int, **keys: Any) -> Answers:
    """Of nodes that differ in a file."""
    difference = {"kind": "file", "what": "/x differs", "verb": "docker", "diff": DIFF, "traces": ["by root"], **keys}
    hosts = [dataclasses.replace(samples.host("n1"), name=f"n{at}") for at in range(number)]
    return Answers([samples.measured(host, samples.record("passed"), differences=[difference]) for host in hosts], [])


def refused(*_: Any, **__: Any) -> Any:
    """In the place of what looks for the words of a text, which takes ten times as long as all else."""
    raise AssertionError("a line that fits was folded")


def test_lines_of_diffs_are_not_folded_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 nodes with diffs of 60 lines took 15 seconds to show."""
    monkeypatch.setattr(Text, "wrap", refused)
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("NO_COLOR", "1")
        shown.write(shown.drift(answers(3, diff=DIFF.replace("\t", " "), traces=[])))
        assert stream.getvalue().count("+  c d") == 3


@pytest.mark.parametrize(
    ("packages", "held"),
    [({}, ""), ({"docker-ce": None}, ""), ({"docker-ce": {"held": True}}, ", held"), ({"value": None, "reason": "no dpkg"}, "")],
)
def test_packages_are_held_where_that_was_read(packages: dict[str, Any], held: str) -> None:
    document = {"status": {"docker": {"daemon": {"version": "27.5.1"}, "packages": packages}}}
    assert shown.docker(Measured(samples.host("n1"), document, None, 1.0)) == f"27.5.1{held}"


def test_a_pipe_gets_each_line_whole_and_a_terminal_folds_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    long = "word " * 30 + "end"
    for stream, folded in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr("sys.stdout", stream)
        shown.write(shown.drift(answers(1, what=long)), shown.text("a\n\n b"), shown.table(["N"], [[shown.line(long)]]))
        lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
        assert (f"n0: {long}. [file]" in lines, long in lines) == (not folded, not folded)
        assert all(len(line) <= 40 for line in lines) == folded
        assert all(any(line.rstrip() == row for line in lines) for row in ("    by root", *LINES))
        assert ("" in lines) == folded and ("b" in lines) != folded, "no empty lines in a pipe, and no blanks before one"


def test_a_terminal_without_columns_gets_the_lines_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """With COLUMNS=0 nothing at all was printed."""
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr("sys.stdout", stream := Terminal())
    shown.write(shown.drift(answers(1)))
    assert "n0: /x differs. [file]\n" in stream.getvalue()


@pytest.mark.parametrize("modified", [{}, {"modified": None}, {"modified": 7}, {"modified": "2026-11-26T09:12:04.250Z"}])
def test_proof_of_which_the_state_has_no_time_is_shown_as_such(modified: dict[str, Any]) -> None:
    """Older engines write no times, and ` UTC` stood alone there."""
    (host,) = hosts.of(deployment(**modified))
    when = "2026-11-26 09:12:04 UTC" if isinstance(modified.get("modified"), str) else "at an unknown time"
    assert shown.proof(Measured(host, None, "silent", 1.0)).startswith(f"{when}, 7 user namespaces")
