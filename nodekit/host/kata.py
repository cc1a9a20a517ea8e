"""What the Kata on this machine would really read: file, drop-ins, merged table, shim, version."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekit.errors import NodeError
from nodekit.host.files import read_bytes, resolve
from nodekit.host.process import run
from nodekit.rules import kata_config, kata_layout
from nodekit.rules.text import printable

MAX_DROP_INS = 200
"""Entries of a config.d that are read; a folder with more is a mistake."""


@dataclass(frozen=True)
class Effective:
    """The configuration that the runtime would use for the next guest."""

    config_file: str
    """The file as it is named: by ConfigPath, or in the runtime's own list."""
    resolved_file: str
    """That file with symbolic links followed; `config.d` beside it holds the drop-ins."""
    drop_ins: tuple[str, ...]
    """Every entry of config.d, in the order in which they are merged."""
    hypervisor: dict[str, object]
    """The merged table [hypervisor.NAME]."""
    kernel_params: str
    """Its `kernel_params` as a whole; empty when none are set."""
    sources: dict[str, str]
    """Key of `hypervisor` -> the file that gives its value."""
    shim: str | None
    """The shim that containerd would find, or the release's own; None when the machine has none."""
    version: str | None
    """The release, such as 3.32.0; None when nothing on the machine tells it."""


def effective(root: Path, *, runtime: str, hypervisor: str, config_path: str | None) -> Effective:
    """Resolve and merge what the runtime reads; `config_path` is containerd's ConfigPath, without it the runtime's own list.

    Raises NodeError `kata-not-found`, `file-unreadable`, `file-invalid` (no TOML, no such table, bad drop-in) or `bad-input`.
    """
    if hypervisor not in kata_layout.HYPERVISORS:
        raise NodeError(
            "bad-input", f"Hypervisor {hypervisor!r} is not known", f"Choose one of {', '.join(kata_layout.HYPERVISORS)}"
        )
    found = version(root)
    name, resolved, text = base_file(root, runtime=runtime, config_path=config_path, version=found)
    whole: Mapping[str, Any] = kata_config.table(text, resolved)
    kata_config.hypervisor_table(whole, hypervisor, resolved, remedy=_other_file(root, runtime, found, hypervisor))
    sources = _named(whole, hypervisor, resolved)
    entries = drop_ins(root, resolved, runtime=runtime)
    for path, content in entries:
        part = kata_config.table(content, path)
        whole = kata_config.merged(whole, part)
        sources |= _named(part, hypervisor, path)
    table = kata_config.hypervisor_table(whole, hypervisor, sources.get(kata_config.KEY, resolved))
    return Effective(
        config_file=name,
        resolved_file=resolved,
        drop_ins=tuple(path for path, _ in entries),
        hypervisor=table,
        kernel_params=str(table.get(kata_config.KEY, "")),
        sources=sources,
        shim=shim(root, runtime),
        version=found,
    )


def _other_file(root: Path, runtime: str, found: str | None, hypervisor: str) -> str:
    """What to do when the file that is read is one of another hypervisor."""
    try:
        path = kata_layout.release_config_path(runtime, found or "", hypervisor)
    except NodeError as error:
        return error.remedy
    if read_bytes(root, path) is None:
        return "Choose the hypervisor of that file, or name the file of this one with configPath"
    return f"Name {path} with configPath, or choose the hypervisor of that file"


def _named(part: Mapping[str, Any], hypervisor: str, path: str) -> dict[str, str]:
    """Each key that this file gives to the hypervisor's table, with the file."""
    tables = part.get("hypervisor")
    table = tables.get(hypervisor) if isinstance(tables, Mapping) else None
    return dict.fromkeys(table, path) if isinstance(table, Mapping) else {}


def base_file(root: Path, *, runtime: str, config_path: str | None, version: str | None) -> tuple[str, str, str]:
    """The base file that the runtime reads: as named, with links followed, and its text."""
    names = (config_path,) if config_path else kata_layout.candidates(runtime, version)
    for name in names:
        resolved = resolve(root, name)
        content = read_bytes(root, resolved)
        if content is not None:
            return name, resolved, kata_config.decode(content, resolved)
    there = _deploy_files(root)
    hint = f"; kata-deploy has put {', '.join(there[:4])} here: name one with configPath" if there else ""
    raise NodeError(
        "kata-not-found",
        f"Kata's {runtime} runtime finds no configuration file on this node: none of {', '.join(names)} exists",
        f"Install Kata (kata.install with address and sha256), or name its file with configPath{hint}",
    )


def _deploy_files(root: Path) -> list[str]:
    found = [
        f"/{path.relative_to(root)}"
        for folder in kata_layout.DEPLOY_FOLDERS
        for path in (root / folder.lstrip("/")).glob("*/configuration-*.toml")
    ]
    return sorted(found)


def drop_ins(root: Path, resolved: str, *, runtime: str) -> list[tuple[str, str]]:
    """Every entry of the config.d beside `resolved` with its text, in name order and without a suffix filter, as Kata does.

    Raises NodeError `file-invalid` for an entry that Kata itself would refuse: a folder, a dangling link, for the Rust
    runtime any link.
    """
    folder = kata_layout.drop_in_folder(resolved)
    try:
        names = sorted(entry.name for entry in (root / resolve(root, folder).lstrip("/")).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise NodeError("file-unreadable", f"{folder} cannot be read: {error.strerror}", "Run the program as root") from None
    if len(names) > MAX_DROP_INS:
        raise NodeError("file-invalid", f"{folder} holds {len(names)} entries", "Remove what is no drop-in from it")
    entries = []
    for name in names:
        path = f"{folder}/{name}"
        if runtime == "rust" and (root / path.lstrip("/")).is_symlink():
            raise NodeError(
                "file-invalid", f"{path} is a symbolic link, which Kata's rust runtime refuses", "Put a copy in its place"
            )
        content = read_bytes(root, path)
        if content is None:
            raise NodeError("file-invalid", f"{path} is a dangling link, so every guest would fail", "Remove it")
        entries.append((path, kata_config.decode(content, path)))
    return entries


def shim(root: Path, runtime: str) -> str | None:
    """The shim that containerd finds in its PATH, else the one of an unpacked release; None when there is none."""
    found = [f"{folder}/{kata_layout.SHIM}" for folder in kata_layout.SHIM_FOLDERS]
    for path in [*found, kata_layout.release_shim(runtime)]:
        here = root / resolve(root, path).lstrip("/")
        if here.is_file() and os.access(here, os.X_OK):
            return path
    return None


def version(root: Path) -> str | None:
    """The release from /opt/kata/VERSION, else from `kata-runtime --version`; None when neither tells."""
    content = read_bytes(root, f"{kata_layout.INSTALL_FOLDER}/VERSION")
    if content is None and root != Path("/"):
        return None  # a program of this machine tells nothing of another root folder
    said = content.decode(errors="replace") if content is not None else _kata_runtime()
    found = re.search(r"\d+\.\d+\.\d+[\w.-]*", printable(said, 400))
    return found[0] if found else None


def _kata_runtime() -> str:
    try:
        done = run(["kata-runtime", "--version"], timeout=20, check=False)
    except NodeError:
        return ""
    return done.stdout if done.code == 0 else ""
