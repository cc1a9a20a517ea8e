"""What every pool ends with: a KataNode on each of its machines, and what their proofs read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from components.nodes.kata_node import KataNode, KataNodeArgs
from components.nodes.node_states import NodeSettings
from components.nodes.rollout import Member, Waves
from components.nodes.settings import Connection
from components.plain import together


@dataclass(frozen=True)
class Machine:
    """A machine that a pool makes, or is told about."""

    node: str
    """Name of the node in messages and evidence."""
    resource: str
    """Name of its KataNode."""
    connection: Connection
    options: pulumi.ResourceOptions
    """Of its KataNode; with `deleted_with` where the machine goes too, so that its removal undoes nothing on it first."""
    gone: bool = False
    """Whether it no longer exists, so that its KataNode stays in the state and vouches for nothing."""


def kata_nodes(settings: NodeSettings, machines: Iterable[Machine], waves: Waves | None = None) -> dict[str, KataNode]:
    """Makes each machine a Kata node and proves it; by node, without those that are gone.

    With `waves` each comes after the proofs of the wave before. Its machines come in the order of the waves.
    """
    proven: dict[str, KataNode] = {}
    for machine in machines:
        args: KataNodeArgs = {
            "node": machine.node,
            "connection": machine.connection,
            "gone": machine.gone,
            "docker": settings.docker,
            "kata": settings.kata,
            "verification": settings.verification,
        }
        options, member = machine.options, None
        if waves and not machine.gone:
            before = [proven[node] for node in waves.before(machine.node)]
            options = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=[*map(_released, before)]))
            member = Member(waves, machine.node, machine.resource)
        node = KataNode(machine.resource, args, options, member)
        if not machine.gone:
            proven[machine.node] = node
    return proven


def _released(node: KataNode) -> pulumi.Output[pulumi.Resource]:
    """The node, once its evidence is known: it has passed its proof, and takes pods again."""
    resource: pulumi.Resource = node
    return node.evidence.apply(lambda _: resource)


def summaries(proven: Mapping[str, KataNode]) -> pulumi.Output[list[dict[str, Any]]]:
    """Name, address and what the proof read of each node; known once every node is proven."""
    return together([node.summary for node in proven.values()])


def evidence(proven: Mapping[str, KataNode]) -> pulumi.Output[dict[str, Any]]:
    """The proof's result by node; known once every node is proven."""
    return together([node.evidence for node in proven.values()]).apply(lambda known: dict(zip(proven, known, strict=True)))
