"""Transactions on files. Lost if these fail: a node left half changed, or a first state that nobody can put back."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host import apt, files, journal, kata_start, proofs
from nodekit.host.files import MAX_FILE, State, read_bytes, resolve
from nodekit.host.journal import Transaction, journals, outlook, recorded, restore
from nodekit.host.lock import LOCK, holder, node_lock
from nodekit.host.node import OsRelease, boot_id, os_release
from nodekit.rules.kata.kata_start_model import File
from nodekit.rules.node_state import ProveState

STATE = "var/lib/kata-nodes"


def tree(root: Path) -> dict[str, str]:
    """All below the root except the journals' folder: what a person would compare."""
    entries = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith("var"):
            info = path.lstat()
            content = f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes().hex() if path.is_file() else "folder"
            entries[name] = f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {content}"
    return entries


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/real.d").mkdir(parents=True)
    (tmp_path / "etc/plain").write_text("first")
    (tmp_path / "etc/plain").chmod(0o640)
    (tmp_path / "etc/real.d/target").write_text("linked")
    (tmp_path / "etc/link").symlink_to("/etc/real.d/target")
    (tmp_path / "etc/dangling").symlink_to("nowhere")
    return tmp_path


def change_all(root: Path) -> None:
    with Transaction(root, "t") as change:
        assert change.write("/etc/plain", b"ours")
        assert change.write("/etc/link", b"ours too")
        assert change.write("/opt/new/deep/file", b"made", 0o600)
        assert change.symlink("/etc/alias", "/opt/new")
        assert change.remove("/etc/dangling")


def test_restore_puts_everything_back_and_ends_the_journal(root: Path) -> None:
    before = tree(root)
    change_all(root)
    assert tree(root) != before
    assert journals(root) == ["t"]
    outcome = restore(root, "t")
    assert outcome.restored == ["/etc/alias", "/etc/dangling", "/etc/plain", "/etc/real.d/target", "/opt/new/deep/file"]
    assert outcome.kept == {}
    assert tree(root) == before
    assert journals(root) == []
    assert restore(root, "t").restored == []


def test_mode_and_link_are_kept_and_no_temporary_is_left(root: Path) -> None:
    change_all(root)
    assert (root / "etc/plain").stat().st_mode & 0o777 == 0o640
    assert (root / "etc/link").readlink() == Path("/etc/real.d/target")
    assert (root / "etc/real.d/target").read_text() == "ours too"
    assert (root / "opt/new/deep/file").stat().st_mode & 0o777 == 0o600
    assert not [path for path in root.rglob("*") if "kata-nodes-new" in path.name]


def test_a_proof_that_ends_while_another_run_writes_takes_nothing_from_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ProveState("n1", "qemu", "go", [], None, 60, "digest")
    (root / proofs.FOLDER.lstrip("/")).mkdir(parents=True)

    def prove() -> None:
        with proofs.recorded(root, state) as attempt:
            attempt.result = {}

    def meanwhile(point: str) -> None:
        if point == "content-named":
            monkeypatch.setattr(files, "reach", lambda _: None)
            prove()

    prove()
    monkeypatch.setattr(proofs, "LOCK_SECONDS", 0.2, raising=False)
    monkeypatch.setattr(files, "reach", meanwhile)
    with node_lock(root, 1), Transaction(root, "docker") as change:
        change.write("/etc/plain", b"ours")
    assert read_bytes(root, "/etc/plain") == b"ours" and len(proofs.kept(root)) == 1
    assert "is not recorded on the node: Another run holds" in capsys.readouterr().err
    prove()
    assert len(proofs.kept(root)) == 2


def test_what_earlier_settings_changed_and_somebody_edited_since_stays_and_is_known(root: Path) -> None:
    with Transaction(root, "kata") as change:
        for path in ("/etc/new", "/etc/plain"):
            change.write(path, b"ours")
    (root / "etc/plain").write_bytes(b"edited")
    assert journal.give_back(root, "kata", (), "") == ["/etc/new"]
    assert not (root / "etc/new").exists() and (root / "etc/plain").read_bytes() == b"edited"
    assert restore(root, "kata").kept == {"/etc/plain": "edited by somebody since"}


