"""Which container runtime serves a cluster on a node, and whether its Kata handler can be registered there."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker.daemon_json import is_kata
from nodekit.rules.kata import crio_config
from nodekit.rules.kata.containerd_config import Handler, Registered
from nodekit.rules.text import printable

NONE = "none"
"""The setting for machines that serve no cluster."""


class Place(NamedTuple):
    """One container runtime as a distribution or a package lays it out."""

    name: str
    files: tuple[str, ...]
    """Files of which one is there where the runtime is, whether it runs or not."""
    units: tuple[str, ...]
    """Units that run it, the first that is active is restarted; none where the runtime reads changes by itself."""
    main: str
    """The configuration that is read to see what is there."""
    socket: str
    """Where the kubelet reaches it."""
    drop_ins: str = ""
    """The folder of CRI-O's further files."""


PLACES = (
    Place(
        "k3s",
        ("/var/lib/rancher/k3s/agent/etc/containerd/config.toml",),
        ("k3s.service", "k3s-agent.service"),
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/run/k3s/containerd/containerd.sock",
    ),
    Place(
        "rke2",
        ("/var/lib/rancher/rke2/agent/etc/containerd/config.toml",),
        ("rke2-server.service", "rke2-agent.service"),
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        "/run/k3s/containerd/containerd.sock",
    ),
    Place("k0s", ("/etc/k0s/containerd.toml",), (), "/etc/k0s/containerd.toml", "/run/k0s/containerd.sock"),
    Place(
        "microk8s",
        ("/var/snap/microk8s/current/args/containerd-template.toml",),
        ("snap.microk8s.daemon-containerd.service",),
        "/var/snap/microk8s/current/args/containerd-template.toml",
        "/var/snap/microk8s/common/run/containerd.sock",
    ),
    Place("cri-o", (), ("crio.service",), crio_config.MAIN, "/run/crio/crio.sock", crio_config.FOLDER),
    Place("containerd", (), ("containerd.service",), "/etc/containerd/config.toml", "/run/containerd/containerd.sock"),
)
"""Distributions first: they bring a runtime of their own. Sources: kata-deploy (`config.rs`, `runtime/manager.rs`), and the
documents of k3s ("Configuring containerd"), k0s ("Runtime") and MicroK8s."""
RUNTIMES = tuple(place.name for place in PLACES)
DOCKER_SOCKETS = ("cri-dockerd.sock", "dockershim.sock")
"""Of what runs a kubelet's pods by Docker: one container holds the pod's network, which the others join (Mirantis/cri-dockerd,
core/security_context.go, modifyHostOptionsForContainer)."""
K0S_FOLDER = "/etc/k0s/containerd.d"
"""k0s merges every file in it by itself and restarts containerd (k0s 1.27.1 and later)."""
K0S_MARK = "# k0s_managed=true"
"""First line of a containerd.toml that k0s writes. Without it the file is its owner's, and k0s merges nothing into it (k0s,
`pkg/component/worker/containerd/component.go`, `isK0sManagedConfig`; its document "Runtime")."""


def place_of(name: str) -> Place:
    """The place of a runtime by its name; raises NodeError `bad-input`."""
    for place in PLACES:
        if place.name == name:
            return place
    raise NodeError("bad-input", f"Key handler.runtime is {name!r}", expected=f"one of {', '.join((*RUNTIMES, NONE))}")


def is_k0s_own(text: str) -> bool:
    """Whether k0s writes this containerd.toml itself, each time it starts; so it does where there is none."""
    return not text or text.partition("\n")[0].removesuffix("\r") == K0S_MARK


