"""A Kata archive is installed whole or not at all, and only what this program installed is ever removed."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host import files, kata_archive, kata_download
from nodekit.rules.kata.kata_layout import MARKER
from tests.nodekit.kata_release import archive, served, tree

OUTSIDE = [
    ("./etc/passwd", None, "outside"),
    ("./opt/kata/../../etc/passwd", None, "leaves its folder"),
    ("{theirs}/passwd", None, "leaves its folder"),
    ("./opt/kata/link/passwd", "{theirs}", "through a link"),
    ("./opt/kata/link", "{theirs}/passwd", "through a link"),
]
"""The name of a member, where a link ./opt/kata/link leads, and the refusal. What a broken rule would overwrite lies in a
folder of the test, not on the machine that runs it."""


def accept(unpacked: Path) -> None:
    """Takes any archive."""
    assert (unpacked / "opt/kata").is_dir()


def refused(root: Path, address: str, sha256: str, code: str) -> NodeError:
    """The installation is refused with that code, and the root is as it was."""
    before = tree(root)
    with pytest.raises(NodeError) as caught:
        kata_archive.install(root, address, sha256, accept)
    assert caught.value.code == code, caught.value
    assert tree(root) == before
    assert not list((root / "opt").glob(".kata-nodes-*"))
    return caught.value


def test_installs_once_and_removes_all(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        assert kata_archive.install(tmp_path, address, sha256, accept) is True
        assert kata_archive.install(tmp_path, address, sha256, accept) is False
    assert (tmp_path / "opt/kata/VERSION").read_text() == "3.32.0\n"
    assert not (tmp_path / "opt/kata/bin/containerd-shim-kata-v2").stat().st_mode & 0o7022  # no set-id, no write for others
    assert kata_archive.remove(tmp_path) == ["/opt/kata"]
    assert tree(tmp_path) == {}


BOUND = """\
import sys
from pathlib import Path
from nodekit.host import kata_archive

root, *sources = sys.argv[1:]
for source in sources:
    assert kata_archive.install(Path(root), *source.split(), lambda _: None)
assert kata_archive.remove(Path(root)) == ["/opt/kata"]
assert not [*Path(root, "opt").rglob("*")]
"""


def test_an_opt_that_is_bound_from_elsewhere_on_the_same_disk_makes_no_difference(tmp_path: Path) -> None:
    for folder in ("large", "opt"):
        (tmp_path / folder).mkdir()
    mount = 'mount --bind "$1/large" "$1/opt" || exit 77; exec "$0" -c "$BOUND" "$@"'
    with served(archive()) as first, served(archive("3.33.0")) as second:
        sources = [" ".join(source) for source in (first, second)]
        result = subprocess.run(
            ["unshare", "-rm", "sh", "-c", mount, sys.executable, str(tmp_path), *sources],
            env={**os.environ, "BOUND": BOUND}, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
    if result.returncode == 77:
        pytest.skip("needs a user and a mount namespace")
    assert result.returncode == 0, result.stderr


def test_newer_archive_takes_the_place_of_ours(tmp_path: Path) -> None:
    for version in ("3.32.0", "3.33.0"):
        with served(archive(version, {f"./opt/kata/only-{version}": b""})) as (address, sha256):
            assert kata_archive.install(tmp_path, address, sha256, accept)
    assert [path.name for path in (tmp_path / "opt/kata").glob("only-*")] == ["only-3.33.0"]
    assert [path.name for path in (tmp_path / "opt").iterdir()] == ["kata"]


def test_somebody_else_s_kata_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "opt/kata").mkdir(parents=True)
    (tmp_path / "opt/kata/VERSION").write_text("3.27.0\n")
    with served(archive()) as (address, sha256):
        refused(tmp_path, address, sha256, "kata-foreign-install")
    assert kata_archive.remove(tmp_path) == []
    assert (tmp_path / "opt/kata/VERSION").exists()


def test_other_content_than_asked_for_is_not_unpacked(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        error = refused(tmp_path, address, "0" * 64, "kata-archive-differs")
    assert sha256 in error.message


def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    with served(b"<html>not found</html>") as (address, sha256):
        refused(tmp_path, address, sha256, "kata-archive-invalid")


def test_unreachable_address_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "http://127.0.0.1:9/kata.tar.xz", "0" * 64, "kata-download-failed")
    assert "http://127.0.0.1:9/kata.tar.xz" in error.message


def test_a_signature_in_an_address_is_shown_to_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lost if this fails: a secret. Anyone who reads a CI log or that file on the node could use the signed address."""
    with served(archive()) as (address, sha256):
        signed = f"{address}?sv=2024&sig=HIDDEN"
        assert "HIDDEN" not in refused(tmp_path, signed, "0" * 64, "kata-archive-differs").sentence()
        assert kata_download.size(tmp_path, signed)
        assert kata_archive.install(tmp_path, signed, sha256, accept)
    assert address in (tmp_path / f"opt/kata/{MARKER}").read_text()
    assert "HIDDEN" not in (tmp_path / f"opt/kata/{MARKER}").read_text()
    printed = capsys.readouterr().err
    assert address in printed and "HIDDEN" not in printed
    error = refused(tmp_path, "http://127.0.0.1:9/kata.tar.xz?sig=HIDDEN#HIDDEN", "1" * 64, "kata-download-failed")
    assert "HIDDEN" not in error.sentence() and "http://127.0.0.1:9/kata.tar.xz " in error.message


