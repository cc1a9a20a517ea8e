"""Post the comments of one pull request from what its preview uploaded; runs the default branch's code, with a token.

A fork decides all that its preview uploads. So it uploads data and no text: the documents are read and put into words here,
and the pull request that it names must be the one whose newest commit was previewed.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nodekit.rules.text import harmless
from review import comment, documents, github
from review.documents import Preview

NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class Refused(Exception):
    """What was uploaded is not what a preview uploads."""


def number(folder: Path) -> int:
    """The pull request that every upload names."""
    numbers = {content(file, 20).strip() for file in folder.glob("*/number")}
    if len(numbers) != 1 or not NUMBER.fullmatch(text := numbers.pop()):
        raise Refused("the uploads do not name one pull request")
    return int(text)


def content(file: Path, limit: int) -> str:
    """Text of an uploaded file, read no further than one character beyond `limit`."""
    if file.is_symlink() or not file.is_file():
        raise Refused(f"{file.name} is not a file")
    with open(file, errors="replace") as handle:
        return handle.read(limit + 1)


def previews(entries: Sequence[Path]) -> Iterator[tuple[str, Preview, Preview | None]]:
    """Of each uploaded folder: stack, preview of the head, and preview of the base where it has the stack."""
    for entry in entries:
        stack = entry.name
        if entry.is_symlink() or not entry.is_dir() or not comment.STACK.fullmatch(stack):
            raise Refused("an uploaded folder's name is not the name of a stack")
        head, base = entry / "head.json", entry / "base.json"
        # A job that failed early has no document: its comment reports that, where an older one would stand for this commit.
        text = content(head, documents.MAX_DOCUMENT) if os.path.lexists(head) else ""
        yield stack, documents.read(text), documents.read(content(base, documents.MAX_DOCUMENT)) if base.exists() else None


def post(folder: Path, repository: str, commit: str) -> int:
    """Write every comment; 0 also where the pull request has moved on, since its next preview follows."""
    which = number(folder)
    pull = github.api("GET", f"repos/{repository}/pulls/{which}")
    if pull["head"]["sha"] != commit or pull["state"] != "open":
        print(f"Pull request {which} is closed, or {commit} is not its newest commit: nothing is posted.")
        return 0
    entries = sorted(folder.iterdir())
    for stack, head, base in previews(entries[: comment.MOST_COMMENTS]):
        outcome = github.comment(repository, which, comment.marker("preview", stack), comment.pull_request(stack, head, base))
        print(f"Comment for stack {stack} on pull request {which}: {outcome}")
    if left := entries[comment.MOST_COMMENTS :]:
        print(harmless(f"{len(left)} more stacks get no comment, from {left[0].name!r} on: {comment.MOST_COMMENTS} is the most."))
    previewed = {entry.name for entry in entries[: comment.MOST_COMMENTS]}
    for comment_number, body in github.comments(repository, which):
        stack_of_comment = comment.marked("preview", body)
        if stack_of_comment is None or stack_of_comment in previewed:
            continue
        if body.strip() != (text := comment.no_preview(stack_of_comment)):
            github.rewrite(repository, comment_number, text)
            print(f"Comment for stack {stack_of_comment} on pull request {which}: no longer for this commit")
    return 0


def main() -> int:
    """Post; 1 with a sentence where that is refused."""
    cli = argparse.ArgumentParser(prog="python -m review.post", description=__doc__.splitlines()[0])
    cli.add_argument("folder", type=Path, help="what was downloaded: a folder for each stack")
    folder = cli.parse_args().folder
    try:
        return post(folder, os.environ["GITHUB_REPOSITORY"], os.environ["HEAD_SHA"])
    except (Refused, github.GitHubError) as error:
        print(harmless(f"error: nothing more is posted: {error}"), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
