"""Pack the node program as one zipapp: nodekit and tomlkit, byte for byte the same for the same sources."""

import argparse
import errno
import functools
import hashlib
import importlib.resources
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nodekit.errors import NodeError
from nodekit.host.reading import MAX_PROGRAM, read

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGES = ("nodekit", "tomlkit")
SUFFIXES = (".py", ".sh")
START = b"""\
import gc
import os

# A run is short, and all that it loads stays until its end: neither look through it for what could go, nor take it apart.
gc.set_threshold(100_000)
from nodekit.__main__ import main

os._exit(main())
"""
"""The program's first module. `main` has written all its output when it returns; what it raises ends the program as ever."""
BOOTSTRAP = "nodekit/bootstrap.sh"
"""What converge.sh cuts out of the program; nothing in it is compressed."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold; real times would make every build different."""


def _files(folder: "Traversable", name: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _files(entry, f"{name}/{entry.name}")
        elif entry.name.endswith(SUFFIXES):
            yield f"{name}/{entry.name}", entry.read_bytes()


def content() -> bytes:
    """The zipapp's bytes."""
    files = [("__main__.py", START)]
    for package in PACKAGES:
        files += _files(importlib.resources.files(package), package)
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


class Packed(NamedTuple):
    """The program in the user's cache."""

    path: Path
    digest: str
    """Its sha256, in hexadecimal."""
    bootstrap: tuple[int, int, str]
    """Where BOOTSTRAP begins in it, how many bytes it has, and its sha256."""


def part(data: bytes, name: str) -> tuple[int, int, str]:
    """Where a file begins in the program of these bytes, how many bytes it has, and its sha256."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = archive.read(name)
    return data.index(content), len(content), hashlib.sha256(content).hexdigest()


def build(target: Path) -> str:
    """Write the zipapp to `target`, atomically; its sha256 in hexadecimal."""
    data = content()
    target.parent.mkdir(parents=True, exist_ok=True)
    # In a folder, so that its mode is what the umask leaves: people upload it to where every machine may read it.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        pending = Path(scratch, target.name)
        pending.write_bytes(data)
        pending.replace(target)
    return hashlib.sha256(data).hexdigest()


@functools.cache
def cached() -> Packed:
    """The zipapp in the user's cache, named by its sha256; written when it is not there yet.

    Packed once in a process: that takes as long as all else that a preview does for a node. Raises NodeError `file-unwritable`.
    """
    data = content()
    digest = hashlib.sha256(data).hexdigest()
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG Base Directory Specification has a path that is not absolute ignored.
        cache = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # as in a container that runs with any user id
        raise NodeError("file-unwritable", "The node program cannot be kept: this user has no home folder.", "cache") from None
    target = cache / "kata-nodes" / "nodekit" / f"nodekit-{digest[:12]}.pyz"
    try:
        if not target.exists() or hashlib.sha256(read(target, MAX_PROGRAM)).hexdigest() != digest:
            build(target)
    except OSError as error:
        why = error.strerror or error
        raise NodeError("file-unwritable", f"The node program cannot be kept in {target.parent}: {why}", "cache") from None
    return Packed(target, digest, part(data, BOOTSTRAP))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the zipapp and print its sha256; 1 where it cannot be written."""
    cli = argparse.ArgumentParser(prog="delivery.bundle", description=__doc__)
    cli.add_argument("--output", type=Path, required=True, metavar="FILE", help="where to write it")
    output: Path = cli.parse_args(argv).output
    try:
        if output.exists() and not output.is_file():
            # Such as /dev/null: for root, the file would be put in its place.
            raise FileExistsError(errno.EEXIST, "something is there that is not a file")
        print(build(output))
    except OSError as error:
        print(f"error: {output} cannot be written: {error.strerror or error}. Name another file.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
