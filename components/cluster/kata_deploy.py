"""Kata on the nodes of a cluster by kata-deploy's Helm chart, which needs no SSH."""

import asyncio
import time
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import kata_deploy
from clusterkit.api.cluster_reader import Reader
from components.arguments import checked
from components.children import calls_back_on_error, child_options, hook_name
from components.cluster.cluster_object import namespace_name
from components.cluster.reading import read_in_thread
from components.plain import set_or
from components.refusals import reporting_refusals
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.text import harmless

TIMEOUT_SECONDS = 2400
"""Longest wait for the DaemonSet, which changes a tenth of the nodes at a time: each downloads a release of some hundred MB. As
long again for the nodes on which Helm does not wait for it."""
POLL_SECONDS = 10.0


class KataDeployArgs(TypedDict):
    """Which Kata the nodes get, and from where."""

    chart: NotRequired[pulumi.Input[str]]
    """Where the chart is: an OCI address, which by default is that of Kata's installation guide, or a path to a folder or
    archive."""
    version: NotRequired[pulumi.Input[str]]
    """Kata release, which is the chart's version too; by default 3.32.0."""
    runtime: NotRequired[pulumi.Input[str]]
    """Kata's runtime, go or rust; by default the chart's own: rust from 4.0.0 on."""
    kernel_params: NotRequired[pulumi.Input[list[str]]]
    """Guest kernel parameters, merged after the release's own; by default none."""
    nested_sandbox: NotRequired[pulumi.Input[bool]]
    """Whether a sandbox inside the guest must work, by default true; the parameter user_namespace.enable=1 then is merged too."""
    namespace: NotRequired[pulumi.Input[str]]
    """Namespace of the release; by default kube-system."""
    image: NotRequired[pulumi.Input[str]]
    """Image of the DaemonSet without its tag, which is the release's, for a mirror; by default the chart's own."""
    node_selector: NotRequired[pulumi.Input[dict[str, pulumi.Input[str]]]]
    """Labels of the nodes that get Kata; by default all whose taints the chart tolerates."""
    distribution: NotRequired[pulumi.Input[str]]
    """Kubernetes distribution of the nodes: k8s (the default), k3s, rke2, k0s or microk8s."""
    values: NotRequired[pulumi.Input[dict[str, Any]]]
    """Further values of the chart, merged into the component's own."""
    kubeconfig: NotRequired[pulumi.Input[str]]
    """With it, the nodes are checked before the release is made, and refused where they do not fit. And the output `handler`
    is known once kata-deploy has finished on every node that it runs on: Helm does not wait for the last ones."""
    context: NotRequired[pulumi.Input[str]]
    """Context of that kubeconfig, by default its current one."""


class KataDeploy(pulumi.ComponentResource):
    """A Helm release of kata-deploy with QEMU alone; removing it removes Kata from the nodes.

    `helm.v3.Release`, because the chart uses hooks and look-ups, which a rendered chart would lose.
    """

    handler: pulumi.Output[str]
    """The handler whose guests get the parameters, known once the release is up."""

    def __init__(self, name: str, args: KataDeployArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, KataDeployArgs, name, args)
        super().__init__("kata-nodes:index:KataDeploy", name, None, opts)
        version = set_or(args.get("version"), node_state.KATA_VERSION)
        namespace = namespace_name(set_or(args.get("namespace"), kata_deploy.NAMESPACE))
        runtime = pulumi.Output.all(args.get("runtime"), version).apply(
            reporting_refusals(lambda both: both[0] or kata_deploy.default_runtime(both[1]))
        )
        # Errors below hold no part of the kubeconfig; without this, everything derived from it would be secret.
        kubeconfig = pulumi.Output.unsecret(pulumi.Output.from_input(args.get("kubeconfig")))
        resolved: pulumi.Output[Any] = pulumi.Output.all(
            **{**args, "version": version, "runtime": runtime, "kubeconfig": kubeconfig}
        )
        chosen: pulumi.Output[Any] = resolved.apply(values)
        release = k8s.helm.v3.Release(
            f"{name}-release",
            name="kata-deploy",
            chart=set_or(args.get("chart"), kata_deploy.CHART),
            version=version,
            namespace=namespace,
            values=chosen,
            timeout=TIMEOUT_SECONDS,
            atomic=True,
            opts=release_options(self, opts, f"{name}-release"),
        )
        place = [args.get("context"), namespace, version]
        installed: pulumi.Output[Any] = pulumi.Output.all(release.status, kubeconfig, *place).apply(
            lambda known: finished(*known[1:]) if known[1] and not pulumi.runtime.is_dry_run() else None
        )
        self.handler = pulumi.Output.all(installed, version, runtime).apply(
            reporting_refusals(lambda values: kata_deploy.handler(values[1], values[2]))
        )
        self.register_outputs({"handler": self.handler})


