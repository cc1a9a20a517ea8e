"""The verb `converge`: take the steps before the proof in their order, each only where it has changed since it was taken."""

import importlib
import os
import re
from pathlib import Path

from nodekit import progress
from nodekit.errors import NodeError
from nodekit.host import signals
from nodekit.host.converged import Converged
from nodekit.host.files import text_of
from nodekit.rules import node_state
from nodekit.rules.node_state import ConvergeState

STEPS = ("preflight", "docker", "kata")
"""Verbs, in their order."""
MACHINE_ID = "[0-9a-f]{32}"


def run(desired: dict[str, object], root: Path) -> dict[str, object]:
    """Take the steps that this node has not taken for its `desired` state, a ConvergeState.

    `taken` names them, and `run` the last run that took one. `machineId` is that of machine-id(5), empty where there is none yet.

    Raises NodeError as their verbs do, each of which undoes what it began, and `run-ended` where the connection was cut while a
    step was taken: that is ended, and no other begins. Earlier steps stay taken.
    """
    state = ConvergeState.read(desired)
    record = Converged(root)
    # An image that was taken of a node has its record.
    machine = text_of(root, "/etc/machine-id")
    taken: list[str] = []
    versions, changed, this = {}, False, os.urandom(8).hex()
    states = {"preflight": node_state.preflight(state.kata), "docker": state.docker, "kata": state.kata}
    for step in STEPS:
        own = states[step].document()
        digest = node_state.digest([state.program, machine, own])
        version = record.version(step, digest)
        if version is None:
            if taken and not progress.is_heard():
                message = f"Node {state.node}: nobody reads any longer what this run prints, so it ends before the step {step}"
                raise NodeError("run-ended", message)
            with progress.step(f"step {step}"), signals.bounded(getattr(state, f"{step}_seconds")):
                record.forget(step, this)
                result = importlib.import_module(f"nodekit.commands.{step}").run(own, root)
                version = str(result.get("version", ""))
                record.keep(step, digest, version)
            taken.append(step)
            changed |= bool(result["changed"])
        else:
            progress.say(f"step {step}: taken before, and nothing of it has changed since")
        versions[step] = version
    return {
        "node": state.node,
        "changed": changed,
        "taken": taken,
        "run": record.run,
        "dockerVersion": versions["docker"],
        "machineId": machine.strip() if re.fullmatch(MACHINE_ID, machine.strip()) else "",
    }
