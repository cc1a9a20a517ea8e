"""Change files on a node so that a kill loses nothing, a failure rolls back, and the first state can be put back."""

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach

STATE_FOLDER = "/var/lib/kata-nodes"
"""Where the journals lie, one `<name>.json` for each transaction name; for root only."""
PENDING = f"{STATE_FOLDER}/pending"
"""The name that new content has for the instant before it takes the place of the old."""
MAX_FILE = 16 << 20
"""Bytes of a file that are ever read or journalled; configuration is far smaller."""
MAX_LINKS = 40
"""Symbolic links followed in one path, as Linux does (path_resolution(7))."""


@dataclass(frozen=True)
class State:
    """What lies at a path: nothing, a symbolic link, or a file with its content, mode, owner and extended attributes."""

    kind: str
    target: str = ""
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    def fingerprint(self) -> str:
        """Tells an edit by somebody else: the content of a file or the target of a link, not mode or owner."""
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
        if value["kind"] != "file" or not isinstance(xattrs, dict):
            raise ValueError("no state of a file")
        return State(
            "file",
            content=base64.b64decode(str(value["content"])),
            mode=int(str(value["mode"])),
            uid=int(str(value["uid"])),
            gid=int(str(value["gid"])),
            xattrs=tuple((name, base64.b64decode(data)) for name, data in xattrs.items()),
        )


ABSENT = State("absent")


@dataclass
class _Entry:
    """One path in a journal: its first state, and the fingerprints that are ours (two while a write is under way)."""

    before: State
    ours: list[str]


@dataclass
class _Journal:
    """All that one transaction name has changed since the node's first state."""

    paths: dict[str, _Entry] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    records: dict[str, object] = field(default_factory=dict)

    def text(self) -> str:
        paths = {path: {"before": e.before.as_json(), "ours": e.ours} for path, e in self.paths.items()}
        records = dict(sorted(self.records.items()))  # in whatever order interrupted runs came to write them
        return json.dumps({"paths": paths, "folders": self.folders, "records": records}, indent=1) + "\n"


@dataclass(frozen=True)
class Restored:
    """What `restore` did: paths put back to their first state, and paths kept because somebody edited them since."""

    restored: list[str]
    kept: list[str]


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NodeError(
            "file-unwritable",
            f"{path} cannot be written: {error.strerror or error}",
            "Free space, or make the file system writable, then run again",
        ) from None


