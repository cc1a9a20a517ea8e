"""The desired states of a node's verbs from a component's arguments, and their bounds: the same over SSH and at first boot."""

from collections.abc import Callable, Mapping
from typing import Any

import pulumi

from components.told import told
from nodekit.rules import node_state

VERB_SECONDS = {"preflight": 420, "docker": 2400, "kata": 1800}
"""Bound on each verb, in seconds: a slow mirror and an emulated node fit in, a hang does not last."""
PROOF_GRACE_SECONDS = 120
"""The proof's own bound ends a guest; one that is this much later ends a program that hangs."""


def node_states(args: Mapping[str, Any], verified: Mapping[str, pulumi.Input[str]]) -> dict[str, pulumi.Output[node_state.State]]:
    """By verb. `args` are a component's, named as KataNodeArgs has them; `verified` is what the proof vouches for beside them.

    A pair of Docker and Kata that is known to break is refused by `pulumi.RunError`.
    """

    def state(build: Callable[..., node_state.State], *names: str, **more: Any) -> pulumi.Output[node_state.State]:
        """The desired state from `build`, a function of node_state, and the arguments of those names."""
        given = {key: args.get(key) for key in names}
        decide = told(lambda values: build(values.pop("node"), **values))
        return pulumi.Output.all(node=args["node"], **given, **more).apply(decide)

    docker = state(
        node_state.docker,
        "repository_address", "repository_fingerprint", "repository_suite", "kata_version", "kata_runtime", "config_path",
        version=args["docker_version"],
    )  # fmt: skip
    kata = state(
        node_state.kata,
        "hypervisor", "install_release", "archive_address", "archive_sha256", "kernel_params", "config_path", "handler",
        "container_runtime", "allowed_annotations",
        runtime=args["kata_runtime"], version=args["kata_version"],
    )  # fmt: skip
    prove = state(
        node_state.proof,
        "hypervisor", "nested_sandbox", "sandbox", "kernel_params", "config_path",
        runtime=args["kata_runtime"],
        image=args.get("proof_image"),
        timeout_seconds=pulumi.Output.from_input(args["proof_seconds"]).apply(int),
        verified=pulumi.Output.all(docker, kata, dict(verified)),
    )  # fmt: skip
    preflight = state(
        node_state.preflight,
        "hypervisor", "install_release", "archive_address", "archive_sha256", "config_path",
        runtime=args["kata_runtime"], version=args["kata_version"],
    )  # fmt: skip
    return {"preflight": preflight, "docker": docker, "kata": kata, "prove": prove}
