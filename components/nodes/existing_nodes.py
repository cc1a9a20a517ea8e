"""Nodes that are there already: machines reached over SSH, directly or through a bastion."""

from typing import NotRequired, Optional, TypedDict

import pulumi

from components.nodes.node import Node
from delivery import login
from nodekit.errors import NodeError


class ExistingHost(TypedDict):
    """One machine that is there already."""

    name: str
    """Name of the node in resources, messages and evidence."""
    address: pulumi.Input[str]
    """Host name or IP address of its SSH server, as the bastion sees it where there is one."""
    port: NotRequired[pulumi.Input[int]]
    """Port of its SSH server; without it 22."""
    user: NotRequired[pulumi.Input[str]]
    """Login user: root, which it is without, or one that may become root by sudo."""
    host_key: pulumi.Input[str]
    """The host's public key as in /etc/ssh/ssh_host_ed25519_key.pub."""
    gone: NotRequired[bool]
    """Whether the machine is there no more: nothing is done on it, and nothing is undone over SSH when it leaves the stack."""


class ExistingNodesArgs(TypedDict):
    """Which machines, and how to log in to all of them."""

    hosts: list[ExistingHost]
    """The machines. Plain, because it decides which resources there are."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""
    sudo_password: NotRequired[pulumi.Input[str]]
    """Password that sudo asks for on those whose user is not root (secret). Without it sudo must ask for none."""
    bastion_address: NotRequired[pulumi.Input[str]]
    """Host name or IP address of the machine through which all are reached; without it, they are reached directly."""
    bastion_port: NotRequired[pulumi.Input[int]]
    """Port of the bastion's SSH server; without it 22."""
    bastion_user: NotRequired[pulumi.Input[str]]
    """Login user on the bastion; needed with `bastion_address`."""
    bastion_host_key: NotRequired[pulumi.Input[str]]
    """The bastion's public key, pinned like the nodes'; needed with `bastion_address`."""
    bastion_private_key: NotRequired[pulumi.Input[str]]
    """Private login key for the bastion (secret). Without it the SSH agent is asked."""


def _leave_as_it_is(one: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """For everything on a machine that is gone: no change reaches it, and forgetting it contacts nobody."""
    kept = pulumi.ResourceOptions(retain_on_delete=True, ignore_changes=["*"])
    return pulumi.ResourceTransformationResult(one.props, pulumi.ResourceOptions.merge(one.opts, kept))


class ExistingNodes(pulumi.ComponentResource):
    """A pool of machines that somebody else makes and removes; it has no resources of its own.

    Refused at once, by `pulumi.RunError`: a host key that is none, a name or an address and port given twice.
    """

    nodes: list[Node]
    """One record a machine, in the order given."""

    def __init__(self, name: str, args: ExistingNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:ExistingNodes", name, None, opts)
        shared: dict[str, pulumi.Input[object]] = {}
        for secret in ("private_key", "bastion_private_key"):
            if (value := args.get(secret)) is not None:
                shared[secret] = pulumi.Output.secret(value)
        for plain in ("bastion_address", "bastion_port", "bastion_user", "bastion_host_key"):
            if (value := args.get(plain)) is not None:
                shared[plain] = value
        password = args.get("sudo_password")
        self.nodes = []
        self.options: list[pulumi.ResourceOptions] = []
        """What is to be given to a `KataNode` on each of them, in the same order."""
        try:
            if isinstance(bastion_key := args.get("bastion_host_key"), str):
                shared["bastion_host_key"] = login.host_key(bastion_key)
            known: list[tuple[str, str, int]] = []
            for host in args["hosts"]:
                address, port, user = host["address"], host.get("port", 22), host.get("user", "root")
                key = host["host_key"]
                if isinstance(key, str):
                    key = login.host_key(key)
                if isinstance(address, str) and isinstance(port, int | float):
                    known.append((host["name"], address, int(port)))
                node = {
                    "node": host["name"],
                    "address": address,
                    "port": port,
                    "user": user,
                    "host_key": key,
                    "identity": key,
                    **shared,
                    **({"sudo_password": pulumi.Output.secret(password)} if password is not None and user != "root" else {}),
                }
                self.nodes.append(Node(**node))  # type: ignore[typeddict-item]
                self.options.append(pulumi.ResourceOptions(transformations=[_leave_as_it_is] if host.get("gone") else None))
            login.refuse_doubled(known)
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None
        self.register_outputs({"nodes": self.nodes})
