"""Look at what Kata's configuration names on this machine, and refuse what Kata itself would refuse at start."""

import os
import stat
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host.files import can_be_named, physical, resolve
from nodekit.host.guest import memory_mib
from nodekit.host.kata import Effective
from nodekit.rules.kata import kata_start
from nodekit.rules.kata.kata_start_model import Configuration, File, Machine, Refusal
from nodekit.rules.text import printable

SHOWN = 6
"""Refusals that are listed in one sentence; Kata itself reports only the first one."""


def refusals(root: Path, effective: Effective, hypervisor: str, runtime: str) -> list[Refusal]:
    """What Kata would refuse about this configuration, in its order; empty when it would start a guest."""
    configuration = Configuration(
        document=effective.document,
        origins=effective.origins,
        file=effective.resolved_file,
        runtime=runtime,
        hypervisor=hypervisor,
        version=effective.version,
    )
    files = {path: look(root, path) for path in kata_start.paths(configuration)}
    machine = Machine(files, os.uname().machine, os.cpu_count() or 1, memory_mib("MemTotal"))
    return kata_start.refusals(configuration, machine)


def refuse_what_kata_refuses(root: Path, effective: Effective, hypervisor: str, runtime: str, node: str) -> None:
    """Raise NodeError `kata-would-refuse` when Kata would start no guest with this configuration."""
    problems = refusals(root, effective, hypervisor, runtime)
    if not problems:
        return
    first, *others = problems
    after = f"; and then: {'; '.join(refusal.cause for refusal in others[: SHOWN - 1])}" if others else ""
    rest = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    remedies = "; ".join(dict.fromkeys(refusal.remedy for refusal in problems[:SHOWN]))
    raise NodeError(
        "kata-would-refuse",
        f"Node {node}: Kata would not start a guest with {effective.config_file}: {printable(f'{first.cause}{after}{rest}')}",
        remedies=remedies,
    )


def look(root: Path, path: str) -> File:
    """What lies at an absolute path, links followed under `root`; what cannot be looked at is taken for a device."""
    if not can_be_named(path):
        return File("missing")
    try:
        resolved = resolve(root, path)
        info = physical(root, resolved).stat()
    except NodeError:
        return File("loop")
    except (FileNotFoundError, NotADirectoryError):
        return File("missing")
    except OSError:
        return File("other")
    if stat.S_ISDIR(info.st_mode):
        return File("folder", path=resolved)
    if not stat.S_ISREG(info.st_mode):
        return File("other", path=resolved)
    return File("file", executable=bool(info.st_mode & 0o111), size=info.st_size, path=resolved)
