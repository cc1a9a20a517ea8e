"""From the stack configuration to what is made on a Kubernetes cluster, after every proof."""

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pulumi.output import UNKNOWN

from clusterkit import images
from clusterkit.api.kubeconfig import MADE_UP_SERVER, login
from components import (
    JoiningNodes,
    JoiningNodesArgs,
    KataDeploy,
    KataDeployArgs,
    KataNodeLabels,
    KataNodeLabelsArgs,
    KataRuntimeClass,
    KataRuntimeClassArgs,
    LocalCluster,
    SandboxGuard,
    SandboxGuardArgs,
    SandboxNamespace,
    SandboxPodTemplate,
)
from components.cluster.kata_proof import KataProof, KataProofArgs
from components.cluster.proof_settings import PodProof
from components.plain import together
from nodekit.errors import NodeError
from stacks import kubernetes_model
from stacks.adoption import adopted, guardable
from stacks.kubernetes_model import Kubernetes
from stacks.model import StackConfig
from stacks.pool import Nodes, state_folder


@dataclass(frozen=True)
class Sandboxes:
    """What sandbox pods are made from."""

    runtime_class: pulumi.Output[str]
    handler: pulumi.Output[str]
    template: SandboxPodTemplate
    proof: KataProof | None


class PodSettings(TypedDict):
    """What the template and the pods of the proof have in common; see `pod.template`."""

    image: str
    command: list[str]
    user_id: NotRequired[int]
    nested_sandbox: bool
    ordinary_user: bool
    read_only_root: bool
    service_account_token: bool
    seccomp: str
    cpu: str
    memory: str
    memory_limit: str


def server_of(kubeconfig: str, context: str | None) -> str:
    """Address of the API server that a kubeconfig means by `context`, else by its current one; raises pulumi.RunError."""
    try:
        return login(kubeconfig, context).server
    except NodeError as error:
        raise pulumi.RunError(error.sentence()) from None


def is_made_up(server: str) -> bool:
    """Whether there is no cluster: a preview without the stack's secrets has a kubeconfig made up (review/preview.py)."""
    return pulumi.runtime.is_dry_run() and server == MADE_UP_SERVER


