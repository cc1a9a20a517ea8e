"""What the files of a systemd service say: its command line, its environment, how it is stopped."""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import NamedTuple

FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where systemd looks for units and their drop-ins; the first that holds a name hides the others (systemd.unit(5))."""


class Variable(NamedTuple):
    """A variable of a unit's environment."""

    value: str
    file: str
    """The file that sets it."""


def environment(files: Sequence[tuple[str, str]], variable: str) -> tuple[Variable | None, list[str]]:
    """What a unit and its drop-ins, each path and text in the order read, set a variable to with `Environment=`.

    And the files of `EnvironmentFile=`, which count more, a later one most (systemd.exec(5)).
    """
    setting: Variable | None = None
    named: list[str] = []
    for path, text in files:
        for line in _service_lines(text):
            key, mark, value = line.strip().partition("=")
            key, value = key.rstrip(), value.strip()
            if not mark or key not in ("Environment", "EnvironmentFile"):
                continue
            if key == "EnvironmentFile":
                named = [*named, value.removeprefix("-")] if value else []
            elif not value:
                setting = None
            else:
                for assignment in _split(value):
                    name, assigned, content = assignment.partition("=")
                    if assigned and name == variable:
                        setting = Variable(content, path)
    return setting, named


def started(files: Sequence[tuple[str, str]]) -> list[str]:
    """The words of a unit's command line, its last `ExecStart=`; `files` as for `environment`, empty when there is none.

    Quotes are gone, as for the program (systemd.service(5), "Command lines"). What a shell is told to run follows as words too.
    """
    command = ""
    for _, text in files:
        for line in _service_lines(text):
            key, mark, value = line.strip().partition("=")
            if mark and key.rstrip() == "ExecStart":
                command = value.strip().lstrip("-@:+!")
    words = _split(command)
    if len(words) > 2 and words[0].rpartition("/")[2] in ("sh", "bash", "dash") and re.fullmatch("-[a-z]*c", words[1]):
        return [*words[:2], *_split(words[2]), *words[3:]]
    return words


def stops_all(files: Sequence[tuple[str, str]]) -> bool:
    """Whether a unit's stop ends all processes in its cgroup, which is the default (systemd.kill(5), `KillMode=`)."""
    mode = ""
    for _, text in files:
        for line in _service_lines(text):
            key, mark, value = line.strip().partition("=")
            if mark and key.rstrip() == "KillMode":
                mode = value.strip()
    return mode not in ("process", "none")


_ASSIGNMENT = re.compile(
    r"""
    [ \t\r\n]* (?:
        [#;] [^\n]*
        | (?P<name>[^=\n]+) = (?P<quoted>(?:[ \t]* (?:'[^']*(?:'|\Z) | "(?:\\. | [^"\\])*(?:"|\Z)))*)
          [ \t]* (?P<rest>(?:\\. | [^\\\n])*)
        | [^\n]+
    )
    """,
    re.VERBOSE | re.DOTALL,
)


def in_environment_file(text: str, variable: str) -> str | None:
    """What an `EnvironmentFile=` sets a variable to (systemd.exec(5); systemd, `parse_env_file_internal`).

    It is no script: a line with `export` sets nothing, nothing is expanded, and only a whole line is a comment.
    """
    result = None
    for line in _ASSIGNMENT.finditer(text.rstrip(" \t\r\n")):  # each of many blank lines at the end would be a beginning
        if line["name"] is None or line["name"].strip() != variable:
            continue
        result = ""
        for single, double in re.findall(r"""'([^']*)(?:'|\Z)|"((?:\\.|[^"\\])*)""", line["quoted"], re.DOTALL):
            result += single or re.sub(r"\\([\"\\`$\n])", lambda escape: escape[1].strip("\n"), double)
        result += re.sub(r"\\(.)", lambda escape: escape[1].strip("\n"), line["rest"].rstrip(" \t\r"), flags=re.DOTALL)
    return result


def expanded(words: Sequence[str], variable: Callable[[str], str]) -> list[str]:
    """A unit's command line with its variables: `${NAME}` stays within its word, and `$NAME` alone becomes as many words as it
    holds (systemd.service(5), "Command lines")."""
    result = []
    for word in words:
        if name := re.fullmatch(r"\$([A-Za-z_]\w*)", word.strip("\"'")):
            result += variable(name[1]).split()
        else:
            result.append(re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda name: variable(name[1]), word))
    return result


def option(words: Sequence[str], *names: str) -> str | None:
    """The value of an option of a command line, by any of its names, as Go's programs take it; the last one counts."""
    value = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, mark, behind = word.partition("=")
        if name.startswith("-") and name.removeprefix("-").removeprefix("-") in names:
            value = (behind if mark else following).strip("\"'") or value
    return value


def _service_lines(text: str) -> list[str]:
    """The lines of a unit's file that systemd reads for a service: those of [Service]; it passes over what stands before any
    section, as in a drop-in whose header was forgotten, and over what belongs to another.

    A comment is a whole line, whatever it ends with; another line that ends in a backslash goes on in the next
    (systemd.syntax(7)).
    """
    whole = [line for line in text.removeprefix("\ufeff").splitlines() if not line.lstrip().startswith(("#", ";"))]
    section, lines = "", []
    for line in re.sub(r"\\\n", " ", "\n".join(whole)).split("\n"):
        if header := re.fullmatch(r"\s*\[([^]]*)\]\s*", line):
            section = header[1]
        elif section == "Service":
            lines.append(line)
    return lines


def _split(command: str) -> list[str]:
    words = shlex.shlex(command, posix=True)
    words.whitespace_split, words.commenters = True, ""
    words.escape = ""  # those of systemd are others, and stay as they are written
    try:
        return list(words)
    except ValueError:  # a quote without an end, with which systemd starts nothing
        return command.split()