def test_a_lock_of_apt_that_only_root_may_look_at_is_not_said_to_be_free(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = root / apt.LOCKS[0]
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert apt.lock_holder(root) is None

    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied") if path == lock else FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NodeError) as caught:
        apt.lock_holder(root)
    assert caught.value.code == "file-unreadable" and "as root" in caught.value.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_extended_attributes_are_kept(root: Path) -> None:
    file = root / "etc/plain"
    os.chown(file, 123, 456)
    os.setxattr(file, "user.note", b"kept")
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
    assert (file.stat().st_uid, file.stat().st_gid, os.getxattr(file, "user.note")) == (123, 456, b"kept")
    with Transaction(root, "t") as change:
        change.remove("/etc/plain")
    restore(root, "t")
    assert (file.stat().st_uid, file.stat().st_gid, os.getxattr(file, "user.note")) == (123, 456, b"kept")
    assert file.read_text() == "first"


def test_no_folder_but_our_own_ever_holds_a_name_that_is_not_meant(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        seen.append(str(self.relative_to(root)))
        return rename(self, target)

    (root / "etc/real.d/50-theirs").write_text("theirs")
    monkeypatch.setattr(Path, "rename", watched)
    with Transaction(root, "t") as change:
        change.write("/etc/real.d/50-theirs", b"x")
        change.write("/etc/real.d/60-ours", b"x")
    assert seen == [f"{STATE}/pending"] * 2  # the file that was there, and the journal's second state


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_on_another_file_system_the_new_content_waits_beside_a_folder_that_is_read_whole(root: Path) -> None:
    program = """
import os, subprocess, sys
from pathlib import Path
from nodekit.host.journal import Transaction
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "etc"], check=True)
(root / "etc/real.d").mkdir()
(root / "etc/real.d/50-x").write_text("old")
seen, rename = [], Path.rename
def watched(self, target):
    seen.append(str(self.relative_to(root)))
    return rename(self, target)
Path.rename = watched
with Transaction(root, "t") as change:
    change.write("/etc/real.d/50-x", b"new")
there = [sorted(os.listdir(root / folder)) for folder in ("etc", "var/lib/kata-nodes")]
print(seen, (root / "etc/real.d/50-x").read_text(), *there)
"""
    argv = ["unshare", "--mount", sys.executable, "-c", program, str(root)]
    result = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.stdout == "['etc/.50-x.kata-nodes-new'] new ['real.d'] ['t.json']\n"


def test_the_same_content_again_changes_nothing_and_journals_nothing(root: Path) -> None:
    with Transaction(root, "t") as change:
        assert not change.write("/etc/plain", b"first")
        assert not change.remove("/etc/absent")
        assert not change.symlink("/etc/link", "/etc/real.d/target")
        assert change.write("/etc/plain", b"first", 0o600)
    assert (root / "etc/plain").stat().st_mode & 0o777 == 0o600


def test_a_failure_puts_the_state_at_entry_back_and_keeps_the_first_state(root: Path) -> None:
    before = tree(root)
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"one")
    between = tree(root)
    with pytest.raises(RuntimeError), Transaction(root, "t") as change:
        change.write("/etc/plain", b"two")
        change.write("/etc/plain", b"three")
        change.write("/opt/a/b", b"x")
        change.remove("/etc/link")
        raise RuntimeError
    assert tree(root) == between
    assert restore(root, "t").restored == ["/etc/plain"]
    assert tree(root) == before


def test_a_failure_in_the_first_run_leaves_no_journal(root: Path) -> None:
    before = tree(root)
    with pytest.raises(KeyboardInterrupt), Transaction(root, "t") as change:
        change.write("/etc/plain", b"one")
        raise KeyboardInterrupt
    assert (tree(root), journals(root)) == (before, [])


def test_the_first_state_survives_many_runs(root: Path) -> None:
    for number in range(5):
        with Transaction(root, "t") as change:
            change.write("/etc/plain", f"{number}".encode())
            change.record("holds", number)
    assert recorded(root, "t") == {"holds": 0}
    restore(root, "t")
    assert (root / "etc/plain").read_text() == "first"


@pytest.mark.parametrize("later", [b"ours", b"ours, again"])
def test_restore_keeps_what_somebody_edited_even_when_we_wrote_on_top(root: Path, later: bytes) -> None:
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
    (root / "etc/plain").write_text("edited")
    if later != b"ours":
        with Transaction(root, "t") as change:
            change.write("/etc/plain", b"edited and merged")
    expected = (root / "etc/plain").read_text()
    outcome = restore(root, "t")
    assert (outcome.restored, outcome.kept) == ([], {"/etc/plain": "edited by somebody since"})
    assert (root / "etc/plain").read_text() == expected
    assert journals(root) == []


def test_an_edit_is_no_part_of_a_file_that_is_ours_as_a_whole(root: Path) -> None:
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours", is_own=True)
    (root / "etc/plain").write_text("edited")
    assert outlook(root, "t").kept == {"/etc/plain": "edited by somebody since"}
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours, of other settings", is_own=True)
    assert restore(root, "t").kept == {}
    assert (root / "etc/plain").read_text() == "first"


def test_a_file_that_somebody_deleted_is_written_again_and_then_kept(root: Path) -> None:
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
    (root / "etc/plain").unlink()
    with Transaction(root, "t") as change:
        assert change.write("/etc/plain", b"again")
    assert restore(root, "t").kept == {"/etc/plain": "edited by somebody since"}


def test_a_file_in_the_place_of_our_folder_stays_and_the_rest_is_restored(root: Path) -> None:
    change_all(root)
    shutil.rmtree(root / "opt/new")
    (root / "opt/new").write_text("theirs")
    outcome = restore(root, "t")
    assert outcome.kept == {} and "/etc/plain" in outcome.restored
    assert (root / "opt/new").read_text() == "theirs"
    assert (root / "etc/plain").read_text() == "first"


def test_what_somebody_put_into_our_folder_stays(root: Path) -> None:
    change_all(root)
    (root / "opt/new/theirs").write_text("x")
    restore(root, "t")
    assert [path.name for path in (root / "opt/new").iterdir()] == ["theirs"]


def test_the_journal_is_for_root_only(root: Path) -> None:
    change_all(root)
    assert (root / STATE).stat().st_mode & 0o777 == 0o700
    assert (root / STATE / "t.json").stat().st_mode & 0o777 == 0o600


KILLED = """
import os, signal, sys
from pathlib import Path
from nodekit.host import files, journal
root, at = Path(sys.argv[1]), int(sys.argv[2])
real, count = files.put, 0
def put(*args):
    global count
    real(*args)
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
journal.put = put
with journal.Transaction(root, "t") as change:
    change.write("/etc/plain", b"ours")
    change.write("/etc/link", b"ours too")
    change.write("/opt/new/file", b"made")
    change.remove("/etc/dangling")
"""


@pytest.mark.parametrize("at", range(1, 9))
def test_a_kill_after_any_write_can_be_restored(root: Path, at: int) -> None:
    before = tree(root)
    result = subprocess.run([sys.executable, "-c", KILLED, str(root), str(at)], check=False, cwd=Path(__file__).parents[2])
    assert result.returncode == -signal.SIGKILL
    assert restore(root, "t").kept == {}
    assert tree(root) == before


@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_while_our_own_content_is_replaced_can_be_restored(root: Path, at: int) -> None:
    before = tree(root)
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours of an earlier run")
        change.write("/etc/link", b"that too")
        change.write("/opt/new/file", b"and that")
    result = subprocess.run([sys.executable, "-c", KILLED, str(root), str(at)], check=False, cwd=Path(__file__).parents[2])
    assert result.returncode == -signal.SIGKILL
    assert restore(root, "t").kept == {}
    assert tree(root) == before


def test_a_path_that_cannot_be_put_back_keeps_no_other_from_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(root)
    change_all(root)
    real = journal.put

    def refuse(where: Path, path: str, state: State) -> None:
        if path == "/opt/new/deep/file":  # changed neither first nor last
            raise NodeError("file-unwritable", f"{path} cannot be written")
        real(where, path, state)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "put", refuse)
        with pytest.raises(NodeError, match="/opt/new/deep/file"):
            restore(root, "t")
    assert {name for name in tree(root) if tree(root)[name] != before.get(name)} == {
        "opt",
        "opt/new",
        "opt/new/deep",
        "opt/new/deep/file",
    }
    assert journals(root) == ["t"]
    restore(root, "t")
    assert tree(root) == before


