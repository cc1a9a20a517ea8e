"""Run a program with a bound on its time and output, and turn its failure into an error with a remedy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.host.capture import capture
from nodekit.progress import say
from nodekit.rules.text import printable

MAX_OUTPUT = 4 << 20
"""Bytes of each stream that are kept; dpkg's list of all packages, the longest that is asked for, has less than one MiB."""


class Finished(NamedTuple):
    """How a program ended: its exit code and what it printed, decoded with replacement."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    check: bool = True,
    status: str = "",
) -> Finished:
    """Run `argv` without a shell and without a terminal.

    `timeout` is in seconds; the program is killed when it is over, or when it prints more than `MAX_OUTPUT`. `pass_fds` are open
    files that it gets. With `check`, a non-zero exit is an error. `status` is a command that shows more when this one fails.
    Raises NodeError `tool-missing`, `command-timeout`, `command-output-too-long` (`printed` holds its first words) or
    `command-failed`.
    """
    case = "status" if status else ""
    try:
        captured = capture(argv, timeout=timeout, limit=MAX_OUTPUT, stdin=(stdin or "").encode(), env=env, pass_fds=pass_fds)
    except OSError as error:
        raise not_started(argv[0], error, f"the package that holds {argv[0]}", status) from None
    if captured.timed_out:
        raise NodeError("command-timeout", f"{' '.join(argv[:4])} did not end within {timeout:g} s", case, status=status)
    if captured.too_long:
        longer = max(captured.stdout, captured.stderr, key=len)
        words = printable(" ".join(longer[:600].decode(errors="replace").split()), 200)
        raise NodeError(
            "command-output-too-long",
            f"{' '.join(argv[:4])} printed more than {MAX_OUTPUT >> 20} MiB and was ended; it began with: {words}",
            details={"printed": words},
        )
    result = Finished(captured.code, captured.stdout.decode(errors="replace"), captured.stderr.decode(errors="replace"))
    if check and result.code != 0:
        output = printable((result.stderr.strip() or result.stdout.strip()).replace("\n", "; "), 600)
        raise NodeError(
            "command-failed", f"{' '.join(argv[:6])} ended with exit code {result.code}: {output}", case, status=status
        )
    return result


def clean_up(argv: Sequence[str], *, timeout: float, env: Mapping[str, str]) -> None:
    """Run what removes something afterwards; where it does not end, that is said, and hides no error that was there first."""
    try:
        run(argv, timeout=timeout, env=env, check=False)
    except NodeError as error:
        say(f"something may be left behind: {error.message}")


def not_started(program: str, error: OSError, package: str, status: str = "") -> NodeError:
    """The error for a program that is not there, or that the system does not start: of another machine, or not executable."""
    if isinstance(error, FileNotFoundError):
        return NodeError("tool-missing", f"{program} is not installed on this node", package=package)
    case = "status" if status else ""
    return NodeError("command-failed", f"{program} cannot be started: {error.strerror or error}", case, status=status)
