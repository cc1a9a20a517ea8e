"""Makes the API server refuse pods that would have a sandbox's capabilities, or more, on the node."""

from collections.abc import Sequence
from typing import NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import guard, object_names
from components.arguments import checked
from components.cluster.cluster_object import cluster_options
from components.plain import set_or
from components.refusals import reporting_refusals


class SandboxGuardArgs(TypedDict):
    """The namespaces that the guard watches, and what it admits."""

    namespaces: pulumi.Input[Sequence[pulumi.Input[str]]]
    """Names of the namespaces that it watches; they need not exist yet."""
    runtime_classes: pulumi.Input[Sequence[pulumi.Input[str]]]
    """RuntimeClasses under which a container may have NET_ADMIN and SYS_ADMIN."""
    allowed_annotations: NotRequired[pulumi.Input[list[str]]]
    """Keys of the annotations and labels for Kata and its container runtime (io.katacontainers, io.kubernetes.cri and cri-o) that
    pods may carry; by default none."""
    proof_namespaces: NotRequired[pulumi.Input[Sequence[pulumi.Input[str]]]]
    """Those of `namespaces` in which proofs run, where nodes join unproven (JoiningNodes): a pod under those classes elsewhere
    may neither tolerate the taint kata-nodes/unproven nor name its node. By default the guard leaves both alone."""
    privileged_in_guest: NotRequired[pulumi.Input[bool]]
    """Whether pods under those classes may be privileged; by default not, because a runtime without
    privileged_without_host_devices for Kata's handler passes the node's devices into the guest."""


class SandboxGuard(pulumi.ComponentResource):
    """A ValidatingAdmissionPolicy with its binding (Kubernetes 1.30 or newer); `clusterkit.guard` says what it refuses.

    The engine chooses both names, so no other stack's guard is ever taken over; the component's begins them, and so has small
    letters, digits, hyphens and dots alone. Have the namespace depend on this component; the
    API server applies a new policy within about a second.
    """

    policy: pulumi.Output[str]
    """Name of the policy, as refusals give it, known once the binding is made as well."""

    def __init__(self, name: str, args: SandboxGuardArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        reporting_refusals(object_names.check_component)("SandboxGuard", str(name))
        args = checked(self, SandboxGuardArgs, name, args)
        super().__init__("kata-nodes:index:SandboxGuard", name, None, opts)
        allowed = set_or(args.get("allowed_annotations"), [])
        policy = k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-policy",
            metadata={},
            spec=pulumi.Output.all(
                args["runtime_classes"],
                allowed,
                args.get("privileged_in_guest", False),
                set_or(args.get("proof_namespaces"), []),
            ).apply(reporting_refusals(lambda values: guard.policy(*values))),
            opts=cluster_options(self, opts, f"{name}-policy", "ValidatingAdmissionPolicy"),
        )
        binding = k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-binding",
            metadata={},
            spec=pulumi.Output.all(policy.metadata.name, args["namespaces"]).apply(
                reporting_refusals(lambda values: guard.binding(*values))
            ),
            opts=cluster_options(self, opts, f"{name}-binding", "ValidatingAdmissionPolicyBinding"),
        )
        self.policy = binding.spec.apply(lambda spec: str(spec.policy_name))
        self.register_outputs({"policy": self.policy})
