"""Read and replace files on a node atomically: links are followed and kept, and a kill leaves no stray file."""

import base64
import errno
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.reading import MAX_SYSTEM, Unfit, read, read_text

STATE_FOLDER = "/var/lib/kata-nodes"
"""Where the journals lie, one `<name>.json` for each transaction name; for root only."""
PENDING = f"{STATE_FOLDER}/pending"
"""The name that new content has for the instant before it takes the place of the old."""
TEMPORARY = "/var/tmp"
"""Where a file lies that is too large for memory and is needed for one step only."""
MAX_FILE = 4 << 20
"""Bytes of a file that are ever read or journalled; the longest configuration on a node has some 50 KiB."""
MAX_LINKS = 40
"""Symbolic links followed in one path, as Linux does (path_resolution(7))."""
GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS (ioctl_iflags(2))."""
FORBIDDING = {0x10: "i", 0x20: "a"}
"""Flag of an inode that keeps even root from replacing or removing the file -> its letter in chattr(1)."""
NO_LINK = (errno.EINVAL, errno.ENOENT, errno.ENOTDIR)
"""What readlink(2) answers where there is something else, or nothing."""


class State(NamedTuple):
    """What lies at a path: nothing, a symbolic link, or a file with its content, mode, owner and extended attributes."""

    kind: str
    target: str = ""
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    def fingerprint(self) -> str:
        """Detects an edit by somebody else: the content of a file or the target of a link, not mode or owner."""
        if self.kind == "file":
            return f"sha256:{hashlib.sha256(self.content).hexdigest()}"
        return f"symlink:{self.target}" if self.kind == "symlink" else "absent"

    def as_json(self) -> dict[str, object]:
        """The form in the journal."""
        if self.kind == "absent":
            return {"kind": "absent"}
        if self.kind == "symlink":
            return {"kind": "symlink", "target": self.target}
        return {
            "kind": "file",
            "content": base64.b64encode(self.content).decode(),
            "mode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "xattrs": {name: base64.b64encode(value).decode() for name, value in self.xattrs},
        }

    @staticmethod
    def from_json(value: dict[str, object]) -> "State":
        """The inverse of `as_json`; raises KeyError, TypeError or ValueError when it is none."""
        if value["kind"] == "absent":
            return ABSENT
        if value["kind"] == "symlink":
            return State("symlink", target=str(value["target"]))
        xattrs = value["xattrs"]
        mode, uid, gid = (int(str(value[key])) for key in ("mode", "uid", "gid"))
        is_possible = 0 <= mode <= 0o7777 and all(0 <= number < 1 << 32 for number in (uid, gid))
        if value["kind"] != "file" or not isinstance(xattrs, dict) or not is_possible:
            raise ValueError("no state of a file")
        return State(
            "file",
            content=base64.b64decode(str(value["content"])),
            mode=mode,
            uid=uid,
            gid=gid,
            xattrs=tuple((name, base64.b64decode(data)) for name, data in xattrs.items()),
        )


ABSENT = State("absent")


def refusal_case(error: OSError, otherwise: str = "") -> str:
    """The case of `file-unreadable` or `file-unwritable` for what the system refused: `root` where this user may not do it."""
    return "root" if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0 else otherwise


@contextmanager
def writing(path: str, place: Path | None = None) -> Iterator[None]:
    """Convert the system's refusal to write `path`, which lies at `place`, into NodeError `file-unwritable`."""
    try:
        yield
    except OSError as error:
        if place is not None and error.errno in (errno.EPERM, errno.EBUSY):
            refuse_protected(path, place)
        raise NodeError("file-unwritable", f"{path} cannot be written: {error.strerror or error}", refusal_case(error)) from None


def flag(place: Path) -> str | None:
    """The letter in chattr(1) of the flag that protects a file or folder, `i` or `a`; None where it has none."""
    try:
        mode = os.lstat(place).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return None
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = int.from_bytes(fcntl.ioctl(handle, GET_FLAGS, bytes(8))[:4], sys.byteorder)
        finally:
            os.close(handle)
    except OSError:  # not there, not for this user, or a file system without flags
        return None
    return next((letter for bit, letter in FORBIDDING.items() if flags & bit), None)


