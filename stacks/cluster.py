"""From the stack configuration to what is made on a Kubernetes cluster, after every proof."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components import KataNode, KataRuntimeClass, LocalCluster, SandboxNamespace, SandboxPodTemplate
from nodekit.rules import runtime_class
from stacks.model import StackConfig
from stacks.pool import state_folder


@dataclass(frozen=True)
class Sandboxes:
    """What sandbox pods are made from."""

    runtime_class: pulumi.Output[str]
    template: SandboxPodTemplate


def sandboxes(config: StackConfig, kubeconfig: pulumi.Output[str] | None, nodes: list[KataNode]) -> Sandboxes | None:
    """Namespace, RuntimeClass and PodTemplate; None where the stack has no cluster."""
    wanted = config.kubernetes
    if wanted is None:
        return None
    cluster = None
    if wanted.cluster == "local":
        cluster = LocalCluster("cluster", {"directory": str(state_folder() / "cluster")})
        provider = k8s.Provider("cluster", kubeconfig=cluster.kubeconfig)
    else:
        provider = k8s.Provider("cluster", kubeconfig=kubeconfig, context=wanted.context)
    after = pulumi.ResourceOptions(
        providers={"kubernetes": provider},
        depends_on=[*nodes],
        deleted_with=cluster.server if cluster else None,
    )
    namespace = SandboxNamespace("sandboxes", {"namespace": wanted.namespace}, after)
    made = KataRuntimeClass(
        "kata",
        {
            "runtime_class": wanted.runtime_class,
            "handler": runtime_class.HANDLERS[config.kata.hypervisor, config.kata.runtime],
            "kata_version": config.kata.version,
        },
        after,
    )
    template = SandboxPodTemplate(
        "sandbox",
        {
            "template": wanted.pod_template,
            "namespace": namespace.namespace,
            "runtime_class": made.runtime_class,
            "image": wanted.image,
            "nested_sandbox": config.kata.nested_sandbox,
        },
        after,
    )
    return Sandboxes(made.runtime_class, template)
