"""A node that reports what is not true is caught by name.

Lost if these fail: a node that reports the pinned Docker and runs another, holds that are gone, parameters that another file
overrides, or an entry that starts runc, and a verb that calls it done.

Other lies are caught elsewhere: a runtime that is really runc and parameters that the guest never got, by `test_ladder` (from
readings) and `test_container_proof` (in real containers); a transcript of an earlier proof by `test_ladder`; evidence of an
earlier boot, node or setting by `tests/clusterkit/test_proof_rules.py`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodekit.commands.docker import TELLING_RECORD
from nodekit.host.journal import recorded
from nodekit.rules.docker.contradictions import contradictions
from nodekit.rules.docker.docker_packages import HELD, PackageState
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.fast_node import Ended, Fault, Machine, Programs, lay_out, perform, version_number
from tests.nodekit.kata_files import put
from tests.nodekit.test_walks import DAEMON, FILES, LIMIT, SEED, Settings

pytestmark = pytest.mark.slow

PINNED = Settings(OLD, False, None, (SEED,))


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """A node that a stack has brought to its pin."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    for verb in ("preflight", "docker", "kata"):
        assert perform(programs.root, verb, PINNED.state(verb)).code == 0
    yield programs


def again(programs: Programs, verb: str) -> Ended:
    """The verb, with the earlier settings."""
    return perform(programs.root, verb, PINNED.state(verb))


def contradictions_of(programs: Programs) -> list[str]:
    """What `status` names."""
    docker = perform(programs.root, "status", {}).document["docker"]
    assert isinstance(docker, dict)
    return list(docker["contradictions"])


def test_a_node_as_its_stack_left_it_contradicts_nothing(programs: Programs) -> None:
    assert contradictions_of(programs) == []


def runs_another(machine: Machine) -> None:
    machine.dockerd = version_number(NEW)


def test_a_dockerd_that_runs_another_version_than_its_package_is_named_and_restarted(programs: Programs) -> None:
    programs.change(runs_another)
    (line,) = contradictions_of(programs)
    assert line.startswith(f"dockerd runs {version_number(NEW)}, and its package docker-ce is {OLD}")
    result = again(programs, "docker")
    assert f"dockerd answers version {version_number(NEW)}, expected {version_number(OLD)}" in result.output
    assert (result.document["changed"], result.document["version"]) == (True, version_number(OLD))
    assert (contradictions_of(programs), programs.load().dockerd) == ([], version_number(OLD))


@pytest.mark.parametrize("name", HELD)
def test_a_hold_removed_behind_our_back_is_named_and_set_again(programs: Programs, name: str) -> None:
    programs.change(lambda machine: setattr(machine.packages[name], "held", False))
    (line,) = contradictions_of(programs)
    assert line.startswith(f"{name} is no longer held")
    result = again(programs, "docker")
    assert f"Holding {name}" in result.output and result.document["changed"] is True
    assert (contradictions_of(programs), programs.load().packages[name].held) == ([], True)


def test_a_dockerd_that_forgot_the_runtime_of_its_file_is_named_and_reloaded(programs: Programs) -> None:
    programs.change(lambda machine: machine.runtimes.remove("kata"))
    (line,) = contradictions_of(programs)
    assert line.startswith("daemon.json names the runtime kata, and dockerd does not know it")
    assert "does not know the runtime kata" in again(programs, "docker").output
    assert (contradictions_of(programs), programs.load().runtimes) == ([], ["kata"])


def test_a_dockerd_that_has_not_read_its_new_file_is_told_until_it_has(programs: Programs) -> None:
    state = Settings(OLD, False, FILES[1], (SEED,)).state("docker")
    file = programs.root / DAEMON.lstrip("/")
    for number in range(1, 20):
        perform(programs.root, "docker", state, Fault("kill", number))
        if FILES[1] in file.read_text():
            break
    assert TELLING_RECORD in recorded(programs.root, "docker")  # killed between the file and the service
    programs.change(lambda machine: setattr(machine, "broken", ["service"]))
    assert perform(programs.root, "docker", state).code == 1
    programs.change(lambda machine: setattr(machine, "broken", []))
    result = perform(programs.root, "docker", state)
    assert "dockerd: reload-or-restart" in result.output and result.document["changed"] is True
    assert perform(programs.root, "docker", state).document["changed"] is False


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("--config-file=/home/me/.config/docker/daemon.json", True),
        ("-H fd:// \\\n  --config-file '/opt/docker/daemon.json'", True),
        ("--config-file /etc/docker/daemon.json -H fd://", False),
        ("--config-file=$FILE", False),
        ("-H fd:// --containerd=/run/containerd/containerd.sock", False),
    ],
)
def test_a_dockerd_that_is_started_with_another_file_is_told_before_anything_is_changed(
    programs: Programs, words: str, refused: bool
) -> None:
    unit = f"[Service]\nExecStart=\nExecStart=/usr/bin/dockerd {words}\n"
    put(programs.root, "/etc/systemd/system/docker.service.d/override.conf", unit)
    state = {**PINNED.state("docker"), "version": version_number(NEW)} if refused else PINNED.state("docker")
    before = programs.load()
    result = perform(programs.root, "docker", state)
    assert result.code == (1 if refused else 0), result.output
    if refused:
        error = result.document["error"]
        assert isinstance(error, dict) and error["code"] == "file-invalid" and "/daemon.json" in str(error["message"])
        assert "--config-file" in str(error["remedy"]) and programs.load() == before


def test_an_entry_of_our_name_that_starts_runc_is_given_the_shim_again(programs: Programs) -> None:
    file = programs.root / DAEMON.lstrip("/")
    file.write_text(json.dumps({"runtimes": {"kata": {"path": "runc"}}}))
    assert again(programs, "docker").document["changed"] is True
    assert json.loads(file.read_text())["runtimes"]["kata"]["runtimeType"] == "io.containerd.kata.v2"


@pytest.mark.parametrize("value", ["quiet", f"quiet {LIMIT}", ""])
def test_a_drop_in_that_overrides_ours_later_is_refused_by_its_name(programs: Programs, value: str) -> None:
    theirs = programs.root / "etc/kata-containers/config.d/99-theirs.toml"
    theirs.write_text(f'[hypervisor.qemu]\nkernel_params = "{value}"\n')
    result = again(programs, "kata")
    error = result.document["error"]
    assert result.code == 1 and isinstance(error, dict)
    assert "/etc/kata-containers/config.d/99-theirs.toml" in error["message"]


INSTALLED = {name: PackageState(True, "installed", "5:27.5.1-1~debian.13~trixie") for name in HELD}
CASES: dict[str, tuple[Callable[[], list[str]], int]] = {
    "a dockerd that does not answer contradicts nothing": (lambda: contradictions(None, (), INSTALLED, HELD, ("kata",)), 0),
    "a release candidate is its package's": (
        lambda: contradictions("28.0.0-rc.1", (), {"docker-ce": PackageState(True, "installed", "5:28.0.0~rc.1-1~x")}, (), ()),
        0,
    ),
    "a hold that was never ours": (
        lambda: contradictions("27.5.1", (), {"docker-ce": PackageState(False, "installed", "5:27.5.1-1~x")}, (), ()),
        0,
    ),
    "each lie has its line": (
        lambda: contradictions(
            "27.5.1", (), {"docker-ce": PackageState(False, "installed", "5:28.5.2-1~x")}, ("docker-ce",), ("kata",)
        ),
        3,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_true_together_is_no_contradiction(name: str) -> None:
    measure, count = CASES[name]
    assert len(measure()) == count
