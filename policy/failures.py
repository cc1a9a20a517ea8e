"""What the policy pack refuses."""

from nodekit.failures import Failure

CATALOGUE: dict[str, Failure] = {
    "proof-missing": Failure(
        "Nodes or a pod template are made, and nothing in the stack proves them.",
        "Make the nodes with a whole KataNode, or prove the cluster's nodes with KataProof",
    ),
    "secret-in-plain": Failure(
        "A secret is set as plain text, so everybody can read it in the state and in previews.",
        "Set it with pulumi config set --secret, read it with require_secret, or wrap it in pulumi.Output.secret",
    ),
    "secret-on-command-line": Failure(
        "A secret is part of a command line or its environment, which errors and other processes show.",
        "Pass it on the standard input, or in a file of its own; pulumi.Output.unsecret marks a value as not secret",
    ),
}