def test_a_folder_that_a_roll_back_removed_is_not_ours_when_somebody_makes_it_later(root: Path) -> None:
    with Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
    with pytest.raises(RuntimeError), Transaction(root, "t") as change:
        change.write("/opt/a/b", b"x")
        raise RuntimeError
    (root / "opt/a").mkdir(parents=True)
    restore(root, "t")
    assert (root / "opt/a").is_dir()


@pytest.mark.parametrize(
    ("path", "code"), [("/etc", "file-invalid"), ("/etc/dangling", "file-invalid"), ("/etc/plain/below", "file-unwritable")]
)
def test_what_cannot_be_a_file_is_refused_and_nothing_changes(root: Path, path: str, code: str) -> None:
    before = tree(root)
    with pytest.raises(NodeError) as caught, Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
        change.write(path, b"x")
    assert caught.value.code == code
    assert path in caught.value.message
    assert (tree(root), journals(root)) == (before, [])


@pytest.mark.parametrize("path", ["/etc/pl\0ain", "/etc/\ud800"])
def test_a_text_that_no_file_can_have_for_a_name_is_refused_in_words(root: Path, path: str) -> None:
    before = tree(root)
    with pytest.raises(NodeError) as caught:
        read_bytes(root, path)
    assert caught.value.code == "file-unreadable" and "cannot be the name of a file" in caught.value.message
    with pytest.raises(NodeError, match="cannot be the name of a file"), Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
        change.write(path, b"x")
    assert (tree(root), journals(root)) == (before, [])
    assert kata_start.look(root, path) == File("missing")


