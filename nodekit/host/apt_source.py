"""Give apt one checked source for Docker: the one that is there already when its key is right, else our own."""

import time
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host.files import read_bytes, resolve
from nodekit.host.journal import Transaction
from nodekit.rules import openpgp
from nodekit.rules.apt_source import SOURCE, Source, parse, same_repository, source_text
from nodekit.rules.text import printable

MAX_KEY = 256 << 10
"""Bytes of a key file that are read; Docker's has 4 KiB."""
KEY_TIMEOUT = 60.0
"""Seconds for the whole download of the key."""


def fetch_key(address: str) -> bytes:
    """The key file of a repository (`<address>/gpg`, as Docker publishes it); raises NodeError `repository-unreachable`."""
    import urllib.error  # HTTP costs a run that changes nothing a third of its time
    import urllib.request

    url = f"{address}/gpg"
    end = time.monotonic() + KEY_TIMEOUT
    data = b""
    try:
        with urllib.request.urlopen(url, timeout=KEY_TIMEOUT / 2) as answer:
            while part := answer.read1(1 << 16):
                data += part
                if len(data) > MAX_KEY:
                    raise OSError(f"it is larger than {MAX_KEY} bytes")
                if time.monotonic() > end:
                    raise OSError(f"it did not arrive within {KEY_TIMEOUT:g} s")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise NodeError(
            "repository-unreachable",
            f"The repository's key {url} cannot be read: {printable(str(reason), 200)}",
            "Check the repository's address, and that the node reaches it",
        ) from None
    return data


def _others(root: Path) -> list[tuple[str, Source]]:
    """Every enabled source of the node except our own, with the file that it stands in."""
    folder = "/etc/apt/sources.list.d"
    names = ["/etc/apt/sources.list"]
    here = root / resolve(root, folder).lstrip("/")
    if here.is_dir():
        names += sorted(f"{folder}/{one.name}" for one in here.iterdir() if one.suffix in (".list", ".sources"))
    found = []
    for name in names:
        text = read_bytes(root, name) if name != SOURCE else None
        if text is not None:
            found += [(name, source) for source in parse(text.decode(errors="replace"), deb822=name.endswith(".sources"))]
    return found


def _refuse_other_signer(root: Path, where: str, signed_by: str, expected: str) -> None:
    """Raise NodeError `repository-key-mismatch` unless `Signed-By` of an existing source stands for the expected key alone."""
    if openpgp.BEGIN in signed_by:
        openpgp.refuse_other_keys(signed_by.encode(), expected, where)
    elif signed_by.startswith("/") and len(signed_by.split()) == 1:
        data = read_bytes(root, signed_by)
        if data is None:
            raise NodeError(
                "repository-key-mismatch", f"{where} names the key file {signed_by}, which is not there", f"Remove {where}"
            )
        openpgp.refuse_other_keys(data, expected, signed_by)
    elif [word.rstrip("!").upper() for word in signed_by.split()] != [expected]:
        raise NodeError(
            "repository-key-mismatch",
            f"{where} has this repository, signed by {printable(signed_by, 120) or 'no named key'}, not by {expected} alone",
            f"Give that entry 'Signed-By' with the repository's key file, or remove it from {where}",
        )


def ensure(root: Path, change: Transaction, *, address: str, suite: str, component: str, fingerprint: str) -> str:
    """The path of the sources file that holds the repository; ours is written, within `change`, where none does.

    Two entries for one repository with different `Signed-By` are an error for apt, so an existing entry is used, and ours
    goes, when its key is the expected one. Raises NodeError `repository-key-mismatch` or `repository-unreachable`.
    """
    for where, source in _others(root):
        if same_repository(source, address, suite):
            _refuse_other_signer(root, where, source.signed_by, fingerprint)
            change.remove(SOURCE)
            return where
    key = fetch_key(address)
    openpgp.refuse_other_keys(key, fingerprint, f"{address}/gpg")
    change.write(SOURCE, source_text(address, suite, component, openpgp.armour(key)).encode(), 0o644)
    return SOURCE
