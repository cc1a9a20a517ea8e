"""Files must land where the official plugin puts them."""

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import asyncssh
import pytest
from conftest import Sshd, StartSshd

from plugins.command import upload as upload_module
from plugins.command.connections import Connection, Pool
from plugins.command.errors import CommandError
from plugins.command.output import Output
from plugins.command.remote import run
from plugins.command.upload import upload
from plugins.command.wire import ARCHIVE, ASSET, SIGNATURE


async def _ignore(_: str) -> None:
    pass


def copy(sshd: Sshd, source: dict[str, Any], *targets: Path) -> None:
    async def main() -> None:
        pool = Pool()
        try:
            for target in targets:
                await upload(pool, Connection.parse(sshd.connection), source, str(target), _ignore)
        finally:
            pool.close()

    asyncio.run(main())


def text(value: str) -> dict[str, Any]:
    return {SIGNATURE: ASSET, "text": value, "hash": "x"}


def file(path: Path | str) -> dict[str, Any]:
    return {SIGNATURE: ASSET, "path": str(path), "hash": "x"}


def archive(path: Path | str) -> dict[str, Any]:
    return {SIGNATURE: ARCHIVE, "path": str(path), "hash": "x"}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An existing folder of the machine."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A local folder with a file and a folder."""
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "tree" / "deep" / "b").write_bytes(bytes(range(256)) * 20000)
    return tmp_path / "tree"


def test_text(sshd: Sshd, remote: Path) -> None:
    (remote / "old").write_text("much longer than the new text")
    copy(sshd, text("grüße"), remote / "new" / "folder" / "file", remote / "old")
    assert (remote / "new" / "folder" / "file").read_text() == (remote / "old").read_text() == "grüße"
    with pytest.raises(CommandError, match="is a directory; when using a text asset, remotePath must be a file path"):
        copy(sshd, text("x"), remote)


def test_a_full_disk_is_reported_with_a_remedy_although_the_protocol_has_no_code_for_it(sshd: Sshd) -> None:
    with pytest.raises(CommandError, match=r"/dev/full failed: Failure: free space there, or make the file system writable"):
        copy(sshd, text("x"), Path("/dev/full"))


def test_place_that_the_user_may_not_write_is_told_with_a_remedy() -> None:
    """As the program says of the official plugin's words: a home that is root's, or none at all."""

    class Closed(asyncssh.SFTPServer):
        def open(self, *_: object) -> NoReturn:  # root, as whom tests may run, is never refused
            raise asyncssh.SFTPPermissionDenied("Permission denied")

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    async def main() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=Server, sftp_factory=Closed)
        port = server.sockets[0].getsockname()[1]
        fields = {"host": "127.0.0.1", "port": port, "user": "ada", "hostKey": key.export_public_key().decode()}
        pool, connection = Pool(), Connection.parse({**fields, "password": "p"})
        with pytest.raises(CommandError, match=r"Permission denied: let user ada write there, or log in as another one$"):
            await upload(pool, connection, text("x"), "program", _ignore)
        pool.close()
        server.close()

    asyncio.run(main())


def test_file(sshd: Sshd, remote: Path, tree: Path) -> None:
    copy(sshd, file(tree / "deep" / "b"), remote, remote / "new" / "name")
    copy(sshd, archive(tree / "a"), remote / "new" / "name2")
    content = (tree / "deep" / "b").read_bytes()
    assert (remote / "b").read_bytes() == (remote / "new" / "name").read_bytes() == content
    assert (remote / "new" / "name2").read_text() == "a"


def test_folder(sshd: Sshd, remote: Path, tree: Path) -> None:
    copy(sshd, archive(tree), remote, remote / "new", remote)
    copy(sshd, archive(f"{tree}/"), remote / "inside" / "it")
    for place in (remote / "tree", remote / "new" / "tree", remote / "inside" / "it"):
        assert (place / "a").read_text() == "a"
        assert (place / "deep" / "b").read_bytes() == (tree / "deep" / "b").read_bytes()
    (remote / "taken").write_text("")
    with pytest.raises(CommandError, match="taken exists but is not a directory"):
        copy(sshd, archive(tree), remote / "taken")


def test_what_fails_is_named(sshd: Sshd, remote: Path, tree: Path) -> None:
    with pytest.raises(CommandError, match=r"the source cannot be read: .*nowhere"):
        copy(sshd, file("/nowhere"), remote)
    with pytest.raises(CommandError, match=f"copying to {sshd.user}@127.0.0.1:{sshd.port} path /proc/nowhere/x failed"):
        copy(sshd, file(tree / "a"), Path("/proc/nowhere/x"))


SFTP_SERVER = "exec /usr/lib/openssh/sftp-server"


@pytest.mark.parametrize(
    ("subsystem", "words"),
    [
        (f"sftp /bin/sh -c 'echo Welcome back; {SFTP_SERVER}'", "something prints where SFTP should answer"),
        ("sftp /bin/false", "for want of SFTP: sshd ends it before it answers"),
        ("other /bin/true", "for want of SFTP: sshd refuses it"),
        ("sftp /bin/sleep 3", "SFTP gives no answer within 1 s"),
    ],
)
def test_machine_without_usable_sftp_is_told_what_to_set_and_loses_no_command(
    start_sshd: StartSshd, remote: Path, monkeypatch: pytest.MonkeyPatch, subsystem: str, words: str
) -> None:
    """An `echo` in ~/.bashrc was told as `Max packet size exceeded`; and what ran on the connection beside was cut off."""
    sshd = start_sshd(f"Subsystem {subsystem}")
    if "sleep" in subsystem:
        monkeypatch.setattr(upload_module, "START_SECONDS", 1)

    async def main() -> None:
        pool, connection, output = Pool(), Connection.parse(sshd.connection), Output("none", _ignore)
        beside = asyncio.create_task(run(pool, connection, "echo on; sleep 2; echo off", "", {}, {}, output, _ignore, _ignore))
        while not output.text("stdout"):
            await asyncio.sleep(0.05)
        with pytest.raises(CommandError, match=words) as error:
            await upload(pool, connection, text("x"), str(remote / "x"), _ignore)
        assert "`Subsystem sftp internal-sftp`" in str(error.value)
        await beside
        assert output.text("stdout") == "on\noff"
        pool.close()

    asyncio.run(main())


def test_copies_find_room_beside_commands(start_sshd: StartSshd, remote: Path) -> None:
    sshd = start_sshd("MaxSessions 1")

    async def main() -> None:
        pool, connection = Pool(), Connection.parse(sshd.connection)
        targets = [remote / str(n) for n in range(3)]
        await asyncio.gather(*(upload(pool, connection, text("x"), str(target), _ignore) for target in targets))
        pool.close()
        assert [target.read_text() for target in targets] == ["x"] * 3

    asyncio.run(main())