def choose(
    node: str, requested: str | None, reasons: Mapping[str, str], endpoint: str | None, places: Sequence[Place] = PLACES
) -> Place:
    """The runtime in which the handler is registered.

    `reasons` holds the runtimes that are on the node, each with what shows it, `endpoint` is the socket that the kubelet names,
    and `places` are the runtimes as this node lays them out. Raises NodeError `container-runtime-missing` when there is none, or
    not the named one, or Docker, or none at the kubelet's socket, and `container-runtime-ambiguous` when nothing shows which of
    several it is.
    """
    known = ", ".join(f"{name} ({why})" for name, why in reasons.items()) or "none"
    if requested is not None:
        place_of(requested)
        if requested not in reasons:
            message = f"Node {node} has no {requested} to register the Kata handler in; it has: {known}"
            raise NodeError("container-runtime-missing", message)
        return next(place for place in places if place.name == requested)
    if endpoint and endpoint.rpartition("/")[2] in DOCKER_SOCKETS:
        raise NodeError(
            "container-runtime-missing",
            f"Node {node}: its kubelet has Docker run the pods, by {printable(endpoint, 100)}, as several containers that share "
            "one network, and those of Kata cannot: each has a guest of its own",
            "docker",
        )
    if endpoint:
        sockets = [place for place in places if _same_socket(place.socket, endpoint) and place.name in reasons]
        if len(sockets) == 1:
            return sockets[0]
    distributions = [place for place in places if place.files and place.name in reasons]
    candidates = distributions or [place for place in places if place.name in reasons]
    if not candidates:
        message = f"Node {node} should serve a cluster and has no container runtime for it: {_looked_for()}"
        raise NodeError("container-runtime-missing", message)
    if endpoint and not distributions:
        known = ", ".join(f"{place.name} at {printable(place.socket, 100)}" for place in candidates)
        raise NodeError(
            "container-runtime-missing",
            f"Node {node}: its kubelet has a container runtime at {printable(endpoint, 100)}, which is not that of a known one: "
            f"{known}",
            "socket",
        )
    if len(candidates) > 1:
        raise NodeError(
            "container-runtime-ambiguous",
            f"Node {node} has several container runtimes, and no kubelet's configuration says which serves the cluster: {known}",
        )
    return candidates[0]


def _looked_for() -> str:
    files = [file for place in PLACES for file in place.files]
    units = [unit for place in PLACES if not place.files for unit in place.units]
    return f"neither {', '.join(files)} nor the units {', '.join(units)} with CRI turned on are there"


def _same_socket(first: str, other: str) -> bool:
    """Whether two paths name one socket: /var/run is /run."""
    return first.removeprefix("/var") == other.removeprefix("/var") if "/run/" in first[:9] else first == other


def follows_runtime(kubelet: tuple[int, int] | None, runtime: str, release: tuple[int, int]) -> bool:
    """Whether the kubelet takes the runtime's cgroup driver, whatever its own configuration says.

    It asks from 1.31 on (gate KubeletCgroupDriverFromCRI, locked from 1.34; cmd/kubelet/app/server.go, getCgroupDriverFromCRI),
    and containerd answers from 2.0 on, as every CRI-O does that such a kubelet works with.
    """
    return kubelet is not None and kubelet >= (1, 31) and (runtime == "cri-o" or release >= (2, 0))


def refuse_other_cgroups(node: str, runtime: str, runtime_systemd: bool, kubelet_driver: str | None) -> None:
    """Raise NodeError `cgroup-drivers-differ` when kubelet and runtime manage cgroups in two ways.

    The kubelet then does not find a pod's cgroups where it made them, and kills the pod: 4 of 4 proof pods of genuine Kata about
    a second after their start [measured, kubelet 1.34.2 with systemd and containerd 1.7.24 without]. With systemd's driver on
    both sides a pod was lost as well, on a node without a pod of another runtime (guide of existing hosts).
    """
    if kubelet_driver is None or (kubelet_driver == "systemd") == runtime_systemd:
        return
    own = "systemd" if runtime_systemd else "cgroupfs"
    key = "cgroup_manager" if runtime == "cri-o" else "SystemdCgroup of the default handler"
    raise NodeError(
        "cgroup-drivers-differ",
        f"Node {node}: the kubelet's cgroup driver is {printable(kubelet_driver, 40)} and that of {runtime} is {own} ({key}), so "
        "the kubelet would kill each Kata pod about a second after its start",
    )


def is_served(node: str, runtime: str, known: Registered | None, handler: Handler) -> bool:
    """Whether a handler that other people registered already does what ours would; false where there is none.

    Raises NodeError `handler-foreign` for one of that name that starts something else, or reads another configuration: pods of
    others may depend on it.
    """
    if known is None:
        return False
    starts = known.runtime_type if isinstance(known.runtime_type, str) else ""
    if (starts == "vm" or is_kata(starts)) and known.config_path == handler.config_path:
        return True
    difference = f"ConfigPath {printable(str(known.config_path or 'none'), 200)}"
    if not (starts == "vm" or is_kata(starts)):
        difference = f"runtime type {printable(starts or 'none', 80)}"
    raise NodeError(
        "handler-foreign",
        f"Node {node}: {known.file} registers a handler {handler.name} in {runtime} already, with {difference}; it should start "
        f"Kata with {handler.config_path}",
    )
