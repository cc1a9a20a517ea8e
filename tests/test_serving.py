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

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.let_go, self.reached = threading.Event(), threading.Event()

    def process_request(self, request: object, client_address: object) -> None:
        self.reached.set()
        self.let_go.wait()


class Late(socketserver.TCPServer):
    """Finds no connection when it accepts one, as when a client has gone since the poll."""

    def get_request(self) -> tuple[socket.socket, object]:
        self.socket.accept()[0].close()
        return super().get_request()


@pytest.fixture
def held() -> Iterator[Held]:
    server = Held()
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


def test_connection_that_has_gone_before_it_is_accepted_does_not_hold_the_server(recwarn: pytest.WarningsRecorder) -> None:
    with serving.running(Late(("127.0.0.1", 0), Echo)) as server:  # noqa: SIM117
        with socket.create_connection(server.socket.getsockname(), timeout=5) as client:
            assert client.recv(10) == b""
    assert not [each for each in recwarn if each.category is UserWarning]
