"""Journal what is changed on a node before it is changed, so that a failure rolls back and the first state can be put back."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.files import (
    ABSENT,
    PENDING,
    STATE_FOLDER,
    State,
    beside,
    can_be_named,
    file_to_write,
    look,
    make_folders,
    missing_folders,
    physical,
    put,
    refusal_case,
    remove_folders,
    resolve,
    state_folder,
    writing,
)
from nodekit.host.signals import undisturbed
from nodekit.progress import say

MAX_JOURNAL = 64 << 20
"""Bytes of a journal; it holds the first content of every file that was changed, and those are a handful."""

FAILED_RECORD = "restore-failed"
"""A journal's record of the parts that failed in the last `restore`: one that fails again is left as it is. The next change of
the node ends it."""


class _Entry(NamedTuple):
    """One path in a journal: its first state, and the fingerprints that are ours (two while a write is under way)."""

    before: State
    ours: list[str]


class _Journal:
    """All that one transaction name has changed since the node's first state."""

    def __init__(self, paths: dict[str, _Entry], folders: list[str], records: dict[str, object]) -> None:
        self.paths, self.folders, self.records = paths, folders, records

    def text(self) -> str:
        paths = {path: {"before": e.before.as_json(), "ours": e.ours} for path, e in self.paths.items()}
        records = dict(sorted(self.records.items()))  # in whatever order interrupted runs came to write them
        return json.dumps({"paths": paths, "folders": self.folders, "records": records}, indent=1) + "\n"


class Restored(NamedTuple):
    """What `put_back` did: paths put back to their first state, and those that stay, each with the reason."""

    restored: list[str]
    kept: dict[str, str]


def _journal_path(name: str) -> str:
    return f"{STATE_FOLDER}/{name}.json"


