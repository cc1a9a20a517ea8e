"""A host, its site and a stack for it, on which faults are made: what strikes, what the host is then, and the engine's runs."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.checkout import Checkout
from tests.e2e.emulated_hosts import EmulatedHost, emulated_host, stack_config
from tests.e2e.faulty_site import FaultySite

STACK = "faults"
SITE_PORT = 8010
STRIKE_SECONDS = 120
"""Bound on a fault's own work, such as starting the host again; the next run begins after it."""
HOSTS = "127.0.0.1 localhost\n127.0.0.1 packages.test\n127.0.0.1 archive.test\n"
SHORTER: dict[str, tuple[str, str]] = {
    "components/nodes/node_connection.py": ("DIALS, DIAL_SECONDS = 60, 15", "DIALS, DIAL_SECONDS = 4, 5"),
    "components/nodes/node_states.py": ('"docker": 2400', '"docker": 90'),
    "nodekit/commands/docker.py": ("LOCK_SECONDS = 300", "LOCK_SECONDS = 15"),
    "nodekit/commands/kata.py": ("LOCK_TIMEOUT = 300.0", "LOCK_TIMEOUT = 15.0"),
    "nodekit/commands/preflight.py": ("LOCK_SECONDS = 60", "LOCK_SECONDS = 15"),
    "nodekit/host/converged.py": ("LOCK_SECONDS = 300", "LOCK_SECONDS = 15"),
    "nodekit/commands/restore.py": ("LOCK_TIMEOUT = 300.0", "LOCK_TIMEOUT = 15.0"),
    "nodekit/host/apt_source.py": ("KEY_TIMEOUT = 60.0", "KEY_TIMEOUT = 8.0"),
    "nodekit/host/kata_download.py": ("SILENT_SECONDS = 60.0", "SILENT_SECONDS = 5.0"),
}
"""File of the program -> a bound, and the shorter one that the copy for these tests has, so that a bound is reached in a test."""
DPKG_WORKS = (".dpkg-tmp", ".dpkg-new")
"""Ends of the names of files that lie beside a package's own while dpkg unpacks it."""
OURS = ("home/admin/.kata-nodes", "usr/local/lib/kata-nodes", "var/lib/kata-nodes")
"""What only this program reads: there it may keep what the next run needs."""
TESTS = "etc/hosts"
"""What faults themselves change."""
QUIET_SECONDS = 120.0
CONTROL_GROUPS = Path("/sys/fs/cgroup")
"""Where each controller has a hierarchy of its own; elsewhere no group with limits can be made beside running processes."""


@dataclass(frozen=True)
class Look:
    """What this program may change on a host: files that differ from its image, and packages."""

    files: Mapping[str, str]
    packages: Mapping[str, str]

    def neither(self, before: "Look", after: "Look", packages: bool = True) -> list[str]:
        """What is neither as it was nor as it should be; without `packages`, what dpkg was changing is left out."""
        wrong = []
        for path in sorted({*self.files, *before.files, *after.files}):
            now = self.files.get(path)
            if not packages and path.endswith(DPKG_WORKS):
                continue
            if not path.startswith((*OURS, TESTS)) and now not in (before.files.get(path), after.files.get(path)):
                wrong.append(f"/{path}: {now}; before {before.files.get(path)}, after {after.files.get(path)}")
        for name in sorted({*self.packages, *before.packages, *after.packages}) if packages else ():
            row = self.packages.get(name)
            if row not in (before.packages.get(name), after.packages.get(name)):
                wrong.append(f"package {name}: {row}")
        return wrong


@dataclass(frozen=True)
class Ended:
    """How a run of the engine ended."""

    status: int
    printed: str
    seconds: float


