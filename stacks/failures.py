"""Refusals of a stack's file that its model does not express as rules of single keys."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "login-useless": Failure(
        "A secret is set that nothing would use: no node's login, no machine of a group, and no cluster.",
        "Remove it: pulumi config rm {key}",
        {"cluster": "Describe the cluster in the section kubernetes, or remove it: pulumi config rm {key}"},
    ),
}
