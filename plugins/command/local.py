"""Runs one command on the machine of the engine."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from plugins.command.output import Output

_TERM_SECONDS = 2.0  # the engine kills a plugin 5 s after asking it to end
_CHUNK = 64 * 1024


async def run(
    command: str,
    interpreter: list[str],
    folder: str | None,
    stdin: str,
    environment: dict[str, str],
    output: Output,
) -> None:
    """Runs the command in a process group of its own and gathers what it prints.

    Raises CommandError when it cannot be started or does not exit with 0. Cancelled, it ends the whole group.
    """
    arguments = [*(interpreter or ["/bin/sh", "-c"]), command]
    loop = asyncio.get_running_loop()
    # As asyncio.create_subprocess_exec does, which keeps the transport to itself.
    starting = asyncio.ensure_future(
        loop.subprocess_exec(
            lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=_CHUNK, loop=loop),
            *arguments,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait([starting])
    except asyncio.CancelledError as error:
        # Cancelled in there, asyncio would kill the first process alone, and wait for what that has started.
        cancelled = error
        await asyncio.wait([starting])
    try:
        transport, protocol = starting.result()
    except (OSError, ValueError) as error:
        raise output.error(f"cannot start {arguments[0]!r} in {folder or str(Path.cwd())!r}: {error}", command) from error
    process = asyncio.subprocess.Process(transport, protocol, loop)
    tasks = [
        asyncio.create_task(_read(process.stdout, "stdout", output)),
        asyncio.create_task(_read(process.stderr, "stderr", output)),
        asyncio.create_task(_write(process.stdin, stdin.encode())),
    ]
    try:
        if cancelled is not None:
            raise cancelled
        await asyncio.gather(*tasks)
        await process.wait()
    except BaseException:
        await _end(process, tasks)
        raise
    finally:
        # What left the group may hold the other ends of its pipes for as long as it likes.
        transport.close()
        await output.close()
    status = process.returncode
    if status is not None and status < 0:
        raise output.error(f"signal: {(signal.strsignal(-status) or str(-status)).lower()}", command)
    if status != 0:
        raise output.error(f"exit status {status}", command)


async def _read(stream: asyncio.StreamReader | None, name: str, output: Output) -> None:
    while stream is not None and (data := await stream.read(_CHUNK)):
        await output.feed(name, data)


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    # A command need not read its input.
    with contextlib.suppress(OSError):
        stream.write(data)
        await stream.drain()
    stream.close()


async def _end(process: asyncio.subprocess.Process, tasks: list[asyncio.Task[None]]) -> None:
    """Ends the process and all it started: asked first, then killed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        os.killpg(process.pid, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), _TERM_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        # Unread output would keep the pipes open. It is dropped, since a process that left the group may go on printing.
        await asyncio.wait_for(asyncio.gather(*map(_drain, (process.stdout, process.stderr)), process.wait()), _TERM_SECONDS)


async def _drain(stream: asyncio.StreamReader | None) -> None:
    while stream is not None and await stream.read(_CHUNK):
        pass
