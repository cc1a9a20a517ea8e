"""The verb `status`: measure the node and change nothing; what is absent is null with a reason, never a failure."""

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.host import apt, docker, files, kata
from nodekit.host.node import boot_id, emulated, os_release
from nodekit.rules import docker_matrix, kata_layout
from nodekit.rules.desired import take
from nodekit.rules.docker_packages import HELD


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """The whole measured state; raises NodeError `bad-input` only."""
    take(desired, {})
    return {
        "os": _or_reason(lambda: _os(root)),
        "kernel": os.uname().release,
        "bootId": _or_reason(lambda: boot_id(root)),
        "emulated": emulated(),
        "kvm": (root / "dev/kvm").exists(),
        "docker": _docker(),
        "kata": {
            runtime: {name: _or_reason(partial(_kata, root, runtime, name)) for name in kata_layout.HYPERVISORS}
            for runtime in docker_matrix.RUNTIMES
        },
        "journals": _or_reason(lambda: files.journals(root)),
    }


def _or_reason(measure: Callable[[], object]) -> object:
    try:
        return measure()
    except NodeError as error:
        return {"value": None, "reason": error.message, "code": error.code}


def _os(root: Path) -> dict[str, str]:
    found = os_release(root)
    return {"id": found.id, "versionId": found.version_id, "codename": found.codename}


def _docker() -> dict[str, object]:
    answer = docker.ask()
    return {
        "version": answer.version,
        "reason": answer.reason or None,
        "runtimes": answer.runtimes,
        "packages": _or_reason(_packages),
    }


def _packages() -> dict[str, object]:
    """The packages that this program pins; null where one is not installed."""
    states = apt.package_states(HELD)
    return {name: asdict(states[name]) if name in states else None for name in HELD}


def _kata(root: Path, runtime: str, hypervisor: str) -> dict[str, object]:
    """What this runtime reads without a ConfigPath."""
    found = kata.effective(root, runtime=runtime, hypervisor=hypervisor, config_path=None)
    return {
        "configFile": found.config_file,
        "resolvedFile": found.resolved_file,
        "dropIns": list(found.drop_ins),
        "kernelParams": found.kernel_params,
        "shim": found.shim,
        "version": found.version,
    }
