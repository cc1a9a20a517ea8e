"""Runs one command on a machine by SSH."""

import asyncio
import contextlib
import secrets
import signal

import asyncssh

from plugins.command.connections import SILENCE_SECONDS, Connection, Link, Pool, Status
from plugins.command.errors import CommandError
from plugins.command.output import Output

PACKET_LIMIT = 200 * 1024
"""Bytes of a command line or an environment value; sshd ends a connection on a packet over 256 KiB."""

_ENVIRONMENT_LIMIT = 1024 * 1024
"""Bytes of a login's environment that are read, to see which variables the server lets in."""

AGAIN = "; run `pulumi up` again when the machine answers"
"""What to do where a connection ended and nothing shows why."""

_TERM_SECONDS = 1.0
_CHUNK = 64 * 1024


async def run(
    pool: Pool,
    connection: Connection,
    command: str,
    stdin: str,
    environment: dict[str, str],
    optional_environment: dict[str, str],
    output: Output,
    status: Status,
    warn: Status,
) -> None:
    """Runs the command and gathers what it prints.

    `optional_environment` is set where the server allows it, else `warn` is called. Raises CommandError when the
    machine cannot be reached, refuses a variable of `environment`, or the command does not exit with 0.
    """
    if len(command.encode()) > PACKET_LIMIT:
        raise CommandError(
            f"the command has {len(command.encode())} bytes, SSH carries {PACKET_LIMIT}: pass the large part as stdin"
        )

    async def start(link: Link) -> "asyncssh.SSHClientProcess[bytes]":
        accepted = await _environment(link, connection, environment, optional_environment, warn)
        # The user's own settings can ask for a terminal (RequestTTY force), on which standard input comes back and has no end.
        return await link.ssh.create_process(command, env=accepted, encoding=None, request_pty=False)

    async with pool.session(connection, status, start) as process:
        await _attend(process, connection, command, stdin, output)


async def _attend(
    process: "asyncssh.SSHClientProcess[bytes]",
    connection: Connection,
    command: str,
    stdin: str,
    output: Output,
) -> None:
    """Feeds and reads the process until it ends; ends it when this operation is cancelled or fails."""
    lost = ""
    tasks = [
        asyncio.create_task(_read(process.stdout, "stdout", output)),
        asyncio.create_task(_read(process.stderr, "stderr", output)),
        asyncio.create_task(_write(process, stdin.encode())),
    ]
    try:
        await asyncio.gather(*tasks[:2])
        await process.wait_closed()
    except (OSError, asyncssh.Error) as error:
        lost = f": {error}{_remedy(connection, error)}"
        process.close()
    except BaseException:
        await _end(process)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await output.close()
    ended_by = process.exit_signal
    if process.exit_status is None or (ended_by is None and process.exit_status < 0):
        reason = f"the connection to {connection.login} ended while the command ran{lost or AGAIN}"
        raise output.error(reason, command)
    if ended_by is not None:
        name, _, text, _ = ended_by
        why = f". Reason was: {text}" if text else ""
        raise output.error(f"Process exited with status {_signal_status(name)} from signal {name}{why}", command)
    if process.exit_status != 0:
        raise output.error(f"Process exited with status {process.exit_status}", command)


def _remedy(connection: Connection, error: Exception) -> str:
    """What to do about a machine that is cut off, or fell silent."""
    if not isinstance(error, asyncssh.ConnectionLost) or "keepalive" not in str(error):
        return AGAIN
    remedy = "look at its console, restart it, and run `pulumi up` again"
    if connection.login.host in ("127.0.0.1", "::1", "localhost"):
        remedy = "run `make up` (`pulumi up`) again: a machine that this stack runs on this computer is started again then"
    return f" for {SILENCE_SECONDS} s: the machine hangs or is cut off; {remedy}"


async def _read(stream: "asyncssh.SSHReader[bytes]", name: str, output: Output) -> None:
    while data := await stream.read(_CHUNK):
        await output.feed(name, data)


async def _write(process: "asyncssh.SSHClientProcess[bytes]", data: bytes) -> None:
    # A command need not read its input.
    with contextlib.suppress(OSError, asyncssh.Error):
        for start in range(0, len(data), _CHUNK):
            process.stdin.write(data[start : start + _CHUNK])
            await process.stdin.drain()
        process.stdin.write_eof()


async def _end(process: "asyncssh.SSHClientProcess[bytes]") -> None:
    """Asks the server to end the process, then to kill it, and closes the session.

    OpenSSH passes no signal on to a process of root; such a command is left to end by itself.
    """
    for name in ("TERM", "KILL"):
        with contextlib.suppress(OSError, asyncssh.Error, TimeoutError):
            process.send_signal(name)
            await asyncio.wait_for(asyncio.shield(process.wait_closed()), _TERM_SECONDS)
            return
    process.close()


async def _environment(
    link: Link, connection: Connection, required: dict[str, str], optional: dict[str, str], warn: Status
) -> dict[str, str]:
    """The variables that can be set on this connection; raises CommandError when a required one cannot."""
    for name, value in required.items():
        if len(value.encode()) > PACKET_LIMIT:
            raise CommandError(f"environment.{name} has over {PACKET_LIMIT} bytes: pass it as stdin")
    variables = {**optional, **required}
    unknown = [name for name in variables if name not in link.accepted_environment]
    if unknown:
        link.accepted_environment.update(await _probe(link, unknown))
    advice = (
        f"{connection.login} does not accept the environment variable(s) %s: name them in AcceptEnv of its "
        "sshd_config, or put NAME=value before the command"
    )
    refused = [name for name in required if not link.accepted_environment[name]]
    if refused:
        raise CommandError(advice % ", ".join(refused))
    dropped = [
        name for name, value in optional.items() if not link.accepted_environment[name] or len(value.encode()) > PACKET_LIMIT // 2
    ]
    if dropped:
        await warn(advice % ", ".join(dropped) + ", or set addPreviousOutputInEnv to false")
    return {name: value for name, value in variables.items() if name not in dropped}


async def _probe(link: Link, names: list[str]) -> dict[str, bool]:
    """Which variables reach a command: asyncssh asks for no reply when it sets one, so a command is run to see them."""
    mark = secrets.token_hex(8)
    output = b""
    async with link.ssh.create_process("env", env=dict.fromkeys(names, mark), encoding=None, request_pty=False) as process:
        while len(output) <= _ENVIRONMENT_LIMIT and (data := await process.stdout.read(_CHUNK)):
            output += data
        process.close()
    seen = set(output.decode("utf-8", "replace").splitlines())
    return {name: f"{name}={mark}" in seen for name in names}


def _signal_status(name: str) -> int:
    """The status Go's SSH library gives a process that a signal ended: 128 and the signal's number."""
    number = getattr(signal, f"SIG{name}", None)
    return 128 + int(number) if number is not None else 128
