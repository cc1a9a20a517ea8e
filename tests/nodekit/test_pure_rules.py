"""A rule reads nothing and changes nothing, so the same input has the same result in a preview, on a node and in a test."""

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = [
    *(CHECKOUT / "nodekit" / "rules").rglob("*.py"),
    *(CHECKOUT / "clusterkit").glob("*.py"),
    *(file for file in (CHECKOUT / "aws").glob("*.py") if file.name != "preflight.py"),
    *(file for file in (CHECKOUT / "policy").glob("*.py") if file.name != "__main__.py"),
    CHECKOUT / "delivery" / "login.py",
]
"""In `clusterkit` folders have effects, elsewhere the files that are left out."""
WITHOUT_EFFECTS = {
    "base64", "binascii", "collections", "copy", "dataclasses", "datetime", "decimal", "difflib", "fnmatch", "functools",
    "hashlib", "ipaddress", "itertools", "json", "math", "re", "shlex", "tomlkit", "tomllib", "types", "typing",
    "unicodedata", "urllib",
}  # fmt: skip
OURS = ("nodekit", "clusterkit", "aws", "policy", "delivery")


def names(files: list[Path]) -> set[str]:
    """Modules and packages of rules."""
    modules = {file.relative_to(CHECKOUT).with_suffix("").as_posix().replace("/", ".") for file in files}
    return modules | {"nodekit", "nodekit.errors", "nodekit.failures", *(module.rpartition(".")[0] for module in modules)}


def imported(source: str) -> set[str]:
    """Modules that a source imports: those of the project by their whole name, of others the first part."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    return {name if name.partition(".")[0] in OURS else name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.relative_to(CHECKOUT).as_posix())
def test_rules_import_nothing_that_has_effects(file: Path) -> None:
    assert imported(file.read_text()) <= WITHOUT_EFFECTS | names(RULES)


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.relative_to(CHECKOUT).as_posix())
def test_rules_open_no_file(file: Path) -> None:
    calls = ("open", "read_text", "read_bytes")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in calls, f"line {node.lineno} calls {name}"
