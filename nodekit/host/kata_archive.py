"""Install a Kata release archive into /opt/kata as a whole or not at all, and remove it again."""

import hashlib
import http.client
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nodekit.errors import NodeError
from nodekit.host.files import STATE_FOLDER
from nodekit.progress import say, step
from nodekit.rules.kata_layout import INSTALL_FOLDER
from nodekit.rules.text import printable

MARKER = ".kata-nodes.json"
"""File in the install folder that says: this program put it there, from the archive of that sha256."""
MAX_ARCHIVE = 4 << 30
"""Bytes of an archive that are downloaded at most; releases are below 1 GiB."""
MAX_UNPACKED = 16 << 30
MAX_MEMBERS = 100_000
CHUNK = 1 << 20
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame (RFC 8878); from 4.0.0 releases are packed so, before with xz."""
DOWNLOAD_SECONDS = 1200.0
"""Bound on the whole download; within it, a server that says nothing for a minute is given up."""


def installed(root: Path) -> str | None:
    """The sha256 of the archive that this program installed; None when /opt/kata is not there or not ours."""
    try:
        marker = json.loads((_folder(root) / MARKER).read_text())
    except (OSError, ValueError):
        return None
    sha256 = marker.get("sha256") if isinstance(marker, dict) else None
    return sha256 if isinstance(sha256, str) else None


def is_foreign(root: Path) -> bool:
    """Whether /opt/kata is there and somebody else put it there."""
    return os.path.lexists(_folder(root)) and installed(root) is None


def install(root: Path, address: str, sha256: str, before_the_swap: Callable[[Path], None]) -> bool:
    """Have the archive of that address and sha256 in /opt/kata; true when it was not. Hold the node's lock.

    What was there before, if this program put it there, stays until the new one is whole and `before_the_swap` has accepted
    it; that is given a folder in which the new one lies as `opt/kata`, and refuses by raising. Raises NodeError
    `kata-foreign-install`, `kata-download-failed`, `kata-archive-differs`, `kata-archive-invalid`, `tool-missing` or
    `file-unwritable`; then /opt/kata is as it was.
    """
    _finish(root)
    if installed(root) == sha256:
        return False
    if is_foreign(root):
        raise NodeError(
            "kata-foreign-install",
            f"{INSTALL_FOLDER} is there and this program did not install it (kata-deploy, or somebody by hand)",
            f"Leave out kata.install to use what is there, or remove {INSTALL_FOLDER} first",
        )
    archive = root / STATE_FOLDER.lstrip("/") / "archive.partial"
    new = _beside(root, "new")
    try:
        with _disk(archive):
            archive.parent.mkdir(parents=True, exist_ok=True)
            archive.parent.chmod(0o700)
        with step(f"Downloading {printable(address, 200)}"):
            _download(address, sha256, archive)
        with step(f"Unpacking it to {INSTALL_FOLDER}"), _disk(new):
            new.mkdir(parents=True)
            _unpack(archive, new)
            inside = new / INSTALL_FOLDER.lstrip("/")
            if not inside.is_dir():
                raise _invalid(f"it has no {INSTALL_FOLDER}")
            (inside / MARKER).write_text(json.dumps({"sha256": sha256, "address": address}) + "\n")
            before_the_swap(new)
            os.sync()
            _swap(root, inside)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return True


def remove(root: Path) -> list[str]:
    """Remove /opt/kata if this program installed it; the paths removed. Hold the node's lock."""
    _finish(root)
    if installed(root) is None:
        return []
    old = _beside(root, "old")
    with _disk(old):
        _folder(root).rename(old)  # at once for whoever looks, then at leisure
        shutil.rmtree(old)
    return [INSTALL_FOLDER]


def _folder(root: Path) -> Path:
    return root / INSTALL_FOLDER.lstrip("/")


def _beside(root: Path, what: str) -> Path:
    """A folder on the same file system, so that a rename is enough; one fixed name, so that nothing is ever left over."""
    return _folder(root).parent / f".kata-nodes-{what}"


def _swap(root: Path, inside: Path) -> None:
    folder, old = _folder(root), _beside(root, "old")
    if folder.exists():
        folder.rename(old)
    inside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _finish(root: Path) -> None:
    """Mend what a kill left behind: between the two renames of `_swap` there is only the old folder."""
    old = _beside(root, "old")
    with _disk(old):
        if old.exists() and not os.path.lexists(_folder(root)):
            old.rename(_folder(root))
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(_beside(root, "new"), ignore_errors=True)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NodeError(
            "file-unwritable",
            f"{error.filename or path} cannot be written: {error.strerror or error}",
            f"Free space for {INSTALL_FOLDER} (a release needs about 2 GiB), or make the file system writable",
        ) from None


