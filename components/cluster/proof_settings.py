"""What is proven of a pod template on a cluster: the same at `up` and for nodes that join later."""

import json
import re
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

import pulumi

from clusterkit import images
from components.refusals import reporting_refusals
from components.whole_numbers import DAY, whole
from nodekit.errors import NodeError
from nodekit.rules.kata import kernel_params
from nodekit.rules.node_state import MOST_TIMEOUT_SECONDS, TIMEOUT_SECONDS, promised
from nodekit.rules.text import printable

SECONDS = "KATA_NODES_SECONDS"
VARIABLES = {
    SECONDS: ("[1-9][0-9]{0,3}", f"a whole number from 1 to {MOST_TIMEOUT_SECONDS} without leading zeros, such as 20"),
    "KATA_NODES_NETWORK": ("[01]", "1, or 0"),
}
"""Variable of a template for the ladder -> pattern of its values, and what they are."""


class PodProof(TypedDict):
    """The pod template that is proven on a node, and what its guests must have."""

    pod_template: pulumi.Input[str]
    """The pod template to prove, as JSON (core/v1 PodTemplateSpec), such as `podTemplate` of a SandboxPodTemplate; its class,
    capabilities and resources are the proof's. Among its container's variables, KATA_NODES_NETWORK=1 has the proof look for an
    address and a route too, and KATA_NODES_NAME=NAME besides resolve that name; KATA_NODES_SECONDS bounds each command, 20 by
    default."""
    handler: pulumi.Input[str]
    """Handler of the template's RuntimeClass, such as `handler` of a KataRuntimeClass."""
    kata_version: pulumi.Input[str]
    """Kata release on the nodes."""
    kernel_params: NotRequired[pulumi.Input[list[str]]]
    """Guest kernel parameters that every guest's command line must have; by default none."""
    nested_sandbox: NotRequired[pulumi.Input[bool]]
    """Whether a sandbox inside the guest must work, by default true; otherwise a reading of 0 is only reported."""
    sandbox: NotRequired[pulumi.Input[str]]
    """Which sandbox that is, and so what is tried and counts: sandbox-runtime (the default), bubblewrap or rootless."""
    image: NotRequired[pulumi.Input[str]]
    """Image to climb the ladder in, best by digest: it has the tools of the sandbox that must work, as images/proof/Containerfile
    makes it; a tool that is missing fails the proof. By default the template's own image."""
    timeout_seconds: NotRequired[pulumi.Input[int]]
    """Bound on one node's proof in seconds, kept by the cluster (activeDeadlineSeconds); by default 300."""


def completed(proof: PodProof) -> pulumi.Output[dict[str, object]]:
    """The record with its defaults, under the names of `pod_proof.ask`; refuses a sandbox that no proof knows, a bound in which
    none can end, a template that is none, and one whose variables the ladder cannot use."""
    return pulumi.Output.from_input({**proof}).apply(reporting_refusals(_completed))


def _completed(proof: Mapping[str, object]) -> dict[str, object]:
    settings: dict[str, object] = {"kernel_params": [], "nested_sandbox": True, "timeout_seconds": TIMEOUT_SECONDS}
    settings |= {key: value for key, value in proof.items() if value is not None}
    sandbox = settings.get("sandbox")
    promised(None if sandbox is None else str(sandbox), bool(settings["nested_sandbox"]))
    if settings.get("image"):
        images.check("proof.image", str(settings["image"]))
    for parameter in cast(list[str], settings["kernel_params"]):
        kernel_params.check([parameter])  # one that is none would be found in no guest, and fail the proof of each
    settings["timeout_seconds"] = whole("timeoutSeconds", settings["timeout_seconds"], 1, DAY)
    if not is_template(str(settings["pod_template"])):
        raise NodeError(
            "bad-input",
            f"The pod template {printable(repr(settings['pod_template']), 80)} is not JSON of a PodTemplateSpec with a container",
            expected="the output podTemplate of a SandboxPodTemplate",
        )
    _refuse_variables(json.loads(str(settings["pod_template"]))["spec"]["containers"][0])
    return settings


def _refuse_variables(container: Mapping[str, Any]) -> None:
    """Refuse a variable with which the ladder's shell cannot compute, or that would leave out what it was set for.

    A shell takes 010 for 8, and ends at 08 and at 20s.
    """
    variables = container.get("env") or []
    if not (
        isinstance(variables, list) and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in variables)
    ):
        raise NodeError(
            "bad-input", "A variable in the pod template's container has no name", expected="a name for each variable"
        )
    for each in variables:
        name, value = each["name"], each.get("value")
        if not value or name not in VARIABLES:
            continue
        pattern, expected = VARIABLES[name]
        if not re.fullmatch(pattern, str(value)) or (name == SECONDS and int(value) > MOST_TIMEOUT_SECONDS):
            message = f"Variable {name} of the pod template is {printable(repr(value), 60)}"
            raise NodeError("bad-input", message, expected=expected)


def is_template(text: str) -> bool:
    """Whether it is the JSON of a core/v1 PodTemplateSpec whose first container has a name."""
    try:
        return isinstance(json.loads(text)["spec"]["containers"][0]["name"], str)
    except (ValueError, TypeError, LookupError, RecursionError):
        return False
