"""What does the jobs of the benchmark: each contender in a file of its own, with hosts that only it changes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet.hosts import Fleet, Host

CONVERGE, CHECK, CHANGE = "converge", "check", "change"
"""The jobs: first converge of fresh hosts, a check of hosts that nobody changed, and one changed parameter."""
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 user_namespace.enable=1"
"""The guest's parameters but for the one that changes: those of the archive, and the seed."""


def parameter(limit: int) -> str:
    """The parameter that changes."""
    return f"sysctl.user.max_user_namespaces={limit}"


@dataclass(frozen=True)
class Command:
    """What is timed: a program of this machine, started where the hosts can be reached."""

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)


class Contender(ABC):
    """One tool and its hosts. `folder` is its own."""

    def __init__(self, fleet: Fleet, hosts: Sequence[Host], folder: Path, limit: int) -> None:
        """`limit` is the value of the parameter until `set` changes it."""
        self.fleet, self.hosts, self.folder = fleet, hosts, folder
        self.set(limit)

    def set(self, limit: int) -> None:
        """Give the parameter another value in the contender's own files; it is not timed."""
        self.limit = limit

    @abstractmethod
    def commands(self, job: str) -> dict[str, Command]:
        """Its ways to do a job, by the name in the table; none where it does not do that job."""

    def fault(self, job: str, printed: str) -> str:
        """What is wrong with what a command printed that ended well: it changed something, or nothing. Empty where nothing is."""
        return ""

    def after(self) -> None:
        """End what a run has left running, so that the next one starts as a person's does. Most leave nothing."""
        return


def fault_of_host(host: Host, limit: int) -> str:
    """What a converged host lacks of what every contender is to bring; empty where it lacks nothing."""
    root = Path(f"/proc/{host.pid}/root")
    drop_ins = root / "opt/kata/share/defaults/kata-containers/config.d"
    expected = f'kernel_params = "{BASE} {parameter(limit)}"'
    if not any(expected in path.read_text() for path in drop_ins.glob("*.toml")):
        return f"{host.name}: no drop-in says {expected}"
    packages = host.ask("dpkg-query", "-W", "-f=${db:Status-Abbrev}${Version} ", "docker-ce", "containerd.io")
    if packages.count("hi ") != 2 or "hi 5:27.5.1-1" not in packages:
        return f"{host.name}: the packages are {packages}"
    answer = host.ask("curl", "--silent", "--unix-socket", "/run/docker.sock", "http://docker/info")
    return "" if '"kata"' in answer else f"{host.name}: dockerd does not know the runtime: {answer}"
