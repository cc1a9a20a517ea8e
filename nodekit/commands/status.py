"""The question `status`: the whole measured state of a node as one document; what cannot be measured is null with the reason."""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from nodekit import __version__
from nodekit.commands import effective, preflight
from nodekit.commands.docker import JOURNAL, PACKAGE_RECORD
from nodekit.errors import NodeError
from nodekit.host import apt, docker, files, journal, kata, kata_archive, lock
from nodekit.host.node import boot_id, emulated, os_release
from nodekit.rules.docker import daemon_json, docker_matrix
from nodekit.rules.docker.contradictions import contradictions
from nodekit.rules.docker.docker_packages import HELD, PACKAGES, upstream_version
from nodekit.rules.kata import kata_layout

MACHINE = Path("/")
Document = dict[str, object]


def arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    parser.epilog = "Runs as any user; what only root may read is null with that reason."


def run(root: Path) -> Document:
    """The document. For another root folder it reports only what lies in files, not what runs on this machine."""
    is_this_machine = root == MACHINE
    return {
        "program": __version__,
        "os": _or_reason(lambda: asdict(os_release(root))),
        "machine": _machine(root) if is_this_machine else None,
        "docker": {
            "daemon": _daemon(root),
            "packages": _or_reason(partial(_packages, root)),
            "daemonJson": _or_reason(partial(_daemon_json, root)),
            "contradictions": _or_reason(partial(_contradictions, root)),
        },
        "kata": {
            "version": _or_reason(partial(kata.version, root)),
            "installedByThisProgram": kata_archive.installed(root) is not None,
            "configurations": {
                runtime: {name: _or_reason(partial(_effective, root, runtime, name)) for name in kata_layout.HYPERVISORS}
                for runtime in kata_layout.RUNTIMES
            },
        },
        "compatible": {runtime: _or_reason(partial(_compatible, root, runtime)) for runtime in kata_layout.RUNTIMES},
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
        "kvm": preflight.presence(preflight.cpu_flag()).as_dict(),
    }


def _daemon(root: Path) -> Document:
    """What dockerd itself answers: it may run with other settings than its file holds by now."""
    answer = docker.ask(root)
    return {
        "version": answer.version,
        "reason": answer.reason or None,
        "runtimes": sorted(answer.runtimes),
        "liveRestore": answer.live_restore,
        "containers": docker.running_containers(root),
    }


def _packages(root: Path) -> Document:
    """The packages that this program pins; null where one is not installed."""
    states = apt.package_states(HELD, root)
    return {name: asdict(states[name]) if name in states else None for name in HELD}


def _daemon_json(root: Path) -> object:
    content = files.read_bytes(root, daemon_json.PATH)
    return None if content is None else daemon_json.runtimes(content.decode(errors="replace"))


def _contradictions(root: Path) -> list[str]:
    """What dockerd, dpkg and the files say that cannot all be true."""
    answer, states, records = docker.ask(root), apt.package_states(HELD, root), journal.recorded(root, JOURNAL)
    content = files.read_bytes(root, daemon_json.PATH)
    in_file = () if content is None else daemon_json.runtimes(content.decode(errors="replace"))
    ours = [name for name in HELD if PACKAGE_RECORD + name in records]
    return contradictions(answer.version, answer.runtimes, states, ours, in_file)


def _effective(root: Path, runtime: str, hypervisor: str) -> Document:
    """What a person must know; the question `effective` reports the rest."""
    document = effective.run(root, runtime=runtime, hypervisor=hypervisor, config_path=None)
    return {key: document[key] for key in ("configFile", "chosenBy", "dropIns", "kernelParams", "launchers", "dead", "notes")}


def _compatible(root: Path, runtime: str) -> object:
    """The matrix's answer for what is installed; None when one of the two is not."""
    states, release = apt.package_states(PACKAGES[:1], root), kata.version(root)
    if not states or release is None:
        return None
    result = docker_matrix.verdict(upstream_version(states[PACKAGES[0]].version), release, runtime)
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
