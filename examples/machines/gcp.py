"""A proven node on Google Cloud: any Intel type with nested virtualization, and an image with cloud-init."""

import pulumi
import pulumi_gcp as gcp
import pulumi_kata_nodes as kata

config = pulumi.Config()
host = kata.HostKey("node")
machine = gcp.compute.Instance(
    "node",
    machine_type="n2-standard-4",
    advanced_machine_features={"enable_nested_virtualization": True},
    boot_disk={"initialize_params": {"image": "ubuntu-os-cloud/ubuntu-2404-lts-amd64", "size": 60}},
    network_interfaces=[{"network": "default", "access_configs": [{}]}],
    metadata={"user-data": host.user_data, "ssh-keys": f"ubuntu:{config.require('publicKey')}"},
)
node = kata.KataNode(
    "node",
    connection=kata.ConnectionArgs(
        address=machine.network_interfaces[0].access_configs[0].nat_ip,
        user="ubuntu",
        host_key=host.public_key,
        private_key=config.get_secret("privateKey"),
        identity=machine.instance_id,
    ),
    opts=pulumi.ResourceOptions(deleted_with=machine),
)
pulumi.export("userNamespaces", node.user_namespaces)
