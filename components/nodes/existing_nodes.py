"""Nodes that are there already: machines reached over SSH, directly or through a bastion."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi

from components.arguments import checked
from components.children import child_options
from components.nodes.node_connection import ROOT
from components.nodes.node_states import settings_of
from components.nodes.proven_machines import Machine, evidence, kata_nodes, summaries
from components.nodes.rollout import Rollout, Waves
from components.nodes.settings import Bastion, Connection, DockerSettings, KataSettings, Verification
from components.plain import is_plain
from components.whole_numbers import MOST_PORT, whole
from delivery import login
from nodekit.errors import NodeError


class ExistingHost(TypedDict):
    """One machine that is there already."""

    name: str
    """Name of the node in resources, messages and evidence. Plain, because it decides which resources there are."""
    address: pulumi.Input[str]
    """Host name or IP address of its SSH server, as the bastion sees it where there is one."""
    port: NotRequired[pulumi.Input[int]]
    """Port of its SSH server; by default 22."""
    user: NotRequired[pulumi.Input[str]]
    """Login user: root, which is the default, or one that may become root by sudo."""
    host_key: pulumi.Input[str]
    """The host's public key as in /etc/ssh/ssh_host_ed25519_key.pub, or in ssh_host_ecdsa_key.pub where it is in FIPS mode."""
    gone: NotRequired[bool]
    """Whether the machine no longer exists: nothing is done on it, and nothing is undone over SSH when it leaves the stack.
    Plain, because it decides which resources there are to change."""


class ExistingNodesArgs(TypedDict):
    """Which machines, and how to log in to all of them."""

    hosts: list[ExistingHost]
    """The machines. Plain, because it decides which resources there are."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""
    sudo_password: NotRequired[pulumi.Input[str]]
    """Password that sudo asks for on those whose user is not root (secret). Without it sudo must ask for none."""
    bastion: NotRequired[Bastion]
    """The machine through which all are reached; without it, they are reached directly."""
    docker: NotRequired[DockerSettings]
    """Docker on every machine; by default 27.5.1, held."""
    kata: NotRequired[KataSettings]
    """Kata on every machine; by default the official release 3.32.0 with QEMU, for a nested sandbox."""
    verification: NotRequired[Verification]
    """How every machine is proven."""
    rollout: NotRequired[Rollout]
    """Changes machines that serve a cluster in waves, each drained before; without it all change at once, and none is drained."""


class ExistingNodes(pulumi.ComponentResource):
    """Machines that somebody else makes and removes, each made a Kata node and proven by a KataNode (`-HOST`).

    Refused at once, by `pulumi.RunError`: a host key or a port that is none, a name or an address and port given twice, and a
    rollout of which no waves can be made, or of machines without `kata.handler`, which serve no cluster. A machine that is `gone`
    is kept in the stack's state, and vouches for nothing.
    """

    nodes: pulumi.Output[list[dict[str, Any]]]
    """By host in the order given, without those that are gone: name, address and what the proof read, as `summary` of a KataNode.
    Known once every node is proven."""
    evidence: pulumi.Output[dict[str, Any]]
    """By node: the proof's result. Known once every node is proven."""

    def __init__(self, name: str, args: ExistingNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, ExistingNodesArgs, name, args)
        try:
            login.refuse_doubled((host["name"], _place(host)) for host in args["hosts"])
            bastion = args.get("bastion")
            if bastion is not None:
                bastion = {**bastion, "host_key": _checked(bastion["host_key"])}
            connections = {host["name"]: _connection(host, args, bastion) for host in args["hosts"]}
            waves = None
            if (rollout := args.get("rollout")) is not None:
                present = [host["name"] for host in args["hosts"] if not host.get("gone", False)]
                waves = Waves(rollout, present, (args.get("kata") or {}).get("handler"))
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None
        super().__init__("kata-nodes:index:ExistingNodes", name, {"waves": waves.waves} if waves else None, opts)
        machines = [
            Machine(
                host["name"],
                f"{name}-{host['name']}",
                connections[host["name"]],
                child_options(self, opts),
                host.get("gone", False),
            )
            for host in args["hosts"]
        ]
        proven = kata_nodes(settings_of(args), machines, waves)
        self.nodes, self.evidence = summaries(proven), evidence(proven)
        self.register_outputs({"nodes": self.nodes})


def _place(host: ExistingHost) -> tuple[str, int] | None:
    """Address and port; None where another resource's output is one of them, and of a machine that is gone, whose address another
    one may have by now. Raises NodeError `bad-input`."""
    address, port = host["address"], host.get("port")
    if not isinstance(address, str) or not is_plain(port) or host.get("gone", False):
        return None
    return address, login.SSH_PORT if port is None else whole(f"hosts.{host['name']}.port", port, 1, MOST_PORT)


def _connection(host: ExistingHost, args: ExistingNodesArgs, bastion: Bastion | None) -> Connection:
    """How to log in to a host; raises NodeError `host-key-invalid`."""
    user = host.get("user") or ROOT
    connection: Connection = {
        "address": host["address"],
        "port": host.get("port", login.SSH_PORT),
        "user": user,
        "host_key": _checked(host["host_key"]),
    }
    if "private_key" in args:
        connection["private_key"] = args["private_key"]
    if "sudo_password" in args and user != ROOT:
        connection["sudo_password"] = args["sudo_password"]
    if bastion is not None:
        connection["bastion"] = bastion
    return connection


def _checked(key: pulumi.Input[str]) -> pulumi.Input[str]:
    return login.host_key(key) if isinstance(key, str) else key
