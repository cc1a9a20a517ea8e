"""What a node's kubelet says of its container runtime and cgroups, in its configuration and on its command line."""

import json
import re
from collections.abc import Sequence

DEFAULT_FILES = (
    "/var/lib/kubelet/config.yaml",
    "/etc/kubernetes/kubelet/config.json",
    "/etc/kubernetes/kubelet/kubelet-config.json",
)
"""Configuration files where no unit names one: kubeadm's, and those of Amazon's images."""
FLAG_FILES = ("/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet")
"""Files with further flags, besides those that the unit names: kubeadm's own, and those of the packages."""


def flag(texts: Sequence[str], name: str) -> str | None:
    """The value of a flag in the texts of units and environment files, outside their comments; the last one counts."""
    lines = [line for text in texts for line in text.splitlines() if not line.lstrip().startswith(("#", ";"))]
    values = re.findall(rf"--{name}[= ][\"']?([^\s\"']+)", "\n".join(lines))
    return values[-1] if values else None


def setting(text: str, key: str) -> str | None:
    """A top-level word of a KubeletConfiguration, in YAML or JSON; None when it is not set."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        value = document.get(key)
        return value if isinstance(value, str) and value else None
    match = re.search(rf"^[ \t{{]*[\"']?{key}[\"']?[ \t]*:[ \t]*[\"']?([^\s\"',#}}]+)", text, re.MULTILINE)
    return match[1] if match else None


def drop_in_names(names: Sequence[str]) -> list[str]:
    """Those of the names in a `--config-dir` that the kubelet reads, in its order (cmd/kubelet/app/server.go,
    mergeKubeletConfigurations)."""
    return sorted(name for name in names if name.endswith(".conf"))


def last_setting(texts: Sequence[str], key: str) -> str | None:
    """The same of a configuration and its drop-ins, of which a later one counts more."""
    return next((value for text in reversed(texts) if (value := setting(text, key))), None)


def cgroup_driver(configuration: Sequence[str], flags: Sequence[str]) -> str | None:
    """`systemd` or `cgroupfs`; None where nothing on the node names one. The flag counts more (kubelet(8))."""
    return flag(flags, "cgroup-driver") or last_setting(configuration, "cgroupDriver")


def endpoint(configuration: Sequence[str], flags: Sequence[str]) -> str | None:
    """The socket of its container runtime; None where nothing names one."""
    named = flag(flags, "container-runtime-endpoint") or last_setting(configuration, "containerRuntimeEndpoint")
    return re.sub("^unix:(//)?", "", named) if named else None
