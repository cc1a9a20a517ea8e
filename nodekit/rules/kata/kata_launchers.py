"""Who starts Kata, and which configuration file they name: Docker's daemon.json, containerd's TOML, systemd's units."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodekit.errors import NodeError
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.daemon_json import is_kata
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
"""The plugin whose table holds the handlers, in configuration version 2 and from 3 on."""
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


@dataclass(frozen=True)
class Launcher:
    """One name under which something starts Kata."""

    name: str
    """Such as `docker runtime kata` or `containerd handler kata-qemu`."""
    file: str
    """The file that says so."""
    config_path: str | None
    """Its `ConfigPath`; without one the environment and the runtime's own list decide."""


@dataclass(frozen=True)
class Variable:
    """A variable of a unit's environment."""

    value: str
    file: str
    """The file that sets it."""


def docker(text: str) -> list[Launcher]:
    """The Kata runtimes of a daemon.json; raises NodeError `file-invalid` when it is no JSON object."""
    try:
        tree = json.loads(text.removeprefix("\ufeff")) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise _no_docker(printable(str(error), 200)) from None
    if not isinstance(tree, dict):
        raise _no_docker("its top level is no object")
    found = []
    for name, entry in _mapping(tree.get("runtimes")).items():
        if isinstance(entry, Mapping) and is_kata(entry.get("runtimeType")):
            found.append(Launcher(f"docker runtime {name}", daemon_json.PATH, _config_path(entry)))
    return found


def _no_docker(why: str) -> NodeError:
    return NodeError("file-invalid", f"{daemon_json.PATH} is not what dockerd reads: {why}", file=daemon_json.PATH)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _config_path(entry: Mapping[str, Any]) -> str | None:
    path = _mapping(entry.get("options")).get("ConfigPath")
    return path if isinstance(path, str) and path else None


def imports(table: Mapping[str, Any], path: str) -> list[str]:
    """What a containerd file imports, as absolute paths or patterns (containerd, `config.go`, `resolveImports`)."""
    named = table.get("imports")
    folder = path.rpartition("/")[0]
    names = [name for name in named if isinstance(name, str) and name] if isinstance(named, list) else []
    return [name if name.startswith("/") else f"{folder}/{name}" for name in names]


def containerd(files: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Launcher]:
    """The Kata handlers of a containerd: its main file and what that imports, in the order read; a later file counts more."""
    types: dict[str, object] = {}
    found: dict[str, Launcher] = {}
    for path, table in files:
        for plugin in CRI_PLUGINS:
            cri = _mapping(_mapping(_mapping(table.get("plugins")).get(plugin)).get("containerd"))
            for handler, entry in _mapping(cri.get("runtimes")).items():
                if not isinstance(entry, Mapping):
                    continue
                types[handler] = entry.get("runtime_type", types.get(handler))
                old = found.get(handler)
                named = _config_path(entry)
                if old is None or named is not None:
                    found[handler] = Launcher(f"containerd handler {handler}", path, named)
    return [one for handler, one in found.items() if is_kata(types[handler])]


def unit_environment(files: Sequence[tuple[str, str]], variable: str) -> tuple[Variable | None, list[str]]:
    """What a unit and its drop-ins, each path and text in the order read, set a variable to with `Environment=`.

    And the files of `EnvironmentFile=`, which count more, a later one most (systemd.exec(5)).
    """
    found: Variable | None = None
    named: list[str] = []
    for path, text in files:
        for line in re.sub(r"\\\n", " ", text).splitlines():
            key, mark, value = line.strip().partition("=")
            key, value = key.rstrip(), value.strip()
            if not mark or key not in ("Environment", "EnvironmentFile"):
                continue
            if key == "EnvironmentFile":
                named = [*named, value.removeprefix("-")] if value else []
            elif not value:
                found = None
            else:
                for one in re.findall(r'"[^"]*"|\'[^\']*\'|\S+', value):
                    name, assigned, content = one.strip("\"'").partition("=")
                    if assigned and name == variable:
                        found = Variable(content.strip("\"'"), path)
    return found, named


def assigned(text: str, variable: str) -> str | None:
    """What a file of `NAME=value` lines, or a shell script before the command that it runs, sets a variable to."""
    found = re.findall(rf"^[ \t]*(?:export[ \t]+)?{variable}=(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"']*)", text, re.MULTILINE)
    return found[-1].strip("\"'") if found else None
