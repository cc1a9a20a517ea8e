"""Waves of a pool against a recording engine: what waits for what, what a preview shows, and what one run reads of the cluster.

Lost if these fail: the engine's own reason to leave the rest of the nodes alone when a proof fails.
"""

import asyncio
import itertools
import time
from typing import Any
from unittest import mock

import pulumi
import pytest
from pulumi import resource_hooks

from clusterkit.api import cluster_reader
from components import ExistingNodes
from components.nodes import rollout as component
from components.nodes.rollout import Member, Waves
from nodekit.errors import NodeError
from tests.components.recorder import Recorder, RecordingMonitor, run
from tests.components.test_wiring import HOST_KEY, stack


class Nodes:
    """A cluster that every machine has joined, as node `worker-HOST`."""

    def __init__(self) -> None:
        self.uncordoned: list[str] = []
        self.ours: dict[str, bool] = {}
        self.opened = 0

    def name_of(self, host: str, machine_id: str, *, again: bool = False) -> str:
        assert machine_id == f"id-of-nodes-{host}" and not again
        return f"worker-{host}"

    def uncordon(self, node: str) -> bool:
        self.uncordoned.append(node)
        return True

    def cordoned(self) -> dict[str, bool]:
        return self.ours


def waves(*, preview: bool = False, nodes: Nodes | None = None, gone: str = "", **settings: Any) -> Recorder:
    """A stack of five machines that serve a cluster, changed in waves."""
    hosts = [
        {"name": name, "address": f"192.0.2.{number}", "hostKey": HOST_KEY, "gone": name == gone}
        for number, name in enumerate("abcde", 1)
    ]
    cluster = nodes or Nodes()

    def opened(kubeconfig: str, context: str | None, owner: str) -> Nodes:
        assert (kubeconfig, context, owner) == (KUBECONFIG, "admin", "kata-nodes/test")
        cluster.opened += 1
        return cluster

    config: dict[str, Any] = {
        "nodes": {"existing": hosts, "rollout": settings},
        "kubernetes": {"context": "admin"},
    }
    with mock.patch.object(component, "cluster", opened):
        return stack(config, preview, {"kubeconfig": KUBECONFIG})


KUBECONFIG = (
    '{"contexts": [{"name": "admin", "context": {"cluster": "c"}}],'
    ' "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.9"}}]}'
)
CHILDREN = ("system", "upload", "converge", "proof")


@pytest.mark.parametrize("preview", [False, True])
def test_each_wave_waits_for_the_proofs_of_the_one_before(preview: bool) -> None:
    recorder = waves(preview=preview, canary=1, batch=2).by_name
    for host, before in {"a": "", "b": "a", "c": "a", "d": "bc", "e": "bc"}.items():
        after = {name for name in recorder[f"nodes-{host}-{CHILDREN[0]}"].after if name.endswith("-proof")}
        assert after == {f"nodes-{other}-proof" for other in before}, host
        for earlier, child in itertools.pairwise(CHILDREN):
            assert f"nodes-{host}-{earlier}" in recorder[f"nodes-{host}-{child}"].after, (host, child)


def test_without_a_rollout_no_machine_waits_for_another() -> None:
    hosts = [{"name": name, "address": f"192.0.2.{number}", "hostKey": HOST_KEY} for number, name in enumerate("ab", 1)]
    recorder = stack({"nodes": {"existing": hosts}}).by_name
    assert not any(name.startswith("nodes-a") for name in recorder["nodes-b-converge"].after)
    assert "waves" not in recorder["nodes"].inputs


def test_a_preview_shows_the_waves_and_asks_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes()
    with mock.patch.object(pulumi.log, "info") as info:
        recorder = waves(preview=True, nodes=nodes, batch="40%", gone="b").by_name
    assert recorder["nodes"].inputs["waves"] == [["a"], ["c"], ["d"], ["e"]]
    info.assert_called_once_with("rollout in 4 waves: 1 (a), then 2 (c), then 3 (d), then 4 (e)")
    assert nodes.opened == 0


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("seconds", [-1, "ten", 1.5, 86401])
def test_time_to_drain_that_is_none_is_refused_before_a_node_is_cordoned(seconds: Any, later: bool) -> None:
    def program() -> None:
        settings: Any = {"kubeconfig": "{}", "drain_seconds": pulumi.Output.from_input(seconds) if later else seconds}
        host: Any = {"name": "a", "address": "192.0.2.1", "host_key": HOST_KEY}
        ExistingNodes("pool", {"hosts": [host], "kata": {"handler": {"name": "kata"}}, "rollout": settings})

    with pytest.raises(pulumi.RunError, match=r"Key rollout\.drainSeconds is .*\[bad-input\]"):
        run(program, preview=True)


def test_every_proven_machine_is_uncordoned_and_the_cluster_is_opened_once() -> None:
    nodes = Nodes()
    recorder = waves(nodes=nodes, batch=2)
    assert sorted(nodes.uncordoned) == [f"worker-{host}" for host in "abcde"]
    assert nodes.opened == 1
    assert [node["name"] for node in recorder.outputs["nodes"]] == list("abcde")


