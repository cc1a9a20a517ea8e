"""From the stack configuration to what is made on a Kubernetes cluster, after every proof."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components import KataNode, KataRuntimeClass, LocalCluster, SandboxNamespace, SandboxPodTemplate
from nodekit.rules import runtime_class
from stacks.model import StackConfig
from stacks.pool import state_folder


@dataclass(frozen=True)
class Sandboxes:
    """What sandbox pods are made from."""

    runtime_class: pulumi.Output[str]
    template: SandboxPodTemplate


def server_of(kubeconfig: str, context: str | None) -> str:
    """Address of the API server that a kubeconfig means by `context`, else by its current one.

    Raises pulumi.RunError when it is no kubeconfig; the text says nothing of its content, which is secret.
    """
    try:
        document = yaml.safe_load(kubeconfig)
        named = {one["name"]: one["context"] for one in document["contexts"]}
        servers = {one["name"]: one["cluster"] for one in document["clusters"]}
        return str(servers[named[context or document["current-context"]]["cluster"]]["server"])
    except (yaml.YAMLError, KeyError, TypeError):
        raise pulumi.RunError(
            f"kata-nodes:kubeconfig is no kubeconfig with the context {context or '(its current one)'}. "
            "Set it anew: pulumi config set --secret kata-nodes:kubeconfig < FILE"
        ) from None


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
        assert kubeconfig
        # Known only after the proofs, so that a preview of a new stack contacts no cluster; with the identifier, a
        # kubeconfig that is unknown in a preview does not look like another cluster.
        proven = pulumi.Output.all(kubeconfig, *(node.evidence for node in nodes)).apply(lambda values: values[0])
        identifier = pulumi.Output.unsecret(kubeconfig).apply(lambda text: server_of(text, wanted.context))
        provider = k8s.Provider("cluster", kubeconfig=proven, context=wanted.context, cluster_identifier=identifier)
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
