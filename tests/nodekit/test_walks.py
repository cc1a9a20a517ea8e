"""Any walk over a node leads back: settings, faults at any point, edits and upgrades by people, restores, in any order.

Lost if these fail: a node on which some order of events leaves a verb that fails for ever, something of ours that no `restore`
takes away, or something of somebody else's that one does."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from nodekit.host.journal import journals
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.apt_source import SOURCE
from nodekit.rules.docker.docker_packages import HELD, PACKAGES
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.fast_node import (
    DISK,
    RELEASE,
    Ended,
    Fault,
    Machine,
    Package,
    Programs,
    lay_out,
    perform,
    tree,
    version_number,
)
from tests.nodekit.kata_release import BASE, FOLDER

pytestmark = pytest.mark.slow

SEED, LIMIT = "user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"
IN_RELEASE = f"/{FOLDER}/configuration-qemu.toml"
FILES = ("/srv/kata/a/configuration.toml", "/srv/kata/b/configuration.toml", "/etc/kata-containers/configuration.toml")
"""Configurations of Kata that people have put there; the last is what is read where none is named."""
THEIRS = "/srv/kata/theirs/configuration.toml"
DROP_INS = [f"{Path(file).parent}/config.d/60-kata-nodes.toml" for file in (*FILES, THEIRS, IN_RELEASE)]
ADDED = "/opt/kata/mine"
DAEMON = "/etc/docker/daemon.json"
MODULES = "/etc/modules-load.d/kata-nodes.conf"
LASTING = {"lock", *DISK}
"""What keeps `restore` from ending for as long as it lasts: a node that cannot be written, or that another program changes."""
KINDS = ("kill", "signal", "signals", "cut")

COUNTS = {"walks": 0, "steps": 0, "faults": 0}


@dataclass(frozen=True)
class Settings:
    """What a stack asks of a node."""

    docker: str
    release: bool
    path: str | None
    params: tuple[str, ...]

    def state(self, verb: str) -> dict[str, object]:
        """The desired state of a verb."""
        if verb == "preflight":
            return {"node": "n"}
        if verb == "docker":
            repository = {"address": "http://r", "suite": None, "fingerprint": "A" * 40}
            return {
                "node": "n", "version": version_number(self.docker), "repository": repository, "configPath": self.path,
                "kataVersion": "3.32.0", "kataRuntime": "go",
            }  # fmt: skip
        archive = {"address": "http://r/kata", "sha256": hashlib.sha256(RELEASE).hexdigest()}
        return {
            "node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "kernelParams": list(self.params),
            "install": {"any": archive} if self.release else None, "configPath": self.path,
        }  # fmt: skip


SETTINGS = st.builds(
    Settings,
    docker=st.sampled_from([OLD, NEW]),
    release=st.just(False),
    path=st.sampled_from([None, FILES[0], FILES[1]]),
    params=st.sampled_from([(SEED,), (SEED, LIMIT)]),
) | st.builds(
    Settings,
    docker=st.sampled_from([OLD, NEW]),
    release=st.just(True),
    path=st.sampled_from([None, FILES[0], IN_RELEASE]),
    params=st.sampled_from([(SEED,), (SEED, LIMIT)]),
)
FAULTS = st.builds(Fault, st.sampled_from(KINDS), st.integers(1, 14) | st.integers(15, 40)) | st.builds(
    Fault, st.sampled_from([*DISK]), st.integers(1, 30), st.sampled_from(["/", "/etc", "/var"])
)


@dataclass
class Snapshot:
    """A node as somebody else sees it."""

    files: dict[str, str]
    machine: Machine

    @staticmethod
    def of(programs: Programs) -> "Snapshot":
        """As it is now."""
        return Snapshot(tree(programs.root), programs.load())


@dataclass
class Theirs:
    """What somebody else has changed since this program first did anything."""

    paths: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)


class Walk(RuleBasedStateMachine):
    """One node, and everything that can happen to it."""

    programs: Programs

    def __init__(self) -> None:
        super().__init__()
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="kata-nodes-walk-", dir=place))
        self.root = self.folder / "root"
        self.theirs = Theirs()
        self.settings: Settings | None = None
        self.failed_restores = 0
        self.left: list[str] = []
        """Files below /etc that restores that did not end well said they leave: a part that they ended is not looked at again."""
        COUNTS["walks"] += 1

    def teardown(self) -> None:
        """Repair everything, apply the last settings, and restore: whatever happened before, both work."""
        if hasattr(self, "programs"):
            self.cure()
            if self.settings is not None:
                self.apply(self.settings)
            self.restore()
        shutil.rmtree(self.folder)

    @initialize(
        docker_version=st.sampled_from([None, NEW, OLD]), config=st.sampled_from([None, "{}", "theirs"]), held=st.booleans()
    )
    def begin(self, docker_version: str | None, config: str | None, held: bool) -> None:
        """A node as people have it before a stack comes."""
        self.programs = lay_out(self.root, docker_version, (*FILES, THEIRS))
        if config is not None:
            self._write(DAEMON, "{}" if config == "{}" else _entry(THEIRS))
        if held and docker_version:
            self.programs.change(lambda machine: setattr(machine.packages["docker-ce"], "held", True))
        self._clean()

    def _clean(self) -> None:
        """Nothing of ours is there: from now on, what somebody else does counts."""
        self.before = Snapshot.of(self.programs)
        self.theirs = Theirs()
        self.failed_restores = 0
        self.left = []
        self.settings = None

    def _write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        if not file.is_dir():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            self.theirs.paths.add(path)

    def _do(self, verb: str, state: dict[str, object], fault: Fault | None = None) -> Ended:
        COUNTS["steps"] += 1
        result = perform(self.root, verb, state, fault)
        assert "Traceback" not in result.output, result.output
        assert result.code in (0, 1, 143, -9), (result, verb)
        COUNTS["faults"] += result.came
        if verb == "restore" and result.code:
            self.left += re.findall(r"left as it is: (/etc/.+)", result.output)
        return result

    # What a stack does.

    @rule(desired=SETTINGS)
    def apply(self, desired: Settings) -> None:
        """An `up` without a fault: it succeeds unless something is broken, and the node is what the settings say."""
        self.settings = desired
        for verb in ("preflight", "docker", "kata"):
            result = self._do(verb, desired.state(verb))
            if result.code:
                assert self._may_fail(result), (verb, desired, result.document, result.output)
                return
        self._check(desired)
        for verb in ("preflight", "docker", "kata"):
            assert self._do(verb, desired.state(verb)).document["changed"] is False, verb

    @rule(
        attempts=st.lists(
            st.tuples(SETTINGS, st.sampled_from(["docker", "kata", "docker", "preflight"]), FAULTS), min_size=1, max_size=3
        )
    )
    def apply_with_faults(self, attempts: list[tuple[Settings, str, Fault]]) -> None:
        """Each an `up` that ends in the middle of a verb, or whose connection is cut there, with other settings each time."""
        for desired, verb, fault in attempts:
            self.settings = desired
            for each in ("preflight", "docker", "kata"):
                if self._do(each, desired.state(each), fault if each == verb else None).code or each == verb:
                    break

    @rule()
    def restore(self) -> None:
        """A `destroy`: it ends, and what is ours is gone or named."""
        now = Snapshot.of(self.programs)
        result = self._do("restore", {"node": "n"})
        if result.code:
            self.failed_restores += 1
            assert self.programs.load().broken, (result.document, result.output)
            assert self.failed_restores <= 2 or LASTING & {*self.programs.load().broken}, result.document
            return
        assert journals(self.root) == []
        self._check_restored([str(line) for line in result.document["kept"]], now)
        after = tree(self.root)
        again = self._do("restore", {"node": "n"})
        assert (again.code, again.document["changed"]) == (0, False)
        assert tree(self.root) == after
        self._clean()

    @rule(fault=FAULTS)
    def restore_with_a_fault(self, fault: Fault) -> None:
        """A `destroy` that ends in the middle: journals that it ended are done with."""
        open_before = {*journals(self.root)}
        result = self._do("restore", {"node": "n"}, fault)
        self.failed_restores += result.code == 1
        ended = open_before - {*journals(self.root)}
        now = Snapshot.of(self.programs)
        if "docker" in ended:
            self.before.machine.packages = now.machine.packages
        if "preflight" in ended:
            self.before.machine.modules = now.machine.modules
        self._adopt(now, lambda path: _journal_of(path) in ended and not path.startswith("/opt"))

    def _adopt(self, now: Snapshot, which: Callable[[str], bool]) -> None:
        """Have some files count as they are now."""
        kept = {path: content for path, content in self.before.files.items() if not which(path)}
        self.before.files = kept | {path: content for path, content in now.files.items() if which(path)}

    # What somebody else does.

    @rule(version=st.sampled_from([NEW, OLD]))
    def somebody_installs_docker(self, version: str) -> None:
        """By hand, over every hold."""

        def do(machine: Machine) -> None:
            machine.index = True

        was = self.programs.load().index
        self.programs.change(do)
        before = self.programs.load().packages
        result = self.programs.install([f"{name}={version}" for name in PACKAGES])
        self.programs.change(lambda machine: setattr(machine, "index", was))
        if result[1] == 0:
            now = self.programs.load().packages
            self.theirs.packages |= {name for name in now if now[name] != before.get(name)} | {*PACKAGES}

    @rule(name=st.sampled_from([*HELD, "iptables"]))
    def somebody_removes_a_package(self, name: str) -> None:
        """And all that needs it."""
        before = self.programs.load().packages
        if name in before and self.programs.install([f"{name}-"], remove=True)[1] == 0:
            now = self.programs.load().packages
            self.theirs.packages |= {package for package in before if now.get(package) != before[package]}

    @rule(name=st.sampled_from(["containerd.io", "iptables"]))
    def somebody_upgrades_a_dependency(self, name: str) -> None:
        """As an upgrade of the whole system does."""
        package = self.programs.load().packages.get(name)
        if package is not None and package.status == "installed" and not package.held:
            self.programs.change(lambda machine: setattr(machine.packages[name], "version", "9"))
            self.theirs.packages.add(name)

    @rule()
    def somebody_installs_what_needs_iptables(self) -> None:
        """A package that keeps another from going."""

        def do(machine: Machine) -> None:
            if "iptables" in machine.packages and machine.packages["iptables"].status == "installed":
                machine.packages["firewall"] = Package("1")

        self.programs.change(do)
        self.theirs.packages |= {"firewall", "iptables"}

    @rule(name=st.sampled_from(HELD), held=st.booleans())
    def somebody_holds_or_lets_go(self, name: str, held: bool) -> None:
        """A hold that is set or lost behind our back."""
        if name in self.programs.load().packages:
            self.programs.change(lambda machine: setattr(machine.packages[name], "held", held))
            self.theirs.packages.add(name)

    @rule(path=st.sampled_from([None, THEIRS, FILES[1]]), debug=st.booleans())
    def somebody_edits_daemon_json(self, path: str | None, debug: bool) -> None:
        """With or without a runtime of our name."""
        self._write(DAEMON, _entry(path, **({"debug": True} if debug else {})) if path else json.dumps({"debug": True}))

    @rule(path=st.sampled_from([DAEMON, SOURCE, MODULES, *DROP_INS]))
    def somebody_removes_a_file(self, path: str) -> None:
        """Ours or not."""
        if (self.root / path.lstrip("/")).is_file():
            (self.root / path.lstrip("/")).unlink()
            self.theirs.paths.add(path)

    @rule(path=st.sampled_from([SOURCE, MODULES, *DROP_INS]))
    def somebody_edits_a_file_of_ours(self, path: str) -> None:
        """By a line at its end."""
        file = self.root / path.lstrip("/")
        if file.is_file():
            self._write(path, f"{file.read_text()}# mine\n")

    @rule()
    def somebody_adds_a_file_to_the_release(self) -> None:
        """Which is removed as a whole."""
        if (self.root / "opt/kata").is_dir():
            self._write(ADDED, "mine")

    @rule(path=st.sampled_from([SOURCE, MODULES, DAEMON]))
    def somebody_puts_a_folder_in_a_file_s_place(self, path: str) -> None:
        """A verb that needs the file refuses then; `restore` leaves it."""
        file = self.root / path.lstrip("/")
        if file.is_file():
            file.unlink()
            file.mkdir()
            self.theirs.paths.add(path)

    @rule(module=st.sampled_from(["tun", "vhost_vsock"]), loaded=st.booleans())
    def somebody_loads_or_unloads_a_module(self, module: str, loaded: bool) -> None:
        """As other programs do."""

        def do(machine: Machine) -> None:
            machine.modules = [*(other for other in machine.modules if other != module), *([module] if loaded else [])]

        self.programs.change(do)
        self.theirs.modules.add(module)

    @rule()
    def the_index_is_lost(self) -> None:
        """`apt-get clean` and an empty list of packages."""
        self.programs.change(lambda machine: setattr(machine, "index", False))

    @rule()
    @precondition(lambda self: hasattr(self, "programs") and self.programs.load().packages)
    def power_fails_while_dpkg_works(self) -> None:
        """Packages are unpacked and not configured."""

        def do(machine: Machine) -> None:
            for name in PACKAGES:
                if name in machine.packages and machine.packages[name].status == "installed":
                    machine.packages[name].status = "half-configured"
                    self.theirs.packages.add(name)

        self.programs.change(do)

    # What breaks, and is cured.

    @rule(kind=st.sampled_from(["apt", "repository", "service", *sorted(LASTING)]))
    def something_breaks(self, kind: str) -> None:
        """dpkg fails, the repository does not answer, no service starts, apt stays locked, or the disk cannot be written."""
        self.programs.change(lambda machine: machine.broken.append(kind))

    @rule()
    def cure(self) -> None:
        """All of that is repaired, and folders that took the place of files are gone."""
        self.programs.change(lambda machine: machine.broken.clear())
        self.failed_restores = 0
        for path in (SOURCE, MODULES, DAEMON):
            if (self.root / path.lstrip("/")).is_dir():
                (self.root / path.lstrip("/")).rmdir()
                self.theirs.paths.add(path)

    # What must hold.

    def _may_fail(self, result: Ended) -> bool:
        """Whether an `up` that failed had a reason, and gave it."""
        error = result.document.get("error")
        assert isinstance(error, dict) and error["remedy"], result
        folder = any((self.root / path.lstrip("/")).is_dir() for path in (SOURCE, MODULES, DAEMON))
        return bool(self.programs.load().broken) or (folder and error["code"] == "file-invalid")

    def _check(self, desired: Settings) -> None:
        """The node is what the settings say, and nothing of earlier ones is left."""
        machine = self.programs.load()
        for name in PACKAGES:
            package = machine.packages[name]
            assert (package.version, package.status) == (desired.docker, "installed")
        assert all(machine.packages[name].held for name in HELD)
        assert machine.dockerd == version_number(desired.docker) and "kata" in machine.runtimes
        text = (self.root / DAEMON.lstrip("/")).read_text()
        path = daemon_json.config_path(text, "kata")
        ours = {FILES[0], FILES[1], IN_RELEASE}
        if desired.path is not None:
            assert path == desired.path
        elif DAEMON not in self.theirs.paths and str(path) not in self.before.files.get(DAEMON, ""):
            assert path not in ours, f"{path} is one of earlier settings"
        read = path or FILES[2]
        drop_in = f"{Path(read).parent}/config.d/60-kata-nodes.toml"
        assert " ".join([BASE, *desired.params]) in (self.root / drop_in.lstrip("/")).read_text()
        now = tree(self.root)
        for other in DROP_INS[:-1]:  # what lies in our own release goes with it
            if other != drop_in and other not in self.theirs.paths:
                assert now.get(other) == self.before.files.get(other), f"{other} is one of earlier settings"
        assert {"kvm_amd", "vhost_vsock", "vhost_net", "tun"} <= {*machine.modules}

    def _check_restored(self, kept: list[str], before_restore: Snapshot) -> None:
        """Everything is as before us, except for what somebody else touched, and what is named."""
        now = Snapshot.of(self.programs)
        assert ADDED not in before_restore.files or ADDED in now.files
        named = " ".join([*kept, *self.left])
        for path in {*self.before.files, *now.files}:
            same = self.before.files.get(path) == now.files.get(path)
            below = any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in self.theirs.paths)
            assert same or path in self.theirs.paths or below or f"{path}:" in named or "/opt/kata:" in named, (path, kept)
        for path in {SOURCE, MODULES, *DROP_INS} & now.files.keys() - self.before.files.keys():
            assert f"{path}:" in named or (path.startswith("/opt/kata") and "/opt/kata:" in named), (path, kept)
        for name in {*self.before.machine.packages, *now.machine.packages}:
            was, is_now = self.before.machine.packages.get(name), now.machine.packages.get(name)
            if was is not None and is_now is not None and was.status == "half-configured":
                was.status = is_now.status  # dpkg ends what it had begun before us
            if was is not None and is_now is not None and was.status == is_now.status == "config-files":
                continue
            assert was == is_now or name in self.theirs.packages or f"package {name} " in named or "packages:" in named, (
                name, was, is_now, kept,
            )  # fmt: skip
            if is_now is not None and is_now.held:
                assert name in self.theirs.packages or (was is not None and was.held), f"{name} is still held by us"
        assert {*now.machine.modules} - {*self.before.machine.modules} <= self.theirs.modules
        touched = self.theirs.packages or self.theirs.paths or self.failed_restores or before_restore.machine.broken
        if (
            not touched and "/opt/kata" not in self.before.files
        ):  # a release that stayed for the sake of an edit is named each time
            assert kept == []


def _journal_of(path: str) -> str:
    """The journal that holds what is done at a path, and the folders on the way to it."""
    for journal, paths in {"docker": (DAEMON, SOURCE), "preflight": (MODULES,)}.items():
        if any(f"{file}/".startswith(f"{path}/") for file in paths):
            return journal
    return "kata"


def _entry(path: str, **fields: object) -> str:
    options = {"options": {"ConfigPath": path}}
    return json.dumps({**fields, "runtimes": {"kata": {"runtimeType": daemon_json.RUNTIME_TYPE, **options}}})


def walk(examples: int, steps: int, derandomize: bool) -> None:
    """Walk, and print how far."""
    begin = dict(COUNTS)
    phases = (Phase.generate,) if derandomize else (Phase.generate, Phase.shrink)  # a failure in the short form is quick to see
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=derandomize, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True, phases=phases,
    )  # fmt: skip
    try:
        run_state_machine_as_test(Walk, settings=chosen)
    finally:
        print({key: COUNTS[key] - begin[key] for key in COUNTS})


def test_every_walk_leads_back() -> None:
    walk(30, 14, derandomize=True)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_every_long_walk_leads_back() -> None:
    walk(400, 30, derandomize=False)


IN_OUR_RELEASE = Settings(OLD, True, IN_RELEASE, (SEED,))
PINNED = Settings(OLD, False, None, (SEED,))
FAILED_ONCE: dict[str, Callable[[Walk], None]] = {}


def failed_once(walk: Callable[[Walk], None]) -> None:
    """Keep a walk that found a fault; its name says what was lost."""
    FAILED_ONCE[walk.__name__] = walk


@failed_once
def dockerd_had_not_read_its_file(node: Walk) -> None:
    node.begin(OLD, "theirs", False)
    node.apply(PINNED)


@failed_once
def upgrade_by_hand(node: Walk) -> None:
    node.begin(None, None, False)
    node.apply(PINNED)
    node.somebody_installs_docker(NEW)
    node.restore()


@failed_once
def folder_in_the_source_s_place(node: Walk) -> None:
    node.begin(NEW, None, False)
    node.apply(PINNED)
    node.the_index_is_lost()
    node.somebody_puts_a_folder_in_a_file_s_place(SOURCE)
    node.restore()
    assert not any(package.held for package in node.programs.load().packages.values())


@failed_once
def folder_of_an_open_journal_counted_as_theirs(node: Walk) -> None:
    node.begin(NEW, None, True)
    node.apply(IN_OUR_RELEASE)
    node.restore_with_a_fault(Fault("signal", 24))
    assert journals(node.root) == ["preflight"]


@failed_once
def second_restore_removed_an_edited_file_of_the_release(node: Walk) -> None:
    node.begin(NEW, None, True)
    node.apply(IN_OUR_RELEASE)
    node.somebody_edits_a_file_of_ours(DROP_INS[-1])
    node.restore()
    node.apply(IN_OUR_RELEASE)
    node.restore()
    assert (node.root / DROP_INS[-1].lstrip("/")).read_text().endswith("# mine\n")


@failed_once
def restore_removed_what_somebody_added_to_the_release(node: Walk) -> None:
    node.begin(NEW, None, True)
    node.apply(IN_OUR_RELEASE)
    node.somebody_adds_a_file_to_the_release()
    node.restore()
    node.apply(PINNED)
    node.restore()


@failed_once
def restore_left_a_dead_path_of_ours_in_a_file_that_somebody_edited(node: Walk) -> None:
    node.begin(None, None, False)
    node.apply(PINNED)
    node.somebody_edits_daemon_json(path=None, debug=False)
    node.apply(IN_OUR_RELEASE)
    node.restore()
    text = (node.root / DAEMON.lstrip("/")).read_text()
    assert json.loads(text)["debug"] and daemon_json.config_path(text, "kata") is None
    node.apply(PINNED)


@failed_once
def restore_that_failed_named_alone_what_it_left(node: Walk) -> None:
    node.begin(None, None, False)
    node.apply(PINNED)
    node.somebody_edits_a_file_of_ours(MODULES)
    node.something_breaks("apt")
    node.restore()
    assert any(line.startswith(f"{MODULES}: edited by somebody since") for line in node.left)
    node.restore()


@failed_once
def a_version_of_ours_was_forgotten_when_the_way_back_to_it_could_not_be_recorded(node: Walk) -> None:
    node.begin(None, None, False)
    node.apply(Settings(OLD, False, FILES[0], (SEED,)))
    node.apply_with_faults([(Settings(NEW, False, FILES[1], (SEED,)), "docker", Fault("full", 4, "/"))])
    assert node.programs.load().packages["docker-ce"].version == OLD
    node.apply(PINNED)
    node.restore()


@failed_once
def somebody_s_own_path_was_lost_in_a_file_that_they_edited(node: Walk) -> None:
    node.begin(NEW, None, False)
    node.apply(IN_OUR_RELEASE)
    node.somebody_edits_daemon_json(path=THEIRS, debug=True)
    node.apply(IN_OUR_RELEASE)
    node.restore()
    assert daemon_json.config_path((node.root / DAEMON.lstrip("/")).read_text(), "kata") == THEIRS


@pytest.mark.parametrize("name", FAILED_ONCE)
def test_walks_that_failed_once_lead_back(name: str) -> None:
    node = Walk()
    try:
        FAILED_ONCE[name](node)
    finally:
        node.teardown()


@pytest.mark.parametrize("kind", sorted(DISK))
def test_a_disk_that_fails_at_any_write_is_reported_and_the_next_run_succeeds(kind: str) -> None:
    """Whichever write comes first that fails, the roll-back fails as well, and once more when the transaction ends."""
    for write in range(1, 60, 4):
        node = Walk()
        try:
            node.begin(NEW, None, False)
            node.apply_with_faults([(PINNED, "docker", Fault(kind, write, "/"))])
            node.cure()
            node.apply(PINNED)
            node.restore()
        finally:
            node.teardown()


@pytest.mark.parametrize("kind", sorted(DISK))
def test_a_disk_that_fails_at_any_write_of_restore_is_reported_and_the_next_run_succeeds(kind: str) -> None:
    for write in range(1, 40, 2):
        node = Walk()
        try:
            node.begin(None, None, False)
            node.apply(PINNED)
            node.restore_with_a_fault(Fault(kind, write, "/"))
            node.cure()
            node.restore()
        finally:
            node.teardown()
