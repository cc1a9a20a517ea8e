"""A proven node on Proxmox VE: a clone of a cloud-init template, with the processor of the host so that it has KVM itself."""

import pulumi
import pulumi_kata_nodes as kata
import pulumi_proxmoxve as proxmox

config = pulumi.Config()
host = kata.HostKey("node")
user_data = proxmox.FileLegacy(
    "node",
    node_name=config.require("host"),
    datastore_id="local",
    content_type="snippets",
    source_raw={"data": host.user_data, "file_name": "node.yaml"},
)
machine = proxmox.VmLegacy(
    "node",
    node_name=config.require("host"),
    clone={"vm_id": config.require_int("template")},
    cpu={"cores": 4, "type": "host"},
    memory={"dedicated": 8192},
    initialization={
        "ip_configs": [{"ipv4": {"address": f"{config.require('address')}/24", "gateway": config.require("gateway")}}],
        "vendor_data_file_id": user_data.id,
        "user_account": {"username": "debian", "keys": [config.require("publicKey")]},
    },
)
node = kata.KataNode(
    "node",
    connection=kata.ConnectionArgs(
        address=config.require("address"),
        user="debian",
        host_key=host.public_key,
        private_key=config.get_secret("privateKey"),
        identity=machine.id,
    ),
    opts=pulumi.ResourceOptions(deleted_with=machine),
)
pulumi.export("userNamespaces", node.user_namespaces)
