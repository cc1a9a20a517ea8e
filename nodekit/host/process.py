"""Run a program with a bound on its time, and turn its failure into an error with a remedy."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodekit.errors import NodeError
from nodekit.rules.text import printable


@dataclass(frozen=True)
class Finished:
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
    remedy: str = "Run the command by hand on the node to see why it fails",
) -> Finished:
    """Run `argv` without a shell and without a terminal.

    `timeout` is in seconds; the program is killed when it is over. `pass_fds` are open files that it gets. With `check`, a
    non-zero exit is an error.
    Raises NodeError `tool-missing`, `command-timeout` or `command-failed`.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=(stdin or "").encode(),
            capture_output=True,
            timeout=timeout,
            env=None if env is None else dict(env),
            pass_fds=tuple(pass_fds),
            check=False,
        )
    except FileNotFoundError:
        raise NodeError(
            "tool-missing", f"{argv[0]} is not installed on this node", f"Install the package that holds {argv[0]}"
        ) from None
    except subprocess.TimeoutExpired:
        raise NodeError("command-timeout", f"{' '.join(argv[:4])} did not end within {timeout:g} s", remedy) from None
    result = Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and result.code != 0:
        said = printable((result.stderr.strip() or result.stdout.strip()).replace("\n", "; "), 600)
        raise NodeError("command-failed", f"{' '.join(argv[:6])} ended with exit code {result.code}: {said}", remedy)
    return result
