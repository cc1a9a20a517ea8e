"""Run a program and keep what it prints, bounded in time and in bytes whatever the program does."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PIECE = 64 << 10
"""Bytes that are read or written at once; a pipe of Linux holds as many (pipe(7))."""
KILL_SECONDS = 10.0
"""Bound on the wait for a killed program; only one that hangs inside the kernel takes longer."""


class Captured(NamedTuple):
    """What a program printed, and why reading it ended."""

    code: int
    """Exit code; negative for the signal that ended it, also when that was ours."""
    stdout: bytes
    stderr: bytes
    timed_out: bool
    """Whether it was killed because its time was over."""
    too_long: bool
    """Whether it was killed because one of its streams went over the limit."""


def capture(
    argv: Sequence[str],
    *,
    timeout: float,
    limit: int,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    until: bytes | None = None,
    discard: bool = False,
) -> Captured:
    """Run `argv` until it ends, `timeout` seconds are over, or a stream is longer than `limit` bytes; it is gone on return.

    With `until` it is also ended once its standard output holds that text. With `discard` a stream that is longer than
    `limit` ends nothing: the first and the last half of that many bytes are kept, a line each side of the cut. Only the program
    itself is killed; what it has started gets a closed pipe, and is not waited for. Raises OSError when `argv` cannot be
    started.
    """
    deadline = time.monotonic() + timeout
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=None if env is None else dict(env),
        cwd=cwd,
        pass_fds=tuple(pass_fds),
    )
    reading = _Reading(process, limit, stdin, until, discard)
    try:
        end = reading.follow(deadline)
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_SECONDS)
    code = -signal.SIGKILL if process.returncode is None else process.returncode
    return Captured(code, bytes(reading.out), bytes(reading.err), end == "time", end == "length")


class _Reading:
    """The streams of a running program."""

    def __init__(self, process: "subprocess.Popen[bytes]", limit: int, stdin: bytes, until: bytes | None, discard: bool) -> None:
        self.process, self.limit, self.until, self.discard = process, limit, until, discard
        self.left = memoryview(stdin)
        self.out, self.err = bytearray(), bytearray()

    def follow(self, deadline: float) -> str:
        """Feed and read until there is a reason to stop: `ended`, `time`, `length` or `seen`."""
        assert self.process.stdout is not None and self.process.stderr is not None
        kept = {self.process.stdout.fileno(): self.out, self.process.stderr.fileno(): self.err}
        with selectors.DefaultSelector() as selector:
            for descriptor in kept:
                selector.register(descriptor, selectors.EVENT_READ)
            if self.process.stdin is not None:
                os.set_blocking(self.process.stdin.fileno(), False)
                selector.register(self.process.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                seconds = deadline - time.monotonic()
                if seconds <= 0:
                    return "time"
                for key, _ in selector.select(seconds):
                    if key.fileobj is self.process.stdin:
                        if self._fed():
                            selector.unregister(key.fileobj)
                            self.process.stdin.close()
                    elif not (data := os.read(key.fd, PIECE)):
                        selector.unregister(key.fd)
                    elif reason := self._kept(kept[key.fd], data):
                        return reason
        try:  # a program can close its streams and go on
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "time"
        return "ended"

    def _fed(self) -> bool:
        """Give the program some of its input; true when it has all of it, or reads no further."""
        assert self.process.stdin is not None
        try:
            self.left = self.left[os.write(self.process.stdin.fileno(), self.left[:PIECE]) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            return True
        return not self.left

    def _kept(self, text: bytearray, data: bytes) -> str | None:
        """Keep what was read; the reason to stop, if that gives one."""
        before, excess = len(text), len(text) + len(data) - self.limit
        text += data if self.discard else data[: self.limit - before]
        is_seen = self.until is not None and text is self.out and text.find(self.until, max(0, before - len(self.until))) >= 0
        if excess > 0 and self.discard:
            half = self.limit // 2
            text[half - 1 : half + excess] = b"\n"  # so that no line is made of two
        if is_seen:
            return "seen"
        return "length" if excess > 0 and not self.discard else None
