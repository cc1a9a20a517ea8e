"""Finds, in the syntax trees of the product, every place that shows text to a person, and which of it is not made harmless."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.package.bounds import product

CLEANING = ("harmless", "printable", "clean", "sentence", "as_json", "quote")
"""Calls whose result is harmless: nodekit.rules.text, the plugin's own, an error's sentence, JSON of kata-nodes."""
LOGS = ("debug", "info", "warning", "warn", "error", "exception", "critical")
CLEANED = ("clusterkit/controller/", "plugins/command/")
"""Folders whose logs go through one place that cleans every line: `OneLine` of the controller's `__main__`, and
`plugins.command.output`."""


@dataclass(frozen=True)
class ShowingCall:
    """One call that shows text which is not made harmless on the way."""

    where: str
    text: str


def walk(checkout: Path) -> Iterator[ShowingCall]:
    """Every such call in the product below `checkout`."""
    for name, source in product(checkout):
        yield from calls(name, source)


def calls(name: str, source: str) -> Iterator[ShowingCall]:
    """Every such call in one module."""
    yield from _inside(ast.parse(source, name), f"{name}:", name)


def _inside(node: ast.AST, where: str, name: str) -> Iterator[ShowingCall]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            dot = "" if where.endswith(":") else "."
            yield from _inside(child, f"{where}{dot}{child.name}", name)
            continue
        if isinstance(child, ast.Call) and _shows(child, name) and not all(map(_is_harmless, child.args)):
            yield ShowingCall(where, ast.unparse(child))
        yield from _inside(child, where, name)


def _shows(call: ast.Call, name: str) -> bool:
    text = ast.unparse(call.func)
    if text in ("print", "sys.stdout.write", "sys.stderr.write", "pulumi.RunError"):
        return True
    is_log = text.rpartition(".")[2] in LOGS and text.rpartition(".")[0].rpartition(".")[2] in ("log", "logging", "logger")
    return is_log and not name.startswith(CLEANED)


def _is_harmless(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return True
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in CLEANING
    if isinstance(value, ast.JoinedStr):
        return all(_is_harmless(part.value) for part in value.values if isinstance(part, ast.FormattedValue))
    if isinstance(value, ast.IfExp):
        return _is_harmless(value.body) and _is_harmless(value.orelse)
    return False
