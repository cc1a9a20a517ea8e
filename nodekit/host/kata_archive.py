"""Have a Kata release in /opt/kata as a whole or not at all, and remove it again."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.files import (
    MAX_FILE,
    STATE_FOLDER,
    flag,
    mount,
    mount_of,
    physical,
    protection,
    refuse_protected,
    replace,
    resolve,
    state_folder,
)
from nodekit.host.reading import MAX_OWN, read, read_text
from nodekit.host.signals import undisturbed
from nodekit.progress import say, step
from nodekit.rules.kata.kata_layout import DROP_IN, INSTALL_FOLDER, MARKER
from nodekit.rules.text import printable, public

RENAME_EXCHANGE = 2
"""renameat2(2): two names change places in one step."""
KEPT = "kept"
"""Folder in /opt/kata for the edited files of a release before, by the first digits of its sha256: a new release has its own."""
MAX_MOUNTS = 64 << 20
"""Bytes that are read of the kernel's list of mounts; a node with thousands of containers has some 2 MiB."""


class Installed(NamedTuple):
    """What `installed_for` did."""

    changed: bool
    kept: dict[str, str]
    """Path of what somebody edited in the release before or added to it -> where it lies now."""


def _marker(root: Path) -> dict[str, object]:
    """What the marker says; empty when /opt/kata is not there or not ours."""
    try:
        marker = json.loads(read(_folder(root) / MARKER, MAX_OWN))
    except (OSError, ValueError, RecursionError):
        return {}
    lists = [marker.get(key) for key in ("files", "edited")] if isinstance(marker, dict) else [[None]]
    return marker if all(isinstance(name, str) for some in lists if isinstance(some, list) for name in some) else {}


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
    """The files of our release that somebody edited, and that are still there.

    A marker of a version before this rule lists no states: then those that a restore noted.
    """
    marker = _marker(root)
    paths, states = marker.get("edited"), marker.get("states")
    noted = [path for path in paths if os.path.lexists(physical(root, path))] if isinstance(paths, list) else []
    if not isinstance(states, dict):
        return noted
    folder, release = _folder(root), place(root)
    differing = [f"{release}/{name}" for name, state in states.items() if _state(folder / name) not in (None, state)]
    return sorted({*noted, *differing})


def added(root: Path) -> list[str]:
    """The files below /opt/kata that neither the archive of our release holds nor this program writes; none without a list."""
    files = _marker(root).get("files")
    if not isinstance(files, list):
        return []
    others = {*_files(_folder(root))} - {*files, MARKER}
    return sorted(f"{INSTALL_FOLDER}/{name}" for name in others if Path(name).name != DROP_IN or name.startswith(f"{KEPT}/"))


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


def immovable(root: Path) -> NodeError | None:
    """Why our release cannot be replaced or removed as a whole: a mount, or a file that chattr(1) protects. None when it can."""
    folder = _folder(root)
    if folder.is_symlink() or installed(root) is None:  # a link is replaced itself, and what it leads to stays
        return None
    for path in _mounts(folder):
        message = f"{_named(root, path)} is a mount point, so the release cannot be replaced or removed as a whole"
        return NodeError("file-unwritable", message, "mount", path=_named(root, path))
    places = (folder, *(folder / name for name in (*_folders(folder), *_files(folder))))
    return next((error for place in places if (error := protection(_named(root, place), place)) is not None), None)


def refuse_immovable(root: Path) -> None:
    """Raise the NodeError of `immovable`, if there is one."""
    if (error := immovable(root)) is not None:
        raise error


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
    with installed_for(root, address, sha256, before_the_swap) as release:
        return release.changed


