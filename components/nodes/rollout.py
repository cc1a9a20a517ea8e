"""Changes the nodes of a cluster in waves: each is cordoned and drained before, and uncordoned once it is proven."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NotRequired, TypedDict

import pulumi

from clusterkit import rollout
from clusterkit.api.cluster_nodes import ClusterNodes, drained
from clusterkit.api.cluster_reader import patiently
from components.children import calls_back, calls_back_on_error, hook_name
from components.plain import derived, together
from components.refusals import reporting_refusals
from components.whole_numbers import DAY, MOST_NODES, whole
from nodekit.errors import NodeError
from nodekit.rules.text import harmless


class Rollout(TypedDict):
    """How a change comes to machines that are nodes of a cluster, a few at a time."""

    kubeconfig: pulumi.Input[str]
    """Kubeconfig (secret) of that cluster, whose user may get, list and patch nodes, list pods and create pods/eviction."""
    context: NotRequired[pulumi.Input[str]]
    """Context of that kubeconfig; without it the current one."""
    canary: NotRequired[int]
    """How many machines change first; by default 1. Plain, because it decides what depends on what."""
    batch: NotRequired[str]
    """How many change at a time after that: a number, or a percentage of all; by default 10%, and one at least. Plain, because it
    decides what depends on what."""
    drain_seconds: NotRequired[pulumi.Input[int]]
    """How long the pods of a node have to leave it, in seconds; by default 900."""
    evict_bare_pods: NotRequired[pulumi.Input[bool]]
    """Whether pods without a controller, which nothing starts elsewhere, are evicted too. By default they are refused."""


class Waves:
    """The waves of a pool's machines, and how far this run has come with them."""

    def __init__(self, args: Rollout, hosts: Sequence[str], handler: object) -> None:
        """Raises NodeError `rollout-refused`, or `bad-input` for a number that is none."""
        rollout.refuse_without_cluster(handler)
        self.args = args
        canary, batch = args.get("canary"), args.get("batch")
        self.waves = rollout.waves(
            hosts,
            rollout.CANARY if canary is None else whole("rollout.canary", canary, 0, MOST_NODES),  # `waves` refuses 0
            rollout.BATCH if batch is None else batch,
        )
        # A node would already be cordoned.
        self.drain_seconds = derived(_drain_seconds, args.get("drain_seconds"))
        self.begun: set[str] = set()
        self.proven: set[str] = set()
        self.owner = f"{pulumi.get_project()}/{pulumi.get_stack()}"
        self._nodes: ClusterNodes | None = None
        self._names: dict[str, str] = {}
        if pulumi.runtime.is_dry_run() and self.waves:
            pulumi.log.info(harmless(rollout.described(self.waves)))

    def before(self, host: str) -> list[str]:
        """The machines of the wave before that of `host`."""
        return next((list(earlier) for earlier, wave in zip([[], *self.waves], self.waves, strict=False) if host in wave), [])

    async def nodes(self) -> ClusterNodes:
        """The cluster's."""
        if self._nodes is None:
            both = pulumi.Output.all(self.args["kubeconfig"], self.args.get("context"))
            kubeconfig, context = await both.future() or ("", None)
            self._nodes = await asyncio.to_thread(cluster, kubeconfig, context, self.owner)
        return self._nodes

    async def empty(self, host: str, machine_id: str) -> None:
        """Cordon and drain the node that `host` is; a machine that is no node yet has no pods. Raises NodeError."""
        nodes = await self.nodes()
        node = await asyncio.to_thread(patiently, partial(nodes.name_of, host, machine_id, again=True))
        if node is not None:
            self._names[node] = host
            settings = pulumi.Output.all(seconds=self.drain_seconds, evict_bare_pods=self.args.get("evict_bare_pods", False))
            drain: dict[str, Any] = await settings.future() or {}
            await drained(nodes, node, seconds=drain["seconds"], evict_bare_pods=bool(drain["evict_bare_pods"]), say=say)
        self.begun.add(host)

    async def release(self, host: str, machine_id: str) -> None:
        """Uncordon the node that `host` is, if this stack has cordoned it. Raises NodeError."""
        nodes = await self.nodes()
        node = await asyncio.to_thread(patiently, partial(nodes.name_of, host, machine_id))
        if node is not None:
            await asyncio.to_thread(patiently, partial(nodes.uncordon, node))
        self.proven.add(host)

    async def stopped(self, host: str) -> NodeError:
        """What stands now that a step on `host` has failed."""
        cordoned = dict.fromkeys({self._names[node] for node in self._names} & self.begun - self.proven, False)
        with suppress(NodeError):  # what this run knows is enough where the cluster does not answer
            nodes = await asyncio.to_thread((await self.nodes()).cordoned)
            cordoned = {self._names.get(node, node): is_draining for node, is_draining in nodes.items()}
        draining = [name for name, is_draining in cordoned.items() if is_draining]
        return rollout.stopped(host, self.waves, self.begun, self.proven, cordoned, draining)


