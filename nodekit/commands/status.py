"""The question `status`: the whole measured state of a node as one document; what cannot be measured is null with the reason."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nodekit import __version__
from nodekit.commands import effective
from nodekit.commands.docker import JOURNAL, PACKAGE_RECORD
from nodekit.errors import NodeError
from nodekit.host import apt, docker, journal, kata_archive, lock, virtualization
from nodekit.host.inventory import Inventory
from nodekit.host.node import boot_id, emulated, os_release
from nodekit.rules.docker import docker_matrix
from nodekit.rules.docker.contradictions import contradictions
from nodekit.rules.docker.docker_packages import DAEMONS, HELD, upstream_version
from nodekit.rules.kata import kata_layout

if TYPE_CHECKING:
    import argparse

MACHINE = Path("/")
Document = dict[str, object]


def arguments(parser: "argparse.ArgumentParser") -> None:
    """None of its own."""
    parser.epilog = "Runs as any user; what only root may read is null with that reason."


def run(root: Path) -> Document:
    """The document. For another root folder it reports only what lies in files, not what runs on this machine."""
    return document(Inventory(root))


def document(inventory: Inventory) -> Document:
    """The same, of what was asked before, where it was."""
    root = inventory.root
    is_this_machine = root == MACHINE
    return {
        "program": __version__,
        "os": _or_reason(lambda: os_release(root)._asdict()),
        "machine": _machine(root) if is_this_machine else None,
        "docker": {
            "daemon": _daemon(inventory),
            "packages": _or_reason(partial(_packages, inventory)),
            "daemonJson": _or_reason(lambda: inventory.runtimes),
            "contradictions": _or_reason(partial(_contradictions, inventory)),
        },
        "kata": {
            "version": _or_reason(lambda: inventory.kata),
            "installedByThisProgram": kata_archive.installed(root) is not None,
            "configurations": {
                runtime: {
                    name: _or_reason(partial(effective.summary, root, runtime=runtime, hypervisor=name))
                    for name in kata_layout.HYPERVISORS
                }
                for runtime in kata_layout.RUNTIMES
            },
        },
        "compatible": {runtime: _or_reason(partial(_compatible, inventory, runtime)) for runtime in kata_layout.RUNTIMES},
        "changes": _or_reason(partial(_changes, root)),
        "lockedBy": _or_reason(partial(lock.holder, root)),
        "aptLockedBy": _or_reason(partial(apt.lock_holder, root)),
    }


def text(document: Document) -> str:
    """The document as indented lines."""
    return "".join(f"{line}\n" for line in _lines(document, ""))


def _lines(value: object, indent: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{indent}{value}"
        return
    for key, inner in value.items():
        if isinstance(inner, dict) and set(inner) == {"value", "reason", "code"}:
            yield f"{indent}{key}: unknown: {inner['reason']}"
        elif isinstance(inner, dict) and inner:
            yield f"{indent}{key}:"
            yield from _lines(inner, indent + "  ")
        elif isinstance(inner, list) and inner:
            yield f"{indent}{key}:"
            for item in inner:
                line = "  ".join(str(part) for part in item.values()) if isinstance(item, dict) else item
                yield f"{indent}  - {line}"
        else:
            yield f"{indent}{key}: {'none' if inner in (None, [], {}, '') else inner}"


def _or_reason(measure: Callable[[], object]) -> object:
    try:
        return measure()
    except NodeError as error:
        return {"value": None, "reason": error.message, "code": error.code}


def _machine(root: Path) -> Document:
    return {
        "kernel": os.uname().release,
        "bootId": _or_reason(lambda: boot_id(root)),
        "emulated": emulated(),
        "kvm": virtualization.presence(virtualization.cpu_flag()).as_dict(),
    }


def _daemon(inventory: Inventory) -> Document:
    answer = inventory.dockerd
    return {
        "version": answer.version,
        "reason": answer.reason or None,
        "runtimes": sorted(answer.runtimes),
        "liveRestore": answer.live_restore,
        "containers": docker.running_containers(inventory.root, answer),
    }


def _packages(inventory: Inventory) -> Document:
    """Null where one is not installed."""
    return {name: inventory.packages[name]._asdict() if name in inventory.packages else None for name in HELD}


def _contradictions(inventory: Inventory) -> list[str]:
    """What dockerd, dpkg and the files say that cannot all be true."""
    records = journal.recorded(inventory.root, JOURNAL)
    ours = [name for name in HELD if PACKAGE_RECORD + name in records]
    return contradictions(
        inventory.dockerd.version, inventory.dockerd.runtimes, inventory.packages, ours, inventory.runtimes or ()
    )


def _compatible(inventory: Inventory, runtime: str) -> object:
    """The matrix's answer for what is installed; None when one of the two is not."""
    engine = next((inventory.packages[name] for name in DAEMONS if name in inventory.packages), None)
    release = inventory.kata
    if engine is None or release is None:
        return None
    result = docker_matrix.verdict(upstream_version(engine.version), release, runtime)
    return {"ok": result.ok, "because": result.reason, "cure": result.cure}


def _changes(root: Path) -> Document:
    """What this program has changed, so what `restore` would put back, and what it would keep because somebody edited it."""
    changes: Document = {}
    for name in journal.journals(root):
        outlook = journal.outlook(root, name)
        changes[name] = {"restores": outlook.restored, "keeps": outlook.kept}
    records = journal.recorded(root, JOURNAL)
    packages = {key.removeprefix(PACKAGE_RECORD): value for key, value in records.items() if key.startswith(PACKAGE_RECORD)}
    return changes | ({"packagesBefore": packages} if packages else {})
