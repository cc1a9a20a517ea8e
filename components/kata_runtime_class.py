"""The RuntimeClass that leads pods into Kata guests."""

from typing import Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.children import child_options
from nodekit.rules import runtime_class


class KataRuntimeClassArgs(TypedDict):
    """What the class says."""

    runtime_class: pulumi.Input[str]
    """Its name."""
    handler: pulumi.Input[str]
    """Handler in the nodes' container runtime, such as kata-qemu."""
    kata_version: pulumi.Input[str]
    """Kata release, which decides overhead and node labels."""


class KataRuntimeClass(pulumi.ComponentResource):
    """A RuntimeClass with the overhead of its Kata release, scheduled to nodes that carry Kata's labels."""

    runtime_class: pulumi.Output[str]
    """Name of the class, known once it is made."""

    def __init__(self, name: str, args: KataRuntimeClassArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:KataRuntimeClass", name, None, opts)
        version = pulumi.Output.from_input(args["kata_version"])
        made = k8s.node.v1.RuntimeClass(
            f"{name}-class",
            metadata={"name": args["runtime_class"]},
            handler=args["handler"],
            overhead={"pod_fixed": version.apply(runtime_class.overhead)},
            scheduling={"node_selector": version.apply(runtime_class.node_selector)},
            # `handler` is immutable, which the provider does not know.
            opts=child_options(self, opts, replace_on_changes=["handler"], delete_before_replace=True),
        )
        self.runtime_class = made.metadata.apply(lambda metadata: str(metadata.name))
        self.register_outputs({"runtimeClass": self.runtime_class})