class Member:
    """One machine among the waves."""

    def __init__(self, waves: Waves, host: str, child: str) -> None:
        """`child` is the name of its KataNode, by which the engine knows the hooks."""
        self.waves, self.host, self.child = waves, host, child
        self._stopped: pulumi.ErrorHook | None = None

    def hooks(self, machine_id: Callable[[], Awaitable[str]] | None = None) -> pulumi.ResourceHookBinding:
        """Of a command on the machine; with `machine_id` one that restarts what runs there, so its node is drained before.

        `machine_id` raises NodeError where it is not known.
        """
        binding = pulumi.ResourceHookBinding()
        if not calls_back():
            return binding
        if machine_id is not None:
            drain = pulumi.ResourceHook(hook_name(self.child, "drain"), self._before(machine_id))
            binding.before_create = binding.before_update = [drain]
        if calls_back_on_error():
            self._stopped = self._stopped or pulumi.ErrorHook(hook_name(self.child, "stopped"), self._after_failure)
            binding.on_error = [self._stopped]
        return binding

    def _before(self, machine_id: Callable[[], Awaitable[str]]) -> Any:
        async def drain(_: pulumi.ResourceHookArgs) -> None:
            try:
                await self.waves.empty(self.host, await machine_id())
            except NodeError as error:
                await self._tell()  # an error hook is not called where a hook before fails
                raise pulumi.RunError(error.sentence()) from None

        return drain

    async def _after_failure(self, _: pulumi.ErrorHookArgs) -> bool:
        await self._tell()
        return False

    async def _tell(self) -> None:
        """Print what stands; the engine ends the program right after this."""
        pulumi.log.error((await self.waves.stopped(self.host)).sentence())

    def released(self, evidence: pulumi.Output[dict[str, Any]], machine_id: pulumi.Output[str]) -> pulumi.Output[dict[str, Any]]:
        """The evidence of the machine's proof, known once its node is uncordoned."""

        async def release(known: list[Any]) -> dict[str, Any]:
            proof, machine = known
            if not pulumi.runtime.is_dry_run():
                try:
                    await self.waves.release(self.host, machine)
                except NodeError as error:
                    raise pulumi.RunError(error.sentence()) from None
            return dict(proof)

        both: list[pulumi.Output[Any]] = [evidence, machine_id]
        return together(both).apply(release)


@reporting_refusals
def _drain_seconds(seconds: object) -> int:
    """How long the pods of a node have; raises pulumi.RunError for what is no number of seconds."""
    return rollout.DRAIN_SECONDS if seconds is None else whole("rollout.drainSeconds", seconds, 0, DAY)


def say(text: str) -> None:
    """Tell a person who watches the run."""
    pulumi.log.info(harmless(text))


def cluster(kubeconfig: str, context: str | None, owner: str) -> ClusterNodes:
    """The cluster's nodes."""
    return ClusterNodes(kubeconfig, context, owner)
