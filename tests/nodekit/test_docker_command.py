"""The verb `docker` on nodes that people have left in a state of their own.

Lost if these fail: a node that no run brings to its pin, or another Docker on it that is cut off without a word."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nodekit.host import apt, files
from nodekit.rules.docker.apt_source import SOURCE
from nodekit.rules.docker.docker_packages import HELD
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.fast_node import Machine, Programs, lay_out, perform, tree
from tests.nodekit.test_walks import FILES, SEED, Settings

STATE = Settings(OLD, False, None, (SEED,)).state("docker")


def pinned(tmp_path: Path) -> Programs:
    """A node that a stack has brought to its pin."""
    programs = lay_out(tmp_path / "root", OLD, FILES)
    assert perform(programs.root, "docker", STATE).code == 0
    return programs


def stop(machine: Machine) -> None:
    machine.units["docker.service"] = [False, True]


def unhold(machine: Machine) -> None:
    machine.packages["docker-ce"].held = False


@pytest.mark.parametrize("edits", [(stop,), (stop, unhold)], ids=["stopped", "stopped-and-unheld"])
def test_a_dockerd_that_somebody_stopped_is_started(tmp_path: Path, edits: tuple[Callable[[Machine], None], ...]) -> None:
    programs = pinned(tmp_path)
    for edit in edits:
        programs.change(edit)
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == 0, ended.document
    machine = programs.load()
    assert machine.dockerd == "27.5.1" and all(machine.packages[name].held for name in HELD)


def test_a_docker_that_no_package_brought_keeps_its_socket(tmp_path: Path) -> None:
    """As that of a snap: docker.socket would take /run/docker.sock, and nobody would reach its containers any more."""
    programs = lay_out(tmp_path / "root", None, FILES)
    before = tree(programs.root)
    foreign = programs.load()
    foreign.dockerd, foreign.units = "28.4.0", {"docker.service": [True, True]}
    programs.file.write_text(foreign.text())
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == 1 and ended.document["error"]["code"] == "docker-foreign", ended.document  # type: ignore[index]
    assert (tree(programs.root), programs.load()) == (before, foreign)


def outdated(machine: Machine) -> None:
    machine.dockerd = "28.5.2"


def forbid_starts(machine: Machine) -> None:
    machine.broken.append("policy")


@pytest.mark.parametrize(("version", "edit"), [(OLD, outdated), (NEW, forbid_starts)], ids=["outdated", "policy-rc.d"])
def test_a_dockerd_that_is_older_or_newer_than_its_package_is_restarted_and_not_only_reloaded(
    tmp_path: Path, version: str, edit: Callable[[Machine], None]
) -> None:
    """As where policy-rc.d forbids the scripts of packages to restart a service: golden images often have one left over."""
    programs = lay_out(tmp_path / "root", version, FILES)
    programs.change(edit)
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == 0, ended.document
    assert (programs.load().dockerd, programs.load().runtimes) == ("27.5.1", ["kata"])
    assert "dockerd: restart: done" in ended.output


def test_a_restore_restarts_a_dockerd_whose_package_went_back(tmp_path: Path) -> None:
    programs = lay_out(tmp_path / "root", NEW, FILES)
    programs.change(forbid_starts)
    assert perform(programs.root, "docker", STATE).code == 0
    ended = perform(programs.root, "restore", {"node": "n1"})
    assert ended.code == 0, ended.document
    machine = programs.load()
    assert (machine.packages["docker-ce"].version, machine.dockerd, machine.runtimes) == (NEW, "28.5.2", [])


def test_a_dockerd_whose_package_goes_away_does_not_run_on(tmp_path: Path) -> None:
    """Where policy-rc.d forbids the scripts of packages to stop a service, its process and its socket outlive the package."""
    programs = lay_out(tmp_path / "root", None, FILES)
    programs.change(forbid_starts)
    assert perform(programs.root, "docker", STATE).code == 0
    assert programs.load().dockerd == "27.5.1"
    ended = perform(programs.root, "restore", {"node": "n1"})
    assert ended.code == 0 and "unit docker.service" in ended.document["restored"], ended.document  # type: ignore[operator]
    machine = programs.load()
    assert (machine.packages, machine.units, machine.dockerd) == ({}, {}, None)


@pytest.mark.parametrize(
    ("broken", "message"), [("mask", "docker.service is masked"), ("systemd", "has not been booted with systemd")]
)
def test_a_dockerd_that_nothing_could_start_again_is_left_as_it_is(tmp_path: Path, broken: str, message: str) -> None:
    """Lost if this fails: Docker goes down to its pin and up again, and its containers stop, on a node that can only fail."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    programs.change(lambda machine: machine.broken.append(broken))
    before = (programs.load(), tree(programs.root))
    ended = perform(programs.root, "docker", STATE)
    error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
    assert error["code"] == "docker-unreachable" and message in error["message"], error
    assert (programs.load(), tree(programs.root)) == before
    assert "Installing" not in ended.output and "containers stop" not in ended.output


