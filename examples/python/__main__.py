"""Makes one machine a Kata node, and exports what its proof read."""

import pulumi
import pulumi_kata_nodes as kata

config = pulumi.Config()
node = kata.KataNode(
    "node",
    connection=kata.ConnectionArgs(
        address=config.require("address"),
        host_key=config.require("hostKey"),
        private_key=config.get_secret("privateKey"),
    ),
    kata=kata.KataSettingsArgs(kernel_params=["sysctl.user.max_user_namespaces=20000"]),
)
pulumi.export("userNamespaces", node.user_namespaces)
pulumi.export("guestKernel", node.guest_kernel)
