"""Options of objects on a cluster: they are never taken over from another owner, and a failure is reported with its remedy."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Optional

import pulumi

from clusterkit import cluster_errors, object_names
from components.children import calls_back, calls_back_on_error, child_options, hook_name
from components.plain import derived
from components.refusals import reporting_refusals
from nodekit.errors import NodeError


def namespace_name(namespace: pulumi.Input[str]) -> pulumi.Input[str]:
    """The name of a namespace; raises pulumi.RunError for one that no API server takes."""
    return derived(reporting_refusals(partial(object_names.check_label, "namespace")), namespace)


def object_name(key: str, name: pulumi.Input[str], most: int = object_names.MOST) -> pulumi.Input[str]:
    """The name of an object, which the argument `key` holds; raises pulumi.RunError as `namespace_name`."""
    return derived(reporting_refusals(partial(object_names.check, key, most=most)), name)


def cluster_options(
    parent: pulumi.ComponentResource,
    opts: Optional[pulumi.ResourceOptions],
    child: str,
    kind: str,
    exists: str = "",
    **options: Any,
) -> pulumi.ResourceOptions:
    """Options of `child`, an object of `kind`, of the component `parent`, which was given `opts`.

    When the plugin fails, its message is followed by an error in plain words with its remedy (`cluster_errors.explained`).
    `exists` is set for an object whose name the engine does not choose: it is the case of `cluster-object-exists`, and the
    object is then made only by a provider that refuses a taken name.
    """

    async def explain(failed: pulumi.ErrorHookArgs) -> bool:
        metadata = await metadata_of(failed, failed.new_inputs or failed.old_inputs)
        error = cluster_errors.explained(failed.errors[0], kind, metadata.get("name", failed.name), exists)
        if error:
            pulumi.log.error(error.sentence())
        return False

    async def refuse(hook: pulumi.ResourceHookArgs) -> None:
        metadata = await metadata_of(hook, hook.new_inputs)
        try:
            cluster_errors.refuse_taking_over(kind, metadata)
        except NodeError as error:
            raise pulumi.RunError(error.sentence()) from None

    if not calls_back():
        return child_options(parent, opts, **options)
    hooks = pulumi.ResourceHookBinding()
    if exists:
        hooks.before_create = [pulumi.ResourceHook(hook_name(child, "refuse"), refuse)]
    if calls_back_on_error():
        hooks.on_error = [pulumi.ErrorHook(hook_name(child, "explain"), explain)]
    return child_options(parent, opts, hooks=hooks, **options)


async def metadata_of(
    hook: pulumi.ResourceHookArgs | pulumi.ErrorHookArgs, inputs: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The metadata among an object's inputs; where any of it is secret, which makes all of it an output, under the name of the
    resource."""
    metadata = (inputs or {}).get("metadata") or {}
    if isinstance(metadata, pulumi.Output):
        return {**(await metadata.future() or {}), "name": hook.name}
    return dict(metadata)
