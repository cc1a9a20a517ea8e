"""Look at the processes of a sandbox in /proc and at its control groups, as root."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from nodekit.host.reading import MAX_SYSTEM, read, read_text
from nodekit.rules.kata import sandbox_processes
from nodekit.rules.kata.overhead import Sample, Use
from nodekit.rules.kata.sandbox_processes import Identity, Mapped

GROUPS = "sys/fs/cgroup"


def sample(root: Path, container: str, guest_mib: int) -> Sample:
    """The sandbox of a container now; without processes where there is none."""
    belonging = sandbox_processes.members(_processes(root / "proc"), container, os.getpid())
    mapped: dict[int, list[Mapped]] = {}
    tables: dict[int, int] = {}
    for process in belonging:
        place = root / "proc" / str(process.pid)
        try:
            mapped[process.pid] = sandbox_processes.mappings(read_text(place / "smaps", MAX_SYSTEM))
            tables[process.pid] = sandbox_processes.page_tables(read_text(place / "status", MAX_SYSTEM))
        except OSError:
            continue  # it has ended since
    guest = sandbox_processes.guest_memory(mapped, guest_mib * 1024)
    uses = [
        Use(
            process.pid,
            process.start,
            process.name,
            sandbox_processes.memory(process.pid, mapped[process.pid], guest),
            tables[process.pid],
            process.cpu_ticks,
            process.guest_ticks,
        )
        for process in belonging
        if process.pid in tables
    ]
    paths = {path for process in belonging if (path := sandbox_processes.group_of(process.groups, container))}
    return Sample(time.monotonic(), tuple(uses), guest is not None, dict(_groups(root / GROUPS, paths)))


def _processes(proc: Path) -> Iterator[Identity]:
    for place in proc.iterdir():
        if place.name.isdigit():
            try:
                yield sandbox_processes.identity(
                    read(place / "stat", MAX_SYSTEM).decode(errors="replace"),
                    read(place / "cmdline", MAX_SYSTEM),
                    read_text(place / "cgroup", MAX_SYSTEM),
                    _folder(place),
                )
            except (OSError, ValueError):
                continue  # it has ended since


def _folder(place: Path) -> str:
    try:
        return str((place / "cwd").readlink())
    except OSError:
        return ""  # a thread of the kernel has none


def _groups(folder: Path, paths: set[str]) -> Iterator[tuple[str, int]]:
    for path in paths:
        try:
            text = read_text(folder / path.lstrip("/") / "memory.stat", MAX_SYSTEM)
        except OSError:
            continue  # a hierarchy of version 1, or the group is gone
        yield path, sandbox_processes.kernel_memory(text)
