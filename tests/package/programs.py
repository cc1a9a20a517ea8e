"""One program or more for every published component, with fixed inputs: what they register is what a release promises."""

import json
from typing import Any
from unittest import mock

from pulumi.runtime.proto import alias_pb2

from clusterkit import pod_proof
from clusterkit.api.cluster_reader import Situation
from components.cluster import kata_node_labels, kata_proof
from components.package import components
from delivery import bundle
from tests.components.recorder import Recorded, run
from tests.package.breaking import Alias, Child

CONNECTION: dict[str, Any] = {"address": "192.0.2.1", "host_key": "ssh-ed25519 AAAA"}
PROVEN: dict[str, Any] = {
    "namespace": "sandboxes",
    "proof": {
        "pod_template": json.dumps({"metadata": {}, "spec": {"containers": [{"name": "sandbox"}]}}),
        "handler": "kata-qemu", "kata_version": "3.32.0",
    },
}  # fmt: skip
KATA_CLASS: dict[str, Any] = {"runtime_class": "kata", "handler": "kata-qemu", "kata_version": "3.32.0"}
SPACE: dict[str, Any] = {"namespace": "sandboxes"}

MACHINES: dict[str, Any] = {
    "instance_type": "m8i.xlarge", "nested_virtualization": True, "image": "ami-0123456789abcdef0", "vpc": "vpc-1",
    "subnets": ["subnet-1"],
}  # fmt: skip
MANAGED = {**MACHINES, "session_manager": True}
INSTANCES: dict[str, Any] = {"machine": MACHINES, "count": 2, "ssh_from": ["203.0.113.0/24"]}
GROUP: dict[str, Any] = {
    "machine": MACHINES, "min_size": 1, "max_size": 2,
    "program": {"address": "https://files.example/nodekit.pyz", "sha256": bundle.cached().digest},
}  # fmt: skip
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"

PROGRAMS: dict[str, list[dict[str, Any]]] = {
    "AwsNodeGroup": [GROUP, {**GROUP, "machine": MANAGED}],
    "AwsNodes": [INSTANCES, {**INSTANCES, "machine": MANAGED}, {**INSTANCES, "public_key": HOST_KEY}],
    "ExistingNodes": [{"hosts": [{"name": "one", "address": "192.0.2.1", "host_key": HOST_KEY}]}],
    "HostKey": [{}],
    "JoiningNodes": [{**PROVEN, "image": "controller", "selector": "a=b"}],
    "KataDeploy": [{}],
    "KataNode": [{"connection": CONNECTION}, {"connection": {**CONNECTION, "user": "admin", "sudo_password": "secret"}}],
    "KataNodeLabels": [{"kubeconfig": "{}", "machines": {"one": "1"}}],
    "KataProof": [{**PROVEN, "kubeconfig": "{}", "nodes": ["one", "two"]}],
    "KataRuntimeClass": [KATA_CLASS, {**KATA_CLASS, "adopt": True}],
    "SandboxGuard": [{"namespaces": ["sandboxes"], "runtime_classes": ["kata"]}],
    "SandboxNamespace": [SPACE, {**SPACE, "adopt": True}],
    "SandboxPodTemplate": [
        {"template": "nested", "namespace": "sandboxes", "runtime_class": "kata", "image": "image", "nested_sandbox": True},
    ],
}  # fmt: skip
"""Arguments by component; a list holds one entry for each set of children that a component can have."""


class TwoNodes:
    """Answers for a cluster on which every Job passes."""

    def situation(self, namespace: str, proof: str, names: list[str], selector: str | None) -> Situation:
        """With the nodes asked for, and nothing of a proof before."""
        nodes = [pod_proof.Node(name, f"uid-{name}", f"boot-{name}") for name in names]
        return Situation(nodes, pod_proof.Nodes(nodes), {}, {}, {}, {})

    def described_nodes(self) -> list[dict[str, Any]]:
        """With the machine ids 1 and 2."""
        return [
            {"metadata": {"name": name}, "status": {"nodeInfo": {"machineID": number}}}
            for name, number in (("one", "1"), ("two", "2"))
        ]

    def outcome(self, namespace: str, name: str, proofs: dict[str, Any], timeout_seconds: int) -> dict[str, Any]:
        """Every Job's evidence."""
        return {node: {"userNamespaces": 7563} for node in proofs}


def alias_of(alias: alias_pb2.Alias) -> Alias:
    """From the engine's protocol."""
    if alias.urn:
        return Alias(urn=alias.urn.split("::", 2)[2])  # urn:pulumi:STACK::PROJECT::TYPE::NAME
    return Alias(name=alias.spec.name, type=alias.spec.type, in_stack=alias.spec.noParent)


def registered(component: str, args: dict[str, Any]) -> list[Child]:
    """What a program with this one component, named `it`, registers."""
    (component_class,) = (member for member in components() if member.__name__ == component)

    def program() -> None:
        component_class("it", args)  # type: ignore[arg-type,call-arg]

    fakes = mock.patch.object(kata_proof, "reader", lambda args, kubeconfig: TwoNodes())
    with fakes, mock.patch.object(kata_node_labels, "cluster", lambda kubeconfig, context: TwoNodes()):
        recorded = run(program).by_name
    children: dict[str, Child] = {}

    def child(resource: Recorded) -> Child:
        if resource.name not in children:
            parent = recorded.get(resource.parent)
            above = child(parent) if parent and not parent.type.startswith("pulumi:pulumi:") else None
            children[resource.name] = Child(resource.type, resource.name, above, tuple(map(alias_of, resource.request.aliases)))
        return children[resource.name]

    return [
        child(resource) for resource in recorded.values() if not resource.type.startswith(("pulumi:pulumi:", "pulumi:providers:"))
    ]
