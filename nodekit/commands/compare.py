"""The verb `compare`: measure the node, and list where it differs from what a stack wants; changes nothing."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from nodekit.commands import docker, kata, status
from nodekit.errors import NodeError
from nodekit.host import journal, proofs, virtualization
from nodekit.host.converged import Converged
from nodekit.host.files import physical, resolve
from nodekit.host.inventory import Inventory
from nodekit.host.node import boot_id
from nodekit.host.reading import MAX_PROGRAM, opened, read
from nodekit.rules.difference import Difference, package_history
from nodekit.rules.node_state import CompareState
from nodekit.rules.text import printable

LOGS = ("/var/log/apt/history.log", "/var/log/dpkg.log")
MAX_LOG = 256 << 10
"""Bytes of the end of each log that are read; a hundred upgrades fit in."""


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """What `status` measures, and the differences, each with who could have caused it; `desired` is a CompareState."""
    state = CompareState.read(desired)
    inventory = Inventory(root)
    differences = list(_differences(state, inventory))
    return {
        "node": state.node,
        "changed": False,
        "status": status.document(inventory),
        "differences": [{**difference.as_dict(), "traces": _traces(difference, root)} for difference in differences],
        "converged": Converged(root).taken(),
        "proofs": proofs.kept(root),
        "notes": _edited(root, {difference.file for difference in differences}),
    }


def _differences(state: CompareState, inventory: Inventory) -> Iterator[Difference]:
    root = inventory.root
    if state.program is not None:
        yield from _program(state.program, root)
    if state.preflight is not None:
        yield from _with_refusal("preflight", virtualization.differences(root))
    if state.docker is not None:
        yield from _with_refusal("docker", docker.differences(state.docker, inventory))
    if state.kata is not None:
        yield from _with_refusal("kata", kata.differences(state.kata, root))
    now = boot_id(root)
    if state.boot_id is not None and state.boot_id != now:
        yield Difference("boot", f"the node was booted after its proof (boot id {now}, proven {state.boot_id})", "prove")


def _with_refusal(verb: str, differences: Iterable[Difference]) -> Iterator[Difference]:
    """The differences of one verb; if it would refuse to work with what it finds, that counts as one."""
    try:
        yield from differences
    except NodeError as error:
        yield Difference("refused", error.sentence(), verb)


def _program(sha256: str, root: Path) -> Iterator[Difference]:
    """Whether the program that the stack put here is whole."""
    path = f"{proofs.FOLDER}/nodekit-{sha256[:12]}.pyz"
    try:
        actual = hashlib.sha256(read(physical(root, path), MAX_PROGRAM)).hexdigest()
    except OSError as error:
        yield Difference("program", f"{path} cannot be read: {error.strerror}", "program", path)
        return
    if actual != sha256:
        yield Difference("program", f"{path} has sha256 {actual}, not {sha256}", "program", path)


def _traces(difference: Difference, root: Path) -> list[str]:
    """Who could have caused it: the package logs, or when the file was written and whose it is."""
    if difference.packages:
        apt, dpkg = (_end(root, log) for log in LOGS)
        return package_history(apt, dpkg, difference.packages)
    if difference.file is None:
        return []
    # Of a file's content, links are followed to it; otherwise it may be about the link.
    file = difference.file if difference.diff is None else resolve(root, difference.file)
    try:
        info = os.lstat(physical(root, file))
    except OSError:
        return [_folder(root, file)]
    return [f"{file} was last written {_time(info.st_mtime)}; its owner is user {_user(info.st_uid)}"]


def _folder(root: Path, file: str) -> str:
    folder = file.rpartition("/")[0] or "/"
    try:
        return f"{file} is not there; its folder last changed {_time(physical(root, folder).stat().st_mtime)}"
    except OSError:
        return f"{file} is not there, nor is its folder"


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # of no year that a calendar has: tmpfs and btrfs keep any number
        return f"{seconds:.0f} s after 1970"


def _user(number: int) -> str:
    import pwd  # few nodes differ in anything

    try:
        return printable(pwd.getpwuid(number).pw_name, 40)
    except KeyError:
        return str(number)


def _end(root: Path, path: str) -> str:
    """The end of a log; empty where there is none."""
    try:
        with opened(physical(root, path)) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LOG))
            return file.read(MAX_LOG).decode(errors="replace")
    except OSError:
        return ""


def _edited(root: Path, known: set[str | None]) -> list[str]:
    """Files of this program that somebody edited without making a difference: what the stack wants is still in effect."""
    try:
        kept = [item for name in journal.journals(root) for item in journal.outlook(root, name).kept.items()]
    except NodeError as error:
        return [error.message]
    return [f"{path}: {why}" for path, why in kept if path not in known]
