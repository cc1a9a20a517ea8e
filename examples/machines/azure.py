"""A proven node on Azure: any size whose page lists nested virtualization, with a network interface that is there already."""

import base64

import pulumi
import pulumi_azure_native as azure
import pulumi_kata_nodes as kata

config = pulumi.Config()
host = kata.HostKey("node")
machine = azure.compute.VirtualMachine(
    "node",
    resource_group_name=config.require("resourceGroup"),
    hardware_profile={"vm_size": "Standard_D4s_v5"},
    network_profile={"network_interfaces": [{"id": config.require("networkInterface")}]},
    os_profile={
        "computer_name": "node",
        "admin_username": "azureuser",
        "custom_data": host.user_data.apply(lambda text: base64.b64encode(text.encode()).decode()),
        "linux_configuration": {
            "disable_password_authentication": True,
            "ssh": {
                "public_keys": [{"path": "/home/azureuser/.ssh/authorized_keys", "key_data": config.require("publicKey")}],
            },
        },
    },
    storage_profile={
        "image_reference": {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"},
        "os_disk": {"create_option": azure.compute.DiskCreateOptionTypes.FROM_IMAGE, "disk_size_gb": 60},
    },
)
node = kata.KataNode(
    "node",
    connection=kata.ConnectionArgs(
        address=config.require("address"),
        user="azureuser",
        host_key=host.public_key,
        private_key=config.get_secret("privateKey"),
        identity=machine.vm_id,
    ),
    opts=pulumi.ResourceOptions(deleted_with=machine),
)
pulumi.export("userNamespaces", node.user_namespaces)
