"""A part of `restore` that fails does not stop the other parts, and does not fail for ever.

Lost if these fail: a stack that cannot be destroyed because one part of one node cannot be put back, or a part that is given
up though waiting would have helped."""

from pathlib import Path

import pytest

from nodekit.host import files as files_of_the_node
from nodekit.host import kata_archive
from nodekit.host.journal import journals
from nodekit.rules.docker.apt_source import SOURCE
from nodekit.rules.docker.docker_packages import HELD
from tests.nodekit.docker_node import NEW, OLD
from tests.nodekit.fast_node import DISK, IPTABLES, Ended, Fault, Machine, Programs, lay_out, perform, tree
from tests.nodekit.test_walks import FILES, IN_RELEASE, SEED, Settings

pytestmark = pytest.mark.slow

PINNED = Settings(OLD, True, IN_RELEASE, (SEED,))
UNTOUCHED = {"docker.service": [False, False], "docker.socket": [False, True]}


def node(tmp_path: Path) -> tuple[Programs, dict[str, str], Machine]:
    """A node that a stack has brought to its pin, and how it was before."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    programs.change(lambda machine: machine.units.update(UNTOUCHED))
    before = tree(programs.root), programs.load()
    for verb in ("preflight", "docker", "kata"):
        assert perform(programs.root, verb, PINNED.state(verb)).code == 0
    assert (programs.root / SOURCE.lstrip("/")).is_file()
    return programs, *before


def restore(programs: Programs) -> Ended:
    return perform(programs.root, "restore", {"node": "n"})


def breaks(programs: Programs, *faults: str) -> None:
    programs.change(lambda machine: setattr(machine, "broken", [*faults]))


def test_all_of_a_node_is_as_it_was(tmp_path: Path) -> None:
    programs, files, machine = node(tmp_path)
    assert restore(programs).document["kept"] == []
    now = programs.load()
    assert (tree(programs.root), now.packages, now.modules) == (files, machine.packages, machine.modules)
    assert {name: now.units[name] for name in UNTOUCHED} == UNTOUCHED


def test_a_dpkg_that_fails_stops_nothing_else_and_is_left_and_named_by_the_second_run(tmp_path: Path) -> None:
    programs, files, _ = node(tmp_path)
    breaks(programs, "apt")
    first = restore(programs)
    assert first.code == 1 and journals(programs.root) == ["docker"]
    left = {path for path, content in tree(programs.root).items() if files.get(path) != content}
    assert left == {SOURCE}  # where the earlier version comes from
    second = restore(programs)
    assert second.code == 0 and journals(programs.root) == []
    assert any("failed in two runs" in str(line) for line in second.document["kept"]), second.document
    assert tree(programs.root) == files


def test_a_dpkg_that_works_again_in_the_second_run_brings_everything_back(tmp_path: Path) -> None:
    programs, files, machine = node(tmp_path)
    breaks(programs, "apt")
    assert restore(programs).code == 1
    breaks(programs)
    assert restore(programs).document["kept"] == []
    assert (tree(programs.root), programs.load().packages) == (files, machine.packages)


def test_a_failure_from_before_the_node_was_brought_to_its_pin_again_gives_nothing_up(tmp_path: Path) -> None:
    programs, files, machine = node(tmp_path)
    breaks(programs, "apt")
    assert restore(programs).code == 1
    breaks(programs)
    for verb in ("preflight", "docker", "kata"):
        assert perform(programs.root, verb, PINNED.state(verb)).code == 0
    breaks(programs, "apt")
    assert restore(programs).code == 1
    breaks(programs)
    assert restore(programs).document["kept"] == []
    assert (tree(programs.root), programs.load().packages) == (files, machine.packages)


def test_a_locked_apt_is_never_given_up(tmp_path: Path) -> None:
    programs, files, machine = node(tmp_path)
    breaks(programs, "lock")
    for _ in range(4):
        result = restore(programs)
        error = result.document["error"]
        assert isinstance(error, dict) and error["code"] == "apt-lock-held" and "unattended-upgr" in error["message"]
    breaks(programs)
    assert restore(programs).document["kept"] == []
    assert (tree(programs.root), programs.load().packages) == (files, machine.packages)


def test_a_locked_apt_gives_nothing_up_after_another_failure_either(tmp_path: Path) -> None:
    programs, files, machine = node(tmp_path)
    breaks(programs, "apt")
    assert restore(programs).code == 1
    breaks(programs, "lock")
    result = restore(programs)
    error = result.document["error"]
    assert isinstance(error, dict) and error["code"] == "apt-lock-held"
    assert "failed in two runs" not in result.output
    breaks(programs)
    assert restore(programs).document["kept"] == []
    assert (tree(programs.root), programs.load().packages) == (files, machine.packages)


@pytest.mark.parametrize("kind", DISK)
@pytest.mark.parametrize("runs", [1, 3])
def test_a_disk_that_takes_no_write_is_never_given_up(tmp_path: Path, kind: str, runs: int) -> None:
    programs, files, machine = node(tmp_path)
    breaks(programs, kind)
    for _ in range(runs):
        result = restore(programs)
        if result.code:
            error = result.document["error"]
            assert isinstance(error, dict) and "cannot be" in error["message"], error
    breaks(programs)
    assert restore(programs).code == 0
    assert (tree(programs.root), programs.load().packages) == (files, machine.packages)


def test_files_that_cannot_be_put_back_twice_are_left_and_named(tmp_path: Path) -> None:
    programs, _, machine = node(tmp_path)
    fault = Fault("read-only", 1, "/etc")
    first = perform(programs.root, "restore", {"node": "n"}, fault)
    assert first.code == 1 and "kata" not in journals(programs.root)
    second = perform(programs.root, "restore", {"node": "n"}, fault)
    assert second.code == 0 and journals(programs.root) == []
    assert any("failed in two runs" in str(line) for line in second.document["kept"]), second.document
    assert programs.load().packages == machine.packages


def test_a_release_that_cannot_be_moved_twice_is_left_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: a stack that can never be destroyed."""
    programs, _, _ = node(tmp_path)

    def fail(_: Path) -> Path:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(kata_archive, "_unused", fail)
        first, second = restore(programs), restore(programs)
    assert first.code == 1 and "left as it is and named" in first.document["error"]["remedy"]  # type: ignore[index]
    assert second.code == 0 and journals(programs.root) == [], second.document
    assert any("/opt/kata of 'kata': failed in two runs: " in str(line) for line in second.document["kept"])  # type: ignore[attr-defined]
    assert (programs.root / "opt/kata/VERSION").exists()
    assert "/opt/kata" in restore(programs).document["restored"]  # type: ignore[operator]