def release_options(
    parent: pulumi.ComponentResource, opts: Optional[pulumi.ResourceOptions], child: str
) -> pulumi.ResourceOptions:
    """Options of the release: Helm's message is followed by one with its remedy (`kata_deploy.release_failed`)."""

    async def explain(failed: pulumi.ErrorHookArgs) -> bool:
        namespace = (failed.new_inputs or failed.old_inputs or {}).get("namespace")
        known = namespace if isinstance(namespace, str) else kata_deploy.NAMESPACE
        if error := kata_deploy.release_failed(failed.errors[0], known):
            pulumi.log.error(error.sentence())
        return False

    if not calls_back_on_error():
        return child_options(parent, opts)
    hooks = pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(hook_name(child, "explain"), explain)])
    return child_options(parent, opts, hooks=hooks)


async def values(resolved: dict[str, Any]) -> dict[str, Any]:
    """The chart's values, from the component's arguments; raises pulumi.RunError where the nodes do not fit them."""
    try:
        chosen = kata_deploy.values(
            resolved["version"],
            resolved["runtime"],
            resolved.get("kernel_params") or [],
            resolved.get("nested_sandbox") is not False,
            resolved.get("image"),
            node_selector=resolved.get("node_selector"),
            distribution=resolved.get("distribution") or kata_deploy.DISTRIBUTIONS[0],
            chart_values=resolved.get("values"),
        )
        if resolved.get("kubeconfig"):
            reader = cluster(resolved["kubeconfig"], resolved.get("context"))
            nodes = await read_in_thread(reader.described_nodes)
            kata_deploy.fits(nodes, chosen, resolved["version"])
            if warning := kata_deploy.nowhere(nodes, chosen, resolved["version"]):
                pulumi.log.warn(harmless(warning))
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None
    return chosen


async def finished(kubeconfig: str, context: str | None, namespace: str, version: str) -> None:
    """Wait until kata-deploy has finished on every node that it runs on; raises pulumi.RunError naming those where it has not.

    A node that joins meanwhile is not waited for, since another may always be joining.
    """
    began = time.monotonic()
    try:
        reader = await asyncio.to_thread(cluster, kubeconfig, context)

        def read() -> tuple[dict[str, str], str, str]:
            nodes, pods = reader.described_nodes(), reader.pods_labelled(namespace, kata_deploy.PODS)
            reasons = kata_deploy.unfinished(nodes, pods, version, time.monotonic() - began)
            return reasons, kata_deploy.left_behind(nodes, pods), kata_deploy.unplaced(pods)

        first, warning, placeless = await read_in_thread(read)
        reasons = first
        if warning:
            pulumi.log.warn(harmless(warning))
        if reasons:
            nodes = kata_deploy.listed(reasons)
            pulumi.log.info(harmless(f"waiting for kata-deploy, up to {TIMEOUT_SECONDS} s, on {nodes}"))
        while reasons:
            if time.monotonic() - began >= TIMEOUT_SECONDS:
                raise kata_deploy.not_finished(reasons, TIMEOUT_SECONDS)
            await asyncio.sleep(POLL_SECONDS)
            now, _, placeless = await read_in_thread(read)
            reasons = {name: reason for name, reason in now.items() if name in first}
        if placeless:
            pulumi.log.warn(harmless(placeless))
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None


def cluster(kubeconfig: str, context: str | None) -> Reader:
    """Reads the cluster."""
    return Reader(kubeconfig, context)
