"""Options for the children of a component."""

from collections import Counter
from typing import Any, Optional

import pulumi
from pulumi.runtime.proto import resource_pb2, resource_pb2_grpc
from pulumi.runtime.settings import get_monitor, monitor_supports_feature

LEFT_ALONE: dict[str, Any] = {"retain_on_delete": True, "ignore_changes": ["*"]}
"""Options of what is on a machine that no longer exists: no change reaches it, and forgetting it contacts nobody."""


def calls_back() -> bool:
    """Whether hooks work: Pulumi's mocks claim to support them and have no server to call back."""
    return isinstance(get_monitor(), resource_pb2_grpc.ResourceMonitorStub)


def calls_back_on_error() -> bool:
    """Whether error hooks work, which came later than the others."""
    return calls_back() and monitor_supports_feature(resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS)


_HOOKS: Counter[str] = Counter()


def hook_name(child: str, which: str) -> str:
    """Name of another hook of a `child`. The engine takes each name once in a run, and children have the same one where their
    components are of other types or stand under other parents."""
    name = f"{child}-{which}"
    _HOOKS[name] += 1
    return name if _HOOKS[name] == 1 else f"{name}-{_HOOKS[name]}"


def id_of(name: pulumi.Input[str]) -> pulumi.Output[str]:
    """An object's name as the id by which it is read: the SDK refuses one that is secret."""
    return pulumi.Output.unsecret(pulumi.Output.from_input(name))


def child_options(
    parent: pulumi.ComponentResource, opts: Optional[pulumi.ResourceOptions], **options: Any
) -> pulumi.ResourceOptions:
    """Options of a child of `parent`, which was given `opts`.

    Children must name themselves what the component depends on, and with what it is deleted: the engine does not pass
    `depends_on` on to them, and a child that does not wait would be made although what the component waits for has failed.
    """
    own = pulumi.ResourceOptions(parent=parent, **options)
    if opts is None or (opts.depends_on is None and opts.deleted_with is None):
        return own
    return pulumi.ResourceOptions.merge(pulumi.ResourceOptions(depends_on=opts.depends_on, deleted_with=opts.deleted_with), own)