@contextmanager
def trickling(seconds: float) -> Iterator[str]:
    """The address of a server that never pauses for long and gives one byte at a time."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    connection.sendall(b"x")
                    time.sleep(0.05)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/kata-static.tar.xz"
        thread.join()


@pytest.mark.slow
def test_a_server_that_gives_a_byte_at_a_time_is_given_up_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_download, "DOWNLOAD_SECONDS", 0.5)
    with trickling(6) as address:
        begin = time.monotonic()
        assert "went over" in refused(tmp_path, address, "0" * 64, "kata-download-failed").message
        assert time.monotonic() - begin < 4


@pytest.mark.parametrize(("member", "link", "message"), OUTSIDE)
def test_nothing_is_ever_written_outside(tmp_path: Path, member: str, link: str | None, message: str) -> None:
    theirs, root = tmp_path / "theirs", tmp_path / "root"
    theirs.mkdir()
    root.mkdir()
    (theirs / "passwd").write_text("theirs")
    links = {"./opt/kata/link": link.format(theirs=theirs)} if link else {}
    with served(archive(members={member.format(theirs=theirs): b"x"}, links=links)) as (address, sha256):
        assert message in refused(root, address, sha256, "kata-archive-invalid").message
    assert [path.read_text() for path in theirs.iterdir()] == ["theirs"]


def test_archive_that_is_not_accepted_changes_nothing(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        kata_archive.install(tmp_path, address, sha256, accept)
    whole = tree(tmp_path)

    def refuse(unpacked: Path) -> None:
        raise NodeError("kata-version-differs", "another release", installed="3.0.0", asked="3.1.0")

    with served(archive("3.33.0")) as (address, sha256), pytest.raises(NodeError):
        kata_archive.install(tmp_path, address, sha256, refuse)
    assert tree(tmp_path) == whole


def test_the_old_release_is_there_until_the_new_one_takes_its_place_in_one_step(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        kata_archive.install(tmp_path, address, sha256, accept)

    def look(unpacked: Path) -> None:
        assert (tmp_path / "opt/kata/VERSION").read_text() == "3.32.0\n"
        assert [path.name for path in (tmp_path / "opt").iterdir()] == ["kata"]

    with served(archive("3.33.0")) as (address, sha256):
        kata_archive.install(tmp_path, address, sha256, look)
    assert (tmp_path / "opt/kata/VERSION").read_text() == "3.33.0\n"
    assert not (tmp_path / "var/lib/kata-nodes").exists()


def test_what_a_kill_left_in_our_folder_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "var/lib/kata-nodes/kata/new/opt/kata"
    with served(archive()) as (address, sha256):
        kata_archive.install(tmp_path, address, sha256, accept)
        whole = tree(tmp_path)
        left.mkdir(parents=True)
        assert kata_archive.install(tmp_path, address, sha256, accept) is False
    assert tree(tmp_path) == whole
    assert not left.exists()


def test_our_record_is_written_through_no_link_and_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "marker").symlink_to("theirs")
    with pytest.raises(FileExistsError):
        kata_archive._write_marker(tmp_path / "marker", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"


def upgraded(root: Path, *members: dict[str, bytes]) -> None:
    """Install releases one after the other, each with members of its own."""
    for number, own in enumerate(members):
        with served(archive(f"3.{32 + number}.0", own)) as (address, sha256):
            assert kata_archive.install(root, address, sha256, accept)


def test_a_new_release_keeps_what_somebody_edited_in_the_one_before_or_added_to_it(tmp_path: Path) -> None:
    """Lost if this fails: an administrator's own kernel, drop-ins and settings, with exit code 0."""
    upgraded(tmp_path, {})
    kata, config = tmp_path / "opt/kata", "share/defaults/kata-containers/configuration-qemu.toml"
    (kata / config).write_text("edited")
    (kata / "share/own").mkdir()
    (kata / "share/own/vmlinux").write_text("added")
    (kata / "new-one").write_text("added too")
    (kata / "link").symlink_to("/srv/elsewhere")
    before = json.loads((kata / MARKER).read_text())["sha256"][:12]
    with served(archive("3.33.0", {"./opt/kata/new-one": b"the release's"})) as (address, sha256):
        with kata_archive.installed_for(tmp_path, address, sha256, accept) as release:
            assert (kata / "VERSION").read_text() == "3.33.0\n"
        again = kata_archive.install(tmp_path, address, sha256, accept)
    assert release.kept == {
        f"/opt/kata/{config}": f"/opt/kata/kept/{before}/{config}",
        "/opt/kata/link": "/opt/kata/link",
        "/opt/kata/new-one": f"/opt/kata/kept/{before}/new-one",
        "/opt/kata/share/own/vmlinux": "/opt/kata/share/own/vmlinux",
    }
    assert again is False
    assert (kata / config).read_text() != "edited" and (kata / f"kept/{before}/{config}").read_text() == "edited"
    assert (kata / "new-one").read_text() == "the release's" and (kata / f"kept/{before}/new-one").read_text() == "added too"
    assert (kata / "share/own/vmlinux").read_text() == "added"
    assert {*release.kept.values()} == {*kata_archive.added(tmp_path)}  # so that a restore keeps them too
    assert kata_archive.edited(tmp_path) == []


