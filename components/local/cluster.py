"""A real API server on the machine that runs Pulumi, for stacks that need no other cluster."""

import json
from pathlib import Path
from typing import Optional, TypedDict

import pulumi

from components.arguments import checked
from components.children import child_options
from components.local.command import local_command, start_of
from local.boot import BOOT_VARIABLE, cluster_boot


class LocalClusterArgs(TypedDict):
    """What the cluster needs."""

    directory: pulumi.Input[str]
    """Folder of its certificates, data and logs; removed when the cluster is destroyed."""


class LocalCluster(pulumi.ComponentResource):
    """etcd and kube-apiserver on loopback, with certificates of their own."""

    kubeconfig: pulumi.Output[str]
    """Kubeconfig of an administrator (secret)."""

    def __init__(self, name: str, args: LocalClusterArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, LocalClusterArgs, name, args)
        super().__init__("kata-nodes:index:LocalCluster", name, None, opts)
        spec = {"directory": args["directory"]}
        start: pulumi.Output[str] = pulumi.Output.from_input(args["directory"]).apply(
            lambda directory: start_of(f"The API server ({directory})", cluster_boot(Path(directory)))
        )
        self.server = local_command(f"{name}-server", "local.cluster", spec, child_options(self, opts), {BOOT_VARIABLE: start})
        self.kubeconfig = pulumi.Output.secret(self.server.stdout.apply(lambda text: str(json.loads(text)["kubeconfig"])))
        self.register_outputs({"kubeconfig": self.kubeconfig})
