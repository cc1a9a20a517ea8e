"""A mock engine that records every resource with its inputs, parent, dependencies and options."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2

from nodekit.rules import node_state

STDOUT = {
    "machine": {
        "name": "local-0", "address": "127.0.0.1", "port": 2222, "user": "node", "hostKey": "ssh-ed25519 AAAA",
        "privateKey": "PRIVATE-LOGIN-KEY", "accelerator": "tcg", "boot": "first",
    },
    "site-server": {
        "repository": "http://10.0.2.2:8000/debian", "fingerprint": "A" * 40,
        "archiveUrl": "http://10.0.2.2:8000/kata.tar.xz", "archiveSha256": "b" * 64,
    },
    "cluster-server": {"kubeconfig": "SECRET-KUBECONFIG"},
    "system": {"verb": "system"},
    "converge": {"verb": "converge", "dockerVersion": "27.5.1", "run": "0123456789abcdef"},
    "proof": {
        "verb": "prove", "passed": True, "node": "local-0", "hypervisor": "qemu", "proven": "guest", "userNamespaces": 7563,
        "guestKernel": "6.12.0",
        "kernelParams": "cgroup_no_v1=all user_namespace.enable=1", "configFile": "/opt/kata/c.toml",
        "rungs": [{"name": "unshare", "passed": True, "counts": True, "value": "", "detail": ""}],
    },
}  # fmt: skip
"""What the node and local programs would answer, by the end of the resource's name."""
ON_THE_CLUSTER = {"kubernetes:node.k8s.io/v1:RuntimeClass": {"handler": "kata-qemu"}}
"""What lies on the cluster already, by its type."""

PLUGINS: dict[str, dict[str, Any]] = {
    "aws:ec2/instance:Instance": {"privateIp": "10.0.0.7", "publicIp": "203.0.113.9"},
    "aws:ec2/keyPair:KeyPair": {"keyName": "login"},
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
    "aws:autoscaling/group:Group": {"name": "aws-group-1"},
    "aws:iam/instanceProfile:InstanceProfile": {"arn": "arn:aws:iam::123456789012:instance-profile/p", "name": "p"},
    "aws:iam/role:Role": {"name": "r"},
}
"""What plugins add to a resource of their own accord, by its type."""


@dataclass
class Recorded:
    """One registration as the engine would see it."""

    type: str
    name: str
    inputs: dict[str, Any]
    request: resource_pb2.RegisterResourceRequest

    @property
    def parent(self) -> str:
        """Name of the parent."""
        return str(self.request.parent).rsplit("::", 1)[-1]

    @property
    def after(self) -> set[str]:
        """Names of what it explicitly or by its inputs depends on."""
        return {urn.rsplit("::", 1)[-1] for urn in self.request.dependencies}

    def is_secret(self, key: str) -> bool:
        """Whether the engine receives input `key` marked as secret."""
        value = self.request.object.fields[key]
        return bool(value.struct_value.fields[rpc._special_sig_key].string_value == rpc._special_secret_sig)


def desired(stdin: str) -> dict[str, Any]:
    """The document that ends the standard input of a command, after its scripts and a password."""
    _, mark, rest = f"\n{stdin}".rpartition("\n{\n")
    assert mark, f"no document ends {stdin[-200:]!r}"
    document: dict[str, Any] = json.loads(f"{{{rest}")
    return document


def states(resources: Mapping[str, Recorded], node: str) -> dict[str, dict[str, Any]]:
    """By step, the desired state of the component called `node`: those in its -converge, in their order, then its -proof's."""
    converge, proof = (desired(resources[f"{node}-{child}"].inputs["stdin"]) for child in ("converge", "proof"))
    preflight = node_state.preflight(node_state.KataState.read(converge["kata"])).document()
    return {"preflight": preflight, "docker": converge["docker"], "kata": converge["kata"], "proof": proof}


@dataclass
class Recorder(mocks.Mocks):
    """Answers every resource with its inputs and a plausible output."""

    by_name: dict[str, Recorded] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    preview: bool = False

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        """Answer a registration."""
        outputs = ON_THE_CLUSTER.get(args.typ, {}) | args.inputs | PLUGINS.get(args.typ, {})
        if args.typ == "tls:index/privateKey:PrivateKey":
            outputs |= {
                "privateKeyOpenssh": f"PRIVATE-KEY-OF-{args.name}\n",
                "publicKeyOpenssh": f"ssh-ed25519 AAAA{args.name}\n",
            }
        if args.typ.startswith("command:") and not self.preview:
            answer = next((a for end, a in STDOUT.items() if args.name.endswith(end)), {})
            if answer.get("verb") in ("system", "converge"):
                answer = {**answer, "machineId": f"id-of-{args.name.rpartition('-')[0]}"}
            outputs |= {"stdout": json.dumps(answer) if "create" in args.inputs else "", "stderr": ""}
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        """No function is expected to be called."""
        raise AssertionError(f"unexpected call of {args.token}")


class RecordingMonitor(mocks.MockMonitor):
    """Keeps each whole request, which plain mocks drop."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.recorder = recorder

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:
        """Record, then answer as mocks do."""
        inputs = {
            key: rpc.unwrap_rpc_secret(value)
            for key, value in rpc.deserialize_properties(request.object, keep_unknowns=True).items()
        }
        self.recorder.by_name[request.name] = Recorded(request.type, request.name, inputs, request)
        return super().RegisterResource(request)


def inputs_of(program: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """By resource of `program`: its inputs; assets, of which none equals another, are left out."""
    resources = run(program).by_name
    return {
        name: {key: value for key, value in resource.inputs.items() if not isinstance(value, pulumi.Asset)}
        for name, resource in resources.items()
    }


def run(program: Callable[[], Any], preview: bool = False, tasks: Any = None) -> Recorder:
    """Run `program` in a stack of its own against the recorder; what it raises, this raises. `tasks` is the task factory."""
    recorder = Recorder(preview=preview)

    async def inside() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(tasks)
        loop.set_exception_handler(lambda *_: None)  # of a program that fails, as in Pulumi's own language host
        pulumi.runtime.settings.reset_options()
        pulumi.runtime.stack.set_root_resource(None)
        monitor = RecordingMonitor(recorder)
        mocks.set_mocks(recorder, project="kata-nodes", stack="test", preview=preview, monitor=monitor)
        # The mocks have begun and ended a stack of their own.
        await pulumi.runtime.stack.wait_for_rpcs()
        pulumi.runtime.stack.set_root_resource(None)
        await pulumi.runtime.stack.run_in_stack(program)
        stack = pulumi.runtime.stack.get_root_resource()
        assert isinstance(stack, pulumi.runtime.stack.Stack)
        recorder.outputs = await pulumi.Output.from_input(stack.outputs).future() or {}

    asyncio.run(inside())
    return recorder
