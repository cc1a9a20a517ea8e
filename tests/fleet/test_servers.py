"""API servers that say nothing, or something else than objects, and where a kubeconfig is looked for.

Lost if these fail: an answer of `kata-nodes status` within its time, because of one server, and the objects of all others.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from fleet import cluster_objects, shown
from fleet.cluster_objects import Cluster
from fleet.measure_objects import MeasuredCluster, Reading, kubeconfig
from fleet.report import build, summary
from nodekit.errors import NodeError
from tests.fleet.objects import deployment, runtime_class, secret
from tests.fleet.test_objects import proof
from tests.serving import running

KINDS = {
    "/api/v1": {"resources": []},
    "/apis/node.k8s.io/v1": {"resources": [{"kind": "RuntimeClass", "name": "runtimeclasses"}]},
}
"""What a server says that it serves."""
JOBS = {"kind": "Job", "name": "jobs", "namespaced": True}


class Answering(BaseHTTPRequestHandler):
    """Stands in an API server's place; what is not in `answers` is not there."""

    answers: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        text = self.answers.get(self.path.partition("?")[0], b"{}")
        self.send_response(200 if text != b"{}" else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(answers: dict[str, bytes]) -> Iterator[str]:
    """The address of such a server."""
    with running(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Answering,), {"answers": answers}))) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def at(server: str) -> Cluster:
    """A cluster with one object at that address."""
    (cluster,) = cluster_objects.of(deployment(runtime_class(), context=None))
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
    }
    return replace(cluster, kubeconfig=json.dumps(document))


def read(cluster: Cluster, seconds: float = 60) -> MeasuredCluster:
    return Reading(cluster, seconds).result()


@pytest.mark.slow
def test_a_server_that_does_not_answer_costs_its_time_and_no_more() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
        refused = read(at(address))
        silent.listen()
        begin = time.monotonic()
        late = read(at(address), 1.5)
        assert time.monotonic() - begin < 10
    assert "does not answer" in str(refused.cause) and refused.unmeasured == 1
    assert "no answer within 1.5 s" in str(late.cause) and late.unmeasured == 1


@pytest.mark.parametrize(
    "strange", [b"[" * 100_000, b'{"resources": [7]}', b'{"resources": [{"kind": [], "name": {}}]}', b"7", b"\xff"]
)
def test_answers_that_are_no_objects_are_a_cause(strange: bytes) -> None:
    known = {path: json.dumps(kinds).encode() for path, kinds in KINDS.items()}
    with serving({"/api/v1": strange}) as server:
        result = read(at(server))
        assert result.cause is not None or result.objects[0].differences
    with serving({**known, "/apis/node.k8s.io/v1/runtimeclasses/kata": strange}) as server:
        result = read(at(server))
        assert result.cause is None and (result.objects[0].cause or result.objects[0].differences)


def test_a_server_that_serves_no_api_has_not_lost_the_objects() -> None:
    with serving({}) as server:  # a load balancer's page, or a proxy's whose cluster is gone
        result = read(at(server))
    assert "404" in str(result.cause) and result.unmeasured == 1
    assert result.differing == [], "cure would make again what nobody has looked for"


def test_nodes_that_cannot_be_read_hide_nothing_of_the_class_that_selects_them() -> None:
    (item,) = at("https://a").objects
    changed = json.dumps({**item.recorded, "handler": "runc"}).encode()
    known = {path: json.dumps(kinds).encode() for path, kinds in KINDS.items()}
    with serving({**known, "/apis/node.k8s.io/v1/runtimeclasses/kata": changed, "/api/v1/nodes": b"no list"}) as server:
        (measured,) = read(at(server)).objects
    assert [difference.kind for difference in measured.differences] == ["changed"] and "nodes" in str(measured.cause)


def test_an_object_is_missing_where_neither_it_nor_its_kind_is_served() -> None:
    for kinds in (KINDS, {"/api/v1": {"resources": []}}):
        with serving({path: json.dumps(answer).encode() for path, answer in kinds.items()}) as server:
            (measured,) = read(at(server)).objects
            assert [difference.kind for difference in measured.differences] == ["missing"]


