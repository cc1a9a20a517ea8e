"""The one record of a machine that the rest of a program sees, whatever pool it comes from."""

from typing import NotRequired, TypedDict

import pulumi


class Node(TypedDict):
    """A machine that answers SSH, and how to log in to it as root or as a user that becomes root by sudo."""

    node: pulumi.Input[str]
    """Name of the node in messages and evidence."""
    address: pulumi.Input[str]
    """Host name or IP address of its SSH server, as the bastion sees it where there is one."""
    port: pulumi.Input[int]
    """Port of its SSH server."""
    user: pulumi.Input[str]
    """Login user: root, or one that may become root by sudo."""
    host_key: pulumi.Input[str]
    """The host's public key (`ssh-ed25519 AAAA…`); a host that shows another one is refused."""
    identity: pulumi.Input[str]
    """Changes when the machine behind the address is another one; then everything is done and proven anew."""
    private_key: NotRequired[pulumi.Input[str]]
    """Private login key (secret). Without it the SSH agent is asked."""
    sudo_password: NotRequired[pulumi.Input[str]]
    """Password that sudo asks the login user for (secret). Without it sudo must ask for none."""
    bastion_address: NotRequired[pulumi.Input[str]]
    """Host name or IP address of the machine through which the node is reached; without it, it is reached directly."""
    bastion_port: NotRequired[pulumi.Input[int]]
    """Port of the bastion's SSH server; without it 22."""
    bastion_user: NotRequired[pulumi.Input[str]]
    """Login user on the bastion; needed with `bastion_address`."""
    bastion_host_key: NotRequired[pulumi.Input[str]]
    """The bastion's public key, pinned like the node's; needed with `bastion_address`."""
    bastion_private_key: NotRequired[pulumi.Input[str]]
    """Private login key for the bastion (secret). Without it the SSH agent is asked."""
