"""The verb `restore`: undo what this program changed on the node, and nothing else."""

from contextlib import suppress
from pathlib import Path

from nodekit.commands import kata, preflight
from nodekit.commands.docker import JOURNAL, PACKAGE_RECORD, PINNED_RECORD, RUNTIME_RECORD, UNITS_RECORD
from nodekit.errors import NodeError
from nodekit.host import apt, docker, files, journal, kata_archive, modules
from nodekit.host.lock import node_lock
from nodekit.progress import say, step
from nodekit.rules import daemon_json, kata_layout
from nodekit.rules.desired import REQUIRED, take
from nodekit.rules.docker_packages import PACKAGES

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another run on this node, and for apt's lock."""


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Put packages, holds and files of every journal back; `kept` names what somebody changed since, with the reason.

    Raises NodeError; then the journals are still there, and the next run goes on.
    """
    take(desired, {"node": (str, REQUIRED)})
    restored: list[str] = []
    kept: list[str] = []
    with node_lock(root, LOCK_TIMEOUT):
        for name in journal.journals(root):
            if name == JOURNAL:
                # Before the packages, whose change restarts dockerd; and these before the source that they come from.
                restored += journal.put_back(root, name, only=(daemon_json.PATH,)).restored
                _packages(root, restored, kept)
            if name == kata.JOURNAL and kata_archive.installed(root) is not None:
                _leave_to_removal(root)
            with step(f"Putting the files of '{name}' back"):
                done = journal.put_back(root, name)
            restored += done.restored
            kept += [f"{path}: edited by somebody since" for path in done.kept]
            if name == JOURNAL:
                _service(root)
                restored += _units(root)
            if name == preflight.JOURNAL:
                _modules(root, restored, kept)
            journal.end(root, name)
        if any(line.startswith(f"{kata_layout.INSTALL_FOLDER}/") for line in kept):
            kept.append(f"{kata_layout.INSTALL_FOLDER}: holds a file that somebody edited")
        else:
            restored += kata_archive.remove(root)
    return {"node": desired["node"], "changed": bool(restored), "restored": restored, "kept": kept}


def _leave_to_removal(root: Path) -> None:
    """Do not put back what will be removed with the release, unless somebody edited a part of it, which then stays as a whole."""
    if not any(path.startswith(f"{kata_layout.INSTALL_FOLDER}/") for path in journal.outlook(root, kata.JOURNAL).kept):
        journal.disown(root, kata.JOURNAL, kata_layout.INSTALL_FOLDER)


def _service(root: Path) -> None:
    """Have dockerd read its configuration anew, if there is a dockerd and we ever changed that; done as well after a kill."""
    runtime = journal.recorded(root, JOURNAL).get(RUNTIME_RECORD)
    if not isinstance(runtime, str):
        return
    with suppress(NodeError), step("dockerd reads its configuration anew"):
        docker.service("reload")
    content = files.read_bytes(root, daemon_json.PATH)
    if content is not None and runtime in daemon_json.runtimes(content.decode(errors="replace")):
        return
    if runtime in docker.ask(root).runtimes:
        # A reload adds runtimes and takes none away (moby, daemon/reload_unix.go) [measured].
        if running := docker.running_containers(root):
            say(f"dockerd restarts: these running containers stop: {', '.join(running)}")
        with suppress(NodeError), step("dockerd restarts, to forget the Kata runtime"):
            docker.service("restart")


def _units(root: Path) -> list[str]:
    """Start, stop, enable and disable what is otherwise than before; the units that changed."""
    before = journal.recorded(root, JOURNAL).get(UNITS_RECORD)
    if not isinstance(before, dict):
        return []
    known = {
        unit: docker.Unit(one["active"] is True, str(one["enabled"])) for unit, one in before.items() if isinstance(one, dict)
    }
    return [f"unit {unit}" for unit in docker.bring_units_back(known)]


def _modules(root: Path, restored: list[str], kept: list[str]) -> None:
    """Unload the kernel modules that were not loaded before."""
    names = journal.recorded(root, preflight.JOURNAL).get(preflight.MODULES_RECORD)
    gone, busy = modules.unload(root, [str(name) for name in names] if isinstance(names, list) else [])
    restored += [f"module {name}" for name in gone]
    kept += [f"module {name}: in use" for name in busy]


def _packages(root: Path, restored: list[str], kept: list[str]) -> None:
    """Bring back the versions and holds that the journal of Docker recorded, except where somebody went on since."""
    records = journal.recorded(root, JOURNAL)
    before: dict[str, apt.Before] = {}
    for key, value in records.items():
        if key.startswith(PACKAGE_RECORD) and isinstance(value, dict):
            version = value.get("version")
            before[key.removeprefix(PACKAGE_RECORD)] = apt.Before(
                None if version is None else str(version),
                *(value.get(mark) is True for mark in ("held", "automatic", "leftover")),
            )
    pinned = records.get(PINNED_RECORD)
    if not before:
        return
    now = apt.package_states(before)
    for name in PACKAGES:
        if name in now and name in before and pinned is not None and now[name].version not in (pinned, before[name].version):
            kept.append(f"package {name} {now[name].version}: changed by somebody since {pinned}")
            del before[name]
    docker.allow_starts()
    with step(f"Bringing packages back: {', '.join(sorted(before)) or 'none'}"):
        restored += [f"package {name}" for name in apt.go_back(root, before, LOCK_TIMEOUT)]
