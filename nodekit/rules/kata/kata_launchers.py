"""Who starts Kata, and which configuration file they name: Docker's daemon.json, containerd's TOML, systemd's units."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.daemon_json import is_kata
from nodekit.rules.kata import kata_config
from nodekit.rules.shapes import mapping
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
    for name, written in mapping(tree.get("runtimes")).items():
        entry = daemon_json.spelled(written)
        if isinstance(entry, Mapping) and is_kata(entry.get("runtimeType")):
            launchers.append(
                Launcher(f"docker runtime {name}", daemon_json.PATH, _config_path(entry), _shim(entry, "runtimeType"))
            )
    return launchers


def _no_docker(why: str) -> NodeError:
    return NodeError("file-invalid", f"{daemon_json.PATH} is not what dockerd reads: {why}", file=daemon_json.PATH)


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
            cri = mapping(mapping(mapping(table.get("plugins")).get(plugin)).get("containerd"))
            own = {"untrusted_workload": cri.get("untrusted_workload_runtime"), "default": cri.get("default_runtime")}
            for handler, entry in {**own, **mapping(cri.get("runtimes"))}.items():
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
        for handler, entry in mapping(mapping(mapping(table.get("crio")).get("runtime")).get("runtimes")).items():
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
