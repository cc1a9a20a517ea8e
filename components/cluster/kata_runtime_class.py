"""The RuntimeClass whose pods run in Kata guests."""

from functools import partial
from typing import NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import object_names, quantity, runtime_class
from components.arguments import checked
from components.children import child_options, id_of
from components.cluster.cluster_object import cluster_options, object_name
from components.plain import derived, set_or
from components.refusals import reporting_refusals
from nodekit.rules.kata.guest_memory import pod_overhead


class KataRuntimeClassArgs(TypedDict):
    """What the class says."""

    runtime_class: pulumi.Input[str]
    """Its name."""
    handler: NotRequired[pulumi.Input[str]]
    """Handler in the nodes' container runtime, such as kata-qemu. Required if the class is made;
    if set, an adopted class must have it."""
    kata_version: pulumi.Input[str]
    """Kata release, which decides overhead and node labels."""
    overhead_memory: NotRequired[pulumi.Input[str]]
    """Memory of a pod beyond its containers', as a Kubernetes quantity; by default that of kata-deploy for the release."""
    overhead_cpu: NotRequired[pulumi.Input[str]]
    """CPU, in the same form."""
    tolerations: NotRequired[pulumi.Input[list[str]]]
    """Taints of the nodes that its pods tolerate, as for kubectl taint: KEY[=VALUE][:EFFECT]."""
    adopt: NotRequired[bool]
    """Whether an existing class (kata-deploy makes its own) is used as it is; by default the class is made. A plain value,
    because it decides which resources there are."""


class KataRuntimeClass(pulumi.ComponentResource):
    """A RuntimeClass with the overhead of its Kata release, scheduled to nodes that carry Kata's labels.

    Made: needs a provider with `enableServerSideApply: false`, which refuses a class that exists instead of taking it over; a
    changed handler replaces it, and pods that are created in that second are refused. Adopted: it must exist, is
    read and never written; handler, overhead and tolerations are then its maker's.
    """

    runtime_class: pulumi.Output[str]
    """Name of the class, known once it is made or checked."""
    handler: pulumi.Output[str]
    """Its handler."""

    def __init__(self, name: str, args: KataRuntimeClassArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, KataRuntimeClassArgs, name, args)
        super().__init__("kata-nodes:index:KataRuntimeClass", name, None, opts)
        child, called = f"{name}-class", object_name("runtimeClass", args["runtime_class"])
        if args.get("adopt", False):
            existing = k8s.node.v1.RuntimeClass.get(child, id_of(called), child_options(self, opts))
            self.runtime_class = pulumi.Output.all(called, existing.handler, args.get("handler")).apply(
                reporting_refusals(lambda values: runtime_class.adopted(*values))
            )
            self.handler = existing.handler
        elif args.get("handler") is None:
            named(name, None)
        else:
            version = pulumi.Output.from_input(args["kata_version"])
            settings = pulumi.Output.all(version, args.get("overhead_memory"), args.get("overhead_cpu"))
            tolerations = pulumi.Output.from_input(set_or(args.get("tolerations"), []))
            created = k8s.node.v1.RuntimeClass(
                child,
                metadata={"name": called},
                handler=derived(reporting_refusals(partial(named, name)), args["handler"]),
                overhead={"pod_fixed": settings.apply(reporting_refusals(lambda all_of: overhead(*all_of)))},
                scheduling={
                    "node_selector": version.apply(reporting_refusals(runtime_class.node_selector)),
                    "tolerations": tolerations.apply(
                        reporting_refusals(lambda taints: [runtime_class.toleration(taint) for taint in taints])
                    ),
                },
                opts=cluster_options(
                    self, opts, child, "RuntimeClass", "runtime-class",
                    # `handler` is immutable, which the provider does not know.
                    replace_on_changes=["handler"],
                    delete_before_replace=True,
                ),
            )  # fmt: skip
            self.runtime_class = created.metadata.apply(lambda metadata: str(metadata.name))
            self.handler = created.handler
        self.register_outputs({"runtimeClass": self.runtime_class, "handler": self.handler})


def named(name: str, handler: str | None) -> str:
    """The handler of the class that the component with that name makes; raises pulumi.RunError without one."""
    if handler is None:
        raise pulumi.RunError(f"{name}: a RuntimeClass that is made needs its handler, such as kata-qemu. Set handler")
    return object_names.check_label("handler", handler)


def overhead(kata_version: str, memory: str | None, cpu: str | None) -> dict[str, str]:
    """As `pod_overhead`; raises NodeError `bad-input` for what is no quantity, as `quantity.memory` does."""
    fixed = pod_overhead(kata_version, memory, cpu)
    quantity.memory("overheadMemory", fixed["memory"])
    quantity.amount("overheadCpu", fixed["cpu"])
    return fixed
