"""Explains on the spot what the official command plugin says of a connection to a node."""

import pulumi

from components.children import calls_back_on_error, hook_name
from delivery import plugin_errors


def explaining(child: str, node: str) -> list[pulumi.ErrorHook]:
    """The hook for the commands of a `node`, whose component the engine knows as `child`; none where it has no such hooks."""
    if not calls_back_on_error():
        return []

    async def explain(failed: pulumi.ErrorHookArgs) -> bool:
        error = plugin_errors.explained(next(iter(failed.errors), ""), node)
        if error is not None:
            pulumi.log.error(error.sentence())
        return False  # no other try

    return [pulumi.ErrorHook(hook_name(child, "explain"), explain)]
