"""The verb `restore`: undo what this program changed on the node, and nothing else."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nodekit.commands import kata, preflight
from nodekit.commands.docker import JOURNAL, PACKAGE_RECORD, RUNTIME_RECORD, UNITS_RECORD, brought, config_paths, is_outdated
from nodekit.errors import NodeError
from nodekit.host import apt, docker, files, journal, kata_archive, kata_handler, modules
from nodekit.host.converged import Converged
from nodekit.host.lock import node_lock
from nodekit.progress import say, step
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.apt_source import SOURCE
from nodekit.rules.docker.docker_packages import HELD, PACKAGES
from nodekit.rules.kata import kata_layout
from nodekit.rules.node_state import RUNTIME_NAME, RestoreState

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another run on this node, and for apt's lock."""
ENDS_BY_ITSELF = ("apt-lock-held",)
"""What is never given up, because waiting helps."""


@dataclass
class _Run:
    """What one run has done, what it leaves with the reason, and what failed."""

    root: Path
    restored: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[NodeError] = field(default_factory=list)

    def part(self, name: str, subject: str, do: Callable[[bool], None], *, again: bool = False) -> bool:
        """Undo one part of the journal `name`; true unless it must be tried again.

        `do` gets whether the part failed in the last run too: as the journal says, or `again` where that has ended by now. A part
        that fails in two runs is left as it is and named: a node that cannot be put back must not keep a stack from being
        destroyed.
        """
        again = again or subject in _failed(self.root, name)
        try:
            do(again)
        except NodeError as error:
            if again and error.code not in ENDS_BY_ITSELF:
                self.leave(f"{subject} of '{name}'", f"failed in two runs: {error.message}")
                return True
            self.failed.append(error)
            with suppress(NodeError):  # a disk that cannot be written: the next run tries everything again
                journal.note(self.root, name, journal.FAILED_RECORD, sorted({*_failed(self.root, name), subject}))
            return False
        return True

    def leave(self, subject: str, why: str) -> None:
        """Name something that stays as it is."""
        line = f"{subject}: {why}"
        say(f"left as it is: {line}")
        self.kept.append(line)


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Put packages, holds and files of every journal back; `kept` names what stays as it is, with the reason.

    What somebody changed since, and what can no longer be put back, stays. Raises the NodeError of the first part that
    failed, when all others are done; the next run tries that part once more.
    """
    RestoreState.read(desired)
    this, again = _Run(root), False
    Converged(root).clear()
    with node_lock(root, LOCK_TIMEOUT):
        with suppress(NodeError):  # a journal that cannot be read is named below
            again = kata_layout.INSTALL_FOLDER in _failed(root, kata.JOURNAL)
        for name in journal.journals(root):
            _readable(this, name)
        for path in sorted({*kata_archive.edited(root), *kata_archive.added(root)}):
            if not any(line.startswith(f"{path}: ") for line in this.kept):
                this.leave(path, "edited or added by somebody")
        if any(line.startswith((f"{kata_layout.INSTALL_FOLDER}/", f"{kata_archive.place(root)}/")) for line in this.kept):
            this.leave(kata_layout.INSTALL_FOLDER, "holds a file that somebody edited or added")
        elif kata.JOURNAL not in journal.journals(root):  # the links that lead to the release from outside are put back by now
            _release(this, again)
    if this.failed:
        raise _whole(this)
    return {"node": desired["node"], "changed": bool(this.restored), "restored": this.restored, "kept": this.kept}


def _release(this: _Run, again: bool) -> None:
    """Remove the Kata release; one that a mount or a flag of its files holds in its place is somebody's, and stays."""
    root = this.root
    if (error := kata_archive.immovable(root)) is not None:
        this.leave(kata_layout.INSTALL_FOLDER, f"{error.message}. {error.remedy}")
        return

    def remove(_: bool) -> None:
        this.restored += kata_archive.remove(root)
        for path, why in kata_archive.remains(root).items():
            this.leave(path, why)

    this.part(kata.JOURNAL, kata_layout.INSTALL_FOLDER, remove, again=again)


def _whole(this: _Run) -> NodeError:
    """The first failure, with the others, and with what was undone in spite of them."""
    first, *others = this.failed
    message = "; ".join([first.message.rstrip("."), *(error.message.rstrip(".") for error in others)])
    remedy = f"{first.remedy.rstrip('.')}; what fails in the next run too is left as it is and named"
    return NodeError(first.code, message, remedy=remedy, details={"restored": this.restored, "kept": this.kept})


def _failed(root: Path, name: str) -> list[str]:
    record = journal.recorded(root, name).get(journal.FAILED_RECORD)
    return [str(part) for part in record] if isinstance(record, list) else []