def mount_of(handle: int) -> tuple[int, str]:
    """The file system and the mount of an open file: no rename leads out of either, not even to the same disk (rename(2))."""
    lines = read_text(f"/proc/self/fdinfo/{handle}", MAX_SYSTEM).splitlines()
    return os.fstat(handle).st_dev, next((line.split()[-1] for line in lines if line.startswith("mnt_id:")), "")


def mount(place: Path) -> tuple[int, str]:
    """`mount_of` what lies at a place, where a link is not followed."""
    handle = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return mount_of(handle)
    finally:
        os.close(handle)


def protection(path: str, place: Path) -> NodeError | None:
    """NodeError `file-unwritable` where a flag or a mount keeps the file of that path from being replaced or removed."""
    folder = path.rpartition("/")[0] or "/"
    for name, candidate in ((path, place), (folder, place.parent)):
        if letter := flag(candidate):
            kind = "immutable" if letter == "i" else "append-only"
            message = f"{path} cannot be replaced or removed: {'it' if name == path else name} is {kind}"
            return NodeError("file-unwritable", message, "flag", command=f"chattr -{letter} {name}")
    with suppress(OSError):
        if mount(place)[1] != mount(place.parent)[1]:
            message = f"{path} cannot be replaced or removed: it is a mount point"
            return NodeError("file-unwritable", message, "mount", path=path)
    return None


def refuse_protected(path: str, place: Path) -> None:
    """Raise the NodeError of `protection`, if there is one."""
    if (error := protection(path, place)) is not None:
        raise error


def physical(root: Path, path: str) -> Path:
    """Where a path of the node lies for this process."""
    return root / path.lstrip("/")


