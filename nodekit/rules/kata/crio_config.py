"""Read CRI-O's configuration as CRI-O does, and say what registers a Kata handler in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from nodekit.rules.kata import kata_config
from nodekit.rules.kata.containerd_config import File, Handler, Registered
from nodekit.rules.shapes import mapping

MAIN = "/etc/crio/crio.conf"
FOLDER = "/etc/crio/crio.conf.d"
"""Every file in it is read after the main file, in name order (crio.conf(5), crio.conf.d(5))."""
DROP_IN = "60-kata-nodes.conf"
VARIABLES = {"config": "CONTAINER_CONFIG", "config-dir": "CONTAINER_CONFIG_DIR"}
"""Option -> the variable of the environment that stands for it (CRI-O, `internal/criocli/criocli.go`)."""
RUNTIME_ROOT = "/run/vc"
"""Where Kata keeps the state of sandboxes (kata-deploy, `runtime/crio.rs`)."""


def runtime_table(files: Sequence[File]) -> dict[str, Any]:
    """The merged table `[crio.runtime]`.

    A later file's handler replaces an earlier one of its name as a whole: the tables of handlers are a map of Go (CRI-O,
    `pkg/config/config.go`, `UpdateFromDropInFile`; its issue 8307).
    """
    whole: dict[str, Any] = {}
    for _, file in files:
        table = mapping(mapping(file.get("crio")).get("runtime"))
        entries = {**mapping(whole.get("runtimes")), **mapping(table.get("runtimes"))}
        whole = {**kata_config.merged(whole, table), "runtimes": entries}
    return whole


def handlers(files: Sequence[File]) -> dict[str, Registered]:
    """The handlers of type `vm`, which are Kata's, by name."""
    every = {name: known(files, name) for name in mapping(runtime_table(files).get("runtimes"))}
    return {name: entry for name, entry in every.items() if entry is not None and entry.runtime_type == "vm"}


def known(files: Sequence[File], name: str) -> Registered | None:
    """The handler of that name, Kata's or not; None when there is none."""
    entry = mapping(runtime_table(files).get("runtimes")).get(name)
    if not isinstance(entry, Mapping):
        return None
    holders = [path for path, file in files if name in runtime_table([(path, file)])["runtimes"]]
    is_kata = entry.get("runtime_type") == "vm"
    return Registered(
        holders[-1],
        entry.get("runtime_type") or "oci",
        entry.get("runtime_path"),
        entry.get("runtime_config_path") if is_kata else None,
        is_kata and entry.get("privileged_without_host_devices") is True,
    )


def systemd_cgroups(files: Sequence[File]) -> bool:
    """Whether containers get their cgroups by systemd, which is the default (crio.conf(5), `cgroup_manager`)."""
    return bool(runtime_table(files).get("cgroup_manager", "systemd") == "systemd")


def address(files: Sequence[File]) -> str | None:
    """The socket that the files name; None where none does (crio.conf(5), `listen`)."""
    named = [mapping(mapping(file.get("crio")).get("api")).get("listen") for _, file in files]
    paths = [path.removeprefix("unix://") for path in named if isinstance(path, str) and path]
    return paths[-1] if paths else None


def drop_in(handler: Handler) -> str:
    """The text of our file.

    `runtime_type = "vm"` makes CRI-O speak to a shim of version 2, and the other keys are those of kata-deploy
    (`runtime/crio.rs`). All annotations of a pod reach the shim: CRI-O's own list, `allowed_annotations`, is not about them.
    """
    return (
        "# Written by kata-nodes.\n"
        f"[crio.runtime.runtimes.{handler.name}]\n"
        f'runtime_path = "{handler.shim}"\n'
        'runtime_type = "vm"\n'
        f'runtime_root = "{RUNTIME_ROOT}"\n'
        f'runtime_config_path = "{handler.config_path}"\n'
        "privileged_without_host_devices = true\n"
    )
