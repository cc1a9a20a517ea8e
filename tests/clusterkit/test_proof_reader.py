"""The errors that a person reads when the cluster cannot be read, by real refusals of a real API server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterkit.api.cluster_reader import Reader
from local import cluster, process
from nodekit.errors import NodeError
from tests.clusterkit.control_plane import ControlPlane

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """With one node."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    control_plane.add_node("node-0")
    yield control_plane
    control_plane.close()


def changed(plane: ControlPlane, user: dict[str, Any] | None = None, server: str | None = None) -> str:
    """The administrator's kubeconfig with another user or server."""
    document = json.loads(plane.kubeconfig)
    if user is not None:
        document["users"][0]["user"] = user
    if server:
        document["clusters"][0]["cluster"]["server"] = server
    return json.dumps(document)


def refused(kubeconfig: str) -> NodeError:
    """The error of asking for nodes."""
    with pytest.raises(NodeError) as error:
        Reader(kubeconfig, None).nodes(["node-0"], None)
    return error.value


def test_nodes_are_told_with_what_identifies_them(plane: ControlPlane) -> None:
    (node,) = Reader(plane.kubeconfig, None).nodes(["node-0"], None)
    assert node.name == "node-0" and node.uid == node.boot_id != ""
    assert Reader(plane.kubeconfig, "local").nodes([], "kubernetes.io/hostname=node-0") == [node]


def test_what_is_to_be_adopted_must_be_there(plane: ControlPlane) -> None:
    reader = Reader(plane.kubeconfig, None)
    reader.require("Namespace", "default", "kubernetes.adoptNamespace")
    for kind, setting in (("Namespace", "kubernetes.adoptNamespace"), ("RuntimeClass", "kubernetes.adoptRuntimeClass")):
        with pytest.raises(NodeError) as error:
            reader.require(kind, "none", setting)
        assert error.value.code == "cluster-object-missing"
        assert f"{kind} none" in error.value.message and f"{setting}: false" in error.value.remedy


def test_a_server_that_knows_policies_is_told_as_one(plane: ControlPlane) -> None:
    Reader(plane.kubeconfig, None).require_policies()


def test_a_server_that_does_not_answer(plane: ControlPlane) -> None:
    address = f"https://{cluster.ADDRESS}:{process.free_port()}"
    error = refused(changed(plane, server=address))
    assert error.code == "cluster-unreachable" and address in error.message


def test_credentials_that_are_not_accepted(plane: ControlPlane) -> None:
    error = refused(changed(plane, user={"token": "SECRET-TOKEN"}))
    assert error.code == "cluster-login-refused" and "expired" in error.message
    assert "SECRET-TOKEN" not in error.sentence()


def test_a_user_without_the_right(plane: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = plane.request("POST", path, body)["status"]["token"]
    error = refused(changed(plane, user={"token": token}))
    assert error.code == "cluster-forbidden" and "nodes" in error.remedy


def test_no_key_is_left_on_the_disk_while_the_cluster_is_read(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    readers = [Reader(plane.kubeconfig, None), Reader(plane.kubeconfig, None)]
    assert not list(tmp_path.iterdir())
    assert [len(reader.nodes(["node-0"], None)) for reader in readers] == [1, 1]
