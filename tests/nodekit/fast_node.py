"""A node whose programs answer from one file: apt, dpkg, systemd, dockerd and modprobe as far as the verbs see them, in
milliseconds. A verb runs in a process of its own, which a fault can end at any point; what the programs did before that stays."""

import errno
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

from nodekit.commands import compare, converge, docker, kata, preflight, restore, status
from nodekit.errors import NodeError
from nodekit.host import apt, apt_source, failpoints, kata_download, modules, signals, virtualization
from nodekit.host import docker as host_docker
from nodekit.host.process import Finished
from nodekit.rules.docker.docker_packages import PACKAGES
from nodekit.rules.kata import kernel_modules
from tests.nodekit import forked
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.kata_release import CONFIG, archive

CONTAINERD, IPTABLES = "1.7.28-1~debian.13~trixie", "1.8.11-2"
NEEDS = {
    "docker-ce": ("containerd.io", "docker-ce-cli", "iptables"),
    "docker-ce-cli": (),
    "docker-ce-rootless-extras": (),
    "containerd.io": (),
    "iptables": (),
    "firewall": ("iptables",),
}
"""Package -> what it depends on."""
VERSIONS = {
    **dict.fromkeys(PACKAGES, (NEW, OLD)),
    "containerd.io": (CONTAINERD, "2.0.0-1"),
    "iptables": (IPTABLES, "1.9.0-1"),
    "firewall": ("1",),
}
"""Package -> the versions that the repository holds; the first is what apt takes where none is asked for."""
UNITS = {"docker.socket": "docker-ce", "docker.service": "docker-ce", "containerd.service": "containerd.io"}
"""Unit -> the package that brings it."""
RELEASE = archive()
DISK = {"full": errno.ENOSPC, "read-only": errno.EROFS}
"""What a disk can be -> what the kernel answers to a write then."""
CREATING = ("os.mkdir", "os.link", "os.symlink")
MOVING = ("os.rename", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.setxattr")
"""Audit events (PEP 578) of calls that need room, and of those that a disk which is only full still does."""
ON_DISK = ("etc", "var", "opt", "usr", "srv")
"""Folders that are no file system of the kernel's."""


def _without_settings(words: Sequence[str]) -> list[str]:
    """The words of a command of apt without each `-o` and its setting."""
    return [word for before, word in zip(["", *words], words, strict=False) if "-o" not in (before, word)]


@dataclass
class Package:
    """A package as dpkg knows it."""

    version: str
    status: str = "installed"
    held: bool = False
    automatic: bool = False


@dataclass
class Machine:
    """All that the programs of a node know."""

    packages: dict[str, Package] = field(default_factory=dict)
    units: dict[str, list[bool]] = field(default_factory=dict)
    """Unit -> whether it is active, whether it is enabled."""
    modules: list[str] = field(default_factory=lambda: ["vhost_net"])
    dockerd: str | None = None
    """The version that runs."""
    runtimes: list[str] = field(default_factory=list)
    index: bool = False
    """Whether apt knows what the repository holds."""
    info: dict[str, object] = field(default_factory=dict)
    """What the dockerd that runs answers beside its version and runtimes."""
    broken: list[str] = field(default_factory=list)
    """What does not work now: `apt` (dpkg fails), `repository`, `service`, `lock` (another program holds apt's), `policy` (the
    scripts of packages may start nothing, policy-rc.d(8)), `systemd` (none runs), `mask` (of docker.service), `slow` (apt goes on
    for a minute, once, after it has installed something), or of `DISK`."""

    @staticmethod
    def load(file: Path) -> "Machine":
        """From its file."""
        data = json.loads(file.read_text())
        return Machine(**{**data, "packages": {name: Package(**fields) for name, fields in data["packages"].items()}})

    def text(self) -> str:
        """For its file."""
        return json.dumps(asdict(self), sort_keys=True)


class Programs:
    """The programs of the node at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root.parent / "machine.json"

    def load(self) -> Machine:
        """What they know now."""
        return Machine.load(self.file)

    def change(self, do: Callable[[Machine], object]) -> None:
        """Change what they know, at once or not at all."""
        machine = self.load()
        do(machine)
        self._settle(machine)
        new = self.file.with_suffix(".new")
        new.write_text(machine.text())
        new.rename(self.file)

    def _settle(self, machine: Machine) -> None:
        """Units and modules as packages and kernel have them."""
        for unit, package in UNITS.items():
            is_installed = package in machine.packages and machine.packages[package].status != "config-files"
            if is_installed:
                machine.units.setdefault(unit, [True, True])
            elif "policy" not in machine.broken or not machine.units.get(unit, [False])[0]:
                machine.units.pop(unit, None)
        if not machine.units.get("docker.service", [False])[0]:
            machine.dockerd, machine.runtimes = None, []
        (self.root / "proc/modules").write_text("".join(f"{name} 1 0\n" for name in machine.modules))

    def start_dockerd(self, machine: Machine, again: bool) -> None:
        """Have dockerd read its file; a start forgets what it knew."""
        file = self.root / "etc/docker/daemon.json"
        known: list[str] = []
        with suppress(OSError, ValueError):
            known = sorted(json.loads(file.read_text()).get("runtimes", {}))
        machine.runtimes = known if again else sorted({*machine.runtimes, *known})
        if again and "docker-ce" in machine.packages:
            machine.dockerd = machine.packages["docker-ce"].version.partition(":")[2].partition("-")[0]
            machine.units["docker.service"] = [True, machine.units.get("docker.service", [True, True])[1]]

    def run(self, argv: Sequence[str], *, check: bool = True, **_: object) -> Finished:
        """Stands for `nodekit.host.process.run`."""
        name, *words = argv
        if name == "dpkg-query":
            answer = self.query(words[2:] if words[0] == "-W" else words[4:])
        elif name == "apt-mark":
            packages = self.load().packages
            answer = "".join(f"{name}\n" for name in words[1:] if name in packages and packages[name].automatic), 0
        elif name == "apt-cache":
            known = [(name, version) for name in words[1:] for version in VERSIONS.get(name, ())] if self.load().index else []
            answer = "".join(f" {name} | {version} | http://r\n" for name, version in known), 0
        elif name == "apt-get":
            requested = [word for word in _without_settings(words) if not word.startswith("-")][1:]
            answer = self.install(requested, simulate=True, remove=True)
        elif name == "systemctl":
            answer = self.systemctl(words)
        elif name == "modprobe":
            self.change(lambda machine: _modprobe(machine, words))
            answer = "", 0
        elif name == "dockerd":
            answer = self.validate(words)
        else:
            assert name in ("apt-config", "journalctl"), argv
            answer = ("failed to start daemon: a reason\n" if name == "journalctl" else ""), 0
        if check and answer[1]:
            raise NodeError("command-failed", f"{name} ended with exit code {answer[1]}: {answer[0]}")
        return Finished(answer[1], answer[0], answer[0] if answer[1] else "")

    def follow(self, argv: Sequence[str], timeout: float, temporary: str = "") -> Finished:
        """Stands for `apt._follow`: what has begun ends, whatever becomes of the verb."""
        name, *words = argv
        if name == "apt-get" and "update" in words:
            source = next(word.partition("=")[2] for word in words if word.startswith("Dir::Etc::sourcelist="))
            reachable = Path(source).exists() and "repository" not in self.load().broken
            if reachable:
                self.change(lambda machine: setattr(machine, "index", True))
            answer = ("", 0) if reachable else ("Err:1 http://r\n", 100)
        elif name == "apt-get":
            at = words.index("--allow-change-held-packages") + 1
            requested = [word for word in words[at:] if not word.startswith("--")]
            answer = self.install(requested, remove="--no-remove" not in words)
        elif name == "apt-mark":
            verb, *names = _without_settings(words)
            self.change(lambda machine: _mark(machine, verb, names))
            answer = "", 0
        else:
            assert name == "dpkg", argv
            if "apt" in self.load().broken:
                answer = "dpkg: error: broken\n", 1
            else:
                self.change(lambda machine: _dpkg(machine, words))
                answer = "", 0
        if "slow" in self.load().broken and "install" in words:
            self.change(lambda machine: machine.broken.remove("slow"))
            time.sleep(60)
        failpoints.reach("packages-changing")
        return Finished(answer[1], answer[0], "")

    def query(self, names: Sequence[str]) -> tuple[str, int]:
        """`dpkg-query -W`, in the form that the program asks for."""
        lines = []
        for name, package in sorted(self.load().packages.items()):
            if not names or name in names:
                wants = "hold" if package.held else "deinstall" if package.status == "config-files" else "install"
                lines.append(f"{wants} {package.status} {name} {package.version}\n")
        return "".join(lines), 0

    def install(self, requested: Sequence[str], *, simulate: bool = False, remove: bool = False) -> tuple[str, int]:
        """`apt-get install`: `name=version`, `name` and `name-`, with what they need and what needs what goes."""
        machine = self.load()
        installed = {name: package for name, package in machine.packages.items() if package.status != "config-files"}
        targets: dict[str, str | None] = {}
        for word in requested:
            name, _, version = word.rstrip("-").partition("=")
            if word.endswith("-") and "=" not in word:
                targets[name] = None
            elif (
                version
                and version not in (VERSIONS[name] if machine.index else ())
                and (name not in installed or installed[name].version != version)
            ):
                return f"E: Version '{version}' for '{name}' was not found\n", 100
            elif version or name not in installed:
                targets[name] = version or VERSIONS[name][0]
        todo = [name for name, version in targets.items() if version is not None]
        while todo:
            for needed in NEEDS[todo.pop()]:
                if targets.get(needed, "there" if needed in installed else None) is None:
                    if needed in targets:
                        return f"E: Unable to correct problems: {needed}\n", 100
                    if not machine.index:
                        return f"E: Unable to locate package {needed}\n", 100
                    targets[needed] = VERSIONS[needed][0]
                    todo.append(needed)
        going = {name for name, version in targets.items() if version is None}
        while needing := {
            name for name in installed if name not in going and targets.get(name) is None and going & {*NEEDS[name]}
        }:
            if any(installed[name].held for name in needing):
                return "E: Unable to correct problems, you have held broken packages.\n", 100
            going |= needing
        if going and not remove:
            return "E: Packages need to be removed but remove is disabled.\n", 100
        lines = [f"Remv {name} [{installed[name].version}]" for name in sorted(going & installed.keys())]
        for name, version in targets.items():
            if version is not None and (name not in installed or installed[name].version != version):
                was = f" [{installed[name].version}]" if name in installed else ""
                lines.append(f"Inst {name}{was} ({version} Test:1 [all])")
        if not simulate:
            if "apt" in machine.broken:
                return "E: Sub-process /usr/bin/dpkg returned an error code (1)\n", 100
            self.change(lambda machine: self._install(machine, targets, going & installed.keys(), requested))
        return "".join(f"{line}\n" for line in lines), 0

    def _install(self, machine: Machine, targets: dict[str, str | None], going: Iterable[str], requested: Sequence[str]) -> None:
        before = machine.packages.get("docker-ce")
        old = None if before is None or before.status == "config-files" else before.version
        for name in going:
            machine.packages[name].status, machine.packages[name].held = "config-files", False
        named = {word.rstrip("-").partition("=")[0] for word in requested}
        for name, version in targets.items():
            if version is not None:
                was = machine.packages.get(name)
                is_installed = was is not None and was.status != "config-files"
                automatic = name not in named if not is_installed or was is None else was.automatic
                machine.packages[name] = Package(version, automatic=automatic)
        now = machine.packages.get("docker-ce")
        if now is not None and now.status == "installed" and now.version != old:
            for unit in UNITS:
                machine.units.setdefault(unit, [True, True])
            if "policy" in machine.broken:
                if old is None:
                    machine.units["docker.service"][0] = False
            elif machine.units["docker.service"][0]:
                self.start_dockerd(machine, again=True)

    def systemctl(self, words: Sequence[str]) -> tuple[str, int]:
        """The verbs of systemctl that the program uses."""
        verb, *names = words
        machine = self.load()
        if "systemd" in machine.broken:
            return "System has not been booted with systemd as init system (PID 1). Can't operate.\n", 1
        if verb == "show":
            blocks = [
                f"Id={unit}\nLoadState={'loaded' if self.has(machine, unit) else 'not-found'}\n"
                f"ActiveState={'active' if active else 'inactive'}\n"
                f"UnitFileState={self.enabled(machine, unit, enabled)}\n"
                for unit, (active, enabled) in machine.units.items()
            ]
            return "\n".join(blocks), 0
        if verb == "reset-failed":
            return "", 0
        if "service" in machine.broken or any(name not in machine.units for name in names):
            return "Job for docker.service failed.", 1
        if verb == "reload" and machine.dockerd is None:
            return "docker.service is not active.", 1

        def do(machine: Machine) -> None:
            for name in names:
                active, enabled = machine.units[name]
                machine.units[name] = [
                    {"stop": False}.get(verb, True if verb in ("start", "restart", "reload-or-restart") else active),
                    {"enable": True, "disable": False}.get(verb, enabled),
                ]
                if name == "docker.service" and verb in ("start", "restart", "reload", "reload-or-restart"):
                    self.start_dockerd(machine, again=verb in ("start", "restart") or not active)

        self.change(do)
        return "", 0

    @staticmethod
    def validate(words: Sequence[str]) -> tuple[str, int]:
        """`dockerd --validate`, which refuses a key that it does not know, and what is both an option and a key."""
        keys = json.loads(Path(words[-1]).read_text())
        if "misspelt" in keys:
            return "the following directives don't match any configuration option: misspelt\n", 1
        if "-H" in words and "hosts" in keys:
            return "the following directives are specified both as a flag and in the configuration file: hosts\n", 1
        return "configuration OK\n", 0

    @staticmethod
    def has(machine: Machine, unit: str) -> bool:
        """Whether the package of a unit is there; without it the unit can still run, where policy-rc.d forbade to stop it."""
        package = machine.packages.get(UNITS[unit])
        return package is not None and package.status != "config-files"

    @staticmethod
    def enabled(machine: Machine, unit: str, is_enabled: bool) -> str:
        """The word of `systemctl is-enabled`."""
        if unit == "docker.service" and "mask" in machine.broken:
            return "masked"
        return "enabled" if is_enabled else "disabled"

    def get(self, root: Path, path: str) -> object:
        """Stands for dockerd's API."""
        machine = self.load()
        if machine.dockerd is None:
            raise ConnectionRefusedError(111, "Connection refused")
        if path != "/info":
            return []
        runtimes: dict[str, object] = {name: {} for name in ["runc", *machine.runtimes]}
        return {**machine.info, "ServerVersion": machine.dockerd, "Runtimes": runtimes}


def _mark(machine: Machine, verb: str, names: Sequence[str]) -> None:
    for name in names:
        key = "held" if verb in ("hold", "unhold") else "automatic"
        setattr(machine.packages[name], key, verb in ("hold", "auto"))


def _dpkg(machine: Machine, words: Sequence[str]) -> None:
    if "--purge" in words:
        for name in words[words.index("--purge") + 1 :]:
            del machine.packages[name]
    else:
        for package in machine.packages.values():
            if package.status == "half-configured":
                package.status = "installed"


def _modprobe(machine: Machine, words: Sequence[str]) -> None:
    if words[0] == "--remove":
        machine.modules.remove(words[1])
    elif words[0] not in machine.modules:
        machine.modules.append(words[0])


@dataclass(frozen=True)
class Fault:
    """What happens to a verb when it comes to the `number`-th of its failure points, or of its writes for a fault of the disk."""

    kind: str
    """`kill`, `signal`, `signals` (a second one at the next point), `cut` (nobody reads what it prints), or one of `DISK`, which
    lasts until the verb ends."""
    number: int
    place: str = "/"
    """The folder whose file system a fault of the disk is about."""


@dataclass(frozen=True)
class Ended:
    """How a verb ended: its exit code (negative for a signal), its result or error, and whether the fault came."""

    code: int
    document: dict[str, object]
    output: str
    came: bool


VERBS: dict[str, Callable[[dict[str, object], Path], dict[str, object]]] = {
    "preflight": preflight.run, "docker": docker.run, "kata": kata.run, "converge": converge.run, "restore": restore.run,
    "status": lambda _, root: status.run(root), "compare": compare.run,
}  # fmt: skip


def perform(root: Path, verb: str, state: dict[str, object], fault: Fault | None = None) -> Ended:
    """Run a verb in a process of its own."""
    answer = root.parent / "answer.json"
    answer.unlink(missing_ok=True)
    (root.parent / "came").unlink(missing_ok=True)
    code, output = forked.run(lambda: _child(root, verb, state, fault, answer))
    document = json.loads(answer.read_text()) if answer.exists() else {}
    return Ended(code, document, output, (root.parent / "came").exists())


def _child(root: Path, verb: str, state: dict[str, object], fault: Fault | None, answer: Path) -> int:
    programs = Programs(root)
    apt.run = host_docker.run = modules.run = programs.run  # type: ignore[assignment]
    apt._follow = programs.follow
    apt.lock_holder = lambda _: "process 812 (unattended-upgr)" if "lock" in programs.load().broken else None
    apt.shutil = SimpleNamespace(which=lambda name: None, rmtree=shutil.rmtree)  # type: ignore[assignment]
    apt.time = host_docker.time = _Clock()  # type: ignore[assignment]
    host_docker._get = programs.get
    host_docker.HEALTH_TIMEOUT = 1.0
    apt_source.fetch_key = lambda address, through=None: b""
    apt_source.openpgp = SimpleNamespace(refuse_other_keys=lambda *_: None, armour=lambda _: b"-----\nKEY", BEGIN="-----")  # type: ignore[assignment]
    kata_download.download = lambda root, address, sha256, target: target.write_bytes(RELEASE) and None
    preflight.emulated = lambda: False
    virtualization.cpu_flag = lambda: "svm"
    virtualization.presence = lambda flag: virtualization.Presence(flag, True, dict.fromkeys(kernel_modules.DEVICES, True))
    preflight.find_qemu = lambda: None
    preflight.refuse_unready = lambda *_: None
    pipe = os.pipe()
    if fault is not None and fault.kind == "cut":
        os.dup2(pipe[1], 2)
    signals._ending, signals._shields = False, 0
    signals.obey()
    for kind in DISK.keys() & {*programs.load().broken}:
        _spoil(root, Fault(kind, 1), None)
    if fault is not None and fault.kind in DISK:
        _spoil(root, fault, root.parent / "came")
    elif fault is not None:
        _arm(fault, pipe, root.parent / "came")
    try:
        result = VERBS[verb](state, root)
    except NodeError as error:
        answer.write_text(json.dumps({"error": error.as_dict()}))
        return 1
    answer.write_text(json.dumps(result))
    return 0


class _Clock:
    """Time that goes by as fast as somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let them go by."""
        self.now += seconds


def _arm(fault: Fault, pipe: tuple[int, int], came: Path) -> None:
    """Have a point of the verb make the fault: each point asks the environment whether it is meant."""
    points = 0

    def get(name: str, default: str) -> str:
        nonlocal points
        points += 1
        if points == fault.number:
            came.touch()
            if fault.kind == "cut":
                os.close(pipe[0])
            else:
                os.kill(os.getpid(), signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM)
        elif points == fault.number + 1 and fault.kind == "signals":
            os.kill(os.getpid(), signal.SIGHUP)
        return default

    failpoints.os = SimpleNamespace(environ=SimpleNamespace(get=get))  # type: ignore[assignment]


def _spoil(root: Path, fault: Fault, came: Path | None) -> None:
    """Have the kernel refuse the `number`-th write and all later ones, as a disk does that is full or read-only."""
    places = tuple(f"{root}/{folder}/" for folder in ON_DISK if fault.place in ("/", f"/{folder}"))
    writes = 0

    def is_write(event: str, arguments: tuple[object, ...]) -> bool:
        if event == "open":
            flags = arguments[2]
            return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return event in CREATING or (fault.kind == "read-only" and event in MOVING)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal writes
        if not is_write(event, arguments):
            return
        path = arguments[1 if event in ("os.rename", "os.link", "os.symlink") else 0]
        if isinstance(path, (str, bytes, os.PathLike)) and f"{os.fsdecode(path)}/".startswith(places):
            writes += 1
            if writes >= fault.number:
                if came is not None:
                    came.touch()
                raise OSError(DISK[fault.kind], os.strerror(DISK[fault.kind]), os.fsdecode(path))

    sys.addaudithook(audit)


def lay_out(root: Path, docker_version: str | None, configurations: Iterable[str]) -> Programs:
    """A node with people's own Kata configurations, and with a Docker of this package version or without one."""
    for folder in ("etc/apt/sources.list.d", "proc", "run", "opt", "usr/local/bin"):
        (root / folder).mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
    for file in configurations:
        (root / file.lstrip("/")).parent.mkdir(parents=True)
        (root / file.lstrip("/")).write_text(CONFIG)
    programs = Programs(root)
    programs.file.write_text(Machine().text())
    programs.change(lambda machine: None)
    if docker_version is not None:
        programs.change(lambda machine: setattr(machine, "index", True))
        programs.install([f"{name}={docker_version}" for name in PACKAGES])
        programs.change(lambda machine: setattr(machine, "index", False))
    return programs


def tree(root: Path) -> dict[str, str]:
    """Every file and link below /etc, /opt, /srv and /usr with mode and content."""
    entries = {}
    for top in ("etc", "opt", "srv", "usr"):
        for path in sorted((root / top).rglob("*")):
            info = path.lstat()
            content = f"-> {path.readlink()}" if path.is_symlink() else path.read_text() if path.is_file() else "folder"
            entries[f"/{path.relative_to(root)}"] = f"{info.st_mode:o} {content}"
    return entries


def version_number(package: str) -> str:
    """`5:27.5.1-1~…` as the settings spell it."""
    match = re.match(r"5:([0-9.]+)-", package)
    assert match is not None
    return match[1]
