"""Serves the plugin to the engine: requests in, resources worked on, messages and cancellation in between."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from plugins.command import resources, schema
from plugins.command.connections import look_up_many, try_each_address
from plugins.command.diff import diff
from plugins.command.errors import CommandError
from plugins.command.wire import Properties, marshal, unmarshal

VERSION = "1.2.1"
"""The version of the official plugin that this one stands in for."""

NOTICE = (
    f"kata-nodes' own command plugin stands in for the official pulumi-command {VERSION}; "
    "plugins/command/README.md lists what it leaves out"
)

# The SDK's own bound: properties can be large.
_OPTIONS = [("grpc.max_receive_message_length", 400 << 20), ("grpc.max_send_message_length", 400 << 20)]

_PARENT_SECONDS = 1.0

_KINDS = {
    "add": (provider_pb2.PropertyDiff.ADD, provider_pb2.PropertyDiff.ADD_REPLACE),
    "delete": (provider_pb2.PropertyDiff.DELETE, provider_pb2.PropertyDiff.DELETE_REPLACE),
    "update": (provider_pb2.PropertyDiff.UPDATE, provider_pb2.PropertyDiff.UPDATE_REPLACE),
}

T = TypeVar("T")


class Context(Protocol):
    """The parts of a gRPC request that are used here."""

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Answers the request with an error."""


