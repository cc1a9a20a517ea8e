"""Decide which Docker packages a node must install or hold, from what dpkg and apt say about it."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker.docker_matrix import version as parse_version
from nodekit.rules.text import printable

PACKAGES = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")
"""The packages that share Docker's version string."""
DAEMONS = ("docker-ce", "docker.io", "moby-engine")
"""Packages that hold a dockerd: Docker's, Debian's and Ubuntu's, Microsoft's."""
CONTAINERD = "containerd.io"
HELD = (*PACKAGES, CONTAINERD)
"""What is held. A containerd.io that moves by itself has stopped dockerd in practice (m-lab/k8s-support#520), and on a
Kubernetes node it is the CRI runtime."""
STATE_FORMAT = "${db:Status-Want} ${db:Status-Status} ${Package} ${Version}\n"
"""What `dpkg-query -W -f` is asked for; `parse_states` reads the answer."""
SUPPORTED: dict[tuple[str, str], str] = {
    ("debian", "12"): "bookworm",
    ("debian", "13"): "trixie",
    ("ubuntu", "22.04"): "jammy",
    ("ubuntu", "24.04"): "noble",
}
"""(ID, VERSION_ID) of os-release -> code name, as they stand in the version strings of Docker's packages."""
FIRST_VERSION = (23, 0, 0)
"""Older releases have another form of version string."""


def codename(os_id: str, version_id: str) -> str:
    """The release's code name; raises NodeError `unsupported-os` for a system that this program does not know."""
    try:
        return SUPPORTED[os_id, version_id]
    except KeyError:
        known = ", ".join(f"{name} {number}" for name, number in SUPPORTED)
        raise NodeError(
            "unsupported-os",
            f"The node runs {printable(os_id, 40) or 'an unnamed system'} {printable(version_id, 40)}".rstrip(),
            "listed",
            systems=known,
        ) from None


def package_version(docker: str, os_id: str, version_id: str) -> str:
    """`27.5.1` as Docker's packages spell it on this system: `5:27.5.1-1~debian.13~trixie`.

    Raises NodeError `unsupported-os`, or `bad-input` for no version or one before 23.0.0.
    """
    if parse_version(docker, "Docker") < FIRST_VERSION:
        raise NodeError(
            "bad-input",
            f"Docker {docker} is older than {'.'.join(map(str, FIRST_VERSION))}",
            expected="a newer version: 27.5.1 works with every Kata",
        )
    return f"5:{docker}-1~{os_id}.{version_id}~{codename(os_id, version_id)}"


def upstream_version(package: str) -> str:
    """`5:27.5.1-1~debian.13~trixie` as Docker itself calls it: `27.5.1`; also `5:28.0.0~rc.1-1~…` (`28.0.0-rc.1`),
    `5:20.10.24~3-0~ubuntu-jammy` (`20.10.24`) and Debian's own `20.10.24+dfsg1-1+b3` (`20.10.24+dfsg1`)."""
    upstream = package.rpartition(":")[2].partition("-")[0]
    return re.sub(r"~(?=(?:rc|alpha|beta)\b)", "-", upstream).partition("~")[0]


class PackageState(NamedTuple):
    """One package as dpkg knows it: whether it is held, its status word (`installed`, `half-configured`, …), its version."""

    held: bool
    status: str
    version: str


def parse_states(text: str) -> dict[str, PackageState]:
    """Package -> state from dpkg-query's answer to `STATE_FORMAT`; a package that is not installed at all is left out."""
    states: dict[str, PackageState] = {}
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) == 4 and fields[1] not in ("not-installed", "config-files") and fields[3]:
            states[fields[2]] = PackageState(fields[0] == "hold", fields[1], fields[3])
    return states


def parse_leftovers(text: str) -> set[str]:
    """The packages that are removed and have left configuration files, from the same answer."""
    rows = (line.split(" ") for line in text.splitlines())
    return {row[2] for row in rows if len(row) == 4 and row[1] == "config-files"}


_CONFIGURED = ("installed", "triggers-awaited", "triggers-pending")
"""Status words of packages that are configured (dpkg(1)); the last two only wait for another one."""


def package_of(argument: str) -> str:
    """The name in an argument of `apt-get install`: `name=version`, `name-` for a package to remove, or `name`."""
    name, version_follows, _ = argument.partition("=")
    return name if version_follows else name.removesuffix("-")


def unreached(requested: Sequence[str], states: Mapping[str, PackageState]) -> list[str]:
    """The arguments of an `apt-get install` that packages in these states do not match, each with what is there instead."""
    missed = []
    for argument in requested:
        name, version = package_of(argument), argument.partition("=")[2]
        state = states.get(name)
        if argument == f"{name}-":
            is_reached = state is None
        else:
            is_reached = state is not None and state.status in _CONFIGURED and version in ("", state.version)
        if not is_reached:
            missed.append(f"{argument} ({'not installed' if state is None else f'{state.status} {state.version}'})")
    return missed


class Plan(NamedTuple):
    """What must change: the packages to bring to the pinned version, and the packages to hold afterwards."""

    install: tuple[str, ...]
    hold: tuple[str, ...]


def plan(states: dict[str, PackageState], version: str) -> Plan:
    """The plan for a node with these states and this pinned package version; both parts are empty on a finished node."""

    def settled(name: str) -> bool:
        return name in states and states[name].status == "installed"

    return Plan(
        install=tuple(name for name in HELD if not settled(name) or (name in PACKAGES and states[name].version != version)),
        hold=tuple(name for name in HELD if name not in states or not states[name].held),
    )


def madison_rows(text: str) -> list[tuple[str, str, str]]:
    """Package, version and repository's address of each row of `apt-cache madison`, in its order (newest first)."""
    rows = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    return [(row[0], row[1], row[2].partition(" ")[0]) for row in rows if len(row) >= 3 and row[0] and row[1]]


class Simulated(NamedTuple):
    """What apt would do: package -> version before (None: none was), packages that it would remove, package -> new version."""

    touched: dict[str, str | None]
    removed: tuple[str, ...]
    versions: dict[str, str]


def parse_simulation(text: str) -> Simulated:
    """Read `apt-get --simulate install`: lines `Inst name [old] (new …)` and `Remv name [old]`."""
    touched: dict[str, str | None] = {}
    removed: list[str] = []
    versions: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"(Inst|Remv|Purg) (\S+)(?: \[([^]\s]+)\])?(?: \((\S+))?", line)
        if not match:
            continue
        name = match[2].partition(":")[0]
        if match[1] == "Inst":
            touched[name] = match[3]
            if match[4]:
                versions[name] = match[4]
        else:
            removed.append(name)
    return Simulated(touched, tuple(removed), versions)
