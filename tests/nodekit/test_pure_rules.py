"""A rule reads nothing and changes nothing, so that one input decides alike in a preview, on a node and in a test."""

import ast
from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "nodekit" / "rules"
WITHOUT_EFFECTS = {
    "base64", "binascii", "collections", "copy", "dataclasses", "datetime", "functools", "hashlib", "ipaddress", "json", "math",
    "re", "shlex", "tomlkit", "tomllib", "types", "typing", "urllib",
}  # fmt: skip


def imported(source: str) -> set[str]:
    """Modules that a source imports: those of the project by their whole name, of others the first part."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    return {name if name.startswith("nodekit") else name.partition(".")[0] for name in modules}


def test_rules_import_nothing_that_has_effects() -> None:
    for file in RULES.rglob("*.py"):
        ours = {name for name in imported(file.read_text()) if name.startswith("nodekit")}
        others = imported(file.read_text()) - ours
        assert others <= WITHOUT_EFFECTS, f"{file.name} imports {others - WITHOUT_EFFECTS}"
        assert all(name.startswith(("nodekit.rules", "nodekit.errors")) for name in ours), f"{file.name} imports {ours}"


def test_rules_open_no_file() -> None:
    calls = ("open", "read_text", "read_bytes")
    for file in RULES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert name not in calls, f"{file.name}:{node.lineno} calls {name}"