@pytest.mark.parametrize("present", [True, False])
def test_proof_of_a_node_that_the_cluster_no_longer_has_is_not_told_as_one_of_its_nodes(present: bool) -> None:
    """As after an instance refresh: the Job outlives the machine, and new ones have other names."""
    (job,) = proof("u1", json.dumps({"node": "n1", "job": "u1", "userNamespaces": 7}))
    answers: dict[str, Any] = {"/api/v1": {"resources": []}, "/apis/batch/v1": {"resources": [JOBS]}}
    answers |= {"/apis/batch/v1/namespaces/p/jobs/proof-n1-x": job.recorded}
    answers |= {"/api/v1/nodes/n1": {"metadata": {"name": "n1"}}} if present else {}
    with serving({path: json.dumps(answer).encode() for path, answer in answers.items()}) as server:
        cluster = read(replace(at(server), objects=(job,)))
    (measured,) = cluster.objects
    assert (measured.cause, measured.differences, measured.gone) == (None, (), not present)
    assert shown.object_state(measured).plain == ("as deployed" if present else "its node is gone")
    assert any("n1 is not in the cluster any more" in note for note in measured.notes) is not present
    again = {**dict(job.recorded), "metadata": {**job.recorded["metadata"], "uid": "u2"}}
    answers["/apis/batch/v1/namespaces/p/jobs/proof-n1-x"] = again
    with serving({path: json.dumps(answer).encode() for path, answer in answers.items()}) as server:
        (other,) = read(replace(at(server), objects=(job,))).objects
    assert "was made again by someone else" in other.differences[-1].message
    document = build.report("s", [], [], {}, "2026-11-26T18:00:00Z", [cluster])
    assert document.outcome == ("proven" if present else "unproven")
    assert (summary.of(document).nodes, document.nodes[0].outcome) == ((1, "proven") if present else (0, "gone"))


def test_a_kubeconfig_is_a_text_or_a_path_or_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = at("https://a")
    assert kubeconfig(cluster) == cluster.kubeconfig
    (tmp_path / "config").write_text("kind: Config")
    assert kubeconfig(replace(cluster, kubeconfig=str(tmp_path / "config"))) == "kind: Config"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    nameless = replace(cluster, kubeconfig=None)
    assert kubeconfig(nameless) == "kind: Config"
    # As `export KUBECONFIG=$KUBECONFIG:FILE` leaves it where nothing was set before.
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path}/config:{tmp_path}/config:")
    assert kubeconfig(nameless) == "kind: Config"
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/config:{tmp_path}/other")
    with pytest.raises(NodeError, match="several files"):
        kubeconfig(nameless)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NodeError, match="No such file"):
        kubeconfig(nameless)
    monkeypatch.setenv("KUBECONFIG", "~nobody-of-that-name/config")
    with pytest.raises(NodeError, match="the user whose home it begins with is not known here"):
        kubeconfig(nameless)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_kubeconfig_can_be_an_object_as_pulumi_eks_gives_it(hidden: bool) -> None:
    """The plugin takes both; the state has what the program gave (pulumi-kubernetes, parseKubeconfigPropertyValue)."""
    document = {"current-context": "c", "users": [{"name": "a", "user": {"token": "s3cret"}}]}
    part: dict[str, Any] = {**document, "users": secret(document["users"])}
    (cluster,) = cluster_objects.of(deployment(runtime_class(), kubeconfig=secret(document) if hidden else part))
    assert json.loads(kubeconfig(cluster)) == document and "s3cret" not in repr(cluster)


def test_files_that_the_environments_kubeconfig_names_are_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = {"tokenFile": "token", "client-key": "/k", "exec": {"command": "./plugin"}}
    document = {
        "clusters": [{"name": "c", "cluster": {"certificate-authority": "certs/ca.crt"}}, 7],
        "users": [{"name": "u", "user": user}, {"name": "v", "user": {"exec": {"command": "aws"}}}],
    }
    (tmp_path / "config").write_text(json.dumps(document))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    nameless = replace(at("https://a"), kubeconfig=None)
    clusters, users = (yaml.safe_load(kubeconfig(nameless))[key] for key in ("clusters", "users"))
    assert clusters[0]["cluster"] == {"certificate-authority": f"{tmp_path}/certs/ca.crt"}
    assert users[0]["user"] == {"tokenFile": f"{tmp_path}/token", "client-key": "/k", "exec": {"command": f"{tmp_path}/plugin"}}
    assert users[1]["user"]["exec"]["command"] == "aws", "a command without a folder is on PATH"
    # The plugin reads the file of a provider's own setting as a text, whose paths begin in the current folder.
    assert kubeconfig(replace(nameless, kubeconfig=str(tmp_path / "config"))) == json.dumps(document)
