"""Limit what an API server can make this program read: answers, refusals and all, whichever call asks."""

import io
from typing import Any

import urllib3
from kubernetes import client

from nodekit.errors import NodeError

MAX_ANSWER = 128 << 20
"""Bytes of one answer: the nodes of the largest cluster that Kubernetes supports, 5000 of some 20 KiB, have 100 MiB."""
PIECE = 64 << 10
"""Bytes that are read at once."""


def limited(api: client.ApiClient) -> client.ApiClient:
    """The client, whose requests raise NodeError `cluster-unreachable` for an answer of more than `MAX_ANSWER` bytes.

    The kubernetes library reads the body of a refusal to its end whatever it is told, so the limit lies below it.
    """
    pool = api.rest_client.pool_manager
    ask = pool.request

    def request(method: str, url: str, **options: Any) -> urllib3.HTTPResponse:
        answer = ask(method, url, **{**options, "preload_content": False})
        body = bytearray()
        try:
            while piece := answer.read(PIECE):
                body += piece
                if len(body) > MAX_ANSWER:
                    raise NodeError(
                        "cluster-unreachable",
                        f"the API server {api.configuration.host} answered more than {MAX_ANSWER >> 20} MiB",
                        "long",
                    )
        finally:
            answer.close()  # a connection whose answer was read to the end is back in the pool by now
        # A file, because a response that is made of no bytes has no data.
        whole = io.BytesIO(body)
        return urllib3.HTTPResponse(whole, answer.headers, answer.status, reason=answer.reason, decode_content=False)

    pool.request = request  # type: ignore[method-assign, assignment]
    return api