UNIT = "[Service]\nExecStart=/usr/bin/dockerd {}--containerd=/run/containerd/containerd.sock\n"


@pytest.mark.parametrize(
    ("options", "file", "refused"),
    [
        ("-H tcp://0.0.0.0:2375 ", None, "tcp://0.0.0.0:2375 alone (ExecStart of docker.service)"),
        ("--host=unix:///srv/docker.sock -H=tcp://::1 ", None, "unix:///srv/docker.sock, tcp://::1 alone"),
        ("", {"hosts": ["tcp://0.0.0.0:2376"]}, "tcp://0.0.0.0:2376 alone (hosts of /etc/docker/daemon.json)"),
        ("", {"hosts": ["tcp://0.0.0.0:2376", "unix:///var/run/docker.sock"]}, None),
        ("-H fd:// ", None, None),
        ("-Hunix:// ", None, None),
        ("$DOCKER_OPTS -H tcp://0.0.0.0:2375 ", None, None),
        ("", None, None),
    ],
)
def test_a_dockerd_that_does_not_listen_where_it_is_asked_is_left_as_it_is(
    tmp_path: Path, options: str, file: dict[str, object] | None, refused: str | None
) -> None:
    programs = lay_out(tmp_path / "root", NEW, FILES)
    (programs.root / "etc/systemd/system").mkdir(parents=True)
    (programs.root / "etc/systemd/system/docker.service").write_text(UNIT.format(options))
    (programs.root / "var").mkdir(exist_ok=True)
    (programs.root / "var/run").symlink_to("/run")
    (programs.root / "etc/docker").mkdir()
    if file is not None:
        (programs.root / "etc/docker/daemon.json").write_text(json.dumps(file))
    unheard = programs.load()
    unheard.dockerd = None
    programs.file.write_text(unheard.text())
    before = tree(programs.root)
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == int(refused is not None), ended.document
    if refused is not None:
        error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
        assert error["code"] == "docker-unreachable" and refused in error["message"], error
        assert (tree(programs.root), programs.load()) == (before, unheard)