@pytest.mark.parametrize("name", ["plain", "new"])
def test_an_immutable_file_or_folder_is_called_so(root: Path, name: str) -> None:
    """Lost if this fails: a person frees space on a disk that is not full."""
    protected = root / "etc" if name == "new" else root / "etc/plain"
    if subprocess.run(["chattr", "+i", str(protected)], capture_output=True, check=False).returncode:
        pytest.skip("needs root and a file system with flags")
    try:
        with pytest.raises(NodeError) as probed:
            files.refuse_unwritable(root, f"/etc/{name}")
        with pytest.raises(NodeError) as caught, Transaction(root, "t") as change:
            change.write(f"/etc/{name}", b"x")
    finally:
        subprocess.run(["chattr", "-i", str(protected)], check=True)
    for error in (probed.value, caught.value):
        assert "is immutable" in error.message and "chattr -i /etc" in error.remedy, error
    assert journals(root) == []


@pytest.mark.parametrize("path", ["/etc/plain", "/etc/link", "/opt/new/deep/file"])
def test_a_look_ahead_at_a_file_that_can_be_written_leaves_nothing(root: Path, path: str) -> None:
    before = tree(root)
    files.refuse_unwritable(root, path)
    assert tree(root) == before


def test_a_full_disk_leaves_the_file_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(root)
    sync = os.fsync
    calls = 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:  # before: three new folders, the journal and its folder
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NodeError) as caught, Transaction(root, "t") as change:
        change.write("/etc/plain", b"ours")
    assert caught.value.code == "file-unwritable"
    assert "/etc/plain" in caught.value.message and "No space left" in caught.value.message
    assert (tree(root), journals(root)) == (before, [])


def test_a_file_that_is_too_large_is_refused(root: Path) -> None:
    with open(root / "etc/large", "wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(NodeError) as caught:
        read_bytes(root, "/etc/large")
    assert caught.value.code == "file-invalid"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"paths": {"/x": {}}, "folders": [], "records": {}}',
        '{"paths": []}',
        "[" * 100_000,
        '{"paths": {"x": {"before": {"kind": "absent"}, "ours": []}}, "folders": [], "records": {}}',
        '{"paths": {"/a\\u0000b": {"before": {"kind": "absent"}, "ours": []}}, "folders": [], "records": {}}',
        '{"paths": {}, "folders": ["/\\ud800"], "records": {}}',
        '{"paths": {"/x": {"before": {"kind": "file", "content": "", "mode": 99999999999, "uid": 0, "gid": 0, "xattrs": {}}, '
        '"ours": ["absent"]}}, "folders": [], "records": {}}',
    ],
)
def test_a_broken_journal_is_an_error_and_not_a_loss(root: Path, text: str) -> None:
    change_all(root)
    before = tree(root)
    (root / STATE / "t.json").write_text(text)
    for call in (lambda: Transaction(root, "t"), lambda: restore(root, "t")):
        with pytest.raises(NodeError) as caught:
            call()
        assert caught.value.code == "journal-invalid"
    assert tree(root) == before


