"""What a check of a node loads. Lost if this fails: half of the time that `kata-nodes status` takes of each host's processor."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LATE = (
    "argparse", "ctypes", "dataclasses", "http", "inspect", "tarfile", "tomlkit", "urllib.request",
    "nodekit.commands.preflight", "nodekit.commands.prove", "nodekit.host.guest", "nodekit.host.initramfs",
    "nodekit.host.kata_download", "nodekit.rules.kata.kata_start", "nodekit.rules.proof.ladder",
)  # fmt: skip
"""What only verbs that change or prove a node use, or a command line that a person types."""
DATACLASSES = {
    "nodekit/rules/proof/ladder.py: Reading": "a field that does not count when two are compared",
}
"""Those that are no named tuple, and what a named tuple cannot do."""
CHECK = (
    "import sys; sys.argv = ['nodekit', 'compare']; from nodekit.__main__ import main; main(); "
    f"print([name for name in {LATE!r} if name in sys.modules], file=sys.stderr)"
)


def test_a_check_loads_nothing_that_it_does_not_use() -> None:
    state = '{"node": "n", "preflight": {"node": "n"}}'
    result = subprocess.run(
        [sys.executable, "-S", "-c", CHECK], cwd=CHECKOUT, input=state, capture_output=True, text=True, check=True, timeout=60
    )
    assert '"verb": "compare"' in result.stdout
    assert result.stderr.splitlines()[-1] == "[]"


def test_a_value_of_the_node_program_is_a_named_tuple() -> None:
    """A frozen dataclass takes ten times as long to define, at each start (docs/adr/0037)."""
    frozen = {
        f"{file.relative_to(CHECKOUT).as_posix()}: {node.name}"
        for file in sorted((CHECKOUT / "nodekit").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and not node.bases and "frozen=True" in _keywords(node)
    }
    assert frozen == {*DATACLASSES}


def _keywords(node: ast.ClassDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            yield from (f"{keyword.arg}={ast.unparse(keyword.value)}" for keyword in decorator.keywords)


def test_nothing_waits_for_the_end_of_python() -> None:
    """The program leaves by os._exit (delivery/bundle.py), so what waits for Python's own end would never run."""
    waits = {
        f"{file.relative_to(CHECKOUT).as_posix()}: {name}"
        for file in sorted((CHECKOUT / "nodekit").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        for name in _imported(node)
        if name.partition(".")[0] in ("atexit", "threading", "concurrent", "multiprocessing", "weakref", "logging")
    }
    assert waits == set()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) else []
