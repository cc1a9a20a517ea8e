"""The shims on this machine: where each lies, which scripts stand in their place, and the environment that they have."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import units
from nodekit.host.files import read_bytes, refusal_case, resolve
from nodekit.host.reading import start
from nodekit.rules.docker import daemon_json
from nodekit.rules.kata import kata_launchers, kata_layout, shim_scripts
from nodekit.rules.kata.kata_launchers import Launcher
from nodekit.rules.node_state import RUNTIME_NAME
from nodekit.rules.systemd_units import Variable

MAX_SCRIPTS = 5
"""Scripts in a shim's place that may start each other."""
MAX_SCRIPT = 64 << 10
"""Bytes of a script in the shim's place that are read."""


def shim(root: Path, runtime: str) -> str | None:
    """The shim that containerd finds in its PATH, the one of an unpacked release, or that of Docker's runtime of our name.

    None when there is none of them.
    """
    program = program_of(root, kata_layout.SHIM) or program_of(root, kata_layout.release_shim(runtime))
    if program is None:
        with suppress(NodeError):  # with a broken daemon.json dockerd starts nothing; who needs the file reports it
            launcher = docker_runtime(root)
            return program_of(root, launcher.shim) if launcher else None
    return program


def docker_runtime(root: Path) -> Launcher | None:
    """Docker's runtime of our name, as daemon.json has it."""
    content = read_bytes(root, daemon_json.PATH)
    launchers = kata_launchers.docker(content.decode(errors="replace")) if content else ()
    return next((launcher for launcher in launchers if launcher.name == f"docker runtime {RUNTIME_NAME}"), None)


def program_of(root: Path, named: str | None) -> str | None:
    """Where the shim lies that is named by its path, or by a name to look up in the PATH; None when it is not there."""
    paths = [named] if named and named.startswith("/") else [f"{folder}/{named}" for folder in folders(root) if named]
    for path in paths:
        program = root / resolve(root, path).lstrip("/")
        if program.is_file() and os.access(program, os.X_OK):
            return path
    return None


def folders(root: Path) -> Sequence[str]:
    """The folders in which a shim is looked up: of the PATH that containerd's unit sets, else of systemd's own."""
    setting = _shim_variable(root, "PATH")
    return [folder for folder in setting.value.split(":") if folder.startswith("/")] if setting else kata_layout.SHIM_FOLDERS


def file_of(root: Path, launcher: Launcher) -> tuple[str, str] | None:
    """The file that a launcher names, and what names it: its ConfigPath, or a script in the place of its shim.

    None where neither does, so that the environment and the runtime's own list decide.
    """
    if launcher.config_path:
        return launcher.config_path, f"ConfigPath of {launcher.name} in {launcher.file}"
    program = program_of(root, launcher.shim)
    variable = in_scripts(root, program, kata_layout.ENVIRONMENT)[0] if program else None
    if variable is None or not variable.value:
        return None
    return variable.value, f"{kata_layout.ENVIRONMENT} in {variable.file}, the shim of {launcher.name}"


def in_scripts(root: Path, program: str, name: str) -> tuple[Variable | None, list[Variable]]:
    """What a script in a shim's place sets a variable to, and what it sets for itself alone.

    Of several scripts that start each other the last counts, whose value the shim has. What a script does not export reaches the
    shim only where the variable was in its own environment already.
    """
    result, alone = None, []
    for each in started_by(root, program):
        text = _script(root, each)
        value = shim_scripts.in_script(text, name)
        if value is None:
            continue
        if shim_scripts.exports(text, name) or result or _shim_variable(root, name):
            result = Variable(value, each)
        else:
            alone.append(Variable(value, each))
    return result, alone


def environment(root: Path, program: str | None) -> Variable | None:
    """The KATA_CONF_FILE that a shim would have: of a script in the shim's place, else of the unit of containerd."""
    name = kata_layout.ENVIRONMENT
    return (in_scripts(root, program, name)[0] if program else None) or _shim_variable(root, name)


def started_by(root: Path, program: str) -> list[str]:
    """A shim, and behind it what is started in turn where it is a script, as one that sets a PATH before that of Kata's guide."""
    programs = [program]
    while len(programs) < MAX_SCRIPTS:
        shim = program_of(root, shim_scripts.shim_in_script(_script(root, programs[-1])))
        if shim is None or shim in programs:
            break
        programs.append(shim)
    return programs


def _shim_variable(root: Path, name: str) -> Variable | None:
    """What the unit whose environment the shims have sets a variable to."""
    for unit in kata_launchers.UNITS:
        files = units.files(root, unit)
        if files:
            return units.variable(root, files, name)
    return None


def _script(root: Path, path: str) -> str:
    """The text of a shim that is a script, which Kata's guide has people write to set KATA_CONF_FILE; empty for a program."""
    try:
        text = start(root / resolve(root, path).lstrip("/"), MAX_SCRIPT)
        return text.decode(errors="replace") if text.startswith(b"#!") else ""
    except OSError as error:
        raise NodeError("file-unreadable", f"{path} cannot be read: {error.strerror}", refusal_case(error, "disk")) from None