def _physical(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def resolve(root: Path, path: str, *, last: bool = True) -> str:
    """The path on the node with every symbolic link followed, absolute targets taken under `root`.

    With `last` false the final component is not followed. What does not exist yet is kept as it is named.
    Raises NodeError `file-unreadable` for a loop of links and `bad-input` for a path that is not absolute.
    """
    if not path.startswith("/"):
        raise NodeError("bad-input", f"{path!r} is not an absolute path", "Give the path from / on")
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = _physical(root, "/".join([*done, part]))
        if (last or todo) and here.is_symlink():
            links += 1
            if links > MAX_LINKS:
                raise NodeError("file-unreadable", f"{path} is a loop of symbolic links", "Remove the loop")
            target = str(here.readlink())
            if target.startswith("/"):
                done = []
            todo += [p for p in target.split("/") if p not in ("", ".")][::-1]
            continue
        done.append(part)
    return "/" + "/".join(done)


def _xattrs(here: Path) -> tuple[tuple[str, bytes], ...]:
    try:
        return tuple((name, os.getxattr(here, name)) for name in sorted(os.listxattr(here)))
    except OSError:
        return ()  # this file system has none


def _state(root: Path, path: str) -> State:
    """What lies at a resolved path now; raises NodeError `file-unreadable` or `file-invalid`."""
    here = _physical(root, path)
    try:
        info = os.lstat(here)
        if stat.S_ISLNK(info.st_mode):
            return State("symlink", target=str(here.readlink()))
        if not stat.S_ISREG(info.st_mode):
            raise NodeError("file-invalid", f"{path} is not a regular file", "Move it away, then run again")
        if info.st_size > MAX_FILE:
            raise NodeError("file-invalid", f"{path} holds {info.st_size} bytes, more than {MAX_FILE}", "Look at what wrote it")
        with open(here, "rb") as file:
            content = file.read(MAX_FILE + 1)
        return State(
            "file",
            content=content,
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            xattrs=_xattrs(here),
        )
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError as error:
        raise NodeError(
            "file-unreadable", f"{path} cannot be read: {error.strerror or error}", "Check the file and its disk"
        ) from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(here: Path) -> Path:
    """Where new content waits when its file system is not that of `PENDING`; one fixed name, so that the next run finds it."""
    # Programs read every entry of a *.d folder (Kata's config.d has no suffix filter), so it lies beside such a folder.
    folder = here.parent.parent if here.parent.name.endswith(".d") else here.parent
    return folder / f".{here.name}.kata-nodes-new"


def _nameless(folder: Path) -> int:
    """A file that no folder names, so that a kill leaves nothing of it; on the file system of `folder`."""
    try:
        return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        raise NodeError(
            "file-unwritable",
            f"The file system of {folder} has no files without a name (O_TMPFILE)",
            "Use ext4, xfs, btrfs or tmpfs there",
        ) from None


def _replace(root: Path, here: Path, give: Callable[[Path], None]) -> None:
    """Put what `give` makes at a path in place of what lies at `here`: at a name in our own folder first, then by rename."""
    places = (_physical(root, PENDING), _beside(here))
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
            pending.rename(here)
            return
        except OSError as error:
            pending.unlink(missing_ok=True)
            if pending == places[-1] or error.errno != errno.EXDEV:
                raise


def _put(root: Path, path: str, state: State) -> None:
    """Make `state` lie at a resolved path, atomically and durably; raises NodeError `file-unwritable`."""
    here = _physical(root, path)
    with _writing(path):
        if state.kind == "absent":
            here.unlink(missing_ok=True)
            reach("file-removed")
            if here.parent.is_dir():
                _sync_folder(here.parent)
            return
        if state.kind == "symlink":
            if os.path.lexists(here):
                _replace(root, here, lambda pending: pending.symlink_to(state.target))
            else:
                here.symlink_to(state.target)
        else:
            _put_file(root, here, state)
        reach("content-placed")
        _sync_folder(here.parent)


def _put_file(root: Path, here: Path, state: State) -> None:
    with open(_nameless(here.parent), "wb") as file:
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

        if not os.path.lexists(here):
            give(here)
        else:
            _replace(root, here, give)


def _missing_folders(root: Path, path: str) -> list[str]:
    """The folders on the way to `path` that do not exist, outermost first."""
    missing: list[str] = []
    folder = path.rpartition("/")[0]
    while folder and not _physical(root, folder).exists():
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    return missing[::-1]


def _make_folders(root: Path, folders: list[str]) -> None:
    for folder in folders:
        with _writing(folder):
            _physical(root, folder).mkdir(mode=0o755, exist_ok=True)
            _sync_folder(_physical(root, folder).parent)
        reach("folder-made")


def state_folder(root: Path) -> Path:
    """This program's own folder on the node, made when it is not there; only root looks into it."""
    _make_folders(root, _missing_folders(root, STATE_FOLDER))
    here = _physical(root, STATE_FOLDER)
    with _writing(STATE_FOLDER):
        try:
            here.mkdir(mode=0o700)
        except FileExistsError:
            return here
    reach("folder-made")
    return here


def _journal_path(name: str) -> str:
    return f"{STATE_FOLDER}/{name}.json"


def _load(root: Path, name: str) -> _Journal:
    path = _journal_path(name)
    state = _state(root, path)
    if state.kind == "absent":
        return _Journal()
    try:
        data = json.loads(state.content)
        return _Journal(
            {p: _Entry(State.from_json(e["before"]), [str(o) for o in e["ours"]]) for p, e in data["paths"].items()},
            [str(folder) for folder in data["folders"]],
            dict(data["records"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NodeError(
            "journal-invalid",
            f"{path} is not a journal of this program ({type(error).__name__}: {error})",
            f"Look at the files it names, then move {path} away; what it recorded can then no longer be restored",
        ) from None


def _save(root: Path, name: str, journal: _Journal) -> None:
    path = _journal_path(name)
    if not (journal.paths or journal.folders or journal.records):
        _end(root, path)
        return
    state_folder(root)
    wanted = State("file", content=journal.text().encode(), mode=0o600, uid=os.geteuid(), gid=os.getegid())
    if _state(root, path) != wanted:  # on a full disk a roll-back must not fail for want of what is there already
        _put(root, path, wanted)


def _end(root: Path, path: str) -> None:
    """Remove a journal, and our folder with the last of them."""
    _put(root, path, ABSENT)
    with suppress(OSError):  # another journal is there
        _physical(root, STATE_FOLDER).rmdir()
        reach("folder-removed")


def _clear(root: Path, journal: _Journal) -> None:
    """Remove new content that a killed run left before it was in its place."""
    left = [_physical(root, PENDING), *(_beside(_physical(root, path)) for path in journal.paths)]
    for one in left:
        with suppress(NotADirectoryError, PermissionError), _writing(str(one)):
            one.unlink(missing_ok=True)


class Transaction:
    """Changes to files that hold together: either all of a with-block, or the state at its entry.

    The journal of `name` is written before each change and keeps, over all runs, the first state of every path, so that
    `restore` can put it back. Paths are absolute, as on the node; links in them are followed and kept. Hold the node's lock.
    Raises NodeError `file-unreadable`, `file-unwritable`, `file-invalid` or `journal-invalid`.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._journal = _load(root, name)
        _clear(root, self._journal)
        self._entry: dict[str, tuple[State, _Entry | None]] = {}
        self._new_folders: list[str] = []

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.roll_back()

    def write(self, path: str, content: bytes, mode: int | None = None) -> bool:
        """Make the file hold `content`; true when it did not. Owner, attributes and, without `mode`, mode are kept."""
        link, path = resolve(self._root, path, last=False), resolve(self._root, path)
        now = _state(self._root, path)
        if now.kind == "absent" and link != path and _physical(self._root, link).is_symlink():
            raise NodeError(
                "file-invalid", f"{link} is a symbolic link to {path}, which does not exist", f"Remove {link}, then run again"
            )
        if now.kind == "file":
            wanted = State("file", "", content, now.mode if mode is None else mode, now.uid, now.gid, now.xattrs)
        else:
            wanted = State("file", "", content, 0o644 if mode is None else mode, os.geteuid(), os.getegid())
        return self._change(path, now, wanted)

    def remove(self, path: str) -> bool:
        """Make nothing lie at `path` (a link itself is removed, not its target); true when something did."""
        path = resolve(self._root, path, last=False)
        return self._change(path, _state(self._root, path), ABSENT)

    def symlink(self, path: str, target: str) -> bool:
        """Make `path` a symbolic link to `target`, in place of any file there; true when it was not."""
        path = resolve(self._root, path, last=False)
        return self._change(path, _state(self._root, path), State("symlink", target=target))

    def record(self, key: str, before: object) -> None:
        """Keep a first value that is no file (JSON); a value recorded by an earlier run stays. Survives a roll-back."""
        self.note(first={key: before})

    def remember(self, key: str, value: object) -> None:
        """Keep a value (JSON) in place of an earlier one. Survives a roll-back."""
        self.note(now={key: value})

    def forget(self, key: str) -> None:
        """Drop a record whose change was undone."""
        self.note(gone=(key,))

    def note(
        self, *, first: Mapping[str, object] | None = None, now: Mapping[str, object] | None = None, gone: Collection[str] = ()
    ) -> None:
        """`record` those of `first`, `remember` those of `now`, `forget` those of `gone`: all in one write, or none."""
        records = {**(first or {}), **self._journal.records, **(now or {})}
        records = {key: value for key, value in records.items() if key not in gone}
        if records != self._journal.records:
            self._journal.records = records
            _save(self._root, self._name, self._journal)

    def recorded(self, key: str) -> object:
        """The value of a record, or None."""
        return self._journal.records.get(key)

    def roll_back(self, keep: Collection[str] = ()) -> bool:
        """Put every path that this object changed back to its state before, in the journal too; true when any moved.

        Paths in `keep` stay as they are now, journalled, for `restore`.
        """
        moved = False
        for path, (state, entry) in reversed(list(self._entry.items())):
            if path in keep:
                continue
            if _state(self._root, path) != state:  # a change that a full disk stopped needs no second write
                _put(self._root, path, state)
                moved = True
            if entry is None:
                del self._journal.paths[path]
            else:
                self._journal.paths[path] = entry
        self._new_folders = [one for one in self._new_folders if not any(path.startswith(f"{one}/") for path in keep)]
        _remove_folders(self._root, self._new_folders)
        self._journal.folders = [folder for folder in self._journal.folders if folder not in self._new_folders]
        if self._entry or self._new_folders:
            _save(self._root, self._name, self._journal)
        self._entry.clear()
        self._new_folders.clear()
        return moved

    def _change(self, path: str, now: State, wanted: State) -> bool:
        if now == wanted:
            return False
        entry = self._journal.paths.get(path)
        self._entry.setdefault(path, (now, entry))
        if entry is None:
            new = _Entry(now, [wanted.fingerprint()])
        elif now.fingerprint() in entry.ours:
            new = _Entry(entry.before, [now.fingerprint(), wanted.fingerprint()])
        elif now.fingerprint() == entry.before.fingerprint():
            new = _Entry(entry.before, [wanted.fingerprint()])
        else:
            new = entry  # somebody edited it: what we write now holds that edit, so `restore` must keep it
        self._journal.paths[path] = new
        missing = _missing_folders(self._root, path) if wanted.kind != "absent" else []
        self._new_folders += missing
        self._journal.folders += [folder for folder in missing if folder not in self._journal.folders]
        _save(self._root, self._name, self._journal)
        _make_folders(self._root, missing)
        _put(self._root, path, wanted)
        reach("change-done")
        return True


def _remove_folders(root: Path, folders: list[str]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # somebody else uses it, or it is gone: both are right
            _physical(root, folder).rmdir()
            reach("folder-removed")


def read_bytes(root: Path, path: str) -> bytes | None:
    """The content of a file, links followed, or None when nothing is there.

    Raises NodeError `file-unreadable`, or `file-invalid` when it is no regular file or larger than `MAX_FILE`.
    """
    state = _state(root, resolve(root, path))
    return state.content if state.kind == "file" else None


def journals(root: Path) -> list[str]:
    """The names of the transactions that have something to restore on this node."""
    folder = _physical(root, STATE_FOLDER)
    try:
        return sorted(entry.stem for entry in folder.iterdir() if entry.suffix == ".json" and entry.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NodeError(
            "file-unreadable", f"{STATE_FOLDER} cannot be read: {error.strerror}", "Run the program as root"
        ) from None


def recorded(root: Path, name: str) -> dict[str, object]:
    """The first values that `Transaction.record` kept under `name`."""
    return dict(_load(root, name).records)


def replace(root: Path, path: str, content: bytes) -> None:
    """Give an existing file other content, atomically and without a journal: a person's own edit.

    Links are followed and kept, as are owner, mode and attributes. Raises NodeError `file-unwritable`, `file-unreadable` or
    `file-invalid`.
    """
    resolved = resolve(root, path)
    now = _state(root, resolved)
    if now.kind != "file":
        raise NodeError("file-unreadable", f"{path} does not exist", "Give the path of a file that is there")
    _put(root, resolved, State("file", "", content, now.mode, now.uid, now.gid, now.xattrs))


def put_back(root: Path, name: str, only: Collection[str] | None = None) -> Restored:
    """Put the first state of every path in the journal of `name` (or of those in `only`) back; `end` then ends that journal.

    A path that somebody edited since our last write is kept as it is and named. A kill in between does no harm: run again.
    """
    journal = _load(root, name)
    _clear(root, journal)
    todo = _outlook(root, journal, only)
    for path in todo.restored:
        before = journal.paths[path].before
        _make_folders(root, _missing_folders(root, path) if before.kind != "absent" else [])
        _put(root, path, before)
    if only is None:
        _remove_folders(root, journal.folders)
    reach("files-restored")
    return Restored(sorted(todo.restored), sorted(todo.kept))


def _outlook(root: Path, journal: _Journal, only: Collection[str] | None = None) -> Restored:
    restored: list[str] = []
    kept: list[str] = []
    for path, entry in reversed(list(journal.paths.items())):
        now = _state(root, path) if only is None or path in only else entry.before
        if now != entry.before:
            untouched = now.fingerprint() in entry.ours or now.fingerprint() == entry.before.fingerprint()
            (restored if untouched else kept).append(path)
    return Restored(restored, kept)


def outlook(root: Path, name: str) -> Restored:
    """What `put_back` would do, without doing it."""
    found = _outlook(root, _load(root, name))
    return Restored(sorted(found.restored), sorted(found.kept))


def disown(root: Path, name: str, folder: str, records: Collection[str] = ()) -> None:
    """Forget what the journal of `name` says of paths below `folder`, which somebody else replaces as a whole, and `records`."""
    journal = _load(root, name)
    journal.paths = {path: entry for path, entry in journal.paths.items() if not path.startswith(f"{folder}/")}
    journal.folders = [one for one in journal.folders if not one.startswith(f"{folder}/")]
    journal.records = {key: value for key, value in journal.records.items() if key not in records}
    if _physical(root, _journal_path(name)).exists():
        _save(root, name, journal)


def end(root: Path, name: str) -> None:
    """End the journal of `name`: what it recorded is restored, or is nobody's business any more."""
    _end(root, _journal_path(name))


def restore(root: Path, name: str) -> Restored:
    """`put_back`, then `end`."""
    done = put_back(root, name)
    end(root, name)
    return done