@pytest.mark.parametrize(
    ("options", "file", "message"),
    [
        ("--config-file /etc/docker/mine.json", None, "--config-file /etc/docker/mine.json, so it does not read"),
        ("-H fd://", {"hosts": ["unix:///run/docker.sock"]}, "both as a flag and in the configuration file: hosts"),
        ("--firewall-backend=nftables", None, "--firewall-backend, which Docker 27.5.1 does not know"),
        ("--debug", None, None),
    ],
)
def test_options_that_a_unit_takes_from_a_variable_count_like_those_in_it(
    tmp_path: Path, options: str, file: dict[str, object] | None, message: str | None
) -> None:
    """As many units do, by DOCKER_OPTS in /etc/default/docker. Lost if this fails: containers stop for a run that fails."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    texts = {
        "etc/systemd/system/docker.service": "[Service]\nEnvironmentFile=-/etc/default/docker\n"
        "ExecStart=/usr/bin/dockerd $DOCKER_OPTS\n",
        "etc/default/docker": f'# those of this machine\nDOCKER_OPTS="{options}"\n',
        "etc/docker/daemon.json": json.dumps(file or {}),
    }
    for name, text in texts.items():
        (programs.root / name).parent.mkdir(parents=True, exist_ok=True)
        (programs.root / name).write_text(text)
    before, files_before = programs.load(), tree(programs.root)
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == int(message is not None), ended.document
    if message is not None:
        error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
        assert error["code"] == "file-invalid" and message in error["message"], error
        assert "Installing" not in ended.output and programs.load().dockerd == before.dockerd
        assert tree(programs.root) == files_before


@pytest.mark.parametrize(
    ("version", "options", "file", "message"),
    [
        (
            NEW,
            "-H fd:// ",
            {"hosts": ["unix:///run/docker.sock"]},
            "specified both as a flag and in the configuration file: hosts",
        ),
        (
            OLD,
            "-H fd:// ",
            {"hosts": ["unix:///run/docker.sock"]},
            "specified both as a flag and in the configuration file: hosts",
        ),
        (NEW, "-H fd:// ", {"misspelt": True}, "don't match any configuration option: misspelt"),
        (NEW, "-H $HOST ", {"hosts": ["unix:///run/docker.sock"]}, None),
        (NEW, "-H fd:// ", {"debug": True, "api-cors-header": "*"}, None),
    ],
)
def test_a_docker_that_could_not_start_again_is_not_stopped(
    tmp_path: Path, version: str, options: str, file: dict[str, object], message: str | None
) -> None:
    """Lost if this fails: a mistake in daemon.json since its last start costs the node its containers, at the pin and on the way
    back."""
    programs = lay_out(tmp_path / "root", version, FILES)
    (programs.root / "etc/systemd/system").mkdir(parents=True)
    (programs.root / "etc/systemd/system/docker.service").write_text(UNIT.format(options))
    (programs.root / "etc/docker").mkdir()
    (programs.root / "etc/docker/daemon.json").write_text(json.dumps(file))
    before, files_before = programs.load(), tree(programs.root)
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == int(message is not None), ended.document
    if message is not None:
        error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
        assert error["code"] == "file-invalid" and message in error["message"], error
        assert "Installing" not in ended.output and "containers stop" not in ended.output
        machine = programs.load()
        assert (machine.packages["docker-ce"].version, machine.dockerd) == (version, before.dockerd)
        assert tree(programs.root) == files_before


def test_a_check_says_that_dockerd_would_not_start_with_what_somebody_wrote(tmp_path: Path) -> None:
    """Lost if this fails: a check promises that an `up` puts a file right, and the `up` refuses it."""
    programs = pinned(tmp_path)
    (programs.root / "proc/sys/kernel/random").mkdir(parents=True)
    (programs.root / "proc/sys/kernel/random/boot_id").write_text("a-boot\n")
    (programs.root / "etc/docker/daemon.json").write_text('{"misspelt": true}')
    ended = perform(programs.root, "compare", {"node": "n", "docker": STATE})
    differences: list[dict[str, str]] = ended.document["differences"]  # type: ignore[assignment]
    assert [difference["kind"] for difference in differences] == ["file", "refused"]
    error: dict[str, str] = perform(programs.root, "docker", STATE).document["error"]  # type: ignore[assignment]
    assert error["message"] in differences[1]["what"]


def test_a_check_tells_when_the_file_behind_a_link_was_written(tmp_path: Path) -> None:
    """Lost if this fails: who looks for the cause of a change is told the day on which the link was made."""
    programs = pinned(tmp_path)
    (programs.root / "proc/sys/kernel/random").mkdir(parents=True)
    (programs.root / "proc/sys/kernel/random/boot_id").write_text("a-boot\n")
    file, target = programs.root / "etc/docker/daemon.json", programs.root / "srv/daemon.json"
    file.unlink()
    file.symlink_to("/srv/daemon.json")
    target.write_text("{}")
    os.utime(target, (86400, 86400))
    ended = perform(programs.root, "compare", {"node": "n", "docker": STATE})
    (difference,) = ended.document["differences"]  # type: ignore[misc]
    assert difference["traces"] == ["/srv/daemon.json was last written 1970-01-02 00:00:00 UTC; its owner is user root"]


def test_a_daemon_json_that_the_pinned_docker_does_not_know_is_refused_before_any_package_moves(tmp_path: Path) -> None:
    """Lost if this fails: dockerd does not start after the downgrade, and containers stop, for a key that was there before."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    (programs.root / "etc/docker").mkdir()
    (programs.root / "etc/docker/daemon.json").write_text(json.dumps({"firewall-backend": "nftables", "bip6": "fd00::/64"}))
    before = (programs.load(), tree(programs.root))
    ended = perform(programs.root, "docker", STATE)
    error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
    assert error["code"] == "file-invalid" and "firewall-backend (known from 29.0.0 on)" in error["message"], error
    assert "Remove bip6, firewall-backend from /etc/docker/daemon.json" in error["remedy"]
    assert (programs.load(), tree(programs.root)) == before


