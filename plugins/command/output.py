"""Gathers what a command prints: for its outputs, for its error, and line by line for the person who waits."""

import re
from collections import deque
from collections.abc import Awaitable, Callable

from nodekit.rules.text import harmless
from plugins.command.errors import CommandError

STREAM_LIMIT = 64 * 1024 * 1024
"""Bytes that a command may print on one stream; they become part of the stack's state."""

ERROR_LIMIT = 256 * 1024
"""Bytes of output that an error repeats: the last ones."""

LINE_LIMIT = 8 * 1024
"""Bytes after which a line without an end is shown in pieces."""

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Output:
    """The output of one running command."""

    def __init__(self, logging: str | None, show: Callable[[str], Awaitable[None]], limit: int | None = None) -> None:
        """`logging` is the resource's input of that name, None for its default; `show` takes one clean line.

        `limit` bounds an output that becomes no part of a state, in bytes.
        """
        self._limit = limit
        self._logged = {"stdout", "stderr"} if logging in (None, "stdoutAndStderr") else {logging}
        self._show = show
        self._streams = {"stdout": bytearray(), "stderr": bytearray()}
        self._partial = {"stdout": b"", "stderr": b""}
        self._recent: deque[bytes] = deque()
        self._recent_size = 0
        self._left_out = 0

    async def feed(self, stream: str, data: bytes) -> None:
        """Takes the next bytes of `stdout` or `stderr`.

        Raises CommandError when the stream has grown over its limit, without one over `STREAM_LIMIT`.
        """
        self._streams[stream] += data
        self._remember(data)
        if stream in self._logged:
            *lines, rest = (self._partial[stream] + data).split(b"\n")
            while len(rest) > LINE_LIMIT:
                lines.append(rest[:LINE_LIMIT])
                rest = rest[LINE_LIMIT:]
            self._partial[stream] = rest
            for line in lines:
                await self._show_line(line)
        if self._limit is not None and len(self._streams[stream]) > self._limit:
            raise CommandError(f"the node printed more than {self._limit} bytes on {stream}, and was not listened to any longer")
        if len(self._streams[stream]) > STREAM_LIMIT:
            raise CommandError(
                f"the command printed more than {STREAM_LIMIT} bytes on {stream}, which would all go into the "
                "stack's state: send the output to a file"
            )

    async def close(self) -> None:
        """Shows last lines that have no end."""
        for stream, rest in self._partial.items():
            if rest:
                self._partial[stream] = b""
                await self._show_line(rest)

    def text(self, stream: str) -> str:
        """All of one stream, without the one line end at its end."""
        return self._streams[stream].decode("utf-8", "replace").removesuffix("\n")

    def error(self, reason: str, command: str) -> CommandError:
        """The error of a command that failed: reason, command line, and both streams as they came."""
        text = b"".join(self._recent).decode("utf-8", "replace")
        if self._left_out:
            text = f"({self._left_out} bytes left out)\n{text}"
        return CommandError(f"{reason}: running {go_quote(command)}:\n{clean(text)}")

    async def _show_line(self, line: bytes) -> None:
        # A progress bar redraws its line with carriage returns: the last drawing is the one that counts.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        await self._show(clean(text))

    def _remember(self, data: bytes) -> None:
        self._recent.append(data)
        self._recent_size += len(data)
        while self._recent_size > ERROR_LIMIT:
            first = self._recent.popleft()
            surplus = min(len(first), self._recent_size - ERROR_LIMIT)
            self._recent_size -= surplus
            self._left_out += surplus
            if surplus < len(first):
                self._recent.appendleft(first[surplus:])


def clean(text: str) -> str:
    """Text without escape sequences and control characters, and the rest of it `harmless`."""
    return harmless(_CONTROLS.sub("", _ESCAPES.sub("", text)))


def go_quote(text: str) -> str:
    """Text in double quotes as Go's %q writes it, which is how the official plugin names a command in errors."""
    names = {
        "\a": "a",
        "\b": "b",
        "\f": "f",
        "\n": "n",
        "\r": "r",
        "\t": "t",
        "\v": "v",
        "\\": "\\",
        '"': '"',
    }

    def escape(char: str) -> str:
        if char in names:
            return "\\" + names[char]
        if char.isprintable():
            return char
        code = ord(char)
        return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return '"' + "".join(map(escape, text)) + '"'
