"""Configure one checked apt source for Docker: an existing one if its key is right, otherwise our own."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host import apt
from nodekit.host.files import read_bytes, resolve, text_of
from nodekit.host.journal import Transaction
from nodekit.rules import certificates
from nodekit.rules.docker import openpgp
from nodekit.rules.docker.apt_source import (
    SOURCE,
    Entry,
    alone,
    holds,
    is_read,
    lax_settings,
    parse,
    proxy,
    refuse_contradiction,
    refuse_unsigned,
    same_address,
    same_repository,
    source_text,
)
from nodekit.rules.text import printable

MAX_KEY = 256 << 10
"""Bytes of a key file that are read; Docker's has 4 KiB."""
KEY_TIMEOUT = 60.0
"""Seconds for the whole download of the key."""


def fetch_key(address: str, through: str | None = None) -> bytes:
    """The key file of a repository (`<address>/gpg`, as Docker publishes it); raises NodeError `repository-unreachable`.

    `through` is a proxy; without one those of the environment count, as they do for apt. What does not come that way is left to
    apt, which may have a login or a certificate for it.
    """
    import http.client  # loading it takes a third of a run that changes nothing
    import urllib.error

    from nodekit.host import proxies

    url = f"{address}/gpg"
    end = time.monotonic() + KEY_TIMEOUT
    data = b""
    try:
        with proxies.opener(through).open(url, timeout=KEY_TIMEOUT / 2) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            while part := answer.read1(1 << 16):
                data += part
                if len(data) > MAX_KEY:
                    raise OSError(f"it is larger than {MAX_KEY} bytes")
                if time.monotonic() > end:
                    raise OSError(f"it did not arrive within {KEY_TIMEOUT:g} s")
            if size not in (0, len(data)):
                raise OSError(f"it ended after {len(data)} of {size} bytes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if (by_apt := apt.download(url, MAX_KEY, KEY_TIMEOUT)) is not None:
            return by_apt
        reason = error.reason if type(error) is urllib.error.URLError else error  # that of an HTTPError lacks its number
        way = f" through {proxies.named(through)}" if through else ""
        message = f"The repository's key {url} cannot be read{way}: {printable(str(reason), 200)}"
        raise NodeError("repository-unreachable", message, certificates.case(error) or "key") from None
    return data


def entries(root: Path) -> list[Entry]:
    """Every enabled source of the node, in the order in which apt reads them."""
    folder = "/etc/apt/sources.list.d"
    names = ["/etc/apt/sources.list"]
    place = root / resolve(root, folder).lstrip("/")
    if place.is_dir():
        names += sorted(f"{folder}/{each.name}" for each in place.iterdir() if is_read(each.name))
    sources = []
    for name in names:
        if (root / resolve(root, name).lstrip("/")).is_file():
            text = text_of(root, name)
            sources += [Entry(name, source) for source in parse(text, deb822=name.endswith(".sources"))]
    return sources


def refuse_lax_settings(root: Path) -> None:
    """Raise NodeError `repository-unsigned` when apt's own settings let it install unsigned packages."""
    lax = lax_settings(apt.settings(root))
    if lax:
        where = _setting_at(root, lax[0])
        raise NodeError(
            "repository-unsigned",
            f"{where} sets {lax[0]} to yes, so that apt would install packages without a valid signature",
            options=" and ".join(lax),
            file=where.partition(":")[0] if where.startswith("/") else "the settings of apt",
        )


def _setting_at(root: Path, name: str) -> str:
    """File and line of a setting of apt.conf, which may stand in braces there; `apt-config dump` where none shows it."""
    folder, files = "/etc/apt/apt.conf.d", ["/etc/apt/apt.conf"]
    place = root / resolve(root, folder).lstrip("/")
    if place.is_dir():
        files = [*sorted(f"{folder}/{each.name}" for each in place.iterdir() if each.is_file()), *files]
    last = name.rpartition("::")[2]
    for file in files:
        text = text_of(root, file)
        for number, line in enumerate(text.split("\n"), 1):
            if re.search(rf"(?<![\w-]){re.escape(last)}\b", line, re.IGNORECASE) and not line.lstrip().startswith(("//", "#")):
                return f"{file}:{number}"
    return "apt-config dump"


def refuse_unsigned_packages(root: Path, versions: Mapping[str, str]) -> None:
    """Raise NodeError `repository-unsigned` when an entry that needs no signature holds one of these versions of packages."""
    lax = [entry for entry in entries(root) if entry.source.flags and entry.source.binary]
    if not lax:
        return
    for name, version, address in apt.offers(sorted(versions)):
        for entry in lax:
            if versions[name] == version and any(same_address(each, address) for each in entry.source.addresses):
                refuse_unsigned(entry, f"{name} {version}")


def _refuse_other_signer(root: Path, where: str, signed_by: str, expected: str) -> None:
    """Raise NodeError `repository-key-mismatch` unless `Signed-By` of an existing source stands for the expected key alone."""
    if openpgp.BEGIN in signed_by:
        openpgp.refuse_other_keys(signed_by.encode(), expected, where)
    elif signed_by.startswith("/") and len(signed_by.split()) == 1:
        data = read_bytes(root, signed_by)
        if data is None:
            raise NodeError(
                "repository-key-mismatch", f"{where} names the key file {signed_by}, which is not there", "no-file", entry=where
            )
        openpgp.refuse_other_keys(data, expected, signed_by)
        user = apt.unreadable_by(apt.settings(root), Path(signed_by)) if root == Path("/") else None
        if user is not None:
            message = f"{signed_by}, the key that {where} names, cannot be read by the user {user}, as whom apt checks signatures"
            raise NodeError("file-unreadable", message, "apt-user", user=user, path=signed_by)
    elif [word.rstrip("!").upper() for word in signed_by.split()] != [expected]:
        raise NodeError(
            "repository-key-mismatch",
            f"{where} has this repository, signed by {printable(signed_by, 120) or 'no named key'}, not by {expected} alone",
            "entry",
            entry=where,
        )


def existing(root: Path, *, address: str, suite: str, fingerprint: str) -> list[Entry]:
    """The entries of the node for that repository, with any component, in apt's order; our own is left out.

    Raises NodeError `repository-key-mismatch`, `repository-unsigned`, `apt-sources-invalid` or `file-unreadable` for entries that
    may not be used.
    """
    others = [entry for entry in entries(root) if entry.file != SOURCE]
    refuse_contradiction(others)
    ours = [entry for entry in others if entry.source.binary and same_repository(entry.source, address, suite)]
    for entry in ours:
        refuse_unsigned(entry, "Docker")
        _refuse_other_signer(root, entry.where, entry.source.signed_by, fingerprint)
    return ours


class Readable(NamedTuple):
    """A sources file that holds the repository."""

    file: str
    entry: str | None
    """The repository's own entry in a file of somebody's, which can have others that nobody reaches any more; None in ours."""


def ensure(root: Path, change: Transaction, *, address: str, suite: str, component: str, fingerprint: str) -> Readable:
    """The sources file that holds the repository; ours is written, within `change`, where none does.

    Two entries for one repository with different `Signed-By` are an error for apt, so an existing entry is used, and ours
    goes, when its key is the expected one; where those that exist have other components alone, ours names its key as they do.
    Raises NodeError as `existing`, and `repository-unreachable`.
    """
    refuse_lax_settings(root)
    others = existing(root, address=address, suite=suite, fingerprint=fingerprint)
    for entry in others:
        if holds(entry.source, suite, component):
            change.remove(SOURCE)
            text = text_of(root, entry.file)
            return Readable(entry.file, alone(text, entry.source.line, deb822=entry.file.endswith(".sources")))
    if others:
        text = source_text(address, suite, component, others[0].source.signed_by)
    else:
        key = fetch_key(address, proxy(apt.settings(root), address))
        text = checked_source(address, suite, component, fingerprint, key, f"{address}/gpg")
    change.write(SOURCE, text.encode(), 0o644, is_own=True)
    return Readable(SOURCE, None)


def checked_source(address: str, suite: str, component: str, fingerprint: str, key: bytes, where: str) -> str:
    """The text of our own sources file with this key, which came from `where`; raises NodeError `repository-key-mismatch`."""
    openpgp.refuse_other_keys(key, fingerprint, where)
    return source_text(address, suite, component, openpgp.armour(key).decode("ascii"))
