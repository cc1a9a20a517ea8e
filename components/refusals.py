"""Reports a rule's refusal as Pulumi does."""

from collections.abc import Callable
from typing import Any

import pulumi

from nodekit.errors import NodeError


def reporting_refusals(decide: Callable[..., Any]) -> Callable[..., Any]:
    """What `decide` returns; its NodeError becomes one line of the stack's output."""

    def decided(*values: Any) -> Any:
        try:
            return decide(*values)
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None

    return decided
