"""The controller that proves nodes which join a cluster after `up`, and removes their startup taint."""

import json
from functools import partial
from typing import Any, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import images, joining, joining_guard, joining_workload, label_selector, object_names, pod_safety, proof_guard
from components.arguments import checked
from components.cluster.cluster_object import cluster_options, namespace_name
from components.cluster.proof_settings import PodProof, completed
from components.plain import derived
from components.refusals import reporting_refusals
from nodekit.rules.proof.sandboxes import SANDBOXES


class JoiningNodesArgs(TypedDict):
    """Which nodes are proven, how, and by what image."""

    namespace: pulumi.Input[str]
    """Namespace of the controller and its Jobs, for them alone: one that admits the template's pods. The component's guard
    refuses every other pod, but a tenant who may make Deployments or tokens there could still act as the controller. Make it one
    of the proof namespaces of the sandboxes' SandboxGuard, so that no sandbox comes to a node before its proof."""
    image: pulumi.Input[str]
    """Image of clusterkit/controller/Containerfile, best by digest; this project publishes none."""
    selector: pulumi.Input[str]
    """Label selector of the nodes that are proven, such as katacontainers.io/kata-runtime=true."""
    proof: PodProof
    """What is proven of them."""


class JoiningNodes(pulumi.ComponentResource):
    """Runs a controller that proves nodes tainted kata-nodes/unproven, each by a Job as KataProof makes it.

    Its name begins those of its objects, so it has small letters, digits, hyphens and dots alone, at most 63.

    A node that passes loses this taint and no other; one that does not keeps it, has an Event with the reason, and is tried
    again. Children: `-account`, which the controller runs as; the `-guard-policy` with its `-guard-binding`, which refuse that
    account every other change of a node; `-proof-account`, without any rights, for the Jobs' pods; the `-proof-policy` with its
    `-proof-binding`, which keep everybody else out of the namespace, as those of KataProof do; three roles with their bindings
    (`-nodes`, `-own`, `-events`); `-settings` and `-controller`. The engine chooses all names, so nothing is taken over. The
    evidence is in the namespace, in ConfigMaps NAME-evidence-NN.
    """

    deployment: pulumi.Output[str]
    """Name of the Deployment, known once its pod answers."""

    def __init__(self, name: str, args: JoiningNodesArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        reporting_refusals(object_names.check_component)("JoiningNodes", str(name), object_names.MOST_OF_LABEL)
        args = checked(self, JoiningNodesArgs, name, args)
        super().__init__("kata-nodes:index:JoiningNodes", name, None, opts)
        namespace = pulumi.Output.from_input(namespace_name(args["namespace"]))
        own: dict[str, Any] = {"namespace": namespace}
        image = derived(reporting_refusals(partial(images.check, "image")), args["image"])

        def options(child: str, kind: str, **options: Any) -> pulumi.ResourceOptions:
            return cluster_options(self, opts, f"{name}-{child}", kind, **options)

        account = k8s.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=own,
            automount_service_account_token=False,
            opts=options("account", "ServiceAccount"),
        )
        called: pulumi.Output[str] = account.metadata.apply(lambda metadata: str(metadata.name))
        subject: list[Any] = [{"kind": "ServiceAccount", "name": called, "namespace": namespace}]
        policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-guard-policy",
            metadata={},
            spec=pulumi.Output.all(namespace, called).apply(lambda both: joining_guard.policy(*both)),
            opts=options("guard-policy", "ValidatingAdmissionPolicy"),
        )
        guard = k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-guard-binding",
            metadata={},
            spec=policy.metadata.apply(lambda metadata: joining_guard.binding(str(metadata.name))),
            opts=options("guard-binding", "ValidatingAdmissionPolicyBinding"),
        )
        prover = k8s.core.v1.ServiceAccount(
            f"{name}-proof-account",
            metadata=own,
            automount_service_account_token=False,
            opts=options("proof-account", "ServiceAccount"),
        )
        alone = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-proof-policy",
            metadata={},
            spec=pulumi.Output.all(namespace, called).apply(
                lambda both: proof_guard.policy([proof_guard.REPLICA_SETS], [joining_guard.subject(*both)])
            ),
            opts=options("proof-policy", "ValidatingAdmissionPolicy"),
        )
        kept_alone = k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-proof-binding",
            metadata={},
            spec=pulumi.Output.all(alone.metadata.name, namespace).apply(lambda both: proof_guard.binding(*both)),
            opts=options("proof-binding", "ValidatingAdmissionPolicyBinding"),
        )
        nodes = k8s.rbac.v1.ClusterRole(
            f"{name}-nodes", metadata={}, rules=joining_workload.NODE_RULES, opts=options("nodes", "ClusterRole")
        )
        rights: list[pulumi.Resource] = [
            k8s.rbac.v1.ClusterRoleBinding(
                f"{name}-nodes-binding",
                metadata={},
                role_ref=role_ref(nodes, "ClusterRole"),
                subjects=subject,
                # The account may patch nodes only while the policy bounds it.
                opts=options("nodes-binding", "ClusterRoleBinding", depends_on=[guard, kept_alone]),
            )
        ]
        for child, place, rules in (
            ("own", own, joining_workload.own_rules(name)),
            ("events", {"namespace": joining.EVENTS_NAMESPACE}, joining_workload.EVENT_RULES),
        ):
            role = k8s.rbac.v1.Role(f"{name}-{child}", metadata=place, rules=rules, opts=options(child, "Role"))
            binding = k8s.rbac.v1.RoleBinding(
                f"{name}-{child}-binding",
                metadata=place,
                role_ref=role_ref(role, "Role"),
                subjects=subject,
                opts=options(f"{child}-binding", "RoleBinding"),
            )
            rights.append(binding)
        resolved: pulumi.Output[Any] = pulumi.Output.all(
            namespace=namespace,
            selector=args["selector"],
            proof=completed(args["proof"]),
            account=prover.metadata.apply(lambda metadata: str(metadata.name)),
        )
        settings = k8s.core.v1.ConfigMap(
            f"{name}-settings",
            metadata=own,
            immutable=True,
            data={
                joining_workload.SETTINGS_KEY: resolved.apply(reporting_refusals(lambda all_of: settings_of(name, all_of).json()))
            },
            opts=options("settings", "ConfigMap"),
        )
        deployment = k8s.apps.v1.Deployment(
            f"{name}-controller",
            metadata=own,
            spec=pulumi.Output.all(image, called, settings.metadata.name).apply(
                lambda all_of: joining_workload.deployment(*all_of)
            ),
            opts=options("controller", "Deployment", depends_on=rights),
        )
        self.deployment = deployment.metadata.apply(lambda metadata: str(metadata.name))
        self.register_outputs({"deployment": self.deployment})


def role_ref(role: k8s.rbac.v1.Role | k8s.rbac.v1.ClusterRole, kind: str) -> Any:
    """How a binding names its role."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role.metadata.apply(lambda about: str(about.name))}


def settings_of(name: str, args: dict[str, Any]) -> joining.Settings:
    """The controller's settings, from the component's arguments.

    Raises NodeError for a template that reaches the node, and for what is not a label selector.
    """
    proof = args["proof"]
    pod_safety.safe(json.loads(proof["pod_template"]))
    return joining.Settings(
        proof=name,
        namespace=args["namespace"],
        selector=label_selector.check(args["selector"]),
        pod_template=proof["pod_template"],
        handler=proof["handler"],
        kata_version=proof["kata_version"],
        kernel_params=proof["kernel_params"],
        nested_sandbox=bool(proof["nested_sandbox"]),
        sandbox=str(proof.get("sandbox") or SANDBOXES[0]),
        account=str(args["account"]),
        image=proof.get("image"),
        timeout_seconds=int(proof["timeout_seconds"]),
    )
