"""The question `apt-sources`: the apt source that the verb `docker` would write or use below a root folder, or why it refuses."""

import argparse
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import apt_source, files
from nodekit.host.node import os_release
from nodekit.rules.docker import openpgp
from nodekit.rules.docker.apt_source import (
    DOCKER_ADDRESS,
    DOCKER_FINGERPRINT,
    SOURCE,
    holds,
    refuse_contradiction,
    repository_address,
    repository_word,
    source_text,
)
from nodekit.rules.docker.docker_packages import codename


def arguments(parser: argparse.ArgumentParser) -> None:
    """The repository; each option has the default of a stack."""
    parser.add_argument("--address", default=DOCKER_ADDRESS, help="the repository; {id} is the system's (default: %(default)s)")
    parser.add_argument("--suite", help="its suite (default: the system's code name)")
    parser.add_argument("--component", default="stable", help="its component (default: %(default)s)")
    parser.add_argument("--fingerprint", default=DOCKER_FINGERPRINT, help="of the key that signs it (default: Docker's)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the repository's key file, to be checked and printed in full")


def run(root: Path, *, address: str, suite: str | None, component: str, fingerprint: str, key: Path | None) -> dict[str, object]:
    """`content` is the whole text of `file` that would be written; where an entry that is there is used, `content` is None and
    `file` and `line` are that entry's. Nothing is written and nothing is contacted.

    Raises NodeError `bad-input`, `unsupported-os`, `file-unreadable`, `file-invalid`, `repository-key-mismatch`,
    `repository-unsigned`, `apt-sources-invalid` or `tool-missing`.
    """
    # What apt itself cannot read comes first: it counts whatever the system is.
    refuse_contradiction([entry for entry in apt_source.entries(root) if entry.file != SOURCE])
    apt_source.refuse_lax_settings(root)
    system = os_release(root)
    address = repository_address(address, system.id)
    suite = repository_word(suite or codename(system.id, system.version_id), "suite")
    component, expected = repository_word(component, "component"), openpgp.fingerprint(fingerprint)
    others = apt_source.existing(root, address=address, suite=suite, fingerprint=expected)
    for entry in others:
        if holds(entry.source, suite, component):
            return {"file": entry.file, "line": entry.source.line, "content": None}
    if others:
        content = source_text(address, suite, component, others[0].source.signed_by)
    elif key is None:
        words = f"(the key {expected}, which the node downloads from {address}/gpg and compares; --key FILE prints it in full)"
        content = source_text(address, suite, component, words)
    else:
        data = files.read_bytes(Path("/"), str(key.absolute()))
        if data is None:
            raise NodeError(
                "file-unreadable", f"{key} does not exist", expected="the key file that the repository's owner publishes"
            )
        content = apt_source.checked_source(address, suite, component, expected, data, str(key))
    return {"file": SOURCE, "line": 1, "content": content}


def text(document: dict[str, object]) -> str:
    """The file that would be written, byte for byte, or one line about the entry that is used."""
    if document["content"] is not None:
        return str(document["content"])
    return (
        f"# {document['file']}:{document['line']} is this repository's, with the expected key: it is used, and none is written.\n"
    )
