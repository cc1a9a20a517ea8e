"""The server of a test ends when the test does.

Lost if these fail: one connection holds a whole run of the tests until its time is up.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests import serving


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.readline())


class Held(socketserver.TCPServer):
    """Holds its only thread, from the first connection on."""

    let_go = threading.Event()
    reached = threading.Event()

    def process_request(self, request: object, client_address: object) -> None:
        self.reached.set()
        self.let_go.wait()


@pytest.fixture
def held() -> Iterator[Held]:
    server = Held(("127.0.0.1", 0), Echo)
    yield server
    server.let_go.set()


def test_server_answers_and_frees_its_port() -> None:
    with serving.running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)) as server:
        address = server.socket.getsockname()
        with socket.create_connection(address, timeout=5) as client:
            client.sendall(b"one\n")
            assert client.recv(10) == b"one\n"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_server_that_does_not_end_is_left_behind_and_named(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "END_SECONDS", 0.1)
    with pytest.warns(UserWarning, match=r"(?s)did not end within 0\.1 s; it stands at.*in process_request"):  # noqa: SIM117
        with serving.running(held):
            with socket.create_connection(held.socket.getsockname(), timeout=5):
                assert held.reached.wait(5)
