"""Resources of plugins under the plugins' own names, so that a program needs no Python package for them.

For the ten kinds of AWS, the package pulumi-aws would bring 270 MB (docs/adr/0029). For each of the four resources of a node,
the package pulumi-command would make some sixty outputs: for every property of the kind, and for every key of the connection.
The engine downloads the plugins themselves when a program first asks for one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.output import UNKNOWN

PLUGINS = {"aws": "7.51.1", "command": "1.2.1", "tls": "5.6.2"}
"""Plugin -> its version, which decides what the names below mean."""


class PluginResource(pulumi.CustomResource):
    """A resource of one of the plugins. `kind`, `inputs` and `outputs` are named as in the plugin's schema."""

    def __init__(
        self,
        kind: str,
        name: str,
        inputs: Mapping[str, Any],
        opts: pulumi.ResourceOptions,
        outputs: Sequence[str] = (),
    ) -> None:
        version = pulumi.ResourceOptions(version=PLUGINS[kind.partition(":")[0]])
        # Every property named here becomes an attribute of the resource; one without a value is not sent.
        properties = {**dict.fromkeys(outputs), **inputs}
        super().__init__(kind, name, properties, pulumi.ResourceOptions.merge(opts, version))

    def output(self, name: str) -> pulumi.Output[Any]:
        """One of `outputs`; unknown where there is no value."""
        return self.recorded(name).apply(known)

    def recorded(self, name: str) -> pulumi.Output[Any]:
        """One of `outputs`; None where there is no value, as of a resource that `--target` leaves out (Pulumi 3.255 and older),
        and in a test whose mocks answer with the inputs."""
        value: pulumi.Output[Any] = self.__dict__[name]
        return value


def known(value: Any) -> Any:
    """The value of a resource that was made; unknown without one."""
    return UNKNOWN if value is None else value
