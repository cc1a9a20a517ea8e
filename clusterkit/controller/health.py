"""Answers liveness probes."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import urlsplit


def serve(address: str, alive: Callable[[], bool]) -> None:
    """Answer requests for the path of `address`, an http URL, for as long as the process lives: 200 while `alive` says so."""
    where = urlsplit(address)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Status 200, 503 or 404, and no body."""
            self.send_response((200 if alive() else 503) if self.path == where.path else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: a probe comes every few seconds."""

    served = listening(where.hostname or "", where.port or 80, Handler)
    threading.Thread(target=served.serve_forever, name="health", daemon=True).start()


class Server(ThreadingHTTPServer):
    """One that takes connections of both families on an address of IPv6, and looks up no name of its own, which DNS may delay."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Before it listens."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


def listening(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> Server:
    """A server on an address; on :: of both families, since a pod has addresses of IPv6 alone in some clusters, and of IPv4 where
    the node knows no IPv6."""
    try:
        return Server(host, port, handler)
    except OSError:
        if host != "::":
            raise
    return Server("", port, handler)
