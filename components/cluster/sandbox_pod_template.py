"""The PodTemplate of a nested sandbox: its capabilities, and never without the Kata RuntimeClass."""

import json
from typing import Any, NotRequired, Optional, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from clusterkit import object_names, pod, pod_safety
from components.arguments import checked
from components.cluster.cluster_object import cluster_options, namespace_name, object_name
from components.refusals import reporting_refusals
from components.whole_numbers import MOST_ID, whole
from nodekit.scripts import script


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
    command: NotRequired[pulumi.Input[list[str]]]
    """Program of the container with its arguments; by default sleep infinity. As root with a nested sandbox it starts through
    an entry that mounts a proc without masks, so that sandbox-runtime starts in its default mode; for it the image needs /bin/sh
    and mount."""
    nested_sandbox: NotRequired[pulumi.Input[bool]]
    """Whether a sandbox nests in the container, by default true; as root it then gets NET_ADMIN and SYS_ADMIN, and SETFCAP,
    which CRI-O gives to no container by itself. False for Firecracker."""
    user_id: NotRequired[pulumi.Input[int]]
    """User and group that the entry becomes, without any capability, before it starts the command; the image then needs setpriv.
    By default the command runs as root of the container."""
    ordinary_user: NotRequired[pulumi.Input[bool]]
    """Whether the container runs as uid 1000 with no capability at all and without the entry, by default false. Paths below /proc
    then stay masked, so sandbox-runtime works only in its mode enableWeakerNestedSandbox."""
    read_only_root: NotRequired[pulumi.Input[bool]]
    """Whether the container may write to /tmp only; by default true."""
    service_account_token: NotRequired[pulumi.Input[bool]]
    """Whether the container gets a token for the API server; by default false."""
    seccomp: NotRequired[pulumi.Input[str]]
    """RuntimeDefault (the default) or Unconfined."""
    cpu: NotRequired[pulumi.Input[str]]
    """Requested CPU, as a Kubernetes quantity; by default 250m."""
    memory: NotRequired[pulumi.Input[str]]
    """Requested memory, in the same form; by default 256Mi."""
    memory_limit: NotRequired[pulumi.Input[str]]
    """Limit on memory, in the same form; by default 2Gi."""


class SandboxPodTemplate(pulumi.ComponentResource):
    """A core/v1 PodTemplate, for controllers and people to make sandbox pods from.

    Needs a provider with `enableServerSideApply: false`, which refuses one that exists instead of taking it over.
    """

    template: pulumi.Output[str]
    """Name of the template, known once it is made."""
    pod_template: pulumi.Output[str]
    """What pods are made from, as JSON (core/v1 PodTemplateSpec): what a KataProof and JoiningNodes take."""
    capabilities: pulumi.Output[list[str]]
    """What the template grants, as the API server holds it."""

    def __init__(self, name: str, args: SandboxPodTemplateArgs, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        args = checked(self, SandboxPodTemplateArgs, name, args)
        super().__init__("kata-nodes:index:SandboxPodTemplate", name, None, opts)
        # It is the value of a label, too.
        template = object_name("template", args["template"], object_names.MOST_OF_LABEL)
        resolved = pulumi.Output.all(**{key: value for key, value in args.items() if key != "namespace"})
        body = resolved.apply(reporting_refusals(body_of))
        created = k8s.core.v1.PodTemplate(
            f"{name}-template",
            metadata={"name": template, "namespace": namespace_name(args["namespace"])},
            template=body,
            # Its name is fixed: to replace it, the old one must go first.
            opts=cluster_options(self, opts, f"{name}-template", "PodTemplate", "pod-template", delete_before_replace=True),
        )
        self.pod_template = body.apply(lambda template: json.dumps(template, sort_keys=True))
        self.template = created.metadata.apply(lambda metadata: str(metadata.name))
        self.capabilities = created.template.apply(granted)
        self.register_outputs({"template": self.template, "podTemplate": self.pod_template, "capabilities": self.capabilities})


def body_of(settings: dict[str, Any]) -> Any:
    """The template from the component's arguments, held to the rule of the policy pack."""
    # A setting that came to nothing is one left out: as false, it would give the pod a token, or take the capabilities away.
    settings = {key: value for key, value in settings.items() if value is not None}
    if "user_id" in settings:
        settings["user_id"] = whole("userId", settings["user_id"], 1, MOST_ID)
    return pod_safety.safe(
        pod.template(labels={"app.kubernetes.io/name": settings.pop("template")}, entry=script("entry.sh"), **settings)
    )


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
    return [str(name) for name in value]
