"""Inputs, differences and texts must come out as with the official plugin, or stacks change when it is swapped."""

import asyncio
from typing import Any

import pytest

from plugins.command import schema
from plugins.command.diff import diff
from plugins.command.output import ERROR_LIMIT, Output, clean, go_quote
from plugins.command.wire import ARCHIVE, ASSET, SIGNATURE, UNKNOWN, Secret, marshal, plain, unmarshal


def test_check_completes_the_connection_and_marks_it_secret() -> None:
    inputs, failures = schema.check(
        schema.REMOTE_COMMAND,
        {"connection": {"host": "h", "password": "p", "proxy": {"host": "b"}}, "__internal": {}},
    )
    assert failures == []
    defaults = {"user": "root", "port": 22.0, "dialErrorLimit": 10.0, "perDialTimeout": 15.0}
    assert inputs == {
        "connection": Secret({"host": "h", "password": Secret("p"), "proxy": {"host": "b", **defaults}, **defaults})
    }


def test_check_marks_nothing_secret_twice() -> None:
    inputs, _ = schema.check(schema.REMOTE_COMMAND, {"connection": Secret({"host": "h", "password": Secret("p")})})
    assert isinstance(inputs["connection"], Secret) and isinstance(inputs["connection"].value, dict)
    assert inputs["connection"].value["password"] == Secret("p")


def test_check_lets_unknown_values_through() -> None:
    unknown = {"connection": UNKNOWN, "create": UNKNOWN, "triggers": UNKNOWN, "environment": {"A": UNKNOWN}}
    assert schema.check(schema.REMOTE_COMMAND, unknown)[1] == []
    copy = {"connection": {"host": UNKNOWN, "port": UNKNOWN}, "source": UNKNOWN, "remotePath": UNKNOWN}
    assert schema.check(schema.COPY_TO_REMOTE, copy)[1] == []


@pytest.mark.parametrize(
    ("kind", "inputs", "path", "reason"),
    [
        (schema.REMOTE_COMMAND, {"create": "x"}, "connection", "missing required field 'connection'"),
        (schema.REMOTE_COMMAND, {"connection": {}}, "connection.host", "missing required field 'host'"),
        (schema.REMOTE_COMMAND, {"connection": {"host": "h", "hostkey": "k"}}, "connection.hostkey", "unrecognized field"),
        (schema.REMOTE_COMMAND, {"connection": "h"}, "connection", "must be a map of fields"),
        (schema.LOCAL_COMMAND, {"creat": "x"}, "creat", "unrecognized field"),
        (schema.LOCAL_COMMAND, {"create": 1.0}, "create", "must be a string"),
        (schema.LOCAL_COMMAND, {"create": Secret(1.0)}, "create", "must be a string"),
        (schema.LOCAL_COMMAND, {"environment": {"A": 1.0}}, "environment", "must be a string map"),
        (schema.LOCAL_COMMAND, {"logging": "all"}, "logging", "must be one of stdout, stderr, stdoutAndStderr, none"),
        (schema.LOCAL_COMMAND, {"assetPaths": ["*"]}, "assetPaths", "returns no files"),
        (
            schema.COPY_TO_REMOTE,
            {"connection": {"host": "h"}, "remotePath": "/x", "source": {SIGNATURE: ASSET, "uri": "https://x/y"}},
            "source",
            "asset must be a path-based file asset or a text asset",
        ),
        (
            schema.COPY_TO_REMOTE,
            {"connection": {"host": "h"}, "remotePath": "/x", "source": {SIGNATURE: ARCHIVE, "assets": {}}},
            "source",
            "archive must be a path to a file or directory",
        ),
    ],
)  # fmt: skip
def test_check_refuses(kind: str, inputs: dict[str, object], path: str, reason: str) -> None:
    _, failures = schema.check(kind, inputs)
    assert [failure.path for failure in failures] == [path]
    assert reason in failures[0].reason


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"create": "a"}, {"create": "a", "__defaults": []}, {}),
        ({"create": "a"}, {"create": "a", "update": None}, {}),
        ({"create": "a"}, {"create": "b"}, {"create": ("update", False)}),
        ({"create": "a"}, {"create": Secret("a")}, {"create": ("update", False)}),
        ({"connection": Secret({"host": "a"})}, {"connection": Secret({"host": "a"})}, {}),
        (
            {"connection": Secret({"host": "a"})},
            {"connection": Secret({"host": "b"})},
            {"connection": ("update", False)},
        ),
        ({}, {"triggers": ["a"]}, {"triggers": ("add", True)}),
        ({"triggers": ["a"]}, {}, {"triggers": ("delete", True)}),
        (
            {"triggers": ["a", {"k": 1.0}]},
            {"triggers": ["a", {"k": 2.0}]},
            {"triggers[1].k": ("update", True)},
        ),
        ({"triggers": ["a"]}, {"triggers": ["a", "b"]}, {"triggers[1]": ("add", True)}),
        ({"triggers": [True]}, {"triggers": [1.0]}, {"triggers[0]": ("update", True)}),
        (
            {"environment": {"A-B": "1"}},
            {"environment": {"A-B": "2"}},
            {'environment["A-B"]': ("update", False)},
        ),
        (
            {"environment": {"A": "1", "B": "1"}},
            {"environment": {"A": "1"}},
            {"environment.B": ("delete", False)},
        ),
        ({"create": "a"}, {"create": UNKNOWN}, {"create": ("update", False)}),
        (
            {"source": {SIGNATURE: ASSET, "path": "a", "hash": "1"}},
            {"source": {SIGNATURE: ASSET, "path": "b", "hash": "1"}},
            {},
        ),
        (
            {"source": {SIGNATURE: ASSET, "path": "a", "hash": "1"}},
            {"source": {SIGNATURE: ASSET, "path": "a", "hash": "2"}},
            {"source": ("update", False)},
        ),
        (
            {"source": {SIGNATURE: ASSET, "path": "a", "hash": "1"}},
            {"source": {SIGNATURE: ARCHIVE, "path": "a", "hash": "1"}},
            {"source": ("update", False)},
        ),
    ],
)
def test_diff(old: dict[str, object], new: dict[str, object], changes: dict[str, tuple[str, bool]]) -> None:
    assert {path: (change.kind, change.replaces) for path, change in diff(old, new).items()} == changes