def _readable(this: _Run, name: str) -> None:
    """Undo one journal; one that cannot be read, now or ever, is left."""
    try:
        _journal(this, name)
    except NodeError as error:
        if error.code != "journal-invalid":
            raise
        this.leave(f"{files.STATE_FOLDER}/{name}.json", error.message)


def _journal(this: _Run, name: str) -> None:
    """Undo all that one journal holds, and end it unless a part must be tried again."""
    root = this.root
    finished = True
    needs_source = False
    if name == JOURNAL:
        # Before the packages, whose change restarts dockerd; and these before the source that they come from.
        finished &= this.part(name, daemon_json.PATH, lambda _: _daemon_file(this))
        needs_source = not this.part(name, "the packages", lambda again: _packages(this, again))
        finished &= not needs_source
    if name == kata.JOURNAL and kata_archive.installed(root) is not None:
        _leave_to_removal(root)
    with step(f"Putting the files of '{name}' back"):
        skip = (SOURCE,) if needs_source else ()
        finished &= this.part(name, "the files", lambda _: _files(this, name, skip=skip))
    if name == kata_handler.JOURNAL:
        kata_handler.reread(root)
    if name == JOURNAL:
        _service(root)
        finished &= this.part(name, "the units", lambda _: _units(this))
    if name == preflight.JOURNAL:
        finished &= this.part(name, "the modules", lambda _: _modules(this))
    if finished:
        this.part(name, "the journal", lambda _: journal.end(root, name))


def _files(this: _Run, name: str, *, only: tuple[str, ...] | None = None, skip: tuple[str, ...] = ()) -> None:
    """Put files back; the pass over all of them names those that stay."""
    outcome = journal.put_back(this.root, name, only=only, skip=skip)
    this.restored += outcome.restored
    if only is None:
        for path, why in outcome.kept.items():
            this.leave(path, why)


def _daemon_file(this: _Run) -> None:
    """Put daemon.json back. One that somebody edited stays, but for a ConfigPath of ours, which no guest would start by."""
    _files(this, JOURNAL, only=(daemon_json.PATH,))
    paths = config_paths(journal.recorded(this.root, JOURNAL))
    if not paths.ours or files.resolve(this.root, daemon_json.PATH) not in journal.outlook(this.root, JOURNAL).kept:
        return
    try:
        text = daemon_json.decode(files.read_bytes(this.root, daemon_json.PATH) or b"")
        named = daemon_json.config_path(text, RUNTIME_NAME)
    except NodeError:  # what dockerd cannot read either names nothing
        return
    if named in paths.ours:
        without = daemon_json.merge(text, RUNTIME_NAME, None, paths.ours, paths.before)
        files.replace(this.root, daemon_json.PATH, without.encode())
        this.restored.append(f"ConfigPath of the runtime {RUNTIME_NAME} in {daemon_json.PATH}")


def _leave_to_removal(root: Path) -> None:
    """Do not put back what will be removed with the release, unless somebody edited a part of it, which then stays as a whole."""
    kept = journal.outlook(root, kata.JOURNAL).kept
    release = kata_archive.place(root)
    edited = [path for path in kept if path.startswith(f"{release}/")]
    if edited:
        kata_archive.note_edited(root, edited)  # before the journal ends: the next restore keeps the release too
    elif not kata_archive.edited(root) and not kata_archive.added(root) and kata_archive.immovable(root) is None:
        journal.disown(root, kata.JOURNAL, release)


def _service(root: Path) -> None:
    """Have dockerd read its configuration again, if there is a dockerd and we ever changed it; also after a kill."""
    runtime = journal.recorded(root, JOURNAL).get(RUNTIME_RECORD)
    if not isinstance(runtime, str):
        return
    if is_outdated(root, answer := docker.ask(root)):
        # The scripts of packages restart no dockerd where policy-rc.d forbids it.
        with suppress(NodeError):
            docker.restart(root, answer, "dockerd restarts, in the version of its package")
        return
    with suppress(NodeError), step("dockerd reads its configuration again"):
        docker.service("reload")
    with suppress(NodeError):  # a file that somebody broke since names no runtime that dockerd could keep
        content = files.read_bytes(root, daemon_json.PATH)
        if content is not None and runtime in daemon_json.runtimes(content.decode(errors="replace")):
            return
    if runtime in (answer := docker.ask(root)).runtimes:
        # A reload adds runtimes and takes none away (moby, daemon/reload_unix.go) [measured].
        with suppress(NodeError):
            docker.restart(root, answer, "dockerd restarts, to forget the Kata runtime")


