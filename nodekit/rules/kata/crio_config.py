"""Read CRI-O's configuration as CRI-O does, and say what registers a Kata handler in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from nodekit.rules.kata import kata_config
from nodekit.rules.kata.containerd_config import File, Handler, Registered

MAIN = "/etc/crio/crio.conf"
FOLDER = "/etc/crio/crio.conf.d"
"""Every file in it is merged over the main file, in name order (crio.conf(5), crio.conf.d(5))."""
DROP_IN = f"{FOLDER}/60-kata-nodes.conf"
RUNTIME_ROOT = "/run/vc"
"""Where Kata keeps the state of sandboxes (kata-deploy, `runtime/crio.rs`)."""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def runtime_table(files: Sequence[File]) -> dict[str, Any]:
    """The merged table `[crio.runtime]`."""
    whole: dict[str, Any] = {}
    for _, file in files:
        whole = kata_config.merged(whole, _mapping(_mapping(file.get("crio")).get("runtime")))
    return whole


def handlers(files: Sequence[File]) -> dict[str, Registered]:
    """The handlers of type `vm`, which are Kata's, by name."""
    result = {}
    for name, entry in _mapping(runtime_table(files).get("runtimes")).items():
        if isinstance(entry, Mapping) and entry.get("runtime_type") == "vm":
            holders = [path for path, file in files if name in _mapping(runtime_table([(path, file)]).get("runtimes"))]
            result[name] = Registered(
                holders[-1],
                "vm",
                entry.get("runtime_path"),
                entry.get("runtime_config_path"),
                entry.get("privileged_without_host_devices") is True,
            )
    return result


def known(files: Sequence[File], name: str) -> Registered | None:
    """The handler of that name, Kata's or not; None when there is none."""
    entry = _mapping(runtime_table(files).get("runtimes")).get(name)
    if not isinstance(entry, Mapping):
        return None
    kata = handlers(files).get(name)
    return kata or Registered(MAIN, entry.get("runtime_type", "oci"), entry.get("runtime_path"), None, False)


def systemd_cgroups(files: Sequence[File]) -> bool:
    """Whether containers get their cgroups by systemd, which is the default (crio.conf(5), `cgroup_manager`)."""
    return bool(runtime_table(files).get("cgroup_manager", "systemd") == "systemd")


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
