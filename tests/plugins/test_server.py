"""What the plugin leaves out of the official one is refused with what to do instead, and the engine can tell that from a failure.

Lost if these fail: a person reads `Method not implemented!` and does not know of what.
"""

import asyncio
from typing import Any, NoReturn

import grpc
import pytest
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2

from plugins.command.server import Servicer


class Refused(Exception):
    """Ends a request."""


class _Context:
    """Of a request that is answered with an error."""

    def __init__(self) -> None:
        self.answer: tuple[grpc.StatusCode, str] | None = None

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        self.answer = code, details
        raise Refused


URN = "urn:pulumi:s::p::command:remote:CopyFile::n"


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetSchema", provider_pb2.GetSchemaRequest()),
        ("Invoke", provider_pb2.InvokeRequest(tok="command:local:run")),
        ("Check", provider_pb2.CheckRequest(urn=URN)),
        ("Create", provider_pb2.CreateRequest(urn=URN)),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_left_out_is_refused_with_the_way_to_have_it(method: str, request_: Any) -> None:
    context = _Context()
    engine: engine_pb2_grpc.EngineStub = engine_pb2_grpc.EngineStub(grpc.insecure_channel("127.0.0.1:1"))
    with pytest.raises(Refused):
        asyncio.run(getattr(Servicer(engine), method)(request_, context))
    assert context.answer is not None
    code, details = context.answer
    assert code is grpc.StatusCode.UNIMPLEMENTED and details.endswith("install the official plugin")
