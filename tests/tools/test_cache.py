"""The cache holds whole entries and nothing else, however the run before was ended."""

import os
import stat
from pathlib import Path

import pytest

from tools import cache


def test_what_a_killed_run_left_of_an_entry_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path))
    killed, another = (tmp_path / "parts" / name for name in (".etcd-1-0a1b2c_d", ".etcd-1-rc-0a1b2c_d"))
    for folder in (killed, another):
        folder.mkdir(parents=True)
        (folder / "half").write_text("of a program")
    entry = cache.entry("parts/etcd-1", lambda folder: (folder / "etcd").touch(), "Building etcd")
    assert sorted(entry.parent.iterdir()) == [another, entry]  # another entry's, which a run may be making now


def test_run_that_a_person_ends_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert cache.exit_status(interrupted) == 130
    assert capsys.readouterr().err == "error: interrupted; run it again to go on\n"


def test_what_root_makes_under_a_strict_umask_is_there_for_the_user_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node image is built by sudo, which keeps the umask of the user, and its machine is started by that user."""
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))

    def make(folder: Path) -> None:
        (folder / "site").mkdir()
        (folder / "site/disk").touch()

    before = os.umask(0o077)
    try:
        folder = cache.entry("image/a", make, "Making")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    places = (tmp_path / "cache", folder.parent, folder, folder / "site", folder / "site/disk")
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o755, 0o755, 0o755, 0o755, 0o644]


def test_relative_cache_folder_of_the_system_is_ignored_as_its_specification_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PATH would lead to it from one folder alone."""
    monkeypatch.delenv("KATA_NODES_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache.root() == tmp_path / ".cache/kata-nodes"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache.root() == tmp_path / "own/kata-nodes"


def test_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a container that runs with any user id: Python's own error was a traceback."""
    monkeypatch.delenv("KATA_NODES_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert cache.exit_status(lambda: print(cache.root())) == 1
    assert capsys.readouterr().err == (
        "error: This user has no home folder. Set HOME to the absolute path of a folder that it may write.\n"
    )


def test_what_root_makes_in_another_users_home_belongs_to_that_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo KATA_NODES_CACHE=$HOME/.cache/kata-nodes python3 -m tools.local` made a `~/.cache` that its user could not write."""
    owners = {tmp_path: 1000}
    monkeypatch.setattr(cache.os, "geteuid", lambda: 0)
    monkeypatch.setattr(cache.os, "chown", lambda place, user, group, follow_symlinks: owners.update({place: user}))
    stat_of = Path.stat

    def owned(place: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        seen = stat_of(place, follow_symlinks=follow_symlinks)
        return os.stat_result((*seen[:4], owners.get(place, 0), *seen[5:]))

    monkeypatch.setattr(Path, "stat", owned)
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / ".cache/kata-nodes"))
    folder = cache.entry("image/a", lambda work: (work / "disk").touch(), "Making")
    owner_of = {place.relative_to(tmp_path).as_posix(): owner for place, owner in owners.items() if place.exists()}
    names = [".", ".cache", ".cache/kata-nodes", ".cache/kata-nodes/locks", ".cache/kata-nodes/locks/image-a"]
    assert owner_of == dict.fromkeys([*names, ".cache/kata-nodes/image"], 1000)
    assert {place.name: owner for place, owner in owners.items() if folder.parent in place.parents}["disk"] == 1000
