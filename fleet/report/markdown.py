"""A report as Markdown, for a terminal, a merge request or a wiki. What a node says is code, or escaped: no markup of its own."""

import re
from collections.abc import Iterable, Iterator, Sequence

from fleet.report import view
from fleet.report.document import Climb, Fleet, Node, Report, Rung

MARKS = {"passed": "✓", "failed": "✗", "not tried": "–"}
_NUMBERED = "|".join(rf"(?<=^\d{{{digits}}})[.)]" for digits in range(1, 10))
_SPECIAL = re.compile(rf"([\\`*_\[\]<>|&~$!]|(?<=\bwww)\.|:(?=//)|^[#+=:-]|{_NUMBERED})")
"""What begins something in CommonMark or in GitHub's tables, links, strikethrough and math; some only where a line begins."""
_MENTION = re.compile(r"(\S*@\S*)")
"""A word by which GitHub would notify somebody, or which it would link as an address of mail, with a backslash before it too."""


def escaped(text: str) -> str:
    """Text on one line, in which nothing is markup."""
    # What was split off stands at the odd places.
    parts = enumerate(_MENTION.split(" ".join(text.split())))
    return "".join(_mention(part) if place % 2 else _marked(part) for place, part in parts)


def _marked(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _mention(word: str) -> str:
    if "\\|" not in word:
        return code(word)
    return "".join(f"`{part}`" if place % 2 else _marked(part) for place, part in enumerate(re.split(r"(@+)", word)))


def code(text: str) -> str:
    """Text in a code span, in a table too; empty for none. Letter by letter, unlike a comment's (review/neutral.py), which hides
    what looks like a key."""
    line = " ".join(text.split())
    if not line:
        return ""
    if "\\|" in line:  # a table would take the bar for a border whichever way it is written in a code span
        return escaped(line)
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    pad = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{pad}{line}{pad}{fence}".replace("|", "\\|")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, and an empty one; nothing without rows."""
    cells = list(rows)
    if cells:
        yield f"| {' | '.join(headings)} |"
        yield f"|{' --- |' * len(headings)}"
        yield from (f"| {' | '.join(row)} |" for row in cells)
        yield ""


def section(heading: str, items: Sequence[str]) -> Iterator[str]:
    """A heading with a list; nothing without items."""
    if items:
        yield f"**{heading}**"
        yield ""
        yield from (f"- {item}" for item in items)
        yield ""


def report(document: Report) -> str:
    """The whole text."""
    return "\n".join(_report(document)).rstrip("\n") + "\n"


def fleet(document: Fleet) -> str:
    """The whole text."""
    lines = [
        "# Kata nodes: proofs of many stacks",
        "",
        f"{escaped(view.when(document.written))}, {len(document.stacks)} stacks. {escaped(view.of_fleet(document))}",
        "",
        *table(
            [
                "Stack", "Outcome", "Nodes", "Proven", "Failed", "Changed since", "Not measured", "Oldest proof", "Docker",
                "Kata", "Problem",
            ],
            (
                [
                    code(stack.stack), stack.outcome, str(stack.nodes), str(stack.proven), str(stack.failed), str(stack.drifted),
                    str(stack.not_measured), escaped(view.when(stack.oldest)), ", ".join(map(code, stack.docker)),
                    ", ".join(map(code, stack.kata)), escaped(stack.problem),
                ]
                for stack in document.stacks
            ),
        ),
    ]  # fmt: skip
    return "\n".join(lines).rstrip("\n") + "\n"


def _report(document: Report) -> Iterator[str]:
    yield f"# Kata nodes: proof of {code(document.stack)}"
    yield ""
    yield f"**{document.outcome}.** {escaped(view.sentence(document))}"
    yield f"Written {escaped(view.when(document.written))}."
    yield ""
    yield " → ".join(f"{stage.name}{f' ({stage.text})' if stage.text else ''}" for stage in view.flow(document))
    yield ""
    yield from table(
        ["Node", "Outcome", "Docker", "Kata", "Guest kernel", "User namespaces", "Proven"],
        (
            [
                code(node.name), node.outcome, code(node.pair.docker if node.pair else ""),
                code(node.pair.kata if node.pair else ""),
                *([code(climb.guest_kernel), _number(climb.user_namespaces)] if (climb := _last(node)) else ["", ""]),
                escaped(view.proven_at(node)),
            ]
            for node in document.nodes
        ),
    )  # fmt: skip
    yield from table(
        ["Checklist", "", "Measured"],
        ([escaped(row.item), MARKS["passed" if row.passed else "failed"], escaped(row.measured)] for row in document.checklist),
    )
    yield from table(
        ["Object", "Name", "Cluster", "State", ""],
        (
            [
                escaped(each.kind), code(f"{each.namespace}/{each.name}" if each.namespace else each.name), code(each.cluster),
                each.state, escaped(view.of_object(each)),
            ]
            for each in document.objects
        ),
    )  # fmt: skip
    yield from section("Not proven by this stack", [escaped(each) for each in document.not_proven])
    for node in document.nodes:
        yield from _node(node)


def _last(node: Node) -> Climb | None:
    return node.proof.climbs[-1] if node.proof and node.proof.climbs else None


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _node(node: Node) -> Iterator[str]:
    yield f"## {code(node.name)}: {node.outcome}"
    yield ""
    if node.proof and node.proof.failure:
        failure = node.proof.failure
        yield f"> {escaped(failure.message)}"
        yield ">"
        yield f"> {escaped(failure.remedy)} {code(failure.code)}"
        yield ""
    yield from table(
        ["", ""],
        [[name, text] for name, text in _facts(node) if text],
    )
    if node.proof:
        climbs = node.proof.climbs
        headings = [
            part
            for climb in climbs
            for part in (escaped(f"{climb.place}{f', {view.seconds(climb.seconds)} s' if climb.seconds else ''}"), "at s")
        ]
        yield from table(
            ["Rung", *headings],
            ([_rung_name(row), *(part for cell in row.cells for part in _cell(cell))] for row in view.ladder(climbs)),
        )
    yield from table(
        ["Kernel parameter", "Origin", "Known of it"],
        ([code(each.text), escaped(each.origin), escaped("; ".join(each.notes))] for each in node.parameters),
    )
    yield from section("Differs since", [escaped(each) for each in node.differences])
    yield from section("Not tried", [escaped(each) for each in node.not_tried])
    yield from table(
        ["Proofs", "", "Seconds", "Guest kernel", "User namespaces", "Docker"],
        (
            [
                escaped(view.when(past.when)), f"{MARKS['passed' if past.passed else 'failed']} {code(past.code)}".rstrip(),
                view.seconds(past.seconds), code(past.guest_kernel), _number(past.user_namespaces), code(past.docker),
            ]
            for past in node.timeline
        ),
    )  # fmt: skip
    yield escaped(node.timeline_note)
    yield ""


def _facts(node: Node) -> Iterator[tuple[str, str]]:
    yield "Address", code(node.address)
    yield "Not measured", escaped(node.not_measured)
    if node.proof:
        yield "Promised sandbox", code(node.proof.sandbox or "none")
        yield "Hypervisor", code(node.proof.hypervisor)
    yield "Configuration", code(node.configuration)
    if node.pair:
        yield "Docker and Kata", escaped(view.of_pair(node.pair))
    if (last := _last(node)) is not None:
        yield view.command_line(node), code(last.command_line)


def _rung_name(row: view.Row) -> str:
    looks_at = f" {code(row.looks_at)}" if row.looks_at else ""
    return f"{escaped(row.name)}{looks_at}{'' if row.counts else ' (beside the promise)'}"


def _cell(rung: Rung | None) -> tuple[str, str]:
    if rung is None:
        return "", ""
    words = " · ".join(filter(None, [code(view.value(rung)), escaped(view.detail(rung))]))
    return f"{MARKS[rung.verdict]} {rung.verdict}{f' · {words}' if words else ''}", view.seconds(rung.at)
