"""The client of API servers. Lost if these fail: what a cluster with slow webhooks does is given up, and begun again for ever."""

import io
from types import SimpleNamespace
from typing import Any, cast

import urllib3

from clusterkit.api.client import PERSON, Client


class Connections:
    """Stands for the server's connections, and keeps how long each request would be waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def urlopen(self, method: str, address: str, *, timeout: urllib3.Timeout, **_: Any) -> urllib3.HTTPResponse:
        bounds = timeout.clone()
        bounds.start_connect()
        self.seconds[method] = float(cast(float, bounds.read_timeout))
        return urllib3.HTTPResponse(io.BytesIO(b'{"metadata": {}}'), status=200, preload_content=False)


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
