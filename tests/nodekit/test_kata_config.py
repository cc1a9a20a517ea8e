"""Editing Kata's TOML. Lost if these fail: some other byte of a file that people own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from nodekit.errors import NodeError
from nodekit.rules.kata import kata_config
from nodekit.rules.kata.kata_config import (
    decode,
    drop_in,
    hypervisors,
    merged,
    parameters,
    sets_parameters,
    table,
    with_parameters,
)
from nodekit.rules.kata.kernel_params import merge
from tests.nodekit.kata_files import AWKWARD, BASE, LITERALS, PLAIN, RENDERED

NEW = 'cgroup_no_v1=all dm-mod.create="a b" user_namespace.enable=1'
ESCAPED = '"' + NEW.replace('"', '\\"') + '"'
rendered = sorted(RENDERED.glob("*/*/configuration-*.toml"))


def read(text: str, name: str = "qemu") -> object:
    return tomlkit.parse(text.removeprefix("\ufeff")).unwrap()["hypervisor"][name]["kernel_params"]


def changed(before: str, after: str) -> tuple[str, str]:
    """The part of each text that the other does not have, after their common head and tail."""
    head = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    tail = next(
        (at for at, (a, b) in enumerate(zip(before[head:][::-1], after[head:][::-1], strict=False)) if a != b),
        min(len(before), len(after)) - head,
    )
    return before[head : len(before) - tail], after[head : len(after) - tail]


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
def test_only_the_value_changes_in_awkward_files(text: str) -> None:
    assert read(text) == BASE
    after = with_parameters(text, "qemu", NEW, "f")
    assert read(after) == NEW
    # What differs lies wholly within the old literal and the new one.
    old, new = changed(text, after)
    assert any(old in literal and literal in text for literal in LITERALS.values())
    assert new in f"'{NEW}'" or new in ESCAPED
    assert with_parameters(after, "qemu", NEW, "f") == after


def test_the_bytes_around_the_value_are_the_same() -> None:
    assert with_parameters(PLAIN, "qemu", NEW, "f") == PLAIN.replace(f'"{BASE}"', '"' + NEW.replace('"', '\\"') + '"', 1)
    assert with_parameters(AWKWARD["crlf"], "qemu", "x", "f") == AWKWARD["crlf"].replace(BASE, "x", 1)
    assert with_parameters(AWKWARD["single quotes"], "qemu", NEW, "f") == AWKWARD["single quotes"].replace(BASE, NEW, 1)
    assert with_parameters(PLAIN, "firecracker", "x", "f") == PLAIN.replace('"console=ttyS0"', '"x"')


@settings(deadline=None)  # a loaded machine is slow, not wrong
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_value_reads_back_in_either_quotes(value: str) -> None:
    for text in (PLAIN, AWKWARD["single quotes"], "[hypervisor.qemu]"):
        after = with_parameters(text, "qemu", value, "f")
        assert read(after) == value
        assert after.count("\n") == text.count("\n") + (text == "[hypervisor.qemu]")  # the value stays on its line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[hypervisor.qemu]", '[hypervisor.qemu]\nkernel_params = "x"'),
        ("[hypervisor.qemu]\r\na = 1\r\n", '[hypervisor.qemu]\r\nkernel_params = "x"\r\na = 1\r\n'),
        ("[ hypervisor.'qemu' ] # c\na = 1", "[ hypervisor.'qemu' ] # c\nkernel_params = \"x\"\na = 1"),
        (
            't = """\n[hypervisor.qemu]\n"""\n[hypervisor.qemu]\n# kernel_params = "y"\n',
            't = """\n[hypervisor.qemu]\n"""\n[hypervisor.qemu]\nkernel_params = "x"\n# kernel_params = "y"\n',
        ),
    ],
)
def test_a_missing_key_becomes_one_line_below_the_header(text: str, expected: str) -> None:
    assert with_parameters(text, "qemu", "x", "f") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[hypervisor.qemu\n", "is not valid TOML"),
        ("[hypervisor.qemu]\na = 1\na = 2\n", "is not valid TOML"),
        ("[runtime]\n", "no table [hypervisor.qemu] (it has: none)"),
        ("[hypervisor.clh]\n", "it has: clh"),
        ("[hypervisor.qemu]\nkernel_params = ['a']\n", "not a string"),
        ("hypervisor = 3\n", "no table"),
        ("hypervisor.qemu.path = 'p'\n", "cannot be changed alone"),
        ("a = " + "[" * 5000, "is not valid TOML"),
    ],
)
def test_what_cannot_be_edited_is_refused_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(NodeError) as caught:
        with_parameters(text, "qemu", "x", "/etc/f.toml")
    assert caught.value.code == "file-invalid"
    assert message in caught.value.message and "/etc/f.toml" in caught.value.message and caught.value.remedy


def test_a_file_that_is_not_text_is_refused() -> None:
    with pytest.raises(NodeError, match="not UTF-8 text"):
        decode(b"a \xff", "f")


def test_a_drop_in_replaces_the_whole_string_and_merges_the_tables() -> None:
    over = drop_in("qemu", NEW)
    whole = merged(table(PLAIN, "f"), table(over, "d"))
    assert whole["hypervisor"]["qemu"] == {"path": "/opt/kata/bin/qemu", "kernel_params": NEW, "factory": {"kernel_params": 7}}
    assert whole["hypervisor"]["firecracker"] == {"kernel_params": "console=ttyS0"}
    assert table(PLAIN, "f")["hypervisor"]["qemu"]["kernel_params"] == BASE  # merging changed no part
    assert parameters([("f", PLAIN), ("d", over)], "qemu") == NEW
    assert sets_parameters(over, "qemu", "d") and not sets_parameters(over, "firecracker", "d")
    assert not sets_parameters("[hypervisor.qemu]\npath = 'p'\n", "qemu", "d")


needs_rendered = pytest.mark.skipif(not rendered, reason="the rendered files lie beside the checkout only")


def without(text: str, name: str) -> dict[str, Any]:
    """The file's data without that hypervisor's kernel_params."""
    data = tomlkit.parse(text).unwrap()
    del data["hypervisor"][name]["kernel_params"]
    return data


@needs_rendered
@pytest.mark.parametrize("path", rendered, ids=lambda path: "/".join(path.parts[-3:]))
def test_only_the_value_s_bytes_change_in_every_rendered_release_file(path: Path) -> None:
    text = path.read_bytes().decode()
    [name] = hypervisors(text, "f")
    after = with_parameters(text, name, NEW, "f")
    [(line, old)] = [
        (candidate, candidate.split(" = ", 1)[1]) for candidate in text.splitlines() if candidate.startswith("kernel_params = ")
    ]
    at = text.index(f"\n{line}\n") + len("\nkernel_params = ")
    assert (after[:at], after[at + len(ESCAPED) :]) == (text[:at], text[at + len(old) :])
    assert after[at : at + len(ESCAPED)] == ESCAPED
    assert without(after, name) == without(text, name)


@needs_rendered
@pytest.mark.parametrize("path", rendered, ids=lambda path: "/".join(path.parts[-3:]))
def test_our_drop_in_gives_base_and_ours_and_nothing_else_in_every_rendered_release_file(path: Path) -> None:
    text = path.read_bytes().decode()
    [name] = hypervisors(text, "f")
    base = str(read(text, name))
    ours = drop_in(name, merge(base, ["user_namespace.enable=1", "quiet"]))
    assert parameters([("f", text), ("d", ours)], name) == f"{base} user_namespace.enable=1 quiet".strip()
    whole = merged(table(text, "f"), table(ours, "d"))
    assert {**whole["hypervisor"][name], "kernel_params": base} == table(text, "f")["hypervisor"][name]
    assert {**whole, "hypervisor": 0} == {**table(text, "f"), "hypervisor": 0}


@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
def test_a_python_without_tomllib_reads_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = table(text, "f")["hypervisor"]  # elsewhere tomllib makes a plain newline of CRLF within a string, tomlkit does not
    kata_config._parsed.cache_clear()
    monkeypatch.setitem(sys.modules, "tomllib", None)
    assert table(text, "f")["hypervisor"] == with_it
    with pytest.raises(NodeError, match=r"f is not valid TOML: .*line 2"):
        table("a = 1\na = 2\n", "f")
    kata_config._parsed.cache_clear()


KATA = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata'
UNORDERED = [
    f"[{KATA}.options]\nConfigPath = '/k'\n[{KATA}]\nsnapshotter = 'x'\n",
    f"[plugins]\na = [\n  [1],\n  [2]\n]\n[{KATA}.options]\nb = 1\n[{KATA}] # c\nc = {{ d = 1 }}\n",
    "[a.b.c]\nx = 1\n[a.b]\ny = '''\n[z]\n'''\n[[a.list]]\nx = 1\n[a.list.more]\n[[a.list]]\n[a.list.more]\nz = 2\n",
    "[[a.list]]\n[b]\n[a.list.more]\n",
]
"""What tomlkit 0.15 does not read, or reads as something that has no plain data."""
DOUBLED = [f"[{KATA}.options]\n[{KATA}]\nx = 1\n{rest}" for rest in ("options = 1\n", f"[{KATA}]\n", "x = 2\n", f"[{KATA}.x]\n")]


@pytest.mark.parametrize("text", UNORDERED)
def test_a_python_without_tomllib_reads_tables_in_any_order(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: on Ubuntu 22.04 a containerd that runs is said to have a file that is no TOML."""
    expected = table(text, "config.toml")
    kata_config._parsed.cache_clear()
    monkeypatch.setitem(sys.modules, "tomllib", None)
    assert table(text, "config.toml") == expected


