"""Nodes that the stack makes itself: virtual machines on the machine that runs Pulumi."""

from typing import Optional, TypedDict

import pulumi

from components.children import child_options
from components.local.machine import LocalMachine
from components.nodes.node import Node


class LocalNodesArgs(TypedDict):
    """How many machines, and of what size."""

    count: int
    """How many."""
    directory: str
    """Folder in which each machine gets a folder of its own."""
    memory_mib: pulumi.Input[int]
    """Memory of each machine in MiB."""
    cores: pulumi.Input[int]
    """Cores of each machine under KVM; an emulated machine has one."""


class LocalNodes(pulumi.ComponentResource):
    """A pool of local machines, named local-0, local-1 and so on."""

    nodes: list[Node]
    """One record a machine."""

    def __init__(self, name: str, args: LocalNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:LocalNodes", name, None, opts)
        self.nodes = []
        self.options: list[pulumi.ResourceOptions] = []
        """What is to be given to a `KataNode` on each of them, in the same order."""
        for number in range(int(args["count"])):
            node = f"local-{number}"
            machine = LocalMachine(
                node,
                {
                    "node": node,
                    "directory": f"{args['directory']}/{node}",
                    "memory_mib": args["memory_mib"],
                    "cores": args["cores"],
                },
                # Machines of earlier versions stood in the stack by themselves.
                child_options(self, opts, aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)]),
            )
            self.nodes.append(
                {
                    "node": node,
                    "address": machine.address,
                    "port": machine.port,
                    "user": machine.user,
                    "host_key": machine.host_key,
                    "private_key": machine.private_key,
                    "identity": machine.identity,
                }
            )
            # What is on the machine goes with it, so its removal needs no undoing first.
            self.options.append(pulumi.ResourceOptions(deleted_with=machine.machine))
        self.register_outputs({"nodes": self.nodes})