STORE = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}


@pytest.mark.parametrize(
    ("info", "file", "refused"),
    [
        ({**STORE, "Containers": 2}, None, True),
        ({**STORE, "Containers": 2}, {"features": {"buildkit": True}}, True),
        ({**STORE, "Containers": 2}, {"features": {"containerd-snapshotter": True}}, False),  # Docker 27 shows them too then
        ({**STORE, "Containers": 2}, {"features": {"containerd-snapshotter": False}}, False),  # somebody has decided
        ({**STORE, "Containers": 0, "Images": 3}, None, False),
        ({"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]], "Containers": 2}, None, False),
        ({"Driver": "overlay2", "DriverStatus": None}, None, False),
    ],
)
def test_containers_that_an_older_docker_would_not_show_are_not_hidden(
    tmp_path: Path, info: dict[str, object], file: dict[str, object] | None, refused: bool
) -> None:
    """Docker 29 keeps them in containerd's store where it was installed afresh; Docker before 29 does not look there."""
    programs = lay_out(tmp_path / "root", NEW, FILES)

    def newest(machine: Machine) -> None:
        machine.packages["docker-ce"].version = "5:29.1.0-1~debian.13~trixie"
        machine.dockerd, machine.info = "29.1.0", info

    programs.change(newest)
    if file is not None:
        (programs.root / "etc/docker").mkdir()
        (programs.root / "etc/docker/daemon.json").write_text(json.dumps(file))
    before, machine = tree(programs.root), programs.load()
    ended = perform(programs.root, "docker", STATE)
    assert ended.code == int(refused), ended.document
    if refused:
        assert ended.document["error"]["code"] == "docker-containers-hidden"  # type: ignore[index]
        assert "2 containers" in ended.document["error"]["message"]  # type: ignore[index]
        assert (tree(programs.root), programs.load()) == (before, machine)
    elif info.get("Images"):
        assert "does not show its 3 images" in ended.output


def test_a_dockerd_that_does_not_start_says_why_before_the_roll_back_hides_it(tmp_path: Path) -> None:
    programs = lay_out(tmp_path / "root", NEW, FILES)
    programs.change(lambda machine: machine.broken.append("service"))
    ended = perform(programs.root, "docker", STATE)
    assert ended.document["error"]["code"] == "command-failed"  # type: ignore[index]
    assert "; its log ends: failed to start daemon: a reason" in ended.document["error"]["message"]  # type: ignore[index]


def test_a_repository_that_the_settings_no_longer_name_leaves_the_node(tmp_path: Path) -> None:
    """Lost if this fails: a node whose Docker is right keeps reading the lists of a mirror that was given up."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    assert perform(programs.root, "docker", STATE).code == 0
    source = programs.root / SOURCE.lstrip("/")
    before = source.read_text()
    moved = {**STATE, "repository": {"address": "http://mirror/debian", "suite": None, "fingerprint": "A" * 40}}
    programs.change(lambda machine: machine.broken.append("repository"))
    ended = perform(programs.root, "docker", moved)
    assert (ended.code, source.read_text()) == (1, before), ended.document
    programs.change(lambda machine: machine.broken.clear())
    assert perform(programs.root, "docker", moved).document["changed"] is True
    assert source.read_text() == before.replace("http://r", "http://mirror/debian")
    assert perform(programs.root, "docker", moved).document["changed"] is False
    source.write_text("# Enabled by nobody\n")
    assert perform(programs.root, "docker", moved).document["changed"] is False


def test_apt_answers_in_english_whatever_languages_a_login_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: a lock that is held, a full disk and a wrong clock are not known by what apt says in German.

    gettext takes LANGUAGE for every locale but C, C.UTF-8 among them, and pam_env sets it from /etc/default/locale.
    """
    monkeypatch.setenv("LANGUAGE", "de_DE:de")
    assert apt._follow(["sh", "-c", 'echo "$LC_ALL|$LANGUAGE"'], 10).stdout == "C.UTF-8|\n"


def lead_nowhere(file: Path, patch: pytest.MonkeyPatch) -> None:
    file.symlink_to("/srv/settings/daemon.json")


def protect(file: Path, patch: pytest.MonkeyPatch) -> None:
    """As `chattr +i` does, which needs root and a file system with flags."""
    file.write_text("{}")
    patch.setattr(files, "flag", lambda place: "i" if place == file else None)


def mount_on(file: Path, patch: pytest.MonkeyPatch) -> None:
    file.write_text("{}")
    patch.setattr(files, "mount", lambda place: (1, "812" if place == file else "29"))


@pytest.mark.parametrize(
    ("prepare", "message", "remedy"),
    [
        (lead_nowhere, "which does not exist", "Remove /etc/docker/daemon.json"),
        (protect, "it is immutable", "chattr -i /etc/docker/daemon.json"),
        (mount_on, "it is a mount point", "Unmount /etc/docker/daemon.json"),
    ],
)
def test_a_daemon_json_that_cannot_be_written_is_refused_before_any_package_moves(
    tmp_path: Path,
    prepare: Callable[[Path, pytest.MonkeyPatch], None],
    message: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lost if this fails: Docker goes down to its pin and up again, and containers stop, for a file that nobody can write."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    (programs.root / "etc/docker").mkdir()
    prepare(programs.root / "etc/docker/daemon.json", monkeypatch)
    before = (programs.load(), tree(programs.root))
    ended = perform(programs.root, "docker", STATE)
    error: dict[str, str] = ended.document["error"]  # type: ignore[assignment]
    assert message in error["message"] and remedy in error["remedy"], error
    assert (programs.load(), tree(programs.root)) == before
    assert "Installing" not in ended.output and "Rolling back" not in ended.output


def test_the_other_names_of_a_daemon_json_are_not_left_behind_without_a_word(tmp_path: Path) -> None:
    programs = lay_out(tmp_path / "root", OLD, FILES)
    (programs.root / "etc/docker").mkdir()
    file = programs.root / "etc/docker/daemon.json"
    file.write_text("{}")
    os.link(file, programs.root / "etc/daemon-master.json")
    ended = perform(programs.root, "docker", STATE)
    assert "/etc/docker/daemon.json is one of 2 names of a file (hard links): the others keep" in ended.output
    assert (programs.root / "etc/daemon-master.json").read_text() == "{}"
