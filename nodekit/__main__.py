"""The command line of the node program: one verb, JSON on standard input, one JSON document on standard output."""

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path

from nodekit import __version__
from nodekit.errors import NodeError

VERBS = {
    "preflight": "boot a tiny guest, to show that this node can run one; explain it when it cannot",
    "docker": "bring Docker to the pinned version, hold its packages, register the Kata runtime",
    "kata": "install or find Kata, and merge kernel parameters into the configuration that is really read",
    "prove": "boot the guest that Kata would boot and climb the ladder of nested sandboxes in it",
    "status": "measure the node and change nothing",
    "restore": "undo what this program changed on the node, and nothing else",
}
MAX_INPUT = 1 << 20
"""Bytes of desired state that are read."""


def parser() -> argparse.ArgumentParser:
    """The command line, with help that lists every verb."""
    top = argparse.ArgumentParser(
        prog="nodekit",
        description="Turn this machine into a node whose Kata guests can run a nested sandbox, and prove it.",
        epilog="Desired state: one JSON object on standard input. Result: one JSON document on standard output. "
        "Exit: 0 done, 1 refused or failed (error.code, error.message, error.remedy), 2 bad usage.",
    )
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.add_argument("--root", type=Path, default=Path("/"), help="work on another root folder (default: the machine's own)")
    return top


def desired_state(text: str) -> dict[str, object]:
    """The desired state from its JSON text; raises NodeError `bad-input`."""
    try:
        value = json.loads(text or "{}")
    except ValueError as error:
        raise NodeError("bad-input", f"The desired state is not JSON: {error}", "Give one JSON object on stdin") from None
    if not isinstance(value, dict):
        raise NodeError(
            "bad-input", f"The desired state is a {type(value).__name__}, not an object", "Give one JSON object on stdin"
        )
    return value


def ended(number: int, frame: object) -> None:
    """Turn a signal into an exception, so that what was begun is rolled back."""
    raise SystemExit(128 + number)


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    given = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, ended)  # what timeout(1) and a closed connection send
    signal.signal(signal.SIGHUP, ended)
    try:
        command = importlib.import_module(f"nodekit.commands.{given.verb}")
        result = command.run(desired_state(sys.stdin.read(MAX_INPUT)), given.root)
    except NodeError as error:
        print(json.dumps({"error": error.as_dict()}, sort_keys=True), flush=True)
        print(f"error: {error.sentence()}", file=sys.stderr, flush=True)
        return 1
    print(json.dumps(result, sort_keys=True), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
