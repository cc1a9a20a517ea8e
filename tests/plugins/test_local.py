"""A local command must behave like the official one, and leave no process behind when it is cancelled."""

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from plugins.command import local
from plugins.command.errors import CommandError
from plugins.command.output import Output

pytestmark = pytest.mark.slow


async def _ignore(_: str) -> None:
    pass


def run(command: str, interpreter: list[str] | None = None, folder: str | None = None, stdin: str = "") -> Output:
    output = Output("none", _ignore)
    asyncio.run(local.run(command, interpreter or [], folder, stdin, {"GREETING": "hi"}, output))
    return output


def test_streams_environment_stdin_and_folder(tmp_path: Path) -> None:
    output = run('cat; echo "$GREETING $PWD"; echo oops >&2', folder=str(tmp_path), stdin="given\n")
    assert output.text("stdout") == f"given\nhi {tmp_path}"
    assert output.text("stderr") == "oops"


def test_interpreter() -> None:
    assert run("print(6 * 7)", ["python3", "-c"]).text("stdout") == "42"


def test_stdin_that_is_not_read_is_no_failure() -> None:
    assert run("exec <&-; echo done", stdin="x" * 1_000_000).text("stdout") == "done"


@pytest.mark.parametrize(
    ("command", "reason"),
    [("echo a; echo b >&2; exit 3", "exit status 3"), ("kill -9 $$", "signal: killed")],
)
def test_failure(command: str, reason: str) -> None:
    with pytest.raises(CommandError) as error:
        run(command)
    assert str(error.value).startswith(f'{reason}: running "{command}":\n')
    assert ("a\n" in str(error.value) and "b\n" in str(error.value)) or "kill" in command


def test_what_cannot_start_is_named() -> None:
    with pytest.raises(CommandError, match="cannot start '/nowhere/sh' in "):
        run("true", ["/nowhere/sh"])
    with pytest.raises(CommandError, match="in '/nowhere'"):
        run("true", folder="/nowhere")


def test_too_much_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.command.output.STREAM_LIMIT", 100_000)
    with pytest.raises(CommandError, match="more than 100000 bytes on stdout"):
        run("yes")


def test_cancelled_ends_the_whole_group(tmp_path: Path) -> None:
    async def cancel() -> None:
        command = f"trap '' TERM; sleep 300 & echo $! > {tmp_path}/child; wait"
        task = asyncio.create_task(local.run(command, [], None, "", {}, Output(None, _ignore)))
        while not task.done() and not printed(tmp_path / "child"):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(cancel())
    assert is_gone(int((tmp_path / "child").read_text()))


@pytest.mark.timeout(60)
def test_cancelled_while_it_starts_ends_the_whole_group_too(tmp_path: Path) -> None:
    async def cancel() -> None:
        command = f"trap '' TERM; sleep 300 & echo $! > {tmp_path}/child; wait"
        task = asyncio.create_task(local.run(command, [], None, "", {}, Output(None, _ignore)))
        for _ in range(2):  # the task begins, and then what starts the process
            await asyncio.sleep(0)
        while not printed(tmp_path / "child"):
            time.sleep(0.02)  # the loop does not get to know that the process runs
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    asyncio.run(cancel())
    assert is_gone(int((tmp_path / "child").read_text()))


def test_what_left_the_group_and_prints_on_takes_no_memory(tmp_path: Path) -> None:
    async def cancel() -> float:
        command = f"setsid sh -c 'echo $$ > {tmp_path}/child; exec yes' & wait"
        before = open_files()
        task = asyncio.create_task(local.run(command, [], None, "", {}, Output(None, _ignore)))
        while not task.done() and not printed(tmp_path / "child"):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        begin = time.monotonic()
        await asyncio.gather(task, return_exceptions=True)
        seconds = time.monotonic() - begin
        await asyncio.sleep(0.2)
        after = open_files()
        with contextlib.suppress(ProcessLookupError):  # it ends by itself once nobody reads its pipe
            os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
        assert after == before  # its pipes are closed on this side
        return seconds

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert asyncio.run(cancel()) < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def printed(path: Path) -> bool:
    """Whether something was written to the file."""
    return path.exists() and bool(path.read_text().strip())


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def is_gone(pid: int) -> bool:
    """Whether the process ends within five seconds; one that waits only to be collected has ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
