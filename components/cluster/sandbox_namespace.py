"""The namespace of sandbox pods, with the Pod Security labels without which both capabilities are refused."""

from typing import NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import guard
from components.arguments import checked
from components.children import child_options, id_of
from components.cluster.cluster_object import cluster_options, namespace_name


class SandboxNamespaceArgs(TypedDict):
    """What the namespace is."""

    namespace: pulumi.Input[str]
    """Its name. Depend on the SandboxGuard that watches it, so no pod is created before the guard."""
    adopt: NotRequired[bool]
    """Whether an existing namespace only gets our labels; by default the namespace is made. A plain value, because it decides
    which resources there are."""


class SandboxNamespace(pulumi.ComponentResource):
    """A namespace made for sandbox pods, or with `adopt` an existing one that gets the labels.

    Made: needs a provider with `enableServerSideApply: false`, which refuses a namespace that exists instead of taking it
    over; destroying the stack deletes it, with everything in it. Adopted: needs a provider with server-side apply, its default;
    the namespace must exist, our labels are refused if another owner set a different value, and destroying the stack removes
    only them.
    """

    namespace: pulumi.Output[str]
    """Name of the namespace, known once it is made or labelled."""

    def __init__(self, name: str, args: SandboxNamespaceArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, SandboxNamespaceArgs, name, args)
        super().__init__("kata-nodes:index:SandboxNamespace", name, None, opts)
        child, called = f"{name}-namespace", namespace_name(args["namespace"])
        labels = guard.namespace_labels()
        if args.get("adopt", False):
            existing = k8s.core.v1.Namespace.get(child, id_of(called), child_options(self, opts))
            labelled = k8s.core.v1.NamespacePatch(
                f"{name}-labels",
                metadata={"name": called, "labels": labels},
                opts=cluster_options(self, opts, f"{name}-labels", "Namespace", depends_on=[existing]),
            )
            self.namespace = pulumi.Output.all(called, labelled.id).apply(lambda values: str(values[0]))
        else:
            created = k8s.core.v1.Namespace(
                child,
                metadata={"name": called, "labels": labels},
                opts=cluster_options(self, opts, child, "Namespace", "namespace"),
            )
            self.namespace = created.metadata.apply(lambda metadata: str(metadata.name))
        self.register_outputs({"namespace": self.namespace})
