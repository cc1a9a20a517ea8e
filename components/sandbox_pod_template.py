"""The PodTemplate of a nested sandbox: two capabilities, and never without the Kata RuntimeClass."""

from typing import Any, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.children import child_options
from nodekit.rules import pod


class SandboxPodTemplateArgs(TypedDict):
    """What the template says."""

    template: pulumi.Input[str]
    """Its name."""
    namespace: pulumi.Input[str]
    """Its namespace."""
    runtime_class: pulumi.Input[str]
    """RuntimeClass of its pods."""
    image: pulumi.Input[str]
    """Image of its container."""
    nested_sandbox: pulumi.Input[bool]
    """Whether the container gets NET_ADMIN and SYS_ADMIN."""


class SandboxPodTemplate(pulumi.ComponentResource):
    """A core/v1 PodTemplate, for controllers and people to make sandbox pods from."""

    template: pulumi.Output[str]
    """Name of the template, known once it is made."""
    capabilities: pulumi.Output[list[str]]
    """What the template grants, as the API server holds it."""

    def __init__(self, name: str, args: SandboxPodTemplateArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:SandboxPodTemplate", name, None, opts)
        body = pulumi.Output.all(args["image"], args["runtime_class"], args["template"], args["nested_sandbox"]).apply(
            lambda given: pod.template(given[0], given[1], {"app.kubernetes.io/name": given[2]}, bool(given[3]))
        )
        made = k8s.core.v1.PodTemplate(
            f"{name}-template",
            metadata={"name": args["template"], "namespace": args["namespace"]},
            template=body,
            opts=child_options(self, opts),
        )
        self.template = made.metadata.apply(lambda metadata: str(metadata.name))
        self.capabilities = made.template.apply(granted)
        self.register_outputs({"template": self.template, "capabilities": self.capabilities})


def granted(template: Any) -> list[str]:
    """The capabilities that a template's first container adds; the provider answers in objects or in dictionaries."""

    def field(value: Any, name: str) -> Any:
        camel = name.split("_")[0] + "".join(part.title() for part in name.split("_")[1:])
        return (value.get(name) or value.get(camel)) if isinstance(value, dict) else getattr(value, name)

    value = field(field(template, "spec"), "containers")[0]
    for name in ("security_context", "capabilities", "add"):
        value = field(value, name)
        if value is None:
            return []
    return [str(one) for one in value]