@pytest.mark.parametrize("text", [*DOUBLED, "[a.b]\n[a]\nb.c = 1\n", "[a.b.c]\n[a.b]\nx = [1,\n", "a = []\n[[a]]\n"])
@pytest.mark.parametrize("has_tomllib", [True, False])
def test_what_is_no_toml_is_refused_in_any_order(text: str, has_tomllib: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kata_config._parsed.cache_clear()
    if not has_tomllib:
        monkeypatch.setitem(sys.modules, "tomllib", None)
    with pytest.raises(NodeError, match="is not valid TOML"):
        table(text, "config.toml")


def test_reading_and_writing_a_drop_in_needs_no_tomlkit() -> None:
    program = (
        "import sys; from nodekit.rules.kata import kata_config as c; "
        "c.parameters([('f', '[hypervisor.qemu]'), ('d', c.drop_in('qemu', 'a'))], 'qemu'); print('tomlkit' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == f"{sys.version_info < (3, 11)}\n"


def test_a_broken_file_is_named_with_the_line() -> None:
    with pytest.raises(NodeError, match=r"/etc/f\.toml is not valid TOML: .*line 3"):
        table("a = 1\n\n[hypervisor.qemu\n", "/etc/f.toml")
    with pytest.raises(NodeError, match="is not valid TOML"):
        table("a = 1\rb = 2\n", "f")  # a bare carriage return ends no line


def test_hypervisors_are_named_in_the_file_s_order() -> None:
    assert hypervisors(PLAIN, "f") == ["qemu", "firecracker"]
    assert hypervisors("hypervisor = 3\n", "f") == hypervisors("[runtime]\n", "f") == []
