"""The part of the stack's configuration that says how a change comes to nodes of a cluster."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from clusterkit import rollout
from stacks.sections import Model


def text_of_number(value: Any) -> Any:
    """A number of nodes as text; a percentage is text already."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


BATCH_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^([1-9][0-9]{0,8}|([1-9][0-9]?|100)%)$"}]
}
"""For editors; the rule itself is `rollout.waves`, which knows the nodes."""


class Rollout(Model):
    """How a change comes to existing nodes that serve a cluster: a few at a time, each cordoned and drained before it changes,
    proven, and uncordoned. The first that fails stops the rest."""

    canary: Annotated[int, Field(ge=1)] = rollout.CANARY
    """How many nodes change first."""
    batch: Annotated[str, BeforeValidator(text_of_number), WithJsonSchema(BATCH_SCHEMA)] = rollout.BATCH
    """How many change at a time after that: a number, or a percentage of all nodes, rounded down to one node at least."""
    drain_seconds: Annotated[int, Field(ge=rollout.LEAST_DRAIN_SECONDS, le=rollout.MOST_DRAIN_SECONDS)] = rollout.DRAIN_SECONDS
    """How long the pods of a node have to leave it. Disruption budgets are respected: a node that is not empty after this time
    ends the run, unchanged and uncordoned."""
    evict_bare_pods: bool = False
    """Whether pods without a controller, which nothing starts elsewhere, are evicted too; otherwise they end the run."""
