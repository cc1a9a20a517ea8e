"""Read files that anybody may have written, bounded in size, and never wait for one that is not a file."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MAX_SYSTEM = 4 << 20
"""Bytes that are read of a file that the kernel writes, below /proc or /sys; a list of modules has some 20 KiB."""
MAX_PROGRAM = 64 << 20
"""Bytes that are read of a program or shared library; those that go into a guest have a few MiB."""
MAX_OWN = 1 << 20
"""Bytes that are read of a document that this project itself wrote; the longest has a few KiB."""

PIECE = 64 << 10
"""Bytes that are read at once."""


class Unfit(OSError):
    """What lies at a path is not a regular file, or is longer than its limit; `strerror` says which."""


@contextmanager
def opened(place: Path | str) -> Iterator[BinaryIO]:
    """A regular file, to be read in pieces; raises OSError, and `Unfit` for anything else.

    A pipe or a device is not even opened: the first would wait for a writer, and some of the second act when they are opened.
    """
    _insist_on_file(Path(place).stat(), place)
    handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:
        _insist_on_file(os.fstat(handle), place)
        yield file


def start(place: Path | str, size: int) -> bytes:
    """The first `size` bytes of a regular file, or all of a shorter one; raises OSError, and `Unfit` for anything else."""
    content = bytearray()
    with opened(place) as file:
        # In pieces: the kernel refuses a read of more than 4 MiB below /proc/sys (ENOMEM), however short the file is.
        while piece := file.read(min(PIECE, size - len(content))):
            content += piece
    return bytes(content)


def read(place: Path | str, limit: int) -> bytes:
    """The content of a regular file; raises OSError, and `Unfit` for anything else or for more than `limit` bytes.

    The size that a file reports is not believed: files below /proc report none, and a log grows.
    """
    content = start(place, limit + 1)
    if len(content) > limit:
        size = Path(place).stat().st_size
        raise Unfit(errno.EFBIG, f"holds {max(size, len(content))} bytes, more than {limit}", str(place))
    return content


def read_text(place: Path | str, limit: int) -> str:
    """`read`, decoded; what is not UTF-8 is replaced."""
    return read(place, limit).decode(errors="replace")


def _insist_on_file(info: os.stat_result, place: Path | str) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
    if not stat.S_ISREG(info.st_mode):
        raise Unfit(errno.EINVAL, "is not a regular file", str(place))
