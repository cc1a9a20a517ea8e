"""The client of API servers. Lost if these fail: what a cluster with slow webhooks does is given up, and begun again for ever."""

import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import urllib3

from clusterkit.api.client import PERSON, Changed, Client
from clusterkit.api.cluster_reader import Reader
from nodekit.errors import NodeError


class Connections:
    """Stands for the server's connections, and keeps how long each request would be waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def urlopen(self, method: str, address: str, *, timeout: urllib3.Timeout, **_: Any) -> urllib3.HTTPResponse:
        bounds = timeout.clone()
        bounds.start_connect()
        self.seconds[method] = float(cast(float, bounds.read_timeout))
        return urllib3.HTTPResponse(io.BytesIO(b'{"metadata": {}}'), status=200, preload_content=False)


class Busy(Connections):
    """Of a server that has no time, or whose answer says when to ask again."""

    def urlopen(self, method: str, address: str, **options: Any) -> urllib3.HTTPResponse:
        super().urlopen(method, address, **options)
        self.requests += 1
        return urllib3.HTTPResponse(
            io.BytesIO(b'{"message": "The disruption budget b is still being processed by the server."}'),
            status=429,
            headers={"Retry-After": "10"},
            preload_content=False,
        )

    requests = 0


def client(connections: Connections) -> Client:
    """Of a server that answers everything."""
    configuration = SimpleNamespace(host="https://192.0.2.9", auth_settings=dict)
    api = SimpleNamespace(configuration=configuration, default_headers={}, rest_client=SimpleNamespace(pool_manager=connections))
    return Client(cast(Any, api), PERSON)


def test_what_webhooks_may_delay_is_waited_for_as_long_as_an_api_server_does() -> None:
    connections = Connections()
    for method in ("GET", "POST", "PATCH", "DELETE"):
        client(connections).call("do", "jobs", method, "/apis/batch/v1/namespaces/n/jobs")
    assert connections.seconds.pop("GET") <= 20
    assert min(connections.seconds.values()) > 60, connections.seconds


def test_an_answer_that_its_caller_expects_is_not_waited_out_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eviction that a budget holds up: each pod would take half a minute, however short the drain's own bound."""
    slept: list[float] = []
    monkeypatch.setattr("clusterkit.api.client.time.sleep", slept.append)
    connections = Busy()
    with pytest.raises(Changed) as refused:
        client(connections).call("create", "pods/eviction", "POST", "/eviction", {}, expected=(404, 429))
    assert (refused.value.status, connections.requests, slept) == (429, 1, [])
    with pytest.raises(NodeError, match="429"):
        client(connections).call("create", "jobs", "POST", "/jobs", {}, expected=(404,))
    assert slept == [10, 10, 10]


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (200, {"resources": [{"name": "validatingwebhookconfigurations"}, {"name": "validatingadmissionpolicies"}]}, None),
        (200, {"resources": [{"name": "validatingwebhookconfigurations"}]}, "cluster-too-old"),
        (404, {"message": "not found"}, "cluster-too-old"),
        (403, {"message": "forbidden: User x cannot get path"}, None),
        (500, {"message": "starting"}, "cluster-unreachable"),
    ],
)
def test_a_cluster_without_the_kind_of_the_guard_is_known_before_its_nodes_are_changed(
    status: int, answer: dict[str, Any], code: str | None
) -> None:
    class Discovering(Connections):
        def urlopen(self, method: str, address: str, **_: Any) -> urllib3.HTTPResponse:
            assert address == "https://192.0.2.9/apis/admissionregistration.k8s.io/v1"
            return urllib3.HTTPResponse(io.BytesIO(json.dumps(answer).encode()), status=status, preload_content=False)

    reader = object.__new__(Reader)
    reader.client = client(Discovering())
    if code is None:
        reader.require_policies()
        return
    with pytest.raises(NodeError) as caught:
        reader.require_policies()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (200, b"<html>Sign in</html>", "something else seems to answer there"),
        (302, b"", "something else seems to answer there"),
        (400, b"Client sent an HTTP request to an HTTPS server.", "something else seems to answer there"),
        (404, b"<html>nginx</html>", "something else seems to answer there"),
        (429, b"Too many requests, please try again later.", "Read the API server's log"),
        (503, b"no healthy upstream", "Read the API server's log"),
    ],
)
def test_what_is_no_api_server_is_not_looked_for_in_the_log_of_one(status: int, body: bytes, remedy: str) -> None:
    class Answering(Connections):
        def urlopen(self, *_: Any, **__: Any) -> urllib3.HTTPResponse:
            return urllib3.HTTPResponse(io.BytesIO(body), status=status, preload_content=False)

    with pytest.raises(NodeError) as caught:
        client(Answering()).listed("nodes", "/api/v1/nodes")
    assert caught.value.code == "cluster-unreachable" and remedy in caught.value.remedy
