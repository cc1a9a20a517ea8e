"""The command line of the node program: verbs that change or prove a node, and questions that change nothing."""

import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nodekit import __version__
from nodekit.errors import NodeError, of_system
from nodekit.host import signals
from nodekit.progress import say
from nodekit.rules.text import harmless

if TYPE_CHECKING:  # loaded where it reads a command line that a person typed
    import argparse

VERBS = {
    "preflight": "boot a tiny guest, to show that this node can run one; explain it when it cannot",
    "docker": "move Docker to the pinned version, hold its packages, register the Kata runtime",
    "kata": "install or find Kata, and merge kernel parameters into the configuration that Kata really reads",
    "converge": "take the steps preflight, docker and kata, but not those that were taken before and whose settings are the same",
    "prove": "boot the guest that Kata would boot and climb the ladder of nested sandboxes in it",
    "compare": "measure the node and list where it differs from what a stack wants; change nothing",
    "overhead": "measure an idle and a busy sandbox and propose the overhead of their RuntimeClass; change nothing",
    "restore": "undo what this program changed on the node, and nothing else",
}
"""Verb -> what it does. Each takes a desired state."""
QUESTIONS = {
    "status": "measure the node and change nothing",
    "effective": "show which configuration Kata reads, its content, and which files look relevant but are ignored",
    "kernel-params": "merge guest kernel parameters into one of Kata's configuration files",
    "daemon-json": "print the daemon.json that the verb docker would write, or the reason why it refuses",
    "apt-sources": "print the apt source that the verb docker would write or use, or the reason why it refuses",
    "compat": "check whether a Docker works with a Kata; exit 1 with the reason and the remedy if it does not",
    "failpoints": "list the points between two effects at which tests can kill this program",
}
"""Question -> what it answers. Each takes arguments."""
FILES = ("kernel-params", "daemon-json", "apt-sources")
"""Questions that print a file: into a pipe or a file byte for byte, on a terminal made harmless like everything else."""
MAX_INPUT = 1 << 20
"""Bytes of desired state that are read."""


def parser(words: Sequence[str]) -> "argparse.ArgumentParser":
    """The command line, with help that lists everything; questions that stand in `words` are loaded with their arguments."""
    import argparse

    top = argparse.ArgumentParser(
        prog="nodekit",
        description="Turn this machine into a node whose Kata guests can run a nested sandbox, and prove it.",
        epilog=f"{', '.join(VERBS)}: desired state as one JSON object on standard input, result as one JSON document on standard "
        "output, progress on standard error. The others take arguments and print text, or JSON with --json. "
        "Exit: 0 done, 1 refused or failed (error.code, error.message, error.remedy), 2 bad usage.",
    )
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (VERBS | QUESTIONS).items():
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.add_argument("--root", type=Path, default=Path("/"), help="work on another root folder (default: the machine's own)")
        if name in QUESTIONS:
            verb.add_argument("--json", action="store_true", help="print one JSON document")
            if name in words:
                _module(name).arguments(verb)
    return top


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"nodekit.commands.{name.replace('-', '_')}")


def desired_state(text: str) -> dict[str, object]:
    """The desired state from its JSON text; raises NodeError `bad-input`."""
    if len(text) > MAX_INPUT:
        raise NodeError("bad-input", f"The desired state is longer than {MAX_INPUT} characters", "stdin")
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise NodeError("bad-input", f"The desired state is not JSON: {error}", "stdin") from None
    if not isinstance(value, dict):
        raise NodeError("bad-input", f"The desired state is a {type(value).__name__}, not an object", "stdin")
    return value


def _hold_streams() -> None:
    """Open 0, 1 and 2 if they are closed, so that no file that is opened later takes their place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _set_encodings() -> None:
    """UTF-8 for what is read and for pipes, whatever the locale is; a terminal gets what its own encoding lacks as escapes."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")


def _read() -> str:
    if sys.stdin is None:
        return ""
    try:
        return sys.stdin.read(MAX_INPUT + 1)
    except UnicodeDecodeError as error:
        raise NodeError("bad-input", f"The desired state is not UTF-8: {error}", "stdin") from None


def _printed(document: str) -> bool:
    """Print the result; false if nobody reads it."""
    try:
        if sys.stdout is None:
            return False
        sys.stdout.write(document)
        sys.stdout.flush()
    except (OSError, ValueError):
        # Otherwise Python would try to write the rest of the buffer at its end, and print a traceback.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Run one verb or answer one question; returns the exit code. A result that nobody could read is a failure."""
    _hold_streams()
    _set_encodings()
    words = sys.argv[1:] if argv is None else argv
    # A verb alone is how stacks start it, and reading that takes as long as importing all that a check needs.
    is_verb = len(words) == 1 and words[0] in VERBS
    options: dict[str, Any] = {"verb": words[0], "root": Path("/")} if is_verb else vars(parser(words).parse_args(words))
    name, root = options.pop("verb"), options.pop("root")
    as_json = name in VERBS or options.pop("json")
    signals.obey()
    os.umask(0o022)  # of the folders that are made: Docker's is read by every user of its command line
    try:
        command = _module(name)
        result = {"verb": name, **command.run(desired_state(_read()), root)} if name in VERBS else command.run(root, **options)
    except (NodeError, OSError) as raised:
        error = raised if isinstance(raised, NodeError) else of_system(raised)
        if as_json:
            _printed(json.dumps({"error": error.as_dict()}, sort_keys=True) + "\n")
        say(f"error: {error.sentence()}")
        return 1
    if as_json:
        output = json.dumps(result, sort_keys=True) + "\n"
    else:
        output = command.text(result)
        if name not in FILES or (sys.stdout is not None and sys.stdout.isatty()):
            output = harmless(output)
    return 0 if _printed(output) else 1


if __name__ == "__main__":
    sys.exit(main())
