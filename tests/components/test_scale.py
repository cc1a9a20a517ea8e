"""What each further host costs the program. Lost if this fails: previews of a hundred hosts in seconds."""

import asyncio
import importlib
import json
from typing import Any
from unittest import mock

import pytest
from pulumi import log
from pulumi.runtime import mocks
from pulumi.runtime.proto import engine_pb2

from clusterkit import pod_proof
from clusterkit.api.cluster_reader import Situation
from components.cluster import kata_proof
from tests.components.recorder import Recorder
from tests.components.test_wiring import HOST_KEY, PROGRAM, stack

pytestmark = pytest.mark.slow

MOST_TASKS = 91
"""Of a host: its six registrations take the SDK some sixty. Each output between plain values and them adds one or more."""


def preview(hosts: int, tasks: Any = None) -> Recorder:
    """The program of that many existing hosts."""
    entry = {"address": "192.0.2.1", "user": "admin", "hostKey": HOST_KEY}
    existing = [{"name": f"host-{number}", "port": 1024 + number, **entry} for number in range(hosts)]
    config = {"nodes": {"existing": existing}, "kata": {"install": "release"}}
    return stack(config, preview=True, secrets={"sshPrivateKey": "KEY"}, tasks=tasks)


def tasks(hosts: int) -> int:
    """Tasks of the event loop in a preview."""
    started = 0

    def counted(loop: asyncio.AbstractEventLoop, coroutine: Any, **names: Any) -> "asyncio.Task[Any]":
        nonlocal started
        started += 1
        return asyncio.Task(coroutine, loop=loop, **names)

    preview(hosts, counted)
    return started


def test_a_host_takes_few_tasks_of_the_program_and_a_later_one_no_more() -> None:
    few, some, many = (tasks(hosts) for hosts in (1, 6, 16))
    assert (many - some) / 10 == (some - few) / 5 <= MOST_TASKS


def test_a_preview_does_not_look_through_all_outputs_whenever_one_is_known() -> None:
    """Lost if this fails: a time that grows with the number of hosts, and not with its square."""
    hosts = 10
    with mock.patch("asyncio.wait", side_effect=asyncio.wait) as waited:
        preview(hosts)
    assert sum(len(call.args[0]) for call in waited.call_args_list) < 10 * hosts


def test_no_message_that_only_a_debugger_reads_is_sent_of_each_resource() -> None:
    """Each is a call of the engine, for which the whole program waits."""
    importlib.reload(log)  # an earlier program of this process has prepared it already
    with mock.patch.object(mocks.MockEngine, "Log") as sent:
        preview(5)
    assert len([call for call in sent.call_args_list if call.args[0].severity == engine_pb2.DEBUG]) < 20  # of 26 resources


def test_a_resource_carries_its_source_and_not_the_stack_above_it() -> None:
    """Lost if this fails: each resource has 2 KiB more of state, and the engine writes all of it at each step."""
    # The stack itself is there before the program.
    registered = preview(1).by_name.values()
    requests = [resource.request for resource in registered if resource.type != "pulumi:pulumi:Stack"]
    assert [len(request.stackTrace.frames) for request in requests] == [1] * len(requests) and len(requests) == 6
    assert all(request.sourcePosition == request.stackTrace.frames[0].pc for request in requests)
    places = {request.sourcePosition.uri.partition("//")[2] for request in requests}
    assert {path.removeprefix(f"{PROGRAM.parent}/").partition("/")[0] for path in places} == {"components", "stacks"}


class Counted(dict[str, Any]):
    """Jobs, and how often all of them were looked through."""

    read = 0

    def items(self) -> Any:
        self.read += 1
        return super().items()

    def values(self) -> Any:
        self.read += 1
        return super().values()


def test_the_job_of_a_node_is_found_without_looking_through_those_of_all_nodes() -> None:
    """Lost if this fails: a minute of each preview of a cluster of 5,000 nodes."""
    count, ladder = 100, "true"
    template = {"spec": {"runtimeClassName": "kata", "containers": [{"name": "sandbox", "image": "i"}]}}
    settings: dict[str, Any] = {
        **dict.fromkeys(pod_proof.PROVEN_AGAIN_BY),
        "pod_template": json.dumps(template), "kernel_params": [], "nested_sandbox": False, "timeout_seconds": 60,
    }  # fmt: skip
    nodes = [pod_proof.Node(f"node-{number}", f"uid-{number}", "b" * 36) for number in range(count)]
    jobs = Counted()
    for node in nodes:
        body = pod_proof.ask("proof", node, settings, ladder, "account", 3).body
        jobs[node.uid] = {"metadata": {**body["metadata"], "uid": node.uid}, "spec": body["spec"]}
    state = Situation(nodes, pod_proof.Nodes(nodes), jobs, {}, {}, {})
    requests = [kata_proof.proof_request("proof", node.name, (settings, state, "account"), ladder) for node in nodes]
    assert jobs.read == 1
    assert [pod_proof.attempt_of(request.template) for request in requests] == [3] * count, "each is the try that runs"