def test_a_file_that_is_edited_again_after_a_step_back_is_kept_beside_the_first(tmp_path: Path) -> None:
    kata, config = tmp_path / "opt/kata", "share/defaults/kata-containers/configuration-qemu.toml"
    with served(archive("3.32.0", {})) as older, served(archive("3.33.0", {})) as newer:
        assert kata_archive.install(tmp_path, *older, accept)
        for text in ("edited", "edited again"):
            (kata / config).write_text(text)
            assert kata_archive.install(tmp_path, *newer, accept)
            assert kata_archive.install(tmp_path, *older, accept)
    kept = {path.read_text() for path in (kata / "kept").glob(f"*/{config}")}
    assert kept == {"edited", "edited again"}


def test_a_new_release_that_fails_leaves_what_somebody_edited_where_it_was(tmp_path: Path) -> None:
    upgraded(tmp_path, {})
    (tmp_path / "opt/kata/VERSION").write_text("edited")
    (tmp_path / "opt/kata/own").write_text("added")
    before = tree(tmp_path)
    with (
        served(archive("3.33.0")) as (address, sha256),
        pytest.raises(RuntimeError),
        kata_archive.installed_for(tmp_path, address, sha256, lambda _: lambda: None),
    ):
        raise RuntimeError
    assert tree(tmp_path) == before


def test_a_link_of_a_new_release_takes_nothing_out_of_it(tmp_path: Path) -> None:
    upgraded(tmp_path, {})
    (tmp_path / "opt/kata/own").mkdir()
    (tmp_path / "opt/kata/own/file").write_text("added")
    (tmp_path / "outside").mkdir()
    with served(archive("3.33.0", links={"./opt/kata/own": str(tmp_path / "outside")})) as (address, sha256):
        assert kata_archive.install(tmp_path, address, sha256, accept)
    assert list((tmp_path / "outside").iterdir()) == []
    assert [path.read_text() for path in (tmp_path / "opt/kata/kept").rglob("file")] == ["added"]


def test_an_edit_of_a_large_file_shows_by_its_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_archive, "MAX_FILE", 4)
    upgraded(tmp_path, {})
    assert kata_archive.edited(tmp_path) == []
    os.utime(tmp_path / "opt/kata/VERSION", ns=(1, 1))
    assert kata_archive.edited(tmp_path) == ["/opt/kata/VERSION"]


@pytest.mark.parametrize("marker", ['{"sha256": "x", "edited": [1]}', '{"sha256": "x", "files": [["a"]]}', "[]"])
def test_a_marker_of_another_form_is_no_record_of_ours(tmp_path: Path, marker: str) -> None:
    """Lost if this fails: a destroy that ends with a traceback."""
    (tmp_path / "opt/kata").mkdir(parents=True)
    (tmp_path / f"opt/kata/{MARKER}").write_text(marker)
    assert kata_archive.is_foreign(tmp_path)
    assert (kata_archive.edited(tmp_path), kata_archive.added(tmp_path), kata_archive.remove(tmp_path)) == ([], [], [])