def test_links_are_resolved_below_the_root(root: Path) -> None:
    (root / "etc/up").symlink_to("../../../../etc")
    assert resolve(root, "/etc/up/link") == "/etc/real.d/target"
    assert resolve(root, "/etc/up/link", last=False) == "/etc/link"
    assert resolve(root, "/a/../etc//plain/./") == "/etc/plain"
    assert read_bytes(root, "/etc/link") == b"linked"
    assert read_bytes(root, "/etc/dangling") is None
    (root / "etc/loop").symlink_to("loop")
    with pytest.raises(NodeError, match="loop of symbolic links"):
        resolve(root, "/etc/loop")
    with pytest.raises(NodeError, match="not an absolute path"):
        resolve(root, "etc/plain")


REFUSALS = [
    (errno.EACCES, 1000, "Run the program as root", "Run the program as root"),
    (errno.EROFS, 1000, "make the file system writable", "Check the file and its disk"),
    (errno.EACCES, 0, "make the file system writable", "Check the file and its disk"),
    (errno.ENOSPC, 0, "make the file system writable", "Check the file and its disk"),
]
"""What the system refuses, to whom, and the remedy of a write and of a read."""


@pytest.mark.parametrize(("number", "user", "of_write", "of_read"), REFUSALS)
def test_only_a_user_who_may_not_is_told_to_be_root(
    number: int, user: int, of_write: str, of_read: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root on a full /run was told to be root, and a user without the right to read a file to check its disk."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    def lock() -> None:
        with node_lock(root, 0):
            pytest.fail("nothing is locked")

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "open", refuse)
    writes = (lock, lambda: files.replace(root, "/etc/plain", b"x"), lambda: files.refuse_unwritable(root, "/etc/plain"))
    monkeypatch.setattr(files, "look", lambda *_: State("file"))
    for write in writes:
        with pytest.raises(NodeError) as caught:
            write()
        assert caught.value.code == "file-unwritable" and of_write in caught.value.remedy
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "lstat", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for read in (lambda: files.look(root, "/etc/plain"), lambda: files.names_in(root, "/etc"), lambda: journals(root)):
        with pytest.raises(NodeError) as caught:
            read()
        assert caught.value.code == "file-unreadable" and of_read in caught.value.remedy


def test_the_lock_holds_where_no_room_is_left_for_the_name_of_its_holder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with node_lock(root, 0):
        assert holder(root) == "process unknown"


def test_a_lock_that_another_run_holds_is_waited_for(root: Path) -> None:
    (root / "run").mkdir(exist_ok=True)
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.3, os.close, (handle,)).start()
    with node_lock(root, 30):
        pass


def test_the_lock_is_free_again_when_its_holder_was_killed(root: Path) -> None:
    program = "import sys, time\nfrom pathlib import Path\nfrom nodekit.host.lock import node_lock\n"
    program += "with node_lock(Path(sys.argv[1]), 1):\n    print('held', flush=True)\n    time.sleep(60)"
    argv = [sys.executable, "-c", program, str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(NodeError) as caught, node_lock(root, 0.2):
                pytest.fail("two runs at once")
        finally:
            holder.kill()
    assert caught.value.code == "node-busy"
    assert f"process {holder.pid}" in caught.value.message
    with node_lock(root, 0.2), pytest.raises(NodeError, match=f"process {os.getpid()}"), node_lock(root, 0):
        pytest.fail("two runs at once")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n', OsRelease("debian", "13", "trixie")),
        ('# c\nID=\'ubuntu\'\n\nVERSION_ID="24.04"\nBROKEN="\n', OsRelease("ubuntu", "24.04", "")),
    ],
)
def test_the_system_is_read_as_os_release_5_says(root: Path, text: str, expected: OsRelease) -> None:
    (root / "etc/os-release").write_text(text)
    assert os_release(root) == expected


def test_a_machine_that_does_not_say_what_it_is_is_an_error(root: Path) -> None:
    with pytest.raises(NodeError) as caught:
        os_release(root)
    assert caught.value.code == "unsupported-os"
    with pytest.raises(NodeError) as caught:
        boot_id(root)
    assert caught.value.code == "file-unreadable"


def test_the_journal_is_plain_json_that_a_person_can_read(root: Path) -> None:
    change_all(root)
    data = json.loads((root / STATE / "t.json").read_text())
    assert data["paths"]["/etc/alias"]["before"] == {"kind": "absent"}
    assert data["paths"]["/etc/dangling"]["before"] == {"kind": "symlink", "target": "nowhere"}
    assert data["paths"]["/etc/plain"]["before"]["mode"] == 0o640
