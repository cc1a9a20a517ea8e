"""Options for the children of a component."""

from typing import Any, Optional

import pulumi


def child_options(parent: pulumi.ComponentResource, given: Optional[pulumi.ResourceOptions], **more: Any) -> pulumi.ResourceOptions:
    """Options of a child of `parent`, which was `given` its own.

    What a component depends on, its children must name themselves: the engine does not hand `depends_on` down, and a
    child that does not wait would be made although what the component waits for has failed.
    """
    base = pulumi.ResourceOptions(parent=parent, depends_on=given.depends_on if given else None)
    return pulumi.ResourceOptions.merge(base, pulumi.ResourceOptions(**more))
