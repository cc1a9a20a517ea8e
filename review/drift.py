"""Keep one issue for each stack that lists what drifted: opened, updated, and closed when nothing differs any longer."""

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
    cli.add_argument("--measured", type=Path, help="document of kata-nodes drift --json")
    options = cli.parse_args()
    try:
        marker = comment.marker("drift", options.stack)
    except ValueError as error:
        print(
            harmless(f"error: {error}, and {options.stack!r} is none. Name it in DEPLOYED_STACKS as in stacks/."),
            file=sys.stderr,
        )
        return 1
    document = documents.of(options.document)
    refreshed = any(resource.op != "same" for resource in document.resources)
    try:
        measured = documents.measured(options.measured, refreshed) if options.measured else []
    except ValueError as error:
        print(
            f"error: the measurements of stack {options.stack} could not be read ({error}), so nothing is known of its drift.",
            file=sys.stderr,
        )
        return 1
    if document.errors:
        print(f"error: stack {options.stack} could not be read, so nothing is known of its drift.", file=sys.stderr)
        return 1
    drifted = bool(measured) or refreshed
    try:
        issue = github.issue(
            os.environ["GITHUB_REPOSITORY"],
            marker,
            f"Stack {options.stack} is not what was deployed",
            comment.drift(options.stack, document, measured) if drifted else None,
        )
    except github.GitHubError as error:
        print(harmless(f"error: {error}"), file=sys.stderr)
        return 1
    print(f"Drift of stack {options.stack}: {'found' if drifted else 'none'}; issue {issue}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
