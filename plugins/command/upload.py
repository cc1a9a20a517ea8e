"""Copies an asset or archive to a machine by SFTP, by the path rules of the official plugin."""

import asyncio
import functools
import posixpath
from pathlib import Path
from typing import Any

import asyncssh

from plugins.command.connections import SILENCE_SECONDS, Connection, Link, Pool, Status
from plugins.command.errors import CommandError

START_SECONDS = 2 * SILENCE_SECONDS
"""Bound on the start of SFTP, over that after which a machine that is silent altogether is told as such."""


async def upload(pool: Pool, connection: Connection, source: dict[str, Any], remote_path: str, status: Status) -> None:
    """Copies the source (asset or archive as on the wire) to the path; an archive file is not unpacked.

    ==========  =====================  ===================  ==================
    source      path is a folder       path does not exist  path is a file
    ==========  =====================  ===================  ==================
    text        refused                path                 path (overwritten)
    file        path/file              path                 path (overwritten)
    folder      path/folder            path/folder          refused
    folder/     path                   path                 refused
    ==========  =====================  ===================  ==================

    Raises CommandError naming the path that failed.
    """
    place = f"{connection.login} path"
    try:
        async with pool.session(connection, status, functools.partial(_start, connection)) as sftp, sftp:
            if source.get("path"):
                await _copy(sftp, place, source["path"], remote_path)
            else:
                await _write_text(sftp, place, source.get("text") or "", remote_path)
    except asyncssh.SFTPFailure as error:
        # The protocol has no status for either (draft-ietf-secsh-filexfer-02, section 7): sshd says "Failure".
        remedy = "free space there, or make the file system writable, then run again"
        raise CommandError(f"copying to {place} {remote_path} failed: {error}: {remedy}") from error
    except asyncssh.SFTPPermissionDenied as error:
        remedy = f"let user {connection.login.user} write there, or log in as another one"
        raise CommandError(f"copying to {place} {remote_path} failed: {error}: {remedy}") from error
    except (asyncssh.SFTPError, asyncssh.ChannelOpenError, asyncssh.DisconnectError) as error:
        raise CommandError(f"copying to {place} {remote_path} failed: {error}") from error
    except OSError as error:
        raise CommandError(f"the source cannot be read: {error}") from error


async def _start(connection: Connection, link: Link) -> asyncssh.SFTPClient:
    """Raises CommandError for what another try does not change: the connection stays for those that use it beside."""
    try:
        async with asyncio.timeout(START_SECONDS):
            return await link.ssh.start_sftp_client()
    except TimeoutError:
        raise CommandError(
            f"copying to {connection.login} failed: SFTP gives no answer within {START_SECONDS:g} s: see whether ~/.bashrc, or "
            "what else the shell reads there as it starts, waits for something, or put `Subsystem sftp internal-sftp`, which "
            "starts no shell, into its sshd_config"
        ) from None
    except asyncssh.SFTPBadMessage as error:
        raise CommandError(
            f"copying to {connection.login} failed: something prints where SFTP should answer ({error}): let ~/.bashrc, or what "
            "else the shell reads there as it starts, print nothing where there is no terminal, or put `Subsystem sftp "
            "internal-sftp`, which starts no shell, into its sshd_config"
        ) from error
    except (asyncssh.SFTPError, asyncssh.ChannelOpenError) as error:
        is_refused = getattr(error, "code", None) == asyncssh.OPEN_REQUEST_SESSION_FAILED
        if link.ssh.is_closed() or not (is_refused or isinstance(error, asyncssh.SFTPError)):
            raise
        how = "refuses it" if is_refused else "ends it before it answers"
        raise CommandError(
            f"copying to {connection.login} failed, for want of SFTP: sshd {how}; put `Subsystem sftp internal-sftp` into its "
            "sshd_config, and restart sshd"
        ) from error


async def _write_text(sftp: asyncssh.SFTPClient, place: str, text: str, target: str) -> None:
    if await sftp.isdir(target):
        raise CommandError(f"{place} {target} is a directory; when using a text asset, remotePath must be a file path")
    await _make_parents(sftp, target)
    async with sftp.open(target, "wb") as file:
        await file.write(text.encode())


async def _copy(sftp: asyncssh.SFTPClient, place: str, source: str, target: str) -> None:
    if not Path(source).is_dir():
        if await sftp.isdir(target):
            target = posixpath.join(target, Path(source).name)
        else:
            await _make_parents(sftp, target)
        await _copy_file(sftp, Path(source), target)
        return
    await _make_folder(sftp, place, target, parents=True)
    if not source.endswith("/"):
        target = posixpath.join(target, Path(source).name)
    await _copy_folder(sftp, place, Path(source), target)


async def _copy_folder(sftp: asyncssh.SFTPClient, place: str, source: Path, target: str) -> None:
    await _make_folder(sftp, place, target, parents=False)
    for entry in sorted(source.iterdir()):
        destination = posixpath.join(target, entry.name)
        # As official: a link to a folder is not a folder here, and refused by the read.
        if entry.is_dir() and not entry.is_symlink():
            await _copy_folder(sftp, place, entry, destination)
        else:
            await _copy_file(sftp, entry, destination)


async def _copy_file(sftp: asyncssh.SFTPClient, source: Path, target: str) -> None:
    with source.open("rb") as local:
        async with sftp.open(target, "wb") as remote:
            while block := local.read(1024 * 1024):
                await remote.write(block)


async def _make_parents(sftp: asyncssh.SFTPClient, target: str) -> None:
    parent = posixpath.dirname(target)
    if parent:
        await sftp.makedirs(parent, exist_ok=True)


async def _make_folder(sftp: asyncssh.SFTPClient, place: str, target: str, parents: bool) -> None:
    if await sftp.isdir(target):
        return
    if await sftp.exists(target):
        raise CommandError(f"{place} {target} exists but is not a directory")
    await (sftp.makedirs(target) if parents else sftp.mkdir(target))
