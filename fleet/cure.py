"""Which resources a `pulumi up` must make again to repair nodes and objects of clusters: an `up` alone sees no drift there."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fleet.errors import FleetError

if TYPE_CHECKING:
    from fleet.measure import Measured
    from fleet.stack import Answers

STEP, SENT = "converge", "upload"
"""What takes all steps before the proof, and the copy of the node program, after another one of which they are taken too."""
RESOURCES = {"preflight": [STEP], "docker": [STEP], "kata": [STEP], "prove": [], "program": [SENT]}
"""Verb that puts a difference right -> resources that run it."""
PROOF = "proof"
ALL = {"system", SENT, STEP, PROOF}
"""What a node has after a run that did not end early."""
FOLLOWED = ("create", "replace", "prove")
"""Repairs of an object after which others take another value from it: its name, the Job that is the proof."""


def flags(answers: "Answers") -> list[str] | None:
    """Flags of `pulumi up` for all nodes and objects with differences; None where nothing can be repaired, and no flag where it
    takes the whole `up`.

    Each node is proven again: what its last proof was of has been changed in between. Where a node lacks one of its resources,
    since its last run ended early, the rest of them is made too. Objects are refreshed first: the engine compares with what its
    state has of them.
    """
    replaced, targets, whole = _of_nodes(answers.nodes)
    whole = whole or bool(answers.unfinished)
    repairs = [(each.item, difference.repair) for each in answers.differing_objects for difference in each.differences]
    for item, repair in repairs:
        if repair is None:
            continue
        (replaced if repair == "replace" else targets).append(item.urn)
        if repair in FOLLOWED:
            targets += item.dependents
        if repair == "prove" and not item.dependents:
            whole = True  # there is no evidence that could be a target
    if not (replaced or targets or whole):
        return None
    flag, others = ("--replace", []) if whole else ("--target-replace", [urn for urn in targets if urn not in replaced])
    chosen = [*((flag, urn) for urn in dict.fromkeys(replaced)), *(("--target", urn) for urn in dict.fromkeys(others))]
    return [*(part for pair in chosen for part in pair), *(["--refresh"] if any(repair for _, repair in repairs) else [])]


def _of_nodes(measured: "Iterable[Measured]") -> tuple[list[str], list[str], bool]:
    """URNs that are replaced, those that follow, and whether a node lacks a resource, so that everything else is made too."""
    urns: list[str] = []
    followers: list[str] = []
    whole = False
    for measurement in measured:
        if not measurement.differences:
            continue
        if not measurement.host.urns.keys() >= ALL:
            whole = True
        resources = [*(name for item in measurement.differences for name in RESOURCES.get(str(item["verb"]), [])), PROOF]
        urns += [urn for name in dict.fromkeys(resources) if (urn := measurement.host.urns.get(name))]
        if SENT in resources and STEP not in resources and (placed := measurement.host.urns.get(STEP)):
            followers.append(placed)
    return urns, followers, whole


def proofs(measured_names: Iterable[str], urns: dict[str, dict[str, str]]) -> list[str]:
    """Flags of `pulumi up` that prove the named nodes again. Raises FleetError for a name that is none of the stack's."""
    chosen = []
    for name in measured_names:
        if name not in urns:
            raise FleetError(f"The stack has no node {name!r}. Its nodes: {', '.join(urns) or 'none'}.")
        if PROOF not in urns[name]:
            raise FleetError(f"Node {name} has no proof yet: run `pulumi up`, which makes it.")
        if not urns[name].keys() >= ALL:
            raise FleetError(f"The last run on node {name} ended early: run `pulumi up`, which also proves it.")
        chosen += ["--target-replace", urns[name][PROOF]]
    return chosen