def _download(address: str, sha256: str, target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    begin = said = time.monotonic()
    remedy = "Check kata.install.address, and that the node reaches it"
    try:
        # `address` is http or https: the verb has checked it.
        with urllib.request.urlopen(address, timeout=60) as answer, open(target, "wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                now = time.monotonic()
                if size > MAX_ARCHIVE or now - begin > DOWNLOAD_SECONDS:
                    bound = f"{MAX_ARCHIVE >> 30} GiB or {DOWNLOAD_SECONDS:g} s"
                    raise NodeError(
                        "kata-download-failed", f"The download of {printable(address, 200)} went over {bound}", remedy
                    )
                digest.update(chunk)
                file.write(chunk)
                if now - said > 5:
                    said = now
                    say(f"  {size >> 20} MiB{f' of {total >> 20}' if total else ''} ...")
            if total not in (0, size):
                raise ValueError(f"it ended after {size} of {total} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = printable(str(error), 200)
        raise NodeError("kata-download-failed", f"{printable(address, 200)} cannot be downloaded: {why}", remedy) from None
    if digest.hexdigest() != sha256:
        raise NodeError(
            "kata-archive-differs",
            f"{printable(address, 200)} has sha256 {digest.hexdigest()}, not {sha256}; nothing was unpacked",
            "Compare kata.install.sha256 with the release's own; if they agree, do not trust the address",
        )


def _invalid(what: str) -> NodeError:
    return NodeError(
        "kata-archive-invalid",
        f"The Kata archive is none: {printable(what, 300)}; nothing was installed",
        "Give the address of a kata-static archive (.tar.xz or .tar.zst)",
    )


def _unpack(archive: Path, target: Path) -> None:
    with archive.open("rb") as file:
        head = file.read(len(ZSTD))
    if head != ZSTD:
        _members(archive.open("rb"), "r|xz", target)
        return
    try:
        process = subprocess.Popen(["zstd", "-dc", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        raise NodeError("tool-missing", "zstd is not installed on this node", "Install the package zstd") from None
    with process:
        assert process.stdout is not None
        try:
            _members(process.stdout, "r|", target)
        finally:
            process.kill()


def _members(stream: IO[bytes], mode: str, target: Path) -> None:
    """Unpack every member after checking that it stays inside the install folder and is file, folder or link."""
    links: set[str] = set()
    count = size = 0
    try:
        with stream, tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
            for member in tar:
                count, size = count + 1, size + member.size
                if count > MAX_MEMBERS or size > MAX_UNPACKED:
                    raise _invalid(f"it holds more than {MAX_MEMBERS} files or {MAX_UNPACKED >> 30} GiB")
                name = _checked(member, links)
                if name == "opt" or not name:
                    continue
                member.name = name
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mode = 0o755 if member.isdir() else member.mode & 0o755
                if member.issym():
                    links.add(name)
                if hasattr(tarfile, "fully_trusted_filter"):  # checked above; `data` refuses links out of the folder
                    tar.extract(member, target, filter="fully_trusted")
                else:
                    tar.extract(member, target)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise _invalid(str(error) or type(error).__name__) from None


def _checked(member: tarfile.TarInfo, links: set[str]) -> str:
    """The member's path without `./`; raises NodeError `kata-archive-invalid`."""
    name = _plain(member.name)
    top = INSTALL_FOLDER.lstrip("/")
    if name and name != "opt" and name != top and not name.startswith(f"{top}/"):
        raise _invalid(f"member {name!r} lies outside {INSTALL_FOLDER}")
    if not (member.isdir() or member.isreg() or member.issym() or member.islnk()):
        raise _invalid(f"member {name!r} is a device or a pipe")
    if name in ("", "opt", top) and not member.isdir():
        raise _invalid(f"member {name!r} is no folder")
    if _through(name, links):
        raise _invalid(f"member {name!r} would be written through a link")
    if member.islnk():
        other = _plain(member.linkname)
        if not other.startswith(f"{top}/") or _through(other, links):
            raise _invalid(f"member {name!r} is a link to {member.linkname!r} outside {INSTALL_FOLDER}")
    return name


def _through(name: str, links: set[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:at]) in links for at in range(1, len(parts) + 1))


def _plain(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise _invalid(f"member {name!r} leaves its folder")
    return "/".join(parts)
