"""A stack as its state has it, and as it is now: nodes and clusters are measured at the same time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet import cluster_objects, hosts
from fleet.cluster_objects import Cluster
from fleet.errors import FleetError
from fleet.hosts import Host
from nodekit.rules.text import printable

if TYPE_CHECKING:  # what reaches nodes and API servers takes a while to load
    from fleet.measure import Measured
    from fleet.measure_objects import MeasuredCluster, MeasuredObject

UNREADABLE = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What comes of a state that is not of an engine's form."""


PROVEN_ELSEWHERE = {
    "kata-nodes:index:AwsNodeGroup": "Machines of group {name} prove themselves as they start; the stack has no proof of them.",
    "kata-nodes:index:JoiningNodes": "The controller of {name} proves nodes that join later; the cluster has their evidence.",
}
"""Component -> what is true of nodes that no proof of the stack is of."""


@dataclass(frozen=True)
class Stack:
    """What a stack has made."""

    nodes: list[Host]
    clusters: list[Cluster]
    unfinished: list[str]
    """Names of the proofs in pods that were never made, or are gone."""

    @property
    def gone(self) -> list[str]:
        """Names of nodes whose machines no longer exist."""
        return [node.name for node in self.nodes if node.gone]


@dataclass(frozen=True)
class Answers:
    """What is true of it now."""

    nodes: "list[Measured]"
    clusters: "list[MeasuredCluster]"
    unfinished: Sequence[str] = ()
    """As the stack has them."""

    @property
    def differing_nodes(self) -> list[str]:
        """Names of the nodes that are not as the stack wants them."""
        return [measured.host.name for measured in self.nodes if measured.differences]

    @property
    def objects(self) -> "list[MeasuredObject]":
        """The objects of all clusters."""
        return [measured for cluster in self.clusters for measured in cluster.objects]

    @property
    def differing_objects(self) -> "list[MeasuredObject]":
        """The objects that are not as the stack wants them."""
        return [measured for cluster in self.clusters for measured in cluster.differing]

    @property
    def unmeasured_nodes(self) -> int:
        """How many nodes could not be measured."""
        return sum(measured.document is None for measured in self.nodes)

    @property
    def unmeasured_objects(self) -> int:
        """How many objects could not be measured."""
        return sum(cluster.unmeasured for cluster in self.clusters)


@contextmanager
def readable() -> Iterator[None]:
    """Raises FleetError where what is read in the with-block has not an engine's form, as in a state that somebody has edited:
    of many stacks, it would cost the others their report."""
    try:
        yield
    except UNREADABLE as error:
        kind = type(error).__name__
        raise FleetError(
            f"The stack's state is not of a form that an engine writes ({kind}). Look for what was edited: pulumi stack export."
        ) from error


def of(deployment: Mapping[str, Any]) -> Stack:
    """What a state has. Raises FleetError, also for one that is not `readable`."""
    with readable():
        return Stack(hosts.of(deployment), cluster_objects.of(deployment), cluster_objects.unfinished(deployment))


def without_proof(name: str) -> str:
    """What is said of a proof in pods that is not there."""
    return f"{printable(name, 253)}: the stack holds no proof in pods; the last run ended before, or it was taken away since"


def proven_elsewhere(deployment: Mapping[str, Any]) -> list[str]:
    """A sentence on each kind of node that a stack has, and has no proof of."""
    resources = [resource for resource in deployment.get("resources") or [] if isinstance(resource, dict)]
    known = [(str(resource.get("urn")), PROVEN_ELSEWHERE.get(str(resource.get("type")))) for resource in resources]
    return [text.format(name=printable(urn.rpartition("::")[2], 253)) for urn, text in known if text]


def names(nodes: Sequence[Host], clusters: Sequence[Cluster]) -> set[str]:
    """What is measured, as `measured` reports it."""
    return {node.name for node in nodes if not node.gone} | {_name(cluster.name) for cluster in clusters}


def measured(
    nodes: Sequence[Host], clusters: Sequence[Cluster], seconds: float, report: Callable[[str], None] = lambda _: None
) -> Answers:
    """Measure all of them, each in at most `seconds`; `report` gets each one's name as it has answered."""
    from fleet.measure import measure

    readings = []
    if clusters:
        from fleet.measure_objects import Reading

        readings = [Reading(cluster, seconds, lambda name: report(_name(name))) for cluster in clusters]
    answered = measure(nodes, seconds, lambda node: report(node.host.name))
    return Answers(answered, [reading.result() for reading in readings])


def _name(cluster: str) -> str:
    return f"the API server of {cluster}"
