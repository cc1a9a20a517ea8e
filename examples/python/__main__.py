"""Makes one machine a Kata node, and exports what its proof read."""

import pulumi
import pulumi_kata_nodes as kata

given = pulumi.Config()
node = kata.KataNode(
    "node",
    node="node",
    address=given.require("address"),
    port=22,
    user="root",
    host_key=given.require("hostKey"),
    identity=given.require("hostKey"),
    private_key=given.get_secret("privateKey"),
    docker_version="27.5.1",
    repository_address="https://download.docker.com/linux/{id}",
    repository_fingerprint="9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
    kata_version="3.32.0",
    kata_runtime="go",
    hypervisor="qemu",
    nested_sandbox=True,
    kernel_params=["sysctl.user.max_user_namespaces=20000"],
    proof_seconds=600,
)
pulumi.export("userNamespaces", node.user_namespaces)
pulumi.export("guestKernel", node.guest_kernel)