def sandboxes(config: StackConfig, kubeconfig: pulumi.Output[str] | None, nodes: Nodes) -> Sandboxes | None:
    """Kata, RuntimeClass, guard, namespace, PodTemplate and proof, in this order; None where the stack has no cluster."""
    kubernetes = config.kubernetes
    if kubernetes is None:
        return None
    cluster = None
    reached: dict[str, Any] = {}
    if kubernetes.cluster == "local":
        cluster = LocalCluster("cluster", {"directory": str(state_folder() / "cluster")})
        reached = {"kubeconfig": cluster.kubeconfig}
        readable: pulumi.Output[Any] = cluster.kubeconfig
    else:
        assert kubeconfig
        # Known only after the proofs, so that a preview of a new stack contacts no cluster; with the identifier, a
        # kubeconfig that is unknown in a preview does not look like another cluster.
        proven = together([kubeconfig, nodes.evidence]).apply(lambda values: values[0])
        identifier = pulumi.Output.unsecret(kubeconfig).apply(lambda text: server_of(text, kubernetes.context))
        both = pulumi.Output.all(proven, identifier)
        # Where there is no cluster, nothing is asked of it. What only checks it passes, and shows what it would make.
        known: pulumi.Output[Any] = both.apply(lambda values: UNKNOWN if is_made_up(values[1]) else values[0])
        readable = both.apply(lambda values: None if is_made_up(values[1]) else values[0])
        reached = {"kubeconfig": known, "context": kubernetes.context, "cluster_identifier": identifier}
    # By server-side apply, creating an object would take over one that exists; labelling one that exists needs it.
    provider = k8s.Provider("cluster", enable_server_side_apply=False, **reached)
    adopting = k8s.Provider("cluster-adopting", **reached) if kubernetes.adopt_namespace else provider
    after = pulumi.ResourceOptions(
        providers={"kubernetes": provider},
        depends_on=[nodes.pool] if nodes.pool else [],
        deleted_with=cluster.server if cluster else None,
    )
    deployed = kata_deploy(config, readable, after)
    if deployed:
        after = pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[deployed]))
    named = adopted(kubernetes, readable)
    kata_class = KataRuntimeClass("kata", {**class_args(kubernetes, config), "runtime_class": named["runtime_class"]}, after)
    labelled = node_labels(config, reached, nodes)
    admitted: SandboxGuardArgs = {
        "namespaces": kubernetes.guarded,
        "runtime_classes": kata_class.runtime_class.apply(lambda name: [name]),
        "allowed_annotations": kubernetes.allowed_annotations,
        "privileged_in_guest": kubernetes.privileged_in_guest,
    }
    if kubernetes.joining_nodes:
        admitted["proof_namespaces"] = list(kubernetes.proving)
    guard = SandboxGuard("sandboxes-guard", admitted, after)
    namespace = SandboxNamespace(
        "sandboxes",
        {"namespace": named["namespace"], "adopt": kubernetes.adopt_namespace},
        pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(providers={"kubernetes": adopting}, depends_on=[guard])),
    )
    settings = pod_settings(kubernetes, config)
    template = SandboxPodTemplate(
        "sandbox",
        {
            "template": kubernetes.pod_template,
            "namespace": namespace.namespace,
            # Plain where it can be: a preview then shows the template, and what is proven of it.
            "runtime_class": kata_class.runtime_class if kubernetes.adopt_runtime_class else kubernetes.runtime_class,
            **settings,
        },
        pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[kata_class])),
    )
    common: PodProof = {
        "pod_template": template.pod_template,
        "handler": kata_class.handler,
        "kata_version": config.kata.version,
        "kernel_params": config.parameters,
        "nested_sandbox": config.kata.nested_sandbox,
        "sandbox": config.kata.sandbox,
    }
    proof = None
    if kubernetes.proof:
        behind = pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[guard]))
        place = SandboxNamespace("proof-place", {"namespace": kubernetes.proof.namespace}, behind)
        args: KataProofArgs = {
            "kubeconfig": known_after(reached["kubeconfig"], deployed, nodes.joining, labelled),
            "namespace": place.namespace,
            "proof": {
                **common,
                "image": images.mirrored(kubernetes.proof.image or images.PROOF, kubernetes.image_mirror),
                "timeout_seconds": kubernetes.proof.timeout_seconds,
            },
        }
        if kubernetes.context is not None:
            args["context"] = kubernetes.context
        if kubernetes.proof.nodes is not None:
            args["nodes"] = list(kubernetes.proof.nodes)
        if kubernetes.proof.selector is not None:
            args["node_selector"] = kubernetes.proof.selector
        if config.nodes and config.nodes.aws and (group := config.nodes.aws.group):
            args |= {"least_nodes": group.min_size, "join_seconds": group.join_seconds}
        proof = KataProof(
            "proof", args, pulumi.ResourceOptions.merge(after, pulumi.ResourceOptions(depends_on=[template, kata_class]))
        )
    if kubernetes.joining_nodes:
        joining_nodes(
            kubernetes, kubernetes.joining_nodes, common, after, [guard, template, kata_class, *([proof] if proof else [])]
        )
    return Sandboxes(kata_class.runtime_class, kata_class.handler, template, proof)


def kata_deploy(config: StackConfig, kubeconfig: Any, opts: pulumi.ResourceOptions) -> KataDeploy | None:
    """Kata by its Helm chart, where the stack asks for it and its guard can be made."""
    kubernetes = config.kubernetes
    settings = kubernetes.kata_deploy if kubernetes else None
    if kubernetes is None or settings is None:
        return None
    args: KataDeployArgs = {
        "chart": settings.chart,
        "version": config.kata.version,
        "runtime": config.kata.runtime,
        "kernel_params": list(config.kata.kernel_params),
        "nested_sandbox": config.kata.nested_sandbox,
        "namespace": settings.namespace,
        "distribution": settings.k8s_distribution,
        "kubeconfig": guardable(kubernetes, kubeconfig),
    }
    chosen = {
        "image": settings.image,
        "node_selector": settings.node_selector,
        "values": settings.values,
        "context": kubernetes.context,
    }
    args |= {key: value for key, value in chosen.items() if value}  # type: ignore[typeddict-item]
    return KataDeploy("kata-deploy", args, opts)


