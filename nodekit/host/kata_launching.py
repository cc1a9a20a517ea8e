"""Read the files in which Docker, containerd and CRI-O say how they start Kata."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodekit.errors import NodeError
from nodekit.host.files import names_in, read_bytes, refusal_case
from nodekit.rules.docker import daemon_json
from nodekit.rules.kata import crio_config, kata_config, kata_launchers
from nodekit.rules.kata.kata_launchers import Launcher


def launchers(root: Path, notes: list[str], main_file: str | None) -> list[Launcher]:
    """Everything that starts Kata on this machine. Raises NodeError `file-invalid` for a broken daemon.json.

    `main_file` is the one that containerd's unit names in place of its own. A file of a containerd or CRI-O that cannot be read
    is a note.
    """
    content = read_bytes(root, daemon_json.PATH)
    every = kata_launchers.docker(content.decode(errors="replace")) if content else []
    usual, *others = kata_launchers.CONTAINERD
    for main in (main_file or usual, *others):
        every += containerd_launchers(root, main, notes)
    try:
        every += kata_launchers.crio([(path, kata_config.table(text, path)) for path, text in crio_texts(root, crio_config.MAIN)])
    except NodeError as error:
        notes.append(f"{error.message}; what that CRI-O says of Kata is not known")
    return every


def crio_texts(root: Path, main: str, folder: str = crio_config.FOLDER) -> list[tuple[str, str]]:
    """CRI-O's main file and its drop-ins, each with its text, in the order in which it reads them."""
    paths = [main, *_walked(root, folder)]
    read = [(path, read_bytes(root, path)) for path in paths]
    return [(path, kata_config.decode(content, path)) for path, content in read if content is not None]


def _walked(root: Path, folder: str) -> list[str]:
    """The files in a folder and in those below it, as CRI-O walks them (`pkg/config/config.go`, UpdateFromPath)."""
    paths: list[str] = []
    for name in names_in(root, folder):
        path = f"{folder}/{name}"
        inside = root / path.lstrip("/")
        paths += _walked(root, path) if inside.is_dir() and not inside.is_symlink() else [path]
    return paths


def containerd_launchers(root: Path, main: str, notes: list[str]) -> list[Launcher]:
    """The Kata handlers of one containerd; a file of it that cannot be read is only a note, since it decides nothing here."""
    try:
        return kata_launchers.containerd(containerd_files(root, main))
    except NodeError as error:
        notes.append(f"{error.message}; what that containerd says of Kata is not known")
        return []


def containerd_files(root: Path, main: str) -> list[tuple[str, Mapping[str, Any]]]:
    """containerd's main file and what it imports, each with its table, in containerd's order (`LoadConfigWithPlugins`)."""
    return [(path, kata_config.table(text, path)) for path, text in containerd_texts(root, main)]


def containerd_texts(root: Path, main: str) -> list[tuple[str, str]]:
    """The same files, each with its text."""
    files: dict[str, str] = {}
    unnamed = kata_launchers.UNNAMED_IMPORTS.get(main, "")
    pending = [main]
    while pending:
        path, pending = pending[0], pending[1:]
        if path in files:
            continue
        content = read_bytes(root, path)
        if content is None:
            pending += matching(root, unnamed) if path == main and unnamed else []
            continue
        files[path] = kata_config.decode(content, path)
        for pattern in kata_launchers.imports(kata_config.table(files[path], path), path):
            pending += matching(root, pattern)
    return list(files.items())


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
