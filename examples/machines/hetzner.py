"""A proven node at Hetzner: a dedicated server, since its cloud servers have no KVM, behind a cloud server as its bastion."""

import pulumi
import pulumi_hcloud as hcloud
import pulumi_kata_nodes as kata

config = pulumi.Config()
host = kata.HostKey("bastion")
bastion = hcloud.Server(
    "bastion",
    server_type="cx23",
    image="debian-12",
    ssh_keys=[config.require("keyName")],
    networks=[{"network_id": config.require_int("network")}],
    user_data=host.user_data,
)
node = kata.KataNode(
    "node",
    connection=kata.ConnectionArgs(
        address=config.require("address"),
        host_key=config.require("hostKey"),
        private_key=config.get_secret("privateKey"),
        bastion=kata.BastionArgs(
            address=bastion.ipv4_address,
            user="root",
            host_key=host.public_key,
            private_key=config.get_secret("privateKey"),
        ),
    ),
)
pulumi.export("userNamespaces", node.user_namespaces)
