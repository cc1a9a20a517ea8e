"""Refusals of a stack's file that its model does not express as rules of single keys."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "login-useless": Failure(
        "A secret or a bastion is set that no node's login would use.",
        "Remove it: pulumi config rm {key}",
    ),
}