def test_a_node_is_drained_just_before_what_restarts_docker_and_by_the_id_that_its_machine_told() -> None:
    """Lost if this fails: pods that die with their runtime, or a drain of a node whose machine was not looked at in this run."""
    hooks: dict[str, pulumi.ResourceHook] = {}
    drained: list[tuple[str, str]] = []

    def register(hook: pulumi.ResourceHook) -> asyncio.Future[None]:
        hooks[hook.name] = hook
        registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        registered.set_result(None)
        return registered

    async def empty(_: Waves, host: str, machine_id: str) -> None:
        drained.append((host, machine_id))

    async def program() -> None:
        hosts: Any = [{"name": name, "address": f"192.0.2.{number}", "host_key": HOST_KEY} for number, name in enumerate("ab", 1)]
        settings: Any = {"kata": {"handler": {"name": "kata"}}, "rollout": {"kubeconfig": KUBECONFIG, "batch": "2"}}
        pool = ExistingNodes("nodes", {"hosts": hosts, **settings})
        await pool.nodes.future()
        for name in [*hooks]:
            await hooks[name].callback(mock.Mock())  # type: ignore[misc]

    with (
        mock.patch.object(component, "calls_back", lambda: True),
        mock.patch.object(resource_hooks, "register_resource_hook", register),
        mock.patch.object(component, "cluster", lambda *_: Nodes()),
        mock.patch.object(Waves, "empty", empty),
    ):
        recorder = run(program).by_name
    assert sorted(drained) == [("a", "id-of-nodes-a"), ("b", "id-of-nodes-b")]
    for host, child in itertools.product("ab", CHILDREN):
        binding = recorder[f"nodes-{host}-{child}"].request.hooks
        drains = [f"nodes-{host}-drain"] if child == "converge" else []
        assert [name.rpartition("-drain")[0] + "-drain" for name in binding.before_create] == drains, (host, child)
        assert list(binding.before_update) == list(binding.before_create) and not binding.before_delete


def test_the_next_wave_begins_when_the_nodes_of_the_one_before_take_pods_again() -> None:
    order: list[str] = []
    nodes = Nodes()
    register = RecordingMonitor.RegisterResource

    def uncordon(node: str) -> bool:
        time.sleep(0.2)
        order.append(node)
        return True

    def registered(monitor: RecordingMonitor, request: Any) -> Any:
        order.append(request.name)
        return register(monitor, request)

    nodes.uncordon = uncordon  # type: ignore[method-assign]
    with mock.patch.object(RecordingMonitor, "RegisterResource", registered):
        waves(nodes=nodes, batch=2)
    for host, before in {"b": "a", "c": "a", "d": "bc", "e": "bc"}.items():
        assert all(order.index(f"worker-{other}") < order.index(f"nodes-{host}-system") for other in before), order


def released(nodes: Nodes, *, preview: bool) -> Any:
    """The evidence of a machine that the engine knows to be proven."""

    async def evidence() -> Any:
        rollout = Waves({"kubeconfig": KUBECONFIG}, ["a"], {"name": "kata"})
        rollout._nodes = nodes  # type: ignore[assignment]
        outputs = (pulumi.Output.from_input({"verb": "prove"}), pulumi.Output.from_input("id-of-nodes-a"))
        return await Member(rollout, "a", "nodes-a").released(*outputs).future()

    with mock.patch.object(pulumi.runtime, "is_dry_run", lambda: preview), mock.patch.object(pulumi.log, "info"):
        return asyncio.run(evidence())


def test_a_preview_of_proven_machines_uncordons_none() -> None:
    nodes = Nodes()
    assert released(nodes, preview=True) == {"verb": "prove"} and nodes.uncordoned == []
    assert released(nodes, preview=False) == {"verb": "prove"} and nodes.uncordoned == ["worker-a"]


def test_a_machine_that_cannot_be_uncordoned_has_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_reader, "PATIENCE_SECONDS", 0)
    nodes = Nodes()

    def refuse(_: str) -> bool:
        raise NodeError("cluster-unreachable", "it does not answer")

    nodes.uncordon = refuse  # type: ignore[method-assign]
    with pytest.raises(pulumi.RunError, match="does not answer"):
        released(nodes, preview=False)


def test_a_stopped_run_names_what_is_cordoned_by_the_machines_own_names() -> None:
    nodes = Nodes()
    nodes.ours = {"worker-b": False, "worker-c": True, "left-by-a-run-before": False}

    async def message() -> str:
        rollout = Waves({"kubeconfig": KUBECONFIG, "batch": "2"}, ["a", "b", "c"], {"name": "kata"})
        rollout._nodes = nodes  # type: ignore[assignment]
        rollout._names, rollout.begun, rollout.proven = {"worker-b": "b", "worker-c": "c"}, {"a", "b"}, {"a"}
        return (await rollout.stopped("b")).message

    with mock.patch.object(pulumi.runtime, "is_dry_run", lambda: False):
        assert "changed and proven: a; changing: b; unchanged: c; cordoned: b, c" in asyncio.run(message())
