"""Official release files: downloaded, checked against the published sha256, unpacked."""

import io
import re
import tarfile
import zlib
from pathlib import Path

from tools import sites
from tools.cache import SetupError


class Unavailable(Exception):
    """The site does not have the file, or cannot be reached."""


def published_sum(listing: str, name: str) -> str | None:
    """The sha256 of file `name` in a list as sha256sum(1) writes it, or in a file that holds one sum and nothing else."""
    for line in listing.splitlines():
        words = line.split()
        if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) and words[1:] in ([], [name], [f"*{name}"]):
            return words[0].lower()
    return None


def checked(url: str, checksums: str, part: str) -> bytes:
    """The file at `url`, whose sum the file at `checksums` publishes; raises Unavailable and SetupError."""
    try:
        listing = sites.fetch(checksums).decode(errors="replace")
        data = sites.fetch(url)
    except OSError as error:
        raise Unavailable(str(error)) from error
    name = url.rsplit("/", 1)[1]
    published = published_sum(listing, name)
    if published is None:
        raise SetupError(
            f"{part}: the checksum list {sites.address(checksums)} has no sha256 of {name}. Check that the site, its mirror or a "
            "proxy returns the file itself and not a page."
        )
    return sites.summed(data, published, f"{part}: {sites.address(url)}", sites.address(checksums))


def unpack(data: bytes, member: str, folder: Path, part: str) -> None:
    """Put the program `member` of a gzipped tar archive into `folder`, with the files beside it; raises SetupError."""
    inside = member.rpartition("/")[0]
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for entry in archive:
                # Only plain files of that folder, by their last name: nothing in an archive decides where it lands.
                place, _, name = entry.name.removeprefix("./").rpartition("/")
                content = archive.extractfile(entry) if entry.isfile() and place == inside else None
                if content and name not in ("", ".", ".."):
                    (folder / name).write_bytes(content.read())
                    (folder / name).chmod(0o755 if entry.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise SetupError(
            f"{part}: the official archive has the published sha256 and cannot be unpacked ({error}). Report this to its vendor."
        ) from error
    if not (folder / member.rpartition("/")[2]).is_file():
        raise SetupError(f"{part}: the official archive has no {member}. Report this to this project: the layout has changed.")


def download(part: str, url: str, checksums: str, member: str, folder: Path) -> None:
    """Put a program into `folder`: `member` of the archive at `url`, or the file there itself where there is no member."""
    data = checked(url, checksums, part)
    if member:
        unpack(data, member, folder, part)
    else:
        program = folder / part
        program.write_bytes(data)
        program.chmod(0o755)
