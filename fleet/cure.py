"""Which resources a `pulumi up` must make again to repair a node: an `up` alone sees no drift there."""

from collections.abc import Iterable

from fleet.errors import FleetError
from fleet.measure import Measured

RESOURCES = {"preflight": ["preflight"], "docker": ["docker"], "kata": ["kata"], "prove": [], "program": []}
"""Verb that puts a difference right -> resources that run it. Every verb first puts back a program whose copy is
whole."""
PROOF = "proof"


def flags(measured: Iterable[Measured]) -> list[str]:
    """Flags of `pulumi up` for all nodes with differences; none where there is no difference.

    Each node is proven again: what its last proof was of has been changed in between. Where a node was never proven, the rest
    of its resources is made too. Raises FleetError.
    """
    urns: list[str] = []
    whole = False
    for measurement in measured:
        if not measurement.differences:
            continue
        if PROOF not in measurement.host.urns:
            whole = True
        resources = [*(name for item in measurement.differences for name in RESOURCES[str(item["verb"])]), PROOF]
        urns += [urn for name in dict.fromkeys(resources) if (urn := measurement.host.urns.get(name))]
    if whole:
        return [part for urn in urns for part in ("--replace", urn)]
    return [part for urn in urns for part in ("--target-replace", urn)]


def proofs(measured_names: Iterable[str], urns: dict[str, dict[str, str]]) -> list[str]:
    """Flags of `pulumi up` that prove the named nodes again. Raises FleetError for a name that is none of the stack's."""
    chosen = []
    for name in measured_names:
        if name not in urns:
            raise FleetError(f"The stack has no node {name!r}. Its nodes: {', '.join(urns) or 'none'}.")
        if PROOF not in urns[name]:
            raise FleetError(f"Node {name} has no proof yet: run `pulumi up`, which makes it.")
        chosen += ["--target-replace", urns[name][PROOF]]
    return chosen
