"""What lies around the configuration that Kata reads: who starts Kata, and which files look relevant and are ignored."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nodekit.host import kata_launching, units
from nodekit.host.files import names_in, read_bytes, resolve
from nodekit.host.kata import (
    Effective,
    deploy_files,
)
from nodekit.host.kata_shims import file_of, in_scripts, program_of
from nodekit.rules.kata import kata_config, kata_launchers, kata_layout
from nodekit.rules.kata.kata_launchers import Launcher
from nodekit.rules.text import printable


class Dead(NamedTuple):
    """A file that looks relevant and is ignored."""

    path: str
    reason: str


class Survey(NamedTuple):
    """What lies around the configuration that is read."""

    launchers: tuple[Launcher, ...]
    """Who starts Kata, and the file that each of them names."""
    dead: tuple[Dead, ...]
    notes: tuple[str, ...]
    """Notes for a person, each a sentence; nothing fails because of them."""


def survey(root: Path, effective: Effective, *, runtime: str, hypervisor: str) -> Survey:
    """Who starts Kata here, and which files look relevant to `effective` and are dead; for people, and slower than `effective`.

    Only files that exist are named. Raises NodeError `file-unreadable`, or `file-invalid` for a broken daemon.json.
    """
    notes: list[str] = []
    launchers = kata_launching.launchers(root, notes)
    dead = _dead_files(root, effective, runtime, hypervisor, launchers, notes)
    dead += _dead_folders(root, effective, [entry.path for entry in dead], launchers)
    dead += _replaced(root, effective, hypervisor)
    notes += [
        f"{named[1]} names {printable(named[0], 200)}, which is no absolute path: what it reads is not known"
        for launcher in launchers
        if (named := file_of(root, launcher)) and not named[0].startswith("/")
    ]
    notes += _unexported(root, [effective.shim, *(program_of(root, launcher.shim) for launcher in launchers)])
    return Survey(tuple(launchers), tuple(dead), (*notes, *_notes(root, effective, hypervisor)))


def _unexported(root: Path, programs: Sequence[str | None]) -> list[str]:
    """Scripts in the place of shims that set the variable for themselves alone, as without `export`."""
    name = kata_layout.ENVIRONMENT
    alone = [variable for program in dict.fromkeys(programs) if program for variable in in_scripts(root, program, name)[1]]
    return [
        f"{variable.file} sets {name}={printable(variable.value, 200)} and does not export it, so no shim has it"
        for variable in dict.fromkeys(alone)
    ]


def _dead_files(
    root: Path, effective: Effective, runtime: str, hypervisor: str, launchers: list[Launcher], notes: list[str]
) -> list[Dead]:
    """Base files that are there and not read, each once, with the reason; one that only others read is a note."""
    listed = kata_layout.candidates(runtime, effective.version)
    reasons: dict[str, str] = {}
    for path in listed:
        reasons[path] = _why_not_listed(effective, path, listed)
    for other in kata_layout.RUNTIMES:
        if other != runtime:
            for path in kata_layout.candidates(other, effective.version):
                reasons.setdefault(path, f"only the {other} runtime reads it")
    for (owner, name), (_, file) in kata_layout.RELEASE_FILES.items():
        path = f"{kata_layout.INSTALL_FOLDER}/{kata_layout.DEFAULTS}/{file}"
        if owner != runtime:
            reasons.setdefault(path, f"it is a file of the {owner} runtime")
        elif name != hypervisor:
            reasons.setdefault(path, f"it is the file of hypervisor {name}")
        else:
            reasons.setdefault(path, f"{effective.setting} names another file" if effective.setting else "no setting names it")
    for path in deploy_files(root):
        shim_name = path.split("/")[-2]
        reasons.setdefault(path, f"it is kata-deploy's file of {shim_name}, which only a ConfigPath can name")
    for folder in ("/etc/kata-containers", "/etc/kata-containers/runtime-rs"):
        for name in names_in(root, folder):
            if name.endswith(".toml"):
                reasons.setdefault(
                    f"{folder}/{name}", "the runtime looks there for configuration.toml only, and no setting names it"
                )
    dead = []
    for path, reason in reasons.items():
        resolved = resolve(root, path)
        if resolved == effective.resolved_file or not os.path.lexists(root / path.lstrip("/")):
            continue
        users = [launcher for launcher in launchers if _named(root, launcher) == resolved]
        if not os.path.lexists(root / resolved.lstrip("/")):
            reason = f"it is a symbolic link to {resolved}, which does not exist: Kata passes over it"
        elif users:
            notes.append(f"{path} is read for {', '.join(f'{launcher.name} ({launcher.file})' for launcher in users)} alone")
            continue
        dead.append(Dead(path, reason))
    return dead


def _named(root: Path, launcher: Launcher) -> str | None:
    """The file that a launcher names, links followed; None for one that is no whole path, which stands for no file here."""
    named = file_of(root, launcher)
    return resolve(root, named[0]) if named and named[0].startswith("/") else None


def _why_not_listed(effective: Effective, path: str, listed: tuple[str, ...]) -> str:
    """Why the runtime does not read this entry of its own list."""
    if effective.setting:
        return f"the runtime's own list does not count, as {effective.setting} names another file"
    if listed.index(path) < listed.index(effective.config_file):
        return f"{effective.shim} leads to a release build, which looks below {kata_layout.INSTALL_FOLDER} instead"
    return f"{effective.config_file} comes before it in the runtime's own list"


def _dead_folders(root: Path, effective: Effective, dead: list[str], launchers: list[Launcher]) -> list[Dead]:
    """Every config.d that holds something and is not the one that is read, or that a release before 2.5.0 does not read."""
    read = kata_layout.drop_in_folder(effective.resolved_file)
    listed = [path for runtime in kata_layout.RUNTIMES for path in kata_layout.candidates(runtime, effective.version)]
    reasons = {
        kata_layout.drop_in_folder(path): f"Kata reads the config.d beside the file in use, {effective.resolved_file}"
        for path in (*listed, *dead, *(resolve(root, path) for path in dead))
    }
    if effective.config_file != effective.resolved_file:
        link = kata_layout.drop_in_folder(effective.config_file)
        reasons[link] = f"it lies beside the link {effective.config_file}; Kata reads the one beside its target, {read}"
    for launcher in launchers:
        if named := _named(root, launcher):
            reasons.pop(kata_layout.drop_in_folder(named), None)  # in use, though for others
    reasons.pop(read, None)
    if not kata_layout.reads_drop_ins(effective.version):
        reasons[read] = f"Kata {effective.version} reads no drop-ins; 2.5.0 and later do"
    return [
        Dead(folder, reason)
        for folder, reason in reasons.items()
        if names_in(root, folder) and (folder == read or resolve(root, folder) != resolve(root, read))
    ]


def _replaced(root: Path, effective: Effective, hypervisor: str) -> list[Dead]:
    """The files in use whose kernel_params a later one replaces."""
    last = effective.sources.get(kata_config.KEY)
    earlier = []
    for path in (effective.resolved_file, *effective.drop_ins):
        if path == last:
            break
        text = kata_config.decode(read_bytes(root, path) or b"", path)
        if kata_config.sets_parameters(text, hypervisor, path):
            earlier.append(Dead(path, f"its kernel_params are replaced by those of {last}; what else it sets counts"))
    return earlier


def _notes(root: Path, effective: Effective, hypervisor: str) -> list[str]:
    """What a person should know of the files in use."""
    notes = []
    for path in effective.drop_ins:
        name = path.rpartition("/")[2]
        if name.startswith(".") or not name.endswith(".toml"):
            notes.append(f"{path} looks like a leftover, and is read: in config.d every entry counts, whatever its name")
    if not effective.hypervisor.get("kernel"):
        notes.append(
            f"{effective.config_file} names no kernel for {hypervisor}: a partial file replaces the release's as a whole"
        )
    supervised, own = (units.files(root, unit) for unit in kata_launchers.UNITS)
    variable = units.variable(root, own, kata_layout.ENVIRONMENT) if supervised else None
    if variable:
        notes.append(
            f"{variable.file} sets {kata_layout.ENVIRONMENT}={printable(variable.value, 200)} for dockerd, which does not count: "
            f"the shims are {kata_launchers.UNITS[0]}'s"
        )
    return notes
