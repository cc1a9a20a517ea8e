"""Load kernel modules, and unload those that were not loaded before."""

import os
from collections.abc import Sequence
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host.failpoints import reach
from nodekit.host.files import read_bytes
from nodekit.host.process import run
from nodekit.host.reading import MAX_SYSTEM, read_text
from nodekit.rules.text import printable

TIMEOUT = 30.0
"""Seconds for one call of modprobe(8)."""


def built_in(root: Path) -> set[str]:
    """The modules that are part of the running kernel."""
    listing = read_bytes(root, f"/lib/modules/{os.uname().release}/modules.builtin") or b""
    return {Path(line).stem.replace("-", "_") for line in listing.decode(errors="replace").splitlines()}


def loaded(root: Path) -> set[str]:
    """The modules that are loaded (proc_modules(5)); none where there is no /proc."""
    try:
        lines = read_text(root / "proc/modules", MAX_SYSTEM).splitlines()
    except OSError:
        return set()
    return {line.split(" ")[0] for line in lines}


def unloaded(root: Path, required: Sequence[str]) -> set[str]:
    """Those of `required` that are not loaded and lie beside the running kernel, in modules.dep(5), to be loaded.

    A device alone does not show it: those of vhost and tun are there without their module, which the first program that opens
    them loads.
    """
    missing = {*required} - loaded(root)
    if not missing:
        return missing  # a kernel has some thousands beside it
    listing = read_bytes(root, f"/lib/modules/{os.uname().release}/modules.dep") or b""
    paths = (line.partition(":")[0] for line in listing.decode(errors="replace").splitlines())
    return missing & {path.rpartition("/")[2].partition(".")[0].replace("-", "_") for path in paths}


def load(module: str) -> str:
    """Load a module; what modprobe said when that failed, else nothing."""
    try:
        result = run(["modprobe", module], timeout=TIMEOUT, check=False)
    except NodeError as error:
        return error.message  # a kernel may have all of it built in: the devices decide
    reach("module-loaded")
    return "" if result.code == 0 else printable(" ".join(result.stderr.split()), 300)


def unload(root: Path, modules: Sequence[str]) -> tuple[list[str], list[str]]:
    """Unload those of `modules` that are loaded, the last first: the unloaded ones, and those that are in use."""
    gone: list[str] = []
    busy: list[str] = []
    for module in reversed([module for module in modules if module in loaded(root)]):
        result = run(["modprobe", "--remove", module], timeout=TIMEOUT, check=False)
        (gone if result.code == 0 else busy).append(module)
        reach("module-unloaded")
    return gone, busy