def test_a_marker_of_a_version_before_knows_no_edits_but_those_noted(tmp_path: Path) -> None:
    upgraded(tmp_path, {})
    marker = tmp_path / f"opt/kata/{MARKER}"
    known = json.loads(marker.read_text())
    del known["states"]
    marker.write_text(json.dumps(known))
    (tmp_path / "opt/kata/VERSION").write_text("edited")
    assert kata_archive.edited(tmp_path) == []
    kata_archive.note_edited(tmp_path, ["/opt/kata/VERSION"])
    assert kata_archive.edited(tmp_path) == ["/opt/kata/VERSION"]


def test_a_release_of_very_many_files_stays_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_archive, "MAX_OWN", 600)
    upgraded(tmp_path, {})
    assert kata_archive.installed(tmp_path) and kata_archive.edited(tmp_path) == [] == kata_archive.missing(tmp_path)


def in_a_mount_namespace(root: Path, script: str, program: str, *arguments: str) -> None:
    """Mount with a shell, in which $1 is the root, then run a Python program there."""
    shell = f'{script} || exit 77; exec "$0" -c "$PROGRAM" "$@"'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, sys.executable, str(root), *arguments],
        env={**os.environ, "PROGRAM": program}, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode == 77:
        pytest.skip("needs a user and a mount namespace")
    assert result.returncode == 0, result.stderr


MOUNTED = """\
import sys
from pathlib import Path
from nodekit.errors import NodeError
from nodekit.host import kata_archive

root, address, sha256, mounted = Path(sys.argv[1]), *sys.argv[2:]
for act in (lambda: kata_archive.install(root, address, sha256, lambda _: None), lambda: kata_archive.remove(root)):
    try:
        act()
    except NodeError as error:
        assert f"{mounted} is a mount point" in error.message and f"Unmount {mounted}" in error.remedy, error
    else:
        raise AssertionError(act)
assert kata_archive.added(root) == []
"""


@pytest.mark.parametrize("mounted", ["/opt/kata", "/opt/kata/my images", "/opt/kata/VERSION"])
def test_a_release_with_a_mount_in_it_is_neither_replaced_nor_removed(tmp_path: Path, mounted: str) -> None:
    """Lost if this fails: everything on a disk that an administrator mounted there."""
    upgraded(tmp_path, {})
    source = tmp_path / "large"
    if mounted == "/opt/kata":
        (tmp_path / "opt/kata").rename(source)
        (tmp_path / "opt/kata").mkdir()
    elif mounted.endswith("images"):
        source.mkdir()
        (source / "guest.img").write_text("precious")
        (tmp_path / mounted[1:]).mkdir()
    else:
        source.write_text("precious")
    before = tree(source)
    with served(archive("3.33.0")) as (address, sha256):
        script = f'mount --bind "$1/large" "$1{mounted}"'
        in_a_mount_namespace(tmp_path, script, MOUNTED, address, sha256, mounted)
    assert tree(source) == before and (source.is_dir() or source.read_text() == "precious")


LEFT = """\
import sys
from pathlib import Path
from nodekit.host import kata_archive

root = Path(sys.argv[1])
assert kata_archive.install(root, *sys.argv[2:], lambda _: None)
left = {"/var/lib/kata-nodes/kata/old/images": "is a mount point, or of another file system"}
assert kata_archive.remains(root) == left, kata_archive.remains(root)
assert kata_archive.remove(root) == ["/opt/kata"]
assert kata_archive.remains(root) == left
"""


def test_what_is_mounted_in_our_own_folder_is_left_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.mkdir()
    (source / "guest.img").write_text("precious")
    (tmp_path / "var/lib/kata-nodes/kata/old/images").mkdir(parents=True)
    with served(archive()) as (address, sha256):
        script = 'mount --bind "$1/large" "$1/var/lib/kata-nodes/kata/old/images"'
        in_a_mount_namespace(tmp_path, script, LEFT, address, sha256)
    assert (source / "guest.img").read_text() == "precious"


def test_a_release_with_a_protected_file_is_neither_replaced_nor_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `chattr +i` does, which needs root: half a release would be left where nobody looks."""
    upgraded(tmp_path, {})
    monkeypatch.setattr(files, "flag", lambda place: "i" if place.name == "VERSION" else None)
    before = tree(tmp_path)
    with served(archive("3.33.0")) as (address, sha256):
        error = refused(tmp_path, address, sha256, "file-unwritable")
    with pytest.raises(NodeError) as caught:
        kata_archive.remove(tmp_path)
    for message, remedy in ((error.message, error.remedy), (caught.value.message, caught.value.remedy)):
        assert message == "/opt/kata/VERSION cannot be replaced or removed: it is immutable"
        assert "chattr -i /opt/kata/VERSION" in remedy
    assert tree(tmp_path) == before
