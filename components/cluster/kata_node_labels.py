"""The labels by which a Kata RuntimeClass finds its nodes, on machines that were made Kata nodes over SSH."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import node_labels, runtime_class
from clusterkit.api.cluster_reader import Reader
from components.arguments import checked
from components.cluster.cluster_object import cluster_options
from components.cluster.reading import read_in_thread
from components.plain import set_or
from components.refusals import reporting_refusals
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.text import harmless


class KataNodeLabelsArgs(TypedDict):
    """Which machines, and on which cluster."""

    kubeconfig: pulumi.Input[str]
    """Kubeconfig (secret) of the cluster that the component's Kubernetes provider works on: nodes are looked up with it."""
    context: NotRequired[pulumi.Input[str]]
    """Context of that kubeconfig; without it the current one."""
    machines: pulumi.Input[dict[str, pulumi.Input[str]]]
    """Machine id of each machine, as a KataNode reports it, by a name for messages."""
    kata_version: NotRequired[pulumi.Input[str]]
    """Kata release, which decides which labels there are; by default 3.32.0."""


class KataNodeLabels(pulumi.ComponentResource):
    """Sets the labels that a KataRuntimeClass selects by on each machine's node (`-NODE`), and removes them again.

    A node that was deleted and has joined again under its name gets them again. To come after the labels, use the output `nodes`:
    which nodes there are is known later, so that in a Python program `depends_on` alone waits for none of them.

    Needs a provider with server-side apply, its default. A machine that is not a node of the cluster gets none, with a warning;
    a label that another owner set to something else is refused.
    """

    nodes: pulumi.Output[list[str]]
    """Names of the labelled nodes, known once they have the labels."""

    def __init__(self, name: str, args: KataNodeLabelsArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, KataNodeLabelsArgs, name, args)
        super().__init__("kata-nodes:index:KataNodeLabels", name, None, opts)
        version = set_or(args.get("kata_version"), node_state.KATA_VERSION)
        # Errors below hold no part of the kubeconfig; without this, everything derived from it would be secret.
        kubeconfig = pulumi.Output.unsecret(pulumi.Output.from_input(args["kubeconfig"]))
        labels = pulumi.Output.from_input(version).apply(reporting_refusals(runtime_class.node_selector))

        def label(node: str, uid: str) -> pulumi.Output[str]:
            child = f"{name}-{node}"
            patch = k8s.core.v1.NodePatch(
                child,
                metadata={"name": node, "labels": labels, "annotations": {node_labels.LABELLED: uid}},
                opts=cluster_options(self, opts, child, "Node"),
            )
            return pulumi.Output.all(patch.id).apply(lambda _: node)

        names: pulumi.Output[Any] = pulumi.Output.all(kubeconfig, args.get("context"), args["machines"]).apply(
            lambda values: nodes_of(*values)
        )
        self.nodes = names.apply(lambda known: pulumi.Output.all(*(label(*node) for node in known.items())))
        self.register_outputs({"nodes": self.nodes})


async def nodes_of(kubeconfig: str, context: str | None, machines: dict[str, str]) -> Any:
    """Name of each machine's node -> its uid, by the cluster; raises pulumi.RunError with the reason and its remedy."""
    try:
        nodes = await read_in_thread(lambda: cluster(kubeconfig, context).described_nodes())
        by_machine, absent = node_labels.nodes_of(machines, nodes)
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None
    if absent:
        pulumi.log.warn(
            harmless(
                f"not labelled, since the cluster has no node with their machine ids: {', '.join(absent)}. Pods of the class "
                "start there once they have joined and pulumi up has run again; kubernetes.containerRuntime: none says that they "
                "never do."
            )
        )
    uids = {node["metadata"]["name"]: str(node["metadata"].get("uid", "")) for node in nodes}
    return {node: uids[node] for node in sorted(by_machine.values())}


def cluster(kubeconfig: str, context: str | None) -> Reader:
    """Reads the cluster."""
    return Reader(kubeconfig, context)
