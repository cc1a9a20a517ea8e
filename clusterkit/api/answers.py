"""Limit what an API server can make this program read: answers, refusals and all, whichever call asks."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3

from nodekit.errors import NodeError

if TYPE_CHECKING:
    from kubernetes import client

MAX_ANSWER = 128 << 20
"""Bytes of one answer: the nodes of the largest cluster that Kubernetes supports, 5000 of some 20 KiB, have 100 MiB."""
MAX_LINE = 16 << 20
"""Bytes of one change that a watch reports: an object in etcd has 1.5 MiB at most, and some more as JSON."""
PIECE = 64 << 10
"""Bytes that are read at once."""


def limited(api: "client.ApiClient") -> "client.ApiClient":
    """The client, whose requests raise NodeError `cluster-unreachable` for an answer of more than `MAX_ANSWER` bytes.

    The kubernetes library always reads the body of a refusal to its end, so the limit lies below it. A watch that the server
    grants has no end: its answer is passed on as it is, for `lines`.
    """
    pool = api.rest_client.pool_manager
    ask = pool.request

    def request(method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        answer = ask(method, url, **{**options, "preload_content": False})
        if answer.status == 200 and "watch=true" in urlsplit(url).query.lower().split("&"):
            return answer
        body = bytearray()
        try:
            while piece := answer.read(PIECE):
                body += piece
                if len(body) > MAX_ANSWER:
                    raise too_long(api, "answered", MAX_ANSWER)
        finally:
            answer.close()  # a connection whose answer was read to the end is back in the pool by now
        # A file, because a response that is made of no bytes has no data.
        whole = io.BytesIO(body)
        return urllib3.HTTPResponse(whole, answer.headers, answer.status, reason=answer.reason, decode_content=False)

    pool.request = request  # type: ignore[method-assign, assignment]
    return api


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
        f"the API server {api.configuration.host} {action} more than {limit >> 20} MiB",
        "long",
    )