def _load(root: Path, name: str) -> _Journal:
    path = _journal_path(name)
    state = look(root, path, MAX_JOURNAL)
    if state.kind == "absent":
        return _Journal({}, [], {})
    try:
        data = json.loads(state.content)
        if any(not path.startswith("/") or not can_be_named(path) for path in (*data["paths"], *data["folders"])):
            raise ValueError("no path of a node")
        return _Journal(
            {p: _Entry(State.from_json(e["before"]), [str(o) for o in e["ours"]]) for p, e in data["paths"].items()},
            [str(folder) for folder in data["folders"]],
            dict(data["records"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NodeError(
            "journal-invalid", f"{path} is not a journal of this program ({type(error).__name__}: {error})", path=path
        ) from None


def _save(root: Path, name: str, journal: _Journal) -> None:
    path = _journal_path(name)
    if not (journal.paths or journal.folders or journal.records):
        _end(root, path)
        return
    state_folder(root)
    state = State("file", content=journal.text().encode(), mode=0o600, uid=os.geteuid(), gid=os.getegid())
    if len(state.content) > MAX_JOURNAL:
        raise NodeError(
            "file-invalid",
            f"{path} would hold {len(state.content)} bytes, more than {MAX_JOURNAL}, so nothing was changed",
            "long",
        )
    if look(root, path, MAX_JOURNAL) != state:  # on a full disk a roll-back must not fail because it writes what is there already
        put(root, path, state)


def _end(root: Path, path: str) -> None:
    """Remove a journal, and our folder with the last of them."""
    put(root, path, ABSENT)
    with suppress(OSError):  # another journal is there
        physical(root, STATE_FOLDER).rmdir()
        reach("folder-removed")


def _clear(root: Path, journal: _Journal) -> None:
    """Remove new content that a killed run left before it was in its place."""
    left = [physical(root, PENDING), *(beside(physical(root, path)) for path in journal.paths)]
    for file in left:
        with writing(str(file)), suppress(NotADirectoryError):  # somebody put a file in a folder's place
            file.unlink(missing_ok=True)


class Transaction:
    """Changes to files that belong together: either all of a with-block, or the state at its entry.

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
        self.forget(FAILED_RECORD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            with undisturbed():
                self.roll_back()

    def write(self, path: str, content: bytes, mode: int | None = None, *, is_own: bool = False) -> bool:
        """Make the file hold `content`; true when it did not. Owner, attributes and, without `mode`, mode are kept.

        `is_own`: all of the file is this program's, so that nothing of what somebody wrote into it is left.
        """
        path = file_to_write(self._root, path)
        now = look(self._root, path)
        if now.kind == "file":
            if now.content != content and (names := physical(self._root, path).stat().st_nlink) > 1:
                say(f"note: {path} is one of {names} names of a file (hard links): the others keep what it holds now")
            desired = State("file", "", content, now.mode if mode is None else mode, now.uid, now.gid, now.xattrs)
        else:
            desired = State("file", "", content, 0o644 if mode is None else mode, os.geteuid(), os.getegid())
        return self._change(path, now, desired, is_own=is_own)

    def remove(self, path: str) -> bool:
        """Make nothing lie at `path` (a link itself is removed, not its target); true when something did."""
        path = resolve(self._root, path, last=False)
        return self._change(path, look(self._root, path), ABSENT)

    def symlink(self, path: str, target: str) -> bool:
        """Make `path` a symbolic link to `target`, in place of any file there; true when it was not.

        A file that somebody put there since comes back at `restore`: unlike in a merged file, nothing of it is left in a link.
        """
        path = resolve(self._root, path, last=False)
        return self._change(path, look(self._root, path), State("symlink", target=target))

    def record(self, key: str, before: object) -> None:
        """Keep a first value that is not a file (JSON); a value recorded by an earlier run stays. Survives a roll-back."""
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

        Paths in `keep` stay as they are now, journalled, for `restore`; also where this fails and is called again.
        """
        moved = False
        for path in keep:
            self._entry.pop(path, None)
        for path, (state, entry) in reversed(list(self._entry.items())):
            if look(self._root, path) != state:  # a change that a full disk stopped needs no second write
                put(self._root, path, state)
                moved = True
            if entry is None:
                self._journal.paths.pop(path, None)  # an earlier call got that far, and could not save it
            else:
                self._journal.paths[path] = entry
        self._new_folders = [folder for folder in self._new_folders if not any(path.startswith(f"{folder}/") for path in keep)]
        remove_folders(self._root, self._new_folders)
        self._journal.folders = [folder for folder in self._journal.folders if folder not in self._new_folders]
        if self._entry or self._new_folders:
            _save(self._root, self._name, self._journal)
        self._entry.clear()
        self._new_folders.clear()
        return moved

    def _change(self, path: str, now: State, desired: State, *, is_own: bool = False) -> bool:
        if now == desired:
            return False
        entry = self._journal.paths.get(path)
        self._entry.setdefault(path, (now, entry))
        if entry is None:
            new = _Entry(now, [desired.fingerprint()])
        elif now.fingerprint() in entry.ours:
            new = _Entry(entry.before, [now.fingerprint(), desired.fingerprint()])
        elif is_own or now.fingerprint() == entry.before.fingerprint():
            new = _Entry(entry.before, [desired.fingerprint()])
        elif desired.kind == "symlink":
            say(f"note: somebody put another file at {path}: our link takes its place, and goes again when the node is undone")
            new = _Entry(now, [desired.fingerprint()])
        else:
            new = entry  # somebody edited it: what we write now holds that edit, so `restore` must keep it
        self._journal.paths[path] = new
        missing = missing_folders(self._root, path) if desired.kind != "absent" else []
        self._new_folders += missing
        self._journal.folders += [folder for folder in missing if folder not in self._journal.folders]
        _save(self._root, self._name, self._journal)
        make_folders(self._root, missing)
        put(self._root, path, desired)
        reach("change-done")
        return True


def journals(root: Path) -> list[str]:
    """The names of the transactions that have something to restore on this node."""
    folder = physical(root, STATE_FOLDER)
    try:
        return sorted(entry.stem for entry in folder.iterdir() if entry.suffix == ".json" and entry.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NodeError(
            "file-unreadable", f"{STATE_FOLDER} cannot be read: {error.strerror}", refusal_case(error, "disk")
        ) from None


def recorded(root: Path, name: str) -> dict[str, object]:
    """The first values that `Transaction.record` kept under `name`."""
    return dict(_load(root, name).records)


def paths(root: Path, name: str) -> list[str]:
    """The paths that the journal of `name` holds, links followed."""
    return list(_load(root, name).paths)


def put_back(root: Path, name: str, only: Collection[str] | None = None, skip: Collection[str] = ()) -> Restored:
    """Put the first state of every path in the journal of `name` (or of those in `only`, and none of `skip`) back; `end` then
    ends that journal.

    A path that somebody edited since our last write, or put something else in the place of, is kept as it is and named. A kill in
    between does no harm: run again. Raises the NodeError of the first path that could not be written, after all others were.
    """
    journal = _load(root, name)
    _clear(root, journal)
    todo = _outlook(root, journal, only, skip)
    failed: list[NodeError] = []
    for path in todo.restored:
        before = journal.paths[path].before
        try:
            make_folders(root, missing_folders(root, path) if before.kind != "absent" else [])
            put(root, path, before)
        except NodeError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    if only is None:
        remove_folders(root, journal.folders)
    reach("files-restored")
    return _sorted(todo)


def _outlook(root: Path, journal: _Journal, only: Collection[str] | None = None, skip: Collection[str] = ()) -> Restored:
    outcome = Restored([], {})
    for path, entry in reversed(list(journal.paths.items())):
        if path in skip or (only is not None and path not in only):
            continue
        try:
            now = look(root, path)
        except NodeError as error:  # a folder lies there by now, or a file of somebody's that is too large to be ours
            outcome.kept[path] = error.message
            continue
        if now == entry.before:
            continue
        way = _way(root, path)
        if way is not None and entry.before.kind != "absent":
            outcome.kept[path] = f"{way} is no longer a folder"
        elif now.fingerprint() in entry.ours or now.fingerprint() == entry.before.fingerprint():
            outcome.restored.append(path)
        else:
            outcome.kept[path] = "edited by somebody since"
    return outcome


def _way(root: Path, path: str) -> str | None:
    """What lies on the way to `path` where a folder should be; None when the way is free."""
    folder = path.rpartition("/")[0]
    while folder:
        parent = physical(root, folder)
        if os.path.lexists(parent):
            return None if parent.is_dir() else folder
        folder = folder.rpartition("/")[0]
    return None


def _sorted(outcome: Restored) -> Restored:
    return Restored(sorted(outcome.restored), dict(sorted(outcome.kept.items())))


def outlook(root: Path, name: str) -> Restored:
    """What `put_back` would do, without doing it."""
    return _sorted(_outlook(root, _load(root, name)))


def disown(
    root: Path, name: str, folder: str, records: Collection[str] = (), coming: Mapping[str, bytes] | None = None
) -> Callable[[], None]:
    """Forget what the journal of `name` says of paths below `folder`, which is replaced as a whole, and `records`.

    `coming` holds the files of ours that come with the new folder, so that an edit of them is seen; until then, those of the
    old folder are ours too. What is returned knows it again, for when the old folder is back in its place.
    """
    journal = _load(root, name)
    old, first = journal.paths, _load(root, name)
    journal.paths = {path: entry for path, entry in old.items() if not path.startswith(f"{folder}/")}
    for path, content in (coming or {}).items():
        ours = old[path].ours if path in old else []
        journal.paths[path] = _Entry(ABSENT, list(dict.fromkeys([*ours, State("file", content=content).fingerprint()])))
    journal.folders = [path for path in journal.folders if not path.startswith(f"{folder}/")]
    journal.records = {key: value for key, value in journal.records.items() if key not in records}
    if coming or physical(root, _journal_path(name)).exists():
        _save(root, name, journal)

    def own_again() -> None:
        now = _load(root, name)
        below = f"{folder}/"
        others = {path: entry for path, entry in now.paths.items() if not path.startswith(below) and path not in (coming or {})}
        ours = {path: entry for path, entry in first.paths.items() if path.startswith(below)}
        now.paths = {path: {**ours, **others}[path] for path in [*first.paths, *others] if path in ours or path in others}
        now.folders = [*dict.fromkeys([*(path for path in now.folders if not path.startswith(below)), *first.folders])]
        now.records = {**now.records, **{key: first.records[key] for key in records if key in first.records}}
        _save(root, name, now)

    return own_again


def give_back(root: Path, name: str, keep: Collection[str], record: str) -> list[str]:
    """Put back what earlier settings changed: every path but those in `keep`; the paths that changed.

    The records of those paths, whose keys are `record` and the path, go with them. What somebody edited stays, journalled.
    """
    others = [path for path in _load(root, name).paths if path not in keep]
    if not others:
        return []
    outcome = put_back(root, name, only=others)
    journal = _load(root, name)
    gone = [path for path in others if path not in outcome.kept]
    journal.paths = {path: entry for path, entry in journal.paths.items() if path not in gone}
    journal.records = {key: value for key, value in journal.records.items() if key.removeprefix(record) not in gone}
    needless = [folder for folder in journal.folders if not any(path.startswith(f"{folder}/") for path in journal.paths)]
    remove_folders(root, needless)
    journal.folders = [folder for folder in journal.folders if folder not in needless]
    _save(root, name, journal)
    return outcome.restored


def note(root: Path, name: str, key: str, value: object) -> None:
    """Keep a value in the journal of `name`, as `Transaction.remember` does."""
    journal = _load(root, name)
    journal.records[key] = value
    _save(root, name, journal)


def end(root: Path, name: str) -> None:
    """End the journal of `name`: what it recorded is restored, or no longer matters."""
    _end(root, _journal_path(name))


def restore(root: Path, name: str) -> Restored:
    """`put_back`, then `end`."""
    outcome = put_back(root, name)
    end(root, name)
    return outcome
