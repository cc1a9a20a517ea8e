"""The failure catalogue: every code with its cause and the cures that stand where it is raised, read from the syntax trees."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nodekit.errors import CODES
from nodekit.rules.proof import ladder

CHECKOUT = Path(__file__).resolve().parents[2]
NOT_PRODUCT = ("bench", "examples", "plugins", "tests", "tools")
"""Folders that raise none of these errors to a user."""
UNKNOWN = "…"
"""Stands for a part of a sentence that only a run knows."""
_QUOTED = re.compile(r'"([^"]*) \[([a-z0-9-]+)\]"')

HEAD = """# Failures

Every failure ends with a code in brackets, as in `[proof-user-namespaces-zero]`; the verbs on a node give it as `error.code`.
Here is, for each, what it means, and the cures that the program names, word for word; `<name>` and … stand for what a run fills
in. `make generate` writes the page from the code, and a test finds a code that nothing raises. A code never changes its meaning.
"""
LOCAL_HEAD = """# On the machine that the local stack runs on

What `local/` says, as `CODE: MESSAGE; remedy: REMEDY`.
"""


@dataclass(frozen=True)
class Module:
    """One file of the product."""

    name: str
    tree: ast.Module

    @cached_property
    def constants(self) -> dict[str, ast.expr]:
        """Names that are given a value at module level."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                found[node.target.id] = node.value
        return found

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """Functions by their bare name, those within others too."""
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}

    @cached_property
    def enclosing(self) -> dict[ast.AST, ast.FunctionDef]:
        """Node -> the innermost function around it."""
        found: dict[ast.AST, ast.FunctionDef] = {}
        # Outer functions come first in a walk, so that inner ones overwrite them.
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                found |= dict.fromkeys((inner for inner in ast.walk(node) if inner is not node), node)
        return found

    @cached_property
    def imports(self) -> dict[str, str]:
        """Imported name -> the file that it comes from."""
        return {
            alias.asname or alias.name: f"{(node.module or '').replace('.', '/')}.py"
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


FAILURES = (
    "No space left on device",
    "Permission denied",
    "mount proc: Operation not permitted",
    "uid_map: Operation not permitted",
    "bwrap: uid_map: Operation not permitted",
    "not implemented",
    "",
)
"""Words by which the ladder's judge tells the causes of a command's failure apart."""


def ladder_cures() -> Iterator[tuple[str, str]]:
    """Code and cure of each command of the ladder that fails, and that cannot be tried, as the judge itself says them."""
    for command in ladder.COMMANDS:
        seen = [f"fail value=1 detail={text.replace(' ', '%20')}" for text in FAILURES]
        for status in seen if command.code else ():
            yield from judged(command, status, "guest")
        for place in ladder.TOOLS:
            yield from judged(command, "absent value= detail=x", place)


def judged(command: ladder.Command, status: str, place: str) -> Iterator[tuple[str, str]]:
    """The verdict on a ladder that met just this, where it counts."""
    for sandbox in command.sandboxes:
        verdict = ladder.judge(
            f"n rung=uid status=ok value=0 detail=\nn rung={command.name} status={status}\nn end",
            "n",
            "",
            [],
            sandbox=sandbox,
            place=place,
        )
        if verdict.code != "proof-transcript-incomplete" and verdict.code:
            yield verdict.code, verdict.remedy


class Product:
    """The syntax trees of all product code."""

    def __init__(self, checkout: Path = CHECKOUT) -> None:
        files = [file for file in checkout.rglob("*") if file.suffix in (".py", ".sh") and file.is_file()]
        inside = sorted(
            (file.relative_to(checkout).as_posix(), file)
            for file in files
            if not any(part.startswith(".") or part in NOT_PRODUCT for part in file.relative_to(checkout).parts[:-1])
        )
        self.scripts = {name: file.read_text(encoding="utf-8") for name, file in inside if file.suffix == ".sh"}
        self.modules = [
            Module(name, ast.parse(file.read_text(encoding="utf-8"), name)) for name, file in inside if file.suffix == ".py"
        ]

    def function(self, name: str, near: Module) -> tuple[ast.FunctionDef, Module] | None:
        """The function of that bare name: of the module itself, of the one it is imported from, or of the only one with it."""
        module = self.home(near, name, [module for module in self.modules if name in module.functions])
        return (module.functions[name], module) if module else None

    def constant(self, name: str, near: Module) -> tuple[ast.expr, Module] | None:
        """The value of a module-level name, likewise."""
        module = self.home(near, name, [module for module in self.modules if name in module.constants])
        return (module.constants[name], module) if module else None

    @staticmethod
    def home(near: Module, name: str, having: list[Module]) -> Module | None:
        """Which of the modules that have `name` the module `near` means."""
        meant = [module for module in having if module is near] or [one for one in having if one.name == near.imports.get(name)]
        return meant[0] if meant else having[0] if len(having) == 1 else None

    # What an expression can say

    def texts(self, node: ast.expr, module: Module, seen: frozenset[ast.AST] = frozenset()) -> list[str]:
        """Every text that `node` can be, as far as the source tells; none where it tells nothing."""
        if node in seen:
            return []
        seen |= {node}
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return ["".join(self.part(part, module) for part in parts)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return [one + other for one in self.texts(left, module, seen) for other in self.texts(right, module, seen)]
            case ast.IfExp(body=body, orelse=other):
                return [*self.texts(body, module, seen), *self.texts(other, module, seen)]
            case ast.BoolOp(values=values):
                return [text for one in values for text in self.texts(one, module, seen)]
            case ast.Name(id=name):
                return self.named(node, name, module, seen)
            case ast.Attribute(value=ast.Name(id=name), attr="remedy"):
                return self.remedies_of_variable(node, name, module, seen)
            case ast.Attribute(attr=name) if name.isupper():
                found = self.constant(name, module)
                return self.texts(*found, seen) if found else []
            case ast.Call(func=ast.Name(id="next"), args=[ast.GeneratorExp() as chosen, other]):
                return [*self.table(chosen, module), *self.texts(other, module, seen)]
            case ast.Call():
                return self.returned(node, module, seen)
        return []

    def part(self, part: ast.expr, module: Module) -> str:
        """A piece of an f-string; what a run fills in is shown by its name, where it has one."""
        match part:
            case ast.Constant(value=str(text)):
                return text
            case ast.FormattedValue(value=ast.Name(id=name)) if name.isupper():
                return next(iter(self.texts(part.value, module)), UNKNOWN)
            case ast.FormattedValue(value=ast.Name(id=name)) | ast.FormattedValue(value=ast.Attribute(attr=name)):
                return f"<{name}>"
            case ast.FormattedValue(value=ast.Subscript(slice=ast.Constant(value=str(name)))):
                return f"<{name}>"
        return UNKNOWN

    def named(self, node: ast.Name, name: str, module: Module, seen: frozenset[ast.AST]) -> list[str]:
        """Texts of a variable: assigned in its function, a parameter that callers give, or of module level."""
        function = module.enclosing.get(node)
        while function:
            values = _assigned(function, name, node)
            if values:
                return [text for value in values for text in self.texts(value, module, seen)]
            if name in [one.arg for one in (*function.args.args, *function.args.kwonlyargs)]:
                return [text for value, where in self.given(function, name, module) for text in self.texts(value, where, seen)]
            function = module.enclosing.get(function)
        found = self.constant(name, module)
        return self.texts(*found, seen) if found else []

    def given(self, function: ast.FunctionDef, name: str, module: Module) -> Iterator[tuple[ast.expr, Module]]:
        """What a parameter is given: its default, then by every call of a function of that name."""
        places = [one.arg for one in function.args.args]
        defaults = dict(zip(reversed(places), reversed(function.args.defaults), strict=False))
        defaults |= {
            one.arg: value for one, value in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if value
        }
        if name in defaults:
            yield defaults[name], module
        for where in self.modules:
            for call in ast.walk(where.tree):
                if isinstance(call, ast.Call) and _called(call) == function.name:
                    yield from ((one.value, where) for one in call.keywords if one.arg == name)
                    if name in places and places.index(name) < len(call.args):
                        yield call.args[places.index(name)], where

    def table(self, node: ast.AST, module: Module) -> list[str]:
        """Remedies in the module-level tables that `node` names: values of a mapping, last elements of rows."""
        found = []
        for one in ast.walk(node):
            value = self.constant(one.id, module) if isinstance(one, ast.Name) else None
            match value:
                case (ast.Dict(values=values), where):
                    found += [text for each in values for text in self.texts(each, where)]
                case (ast.Tuple(elts=rows), where):
                    found += [text for row in rows if isinstance(row, ast.Tuple) for text in self.texts(row.elts[-1], where)]
        return found

    def remedies_of_variable(self, node: ast.AST, name: str, module: Module, seen: frozenset[ast.AST]) -> list[str]:
        """Remedies of a finding that a function returned."""
        function = module.enclosing.get(node)
        found = []
        for one in ast.walk(function) if function else ():
            if isinstance(one, ast.Assign) and name in {to.id for to in ast.walk(one.targets[0]) if isinstance(to, ast.Name)}:
                for call in ast.walk(one.value):
                    if isinstance(call, ast.Call):
                        found += self.returned(call, module, seen)
        return found

    def returned(self, call: ast.Call, module: Module, seen: frozenset[ast.AST]) -> list[str]:
        """Texts that a function of ours gives back: as such, as the last part of a finding, or from its tables."""
        found = self.function(_called(call), module)
        if not found or found[0] in seen:
            return []
        function, where = found
        seen |= {function}
        said = [text for loop in ast.walk(function) if isinstance(loop, ast.For) for text in self.table(loop.iter, where)]
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Name(id="Explanation"), args=[_, remedy, *_]):
                    said += self.texts(remedy, where, seen)
                case ast.Call() if self.gives_findings(node, where):
                    said += self.returned(node, where, seen)
                case ast.Return(value=ast.Tuple(elts=[*_, last])) if isinstance(last, ast.expr):
                    said += self.texts(last.value if isinstance(last, ast.Starred) else last, where, seen)
                case ast.Return(value=ast.expr() as value):
                    said += self.texts(value, where, seen) if isinstance(value, ast.Constant | ast.JoinedStr) else []
                case ast.Starred(value=ast.Call() as inner):
                    said += self.returned(inner, where, seen)
        return said

    def gives_findings(self, call: ast.Call, module: Module) -> bool:
        """Whether what is called returns a cause with its remedy, by its annotation."""
        found = self.function(_called(call), module)
        returns = ast.unparse(found[0].returns) if found and found[0].returns else ""
        return "Explanation" in returns or returns in ("Finding", "tuple[str, str]")

    # Where codes stand

    def cures(self) -> dict[str, list[str]]:
        """Code of `CODES` -> the cures of all places that raise it, in the order of files; a code that nothing raises lacks."""
        found: dict[str, list[str]] = defaultdict(list)
        for module in self.modules:
            if module.name == "nodekit/errors.py":
                continue
            for code, remedies in self.uses(module):
                found[code] += remedies
        for code, remedy in ladder_cures():
            found[code].append(remedy)
        for script in self.scripts.values():
            for said, code in _QUOTED.findall(script):
                if code in CODES:
                    found[code].append(re.sub(r"\$\{?\w+\}?|\$\*", UNKNOWN, said.rpartition(". ")[2]))
        return {code: list(dict.fromkeys(sentence(one) for one in remedies if one.strip())) for code, remedies in found.items()}

    def uses(self, module: Module) -> Iterator[tuple[str, list[str]]]:
        """Each place where an error is made with a code of the catalogue, with its remedies.

        A call has code, message, remedy in a row; a finding has the code before its cause and the remedy at its end.
        """
        for node in ast.walk(module.tree):
            parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            if isinstance(node, ast.Call) and _called(node) == "LocalError":
                continue
            for at, part in enumerate(parts):
                if not (isinstance(part, ast.Constant) and part.value in CODES):
                    continue
                if len(parts) > at + 2:
                    yield part.value, self.texts(parts[at + 2] if isinstance(node, ast.Call) else parts[-1], module)
                elif isinstance(node, ast.Call):
                    yield part.value, self.returned(node, module, frozenset())

    def local(self) -> dict[str, list[tuple[str, str]]]:
        """Code of `LocalError` -> message and remedy of all places that raise it."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for module in self.modules:
            for node in ast.walk(module.tree):
                match node:
                    case ast.Call(func=func, args=[ast.Constant(value=str(code)), message, remedy]) if (
                        ast.unparse(func).rpartition(".")[2] == "LocalError"
                    ):
                        said = (self.texts(message, module) or [UNKNOWN])[0].splitlines()[0].rstrip(":; ")
                        found[code].append((sentence(said), sentence((self.texts(remedy, module) or [UNKNOWN])[0])))
        return {code: list(dict.fromkeys(found[code])) for code in sorted(found)}


def _called(call: ast.Call) -> str:
    """Bare name of what a call calls."""
    return ast.unparse(call.func).rpartition(".")[2]


def _assigned(function: ast.FunctionDef, name: str, before: ast.expr) -> list[ast.expr]:
    """What a function has assigned to `name` before a place: the last alone, where that is not within a branch."""
    found = [
        one
        for one in ast.walk(function)
        if isinstance(one, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in one.targets)
    ]
    found = sorted((one for one in found if one.lineno < before.lineno), key=lambda one: one.lineno)
    if found and found[-1].col_offset <= function.body[0].col_offset:
        found = found[-1:]
    return [one.value for one in found]


def sentence(text: str) -> str:
    """In one line, without a full stop at its end."""
    return " ".join(text.split()).rstrip(".")


def escaped(text: str) -> str:
    """For Markdown, which would take <name> for HTML."""
    return text.replace("<", "\\<")


def text() -> str:
    """Content of docs/reference/errors.md."""
    product = Product()
    cures = product.cures()
    parts = [HEAD]
    for code, cause in CODES.items():
        lines = "\n".join(f"- {escaped(one)}." for one in cures.get(code, []))
        parts.append(f"## {code}\n\n{cause}\n\n{lines}\n")
    parts.append(LOCAL_HEAD)
    for code, places in product.local().items():
        lines = "\n".join(f"- {escaped(message)}; remedy: {escaped(remedy)}." for message, remedy in places)
        parts.append(f"## {code} (local)\n\n{lines}\n")
    return "\n".join(parts)
