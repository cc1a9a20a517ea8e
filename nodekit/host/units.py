"""A systemd service as this machine's files have it: its own file and drop-ins, and what they give its command line."""

import os
from pathlib import Path

from nodekit.host.files import matching, names_in, read_bytes, resolve
from nodekit.rules import systemd_units
from nodekit.rules.systemd_units import Variable


def files(root: Path, unit: str) -> list[tuple[str, str]]:
    """A service's own file and then its drop-ins, each path and text; empty when there is no such unit or it is masked.

    Those of all services (`service.d`) are among them, where the service has a file or drop-in of its own.
    """
    paths: dict[str, str] = {}
    for folder in systemd_units.FOLDERS:
        if os.path.lexists(root / f"{folder}/{unit}".lstrip("/")):
            paths.setdefault("", f"{folder}/{unit}")
        for name in names_in(root, f"{folder}/{unit}.d"):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/{unit}.d/{name}")
    for folder in systemd_units.FOLDERS if paths else ():
        for name in names_in(root, f"{folder}/service.d"):
            if name.endswith(".conf"):
                paths.setdefault(name, f"{folder}/service.d/{name}")
    present = []
    for name in sorted(paths):
        masked = resolve(root, paths[name]) == "/dev/null"
        content = b"" if masked else read_bytes(root, paths[name])
        if content == b"" and not name:  # as a link to /dev/null does (systemd.unit(5))
            return []
        if content:
            present.append((paths[name], content.decode(errors="replace")))
    return present


def command(root: Path, unit: str, *, keeps_unknown: bool = False) -> list[str]:
    """The command line that a unit starts, with its variables expanded; empty when there is no such unit.

    A variable that its files do not set is empty, or stays as it is written: systemd may have it from elsewhere.
    """
    own = files(root, unit)

    def value(name: str) -> str:
        setting = variable(root, own, name)
        return setting.value if setting else f"${{{name}}}" if keeps_unknown else ""

    return systemd_units.expanded(systemd_units.started(own), value)


def variable(root: Path, files: list[tuple[str, str]], name: str) -> Variable | None:
    """What a unit sets the variable to, its environment files included."""
    result, named = systemd_units.environment(files, name)
    for path in (path for pattern in named if pattern.startswith("/") for path in matching(root, pattern)):
        content = read_bytes(root, path)
        value = systemd_units.in_environment_file(content.decode(errors="replace"), name) if content else None
        if value is not None:
            result = Variable(value, path)
    return result
