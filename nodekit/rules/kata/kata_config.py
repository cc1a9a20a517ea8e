"""Read Kata's TOML as Kata merges it, and change one value in it without touching another byte."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from nodekit.errors import NodeError, remedy_for
from nodekit.rules.text import printable

KEY = "kernel_params"
BOM = "\ufeff"
MAX_DEPTH = 64
"""Tables and arrays within each other; those of Kata and of containerd have at most 8. tomlkit refuses more than 100, and what is
nested ten times as deep ends Python's comparing."""


def _invalid(path: str, problem: str, *, remedy: str | None = None) -> NodeError:
    return NodeError("file-invalid", f"{path} {printable(problem, 300)}", "configuration", remedy=remedy)


def decode(content: bytes, path: str) -> str:
    """The text of a configuration file, every byte kept; raises NodeError `file-invalid` when it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _invalid(path, f"is not UTF-8 text (byte {error.start})") from None


@lru_cache(maxsize=16)  # parsing a file takes a second on an emulated node with Python 3.10, and each file is read three times
def _parsed(text: str) -> dict[str, Any]:
    """The plain data of a TOML text; raises ValueError, or RecursionError for one that is nested without end."""
    try:
        from tomllib import loads
    except ImportError:  # before Python 3.11
        data = _unwrapped(text.removeprefix(BOM))
    else:
        data = loads(text.removeprefix(BOM))
    _refuse_depth(data)
    return data


def _refuse_depth(data: Mapping[str, Any]) -> None:
    """Raise ValueError for what is nested deeper than MAX_DEPTH."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        values = [value for node in level for value in _within(node)]
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(f"tables or arrays are nested more than {MAX_DEPTH} deep")


def _edited(body: str) -> Any:
    """The text as tomlkit's document, which keeps every byte; raises ValueError.

    tomlkit takes longer to import than all the rest of a run that changes nothing, so it is imported here.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(body)
    except TOMLKitError as error:
        raise ValueError(str(error)) from None


def _unwrapped(body: str) -> dict[str, Any]:
    """The plain data of a text, read with tomlkit; raises ValueError.

    tomlkit 0.15 does not read all orders of tables that TOML allows, such as `[a.b.c]` above `[a.b]`. Those it gets one by one.
    """
    from tomlkit.exceptions import TOMLKitError

    faults = (ValueError, AttributeError, TOMLKitError)
    try:
        return dict(_edited(body).unwrap())
    except faults as error:
        reason = str(error)
    try:
        return _Joined(body).whole
    except faults:
        raise ValueError(reason) from None


class _Joined:
    """A text whose tables are read each by itself; raises ValueError, and what tomlkit raises."""

    def __init__(self, body: str) -> None:
        self.whole: dict[str, Any] = {}
        self._headed: set[int] = set()
        """The tables that a header has begun: none begins one twice."""
        self._closed: set[int] = set()
        """The tables and arrays that stand as values: no header adds to them."""
        header, lines, tries = "", [""], 0
        for line in [*re.findall(r"[^\n]*\n|[^\n]+", body), "["]:
            if line.lstrip(" \t").startswith("[") and (values := self._values(lines)) is not None:
                self._add(header, values)
                header, lines, tries = line, [], 0
                continue
            tries += line.lstrip(" \t").startswith("[")
            if tries > MAX_DEPTH:  # in an array or a text, each line that begins so is tried for a header
                raise ValueError("an array or a text has too many lines")
            lines.append(line)
        if lines:
            raise ValueError("it ends within a value")

    @staticmethod
    def _values(lines: Sequence[str]) -> dict[str, Any] | None:
        """What these lines set; None where they end within an array or a text."""
        try:
            return dict(_edited("".join(lines)).unwrap())
        except ValueError:
            return None

    def _add(self, header: str, values: dict[str, Any]) -> None:
        target = self._begun(header) if header else self.whole
        if target.keys() & values.keys():
            raise ValueError("a key stands twice in a table")
        target |= values
        level: list[Any] = [*values.values()]
        while level:
            self._closed |= {id(value) for value in level if isinstance(value, dict | list)}
            level = [each for value in level if isinstance(value, dict | list) for each in _within(value)]

    def _begun(self, header: str) -> dict[str, Any]:
        """The table that a header begins."""
        inner: Any = _edited(header).unwrap()
        names = []
        while isinstance(inner, dict) and inner:
            ((name, inner),) = inner.items()
            names.append(name)
        table = self.whole
        for name in names[:-1]:
            known = self._open(table.setdefault(name, {}))
            table = known[-1] if isinstance(known, list) else known
        known = self._open(table.setdefault(names[-1], [] if isinstance(inner, list) else {}))
        if isinstance(known, list) != isinstance(inner, list) or id(known) in self._headed:
            raise ValueError("a table stands twice")
        if isinstance(known, list):
            known.append({})
            known = known[-1]
        self._headed.add(id(known))
        begun: dict[str, Any] = known
        return begun

    def _open(self, value: Any) -> Any:
        if not isinstance(value, dict | list) or id(value) in self._closed:
            raise ValueError("a header names what is a value")
        return value


def _within(value: Any) -> Iterable[Any]:
    """What a table or an array holds."""
    return value.values() if isinstance(value, dict) else value


def table(text: str, path: str) -> Mapping[str, Any]:
    """The file as plain data, not to be changed; raises NodeError `file-invalid` naming the line that is no TOML."""
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"is not valid TOML: {error}") from None


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` on top: tables are merged, anything else is replaced (`kata-types/src/config/drop_in.rs`)."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def hypervisor_table(whole: Mapping[str, Any], name: str, path: str, *, remedy: str | None = None) -> dict[str, Any]:
    """The table `[hypervisor.NAME]`; raises NodeError `file-invalid` if it is missing or its `kernel_params` is not a string."""
    tables = whole.get("hypervisor")
    table = tables.get(name) if isinstance(tables, Mapping) else None
    if not isinstance(table, Mapping):
        existing = ", ".join(sorted(map(str, tables))) if isinstance(tables, Mapping) else ""
        raise _invalid(path, f"has no table [hypervisor.{name}] (it has: {existing or 'none'})", remedy=remedy)
    if not isinstance(table.get(KEY, ""), str):
        raise _invalid(path, f"has {KEY} = {table[KEY]!r} in [hypervisor.{name}], which is not a string")
    return dict(table)


def parameters(files: Sequence[tuple[str, str]], name: str) -> str:
    """The `kernel_params` in effect of a base file and drop-ins, each path and text, in the order read."""
    whole: Mapping[str, Any] = {}
    for path, text in files:
        whole = merged(whole, table(text, path))
    return str(hypervisor_table(whole, name, files[0][0]).get(KEY, ""))


def hypervisors(text: str, path: str) -> list[str]:
    """The names of the file's hypervisor tables, in its order."""
    tables = table(text, path).get("hypervisor")
    return [name for name, table in tables.items() if isinstance(table, Mapping)] if isinstance(tables, Mapping) else []


