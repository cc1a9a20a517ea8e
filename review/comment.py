"""The text of a comment, a job's summary or an issue: pure, from previews to Markdown below GitHub's size limit.

Every word of it is ours, or stands in a code span (review/neutral.py), or is a stack's checked name.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodekit.rules.text import harmless
from review import documents, words
from review.catalogue import KNOWN
from review.documents import Preview, Resource
from review.neutral import code, hide


@dataclass(frozen=True)
class Room:
    """What takes a page."""

    most: int
    """Bytes of a page: fewer than GitHub takes characters, so that no reading of "character" is longer."""
    limit: str
    whole: str
    """Where a reader has all that was cut."""


def comment_room(stack: str) -> Room:
    """A comment on a pull request."""
    return Room(
        60_000, "a comment holds 65536 characters", f"the upload `preview-{stack}` of the run of `preview` has all, as JSON"
    )


def issue_room(stack: str) -> Room:
    """An issue."""
    return Room(
        60_000, "an issue holds 65536 characters", f"`kata-nodes drift {stack}` and `pulumi refresh --preview-only` show all"
    )


SUMMARY_ROOM = Room(1_000_000, "a job's summary holds 1 MiB", "the upload `plan` of this run has all, as JSON")
MOST_COMMENTS = 50
"""Stacks of one pull request that get a comment."""
LINE_BYTES = 20_000
"""Of one line, so that no single one pushes all others out."""
STACK = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
"""Names of stacks that are shown: they stand in a marker, a heading and a title."""
DRIFTED = {"update": "changed", "replace": "changed", "delete": "gone"}
"""What the steps of a refresh report: not what will be done, but what has happened."""
UNNAMED = (
    "The preview ended with exit code {} although its document names no error, as where a policy refuses a resource. "
    "See the log of its job."
)
"""Stands for what the engine prints and leaves out of its document (backend/display/json.go)."""
RESERVED = 1_000
"""Bytes kept for what closes a page."""


def marker(kind: str, stack: str) -> str:
    """The hidden first line by which the page of a stack is found again; raises ValueError for a name that may hold markup."""
    if not STACK.fullmatch(stack):
        raise ValueError("a stack's name is made of small letters, digits and dashes")
    return f"<!-- kata-nodes {kind} of stack {stack} -->"


def marked(kind: str, body: str) -> str | None:
    """The stack whose page a text is, by its first line; None for any other text."""
    match = re.fullmatch(rf"<!-- kata-nodes {kind} of stack ({STACK.pattern}) -->", body.split("\n", 1)[0].strip())
    return match[1] if match else None


class Page:
    """Lines below the limit; what does not fit is counted."""

    def __init__(self, room: Room, *first: str) -> None:
        self.room = room
        self.lines = [*first]
        self.left = room.most - RESERVED - sum(len(line.encode()) + 1 for line in first)
        self.cut = 0

    def add(self, line: str, *, counts: bool = True) -> bool:
        """Whether the line had room."""
        size = len(line.encode()) + 1
        if self.cut or size > min(self.left, LINE_BYTES):
            self.cut += counts
            return False
        self.lines.append(line)
        self.left -= size
        return True

    def section(self, title: str, rows: Sequence[str], *, folded: bool) -> None:
        """A list, folded away or in sight; nothing without rows."""
        if not rows:
            return
        head = f"<details><summary>{title}</summary>" if folded else f"**{title}**"
        # Its end must have room as well.
        self.left -= len("</details>") + 4
        if self.add(f"\n{head}\n", counts=False):
            for row in rows:
                self.add(f"- {row}")
            if folded:
                self.lines.append("\n</details>")
        else:
            self.cut += len(rows)

    def text(self, *last: str) -> str:
        """The whole."""
        note = [f"\n**{self.cut} more lines were cut**: {self.room.limit}, and {self.room.whole}."]
        return "\n".join([*self.lines, *(note if self.cut else []), *(f"\n{line}" for line in last)]) + "\n"


def _counted(resources: Iterable[Resource]) -> str:
    """How many of them are made, changed, replaced and removed."""
    ops = [resource.op for resource in resources]
    counts = [f"{ops.count(op)} {word}" for op, word in words.COUNTS.items() if op in ops]
    return ", ".join(counts) or "no change"


def refusals(errors: Iterable[str]) -> list[str]:
    """Rows of a failed preview: the program's own sentences with their codes first, each followed by its code's meaning."""
    sections = []
    for message in errors:
        # As a whole: line by line, a key of several lines would not be recognized.
        text = hide(message)
        known = next((word for word in re.findall(r"\[([a-z0-9-]+)\]", text) if word in KNOWN), "")
        lines = [code(line, 1_000) for line in text.splitlines() if line.strip()]
        sections.append((not known, lines + ([f"{code(known)}: {KNOWN[known].cause}"] if known else [])))
    return [row for _, rows in sorted(sections, key=lambda pair: pair[0]) for row in rows]


def page(
    room: Room,
    first: Sequence[str],
    preview: Preview,
    changes: Sequence[Resource],
    last: Sequence[str],
    drifted: Sequence[str] = (),
) -> str:
    """A page for `room`: `first` lines, refusals, nodes, `drifted` rows, cluster, other resources, warnings, `last` lines.

    `preview` gives errors, warnings and the nodes; `changes` is what becomes of its resources. All but `first` and `last`,
    which are ours, is untrusted.
    """
    document = Page(room, *first)
    if preview.errors:
        document.section("Refused: the preview failed, so nothing below it was planned", refusals(preview.errors), folded=False)
        document.section(f"{len(preview.warnings)} warnings", [code(warning, 500) for warning in preview.warnings], folded=True)
        return document.text(*last)
    real = [change for change in changes if change.op != "same"]
    # The plan of a deployment has only what changes: of a node that is sent another program, its commands.
    parents = [documents.left_out(change.parent) for change in real if change.custom]
    nodes = {resource.urn: resource for resource in (*parents, *preview.resources, *changes) if resource.type == words.NODE}
    below: dict[str, list[Resource]] = {urn: [] for urn in nodes}
    for change in real:
        if change.custom and change.parent in below:
            below[change.parent].append(change)
    names_by_text: dict[str, list[str]] = {}
    ops = []
    machine_replaced = words.machines_replaced(real)
    for urn, node in nodes.items():
        if text := words.node(node, below[urn], machine_replaced(node)):
            names_by_text.setdefault(text, []).append(words.name_of(node, below[urn]))
            ops.append(node if node.op in ("create", "delete") else replace(node, op="update"))
    groups, of_groups = _groups((*preview.resources, *changes))
    rows = [f"{words.named(names)}: {text}" for text, names in names_by_text.items()] + of_groups
    rest = [change for change in real if change.custom and change.parent not in nodes]
    cluster = [change for change in rest if change.type.startswith("kubernetes:")]
    proofs = {resource.urn: resource for resource in (*preview.resources, *changes) if resource.type == words.CLUSTER_PROOF}
    of_proofs = {urn: text for urn, proof in proofs.items() if (text := words.cluster_proof(proof))}
    on_cluster = _counted([*cluster, *(replace(proofs[urn], op="update") for urn in of_proofs)])
    own = ("kubernetes:", "pulumi:")
    others = [change for change in rest if not change.type.startswith(own) or words.is_another_account(change)]
    count = sum(node.op != "delete" for node in nodes.values())
    counts = [
        f"Nodes ({count}): **{_counted(ops)}**",
        *groups,
        f"Cluster: **{on_cluster}**",
        f"Other resources: **{_counted(others)}**",
    ]
    document.add(" · ".join(counts), counts=False)
    document.section("Nodes", rows, folded=False)
    document.section("Measured on nodes and clusters", drifted, folded=False)
    rows = [*of_proofs.values(), *(words.cluster_object(change) for change in cluster)]
    document.section(f"Cluster: {on_cluster}", rows, folded=True)
    document.section(f"Other resources: {_counted(others)}", [words.other(change) for change in others], folded=True)
    document.section(f"{len(preview.warnings)} warnings", [code(warning, 500) for warning in preview.warnings], folded=True)
    return document.text(*last)


def _groups(resources: Iterable[Resource]) -> tuple[list[str], list[str]]:
    """Of groups whose machines prove themselves: how many change, if there are any, and a row for each that does."""
    groups = {resource.urn: resource for resource in resources if resource.type == words.GROUP}.values()
    changes = [(group, text) for group in groups if (text := words.group(group))]
    changed = [group if group.op in ("create", "delete") else replace(group, op="update") for group, _ in changes]
    count = sum(group.op != "delete" for group in groups)
    rows = [f"group {code(group.name)}: {text}" for group, text in changes]
    return [f"Groups ({count}): **{_counted(changed)}**"] if groups else [], rows


def _made_up(preview: Preview) -> str:
    names = ", ".join(code(name, 60) for name in preview.made_up[:20])
    return f" Made-up values stood for the secrets {names}." if names else ""


def pull_request(stack: str, head: Preview, base: Preview | None) -> str:
    """The comment on a pull request: what becomes of a new stack of its head, compared with one of its base.

    Neither preview knows any state: the comment shows what the pull request changes, not what a deployment will do.
    """
    if head.errors:
        against = "Correct what is refused, and push again."
    elif base is None:
        against = "The base has no such stack, so everything is new."
    elif base.errors:
        against = "The base itself cannot be previewed, so everything is shown as new."
        base = None
    else:
        against = "What this pull request changes, compared with its base; the plan of a deployment compares with what is there."
    changes = documents.between(base or Preview(), head)
    first = [marker("preview", stack), f"### Preview of stack {stack}", ""]
    return page(
        comment_room(stack), first, head, changes, [f"<sub>{against} No node, cluster or state was asked.{_made_up(head)}</sub>"]
    )


def no_preview(stack: str) -> str:
    """The comment on a pull request for a stack of an earlier commit, whose preview must not stand for the newest one."""
    return "\n".join(
        [
            marker("preview", stack),
            f"### Preview of stack {stack}",
            "",
            "The newest commit has no preview of this stack: it has no such stack, its job ended before the preview began, or "
            f"{MOST_COMMENTS} other stacks have the comments of this pull request.",
        ]
    )


def plan(stack: str, preview: Preview) -> str:
    """What a deployment will do once it is approved: for the person who approves it."""
    first = [marker("plan", stack), f"### Plan for stack {stack}", ""]
    last = ["<sub>Compared with the stack's state. After approval exactly this is done; anything else is refused.</sub>"]
    return page(SUMMARY_ROOM, first, preview, preview.resources, last if not preview.errors else [])


def drift(stack: str, preview: Preview, measured: Sequence[tuple[str, str]] = ()) -> str:
    """What is no longer as the last deployment left it; `measured` are names, each with a sentence on what differs there."""
    first = [marker("drift", stack), f"### Stack {stack} is not what was deployed", ""]
    last = [
        "<sub>Read from the cluster and the nodes, and compared with the stack's state. Bring what was changed into the stack's "
        "file, or put it back: `kata-nodes drift` shows the diffs and who could have done it, and `kata-nodes cure` repairs "
        "it.</sub>"
    ]
    changes = [replace(resource, op=DRIFTED.get(resource.op, resource.op)) for resource in preview.resources]
    rows = [f"{code(name, 60)}: {code(difference, 500)}" for name, difference in measured]
    return page(issue_room(stack), first, preview, changes, last, rows)


def main() -> int:
    """Print one page; 1 with a sentence where there is none."""
    cli = argparse.ArgumentParser(prog="python -m review.comment", description=__doc__.splitlines()[0])
    cli.add_argument("kind", choices=("preview", "plan", "drift"))
    cli.add_argument("--stack", required=True)
    cli.add_argument("--document", type=Path, required=True, help="the engine's JSON document")
    cli.add_argument("--base", type=Path, help="the document of a pull request's base")
    cli.add_argument("--ended", type=int, default=0, help="exit code of the engine that wrote the document (default: 0)")
    options = cli.parse_args()
    try:
        read = documents.of(options.document)
        if options.ended and not read.errors:
            read = replace(read, errors=(UNNAMED.format(options.ended),))
        base = documents.of(options.base) if options.base and options.base.exists() else None
        if options.kind == "preview":
            text = pull_request(options.stack, read, base)
        else:
            text = (plan if options.kind == "plan" else drift)(options.stack, read)
    except OSError as error:
        print(harmless(f"error: {error.filename} cannot be read: {error.strerror}"), file=sys.stderr)
        return 1
    except ValueError as error:
        print(harmless(f"error: {error}, and {options.stack!r} is none. Name it as in stacks/."), file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
