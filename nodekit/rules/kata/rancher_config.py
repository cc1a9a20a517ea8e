"""Where k3s and RKE2 keep their data: in a folder that their owner can choose, and with it the place of containerd's files."""

from collections.abc import Mapping, Sequence

from nodekit.rules import systemd_units
from nodekit.rules.kata import kubelet_config

KEY = "data-dir"
"""Name of the flag, and of the key in a configuration file."""


def variable(program: str, setting: str) -> str:
    """The variable of the environment that stands for a flag (k3s, `pkg/cli/cmds`)."""
    return f"{program.upper()}_{setting}"


def file_of(program: str, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """The configuration file; those in the folder of its name with `.d` behind it are read after it, in name order."""
    named = systemd_units.option(words, "config", "c") or environment.get(variable(program, "CONFIG_FILE"))
    return named if named and named.startswith("/") else f"/etc/rancher/{program}/config.yaml"


def folder(program: str, words: Sequence[str], environment: Mapping[str, str], texts: Sequence[str]) -> str:
    """The data's folder, by a unit's command line, by the configuration files `texts`, of which a later one counts more, by the
    environment, or the default one."""
    written = [value for text in texts if (value := kubelet_config.setting(text, KEY))]
    chosen = systemd_units.option(words, KEY, "d") or (written or [environment.get(variable(program, "DATA_DIR"), "")])[-1]
    return chosen.rstrip("/") if chosen.startswith("/") else f"/var/lib/rancher/{program}"


def containerd(data: str) -> str:
    """The main file that it writes for its containerd."""
    return f"{data}/agent/etc/containerd/config.toml"
