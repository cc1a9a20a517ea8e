"""Says, from a machine's folder, whether the machine runs and how its start is called, so that one that died is noticed."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from local import process
from nodekit.host.reading import MAX_OWN, read

BOOT_VARIABLE = "KATA_NODES_BOOT"
"""Environment variable with the name of the start that `local.machine up` is asked for."""


@dataclass(frozen=True)
class Boot:
    """What a folder says of its machine."""

    made: bool
    """Whether there is a whole machine."""
    running: bool
    """Whether its QEMU runs."""
    name: str
    """How its start is called: as recorded while it runs, a new name otherwise."""


def existing(directory: Path) -> dict[str, object] | None:
    """The settings of the machine that lies in `directory`, or None when there is no whole one."""
    return _document(directory / "machine.json")


def place(directory: Path) -> dict[str, object]:
    """Port, accelerator and name of the machine's last start; empty when it never started."""
    return _document(directory / "place.json") or {}


def boot(directory: Path) -> Boot:
    """Look at a machine's folder, which need not exist; changes nothing."""
    running = process.alive(directory / "process.json") is not None
    known = place(directory).get("boot") if running else None
    return Boot(existing(directory) is not None, running, str(known) if known else secrets.token_hex(6))


def _document(file: Path) -> dict[str, object] | None:
    try:
        return dict(json.loads(read(file, MAX_OWN)))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
