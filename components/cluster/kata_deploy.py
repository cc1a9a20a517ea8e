"""Kata on the nodes of a cluster by kata-deploy's Helm chart, which needs no SSH."""

from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import kata_deploy
from components.children import child_options
from nodekit.rules import node_state

TIMEOUT_SECONDS = 1200
"""Longest wait for the DaemonSet: each node downloads a release of some hundred MB."""


class KataDeployArgs(TypedDict):
    """Which Kata the nodes get, and from where."""

    chart: NotRequired[pulumi.Input[str]]
    """Where the chart is: an OCI address, which by default is that of Kata's installation guide, or a path to a folder or
    archive."""
    version: NotRequired[pulumi.Input[str]]
    """Kata release, which is the chart's version too; by default 3.32.0."""
    runtime: NotRequired[pulumi.Input[str]]
    """Kata's runtime, go (the default) or rust."""
    kernel_params: NotRequired[pulumi.Input[list[str]]]
    """Guest kernel parameters, merged after the release's own; by default none."""
    nested_sandbox: NotRequired[pulumi.Input[bool]]
    """Whether a sandbox inside the guest must work, by default true; the parameter user_namespace.enable=1 then is merged too."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the release; by default kube-system."""
    image: NotRequired[pulumi.Input[str]]
    """Image of the DaemonSet without its tag, which is the release's, for a mirror; by default the chart's own."""


class KataDeploy(pulumi.ComponentResource):
    """A Helm release of kata-deploy with QEMU alone; removing it removes Kata from the nodes.

    `helm.v3.Release`, because the chart uses hooks and look-ups, which a rendered chart would lose.
    """

    handler: pulumi.Output[str]
    """The handler whose guests get the parameters, known once the release is up."""

    def __init__(self, name: str, args: KataDeployArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:KataDeploy", name, None, opts)
        version, runtime = args.get("version", node_state.KATA_VERSION), args.get("runtime", node_state.KATA_RUNTIME)
        given = pulumi.Output.all(
            version, runtime, args.get("kernel_params", []), args.get("nested_sandbox", True), args.get("image")
        )

        def values(one: list[Any]) -> dict[str, object]:
            return kata_deploy.values(one[0], one[1], one[2], bool(one[3]), one[4])

        release = k8s.helm.v3.Release(
            f"{name}-release",
            name="kata-deploy",
            chart=args.get("chart", kata_deploy.CHART),
            version=version,
            namespace=args.get("namespace", "kube-system"),
            values=given.apply(values),
            timeout=TIMEOUT_SECONDS,
            atomic=True,
            opts=child_options(self, opts),
        )
        self.handler = pulumi.Output.all(release.status, version, runtime).apply(lambda one: kata_deploy.handler(one[1], one[2]))
        self.register_outputs({"handler": self.handler})
