"""The controller's answer to a kubelet's probes. Lost if these fail: a controller that is restarted for ever, for no fault."""

import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from clusterkit import joining_workload
from clusterkit.api import client
from clusterkit.controller import health
from local import process


def status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as attempt:
            attempt.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_kubelet_waits_until_the_controller_says_why_it_cannot_read_the_cluster() -> None:
    """It does not answer before: where a network policy drops its packets, it was ended after 40 s, without a line in its log."""
    container = joining_workload.deployment("image", "account", "settings")["template"]["spec"]["containers"][0]  # type: ignore[index]
    startup = container["startupProbe"]
    assert startup["httpGet"] == container["livenessProbe"]["httpGet"]
    tries = int(client.RETRIES.total or 0) + 1
    assert startup["periodSeconds"] * startup["failureThreshold"] > 2 * tries * client.REQUEST_SECONDS


def test_probes_reach_it_by_the_pod_s_address_of_either_family() -> None:
    container = joining_workload.deployment("image", "account", "settings")["template"]["spec"]["containers"][0]  # type: ignore[index]
    port = process.free_port()
    address = container["args"][1].replace(str(joining_workload.HEALTH_PORT), str(port))
    healthy = [True]
    health.serve(address, lambda: healthy[0])
    for host in ("127.0.0.1", "[::1]") if has_ipv6() else ("127.0.0.1",):
        assert status(f"http://{host}:{port}/healthz") == 200 and status(f"http://{host}:{port}/") == 404
    healthy.clear()
    healthy.append(False)
    assert status(f"http://127.0.0.1:{port}/healthz") == 503


def test_a_node_without_ipv6_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket.__init__

    def refuse(self: socket.socket, family: int = -1, *args: int, **options: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        original(self, family, *args, **options)

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    port = process.free_port()
    health.serve(f"http://[::]:{port}/healthz", lambda: True)
    assert status(f"http://127.0.0.1:{port}/healthz") == 200


def test_connections_that_say_nothing_neither_fill_memory_nor_keep_a_probe_waiting() -> None:
    """Every pod of the cluster may open some, and keep each with a byte now and then."""
    port, before = process.free_port(), threading.active_count()
    health.serve(f"http://127.0.0.1:{port}/healthz", lambda: True)
    silent = []
    try:
        for _ in range(4 * health.CONNECTIONS):
            silent.append(socket.create_connection(("127.0.0.1", port), timeout=10))
            silent[-1].send(b"G")
        assert status(f"http://127.0.0.1:{port}/healthz") == 200
        end = time.monotonic() + 5
        while threading.active_count() > before + 1 + health.CONNECTIONS:
            assert time.monotonic() < end, "each connection keeps its thread"
            time.sleep(0.05)
    finally:
        for connection in silent:
            connection.close()
