"""Have a Kata release in /opt/kata as a whole or not at all, and remove it again."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.files import STATE_FOLDER, physical, replace, resolve, state_folder
from nodekit.host.reading import MAX_OWN, MAX_SYSTEM, read, read_text
from nodekit.host.signals import undisturbed
from nodekit.progress import say, step
from nodekit.rules.kata.kata_layout import DROP_IN, INSTALL_FOLDER, MARKER
from nodekit.rules.text import printable, public

RENAME_EXCHANGE = 2
"""renameat2(2): two names change places in one step."""


def _marker(root: Path) -> dict[str, object]:
    """What the marker says; empty when /opt/kata is not there or not ours."""
    try:
        marker = json.loads(read(_folder(root) / MARKER, MAX_OWN))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def installed(root: Path) -> str | None:
    """The sha256 of the archive that this program installed; None when /opt/kata is not there or not ours."""
    sha256 = _marker(root).get("sha256")
    return sha256 if isinstance(sha256, str) else None


def missing(root: Path) -> list[str]:
    """The files of our release, below /opt/kata, that are no longer there; none where the marker lists no files."""
    files = _marker(root).get("files")
    folder = _folder(root)
    return [name for name in files if not os.path.lexists(folder / name)] if isinstance(files, list) else []


def edited(root: Path) -> list[str]:
    """The files of our release that a restore left because somebody had edited them, and that are still there."""
    paths = _marker(root).get("edited")
    return [path for path in paths if os.path.lexists(physical(root, path))] if isinstance(paths, list) else []


def added(root: Path) -> list[str]:
    """The files below /opt/kata that neither the archive of our release holds nor this program writes; none without a list."""
    files = _marker(root).get("files")
    if not isinstance(files, list):
        return []
    others = {*_files(_folder(root))} - {*files, MARKER}
    return sorted(f"{INSTALL_FOLDER}/{name}" for name in others if Path(name).name != DROP_IN)


def note_edited(root: Path, paths: list[str]) -> None:
    """Have the release itself name what somebody edited in it: the journal, which knows it too, ends with the restore."""
    known = edited(root)
    if not {*paths} <= {*known}:
        marker = {**_marker(root), "edited": sorted({*known, *paths})}
        replace(root, f"{INSTALL_FOLDER}/{MARKER}", f"{json.dumps(marker)}\n".encode())


def place(root: Path, *, last: bool = True) -> str:
    """Where /opt/kata lies with links followed, as a journal spells the paths below it: /opt may be a link to a larger disk.

    With `last` false a release that takes its place: it replaces a link.
    """
    return resolve(root, INSTALL_FOLDER, last=last)


def is_foreign(root: Path) -> bool:
    """Whether /opt/kata is there and somebody else put it there."""
    return os.path.lexists(_folder(root)) and installed(root) is None


def refuse_foreign(root: Path) -> None:
    """Raise NodeError `kata-foreign-install` when somebody else's Kata lies where a release would go."""
    if is_foreign(root):
        raise NodeError(
            "kata-foreign-install",
            f"{INSTALL_FOLDER} is there and this program did not install it (kata-deploy, or somebody by hand)",
            folder=INSTALL_FOLDER,
        )


def free_bytes(root: Path) -> int:
    """Bytes that root may still write where a release is unpacked: on the file system that holds /opt/kata, or will."""
    folder = _folder(root).parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    space = os.statvfs(existing)
    return space.f_bavail * space.f_frsize


Prepare = Callable[[Path], Callable[[], None] | None]
"""Gets a folder in which a new release lies as `opt/kata`: it may add to it, and refuses by raising. What it returns is called
once the release before is in its place again."""


def install(root: Path, address: str, sha256: str, before_the_swap: Prepare) -> bool:
    """As `installed_for`, for nothing that could fail after it."""
    with installed_for(root, address, sha256, before_the_swap) as changed:
        return changed


@contextmanager
def installed_for(root: Path, address: str, sha256: str, before_the_swap: Prepare) -> Iterator[bool]:
    """Have the archive of that address and sha256 in /opt/kata, whole; true when it was not. Hold the node's lock.

    The new release is prepared in a folder of this program's own and takes its place in one step; what was there, if this
    program put it there, is removed after the with-block, and takes its place again when that fails. Where the release is there
    and files of it are missing, those alone are put back, so that configuration and drop-ins stay. Raises NodeError
    `kata-foreign-install`, `kata-download-failed`, `kata-archive-differs`, `kata-archive-invalid`, `tool-missing` or
    `file-unwritable`; then /opt/kata is as it was.
    """
    work = _work(root)
    is_there = installed(root) == sha256
    gone = missing(root) if is_there else []
    if is_there and not gone:
        _clear(work)
        yield False
        return
    refuse_foreign(root)
    from nodekit.host.kata_download import download, invalid, unpack  # loads HTTP and tar, which few runs need

    _clear(work)
    archive, new = work / "archive", work / "new"
    inside = new / INSTALL_FOLDER.lstrip("/")
    own_again: Callable[[], None] | None = None
    try:
        with _disk(work):
            if work.parent == root / STATE_FOLDER.lstrip("/"):
                state_folder(root)
            new.mkdir(mode=0o700, parents=True)
        with step(f"Downloading {public(address)}"), _disk(work):
            download(root, address, sha256, archive)
        reach("archive-downloaded")
        with step(f"Unpacking it to {INSTALL_FOLDER}"), _disk(new):
            unpack(archive, new)
            if not inside.is_dir():
                raise invalid(f"it has no {INSTALL_FOLDER}")
            if gone:
                _put_back(inside, _folder(root), gone)
            else:
                marker = {"sha256": sha256, "address": public(address), "files": _files(inside)}
                _write_marker(inside / MARKER, json.dumps(marker) + "\n")
                reach("archive-unpacked")
                own_again = before_the_swap(new)
                os.sync()
                reach("archive-prepared")
                _place(inside, _folder(root))
                reach("archive-placed")
        yield True
    except BaseException:
        if own_again is not None:
            with undisturbed(), suppress(OSError, NodeError):  # the first failure is the one to report
                _return(inside, _folder(root), is_placed=installed(root) == sha256)
                if installed(root) != sha256:
                    own_again()
        raise
    finally:
        _clear(work)


