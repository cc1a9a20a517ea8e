"""Finds, in the syntax trees of the product, every call that keeps as much as somebody else chooses to send."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ELSEWHERE = {
    "bench": "developers run it, on programs of their own",
    "examples": "programs for people to start from; they read nothing",
    "tests": "developers run them, under the time limit of pytest",
    "tools": "developers run them, on what they pinned by its sha256; nothing of it runs on a node or in a deployment",
}
"""Folders that are not walked, each with the reason."""
STARTING = ("Popen", "call", "check_call", "run")
CAPTURING = (
    "check_output",
    "getoutput",
    "getstatusoutput",
    "popen",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "subprocess_exec",
)
"""Functions that start a program: those that capture on request, and those that always do."""
WHOLE = ("communicate", "read_bytes", "read_text", "readall", "readlines")
"""Methods that return everything, whatever their arguments."""
PIECES = ("read", "read1", "readline", "recv")
"""Methods that return everything, or wait for a whole line, unless they get a size."""
CLIENTS = ("ApiClient", "PoolManager", "new_client_from_config", "new_client_from_config_dict", "urlretrieve")
"""What answers come through in the kubernetes library and in urllib3, and a download that asks nobody."""
HIDDEN = ("json", "subprocess", "tomllib")
"""Modules that are imported under their own names alone, so that their calls are seen."""
PARSERS = ("json", "tomllib", "tomli", "pickle", "marshal")
"""Modules whose `load` reads a whole file; yaml's takes text too, and is found where that is read."""


@dataclass(frozen=True)
class Call:
    """One call without a bound of its own."""

    where: str
    """File and function, such as local/process.py:tail."""
    line: int
    kept: str


def product(checkout: Path) -> Iterator[tuple[str, str]]:
    """Name and source of every module of the product below `checkout`."""
    for file in sorted(checkout.rglob("*.py")):
        name = file.relative_to(checkout)
        if name.parts[0] not in ELSEWHERE and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), file.read_text(encoding="utf-8")


def walk(checkout: Path) -> Iterator[Call]:
    """Every such call in the product below `checkout`."""
    for name, source in product(checkout):
        yield from calls(name, source)


def calls(name: str, source: str) -> Iterator[Call]:
    """Every such call in one module."""
    yield from _inside(ast.parse(source, name), f"{name}:")


def _inside(node: ast.AST, where: str) -> Iterator[Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            dot = "" if where.endswith(":") else "."
            yield from _inside(child, f"{where}{dot}{child.name}")
            continue
        if kept := unbounded(child):
            assert isinstance(child, ast.expr | ast.stmt)
            yield Call(where, child.lineno, kept)
        yield from _inside(child, where)


def _name(node: ast.expr) -> str:
    """The last name of what is called: `run` of subprocess.run."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _owner(node: ast.expr) -> str:
    """The name before that one: `subprocess` of subprocess.run, `ssh` of link.ssh.run."""
    return _name(node.value) if isinstance(node, ast.Attribute) else ""


def unbounded(node: ast.AST) -> str | None:
    """What the expression keeps without a bound, or None."""
    if isinstance(node, ast.Attribute) and node.attr == "data" and _name(node.value) in ("answer", "response", "reply"):
        return "the whole body of an answer"
    if isinstance(node, ast.ImportFrom) and node.module in HIDDEN:
        hidden = [alias.name for alias in node.names if alias.name in (*STARTING, *CAPTURING, "load")]
        return f"whatever {hidden[0]} does, which only its full name {node.module}.{hidden[0]} shows here" if hidden else None
    if isinstance(node, ast.Import) and any(alias.asname and alias.name in HIDDEN for alias in node.names):
        return "whatever a module under another name does"
    if not isinstance(node, ast.Call):
        return None
    name, owner = _name(node.func), _owner(node.func)
    method = isinstance(node.func, ast.Attribute)
    if name in CAPTURING or (name in STARTING and owner == "subprocess" and _captures(node)):
        return "what a program prints"
    if owner == "ssh" and name in ("run", "create_process"):
        return "what a program on another machine prints"
    if method and name in WHOLE and not (name == "read_bytes" and node.args):  # pathlib's has no argument, ours has
        return "all that comes"
    if method and name in PIECES and not _sized(node):
        return "all that comes"
    if name in CLIENTS:
        return "what a server answers"
    if name == "load" and owner in PARSERS:
        return "a whole file"
    return None


def _captures(node: ast.Call) -> bool:
    """Whether a program's output comes back to its caller, as far as the call shows; `**options` show nothing."""
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg == "capture_output":
            return True
        if keyword.arg in ("stdout", "stderr") and _name(keyword.value) == "PIPE":
            return True
    return False


def _sized(node: ast.Call) -> bool:
    """Whether there is a real size: not None, and not -1, which mean everything."""
    sizes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg in ("amt", "n", "size"))]
    if not sizes:
        return False
    return not (isinstance(sizes[0], ast.UnaryOp) or (isinstance(sizes[0], ast.Constant) and sizes[0].value is None))
