"""A kill between any two effects does no harm: the verbs without packages, in throw-away roots, and the proof that no effect was
forgotten. Those with packages are killed on a real Debian, in `test_debian_node`."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import ANY

import pytest

from nodekit.commands import kata as kata_verb
from nodekit.commands import preflight, restore
from nodekit.host import virtualization
from nodekit.host.failpoints import POINTS, VARIABLE, reach
from nodekit.rules.docker.docker_packages import PACKAGES
from nodekit.rules.kata import kernel_modules
from nodekit.rules.kata.kata_layout import MANAGED_MARK
from tests.nodekit import forked
from tests.nodekit.docker_node import NEW, Daemon, Node, Repository, desired, make_root
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER, archive, served
from tests.nodekit.test_preflight import MODPROBE
from tests.serving import running

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
STATE = "var/lib/kata-nodes"
SEED, LIMIT = "user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"


def state(parameters: list[str], **fields: object) -> dict[str, object]:
    """A desired state for the verb `kata`."""
    fixed = {"node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "install": None, "configPath": None}
    return {**fixed, "kernelParams": parameters, **fields}


def tree(root: Path) -> dict[str, str]:
    """Every file, link and folder below the root with mode, owner and content, without the lock."""
    entries = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes().hex() if path.is_file() else "folder"
        entries[str(path.relative_to(root))] = f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {content}"
    return {name: content for name, content in entries.items() if name != "run/kata-nodes.lock"}


@dataclass(frozen=True)
class Case:
    """A verb on a root that `prepare` has laid out; `points` are those that its run must come to."""

    verb: str
    prepare: Callable[[Path, dict[str, object]], None]
    state: Callable[[dict[str, object]], dict[str, object]]
    points: tuple[str, ...]


def empty(root: Path, newer: dict[str, object]) -> None:
    """A root that knows no Kata."""
    (root / "opt").mkdir()
    (root / "run").mkdir()
    (root / "usr/local/bin").mkdir(parents=True)


def installed(root: Path, newer: dict[str, object]) -> None:
    """A root with release 3.32.0 and parameters that were changed once."""
    empty(root, newer)
    with served(archive()) as (address, sha256):
        for parameters in ([SEED], [SEED, "quiet"]):
            kata_verb.run(state(parameters, install={"any": {"address": address, "sha256": sha256}}), root)


def incomplete(root: Path, newer: dict[str, object]) -> None:
    """A root whose release has lost its shim."""
    empty(root, newer)
    kata_verb.run(state([SEED, LIMIT], **newer), root)
    (root / "opt/kata/bin/containerd-shim-kata-v2").unlink()


def managed(root: Path, newer: dict[str, object]) -> None:
    """A root that kata-deploy has laid out."""
    empty(root, newer)
    file = root / FOLDER / "runtimes/qemu/configuration-qemu.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# {MANAGED_MARK}\n{CONFIG}")


def old(root: Path, newer: dict[str, object]) -> None:
    """A root with a release that reads no drop-ins, whose file holds a parameter of ours already."""
    empty(root, newer)
    file = root / "etc/kata-containers/configuration.toml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG)
    file.chmod(0o640)
    (root / "opt/kata").mkdir()
    (root / "opt/kata/VERSION").write_text("2.4.3\n")
    kata_verb.run(state(["quiet"], version="2.4.3"), root)


WRITES = ("lock-taken", "content-written", "content-named", "content-placed", "change-done")
RELEASE = ("archive-downloaded", "archive-member-unpacked", "archive-unpacked", "archive-prepared", "archive-placed")
CASES = {
    "a release is installed": Case(
        "kata", empty, lambda newer: state([SEED, LIMIT], **newer), (*WRITES[:1], *RELEASE, "folder-made", "leftovers-removed")
    ),
    "a release takes the place of another": Case(
        "kata", installed, lambda newer: state([SEED, LIMIT], **newer), ("lock-taken", *RELEASE, "leftovers-removed")
    ),
    "a file of a release is put back": Case(
        "kata",
        incomplete,
        lambda newer: state([SEED, LIMIT], **newer),
        ("archive-downloaded", "archive-member-unpacked", "archive-file-returned", "leftovers-removed"),
    ),
    "a drop-in is written": Case(
        "kata",
        managed,
        lambda _: state([SEED, LIMIT], configPath=f"/{FOLDER}/runtimes/qemu/configuration-qemu.toml"),
        (*(point for point in WRITES if point != "content-named"), "folder-made"),
    ),
    "a file is edited": Case("kata", old, lambda _: state([SEED, LIMIT], version="2.4.3"), WRITES),
    "a release is removed": Case(
        "restore",
        installed,
        lambda _: {"node": "n"},
        ("lock-taken", "file-removed", "folder-removed", "files-restored", "archive-displaced", "leftovers-removed"),
    ),
}
IN_PLACE = ("module-loaded", "module-unloaded", "runtime-restarted")
ELSEWHERE = (*IN_PLACE, *{point for case in CASES.values() for point in case.points})
"""The points at which this file kills, and test_handler.py."""


@pytest.fixture
def newer() -> Iterator[dict[str, object]]:
    """Release 3.33.0 with another base, and its part of the desired state."""
    text = CONFIG.replace(BASE, "new_base=1").encode()
    shim = {"./opt/kata/bin/containerd-shim-kata-v2": b"#!/bin/sh\nexit 0\n"}
    with served(archive("3.33.0", {f"./{FOLDER}/configuration-qemu.toml": text, **shim})) as (address, sha256):
        yield {"version": "3.33.0", "install": {"any": {"address": address, "sha256": sha256}}}


@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_any_point_is_repaired_by_the_next_run(name: str, tmp_path: Path, newer: dict[str, object]) -> None:
    case = CASES[name]
    first, after_root = tmp_path / "first", tmp_path / "after"
    first.mkdir()
    case.prepare(first, newer)
    before = tree(first)
    shutil.copytree(first, after_root, symlinks=True)
    assert forked.verb(case.verb, after_root, case.state(newer)) == (0, ANY)
    after = tree(after_root)
    assert after != before
    kills = dict.fromkeys(POINTS, 0)
    for point in POINTS:
        for number in itertools.count(1):
            root = tmp_path / "killed"
            shutil.copytree(first, root, symlinks=True)
            code, log = forked.verb(case.verb, root, case.state(newer), **{VARIABLE: f"{point}:{number}"})
            if code != 0:
                assert code == -signal.SIGKILL, log
                kills[point] += 1
                nothing_half_done(before, tree(root), after, f"{point}:{number}")
                assert forked.verb(case.verb, root, case.state(newer)) == (0, ANY)
            assert tree(root) == after, f"after a kill at {point}:{number}"
            shutil.rmtree(root)
            if code == 0:
                break
    print(name, sum(kills.values()), {point: number for point, number in kills.items() if number})
    assert all(kills[point] for point in case.points), kills


def nothing_half_done(before: dict[str, str], now: dict[str, str], after: dict[str, str], where: str) -> None:
    """Every path is as before or as after, /opt/kata as a whole; only our own folder holds anything else."""
    for path, content in now.items():
        if path.startswith(STATE):
            inside = path.removeprefix(STATE).lstrip("/").split("/")[0]
            assert inside in ("", "kata", "kata.json", "pending"), f"{path} at {where}"
            if inside == "kata.json":
                json.loads((bytes.fromhex(content.rsplit(" ", 1)[1])).decode())
        else:
            assert content in (before.get(path), after.get(path)), f"{path} is half done at {where}"
    lost = {path for path in before.keys() & after.keys() - now.keys() if not path.startswith(STATE)}
    assert not lost, where
    if "opt/kata/.kata-nodes.json" in before.keys() | after.keys():
        assert release(now) in (release(before), release(after)), f"a mixed release at {where}"


def release(entries: dict[str, str]) -> dict[str, str]:
    """What lies below /opt/kata."""
    return {path: content for path, content in entries.items() if path.startswith("opt/kata")}


def on_another_kernel(verb: str, root: Path) -> None:
    """Run preflight or restore with a stand-in for the machine's kernel: this machine's own is not what is tested."""
    virtualization.presence = lambda flag: virtualization.Presence(flag, True, dict.fromkeys(kernel_modules.DEVICES, True))
    virtualization.cpu_flag = lambda: "svm"
    preflight.find_qemu = lambda: None
    {"preflight": preflight, "restore": restore}[verb].run({"node": "n"}, root)


@pytest.mark.parametrize(
    ("verb", "points"),
    [
        ("preflight", ("lock-taken", "module-loaded", "folder-made", "content-written", "content-placed", "change-done")),
        ("restore", ("module-unloaded", "file-removed", "files-restored", "folder-removed")),
    ],
)
def test_a_kill_while_modules_come_and_go_is_repaired_by_the_next_run(verb: str, points: tuple[str, ...], tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "modprobe").write_text(MODPROBE)
    (tools / "modprobe").chmod(0o755)

    def run(root: Path, verb: str, kill_at: str = "") -> int:
        path = f"{tools}:{os.environ['PATH']}"
        environment = {"PATH": path, "MODULES": str(root / "proc/modules"), VARIABLE: kill_at}
        return forked.run(lambda: on_another_kernel(verb, root), environment)[0]

    def fresh(name: str) -> Path:
        root = tmp_path / name
        (root / "etc").mkdir(parents=True)
        (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
        (root / "proc").mkdir()
        (root / "proc/modules").write_text("vhost_net\n")
        if verb == "restore":
            assert run(root, "preflight") == 0
        return root

    assert run(fresh("after"), verb) == 0
    after = tree(tmp_path / "after")
    assert ("etc/modules-load.d/kata-nodes.conf" in after) == (verb == "preflight")
    for point in points:
        for number in itertools.count(1):
            root = fresh(f"{point}-{number}")
            code = run(root, verb, f"{point}:{number}")
            if code == 0:
                assert number > 1, point
                break
            assert code == -signal.SIGKILL
            assert run(root, verb) == 0
            assert tree(root) == after, f"{point}:{number}"


def effects(trace: Path) -> list[str]:
    """The effects between which no failure point lies."""
    lines = trace.read_text().splitlines()
    assert any(line.startswith("point ") for line in lines)
    return [
        f"{line} | {other}"
        for line, other in itertools.pairwise(lines)
        if line.startswith("effect") and other.startswith("effect")
    ]


def audited(verb: str, root: Path, state: dict[str, object], trace: Path) -> list[str]:
    """Pairs of effects of a run without a point between them."""
    argv = [sys.executable, str(Path(__file__).parent / "audited.py"), str(trace), verb, str(root)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(argv, input=json.dumps(state), capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return effects(trace)


@pytest.mark.parametrize("name", CASES)
def test_a_point_lies_between_any_two_effects(name: str, tmp_path: Path, newer: dict[str, object]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    CASES[name].prepare(root, newer)
    assert audited(CASES[name].verb, root, CASES[name].state(newer), tmp_path / "trace") == []


@pytest.mark.apt
def test_a_point_lies_between_any_two_effects_on_packages(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for name, value in make_root(root).items():
        monkeypatch.setenv(name, value)
    with running(Daemon(root)):
        node = Node(root)
        source = root / "etc/apt/sources.list.d/first.list"
        source.write_text(f"deb [trusted=yes] {repository.address} trixie stable\n")
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        node.install(*(f"{name}={NEW}" for name in PACKAGES))
        source.unlink()
        assert audited("docker", root, desired(repository, configPath="/opt/x.toml"), tmp_path / "docker") == []
        assert audited("restore", root, {"node": "n1"}, tmp_path / "restore") == []


def test_a_point_that_is_not_listed_is_a_fault() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        reach("nowhere")
