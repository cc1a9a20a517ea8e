"""The namespace of sandbox pods, with the Pod Security labels without which both capabilities are refused."""

from typing import Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.children import child_options

POD_SECURITY = {
    # `baseline` and `restricted` refuse NET_ADMIN and SYS_ADMIN (kubernetes.io, Pod Security Standards).
    "pod-security.kubernetes.io/enforce": "privileged",
    "pod-security.kubernetes.io/warn": "baseline",
    "pod-security.kubernetes.io/audit": "baseline",
}


class SandboxNamespaceArgs(TypedDict):
    """What the namespace is."""

    namespace: pulumi.Input[str]
    """Its name."""


class SandboxNamespace(pulumi.ComponentResource):
    """A namespace made for sandbox pods; an existing one is never taken over."""

    namespace: pulumi.Output[str]
    """Name of the namespace, known once it is made."""

    def __init__(self, name: str, args: SandboxNamespaceArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:SandboxNamespace", name, None, opts)
        made = k8s.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": args["namespace"], "labels": POD_SECURITY},
            opts=child_options(self, opts),
        )
        self.namespace = made.metadata.apply(lambda metadata: str(metadata.name))
        self.register_outputs({"namespace": self.namespace})
