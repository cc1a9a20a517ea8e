"""A name says what it holds or does. Lost if these fail: code that can be read without looking up where each value comes from."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
VAGUE = frozenset({
    "asked", "done", "found", "given", "here", "insist", "least", "made", "more", "one", "said", "shown", "take", "there", "told",
    "wanted", "what",
})  # fmt: skip
"""Words that fit any value, so that as names they say nothing. A value has its own: node, request, result, expected."""
VAGUE_CLASSES = VAGUE | {"parts", "rounds", "waking"}


def names(node: ast.AST) -> Iterator[str]:
    """What a node of a syntax tree gives a name to: variables, arguments, functions, classes, attributes and captures."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name


def vague(source: str, where: str) -> list[str]:
    """Each vague name that a module defines, with its line."""
    faults = []
    for node in ast.walk(ast.parse(source, where)):
        for name in names(node):
            word = name.strip("_")
            if word in VAGUE or (isinstance(node, ast.ClassDef) and word.lower() in VAGUE_CLASSES):
                faults.append(f"{where}:{getattr(node, 'lineno', 1)}: {name}")
    return faults


def sources() -> Iterator[Path]:
    """The repository's own modules; an environment that lies in the checkout is not."""
    for path in sorted(REPOSITORY.iterdir()):
        if path.suffix == ".py":
            yield path
        elif path.is_dir() and not path.name.startswith(".") and not (path / "pyvenv.cfg").exists():
            yield from sorted(path.rglob("*.py"))


@pytest.mark.slow
def test_every_name_says_what_it_holds() -> None:
    faults = [fault for file in sources() for fault in vague(file.read_text(), file.relative_to(REPOSITORY).as_posix())]
    assert not faults, "write what it holds or does: " + ", ".join(faults)


@pytest.mark.parametrize(
    "planted",
    [
        "found = look()",
        "for one in nodes: pass",
        "nodes = [one for one in nodes]",
        "key = lambda given: given",
        "def told(): pass",
        "async def insist(): pass",
        "def look(*, wanted): pass",
        "def look(*asked, **more): pass",
        "class Parts: pass",
        "class Found: pass",
        "class Result:\n    made: bool",
        "self.said = output",
        "_done = run()",
        "import nodes as here",
        "with run() as shown: pass",
        "if least := min(nodes): pass",
        "try: run()\nexcept OSError as what: pass",
        "match node:\n    case [there]: pass",
        "match node:\n    case {'a': 1, **take}: pass",
        "match node:\n    case [1, *one]: pass",
    ],
)
def test_a_vague_name_is_found_wherever_it_is_given(planted: str) -> None:
    assert len(vague(planted, "new.py")) >= 1


@pytest.mark.parametrize(
    "source", ["from hypothesis import given", "result = outcome.done", "parts = rounds = 1", "one_node = nodes[0]", "SHOWN = 3"]
)
def test_names_of_others_and_words_that_say_more_are_left_alone(source: str) -> None:
    assert vague(source, "new.py") == []
