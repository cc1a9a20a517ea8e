"""Which node a machine is. Lost if this failed: a label on another machine's node, whose pods would never start."""

import json
from pathlib import Path
from typing import Any

import pytest

from clusterkit import node_labels
from nodekit.errors import NodeError
from tests.clusterkit.control_plane import HANGS, ControlPlane
from tests.clusterkit.proving import Proving


def node(name: str, machine_id: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"machineID": machine_id}}}


def test_a_machine_is_known_by_its_id_and_not_by_a_name() -> None:
    nodes = [node("a", "B" * 32), node("worker-1", "a" * 32), {"metadata": {"name": "new"}}]
    by_machine, absent = node_labels.nodes_of(
        {"a": "a" * 32, "b": f"{'b' * 8}-{'b' * 24}\n", "away": "c" * 32, "mute": ""}, nodes
    )
    assert by_machine == {"a": "worker-1", "b": "a"} and absent == ["away", "mute"]


@pytest.mark.parametrize(
    ("machines", "nodes", "words"),
    [
        ({"a": "1"}, [node("x", "1"), node("y", "1")], "a has the machine id 1, and so have nodes x, y"),
        ({"a": "1", "b": "1"}, [node("x", "1")], "a has the machine id 1, and so have machines a, b"),
    ],
)
def test_machines_that_share_an_id_are_refused(machines: dict[str, str], nodes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(NodeError) as caught:
        node_labels.nodes_of(machines, nodes)
    assert caught.value.code == "cluster-machine-id-shared" and words in caught.value.message


def test_a_machine_that_was_renamed_is_to_lose_its_old_node_and_not_its_id() -> None:
    """A kubelet with another host name registers another node, and nothing removes the one before."""
    before = node("old", "1")
    before["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    with pytest.raises(NodeError) as caught:
        node_labels.nodes_of({"a": "1"}, [before, node("new", "1")])
    assert "nodes new, old (not Ready)" in caught.value.message and "kubectl delete node" in caught.value.remedy
    with pytest.raises(NodeError) as caught:
        node_labels.nodes_of({"a": "1", "b": "1"}, [node("x", "1")])
    assert "kubectl delete node" not in caught.value.remedy


PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from components.cluster.kata_node_labels import KataNodeLabels
inputs = json.loads(pathlib.Path("inputs.json").read_text())
inputs["kubeconfig"] = pulumi.Output.secret(inputs["kubeconfig"])
provider = k8s.Provider("cluster", kubeconfig=inputs["kubeconfig"])
created = KataNodeLabels("labels", inputs, pulumi.ResourceOptions(providers={"kubernetes": provider}))
pulumi.export("nodes", created.nodes)
"""
LABEL = "katacontainers.io/kata-runtime"


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_labels_come_and_go_on_a_real_api_server_and_another_owners_are_refused(tmp_path: Path, plane: ControlPlane) -> None:
    plane.behave({"labelled-0": HANGS, "labelled-1": HANGS})

    def labels(name: str) -> dict[str, str]:
        return dict(plane.request("GET", f"/api/v1/nodes/{name}")["metadata"]["labels"])

    for number in range(2):
        path = f"/api/v1/nodes/labelled-{number}"
        plane.request("PATCH", f"{path}/status", {"status": {"nodeInfo": {"machineID": str(number) * 32}}})
        plane.request("PATCH", path, {"metadata": {"labels": {LABEL: None, "team": "a"}}})
    proving = Proving(tmp_path / "stack", plane)
    (proving.folder / "__main__.py").write_text(PROGRAM)
    proving.inputs = {"kubeconfig": plane.kubeconfig, "machines": {"one": "0" * 32, "gone": "f" * 32}, "kata_version": "4.1.0"}
    output = proving.up()
    assert "no node with their machine ids: gone. " in output
    assert json.loads(proving.run("stack", "output", "nodes", "--json")) == ["labelled-0"]
    assert labels("labelled-0").items() >= {LABEL: "true", "kata-deploy.katacontainers.io/default": "true", "team": "a"}.items()
    assert LABEL not in labels("labelled-1")
    proving.up("--expect-no-changes")
    plane.request("PATCH", "/api/v1/nodes/labelled-1", {"metadata": {"labels": {LABEL: "false"}}})
    refused = proving.up(fails=True, machines={"one": "0" * 32, "two": "1" * 32})
    assert "cluster-field-owned" in refused and labels("labelled-1")[LABEL] == "false"
    proving.up(machines={"one": "0" * 32})
    plane.remove_node("labelled-1")
    proving.run("destroy", "--yes", "--skip-preview")
    left = labels("labelled-0")
    assert LABEL not in left and left["team"] == "a"
