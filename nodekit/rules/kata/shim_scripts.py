"""The script that Kata's guide has people put in a shim's place: the variables that it sets, and the shim that it starts."""

import re

_SEVERAL = "one of "
_BRACED = r"\$\{[^{}\n]*\}"
# Each text fits one alternative alone, or a long line would take minutes.
_WITHIN = rf"(?:{_BRACED}|[^\"$\n]|\$(?!\{{[^{{}}\n]*\}}))*"
_DOUBLE, _SINGLE = rf"\"{_WITHIN}\"", r"'[^'\n]*'"
_SHELL_VALUE = rf"(?:{_DOUBLE}|{_SINGLE}|{_BRACED}|[^\s\"';&|)$]|\$(?!\{{[^{{}}\n]*\}}))*"
_SHELL_WORDS = (
    r"(?:(?:exec|export|readonly|declare|typeset|local|command|(?:[\w./][\w./-]{0,200}/|/)?env|-[au][ \t]+\S+|-(?![au][ \t])\S+"
    rf"|[A-Za-z_]\w*={_SHELL_VALUE})[ \t]+)*"
)
_SHELL_BEGIN = r"(?:^|[;&|({)]|\bthen\b|\bdo\b|\belse\b)[ \t]*"


def in_script(text: str, variable: str, above: frozenset[str] = frozenset()) -> str | None:
    """What a shell script sets a variable to for the command that it runs; the last of several counts.

    The assignment may stand before the command, behind `export` or similar, or behind `env`, with others around it. In it stand
    the values of the variables that the script sets, or that have a default there. `above` are variables that this one is
    a part of. What only a run of the script would show stays as it is written, and of a script with branches that set different
    values all are named.
    """

    def value(name: re.Match[str]) -> str:
        inner = None if name["plain"] == variable or name["name"] == variable else known(name["plain"] or name["name"])
        return inner or (name["default"].strip("\"'") if name["default"] is not None else name[0])

    def known(name: str) -> str | None:
        inner = None if name in above or len(above) > 3 else in_script(text, name, above | {variable})
        return None if inner and inner.startswith(_SEVERAL) else inner

    pattern = r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?::?[-=](?P<default>[^{}]*))?\})"
    values = [
        "".join(re.sub(pattern, value, part) if expands else part for part, expands in parts)
        for parts in _assigned(text, variable)
    ]
    if len(set(values)) > 1 and re.search(r"^[^#\n]*(?:\b(?:if|case)\b|&&|\|\|)", text, re.MULTILINE):
        return _SEVERAL + ", ".join(dict.fromkeys(values))
    return values[-1] if values else None


def exports(text: str, variable: str) -> bool:
    """Whether what a shell script sets a variable to reaches the commands that it runs, also where it was not set before.

    By `export` or similar, by `env`, or by standing before a command.
    """
    for line in _commands(text).split("\n"):
        if re.search(r"\bset[ \t]+(?:-\w+[ \t]+)*(?:-\w*a\w*|allexport)\b", line):
            return True
        before = re.search(
            r"\bexport\b|\b(?:declare|typeset|local|readonly)[ \t]+(?:-\w+[ \t]+)*-\w*x\w*|(?<![\w.-])env[ \t]", line
        )
        if before and re.search(rf"(?<![\w$]){variable}\b", line[before.end() :]):
            return True
        at = 0
        while assigned := re.compile(rf"(?<![\w$]){variable}={_SHELL_VALUE}").search(line, at):
            at = assigned.end()
            while other := re.compile(rf"[ \t]+[A-Za-z_]\w*={_SHELL_VALUE}").match(line, at):
                at = other.end()
            if re.compile(r"[ \t]+[^\s#;&|)}]").match(line, at):
                return True
    return False


def shim_in_script(text: str) -> str | None:
    """The shim that a script in a shim's place starts, by its path or its name; None where the script shows none."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    named = re.findall(r"(?<![\w./$}=-])(?:/[\w./-]{1,400}/)?containerd-shim-kata[\w.-]{0,100}", lines)
    return named[-1] if named else None


def _assigned(text: str, variable: str) -> list[list[tuple[str, bool]]]:
    """The parts of each value in the order of the script, each with whether a shell looks for variables in it.

    `: "${NAME:=value}"` sets one too, as a default.
    """
    lines = _commands(text)
    named = rf"\"{variable}=(?P<double>{_WITHIN})\"|'{variable}=(?P<single>[^'\n]*)'|{variable}=(?P<value>{_SHELL_VALUE})"
    default = rf":[ \t]+\"?(?P<default>\$\{{{variable}:?=[^{{}}\n]*\}})"
    values = []
    for assignment in re.finditer(rf"{_SHELL_BEGIN}(?:{_SHELL_WORDS}(?:{named})|{default})", lines, re.MULTILINE):
        if assignment["single"] is not None:
            values.append([(assignment["single"], False)])
        elif (whole := assignment["double"] or assignment["default"]) is not None:
            values.append([(whole, True)])
        else:
            parts = re.findall(rf"({_DOUBLE})|({_SINGLE})|((?:{_BRACED}|[^\"'])+)", assignment["value"] or "")
            values.append([(plain or (double or single)[1:-1], not single) for double, single, plain in parts])
    return values


def _commands(text: str) -> str:
    """The lines of a script, each as long as a backslash at its end makes it, without those that are comments."""
    joined = re.sub(r"\\\n", " ", text)
    return "\n".join(line for line in joined.splitlines() if not line.lstrip().startswith("#"))
