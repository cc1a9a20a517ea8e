"""Reports a rule's refusal as Pulumi does."""

from collections.abc import Callable
from typing import Any

import pulumi

from nodekit.errors import NodeError


def reporting_refusals(decide: Callable[..., Any]) -> Callable[..., Any]:
    """`decide`, its NodeError turned into one line of the stack's."""

    def decided(*values: Any) -> Any:
        try:
            return decide(*values)
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None

    return decided
