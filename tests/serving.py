"""A server of a test, on loopback for as long as the test needs it."""

import socketserver
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Server = TypeVar("Server", bound=socketserver.TCPServer)
END_SECONDS = 20.0


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Answer in a thread of its own; at the end, which `serve_forever` would notice after half a second, free the port.

    A server that does not end is left behind, with a warning that says where it stands: the test itself has passed.
    """
    # A connection that has gone between poll and accept must not hold the server.
    server.socket.setblocking(False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        # `shutdown` waits without a bound, so it has a thread of its own.
        threading.Thread(target=server.shutdown, daemon=True).start()
        thread.join(END_SECONDS)
        frame = sys._current_frames().get(thread.ident or 0) if thread.is_alive() else None
        if frame is not None:
            stack = "".join(traceback.format_stack(frame))
            warnings.warn(f"{server} did not end within {END_SECONDS:g} s; it stands at\n{stack}", stacklevel=3)
        server.server_close()
