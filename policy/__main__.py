"""The policy pack: hands the engine's resources to policy.stack_policy, and reports what that refuses."""

import sys
from pathlib import Path
from typing import Any

# The engine starts this folder, from any other; the rules lie beside it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pulumi_policy
from pulumi_policy import deserialize
from pulumi_policy import policy as sdk

from policy import stack_policy
from policy.stack_policy import CLASSES, Judge, Resource, values


def marked(sent: dict[str, Any], remediating: bool = False) -> Any:
    """What the engine sent, with its marks of secrets: the SDK removes them unless it remediates, so no rule could see whether a
    secret is encrypted or plain."""
    return deserialize.deserialize_properties(sent, True)


sdk.deserialize_properties = marked


def resources(
    name: str, says: str, judge: Judge, settings: pulumi_policy.PolicyConfigSchema | None = None
) -> pulumi_policy.ResourceValidationPolicy:
    """A rule for one resource at a time."""

    def validate(resource: pulumi_policy.ResourceValidationArgs, report: pulumi_policy.ReportViolation) -> None:
        inputs = values(deserialize.serialize_properties(resource.props))
        for error in judge(resource.resource_type, inputs, resource.get_config()):
            report(error.sentence(), None)

    return pulumi_policy.ResourceValidationPolicy(name, says, validate, config_schema=settings)


def whole(stack: pulumi_policy.StackValidationArgs, report: pulumi_policy.ReportViolation) -> None:
    """The rule for the stack as a whole."""
    resources = [
        Resource(resource.urn, resource.resource_type, resource.name, resource.parent.urn if resource.parent else "")
        for resource in stack.resources
    ]
    for urn, error in stack_policy.proofs(resources):
        report(error.sentence(), urn)


CLASSES_SETTING = pulumi_policy.PolicyConfigSchema(
    {
        "runtimeClasses": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "default": list(CLASSES),
            "description": "RuntimeClasses that lead into a Kata guest",
        }
    }
)

pulumi_policy.PolicyPack(
    name="kata-nodes",
    enforcement_level=pulumi_policy.EnforcementLevel.MANDATORY,
    policies=[
        resources(
            "sandbox-pods",
            "Capabilities act inside a Kata guest or not at all, and no sandbox pod reaches the node.",
            stack_policy.pods,
            CLASSES_SETTING,
        ),
        resources("docker-kata-pair", "Docker and Kata on a node are a pair that works.", stack_policy.pairs),
        resources("host-keys", "Every hop of every command over SSH has its host key pinned.", stack_policy.host_keys),
        resources("secrets", "Secrets are kept encrypted, and out of command lines.", stack_policy.plain_secrets),
        pulumi_policy.StackValidationPolicy("proofs", "Nodes and pod templates come with their proof.", whole),
    ],
)
