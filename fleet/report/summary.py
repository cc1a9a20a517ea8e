"""Sums up the documents of many stacks. Pure functions."""

from collections.abc import Iterable

from fleet.report.document import VERSION, Fleet, Node, Report, Summary
from fleet.report.view import is_unmeasured
from nodekit.rules.text import printable


def fleet(summaries: Iterable[Summary], written: str) -> Fleet:
    """The document of many stacks."""
    return Fleet(version=VERSION, kind="fleet", written=written, stacks=tuple(summaries))


def of(report: Report) -> Summary:
    """One stack's line; machines that are gone do not count."""
    nodes = [node for node in report.nodes if node.outcome != "gone"]
    times = [node.proof.began or node.proof.ended for node in nodes if node.proof]
    pairs = [node.pair for node in nodes if node.pair]
    return Summary(
        stack=report.stack,
        readable=True,
        outcome=report.outcome,
        nodes=len(nodes),
        proven=sum(node.outcome in ("proven", "drifted") for node in nodes),
        failed=sum(node.outcome == "failed" for node in nodes),
        drifted=sum(node.outcome == "drifted" for node in nodes),
        not_measured=sum(map(is_unmeasured, nodes)) + sum(each.state == "not measured" for each in report.objects),
        oldest=min((time for time in times if time), default=None),
        docker=tuple(sorted({pair.docker for pair in pairs})),
        kata=tuple(sorted({pair.kata for pair in pairs})),
        problem=_problem(report, nodes),
    )


def unreadable(stack: str, why: str) -> Summary:
    """The line of a stack whose state cannot be read."""
    return Summary(
        stack=printable(stack, 200),
        readable=False,
        outcome="unproven",
        nodes=0,
        proven=0,
        failed=0,
        drifted=0,
        not_measured=0,
        oldest=None,
        docker=(),
        kata=(),
        problem=printable(" ".join(why.split())),
    )


def _problem(report: Report, nodes: Iterable[Node]) -> str:
    """The reason of the first node that has the stack's own outcome, or else of the first object that differs."""
    if report.outcome == "proven":
        return ""
    worst = next((node for node in nodes if node.outcome == report.outcome), None)
    if worst is None:
        return next((each.differences[0] for each in report.objects if each.differences), "it has no nodes")
    if worst.proof and worst.proof.failure:
        return f"{worst.proof.failure.message.rstrip('.')}. [{worst.proof.failure.code}]"
    return f"{worst.name}: {worst.differences[0] if worst.differences else worst.not_measured or 'no proof is known'}"