class EngineLog:
    """Messages to the engine about one resource."""

    def __init__(self, engine: engine_pb2_grpc.EngineStub, urn: str) -> None:
        self._engine = engine
        self._urn = urn

    async def status(self, message: str) -> None:
        """Shown beside the resource while it is worked on."""
        await self._log(engine_pb2.INFO, message, ephemeral=True)

    async def info(self, message: str) -> None:
        """Shown, and kept in the summary."""
        await self._log(engine_pb2.INFO, message)

    async def warning(self, message: str) -> None:
        """Shown, and kept in the summary as a warning."""
        await self._log(engine_pb2.WARNING, message)

    async def _log(self, severity: "engine_pb2.LogSeverity.ValueType", message: str, ephemeral: bool = False) -> None:
        # A message that cannot be delivered must not fail the command it is about.
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = engine_pb2.LogRequest(severity=severity, message=message, urn=self._urn, ephemeral=ephemeral)
            sent: Any = self._engine.Log(request)  # the stub's type is that of the synchronous client
            await sent


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The requests of pulumi/proto/provider.proto that the engine makes of a resource plugin."""

    def __init__(self, engine: engine_pb2_grpc.EngineStub) -> None:
        self._engine = engine
        self._resources = resources.Resources()
        self._running: set[asyncio.Task[Any]] = set()
        self._cancelled = False
        self._announced = False

    async def GetPluginInfo(self, request: empty_pb2.Empty, context: Context) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=VERSION)

    async def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: Context) -> provider_pb2.GetSchemaResponse:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "this stand-in for the official command plugin has no schema, which YAML programs and `pulumi package` need: "
            "install the official plugin",
        )

    async def CheckConfig(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    async def DiffConfig(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    async def Configure(self, request: provider_pb2.ConfigureRequest, context: Context) -> provider_pb2.ConfigureResponse:
        if not self._announced:
            self._announced = True
            await EngineLog(self._engine, "").info(NOTICE)
        return provider_pb2.ConfigureResponse(acceptSecrets=True, acceptResources=True, supportsPreview=True)

    async def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        kind = await _kind(request.urn, context)
        inputs, failures = schema.check(kind, unmarshal(request.news))
        return provider_pb2.CheckResponse(
            inputs=marshal(inputs),
            failures=[provider_pb2.CheckFailure(property=f.path, reason=f.reason) for f in failures],
        )

    async def Diff(self, request: provider_pb2.DiffRequest, context: Context) -> provider_pb2.DiffResponse:
        changes = diff(unmarshal(request.old_inputs), unmarshal(request.news))
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=[path for path, change in changes.items() if change.replaces],
            diffs=list(changes),
            detailedDiff={
                path: provider_pb2.PropertyDiff(kind=_KINDS[change.kind][change.replaces], inputDiff=True)
                for path, change in changes.items()
            },
            hasDetailedDiff=True,
        )

    async def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        kind = await _kind(request.urn, context)
        inputs = unmarshal(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=marshal(resources.preview_create(kind, inputs)))
        name = request.urn.split("::", 3)[3]
        log = EngineLog(self._engine, request.urn)
        identifier, outputs = await self._operate(self._resources.create(kind, name, inputs, log), request.timeout, context)
        return provider_pb2.CreateResponse(id=identifier, properties=marshal(outputs))

    async def Read(self, request: provider_pb2.ReadRequest, context: Context) -> provider_pb2.ReadResponse:
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    async def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        kind = await _kind(request.urn, context)
        state, inputs = unmarshal(request.olds), unmarshal(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=marshal(resources.preview_update(kind, state, inputs)))
        log = EngineLog(self._engine, request.urn)
        outputs: Properties = await self._operate(self._resources.update(kind, state, inputs, log), request.timeout, context)
        return provider_pb2.UpdateResponse(properties=marshal(outputs))

    async def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> empty_pb2.Empty:
        kind = await _kind(request.urn, context)
        log = EngineLog(self._engine, request.urn)
        await self._operate(self._resources.delete(kind, unmarshal(request.properties), log), request.timeout, context)
        return empty_pb2.Empty()

    async def Invoke(self, request: provider_pb2.InvokeRequest, context: Context) -> provider_pb2.InvokeResponse:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{request.tok} is not part of this stand-in for the official command plugin: use command:local:Command, "
            "or install the official plugin",
        )

    async def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        self._cancelled = True
        for task in self._running:
            task.cancel()
        return empty_pb2.Empty()

    async def close(self) -> None:
        """Ends what runs, waits for its end, and drops the connections."""
        self._cancelled = True
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._resources.pool is not None:
            self._resources.pool.close()

    async def _operate(self, work: Coroutine[Any, Any, T], timeout: float, context: Context) -> T:
        """The result of the work, ended when it is cancelled or has taken `timeout` seconds (0: no bound)."""
        task = asyncio.create_task(work)
        self._running.add(task)
        if self._cancelled:
            task.cancel()
        try:
            await asyncio.wait({task}, timeout=timeout or None)
            late = not task.done()
            if late:
                task.cancel()
                await asyncio.wait({task})
        except asyncio.CancelledError:
            # The engine has given the request up.
            task.cancel()
            await asyncio.wait({task})
            raise
        finally:
            self._running.discard(task)
        try:
            return task.result()
        except asyncio.CancelledError:
            if late:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"ended because it took longer than the {timeout:g} s that the resource's customTimeouts allow",
                )
            await context.abort(grpc.StatusCode.CANCELLED, "ended because the update was cancelled")
        except CommandError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))


async def _kind(urn: str, context: Context) -> str:
    kind = urn.split("::")[2].rpartition("$")[2]
    if kind not in schema.RESOURCES:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{kind} is not part of this stand-in for the official command plugin, which has "
            f"{', '.join(schema.RESOURCES)}: use one of them, or install the official plugin",
        )
    return kind


async def serve(engine_address: str) -> None:
    """Serves until the engine ends the plugin, or is gone itself."""
    look_up_many()
    try_each_address()
    parent = os.getppid()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with grpc.aio.insecure_channel(engine_address, options=_OPTIONS) as channel:
        servicer = Servicer(engine_pb2_grpc.EngineStub(channel))
        server = grpc.aio.server(options=_OPTIONS)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        while not ended.is_set() and os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _PARENT_SECONDS)
        await servicer.close()
        await server.stop(grace=1)


def main(arguments: list[str]) -> int:
    """Runs the plugin; the first argument that is not an option is the engine's address."""
    addresses = [argument for argument in arguments if not argument.startswith("-")]
    if not addresses:
        print("usage: main.py ENGINE_ADDRESS (the engine starts this plugin itself)", file=sys.stderr)
        return 2
    asyncio.run(serve(addresses[0]))
    return 0
