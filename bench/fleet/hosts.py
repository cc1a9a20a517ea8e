"""Many Debian hosts at once: each has real systemd, sshd, apt, dpkg and files of its own on one root that all share.

A host has namespaces of its own for mounts, processes and network, and an address on one bridge. It starts from the script of the
Debian nodes of the tests (tests/nodekit/debian_node.sh), in a fraction of a second.
"""

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet import site
from bench.fleet.site import Site
from tests.e2e.emulated_hosts import DEVICES, key_pair
from tests.nodekit import debian_node

NAMESPACE = Path(__file__).resolve().parent / "namespace.sh"
GATEWAY, BITS = "10.77.0.1", 16
PORT = 8010
UNIT = "ssh.service"
ENTER = ("--mount", "--net", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd")
START_SECONDS = 120.0
INOTIFY, INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances"), 8192
"""How many of inotify(7) root may have on this machine, and how many it needs: each systemd has four, and the kernel's default is
128."""


@dataclass(frozen=True)
class Host:
    """A running host; `pid` is its first process as this machine sees it."""

    name: str
    address: str
    pid: int

    def ask(self, *argv: str) -> str:
        """What a program on the host prints; it must succeed."""
        enter = ["nsenter", f"--target={self.pid}", *ENTER, "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, check=True, timeout=60).stdout

    def processor_seconds(self) -> float:
        """Processor time of everything that has run on it, by its control group."""
        lines = Path(f"/proc/{self.pid}/root/sys/fs/cgroup/cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6

    def connections(self) -> int:
        """How many TCP connections it has accepted (proc_net(5), PassiveOpens)."""
        lines = [line.split() for line in Path(f"/proc/{self.pid}/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
        return int(dict(zip(*lines, strict=True))["PassiveOpens"])


@dataclass
class Fleet:
    """The namespaces that all hosts share, the site in them, and the keys by which hosts are reached."""

    folder: Path
    site: Site
    holder: "subprocess.Popen[bytes]" = field(repr=False)
    login_key: str = field(repr=False)
    host_key: str
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    @property
    def enter(self) -> list[str]:
        """What starts a program where all hosts can be reached."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--"]

    @property
    def address(self) -> str:
        """Of the site."""
        return f"http://{GATEWAY}:{PORT}"

    @contextmanager
    def hosts(self, count: int) -> Iterator[list[Host]]:
        """As many fresh hosts, which answer by SSH; gone on return."""
        root = f"{self.folder}/shared/layer:{self.folder}/shared/disk"
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile())
            holders = []
            for _ in range(count):
                place = stack.enter_context(tempfile.TemporaryDirectory(prefix="host-", dir=self.folder))
                argv = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--target={self.holder.pid}", "--mount", "--net", "--"]
                argv += ["unshare", "--mount", "--net", "sh", str(debian_node.SCRIPT), root, place, UNIT]
                holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
                stack.enter_context(holder)
                stack.callback(holder.kill)
                holders.append(holder)
            hosts = []
            for holder in holders:
                number = next(self.numbers)
                pid = debian_node.first_process(holder, log.fileno())
                hosts.append(Host(f"h{number}", f"10.77.{1 + number // 250}.{1 + number % 250}", pid))
            self._connect(hosts)
            for host in hosts:
                host.ask("sh", "-ec", DEVICES)
                _wait_for_sshd(host)
            yield hosts

    def _connect(self, hosts: list[Host]) -> None:
        """Give each host its address on the bridge."""
        outside = "".join(
            f"link add {host.name} type veth peer name eth0 netns {host.pid}\nlink set {host.name} master hosts up\n"
            for host in hosts
        )
        _ip(self.holder.pid, outside)
        for host in hosts:
            _ip(host.pid, f"address add {host.address}/{BITS} dev eth0\nlink set lo up\nlink set eth0 up\n")


def _ip(pid: int, batch: str) -> None:
    argv = ["nsenter", f"--target={pid}", "--net", "--", "ip", "-batch", "-"]
    subprocess.run(argv, input=batch, text=True, check=True)


def _wait_for_sshd(host: Host) -> None:
    end = time.monotonic() + START_SECONDS
    while ":0016 " not in Path(f"/proc/{host.pid}/net/tcp").read_text():
        if time.monotonic() > end:
            raise AssertionError(f"sshd of {host.name} did not come up: {host.ask('systemctl', 'status', '--no-pager')}")
        time.sleep(0.05)


@contextmanager
def _more_watchers() -> Iterator[None]:
    """Let root have `INSTANCES` meanwhile."""
    before = INOTIFY.read_text()
    if int(before) >= INSTANCES:
        yield
        return
    INOTIFY.write_text(f"{INSTANCES}\n")
    try:
        yield
    finally:
        INOTIFY.write_text(before)


@contextmanager
def fleet() -> Iterator[Fleet]:
    """The shared namespaces with a site that is served in them; all is gone on return. Needs root, and the local node image."""
    with ExitStack() as stack:
        stack.enter_context(_more_watchers())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-fleet-")))
        for name in ("shared", "site", "work", "keys"):
            (folder / name).mkdir()
        served = site.build(folder / "site", folder / "work")
        (login, login_public), (host, host_public) = key_pair(), key_pair()
        keys = {"authorized_keys": f"{login_public}\n", "ssh_host_ed25519_key": host, "qemu": site.played_qemu()}
        for name, content in keys.items():
            (folder / "keys" / name).write_text(content)
            (folder / "keys" / name).chmod(0o600)
        argv = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--net", "sh", str(NAMESPACE)]
        argv += [debian_node.image().disk, str(folder / "shared"), f"{GATEWAY}/{BITS}", str(folder / "keys")]
        argv += map(str, site.python_apt())
        log = stack.enter_context(tempfile.TemporaryFile())
        holder = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log))
        stack.callback(holder.kill)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            log.seek(0)
            raise AssertionError(f"the hosts' root was not made: {log.read()[-3000:].decode(errors='replace')}")
        running = Fleet(folder, served, holder, login, host_public)
        serve = ["setpriv", "--pdeathsig=KILL", *running.enter, sys.executable, "-m", "http.server", "--bind", GATEWAY]
        server = stack.enter_context(
            subprocess.Popen([*serve, "--directory", str(served.folder), str(PORT)], stdout=log, stderr=log)
        )
        stack.callback(server.kill)
        yield running
