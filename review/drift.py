"""Keep one issue a stack that says what drifted: opened, brought up to date, and closed when nothing does any more."""

import argparse
import os
import sys
from pathlib import Path

from nodekit.rules.text import harmless
from review import comment, documents, github


def main() -> int:
    """Write the issue; 1 where the stack could not be read, and then the issue stays as it is."""
    cli = argparse.ArgumentParser(prog="python -m review.drift", description=__doc__)
    cli.add_argument("stack")
    cli.add_argument("document", type=Path, help="document of pulumi refresh --preview-only --json")
    cli.add_argument("--nodes", type=Path, help="document of kata-nodes drift --json")
    given = cli.parse_args()
    found = documents.of(given.document)
    try:
        nodes = documents.nodes(given.nodes) if given.nodes else []
    except ValueError as error:
        print(
            f"error: the nodes of stack {given.stack} cannot be told ({error}), so nothing is known of their drift.",
            file=sys.stderr,
        )
        return 1
    if found.errors:
        print(f"error: stack {given.stack} could not be read, so nothing is known of its drift.", file=sys.stderr)
        return 1
    drifted = bool(nodes) or any(one.op != "same" for one in found.resources)
    try:
        done = github.issue(
            os.environ["GITHUB_REPOSITORY"],
            comment.marker("drift", given.stack),
            f"Stack {given.stack} is not what was deployed",
            comment.drift(given.stack, found, nodes) if drifted else None,
        )
    except github.GitHubError as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        return 1
    print(f"Drift of stack {given.stack}: {'found' if drifted else 'none'}; issue {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
