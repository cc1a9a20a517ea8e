"""A Debian node with real systemd, dockerd, apt and dpkg that boots in a second: the local image, in namespaces."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from delivery import bundle
from local import parts
from tests.nodekit.docker_node import NEW, OLD

SCRIPT = Path(__file__).resolve().parent / "debian_node.sh"
PORT = 8008
PROGRAM = "/usr/local/lib/kata-nodes/nodekit.pyz"
CHANGING = (
    "etc/machine-id", "run", "tmp", "var/cache", "var/lib/apt/lists", "var/lib/containerd", "var/lib/docker", "var/lib/dpkg",
    "var/lib/systemd", "var/lib/ubuntu-advantage", "var/log", "var/tmp", "usr/lib/python3",
)  # fmt: skip
"""What differs from run to run of any Debian or Ubuntu, or is asked of its own programs: clocks, caches, dpkg's database."""
WALK = """
import hashlib, json, os, stat, sys
upper, lower = sys.argv[1:]
def look(path):
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    if stat.S_ISLNK(info.st_mode):
        what = "-> " + os.readlink(path)
    elif stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            what = hashlib.sha256(file.read()).hexdigest()
    elif stat.S_ISDIR(info.st_mode):
        what = "folder"
    else:
        return "gone"  # how an overlay says so
    return f"{stat.S_IMODE(info.st_mode):o} {info.st_uid}:{info.st_gid} {what}"
found = {}
for folder, folders, files in os.walk(upper):
    for name in folders + files:
        path = os.path.relpath(os.path.join(folder, name), upper)
        now = look(os.path.join(upper, path))
        if now != look(os.path.join(lower, path)):
            found[path] = now
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Image:
    """What the local image was built from: its disk, what it serves, and how that is signed."""

    disk: str
    site: str
    fingerprint: str
    archive: dict[str, str]
    repository: str = "debian"
    """Folder of the site in which Docker's packages lie."""
    new: str = NEW
    """Version of Docker on the disk."""
    old: str = OLD
    """Version that a node is moved to."""


def image() -> Image:
    """The image, which `make test` has built."""
    built = parts.completed({}, {"disk": "disk", "site": "site"})
    about = json.loads((Path(str(built["site"])).parent / "image.json").read_text())
    return Image(str(built["disk"]), str(built["site"]), about["fingerprint"], about["archive"])