def can_be_named(path: str) -> bool:
    """Whether a file can have this name: JSON and TOML also hold texts with a NUL, and JSON halves of a surrogate pair."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def resolve(root: Path, path: str, *, last: bool = True) -> str:
    """The path on the node with every symbolic link followed, absolute targets taken under `root`.

    With `last` false the final component is not followed. What does not exist yet is kept as it is named.
    Raises NodeError `file-unreadable` for a loop of links, or where the system cannot look (a name that is too long or that no
    file can have), and `bad-input` for a path that is not absolute.
    """
    if not can_be_named(path):
        raise NodeError("file-unreadable", f"{path[:200]!r} cannot be the name of a file", "named")
    if not path.startswith("/"):
        raise NodeError("bad-input", f"{path!r} is not an absolute path", expected="an absolute path")
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    resolved: list[str] = []
    top = str(root).rstrip("/")  # strings: a check resolves some hundred paths, and Path takes most of that time
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            resolved = resolved[:-1]
            continue
        try:
            target = os.readlink("/".join([top, *resolved, part])) if last or todo else None  # noqa: PTH115
        except OSError as error:
            if error.errno not in NO_LINK:
                message = f"{path[:200]} cannot be looked at: {error.strerror}"
                raise NodeError("file-unreadable", message, refusal_case(error, "named")) from None
            target = None
        if target is None:
            resolved.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise NodeError("file-unreadable", f"{path} is a loop of symbolic links", "loop")
        if target.startswith("/"):
            resolved = []
        todo += [p for p in target.split("/") if p not in ("", ".")][::-1]
    return "/" + "/".join(resolved)


def _xattrs(location: Path) -> tuple[tuple[str, bytes], ...]:
    try:
        return tuple((name, os.getxattr(location, name)) for name in sorted(os.listxattr(location)))
    except OSError:
        return ()  # this file system has none


def text_of(root: Path, path: str) -> str:
    """The text of a file that only decides what is said or looked for: damaged bytes are replaced, and one that is not there is
    empty. Raises as `read_bytes`."""
    return (read_bytes(root, path) or b"").decode(errors="replace")


def names_in(root: Path, folder: str) -> list[str]:
    """The names in a folder, sorted; empty when it is not there. Raises NodeError `file-unreadable` or `file-invalid`."""
    try:
        return sorted(entry.name for entry in (root / resolve(root, folder).lstrip("/")).iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise NodeError("file-invalid", f"{folder} is not a folder", "move") from None
    except OSError as error:
        raise NodeError("file-unreadable", f"{folder} cannot be read: {error.strerror}", refusal_case(error, "disk")) from None


def matching(root: Path, pattern: str) -> list[str]:
    """The files that an import, or an `EnvironmentFile=`, names: of a pattern those that are there, in name order."""
    if "*" not in pattern:
        return [pattern]
    try:
        return [f"/{path.relative_to(root)}" for path in sorted(root.glob(pattern.lstrip("/")))]
    except ValueError:  # not a pattern that Python knows, such as one with ** within a name
        return []
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no file has such a name
            return []
        message = f"What {pattern} stands for cannot be read: {error.strerror}"
        raise NodeError("file-unreadable", message, refusal_case(error, "disk")) from None


def look(root: Path, path: str, limit: int = MAX_FILE) -> State:
    """What lies at a resolved path now; raises NodeError `file-unreadable`, or `file-invalid` above `limit` bytes."""
    location = physical(root, path)
    try:
        info = os.lstat(location)
        if stat.S_ISLNK(info.st_mode):
            return State("symlink", target=str(location.readlink()))
        if not stat.S_ISREG(info.st_mode):
            raise NodeError("file-invalid", f"{path} is not a regular file", "move")
        return State(
            "file",
            content=read(location, limit),
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            xattrs=_xattrs(location),
        )
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except Unfit as error:
        raise NodeError("file-invalid", f"{path} {error.strerror}", "move") from None
    except OSError as error:
        raise NodeError(
            "file-unreadable", f"{path} cannot be read: {error.strerror or error}", refusal_case(error, "disk")
        ) from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(target: Path) -> Path:
    """Where new content waits when its file system is not that of `PENDING`; one fixed name, so that the next run finds it."""
    # Programs read every entry of a *.d folder (Kata's config.d has no suffix filter), so it lies beside such a folder.
    folder = target.parent.parent if target.parent.name.endswith(".d") else target.parent
    return folder / f".{target.name}.kata-nodes-new"


def _nameless(folder: Path) -> int:
    """A file that no folder names, so that a kill leaves nothing of it; on the file system of `folder`."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        raise NodeError(
            "file-unwritable", f"The file system of {folder} has no files without a name (O_TMPFILE)", "file-system"
        ) from None


def _replace(root: Path, target: Path, give: Callable[[Path], None]) -> None:
    """Put what `give` makes at a path in place of what lies at `target`: at a name in our own folder first, then by rename."""
    places = (physical(root, PENDING), beside(target))
    for pending in places:
        try:
            pending.unlink(missing_ok=True)
            give(pending)
        except OSError as error:
            # Another file system, or a person's own edit without our folder.
            if pending == places[-1] or error.errno not in (errno.EXDEV, errno.ENOENT, errno.EACCES, errno.ENOTDIR):
                raise
            continue
        try:
            reach("content-named")
            pending.rename(target)
            return
        except OSError as error:
            pending.unlink(missing_ok=True)
            if pending == places[-1] or error.errno != errno.EXDEV:
                raise


def put(root: Path, path: str, state: State) -> None:
    """Make `state` lie at a resolved path, atomically and durably; raises NodeError `file-unwritable`."""
    target = physical(root, path)
    with writing(path, target):
        if state.kind == "absent":
            target.unlink(missing_ok=True)
            reach("file-removed")
            if target.parent.is_dir():
                _sync_folder(target.parent)
            return
        if state.kind == "symlink":
            if os.path.lexists(target):
                _replace(root, target, lambda pending: pending.symlink_to(state.target))
            else:
                target.symlink_to(state.target)
        else:
            _put_file(root, target, state)
        reach("content-placed")
        _sync_folder(target.parent)


