"""The five rows of the seed document's checklist, each with what was measured for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from nodekit.rules.node_state import SEED_PARAMETER
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.proof.ladder import COMMANDS

Row = dict[str, object]
SANDBOX_RUNGS = tuple(command.name for command in COMMANDS)
"""Rungs of the ladder that show a nested sandbox at work."""
OPTIONAL = {command.name for command in COMMANDS if command.optional}
PLACES = {"guest": "in a booted guest", "container": "in a container of the runtime", "pod": "in a pod of the template"}
"""The evidence's word -> where the ladder was climbed."""


def row(item: str, passed: bool, measured: str) -> Row:
    """One row."""
    return {"item": item, "passed": passed, "measured": measured}


def per_node(evidence: Sequence[Mapping[str, object]], text: str) -> str:
    """`text` filled in for every node, the node's name before it."""
    return "; ".join(f"{proof['node']}: {text.format(**proof)}" for proof in evidence)


def sandbox_text(proof: Mapping[str, object]) -> str:
    """The sandbox rungs of one node's evidence: which were climbed and where, and which the promise does not need."""
    rungs = sandbox_rungs(proof)
    words = {True: "passed", False: "failed", None: "not tried"}
    counted = ", ".join(f"{rung['name']} {words[rung['passed']]}" for rung in rungs if rung["counts"])
    others = ", ".join(f"{rung['name']} {words[rung['passed']]}" for rung in rungs if not rung["counts"])
    place = PLACES[str(proof["proven"])]
    if not counted:
        return f"{proof['node']}: no sandbox is promised; reported {place}: {others}"
    return f"{proof['node']}: {counted} ({place}{f'; beside the promise: {others}' if others else ''})"


def sandbox_rungs(proof: Mapping[str, object]) -> list[dict[str, Any]]:
    """Those of one node's evidence that run a command."""
    rungs = proof["rungs"]
    assert isinstance(rungs, list)
    return [rung for rung in rungs if rung["name"] in SANDBOX_RUNGS]


def sandbox_passed(proof: Mapping[str, object]) -> bool:
    """Whether every rung that the promised sandbox needs was climbed; where none is promised, whether a user namespace was made.

    A rung that was not tried is not passed; one for which another stands (`optional`) may be left out.
    """
    rungs = sandbox_rungs(proof)
    if not any(rung["counts"] for rung in rungs):
        return any(rung["name"] == "unshare" and rung["passed"] for rung in rungs)
    return all(rung["passed"] or (rung["passed"] is None and rung["name"] in OPTIONAL) for rung in rungs if rung["counts"])


def of_pods(by_node: Mapping[str, Mapping[str, object]], *, handler: str, hypervisor: str | None) -> list[dict[str, object]]:
    """The evidence of a proof on a cluster in the form that nodes configured over SSH have. `hypervisor` as for `checklist`.

    It holds the part of the guest's command line that the pod's report kept: the expected parameters, the seed document's own,
    and what sets the limit.
    """
    unknown = "" if hypervisor else ", whose hypervisor is not known"
    place = {"hypervisor": f"handler {handler}{unknown}", "configFile": "the guest's /proc/cmdline"}
    return [{**place, "kernelParams": proof.get("commandLine", ""), **proof} for _, proof in sorted(by_node.items())]


def checklist(
    evidence: Sequence[Mapping[str, object]], *, hypervisor: str | None, capabilities: Sequence[str], granted_by: str
) -> list[Row]:
    """The five rows. `evidence` holds one proof result a node; `capabilities` is what `granted_by` really grants. `hypervisor` is
    None where the stack has adopted a class that does not say which: a pod's proof measures none.

    A stack whose proof failed has no checklist, since nothing after the proof is made; a row can still fail where no
    nested sandbox is asked for.
    """
    some = len(evidence) > 0
    section = f"[hypervisor.{hypervisor}]" if hypervisor else "Kata's configuration"
    return [
        row("QEMU is the hypervisor", some and hypervisor == "qemu", per_node(evidence, "{hypervisor}") or hypervisor or ""),
        row(
            "NET_ADMIN and SYS_ADMIN are granted",
            set(CAPABILITIES) <= set(capabilities),
            f"{granted_by}: {', '.join(capabilities) or 'none'}",
        ),
        row(
            f"kernel_params of {section} holds {SEED_PARAMETER}",
            some and all(SEED_PARAMETER in str(proof["kernelParams"]).split() for proof in evidence),
            per_node(evidence, "{kernelParams} ({configFile}; inert on mainline kernels)"),
        ),
        row(
            "max_user_namespaces in the guest is above 0",
            some and all(isinstance(n := proof["userNamespaces"], int) and n > 0 for proof in evidence),
            per_node(evidence, "{userNamespaces}"),
        ),
        row(
            "The inner sandbox works in the guest",
            some and all(sandbox_passed(proof) for proof in evidence),
            "; ".join(sandbox_text(proof) for proof in evidence),
        ),
    ]