def _units(this: _Run) -> None:
    """Start, stop, enable or disable each unit that is not as it was before; one that somebody disabled since stays so."""
    before = journal.recorded(this.root, JOURNAL).get(UNITS_RECORD)
    if isinstance(before, dict):
        this.restored += [f"unit {unit}" for unit in docker.stop_orphans()]
        known = {
            unit: docker.Unit(state["active"] is True, str(state["enabled"]))
            for unit, state in before.items()
            if isinstance(state, dict)
        }
        for unit, now in docker.units().items():
            if unit in known and known[unit].enabled == "enabled" and now.enabled in ("disabled", "masked"):
                this.leave(f"unit {unit}", f"{now.enabled} by somebody since")
                del known[unit]
        this.restored += [f"unit {unit}" for unit in docker.bring_units_back(this.root, known)]


def _modules(this: _Run) -> None:
    """Unload the kernel modules that were not loaded before."""
    names = journal.recorded(this.root, preflight.JOURNAL).get(preflight.MODULES_RECORD)
    gone, busy = modules.unload(this.root, [str(name) for name in names] if isinstance(names, list) else [])
    this.restored += [f"module {name}" for name in gone]
    for name in busy:
        this.leave(f"module {name}", "in use")


def _packages(this: _Run, again: bool) -> None:
    """Bring back the versions, holds and marks that the journal of Docker recorded.

    A version that we did not bring is somebody else's and stays; so does what came with Docker and somebody asked for since, and
    what apt cannot bring back.
    """
    root = this.root
    before = _recorded_packages(root)
    if not before:
        return
    now, ours = apt.before(before), brought(journal.recorded(root, JOURNAL))
    for name, was in before.items():
        is_now = now[name]
        # Installed as a dependency and still marked so: a system upgrade raised it, and nothing else needs it.
        came_with_us = was.version is None and is_now.automatic
        if is_now.version not in (None, was.version, *ours.get(name, ())) and not came_with_us:
            this.leave(f"package {name} {is_now.version}", "changed by somebody since")
            before[name] = _as_it_is(was, is_now)
        elif was.version is None and is_now.version is not None and not is_now.automatic and name not in HELD:
            # We ask for those of HELD alone; apt calls what they need automatic, until somebody asks for that too.
            this.leave(f"package {name} {is_now.version}", "asked for by somebody since (apt-mark showmanual)")
            before[name] = _as_it_is(was, is_now)
    docker.allow_starts()
    _know_versions(root, before, now, again)
    for name, error in apt.feasible(root, before, PACKAGES, LOCK_TIMEOUT).items():
        this.leave(f"package {name} {now[name].version or 'which is not installed'}", error.message)
        before[name] = _as_it_is(before[name], now[name])
    with step(f"Bringing packages back: {', '.join(sorted(before)) or 'none'}"):
        try:
            this.restored += [f"package {name}" for name in apt.go_back(root, before, LOCK_TIMEOUT)]
        except NodeError as error:
            if not again or error.code in ENDS_BY_ITSELF:
                raise
            this.leave("packages", f"failed in two runs: {error.message}")
            now = apt.before(before)
            before = {name: _as_it_is(was, now[name]) for name, was in before.items()}
            this.restored += [f"package {name}" for name in apt.go_back(root, before, LOCK_TIMEOUT)]


def _recorded_packages(root: Path) -> dict[str, apt.Before]:
    before: dict[str, apt.Before] = {}
    for key, value in journal.recorded(root, JOURNAL).items():
        if key.startswith(PACKAGE_RECORD) and isinstance(value, dict):
            version = value.get("version")
            before[key.removeprefix(PACKAGE_RECORD)] = apt.Before(
                None if version is None else str(version),
                *(value.get(mark) is True for mark in ("held", "automatic", "leftover")),
            )
    return before


def _as_it_is(was: apt.Before, now: apt.Before) -> apt.Before:
    """A package that stays at its version: only a hold that was not there before goes."""
    return now._replace(held=now.held and was.held)


def _know_versions(root: Path, before: dict[str, apt.Before], now: dict[str, apt.Before], again: bool) -> None:
    """Read the index of our source where apt does not know a version to go back to."""
    needed = {name: was.version for name, was in before.items() if was.version not in (None, now[name].version)}
    if not needed or not files.physical(root, SOURCE).is_file():
        return
    try:
        apt.require_versions({name: str(version) for name, version in needed.items()})
    except NodeError:
        try:
            with step("Reading the index of the packages' source"):
                apt.refresh(root, SOURCE, LOCK_TIMEOUT)
        except NodeError as error:
            if not again or error.code in ENDS_BY_ITSELF:
                raise