def test_wire_keeps_secrets_unknowns_and_hashes() -> None:
    properties: dict[str, Any] = {
        "secret": Secret({"a": Secret("b"), "c": [1.0, None, True]}),
        "unknown": UNKNOWN,
        "asset": {SIGNATURE: ASSET, "path": "x", "hash": "abc"},
    }
    assert unmarshal(marshal(properties)) == properties
    assert plain(properties["secret"]) == {"a": "b", "c": [1.0, None, True]}


def _feed(logging: str | None, *parts: tuple[str, bytes]) -> tuple[Output, list[str]]:
    lines: list[str] = []

    async def show(line: str) -> None:
        lines.append(line)

    async def feed() -> Output:
        output = Output(logging, show)
        for stream, data in parts:
            await output.feed(stream, data)
        await output.close()
        return output

    return asyncio.run(feed()), lines


@pytest.mark.parametrize(
    ("logging", "expected"),
    [(None, ["a", "e", "b"]), ("stdoutAndStderr", ["a", "e", "b"]), ("stdout", ["a", "b"]), ("stderr", ["e"]), ("none", [])],
)  # fmt: skip
def test_logging_chooses_the_streams(logging: str | None, expected: list[str]) -> None:
    output, lines = _feed(logging, ("stdout", b"a\nb"), ("stderr", b"e\n"))
    assert lines == expected
    assert (output.text("stdout"), output.text("stderr")) == ("a\nb", "e")


def test_lines_are_whole_and_harmless() -> None:
    parts = [("stdout", b"1"), ("stdout", b"2\r\n10%\r50%\r"), ("stdout", b"\n\x1b[31mred\x1b[0m\x07\n\n")]
    assert _feed(None, *parts)[1] == ["12", "50%", "red", ""]


def test_only_one_line_end_is_taken_off() -> None:
    output, _ = _feed(None, ("stdout", b"a\n\n"))
    assert output.text("stdout") == "a\n"


def test_an_endless_line_is_shown_in_pieces() -> None:
    _, lines = _feed(None, ("stdout", b"x" * 20000))
    assert [len(line) for line in lines] == [8192, 8192, 3616]


def test_error_has_the_official_shape_and_is_bounded() -> None:
    output, _ = _feed("none", ("stdout", b"out\n"), ("stderr", b"err\x1b[1m\n"))
    assert str(output.error("exit status 3", 'say "hi"\n')) == 'exit status 3: running "say \\"hi\\"\\n":\nout\nerr\n'
    output, _ = _feed("none", ("stdout", b"a" * 10), ("stdout", b"b" * ERROR_LIMIT))
    text = str(output.error("exit status 3", "x"))
    assert "(10 bytes left out)\n" + "b" * ERROR_LIMIT in text and len(text) < ERROR_LIMIT + 100


def test_quote_is_gos() -> None:
    assert go_quote('a\t\\"é\x01\u200b\U000e0001') == '"a\\t\\\\\\"é\\x01\\u200b\\U000e0001"'
    assert clean("a\x1b]0;title\x07b\x00c\td") == "abc\td"