@contextmanager
def installed_for(
    root: Path,
    address: str,
    sha256: str,
    before_the_swap: Prepare,
    *,
    ours: Collection[str] = (),
    edits: Collection[str] = (),
) -> Iterator[Installed]:
    """Have the archive of that address and sha256 in /opt/kata, whole. Hold the node's lock.

    The new release is prepared in a folder of this program's own and takes its place in one step; what was there, if this
    program put it there, is removed after the with-block, and takes its place again when that fails. The new release gets what
    somebody added to the one before, and in a folder of its own what they edited in it; of the paths that a journal holds,
    `ours` are not theirs, and `edits` are. Where the release is there and files of it are missing, those alone are put back, so
    that configuration and drop-ins stay. Raises NodeError `kata-foreign-install`, `kata-download-failed`,
    `kata-archive-differs`, `kata-archive-invalid`, `tool-missing` or `file-unwritable`; then /opt/kata is as it was.
    """
    work = _work(root)
    is_there = installed(root) == sha256
    gone = missing(root) if is_there else []
    if is_there and not gone:
        _clear(root, work)
        yield Installed(False, {})
        return
    refuse_foreign(root)
    if not is_there:
        refuse_immovable(root)
    from nodekit.host.kata_download import download, invalid, unpack  # loads HTTP and tar, which few runs need

    _clear(root, work)
    archive, new = _unused(work / "archive"), _unused(work / "new")
    inside = new / INSTALL_FOLDER.lstrip("/")
    own_again: Callable[[], None] | None = None
    kept: dict[str, str] = {}
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
                _write_marker(inside / MARKER, _marker_text(inside, sha256, address))
                reach("archive-unpacked")
                refuse_immovable(root)
                theirs = _theirs(root, ours, edits)
                before = str(installed(root))[:12]
                # Links come last: in the folder of the new release alone, those that lead out of it would dangle.
                links = [name for name in theirs if (_folder(root) / name).is_symlink()]
                kept |= _carry(_folder(root), inside, [name for name in theirs if name not in links], before)
                own_again = before_the_swap(new)
                kept |= _carry(_folder(root), inside, links, before)
                os.sync()
                reach("archive-prepared")
                _place(inside, _folder(root))
                reach("archive-placed")
        yield Installed(True, kept)
    except BaseException:
        if own_again is not None:
            with undisturbed(), suppress(OSError, NodeError):  # the first failure is the one to report
                _return(inside, _folder(root), is_placed=installed(root) == sha256)
                if installed(root) != sha256:
                    own_again()
        raise
    finally:
        for path, why in _clear(root, work).items():
            say(f"left as it is: {path}: {why}")


def remove(root: Path) -> list[str]:
    """Remove /opt/kata if this program installed it; the paths removed. Hold the node's lock."""
    work = _work(root)
    _clear(root, work)
    if installed(root) is None:
        return []
    refuse_immovable(root)
    with _disk(work):
        if work.parent == root / STATE_FOLDER.lstrip("/"):
            state_folder(root)
        work.mkdir(mode=0o700, exist_ok=True)
        _folder(root).rename(_unused(work / "old"))  # readers see one step; removing it takes longer
        reach("archive-displaced")
    _clear(root, work)
    return [INSTALL_FOLDER]


def remains(root: Path) -> dict[str, str]:
    """What lies in our folder and cannot be removed, each with the reason."""
    return _clear(root, _work(root))


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
    return state / "kata" if mount(existing.resolve()) == mount(opt.resolve()) else opt / ".kata-nodes"


def _named(root: Path, place: Path) -> str:
    """What a place is called on the node."""
    return f"/{place.relative_to(root)}" if place.is_relative_to(root) else str(place)


def _unused(place: Path) -> Path:
    """That place, or one beside it where something lies that cannot be removed."""
    names = (place.name, *(f"{place.name}-{number}" for number in range(2, 100)))
    return next(path for path in map(place.with_name, names) if not os.path.lexists(path))


def _marker_text(inside: Path, sha256: str, address: str) -> str:
    """The marker of an unpacked release. One of so many files that it would be too long to be read does without their states."""
    names = _files(inside)
    marker: dict[str, object] = {"sha256": sha256, "address": public(address), "files": names}
    whole = json.dumps({**marker, "states": {name: _state(inside / name) for name in names}})
    return f"{whole if len(whole) < MAX_OWN else json.dumps(marker)}\n"