def sets_parameters(text: str, name: str, path: str) -> bool:
    """Whether the file gives `kernel_params` for that hypervisor."""
    tables = table(text, path).get("hypervisor")
    hypervisor = tables.get(name) if isinstance(tables, Mapping) else None
    return isinstance(hypervisor, Mapping) and KEY in hypervisor


def drop_in(name: str, value: str) -> str:
    """The text of our drop-in."""
    return (
        "# Written by kata-nodes; it will be written again. The whole string counts: Kata does not join it with the one of\n"
        "# the file before, so that file's own parameters stand in it too.\n"
        f"[hypervisor.{name}]\n{KEY} = {_literal(value, '')}\n"
    )


def with_parameters(text: str, name: str, value: str, path: str) -> str:
    """`text` with `kernel_params = value` in `[hypervisor.NAME]`, every byte outside that value as it was.

    Where the table has no such key, one line is added below its header. Raises NodeError `file-invalid` when the text
    is no TOML, has no such table, or is written so that the value cannot be changed alone.
    """
    before = table(text, path)
    old = hypervisor_table(before, name, path)
    bom, body = (BOM, text[1:]) if text.startswith(BOM) else ("", text)
    tries = [_replaced(body, name, value)] if KEY in old else _inserted(body, name, value)
    expected = merged(before, {"hypervisor": {name: {KEY: value}}})
    for new in tries:
        if new is not None and _reads_as(bom + new, expected):
            return bom + new
    raise _invalid(
        path,
        f"is written so that {KEY} of [hypervisor.{name}] cannot be changed alone",
        remedy=remedy_for("file-invalid", "hypervisor-table", hypervisor=name, key=KEY),
    )


def _reads_as(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return _parsed(text) == expected
    except ValueError:
        return False


def _replaced(body: str, name: str, value: str) -> str | None:
    """The text with the value's literal exchanged, found by letting tomlkit write a mark in its place."""
    mark = "kata-nodes-mark"
    while mark in body:
        mark += "-"
    try:
        document = _edited(body)
        document["hypervisor"][name][KEY] = mark
    except (ValueError, KeyError, RecursionError):  # the two parsers need not agree on everything
        return None
    parts: list[str] = document.as_string().split(f'"{mark}"')
    if len(parts) != 2 or not (body.startswith(parts[0]) and body.endswith(parts[1])):
        return None
    old = body[len(parts[0]) : len(body) - len(parts[1])]
    return parts[0] + _literal(value, old) + parts[1]


def _inserted(body: str, name: str, value: str) -> Sequence[str]:
    """The texts with one line more, below each line that may be the table's header; the caller takes the one that reads right."""
    lines = body.splitlines(keepends=True)
    headers = {f"[hypervisor.{name}]", f'[hypervisor."{name}"]', f"[hypervisor.'{name}']"}
    tries = []
    for at, line in enumerate(lines):
        head = line.partition("#")[0]
        if "".join(head.split()) not in headers:
            continue
        end = line[len(line.rstrip("\r\n")) :]
        new = f"{KEY} = {_literal(value, '')}"
        # Without a line end the header is the file's last line, and the new last line has none either.
        rest = f"{new}{end}" if end else f"\n{new}"
        tries.append("".join([*lines[: at + 1], rest, *lines[at + 1 :]]))
    return tries


def _literal(value: str, like: str) -> str:
    """A one-line TOML string, in single quotes when `like` is so and the value allows it."""
    plain = all(c.isprintable() or c == "\t" for c in value)
    if like.startswith("'") and plain and "'" not in value:
        return f"'{value}'"
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    text = "".join(escapes.get(c, c if c.isprintable() or ord(c) > 0x9F else f"\\u{ord(c):04x}") for c in value)
    return f'"{text}"'
