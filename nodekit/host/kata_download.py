"""Download a Kata release archive to the node and unpack it, trusting nothing in it."""

import errno
import hashlib
import http.client
import lzma
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar
from urllib.request import OpenerDirector

from nodekit.errors import NodeError
from nodekit.host import apt, proxies
from nodekit.host.failpoints import reach
from nodekit.host.process import not_started
from nodekit.progress import say
from nodekit.rules import certificates
from nodekit.rules.docker.apt_source import proxy as apt_proxy
from nodekit.rules.kata.kata_layout import INSTALL_FOLDER, MARKER
from nodekit.rules.text import printable, public

MAX_ARCHIVE = 4 << 30
"""Bytes of an archive that are downloaded at most; releases are below 1 GiB."""
MAX_UNPACKED = 16 << 30
MAX_MEMBERS = 100_000
MAX_HEADER = 1 << 20
"""Bytes of an extended header, which is read as a whole; Linux takes paths of 4096 bytes."""
CHUNK = 1 << 20
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of a zstd frame (RFC 8878); from 3.21.0 on releases are packed so, before with xz."""
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
"""Types of members that are headers of the next one, or of all."""
MAX_TIME = 1 << 32
"""Seconds since 1970 that a member's time may be; others become 0."""
_MISREAD = (ValueError, LookupError, ArithmeticError, RecursionError)
"""What tarfile raises for headers that contradict themselves, beside its own error."""
_MISSHAPEN = (errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY)
"""What the system answers to members that cannot lie beside each other; anything else is the disk's fault."""
DOWNLOAD_SECONDS = 1200.0
"""Bound on the whole download."""
SILENT_SECONDS = 60.0
"""After which a server that says nothing is given up."""
T = TypeVar("T")


def download(root: Path, address: str, sha256: str, target: Path) -> None:
    """Write what lies at `address` to `target`; raises NodeError `kata-download-failed` or `kata-archive-differs`, and OSError
    when it cannot be written. Apt's proxy as for `size`."""
    end = time.monotonic() + DOWNLOAD_SECONDS

    def fetch(opener: OpenerDirector) -> None:
        digest = hashlib.sha256()
        with open(target, "wb") as file:
            for chunk in _arriving(opener, address, end):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise NodeError(
                "kata-archive-differs",
                f"{public(address)} has sha256 {digest.hexdigest()}, not {sha256}; nothing was unpacked",
            )

    _out_of_the_node(root, address, fetch)


def size(root: Path, address: str) -> int | None:
    """Bytes of what lies at `address`, of which nothing is read; None where the server does not say.

    Where apt has a proxy for the address, that is tried first: it may be the node's only way out, and without it this would wait.
    Some proxies of apt lead to repositories alone, so what they do not give is asked for without them.
    Raises NodeError `kata-download-failed` when it cannot be downloaded.
    """

    def fetch(opener: OpenerDirector) -> int | None:
        try:
            # `address` is http or https: the verb has checked it. GET, since addresses that are signed for it refuse HEAD.
            with opener.open(address, timeout=SILENT_SECONDS) as answer:
                return int(answer.headers.get("Content-Length") or 0) or None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _failed(address, error) from None

    return _out_of_the_node(root, address, fetch)


def _out_of_the_node(root: Path, address: str, fetch: Callable[[OpenerDirector], T]) -> T:
    """What `fetch` returns by the first way that leads to `address`; raises what it raises of the last one."""
    proxy = apt_proxy(apt.settings(root), address)
    if proxy is None:
        return fetch(proxies.opener(None))
    try:
        return fetch(proxies.opener(proxy))
    except NodeError as error:
        refused = f"through {proxies.named(proxy)}: {error.message}"
        say(f"  {refused}; trying without it ...")
    try:
        return fetch(proxies.opener(None))
    except NodeError as error:
        error.message = f"{error.message.rstrip('.')}; {refused}"
        raise


def _failed(address: str, error: Exception) -> NodeError:
    why = printable(str(error), 200)
    return NodeError("kata-download-failed", f"{public(address)} cannot be downloaded: {why}", certificates.case(error))