@dataclass(frozen=True)
class DebianNode:
    """A running node; `pid` is its first process as this machine sees it."""

    pid: int
    image: Image
    holder: "subprocess.Popen[bytes]" = field(repr=False)
    """The shell that holds its disk and its network, also while it does not run."""
    log: int = field(repr=False)
    """What the shell and the boot print, as a file descriptor."""

    def command(self, *argv: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs a program in the node."""
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {})}
        spaces = ("--mount", "--net", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd")
        variables = [f"{key}={value}" for key, value in inside.items()]
        return ["nsenter", f"--target={self.pid}", *spaces, "--", "env", "-i", *variables, *argv]

    def run(
        self, *argv: str, stdin: str = "", env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program in the node."""
        command = self.command(*argv, env=env)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def ask(self, *argv: str) -> str:
        """What a program in the node prints; it must succeed."""
        result = self.run(*argv)
        assert result.returncode == 0, (argv, result.stdout, result.stderr)
        return result.stdout

    def nodekit(self, verb: str, state: Mapping[str, object], kill_at: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a verb of the node program, as a stack does."""
        env = {"KATA_NODES_KILL_AT": kill_at} if kill_at else {}
        return self.run("python3", "-I", PROGRAM, verb, stdin=json.dumps(state), env=env)

    def succeed(self, verb: str, state: Mapping[str, object]) -> dict[str, object]:
        """The result of a verb, which must succeed."""
        process = self.nodekit(verb, state)
        assert process.returncode == 0, process.stderr[-3000:] + process.stdout
        result: dict[str, object] = json.loads(process.stdout)
        return result

    def files(self) -> dict[str, str]:
        """Every file that differs from the image, with mode, owner and content's hash; without `CHANGING`."""
        files = json.loads(self.ask("python3", "-I", "-c", WALK, "/mnt/upper", "/mnt/disk"))
        return {
            path: content
            for path, content in files.items()
            if not f"{path}/".startswith(tuple(f"{folder}/" for folder in CHANGING))
        }

    def packages(self) -> dict[str, str]:
        """Every package with status, hold and version, and whether apt brought it by itself."""
        listing = self.ask("dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}${Version}\n")
        automatic = set(self.ask("apt-mark", "showauto").split())
        rows = dict(line.split(" ", 1) for line in listing.splitlines())
        return {name: f"{row}{' auto' if name in automatic else ''}" for name, row in rows.items()}

    def docker(self) -> dict[str, object]:
        """What the desired state for the verb `docker` is here."""
        address = f"http://127.0.0.1:{PORT}"
        return {
            "node": "n1", "version": "27.5.1", "kataVersion": "3.32.0", "kataRuntime": "go",
            "repository": {
                "address": f"{address}/{self.image.repository}", "suite": None, "fingerprint": self.image.fingerprint,
            },
            "configPath": "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml",
        }  # fmt: skip

    def kata(self) -> dict[str, object]:
        """What the desired state for the verb `kata` is here."""
        return {
            "node": "n1", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0",
            "install": {
                "any": {
                    "address": f"http://127.0.0.1:{PORT}/{self.image.archive['file']}", "sha256": self.image.archive["sha256"],
                },
            },
            "kernelParams": ["user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"],
            "configPath": "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml",
        }  # fmt: skip


@contextmanager
def booted(image: Image, program: bytes) -> Iterator[DebianNode]:
    """A node whose dockerd answers, with the image's site served to it and the node program in place; gone on return."""
    with tempfile.TemporaryDirectory(prefix="kata-nodes-debian-") as folder, tempfile.TemporaryFile() as log:
        # The node ends with the test, however that ends.
        argv = ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--net", "sh", str(SCRIPT)]
        with subprocess.Popen(
            [*argv, image.disk, folder], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        ) as holder:
            try:
                node = _boot(image, holder, log.fileno())
                served = _serve(node)
                try:
                    _wait_for_docker(node)
                    node.run("sh", "-c", f"mkdir -p $(dirname {PROGRAM})")
                    Path(f"/proc/{node.pid}/root{PROGRAM}").write_bytes(program)
                    yield node
                finally:
                    served.kill()
                    served.wait()
            finally:
                holder.kill()


def after_a_power_cut(node: DebianNode) -> DebianNode:
    """The node once more: all its processes ended at once, and systemd started from the same disk.

    Unlike a machine, it keeps the kernel with its boot id and modules, and writes that no program had synced.
    """
    assert node.holder.stdin is not None
    node.holder.stdin.write(b"\n")
    node.holder.stdin.flush()
    os.kill(node.pid, signal.SIGKILL)
    again = _boot(node.image, node.holder, node.log, before=node.pid)
    _wait_for_docker(again)
    return again


def program() -> bytes:
    """The node program as a stack uploads it."""
    return bundle.content()


def _boot(image: Image, holder: "subprocess.Popen[bytes]", log: int, before: int = 0) -> DebianNode:
    """The node of a holder; `before` was its first process earlier."""
    return DebianNode(first_process(holder, log, before), image, holder, log)


def first_process(holder: "subprocess.Popen[bytes]", log: int, before: int = 0) -> int:
    """The grandchild of the holder, once that has become systemd and is not `before`, the one of an earlier boot."""
    end = time.monotonic() + 30
    while time.monotonic() < end and holder.poll() is None:
        line = [str(holder.pid)]
        for _ in range(2):
            line = [child for pid in line for child in _children(pid)]
        if line and int(line[0]) != before and _process_file(f"{line[0]}/comm").strip() == "systemd":
            return int(line[0])
        time.sleep(0.05)
    raise AssertionError(f"systemd did not start in its namespaces: {os.pread(log, 2000, 0).decode(errors='replace')}")


def _children(pid: str) -> list[str]:
    return _process_file(f"{pid}/task/{pid}/children").split()


def _process_file(name: str) -> str:
    """A file below /proc; empty of a process that has just ended: it may end between the opening and the reading too (ESRCH)."""
    try:
        return (Path("/proc") / name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _serve(node: DebianNode) -> "subprocess.Popen[bytes]":
    argv = [
        "setpriv",
        "--pdeathsig=KILL",
        "nsenter",
        f"--target={node.pid}",
        "--net",
        "--",
        sys.executable,
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
    ]
    return subprocess.Popen(
        [*argv, "--directory", node.image.site, str(PORT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_docker(node: DebianNode) -> None:
    end = time.monotonic() + 60
    while node.run("docker", "version", "--format", "{{.Server.Version}}").returncode != 0:
        if time.monotonic() > end or node.holder.poll() is not None:
            raise AssertionError(f"dockerd did not come up: {os.pread(node.log, 2000, 0).decode(errors='replace')}")
        time.sleep(0.1)


__all__ = ["DebianNode", "Image", "after_a_power_cut", "booted", "image", "program"]
