"""Text from a node, a guest, a cluster, a site or a fork reaches terminals and logs of CI harmless, wherever it is shown.

Lost if these fail: a node that rewrites a terminal, hides words from a reviewer, or commands the CI that shows its words.
"""

import asyncio
import io
import logging
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterkit.controller.__main__ import OneLine
from local import process
from nodekit import progress
from nodekit.__main__ import main
from nodekit.errors import NodeError
from nodekit.rules.text import harmless, printable
from plugins.command.errors import CommandError
from plugins.command.output import Output
from review import neutral, preview
from tests.package import showing

CHECKOUT = Path(__file__).resolve().parents[2]
CONTROLS = [*map(chr, range(32)), *map(chr, range(0x7F, 0xA0))]
MARKS = ["\u200b", "\u200e", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\u2060", "\ufeff", "\u00ad", "\u061c",
         "\u034f", "\u115f", "\u3164", "\u2800", "\ufe0f", "\uffa0", "\U000e0041", "\U000e0100", "\ud800"]  # fmt: skip
COMMANDS = ["::error::x", "  ::error file=a::x", "\t::stop-commands::t", "word\n::add-mask::x", "##[error]x", "a ##vso[task.x]y",
            "##teamcity[x]", "\r\n::set-output name=a::b", "\x0b::error::x", "\u2028::error::x", "###[error]x"]  # fmt: skip
HOSTILE = [*(f"a{each}b" for each in (*CONTROLS, *MARKS) if each not in "\n\t"), *COMMANDS]
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def is_harmless(text: str) -> bool:
    """By the words of those who read it: GitHub trims a line's blanks; Azure and TeamCity look anywhere in it."""
    for line in re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text):
        if line.strip().startswith("::") and "::" in line.strip()[2:]:
            return False
    if re.search(r"##[\w.-]*\[", text):
        return False
    return not any(unicodedata.category(c) in _INVISIBLE for c in text.replace("\n", "").replace("\t", "")) and not (
        set(text) & {mark for mark in MARKS if len(mark) == 1}
    )


def progress_output(text: str) -> str:
    error = io.StringIO()
    before, sys.stderr = sys.stderr, error
    try:
        progress.say(text)
        with progress.step(text):
            pass
        process.progress(text)
    finally:
        sys.stderr = before
    return error.getvalue()


def lines_of_a_command(text: str) -> str:
    lines: list[str] = []

    async def show(line: str) -> None:
        lines.append(line)

    async def feed() -> str:
        output = Output(None, show)
        await output.feed("stderr", text.encode(errors="replace"))
        await output.close()
        return "\n".join([*lines, str(output.error("exit status 1", text))])

    return asyncio.run(feed())


def logged(text: str) -> str:
    return OneLine().format(logging.LogRecord("x", logging.ERROR, "", 0, "%s", (text,), None))


PLACES: dict[str, Callable[[str], str]] = {
    "an error's message": lambda text: NodeError("bad-input", text, "script").message,
    "an error's remedy": lambda text: str(NodeError("bad-input", "x", expected=text).as_dict()["remedy"]),
    "an error's sentence": lambda text: NodeError("bad-input", text, expected=text).sentence(),
    "an error as Python shows it": lambda text: str(NodeError("bad-input", text, expected=text)),
    "progress": progress_output,
    "a short text": printable,
    "a command's output and error": lines_of_a_command,
    "the command plugin's error": lambda text: str(CommandError(text)),
    "the controller's log": logged,
    "a comment on a pull request": neutral.code,
}


@pytest.mark.parametrize("place", PLACES)
def test_what_others_say_is_harmless_where_it_is_shown(place: str) -> None:
    for text in HOSTILE:
        output = PLACES[place](text)
        assert is_harmless(output), (text, output)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(st.one_of(st.sampled_from(":#[ \n\terw\u202e\x1b"), st.characters()), max_size=60))
def test_any_text_at_all_becomes_harmless_once_and_stays_so(text: str) -> None:
    clean = harmless(text)
    assert is_harmless(clean), clean
    assert harmless(clean) == clean