def test_a_release_that_a_flag_holds_in_its_place_is_left_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, _, _ = node(tmp_path)
    monkeypatch.setattr(files_of_the_node, "flag", lambda place: "i" if place.name == "VERSION" else None)
    for _ in range(3):
        ended = restore(programs)
        assert ended.code == 0 and "VERSION cannot be replaced or removed: it is immutable" in str(ended.document["kept"])
        assert "chattr -i" in str(ended.document["kept"]) and (programs.root / "opt/kata/VERSION").exists()
        assert journals(programs.root) == [] and not (programs.root / "var/lib/kata-nodes/kata").exists()


def test_a_file_of_the_release_that_somebody_edited_stays_and_is_named(tmp_path: Path) -> None:
    programs, _, _ = node(tmp_path)
    (programs.root / "opt/kata/VERSION").write_text("3.32.0 edited\n")
    for _ in range(2):
        ended = restore(programs)
        assert "/opt/kata/VERSION: edited or added by somebody" in ended.document["kept"]  # type: ignore[operator]
        assert (programs.root / "opt/kata/VERSION").read_text() == "3.32.0 edited\n"


def test_a_version_that_somebody_chose_stays_and_its_hold_of_ours_goes(tmp_path: Path) -> None:
    programs, files, _ = node(tmp_path)
    programs.change(lambda machine: setattr(machine.packages["docker-ce"], "version", "5:29.0.0-1~debian.13~trixie"))
    assert all(programs.load().packages[name].held for name in HELD)
    result = restore(programs)
    assert result.code == 0 and any("docker-ce 5:29.0.0" in str(line) for line in result.document["kept"]), result.document
    package = programs.load().packages["docker-ce"]
    assert (package.version, package.held) == ("5:29.0.0-1~debian.13~trixie", False)
    assert tree(programs.root) == files


def test_what_came_with_docker_and_somebody_asked_for_since_stays(tmp_path: Path) -> None:
    """Lost if this fails: `apt-get install iptables` on a node that has it by Docker, and a destroy removes it."""
    programs = lay_out(tmp_path / "root", None, FILES)
    for verb in ("preflight", "docker", "kata"):
        assert perform(programs.root, verb, PINNED.state(verb)).code == 0
    assert programs.load().packages["iptables"].automatic
    programs.change(lambda machine: setattr(machine.packages["iptables"], "automatic", False))  # as apt-get install does
    ended = restore(programs)
    assert ended.code == 0 and {*programs.load().packages} == {"iptables"} and journals(programs.root) == []
    assert any(f"package iptables {IPTABLES}: asked for" in str(line) for line in ended.document["kept"]), ended.document


def test_a_docker_that_somebody_turned_off_since_stays_off(tmp_path: Path) -> None:
    """Lost if this fails: who moves a machine from Docker to something else has it back when the stack goes."""
    programs = lay_out(tmp_path / "root", NEW, FILES)
    for verb in ("preflight", "docker", "kata"):
        assert perform(programs.root, verb, PINNED.state(verb)).code == 0
    off = {"docker.service": [False, False], "docker.socket": [False, False]}
    programs.change(lambda machine: machine.units.update(off))
    ended = restore(programs)
    assert ended.code == 0 and programs.load().units == {"containerd.service": [True, True], **off}
    assert "unit docker.service: disabled by somebody since" in ended.document["kept"]  # type: ignore[operator]
    assert programs.load().packages["docker-ce"].version == NEW and journals(programs.root) == []
