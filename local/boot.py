"""Reports from the folder of a machine or server whether it runs and answers, so that a dead or hung one is noticed."""

import json
import re
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local import process
from nodekit.host.reading import MAX_OWN, read
from nodekit.rules.text import harmless

ADDRESS = "127.0.0.1"
SILENT_SECONDS = 60
"""Seconds without an answer after which a machine that answered before counts as hung; a busy one answers within 20."""
_ANSWER_SECONDS = 20
_KERNEL_TROUBLE = re.compile(
    r"lockup|stall|panic|BUG:|Oops|blocked for more than|Out of memory|Call Trace|general protection fault", re.IGNORECASE
)

BOOT_VARIABLE = "KATA_NODES_BOOT"
"""Environment variable with the name of the start that a verb `up` is asked for."""
CLUSTER_RECORDS = ("etcd.process", "apiserver.process")
"""Records of the processes of a local cluster."""


@dataclass(frozen=True)
class Boot:
    """What a folder shows of its machine or servers."""

    exists: bool
    """Whether there is a whole machine, or whether the servers were started before."""
    running: bool
    """Whether its QEMU, or every server, runs."""
    name: str
    """The name of its start: the recorded one while it runs, a new one otherwise."""


def existing(directory: Path) -> dict[str, object] | None:
    """The settings of the machine that lies in `directory`, or None when there is no whole one."""
    return _document(directory / "machine.json")


def place(directory: Path) -> dict[str, object]:
    """Ports and name of the last start, and what else it wrote down; empty when there was none."""
    return _document(directory / "place.json") or {}


def boot(directory: Path) -> Boot:
    """Look at a machine's folder, which need not exist; changes nothing."""
    return _boot(directory, existing(directory) is not None, ("process.json",))


def cluster_boot(directory: Path) -> Boot:
    """The same for the folder of a local cluster."""
    return _boot(directory, (directory / "made").exists(), CLUSTER_RECORDS)


def site_boot(directory: Path) -> Boot:
    """The same for the folder of a package site."""
    return _boot(directory, (directory / "place.json").exists(), ("process.json",))


def _boot(directory: Path, exists: bool, records: Iterable[str]) -> Boot:
    running = all(process.alive(directory / record) is not None for record in records)
    known = place(directory).get("boot") if running else None
    return Boot(exists, running, str(known) if known else secrets.token_hex(6))


def named(directory: Path, name: str) -> None:
    """Write down the name of the start of what runs in `directory`."""
    process.write(directory / "place.json", json.dumps({**place(directory), "boot": name}))


def answers(port: int, seconds: float = 5) -> bool:
    """Whether an SSH server greets on `port`; QEMU itself accepts connections long before there is one."""
    try:
        with socket.create_connection((ADDRESS, port), timeout=seconds) as connection:
            return connection.recv(8).startswith(b"SSH-2.0-")
    except OSError:
        return False


def hung(directory: Path, seconds: float = SILENT_SECONDS) -> bool:
    """Whether the machine in `directory` runs and stays silent on its SSH port for `seconds`, although it answered before.

    A machine that does not run, or whose first start was interrupted, is not hung. Returns at once where SSH answers.
    """
    last = place(directory)
    deadline = time.monotonic() + seconds
    while "boot" in last and process.alive(directory / "process.json") is not None:
        if answers(int(str(last["port"])), min(seconds, _ANSWER_SECONDS)):
            return False
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.5)
    return False


def kernel_trouble(directory: Path) -> str:
    """The last lines of the machine's console that report a lockup, a stall or a crash; empty without any."""
    lines = process.tail(directory / "console.log", 200).splitlines()
    return harmless("\n".join([line for line in lines if _KERNEL_TROUBLE.search(line)][-3:]))


def _document(file: Path) -> dict[str, object] | None:
    try:
        return dict(json.loads(read(file, MAX_OWN)))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