@pytest.mark.parametrize(
    "text",
    ["a b", "café 日本語 ❤", "::1", "::ffff:10.0.0.1", "std::string", "a::b::c", "x\n\ty", "# a", "## b", "#[derive]", "1 :: 2"],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_a_person_reads_a_nodes_answers_harmless_and_a_file_gets_its_own_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opt/kata").mkdir(parents=True)
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text('{"runtimes": {"k\u202e\\n::error::x": {}}}')
    (tmp_path / "etc/os-release").write_text('ID="::error::\u202ex"\nVERSION_ID=1\n')
    main(["status", "--root", str(tmp_path)])
    main(["effective", "--root", str(tmp_path)])
    main(["apt-sources", "--root", str(tmp_path)])
    captured = capsys.readouterr()
    assert is_harmless(captured.out + captured.err)
    main(["daemon-json", "/etc/docker/daemon.json", "--root", str(tmp_path)])
    assert "\u202e" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    main(["daemon-json", "/etc/docker/daemon.json", "--root", str(tmp_path)])
    assert "\u202e" not in capsys.readouterr().out


def test_what_a_fork_makes_the_engine_say_reaches_the_log_of_ci_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SimpleNamespace(
        code=1, stdout=b"", stderr=b"x\n::add-path::/evil\n##vso[task.setvariable]x\n", timed_out=False, too_long=False
    )
    monkeypatch.setattr(preview, "capture", lambda *_, **__: ended)
    engine = preview.Engine(tmp_path, tmp_path)
    assert not engine.run("preview").passed
    assert is_harmless(capsys.readouterr().err)


ALLOWED = {
    "aws/preflight.py:": "the name of a module, an image's id and the region that was given",
    "components/cluster/kata_proof.py:KataProof.__init__": "the name that the program gives",
    "components/cluster/kata_runtime_class.py:named": "the name that the program gives",
    "components/local/machine.py:start_of": "a name and a folder of this machine's own",
    "components/package.py:": "this package's own schema",
    "local/process.py:serve_verbs": "JSON that the stack reads: of a local command, which shows it without a control character",
    "nodekit/__main__.py:_printed": "`main` made it harmless, but for a file, whose bytes go where no terminal reads them",
    "delivery/bundle.py:main": "the path that was given",
    "plugins/command/server.py:serve": "a port's number",
    "review/comment.py:main": "Markdown that `review.neutral` makes harmless, written to a file",
    "review/drift.py:main": "the stack's name as the workflow gives it",
    "review/post.py:post": "a number, a commit and a name that were checked by their form",
    "review/preview.py:main": "the stack's name as the workflow gives it",
    "stacks/pool.py:local_nodes": "the stack's name",
    "stacks/new.py:": "what the person has just typed",
}
"""File and function -> why what it shows is harmless without a call that says so."""


def test_no_other_place_shows_text_as_it_came() -> None:
    harmful = {f"{call.where} {call.text}" for call in showing.walk(CHECKOUT) if not _is_allowed(call.where)}
    assert not harmful


def test_every_exception_is_still_needed() -> None:
    places = [call.where for call in showing.walk(CHECKOUT)]
    assert not [place for place in ALLOWED if not any(where.startswith(place) for where in places)]


def _is_allowed(where: str) -> bool:
    return any(where.startswith(place) for place in ALLOWED)


@pytest.mark.parametrize(
    ("source", "is_reported"),
    [
        ("print(f'error: {error}')", True),
        ("print(harmless(f'error: {error}'))", False),
        ("print(f'error: {error.sentence()}', file=sys.stderr)", False),
        ("pulumi.log.warn(text)", True),
        ("def f():\n sys.stderr.write(said)", True),
        ("print('words')", False),
        ("raise pulumi.RunError(str(error))", True),
    ],
)
def test_the_walk_finds_what_it_should(source: str, is_reported: bool) -> None:
    assert bool(list(showing.calls("x.py", source))) == is_reported


def test_the_scripts_let_no_control_character_of_sudo_through() -> None:
    script = (CHECKOUT / "delivery/as_root.sh").read_text()
    filtered = re.search(r"LC_ALL=C tr -c '\[:print:\]' ' '", script)
    assert filtered
    result = subprocess.run(
        ["sh", "-c", f"printf '%b' 'a\\033[31m\\302\\233b\\r' | {filtered[0]}"], capture_output=True, check=True
    )
    assert is_harmless(result.stdout.decode())