def remove(root: Path) -> list[str]:
    """Remove /opt/kata if this program installed it; the paths removed. Hold the node's lock."""
    work = _work(root)
    _clear(work)
    if installed(root) is None:
        return []
    with _disk(work):
        if work.parent == root / STATE_FOLDER.lstrip("/"):
            state_folder(root)
        work.mkdir(mode=0o700)
        _folder(root).rename(work / "old")  # readers see one step; removing it takes longer
        reach("archive-displaced")
    _clear(work)
    return [INSTALL_FOLDER]


def _folder(root: Path) -> Path:
    return root / INSTALL_FOLDER.lstrip("/")


def _work(root: Path) -> Path:
    """Where a release is prepared and taken apart: our own folder if a rename leads from there to its place, else beside it.

    One fixed name each, so that the next run finds what a kill left.
    """
    opt, state = _folder(root).parent, root / STATE_FOLDER.lstrip("/")
    existing = next(path for path in (state, *state.parents) if path.exists())
    with _disk(opt):
        opt.mkdir(parents=True, exist_ok=True)
    return state / "kata" if _mount(existing) == _mount(opt) else opt / ".kata-nodes"


def _mount(path: Path) -> tuple[int, str]:
    """The file system and mount in which a path lies: no rename leads out of either, not even to the same disk (rename(2))."""
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        lines = read_text(f"/proc/self/fdinfo/{handle}", MAX_SYSTEM).splitlines()
        return os.fstat(handle).st_dev, next((line for line in lines if line.startswith("mnt_id:")), "")
    finally:
        os.close(handle)


def _write_marker(place: Path, text: str) -> None:
    """Write a file that must not be there yet: no link that an archive holds is followed."""
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _files(inside: Path) -> list[str]:
    """Every file and link of an unpacked release, by its path within."""
    paths = []
    for folder, folders, names in os.walk(inside):
        names += [name for name in folders if (Path(folder) / name).is_symlink()]
        paths += [str((Path(folder) / name).relative_to(inside)) for name in names]
    return sorted(paths)


def _put_back(inside: Path, folder: Path, gone: list[str]) -> None:
    """Move the missing files of a release to their places; a run that is killed between two leaves the rest to the next."""
    say(f"{len(gone)} files of this release are missing, such as {INSTALL_FOLDER}/{printable(gone[0], 200)}: putting them back")
    os.sync()
    for name in gone:
        place = folder / name
        if not place.parent.exists():
            place.parent.mkdir(mode=0o755, parents=True)
            reach("folder-made")
        (inside / name).rename(place)
        reach("archive-file-returned")


def _place(inside: Path, folder: Path) -> None:
    """Put the new release where it belongs, in one step; what was there lies in the place of the new one then."""
    if not folder.exists():
        inside.rename(folder)
        return
    import ctypes  # a check swaps nothing

    libc = ctypes.CDLL(None, use_errno=True)
    at_cwd = -100
    if libc.renameat2(at_cwd, os.fsencode(inside), at_cwd, os.fsencode(folder), RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))


def _return(inside: Path, folder: Path, *, is_placed: bool) -> None:
    """Put the release before, if there was one, back in its place, where the new one is in it."""
    if is_placed and inside.exists():
        say("the release before takes its place again")
        _place(inside, folder)


def _clear(work: Path) -> None:
    """Remove what a kill, or the release before, left in our folder, and that folder if nothing else is in it."""
    if work.exists():
        shutil.rmtree(work, ignore_errors=True)
        reach("leftovers-removed")
    if work.parent.name == Path(STATE_FOLDER).name:
        with suppress(OSError):  # something else is in it, or it is not there: both are right
            work.parent.rmdir()
            reach("folder-removed")


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NodeError(
            "file-unwritable",
            f"{error.filename or path} cannot be written: {error.strerror or error}",
            "release",
            folder=INSTALL_FOLDER,
        ) from None
