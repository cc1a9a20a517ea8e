"""Answers liveness probes."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 32
"""Open connections at most, each of which has a thread: every pod of the cluster may make some, and need not send anything."""


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
    request_queue_size = 128

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.connections: dict[socket.socket, None] = {}
        """Those that are open, the oldest first."""
        self.changing = threading.Lock()
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A new connection, in place of the oldest where there are too many: a probe is answered before it can be that."""
        with self.changing:
            if len(self.connections) >= CONNECTIONS:
                oldest = next(iter(self.connections))
                del self.connections[oldest]
                with suppress(OSError):  # its thread then finds it at its end, and closes it
                    oldest.shutdown(socket.SHUT_RDWR)
            self.connections[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """When a connection has been answered, or given up."""
        with self.changing:
            self.connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: anyone who can connect could fill the log with it."""

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
