"""What keeps a sandbox pod's capabilities inside its guest: one judgement for templates, proofs and the policy pack."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clusterkit.guard import CONTAINERS, HANDLERS, NAMED_SOURCES, NODE_VOLUMES, ORDINARY, PROBES
from nodekit.errors import NodeError
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.rules.shapes import entries, mapping
from nodekit.rules.text import printable

HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
BOTH = " and ".join(CAPABILITIES)


def pod_specs(value: object, at: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod spec in an object, with its place: whatever has a list of containers, or names a RuntimeClass, is one.

    So no kind is left out: Kubernetes' own kinds that make pods, lists and patches of them, and kinds that operators add. A patch
    need not repeat the containers.
    """
    if isinstance(value, Mapping):
        if any(isinstance(value.get(kind), list) for kind in CONTAINERS) or isinstance(value.get("runtimeClassName"), str):
            yield at, value
        for key, below in value.items():
            yield from pod_specs(below, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from pod_specs(below, f"{at}[{index}]")


def unsafe(spec: Mapping[str, Any], classes: Sequence[str]) -> list[NodeError]:
    """Why a pod spec (core/v1) would let a sandbox reach the node; empty when it would not.

    Under one of `classes`, the RuntimeClasses that lead into a Kata guest, a container may add NET_ADMIN and SYS_ADMIN, both
    and nothing else beyond Pod Security's `baseline`; elsewhere nothing beyond that. `privileged` is refused everywhere, since
    it grants every capability. Host namespaces, `NODE_VOLUMES`, ports of the node and hosts in probes are refused for pods of
    those classes and for those that add capabilities: they reach past the guest (see `guard.policy`). What is neither text,
    number, list nor object is not known yet and is not judged: a preview cannot know it; the run that makes the pod judges it.
    """
    runtime_class = spec.get("runtimeClassName")
    within = runtime_class in classes if isinstance(runtime_class, str) else runtime_class is not None
    under = (
        f"RuntimeClass {printable(runtime_class, 80)}" if isinstance(runtime_class, str) and runtime_class else "no RuntimeClass"
    )
    containers = [mapping(item) for kind in CONTAINERS for item in entries(spec.get(kind))]
    errors = [error for container in containers for error in _container(container, within, under, classes)]
    if _host_process(mapping(spec.get("securityContext"))):
        errors.append(_as_host_process("All containers of the pod are"))
    if (isinstance(runtime_class, str) and within) or any(_beyond(container) for container in containers):
        errors += _host(spec)
        errors += [error for container in containers for error in _network(container)]
    return errors


def safe(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod template (core/v1 PodTemplateSpec) as given; its RuntimeClass, where it has one, counts as a Kata class.

    Raises NodeError `pod-capabilities` or `pod-reaches-node`.
    """
    spec = mapping(template.get("spec"))
    runtime_class = spec.get("runtimeClassName")
    for error in unsafe(spec, [runtime_class] if runtime_class else []):
        raise error
    return template


def _beyond(container: Mapping[str, Any]) -> list[str]:
    """What a container adds beyond Pod Security's `baseline`."""
    capabilities = mapping(mapping(container.get("securityContext")).get("capabilities"))
    return sorted(
        {
            capability
            for capability in entries(capabilities.get("add"))
            if isinstance(capability, str) and capability not in ORDINARY
        }
    )


def _container(container: Mapping[str, Any], within: bool, under: str, classes: Sequence[str]) -> Iterator[NodeError]:
    name, beyond = printable(str(container.get("name", "?")), 80), _beyond(container)
    context = mapping(container.get("securityContext"))
    listed = printable(", ".join(beyond), 200)
    unknown = any(not isinstance(capability, str) for capability in entries(mapping(context.get("capabilities")).get("add")))
    if beyond and not within:
        yield NodeError(
            "pod-capabilities",
            f"Container {name} adds {listed} under {under}, so that they reach the node's own kernel",
            classes=" or ".join(classes) or "a RuntimeClass of Kata",
        )
    elif beyond and (set(beyond) - set(CAPABILITIES) or (set(beyond) != set(CAPABILITIES) and not unknown)):
        yield NodeError(
            "pod-capabilities",
            f"Container {name} adds {listed}, and a nested sandbox needs exactly {BOTH}",
            "set",
            capabilities=BOTH,
        )
    if _host_process(context):
        yield _as_host_process(f"Container {name} is")
    if context.get("privileged") is True:
        yield NodeError(
            "pod-reaches-node",
            f"Container {name} is privileged, which gives it every capability and the node's devices",
            "privileged",
            capabilities=BOTH,
        )


def _host_process(context: Mapping[str, Any]) -> bool:
    """Of a pod's security context, from which each container has it, or of a container's own."""
    return mapping(context.get("windowsOptions")).get("hostProcess") is True


def _as_host_process(subject: str) -> NodeError:
    message = f"{subject} run as processes of the node itself, which is one of Windows, with every right there"
    return NodeError("pod-reaches-node", message, fields="windowsOptions.hostProcess")


def _host(spec: Mapping[str, Any]) -> Iterator[NodeError]:
    if shared := [name for name in HOST_NAMESPACES if spec.get(name) is True]:
        yield NodeError(
            "pod-reaches-node",
            f"A sandbox pod has {', '.join(shared)}, and so the node's own namespaces",
            fields=", ".join(shared),
        )
    volumes = [mapping(volume) for volume in entries(spec.get("volumes"))]
    effects = {"hostPath": "root of its guest the node's files", "gitRepo": "so a git on the node that fetches what it names"}
    effects |= dict.fromkeys(NAMED_SOURCES, "so the node's own kernel reads what is there")
    for kind in NODE_VOLUMES:
        if mounted := [str(volume.get("name", "?")) for volume in volumes if volume.get(kind) is not None]:
            listed = printable(", ".join(mounted), 200)
            yield NodeError("pod-reaches-node", f"A sandbox pod has {kind} volumes ({listed}), and {effects[kind]}", "volume")


def _network(container: Mapping[str, Any]) -> Iterator[NodeError]:
    name = printable(str(container.get("name", "?")), 80)
    if any(mapping(port).get("hostPort") for port in entries(container.get("ports"))):
        yield NodeError(
            "pod-reaches-node",
            f"Container {name} of a sandbox pod takes a port of the node (hostPort), in place of what listens there",
            fields="hostPort, and use a Service",
        )
    for probe in PROBES:
        handler = container
        for key in probe.split("."):
            handler = mapping(handler.get(key))
        if any(mapping(handler.get(kind)).get("host") for kind in HANDLERS):
            yield NodeError(
                "pod-reaches-node",
                f"Container {name} of a sandbox pod has a host in {probe}, which the node itself connects to",
                fields="host",
            )
