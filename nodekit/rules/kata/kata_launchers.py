"""Who starts Kata, and which configuration file they name: Docker's daemon.json, containerd's TOML, systemd's units."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.daemon_json import is_kata
from nodekit.rules.kata import kata_config
from nodekit.rules.text import printable

CONTAINERD = (
    "/etc/containerd/config.toml",
    "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "/etc/k0s/containerd.toml",
    "/var/snap/microk8s/current/args/containerd.toml",
)
"""Main files of containerd: the packages', and those of the distributions that kata-deploy knows (its chart, `_helpers.tpl`)."""
UNNAMED_IMPORTS = {
    "/etc/containerd/config.toml": "/etc/containerd/conf.d/*.toml",
    "/etc/k0s/containerd.toml": "/etc/k0s/containerd.d/*.toml",
}
"""Main file -> what is imported where that file is absent (containerd from 2.2, its pull request 12323; k0s always imports its
own, kata-deploy, `config.rs`, `get_containerd_paths`)."""
CRI_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
"""The plugin whose table holds the handlers, in configuration version 2 and from 3 on; it is `cri` in version 1."""
UNITS = ("containerd.service", "docker.service")
"""Units whose environment a shim may have, the first that is there counts: dockerd starts a containerd of its own only where
no other runs."""
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Where systemd looks for units and their drop-ins; the first that holds a name hides the others (systemd.unit(5))."""


class Launcher(NamedTuple):
    """One name under which something starts Kata."""

    name: str
    """Such as `docker runtime kata` or `containerd handler kata-qemu`."""
    file: str
    """The file that says so."""
    config_path: str | None
    """Its `ConfigPath`; without one the environment and the runtime's own list decide."""
    shim: str | None = None
    """What is started: a program that is looked up in the PATH, or a path."""


class Variable(NamedTuple):
    """A variable of a unit's environment."""

    value: str
    file: str
    """The file that sets it."""


def docker(text: str) -> list[Launcher]:
    """The Kata runtimes of a daemon.json; raises NodeError `file-invalid` when it is not a JSON object."""
    try:
        body = text.removeprefix("\ufeff")
        tree = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise _no_docker(printable(str(error), 200)) from None
    if tree is None:
        return []
    if not isinstance(tree, dict):
        raise _no_docker("its top level is not an object")
    launchers = []
    for name, written in _mapping(tree.get("runtimes")).items():
        entry = daemon_json.spelled(written)
        if isinstance(entry, Mapping) and is_kata(entry.get("runtimeType")):
            launchers.append(
                Launcher(f"docker runtime {name}", daemon_json.PATH, _config_path(entry), _shim(entry, "runtimeType"))
            )
    return launchers


def _no_docker(why: str) -> NodeError:
    return NodeError("file-invalid", f"{daemon_json.PATH} is not what dockerd reads: {why}", file=daemon_json.PATH)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _config_path(entry: Mapping[str, Any]) -> str | None:
    return daemon_json.configured(entry.get("options"))


def _shim(entry: Mapping[str, Any], key: str) -> str | None:
    """What an entry starts: a path that stands in the place of a type or beside it, or the program that the type stands for."""
    for value in (entry.get("runtime_path"), entry.get(key)):
        if isinstance(value, str) and value.startswith("/"):
            return value
    return daemon_json.shim_name(entry.get(key))


def imports(table: Mapping[str, Any], path: str) -> list[str]:
    """What a containerd file imports, as absolute paths or patterns (containerd, `config.go`, `resolveImports`)."""
    named = table.get("imports")
    folder = path.rpartition("/")[0]
    names = [name for name in named if isinstance(name, str) and name] if isinstance(named, list) else []
    return [name if name.startswith("/") else f"{folder}/{name}" for name in names]


def containerd(files: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Launcher]:
    """The Kata handlers of a containerd: its main file and what that imports, in the order read; a later file counts more."""
    entries: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for path, table in files:
        for plugin in ("cri", *CRI_PLUGINS):
            cri = _mapping(_mapping(_mapping(table.get("plugins")).get(plugin)).get("containerd"))
            own = {"untrusted_workload": cri.get("untrusted_workload_runtime"), "default": cri.get("default_runtime")}
            for handler, entry in {**own, **_mapping(cri.get("runtimes"))}.items():
                if not isinstance(entry, Mapping):
                    continue
                if handler not in entries or _config_path(entry) is not None:
                    places[handler] = path
                entries[handler] = kata_config.merged(entries.get(handler, {}), entry)
    return [
        Launcher(f"containerd handler {handler}", places[handler], _config_path(entry), _shim(entry, "runtime_type"))
        for handler, entry in entries.items()
        if is_kata(entry.get("runtime_type")) or is_kata(entry.get("runtime_path"))
    ]


def crio(files: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Launcher]:
    """The Kata handlers of a CRI-O, which are those of type `vm`: its main file, then each of crio.conf.d in name order.

    A later file's handler replaces an earlier one of its name as a whole (see `crio_config.runtime_table`).
    """
    entries: dict[str, Mapping[str, Any]] = {}
    places: dict[str, str] = {}
    for path, table in files:
        for handler, entry in _mapping(_mapping(_mapping(table.get("crio")).get("runtime")).get("runtimes")).items():
            if isinstance(entry, Mapping):
                entries[handler] = entry
                places[handler] = path
    shims = {handler: entry.get("runtime_path") for handler, entry in entries.items() if entry.get("runtime_type") == "vm"}
    return [
        Launcher(
            f"crio handler {handler}",
            places[handler],
            named if isinstance(named := entries[handler].get("runtime_config_path"), str) and named else None,
            shim if isinstance(shim, str) and shim else None,
        )
        for handler, shim in shims.items()
    ]


def unit_environment(files: Sequence[tuple[str, str]], variable: str) -> tuple[Variable | None, list[str]]:
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


_SEVERAL = "one of "


def shim_in_script(text: str) -> str | None:
    """The shim that a script in a shim's place starts, by its path or its name; None where the script shows none."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    named = re.findall(r"(?<![\w./$}=-])(?:/[\w./-]{1,400}/)?containerd-shim-kata[\w.-]{0,100}", lines)
    return named[-1] if named else None


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


def started(files: Sequence[tuple[str, str]]) -> list[str]:
    """The words of a unit's command line, its last `ExecStart=`; `files` as for `unit_environment`, empty when there is none.

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


def _split(command: str) -> list[str]:
    words = shlex.shlex(command, posix=True)
    words.whitespace_split, words.commenters = True, ""
    words.escape = ""  # those of systemd are others, and stay as they are written
    try:
        return list(words)
    except ValueError:  # a quote without an end, with which systemd starts nothing
        return command.split()


def stops_all(files: Sequence[tuple[str, str]]) -> bool:
    """Whether a unit's stop ends all processes in its cgroup, which is the default (systemd.kill(5), `KillMode=`)."""
    mode = ""
    for _, text in files:
        for line in _service_lines(text):
            key, mark, value = line.strip().partition("=")
            if mark and key.rstrip() == "KillMode":
                mode = value.strip()
    return mode not in ("process", "none")


_ENVIRONMENT_FILE = re.compile(
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
    for line in _ENVIRONMENT_FILE.finditer(text.rstrip(" \t\r\n")):  # each of many blank lines at the end would be a beginning
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
