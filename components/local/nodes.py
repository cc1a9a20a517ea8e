"""Nodes that the stack makes itself: virtual machines on the machine that runs Pulumi."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from components.arguments import checked
from components.children import child_options
from components.local.machine import LocalMachine
from components.nodes.node_states import settings_of
from components.nodes.proven_machines import Machine, evidence, kata_nodes, summaries
from components.nodes.settings import Connection, DockerSettings, KataSettings, Verification


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
    docker: NotRequired[DockerSettings]
    """Docker on every machine; by default 27.5.1, held."""
    kata: NotRequired[KataSettings]
    """Kata on every machine; by default the official release 3.32.0 with QEMU, for a nested sandbox."""
    verification: NotRequired[Verification]
    """How every machine is proven."""


class LocalNodes(pulumi.ComponentResource):
    """Local machines, named `{name}-0`, `{name}-1` and so on, each made a Kata node and proven by a KataNode of its name."""

    nodes: pulumi.Output[list[dict[str, Any]]]
    """By machine: name, address and what the proof read, as `summary` of a KataNode. Known once every node is proven."""
    evidence: pulumi.Output[dict[str, Any]]
    """By node: the proof's result. Known once every node is proven."""

    def __init__(self, name: str, args: LocalNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, LocalNodesArgs, name, args)
        super().__init__("kata-nodes:index:LocalNodes", name, None, opts)
        machines: list[Machine] = []
        for number in range(int(args["count"])):
            node = f"{name}-{number}"
            machine = LocalMachine(
                node,
                {
                    "node": node,
                    "directory": f"{args['directory']}/{node}",
                    "memory_mib": args["memory_mib"],
                    "cores": args["cores"],
                },
                child_options(self, opts),
            )
            connection: Connection = {
                "address": machine.address,
                "port": machine.port,
                "user": machine.user,
                "host_key": machine.host_key,
                "private_key": machine.private_key,
                "identity": machine.identity,
            }
            machines.append(Machine(node, node, connection, child_options(self, opts, deleted_with=machine.machine)))
        proven = kata_nodes(settings_of(args), machines)
        self.nodes, self.evidence = summaries(proven), evidence(proven)
        self.register_outputs({"nodes": self.nodes})
