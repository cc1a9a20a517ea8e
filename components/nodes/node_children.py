"""Makes the resources of one node, and reads what the verbs of the node program printed in them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Optional

import pulumi
from pulumi.output import UNKNOWN

from components.children import LEFT_ALONE, child_options
from components.nodes.connection_errors import explaining
from components.nodes.node_connection import connection_of
from components.nodes.rollout import Member
from components.nodes.settings import Connection
from components.plain import derived
from components.plugin_resource import PluginResource
from components.refusals import reporting_refusals
from delivery import login, results
from delivery.scripts import sent
from nodekit.errors import NodeError
from nodekit.rules.text import printable

UNPROVEN: dict[str, Any] = {
    "machineId": "", "dockerVersion": "", "run": "", "configFile": "", "kernelParams": "", "userNamespaces": 0, "guestKernel": "",
}  # fmt: skip
"""Stands for the results that a machine which is gone never had."""


def result_of(text: str, verb: str, resource: str) -> dict[str, Any]:
    """The result document of a verb; raises NodeError `result-missing` for anything else that a resource has printed."""
    try:
        return results.result(text, verb)
    except ValueError as error:
        raise NodeError(
            "result-missing",
            f"Resource {resource} has recorded no result of the verb {verb}, but {text[:80]!r}: {printable(str(error), 200)}",
            "look" if verb == "system" else "",
            resource=resource,
        ) from None


class NodeChildren:
    """The children of a KataNode: all of them have its connection, its way to become root, and its hooks."""

    def __init__(
        self,
        node: pulumi.ComponentResource,
        name: str,
        name_in_messages: str,
        connection: Connection,
        gone: bool,
        opts: Optional[pulumi.ResourceOptions],
        member: Optional[Member],
    ) -> None:
        """`node` is the component, which the engine knows by `name` and people by `name_in_messages`."""
        self.node, self.name, self.gone, self.opts, self.member = node, name, gone, opts, member
        self.connection = connection_of(connection, gone)
        password = connection.get("sudo_password")
        self.password = None if password is None else pulumi.Output.secret(password)
        self.explained = [] if gone else explaining(name, name_in_messages)
        self.as_root = sent("as_root.sh", "delivery")
        self.run = login.as_root(self.as_root) if self.password else ""
        """Begins a command line that runs the rest of it as root, where that takes a password."""

    def hooks(self, machine_id: Callable[[], Awaitable[str]] | None = None) -> pulumi.ResourceHookBinding:
        """Hooks of a command; `machine_id` as in `Member.hooks`."""
        binding = self.member.hooks(machine_id) if self.member else pulumi.ResourceHookBinding()
        binding.on_error = [*self.explained, *(binding.on_error or [])]
        return binding

    def child(
        self, which: str, kind: str, inputs: Mapping[str, Any], after: pulumi.Resource | None, **others: Any
    ) -> PluginResource:
        """The resource `-WHICH`, of a kind of `command:remote`, made once `after` is; `others` are more options."""
        options: dict[str, Any] = {"additional_secret_outputs": ["connection"], "replace_on_changes": ["triggers[*]"]}
        if self.gone:
            options |= LEFT_ALONE
        elif self.explained or self.member:
            options["hooks"] = self.hooks()
        if which != "system":
            # Where a program protects its node, these can be replaced all the same, as by another node program:
            # the engine replaces nothing that is protected. What undoes the node is the first.
            options["protect"] = False
        options |= others
        # Only the first waits for what the node depends on: each of the others waits for the one before.
        waiting = {"depends_on": after} if after else {}
        handed = pulumi.ResourceOptions(deleted_with=self.opts.deleted_with) if self.opts and after else self.opts
        return PluginResource(
            f"command:remote:{kind}",
            f"{self.name}-{which}",
            {"connection": self.connection, **inputs},
            child_options(self.node, handed, **waiting, **options),
            outputs=["stdout"] if kind == "Command" else [],
        )

    def command(self, which: str, inputs: Mapping[str, Any], after: pulumi.Resource | None, **others: Any) -> PluginResource:
        """A command, as `child`."""
        common = {"logging": "stderr", "addPreviousOutputInEnv": False}
        # What the machine did not live to see is made without running anything; the rest keeps the inputs that it had.
        left = {key: value for key, value in inputs.items() if not self.gone or key not in ("create", "update")}
        return self.child(which, "Command", {**left, **common}, after, **others)

    def stdin_of(self, text: pulumi.Input[str]) -> pulumi.Input[str]:
        """What a command reads: with a password what hands that to sudo comes first, and all of it is secret."""
        if not self.password:
            return text
        return derived(reporting_refusals(lambda *both: login.before(self.as_root, *both)), self.password, text)

    def result(self, text: str, verb: str) -> dict[str, Any]:
        """The verb's result; of a machine that is gone and never had it, or one of another version, one that says nothing."""
        try:
            return result_of(text, verb, f"{self.name}-{'proof' if verb == 'prove' else verb}")
        except NodeError:
            if self.gone:  # nothing can be run again there
                return dict(UNPROVEN)
            raise

    def read(self, step: PluginResource, verb: str, value: Callable[[dict[str, Any]], Any]) -> pulumi.Output[Any]:
        """A value of the verb's result. Pulumi 3.255 and older has no text of a node that `--target` leaves out."""
        return step.recorded("stdout").apply(
            reporting_refusals(lambda text: UNKNOWN if text is None and not self.gone else value(self.result(text, verb)))
        )
