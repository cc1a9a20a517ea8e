"""Runs the engine: a stack's state is read with its secrets in memory alone, and changes are `pulumi up` as a person types it."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from nodekit.host.capture import Captured, capture
from nodekit.rules.text import printable

EXPORT_SECONDS = 300.0
MAX_STATE = 512 << 20
"""Bytes of a state that are read; a node has some 40 KiB of it."""
QUESTION_SECONDS = 60.0
MAX_ANSWER = 1 << 20
"""Bytes of any other answer of the engine."""
FOR_A_PROGRAM = ("--non-interactive", "--color=never")
"""Flags of every question. They are written out, since a person may have set each by a variable (PULUMI_OPTION_COLOR=always)."""
SELECTED = ("stack", "--show-name", "--fully-qualify-stack-names")
SELECTED_IN = "KATA_NODES_SELECTED_IN"
"""Variable by which tools/kata-nodes names the folder (PULUMI_HOME) of the person's own engine, where it runs another."""


def ask(
    *argv: str, seconds: float = QUESTION_SECONDS, limit: int = MAX_ANSWER, environment: Mapping[str, str] | None = None
) -> Captured:
    """What `pulumi` answers in the current folder, which is that of the project. Raises FleetError where it cannot be asked."""
    try:
        result = capture(["pulumi", *argv, *FOR_A_PROGRAM], timeout=seconds, limit=limit, env=environment)
    except OSError as error:
        raise FleetError(
            f"pulumi cannot be started: {error.strerror}. Put it on PATH, or start this by tools/kata-nodes, which "
            "brings its own."
        ) from None
    if result.timed_out or result.too_long:
        bound = f"{seconds:g} s" if result.timed_out else f"{limit >> 20} MiB"
        raise FleetError(f"pulumi {shlex.join(argv)} was ended: more than {bound}.")
    return result


def answer(*argv: str, seconds: float = QUESTION_SECONDS, limit: int = MAX_ANSWER) -> str:
    """The same, for a command that must succeed."""
    result = ask(*argv, seconds=seconds, limit=limit)
    if result.code != 0:
        raise FleetError(f"pulumi {shlex.join(argv)} ended with {result.code}: {_cause(result.stderr.decode(errors='replace'))}")
    return result.stdout.decode(errors="replace")


def _cause(text: str) -> str:
    """The engine's own words for why it failed, which come after its warnings."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    others = [line for line in lines if not line.startswith("warning:")]
    return printable("; ".join(errors or others or lines), 600)


def selected(stack: str | None) -> str:
    """The stack: the named one, or the one that is selected in this folder, with its organization. Raises FleetError.

    By a name alone the engine means the stack of the default organization, which can be another one than the selected.
    """
    if stack is not None:
        _refuse_nameless(stack)
        return stack
    name = _selected_by_the_person() or answer(*SELECTED).strip()
    organization, _, rest = name.partition("/")
    stack = rest.rpartition("/")[2]
    # A backend of files calls every organization so.
    return f"{organization}/{stack}" if stack and organization != "organization" else stack or name


def _refuse_nameless(stack: str) -> None:
    """The engine takes an empty name for the selected stack, which can be any, and `cure --yes` would change it."""
    if not stack.strip():
        raise FleetError(
            "The stack's name is empty, as where a variable is not set. Name it, or leave it out for the stack that is selected."
        )


def _selected_by_the_person() -> str:
    """The stack that is selected in the folder of the person's own engine; empty where that is this one's, or selects none."""
    home = os.environ.get(SELECTED_IN)
    if not home or not (Path(home) / "workspaces").is_dir():
        return ""
    result = ask(*SELECTED, environment={**os.environ, "PULUMI_HOME": home})
    return result.stdout.decode(errors="replace").strip() if result.code == 0 else ""


def stacks() -> list[str]:
    """The stacks of this folder's project. Raises FleetError."""
    try:
        names = [str(stack["name"]) for stack in json.loads(answer("stack", "ls", "--json"))]
    except (ValueError, KeyError, TypeError):
        raise FleetError("pulumi stack ls --json printed no list of stacks.") from None
    if not names:
        raise FleetError("This project has no stacks. Make one: pulumi stack init NAME.")
    return names


def deployment(stack: str) -> dict[str, Any]:
    """The stack's state, secrets in plain text: for memory only. Raises FleetError."""
    _refuse_nameless(stack)
    text = answer("stack", "export", "--show-secrets", "--stack", stack, seconds=EXPORT_SECONDS, limit=MAX_STATE)
    try:
        document = json.loads(text)["deployment"]
        assert isinstance(document, dict)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise FleetError(f"pulumi stack export --stack {stack} printed no state.") from None
    return document


def up(stack: str, flags: Sequence[str], *, yes: bool) -> int:
    """`pulumi up` with these flags, on the person's own terminal; its exit status. Raises FleetError."""
    argv = ["pulumi", "up", "--stack", stack, *flags, *(["--yes", "--skip-preview"] if yes else [])]
    # A terminal's Ctrl-C comes to the engine too, which waits for what it has begun and writes its state. Python would kill it
    # after 0.25 s. A handler, and not SIG_IGN, which the engine would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(argv, check=False).returncode
    except OSError as error:
        raise FleetError(f"pulumi cannot be started: {error.strerror}.") from None
    finally:
        signal.signal(signal.SIGINT, before)