def _arriving(opener: OpenerDirector, address: str, end: float) -> Iterator[bytes]:
    """What lies at `address`, as it comes; raises NodeError `kata-download-failed`."""
    size = 0
    reported = time.monotonic()
    try:
        # `address` is http or https: the verb has checked it.
        with opener.open(address, timeout=SILENT_SECONDS) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read1(CHUNK):  # what is there: `read` waits for all of it, however slowly it comes
                size += len(chunk)
                now = time.monotonic()
                if size > MAX_ARCHIVE or now > end:
                    bound = f"{MAX_ARCHIVE >> 30} GiB or {DOWNLOAD_SECONDS:g} s"
                    raise NodeError("kata-download-failed", f"The download of {public(address)} went over {bound}")
                yield chunk
                if now - reported > 5:
                    reported = now
                    say(f"  {size >> 20} MiB{f' of {total >> 20}' if total else ''} ...")
            if total not in (0, size):
                raise ValueError(f"it ended after {size} of {total} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _failed(address, error) from None


def invalid(problem: str) -> NodeError:
    """The error for an archive that holds what no release holds."""
    return NodeError("kata-archive-invalid", f"The Kata archive is not valid: {printable(problem, 300)}; nothing was installed")


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` below `target`; raises NodeError `kata-archive-invalid` or `tool-missing`."""
    with archive.open("rb") as file:
        head = file.read(len(ZSTD))
    if head != ZSTD:
        _members(archive.open("rb"), "r|xz", target)
        return
    try:
        process = subprocess.Popen(["zstd", "-dc", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise not_started("zstd", error, "the package zstd") from None
    with process:
        assert process.stdout is not None
        try:
            _members(process.stdout, "r|", target)
        finally:
            process.kill()


class _Member(tarfile.TarInfo):
    """A member whose header is refused before memory is taken for it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """A member from one block of the archive."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:  # older versions of Python's tarfile read such a member for ever
            raise invalid("it holds a header of negative size")
        if member.size > MAX_HEADER and member.type in EXTENDED:
            raise invalid(f"it holds a header of {member.size} bytes")
        return member


def _members(stream: IO[bytes], mode: str, target: Path) -> None:
    """Unpack every member after checking that it stays inside the install folder and is file, folder or link."""
    links: set[str] = set()
    count = size = 0
    try:
        with stream, tarfile.open(fileobj=stream, mode=mode, tarinfo=_Member) as tar:  # type: ignore[call-overload]
            for member in tar:
                count, size = count + 1, size + member.size
                if count > MAX_MEMBERS or size > MAX_UNPACKED:
                    raise invalid(f"it holds more than {MAX_MEMBERS} files or {MAX_UNPACKED >> 30} GiB")
                name = _checked(member, links)
                if name == "opt" or not name:
                    continue
                member.name = name
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mode = 0o755 if member.isdir() else member.mode & 0o755
                member.mtime = int(member.mtime) if 0 <= member.mtime < MAX_TIME else 0
                if member.issym():
                    links.add(name)
                if hasattr(tarfile, "fully_trusted_filter"):  # checked above; `data` refuses links out of the folder
                    tar.extract(member, target, filter="fully_trusted")
                else:
                    tar.extract(member, target)
                reach("archive-member-unpacked")
    except (tarfile.TarError, lzma.LZMAError, EOFError, *_MISREAD) as error:
        raise invalid(str(error) or type(error).__name__) from None
    except OSError as error:
        if error.errno in _MISSHAPEN:
            raise invalid(f"{error.strerror}: {error.filename}") from None
        raise


def _checked(member: tarfile.TarInfo, links: set[str]) -> str:
    """The member's path without `./`; raises NodeError `kata-archive-invalid`."""
    name = _plain(member.name)
    top = INSTALL_FOLDER.lstrip("/")
    if name and name != "opt" and name != top and not name.startswith(f"{top}/"):
        raise invalid(f"member {name!r} lies outside {INSTALL_FOLDER}")
    if not (member.isdir() or member.isreg() or member.issym() or member.islnk()):
        raise invalid(f"member {name!r} is a device or a pipe")
    if name == f"{top}/{MARKER}":
        raise invalid(f"member {name!r} is this program's own record")
    if name in ("", "opt", top) and not member.isdir():
        raise invalid(f"member {name!r} is not a folder")
    if _through(name, links):
        raise invalid(f"member {name!r} would be written through a link")
    if member.islnk():
        other = _plain(member.linkname)
        if not other.startswith(f"{top}/") or _through(other, links):
            raise invalid(f"member {name!r} is a link to {member.linkname!r} outside {INSTALL_FOLDER}")
    return name


def _through(name: str, links: set[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:at]) in links for at in range(1, len(parts) + 1))


def _plain(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise invalid(f"member {name!r} leaves its folder")
    return "/".join(parts)
