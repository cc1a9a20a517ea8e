"""A host key that a machine is given before it starts, so that the first connection to it is pinned already."""

from typing import Any, Optional, TypedDict

import pulumi

from aws import user_data
from components.arguments import checked
from components.children import child_options
from components.plugin_resource import PluginResource

PRIVATE = ["privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"]


class HostKeyArgs(TypedDict):
    """Nothing: a host key has no settings."""


class HostKey(pulumi.ComponentResource):
    """An ed25519 key pair (`-host-key`), which cloud-init gives to a machine at its first boot.

    Hand the user data to the machine, and the public key to a KataNode as the host key of its connection. Anyone who reads the
    machine's user data can read the private key, as the clouds let their own administrators do.
    """

    public_key: pulumi.Output[str]
    """The public key, without a comment."""
    user_data: pulumi.Output[str]
    """cloud-config (secret) that makes the pair the machine's only host key."""

    def __init__(self, name: str, args: HostKeyArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, HostKeyArgs, name, args)
        super().__init__("kata-nodes:index:HostKey", name, None, opts)
        self.public_key, private_key = key_pair(f"{name}-host-key", child_options(self, opts))
        pair = pulumi.Output.all(private_key, self.public_key)
        self.user_data = pulumi.Output.secret(pair.apply(lambda halves: user_data.host_key(*halves)))
        self.register_outputs({"publicKey": self.public_key, "userData": self.user_data})


def key_pair(name: str, opts: pulumi.ResourceOptions) -> tuple[pulumi.Output[str], pulumi.Output[Any]]:
    """A new ed25519 key pair: public half without a comment, private half (secret) in OpenSSH's form."""
    options = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=PRIVATE))
    halves = ["publicKeyOpenssh", "privateKeyOpenssh"]
    pair = PluginResource("tls:index/privateKey:PrivateKey", name, {"algorithm": "ED25519"}, options, outputs=halves)
    public = pair.output("publicKeyOpenssh").apply(lambda text: " ".join(str(text).split()[:2]))
    return public, pulumi.Output.secret(pair.output("privateKeyOpenssh"))
