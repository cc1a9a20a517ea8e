"""The namespace of sandbox pods, with the Pod Security labels without which both capabilities are refused."""

from typing import NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import guard
from components.children import child_options
from components.cluster.cluster_object import cluster_options


class SandboxNamespaceArgs(TypedDict):
    """What the namespace is."""

    namespace: pulumi.Input[str]
    """Its name. Depend on the SandboxGuard that watches it, so that no pod comes before it."""
    adopt: NotRequired[bool]
    """Whether the namespace is there already and gets our labels only; by default it is made. Plain, because it decides which
    resources there are."""


class SandboxNamespace(pulumi.ComponentResource):
    """A namespace made for sandbox pods, or one that is there and is labelled because `adopt` says so.

    Made: needs a provider with `enable_server_side_apply=False`, which refuses a namespace that exists instead of taking it
    over; with the stack it goes, and everything in it. Adopted: needs a provider with server-side apply, its default; the
    namespace must exist, our labels are refused where somebody else's value differs, and they are all that goes with the stack.
    """

    namespace: pulumi.Output[str]
    """Name of the namespace, known once it is made or labelled."""

    def __init__(self, name: str, args: SandboxNamespaceArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:SandboxNamespace", name, None, opts)
        child, called = f"{name}-namespace", args["namespace"]
        labels = guard.namespace_labels()
        if args.get("adopt", False):
            there = k8s.core.v1.Namespace.get(child, called, child_options(self, opts))
            labelled = k8s.core.v1.NamespacePatch(
                f"{name}-labels",
                metadata={"name": called, "labels": labels},
                opts=cluster_options(self, opts, f"{name}-labels", "Namespace", depends_on=[there]),
            )
            self.namespace = pulumi.Output.all(called, labelled.id).apply(lambda given: str(given[0]))
        else:
            remedy = (
                "Choose another namespace, or adopt this one, which only labels it (the component's adopt; for the namespace of "
                "this program's sandboxes kubernetes.adoptNamespace)"
            )
            made = k8s.core.v1.Namespace(
                child,
                metadata={"name": called, "labels": labels},
                opts=cluster_options(self, opts, child, "Namespace", remedy),
            )
            self.namespace = made.metadata.apply(lambda metadata: str(metadata.name))
        self.register_outputs({"namespace": self.namespace})