def _write_marker(place: Path, text: str) -> None:
    """Write a file that must not be there yet: no link that an archive holds is followed."""
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _files(inside: Path) -> list[str]:
    """Every file and link of an unpacked release, by its path within; none of what is mounted there."""
    paths = []
    for folder, folders, names in _walk(inside):
        names += [name for name in folders if (folder / name).is_symlink()]
        paths += [str((folder / name).relative_to(inside)) for name in names]
    return sorted(paths)


def _folders(inside: Path) -> list[str]:
    """Every folder of an unpacked release, by its path within."""
    return [str(folder.relative_to(inside)) for folder, _, _ in _walk(inside)][1:]


def _walk(inside: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk`, which leaves out what lies on another mount or file system."""
    own = mount(inside.resolve())
    for name, folders, names in os.walk(inside):
        folder = Path(name)
        folders[:] = [name for name in folders if (folder / name).is_symlink() or _lies_on(folder / name, own)]
        yield folder, folders, names


def _lies_on(place: Path, own: tuple[int, str]) -> bool:
    try:
        return mount(place) == own
    except OSError:  # a mount whose server is gone, or a folder that is
        return False


def _mounts(folder: Path) -> list[Path]:
    """The mount points at and below a folder, and the folders in it that lie on another file system (subvolumes)."""
    places = []
    for line in read_text("/proc/self/mountinfo", MAX_MOUNTS).splitlines():
        number, name = line.split(" ")[0], line.split(" ")[4]
        place = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name))  # proc_pid_mountinfo(5)
        if place.is_relative_to(folder.resolve()):
            with suppress(OSError):  # another mount hides it; of a server that is gone, the walk below finds it
                if mount(place)[1] == number:
                    places.append(folder / place.relative_to(folder.resolve()))
    own = mount(folder.resolve())
    for name, folders, _ in os.walk(folder):
        others = [e for e in folders if not (Path(name) / e).is_symlink() and not _lies_on(Path(name) / e, own)]
        places += [Path(name) / entry for entry in others]
        folders[:] = [entry for entry in folders if entry not in others]
    return sorted({*places})


def _state(place: Path) -> str | None:
    """What shows an edit: a link's target, a file's digest; size and time of one that takes long to read. None without a file."""
    try:
        info = os.lstat(place)
        if stat.S_ISLNK(info.st_mode):
            return f"symlink:{os.fsdecode(place.readlink())}"
        if stat.S_ISREG(info.st_mode) and info.st_size <= MAX_FILE:
            return f"sha256:{hashlib.sha256(read(place, MAX_FILE)).hexdigest()}"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{stat.S_IFMT(info.st_mode):o} {info.st_size} {info.st_mtime_ns}"


def _theirs(root: Path, ours: Collection[str], edits: Collection[str]) -> list[str]:
    """What somebody edited in our release or added to it, by its path within."""
    if installed(root) is None:
        return []
    paths = ({*edited(root)} - {*ours}) | {*edits} | {*added(root)}
    beginnings = (f"{place(root)}/", f"{INSTALL_FOLDER}/")
    names = {path.removeprefix(beginning) for path in paths for beginning in beginnings if path.startswith(beginning)}
    return sorted(name for name in names if os.path.lexists(_folder(root) / name))


def _carry(folder: Path, inside: Path, names: list[str], before: str) -> dict[str, str]:
    """Give files of the release before to the new one, as further names of the same files, so that a step back loses nothing.

    Where the new one has a file of that name, its own stays there, and the other lies in `KEPT`; so does an edited drop-in of
    this program, which writes its own.
    """
    kept = {}
    for name in names:
        is_ours = Path(name).name == DROP_IN and not name.startswith(f"{KEPT}/")
        # A file that was edited, kept, and edited again after a step back has several places.
        places = (name, *(f"{KEPT}/{before}{number}/{name}" for number in ("", *(f"-{number}" for number in range(2, 100)))))
        target = next((place for place in places[is_ours:] if _is_free(inside, place)), None)
        if target is None:
            raise NodeError("file-invalid", f"the new release has a file {INSTALL_FOLDER}/{name}", "move")
        with _disk(folder / name):
            for parent in reversed([path for path in Path(target).parents if not (inside / path).exists()]):
                (inside / parent).mkdir(mode=0o755)
            try:
                os.link(folder / name, inside / target, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.EXDEV:  # /opt/kata is a link to another disk
                    raise
                shutil.copy2(folder / name, inside / target, follow_symlinks=False)
        kept[f"{INSTALL_FOLDER}/{name}"] = f"{INSTALL_FOLDER}/{target}"
    return kept


def _is_free(inside: Path, name: str) -> bool:
    """Whether a file may be put there: nothing has that name, and no link or file is on the way."""
    if os.path.lexists(inside / name):
        return False
    parents = [inside / path for path in Path(name).parents if os.path.lexists(inside / path)]
    return all(path.is_dir() and not path.is_symlink() for path in parents)


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


def _clear(root: Path, work: Path) -> dict[str, str]:
    """Remove what a kill, or the release before, left in our folder, and that folder if nothing else is in it.

    Returns what cannot be removed, each with the reason.
    """
    left: dict[Path, str] = {}
    if work.exists():
        try:
            handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _empty(handle, work, mount_of(handle), left)
            finally:
                os.close(handle)
            if not left:
                work.rmdir()
        except OSError as error:
            left[work] = _why(work, error)
        reach("leftovers-removed")
    if work.parent.name == Path(STATE_FOLDER).name:
        with suppress(OSError):  # something else is in it, or it is not there: both are right
            work.parent.rmdir()
            reach("folder-removed")
    return {_named(root, place): why for place, why in left.items()}


def _empty(folder: int, place: Path, own: tuple[int, str], left: dict[Path, str]) -> bool:
    """Remove all in an open folder that lies on its own mount, links themselves; true when nothing is left in it.

    By handles: nobody can put a link in the place of a folder between a look and a removal.
    """
    before = len(left)
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        try:
            if not is_folder:
                os.unlink(name, dir_fd=folder)
                continue
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                if mount_of(inner) != own:
                    left[place / name] = "is a mount point, or of another file system"
                    continue
                is_empty = _empty(inner, place / name, own, left)
            finally:
                os.close(inner)
            if is_empty:
                os.rmdir(name, dir_fd=folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            left[place / name] = _why(place / name, error)
    return len(left) == before


def _why(place: Path, error: OSError) -> str:
    """Why something cannot be removed."""
    if letter := flag(place):
        return f"cannot be removed before 'chattr -{letter}'"
    if letter := flag(place.parent):
        return f"cannot be removed before 'chattr -{letter}' of its folder"
    if error.errno == errno.EBUSY:
        return "is a mount point"
    return f"cannot be removed: {error.strerror}"


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = str(error.filename2 or error.filename or path)
        if error.errno in (errno.EPERM, errno.EBUSY):
            for place in (error.filename, error.filename2, path):
                if place is not None:
                    refuse_protected(str(place), Path(place))
        if error.errno == errno.EXDEV and (above := _mount_above(Path(name))) is not None:
            message = f"{name} cannot be written: it lies below the mount point {above}"
            raise NodeError("file-unwritable", message, "mount", path=above) from None
        raise NodeError(
            "file-unwritable",
            f"{error.filename or path} cannot be written: {error.strerror or error}",
            "release",
            folder=INSTALL_FOLDER,
        ) from None


def _mount_above(place: Path) -> Path | None:
    """The nearest mount point above a place, below the top of all."""
    existing = [path for path in place.parents if path.exists()][:-1]
    return next((path for path in existing if mount(path) != mount(path.parent)), None)
