"""What creating, updating and deleting each resource does."""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from plugins.command import local
from plugins.command.diff import equal
from plugins.command.errors import CommandError, Unreachable
from plugins.command.output import Output
from plugins.command.schema import COPY_TO_REMOTE, REMOTE_COMMAND, RESOURCES
from plugins.command.wire import UNKNOWN, Properties, Value, plain

if TYPE_CHECKING:
    from plugins.command.connections import Connection, Pool

# Linux refuses a longer argument or variable (MAX_ARG_STRLEN).
_VARIABLE_LIMIT = 128 * 1024 - 64


class Log(Protocol):
    """Where the messages of one resource go."""

    async def status(self, message: str) -> None:
        """What happens right now."""

    async def warning(self, message: str) -> None:
        """Something the person should change."""


@dataclass
class Resources:
    """The operations; `pool` is made with the first connection, because loading the SSH library takes time."""

    pool: "Pool | None" = None

    async def create(self, kind: str, name: str, inputs: Properties, log: Log) -> tuple[str, Properties]:
        """Id and outputs of the new resource. Raises CommandError, and then there is no resource."""
        if kind == COPY_TO_REMOTE:
            await self._upload(inputs, log)
            return secrets.token_hex(4), inputs
        streams = await self._run(kind, inputs, inputs.get("create"), {"stdout": "", "stderr": ""}, log)
        return name + secrets.token_hex(4), {**inputs, **streams}

    async def update(self, kind: str, state: Properties, inputs: Properties, log: Log) -> Properties:
        """Outputs after the change; `create` runs again where there is no `update`."""
        if kind == COPY_TO_REMOTE:
            if any(not equal(plain(state.get(key)), plain(inputs.get(key))) for key in ("source", "remotePath")):
                await self._upload(inputs, log)
            return inputs
        command = inputs.get("update", inputs.get("create"))
        return {**inputs, **await self._run(kind, inputs, command, _streams(state), log)}

    async def delete(self, kind: str, state: Properties, log: Log) -> None:
        """Runs the `delete` command with the inputs that the state remembers; a copy stays where it is."""
        if kind == COPY_TO_REMOTE:
            return
        try:
            await self._run(kind, state, state.get("delete"), _streams(state), log)
        except Unreachable as error:
            raise CommandError(
                f"{error}. If the machine is gone for good, nothing can be undone on it: set the resource option retainOnDelete "
                "(a node of kata-nodes: `gone: true` beside its address), run `pulumi up`, then delete it"
            ) from error

    async def _upload(self, inputs: Properties, log: Log) -> None:
        # The SSH library takes half a second to load, which previews and local commands need not wait for.
        from plugins.command.upload import upload

        pool, connection = self._connection(inputs)
        await upload(pool, connection, plain(inputs["source"]), plain(inputs["remotePath"]), log.status)

    async def _run(self, kind: str, inputs: Properties, command: Value, streams: Properties, log: Log) -> Properties:
        """Runs the command if there is one; the new `stdout` and `stderr`, or those before."""
        if plain(command) is None:
            return streams
        settings = plain(inputs)
        output = Output(settings.get("logging"), log.status)
        environment: dict[str, str] = settings.get("environment") or {}
        previous: dict[str, str] = {}
        if settings.get("addPreviousOutputInEnv") is not False:
            before = {f"PULUMI_COMMAND_{key.upper()}": plain(text) for key, text in streams.items() if plain(text)}
            previous = {key: text for key, text in before.items() if key not in environment}
        if kind == REMOTE_COMMAND:
            from plugins.command import remote

            pool, connection = self._connection(inputs)
            await remote.run(
                pool,
                connection,
                plain(command),
                settings.get("stdin") or "",
                environment,
                previous,
                output,
                log.status,
                log.warning,
            )
        else:
            for key in [key for key, text in previous.items() if len(text.encode()) > _VARIABLE_LIMIT]:
                del previous[key]
                await log.warning(f"{key} is too long for the environment; set addPreviousOutputInEnv to false")
            await local.run(
                plain(command),
                settings.get("interpreter") or [],
                settings.get("dir"),
                settings.get("stdin") or "",
                {**environment, **previous},
                output,
            )
        return {"stdout": output.text("stdout"), "stderr": output.text("stderr")}

    def _connection(self, properties: Properties) -> "tuple[Pool, Connection]":
        from plugins.command.connections import Connection, Pool

        self.pool = self.pool or Pool()
        fields: Any = plain(properties.get("connection"))
        if not isinstance(fields, dict):
            raise CommandError(
                "the state has no connection to delete with: remove what the command made by hand, then take the "
                "resource out of the state with `pulumi state delete`"
            )
        return self.pool, Connection.parse(fields)


def preview_create(kind: str, inputs: Properties) -> Properties:
    """Outputs as far as they are known before the command has run."""
    return inputs if kind == COPY_TO_REMOTE else {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}


def preview_update(kind: str, state: Properties, inputs: Properties) -> Properties:
    """Outputs as far as they are known before the command has run again."""
    changed = any(not equal(state.get(key), inputs.get(key)) for key in RESOURCES[kind])
    if changed or kind == COPY_TO_REMOTE:
        return preview_create(kind, inputs)
    return {**inputs, **_streams(state)}


def _streams(state: Properties) -> Properties:
    return {key: state.get(key) if plain(state.get(key)) is not None else "" for key in ("stdout", "stderr")}