class Story:
    """The stack of one host, and everything that can happen to them."""

    def __init__(self, host: EmulatedHost, site: FaultySite, folder: Path) -> None:
        self.host, self.site = host, site
        self.checkout = self._stack(folder, host.login_key)
        (host.root / "etc/hosts").write_text(HOSTS)
        (host.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")  # nothing answers there
        # apt's own patience, as an administrator may set it.
        (host.root / "etc/apt/apt.conf.d/99-tests").write_text('Acquire::http::Timeout "3";\nAcquire::Retries "1";\n')
        host.node.ask("su", host.user, "-c", "sudo -n true")  # sudo keeps a file of its first use
        self._engine: subprocess.Popen[str] | None = None
        self._undo: list[Callable[[], object]] = []
        self.second = ""
        """What a second run of the engine printed that ran beside the first."""

    def _stack(self, folder: Path, login_key: str) -> Checkout:
        folder.mkdir()
        checkout = Checkout(folder)
        for name, (bound, shorter) in SHORTER.items():
            self.edit(checkout, name, bound, shorter)
        config = stack_config({"n1": self.host})
        archive = self.host.node.image.archive["file"]
        config["kata-nodes:docker"] = {
            "repository": {"address": f"http://packages.test:{SITE_PORT}/debian", "fingerprint": self.site.fingerprint}
        }
        config["kata-nodes:kata"]["install"]["address"] = f"http://archive.test:{SITE_PORT}/{archive}"
        (folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": config}))
        checkout.pulumi("stack", "init", STACK)
        checkout.pulumi("config", "set", "--secret", "kata-nodes:sshPrivateKey", "--stack", STACK, stdin=login_key)
        return checkout

    def edit(self, checkout: Checkout, name: str, text: str, other: str) -> None:
        """Change a text in the copy of the program, wherever it stands in that file."""
        file = checkout.folder / name
        content = file.read_text()
        assert text in content, f"{name} no longer has {text}"
        file.write_text(content.replace(text, other))

    # the engine

    def run(self, command: str, seconds: float, at: str = "", strike: Callable[[], object] | None = None) -> Ended:
        """`pulumi up` or `destroy`, which must end within some seconds; `strike` when it prints something that matches `at`."""
        begin = time.monotonic()
        argv = ["pulumi", command, "--yes", "--skip-preview", "--stack", STACK, "--non-interactive"]
        printed: list[str] = []
        failed: list[BaseException] = []
        waiting = strike
        with subprocess.Popen(
            argv, cwd=self.checkout.folder, env=self.checkout.environment, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as engine:  # fmt: skip
            self._engine = engine

            def read() -> None:
                nonlocal waiting
                assert engine.stdout is not None
                for line in engine.stdout:
                    printed.append(line)
                    if waiting is not None and re.search(at, line):
                        act, waiting = waiting, None
                        try:
                            act()
                        except BaseException as error:  # it belongs to the test, not to this thread
                            failed.append(error)

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            try:
                status = engine.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
                self.kill_engine()
            reader.join(STRIKE_SECONDS)
            assert not reader.is_alive(), f"what struck {command} did not end within {STRIKE_SECONDS} s"
        took = time.monotonic() - begin
        text = "".join(printed)
        print(f"--- {command}: exit {status} after {took:.0f} s\n{text}")
        if failed:
            raise failed[0]
        assert status is not None, f"{command} did not end within {seconds:g} s"
        assert waiting is None, f"nothing struck: {command} never printed {at}"
        return Ended(status, text, took)

    def well(self, command: str = "up") -> Look:
        """A run that must succeed, and what the host is then."""
        ended = self.run(command, 300)
        assert ended.status == 0, ended.printed[-3000:]
        return self.look()

    def end(self) -> None:
        """Destroy the stack, whatever it is in."""
        self.cure()
        self.repair_state()
        self.checkout.run("pulumi", "cancel", "--yes", STACK, "--non-interactive")  # no lock is no reason to stop
        self.well("destroy")

    def kill_engine(self) -> None:
        """End the engine and all that it started at once, as when its machine goes down."""
        assert self._engine is not None
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(ProcessLookupError):  # it has just ended
                if os.getsid(int(entry.name)) == self._engine.pid:
                    os.kill(int(entry.name), signal.SIGKILL)

    def second_up(self) -> None:
        """A second `up` of the same stack, beside the first."""
        _, self.second = self.checkout.run(
            "pulumi", "up", "--yes", "--skip-preview", "--stack", STACK, "--non-interactive", stdin=""
        )

    def other_stack_up(self) -> None:
        """`up` of another stack for the same host; the cure forgets that stack."""
        file = self.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
        other = yaml.safe_load(file.read_text())
        other.pop("encryptionsalt", None)
        del other["config"]["kata-nodes:sshPrivateKey"]
        (file.parent / "Pulumi.other.yaml").write_text(yaml.safe_dump(other))
        self.checkout.pulumi("stack", "init", "other")
        self.checkout.pulumi(
            "config", "set", "--secret", "kata-nodes:sshPrivateKey", "--stack", "other", stdin=self.host.login_key
        )
        self.second = self.checkout.pulumi("up", "--yes", "--skip-preview", "--stack", "other", ok=False)

        def forget() -> None:
            self.checkout.pulumi("destroy", "--yes", "--skip-preview", "--stack", "other")
            self.checkout.pulumi("stack", "rm", "--yes", "other")

        self._undo.append(forget)

    def parameters(self, *params: str) -> None:
        """Set the guest's kernel parameters in the stack's file."""
        file = self.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
        document = yaml.safe_load(file.read_text())
        document["config"]["kata-nodes:kata"]["kernelParams"] = list(params)
        file.write_text(yaml.safe_dump(document))

    def rename(self, name: str) -> None:
        """Give the host another name in the stack's file, until the cure."""
        before = self._set_name(name)
        self._undo.append(lambda: self._set_name(before))

    def _set_name(self, name: str) -> str:
        """Set the host's name in the stack's file, and return the one before."""
        file = self.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
        document = yaml.safe_load(file.read_text())
        (host,) = document["config"]["kata-nodes:nodes"]["existing"]
        before, host["name"] = host["name"], name
        file.write_text(yaml.safe_dump(document))
        return str(before)

    def damage_program(self) -> None:
        """Empty the node program and its copy, and change a setting, so that the next run needs it."""
        self.shell("for file in /usr/local/lib/kata-nodes/nodekit-*.pyz*; do : >$file; done")
        self.parameters("sysctl.user.max_user_namespaces=9000")
        self._undo.append(self.parameters)

    def replace_upload(self) -> None:
        """What the program's own error tells a person to do about a program that is damaged."""
        (urn,) = (
            resource["urn"]
            for resource in self.checkout.state(STACK)["deployment"]["resources"]
            if resource["urn"].endswith("-upload")
        )
        self.checkout.pulumi("up", "--yes", "--skip-preview", "--replace", urn, "--stack", STACK)

    def unlock(self) -> None:
        """What the engine itself tells a person to do about the lock that a killed run left."""
        self.checkout.pulumi("cancel", "--yes", STACK)

    def state_attributes(self) -> Path:
        """What the engine's backend of files keeps beside the stack's state."""
        (file,) = self._state_attributes()
        return file

    def _state_attributes(self) -> list[Path]:
        """None where a kill has left none."""
        return [*self.checkout.folder.glob(f".state/backend/.pulumi/stacks/*/{STACK}.json.attrs")]

    def empty_attributes(self) -> None:
        """Leave that file as a kill can leave it, until the cure."""
        self.state_attributes().write_bytes(b"")
        self._undo.append(self.repair_state)

    def repair_state(self) -> None:
        """Remove that file where a kill left it empty, as the documents and `kata-nodes doctor` tell a person to."""
        for file in self._state_attributes():
            if file.stat().st_size == 0:
                file.unlink()

    # the host

    def forget_downloads(self) -> None:
        """Remove what apt would not download again, whole or the half with which it would go on where a fault stopped it."""
        lists, archives = "/var/lib/apt/lists", "/var/cache/apt/archives"
        self.host.node.ask("sh", "-c", f"rm -f {lists}/packages.test* {lists}/partial/* {archives}/*.deb {archives}/partial/*")

    def look(self) -> Look:
        """The host, once nothing that was left running there changes it."""
        end = time.monotonic() + QUIET_SECONDS
        while self.host.node.run("pgrep", "-f", "nodekit-[0-9a-f]*.pyz|apt-get|/usr/bin/dpkg").returncode == 0:
            assert time.monotonic() < end, self.host.node.run("ps", "axf").stdout
            time.sleep(0.3)
        return Look(self.host.node.files(), self.host.node.packages())

    def shell(self, script: str, undo: str = "") -> None:
        """Run a script on the host, and `undo` as its cure."""
        if undo:
            self._undo.append(lambda: self.host.node.ask("sh", "-ec", undo))
        self.host.node.ask("sh", "-ec", script)

    def hold(self, script: str) -> None:
        """Start a program on the host that holds something until the cure."""
        waits = f"import os, time\n{script}\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
        holder = subprocess.Popen(self.host.node.command("python3", "-c", waits), stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        pid = holder.stdout.readline().strip()
        self._undo.append(lambda: (self.host.node.ask("kill", pid), holder.wait()))

    def cut(self) -> None:
        """End every connection to the host."""
        self.host.forward.cut()
        self._undo.append(self.host.forward.join)

    def silence(self) -> None:
        """Have nothing pass to or from the host, while its connections stay open."""
        self.host.forward.stop()
        self._undo.append(lambda: (self.host.forward.cut(), self.host.forward.join()))

    def reboot(self) -> None:
        """Cut the host's power and start it again."""
        self.host.reboot()

    def limit(self, controller: str, settings: Mapping[str, str]) -> None:
        """Put what logins start on the host under limits of a control group of this machine, until the cure."""
        folder = CONTROL_GROUPS / controller / f"kata-nodes-faults-{os.getpid()}"
        folder.mkdir()
        for name, value in settings.items():
            (folder / name).write_text(value)
        # Again and again: what began while the list was made is not on it.
        within: set[str] = set()
        while new := self._of_logins() - within:
            within |= new
            for pid in new:
                with suppress(OSError):  # it has just ended
                    (folder / "cgroup.procs").write_text(pid)

        def lift() -> None:
            end = time.monotonic() + 30
            while members := (folder / "cgroup.procs").read_text().split():
                for pid in members:
                    (folder.parent / "cgroup.procs").write_text(pid)
                assert time.monotonic() < end
            folder.rmdir()

        self._undo.append(lift)

    def _of_logins(self) -> set[str]:
        """Every sshd of the host, and what they have started, as this machine numbers them."""
        space = Path(f"/proc/{self.host.node.pid}/ns/pid").readlink()
        parents, logins = {}, set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (process / "ns/pid").readlink() == space:
                    name, _, rest = (process / "stat").read_text().partition(" (")[2].rpartition(") ")
                    parents[process.name] = rest.split()[1]
                    if name.startswith("sshd"):
                        logins.add(process.name)
        while new := {pid for pid, parent in parents.items() if parent in logins} - logins:
            logins |= new
        assert logins, "the host's sshd does not run"
        return logins

    def cure(self) -> None:
        """Undo the fault."""
        while self._undo:
            self._undo.pop()()
        self.site.faults({})
        self.site.release("good")
        (self.host.root / "etc/hosts").write_text(HOSTS)


@contextmanager
def stories(folder: Path) -> Iterator[Story]:
    """A host with its site and stack; the stack is destroyed and the host gone on return."""
    with ExitStack() as stack:
        host = stack.enter_context(emulated_host())
        (folder / "site").mkdir()
        image: Any = host.node.image
        site = FaultySite(folder / "site", Path(image.site), image.archive["file"])
        stack.enter_context(site.running(host.node.holder.pid, SITE_PORT))
        yield Story(host, site, folder / "checkout")