def node_labels(config: StackConfig, reached: dict[str, Any], nodes: Nodes) -> KataNodeLabels | None:
    """The labels of the stack's own nodes, where they serve the cluster; machines of a group bring theirs as they join."""
    if config.served_handler is None or nodes.pool is None:
        return None
    # A provider of its own: the cluster's other objects are made without server-side apply, which labelling needs.
    labelling = k8s.Provider("cluster-labelling", **reached)
    args: KataNodeLabelsArgs = {
        "kubeconfig": reached["kubeconfig"],
        "machines": nodes.summaries.apply(lambda each: {str(node["name"]): str(node["machineId"]) for node in each}),
        "kata_version": config.kata.version,
    }
    if reached.get("context") is not None:
        args["context"] = reached["context"]
    return KataNodeLabels("kata-labels", args, pulumi.ResourceOptions(providers={"kubernetes": labelling}))


def known_after(
    kubeconfig: Any,
    deployed: KataDeploy | None,
    joining: pulumi.Output[str] | None,
    labelled: KataNodeLabels | None,
) -> Any:
    """The kubeconfig for callers that look up nodes by label. It is known once the labels are set: by kata-deploy, by the stack
    itself, or by the machines of a group as they join."""
    before: list[Any] = [*([deployed.handler] if deployed else []), *([joining] if joining else [])]
    before += [labelled.nodes] if labelled else []
    return pulumi.Output.all(kubeconfig, *before).apply(lambda known: known[0]) if before else kubeconfig


def joining_nodes(
    kubernetes: Kubernetes,
    joining: kubernetes_model.JoiningNodes,
    common: PodProof,
    options: pulumi.ResourceOptions,
    before: list[pulumi.Resource],
) -> None:
    """The controller in its own namespace under the sandboxes' guard, after everything that is proven at `up`."""
    after = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(depends_on=before))
    place = SandboxNamespace("joining", {"namespace": joining.namespace}, after)
    args: JoiningNodesArgs = {
        "namespace": place.namespace,
        "image": images.mirrored(joining.image, kubernetes.image_mirror),
        "selector": joining.selector,
        "proof": {
            **common,
            "image": images.mirrored(kubernetes.proof_image or images.PROOF, kubernetes.image_mirror),
            "timeout_seconds": joining.timeout_seconds,
        },
    }
    JoiningNodes("joining-nodes", args, after)


def pod_settings(kubernetes: Kubernetes, config: StackConfig) -> PodSettings:
    """From the stack configuration."""
    settings: PodSettings = {
        "image": images.mirrored(kubernetes.image, kubernetes.image_mirror),
        "command": kubernetes.pod.command,
        "nested_sandbox": config.kata.nested_sandbox,
        "ordinary_user": kubernetes.pod.user == "ordinary",
        "read_only_root": kubernetes.pod.read_only_root,
        "service_account_token": kubernetes.pod.service_account_token,
        "seccomp": kubernetes.pod.seccomp,
        "cpu": kubernetes.pod.cpu,
        "memory": kubernetes.pod.memory,
        "memory_limit": kubernetes.pod.memory_limit,
    }
    if kubernetes.pod.user_id is not None:
        settings["user_id"] = kubernetes.pod.user_id
    return settings


def class_args(kubernetes: Kubernetes, config: StackConfig) -> KataRuntimeClassArgs:
    """What the RuntimeClass says."""
    args: KataRuntimeClassArgs = {
        "runtime_class": kubernetes.runtime_class,
        "kata_version": config.kata.version,
        "tolerations": kubernetes.tolerations,
        "adopt": kubernetes.adopt_runtime_class,
    }
    if config.handler:
        args["handler"] = config.handler
    if kubernetes.overhead:
        args |= {"overhead_memory": kubernetes.overhead.memory, "overhead_cpu": kubernetes.overhead.cpu}
    return args
