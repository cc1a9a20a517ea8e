"""Limit what an API server can make this program read: answers, refusals and all, whichever call asks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import urllib3

from nodekit.errors import NodeError
from nodekit.rules.text import public

if TYPE_CHECKING:
    from kubernetes import client

MAX_ANSWER = 128 << 20
"""Bytes of one answer: the nodes of the largest cluster that Kubernetes supports, 5000 of some 20 KiB, have 100 MiB."""
MAX_LINE = 16 << 20
"""Bytes of one change that a watch reports: an object in etcd has 1.5 MiB at most, and some more as JSON."""
PIECE = 64 << 10
"""Bytes that are read at once."""


def whole(api: "client.ApiClient", answer: urllib3.BaseHTTPResponse) -> bytes:
    """The whole body; NodeError `cluster-unreachable` for one of more than `MAX_ANSWER` bytes.

    At its end the connection is free for the next request. The kubernetes library reads a refusal's body however long it is.
    """
    body = answer.read(MAX_ANSWER + 1)
    if len(body) > MAX_ANSWER:
        answer.close()
        raise too_long(api, "answered", MAX_ANSWER)
    return body


def lines(api: "client.ApiClient", answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Lines of a watch as they come; NodeError for one of more than `MAX_LINE` bytes."""
    rest = bytearray()
    try:
        for piece in answer.stream(PIECE):
            begin = len(rest)
            rest += piece
            if (end := rest.rfind(b"\n", begin)) >= 0:
                yield from bytes(rest[:end]).split(b"\n")
                del rest[: end + 1]
            if len(rest) > MAX_LINE:
                raise too_long(api, "sent a change of", MAX_LINE)
    finally:
        answer.close()


def too_long(api: "client.ApiClient", action: str, limit: int) -> NodeError:
    """The error for a server that sends more than anybody needs."""
    return NodeError(
        "cluster-unreachable",
        f"the API server {public(api.configuration.host)} {action} more than {limit >> 20} MiB",
        "long",
    )