def _put_file(root: Path, target: Path, state: State) -> None:
    with open(_nameless(target.parent), "wb") as file:
        handle = file.fileno()
        file.write(state.content)
        file.flush()
        if os.geteuid() == 0:
            os.fchown(handle, state.uid, state.gid)
        os.fchmod(handle, state.mode)
        for name, value in state.xattrs:
            os.setxattr(handle, name, value)
        os.fsync(handle)
        reach("content-written")

        def give(place: Path) -> None:
            folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:  # only with a folder's handle does Python follow the link below /proc (linkat(2), AT_SYMLINK_FOLLOW)
                os.link(f"/proc/self/fd/{handle}", place.name, dst_dir_fd=folder)
            finally:
                os.close(folder)

        if not os.path.lexists(target):
            give(target)
        else:
            _replace(root, target, give)


def file_to_write(root: Path, path: str) -> str:
    """`resolve`; raises NodeError `file-invalid` for a link that leads nowhere: a write would make what somebody else forgot."""
    link, resolved = resolve(root, path, last=False), resolve(root, path)
    if link != resolved and physical(root, link).is_symlink() and not os.path.lexists(physical(root, resolved)):
        message = f"{link} is a symbolic link to {resolved}, which does not exist"
        raise NodeError("file-invalid", message, "remove", path=link)
    return resolved


def refuse_unwritable(root: Path, path: str, *, last: bool = True) -> None:
    """Refuse a file that `put` could not write, before anything else is changed for it; leaves nothing. `last` as of `resolve`.

    Raises NodeError `file-unwritable`, or `file-invalid` for a link that leads nowhere.
    """
    resolved = file_to_write(root, path) if last else resolve(root, path, last=False)
    place = physical(root, resolved)
    with writing(resolved, place):
        if os.path.lexists(place):
            refuse_protected(resolved, place)
        os.close(_nameless(next(folder for folder in place.parents if folder.exists())))


def missing_folders(root: Path, path: str) -> list[str]:
    """The folders on the way to `path` that do not exist, outermost first."""
    missing: list[str] = []
    folder = path.rpartition("/")[0]
    while folder and not physical(root, folder).exists():
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    return missing[::-1]


def make_folders(root: Path, folders: list[str]) -> None:
    """Make folders, outermost first, each on the disk before the next; raises NodeError `file-unwritable`."""
    for folder in folders:
        with writing(folder):
            physical(root, folder).mkdir(mode=0o755, exist_ok=True)
            _sync_folder(physical(root, folder).parent)
        reach("folder-made")


def state_folder(root: Path) -> Path:
    """This program's own folder on the node, made when it is not there; only root looks into it."""
    make_folders(root, missing_folders(root, STATE_FOLDER))
    folder = physical(root, STATE_FOLDER)
    with writing(STATE_FOLDER):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            return folder
    reach("folder-made")
    return folder


def remove_folders(root: Path, folders: list[str]) -> None:
    """Remove those of the folders that are empty, innermost first."""
    for folder in reversed(folders):
        with suppress(OSError):  # somebody else uses it, or it is gone: both are right
            physical(root, folder).rmdir()
            reach("folder-removed")


def read_bytes(root: Path, path: str) -> bytes | None:
    """The content of a file, links followed, or None when nothing is there.

    Raises NodeError `file-unreadable`, or `file-invalid` when it is not a regular file or larger than `MAX_FILE`.
    """
    state = look(root, resolve(root, path))
    return state.content if state.kind == "file" else None


def replace(root: Path, path: str, content: bytes) -> None:
    """Replace the content of an existing file, atomically and without a journal: a person's own edit.

    Links are followed and kept, as are owner, mode and attributes. Raises NodeError `file-unwritable`, `file-unreadable` or
    `file-invalid`.
    """
    resolved = resolve(root, path)
    now = look(root, resolved)
    if now.kind != "file":
        raise NodeError("file-unreadable", f"{path} does not exist", expected="a file that exists")
    put(root, resolved, State("file", "", content, now.mode, now.uid, now.gid, now.xattrs))
