"""What Markdown and HTML show alike: words for verdicts, counts and times, and the rungs of all places in one table."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.pairs import with_sources
from fleet.report.document import NEVER_MEASURED, PROOF_IN_PODS, Climb, ClusterObject, Fleet, Node, Pair, Report, Rung, StepState
from nodekit.rules.proof.ladder import COMMANDS

COMMAND_RUNGS = frozenset(command.name for command in COMMANDS)
STANDS_FOR = re.compile(r"part of ([a-z-]+)|([a-z-]+) does this and more")
"""What the ladder says of a rung that it did not climb by itself, with the name of the other; the second form is an older one."""
LONG = frozenset({"command-line"})
"""Rungs whose value stands elsewhere in the document."""
SHOWN = 160
"""Characters of a value in a table; the JSON has the rest."""
BEHIND: tuple[StepState, ...] = ("failed", "not reached", "not tried")
"""The first of these that a node has is shown of a step of all nodes."""
STEPS = ("preflight", "Docker", "Kata", "guest proof", "container proof", "pod proof")


def when(time: str | None) -> str:
    """A time of the document for people."""
    if not time:
        return "not recorded"
    return f"{time.partition('.')[0].removesuffix('Z').replace('T', ' ')} UTC"


def seconds(value: float | None) -> str:
    """A duration; empty where it was not recorded."""
    return "" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def value(rung: Rung) -> str:
    """What was read: an exit status only where it says something, and no line that would fill a table."""
    if rung.name in LONG:
        return ""
    if rung.name in COMMAND_RUNGS:
        return f"exit {rung.value}" if rung.verdict == "failed" and rung.value else ""
    return rung.value if len(rung.value) <= SHOWN else rung.value[: SHOWN - 1] + "…"


def detail(rung: Rung) -> str:
    """Words that belong to it: why it was not passed, or which other rung stands for it."""
    text = rung.detail
    if rung.verdict == "passed":
        stronger = STANDS_FOR.fullmatch(text) if rung.name in COMMAND_RUNGS else None
        text = f"with {stronger[1] or stronger[2]}" if stronger else ""
    return text if len(text) <= 2 * SHOWN else text[: 2 * SHOWN - 1] + "…"


@dataclass(frozen=True)
class Row:
    """One rung in all places."""

    name: str
    looks_at: str
    counts: bool
    cells: tuple[Rung | None, ...]
    """In the order of the climbs; None where it was not asked for."""


def ladder(climbs: Sequence[Climb]) -> list[Row]:
    """The rungs of all climbs, in the ladder's order."""
    names = list(dict.fromkeys(rung.name for climb in climbs for rung in climb.rungs))
    by_place = [{rung.name: rung for rung in climb.rungs} for climb in climbs]
    rows = []
    for name in names:
        cells = tuple(rungs.get(name) for rungs in by_place)
        known = [cell for cell in cells if cell]
        rows.append(Row(name, known[0].looks_at, any(cell.counts for cell in known), cells))
    return rows


@dataclass(frozen=True)
class Stage:
    """One step of the flow, over all nodes."""

    name: str
    state: StepState
    text: str


def flow(report: Report) -> Iterator[Stage]:
    """The way of the stack's nodes: what is done on how many of them, from its file to its outputs."""
    yield Stage("stack file", "done", "")
    nodes = [node for node in report.nodes if node.outcome != "gone"]
    for name in STEPS:
        states: list[StepState] = [step.state for node in nodes for step in node.steps if step.name == name]
        if name == "pod proof":
            states += ["not reached" for each in report.objects if each.kind == PROOF_IN_PODS]
        if states:
            state: StepState = next((behind for behind in BEHIND if behind in states), "done")
            text = state if len(states) == 1 else f"{states.count(state)}/{len(states)} {state}"
            yield Stage(name, state, text)
    yield Stage("outputs", "done" if report.checklist else "not reached", "checklist" if report.checklist else "not reached")


def sentence(report: Report) -> str:
    """The report in one sentence."""
    nodes = [node for node in report.nodes if node.outcome != "gone"]
    proven = sum(node.outcome in ("proven", "drifted") for node in nodes)
    all_of = "The node is" if len(nodes) == 1 else f"All {len(nodes)} nodes are"
    parts = [f"{all_of} proven" if proven == len(nodes) else f"{proven} of {len(nodes)} nodes proven"]
    if not nodes:
        parts = ["The stack has no nodes"]
    for outcome, words in (("failed", "failed"), ("unproven", "not proven"), ("drifted", "changed since")):
        parts += _named(words, [node.name for node in nodes if node.outcome == outcome])
    # Their proofs are what the stack had before.
    parts += _named("not measured now", [node.name for node in nodes if node.proof and is_unmeasured(node)])
    parts += _named("no proof in pods", [each.name for each in report.objects if each.kind == PROOF_IN_PODS])
    objects = [each for each in report.objects if each.kind != PROOF_IN_PODS]
    for state, words in (("differs", "changed since"), ("not measured", "not measured now")):
        if number := sum(each.state == state for each in objects):
            parts.append(f"{number} of {len(objects)} objects on clusters {words}")
    return f"{'; '.join(parts)}."


def of_fleet(fleet: Fleet) -> str:
    """The document of many stacks in one sentence."""
    nodes, proven, silent = (sum(getattr(line, key) for line in fleet.stacks) for key in ("nodes", "proven", "not_measured"))
    parts = [f"{proven} of {nodes} nodes are proven"]
    if unreadable := sum(not line.readable for line in fleet.stacks):
        parts.append(f"the state of {unreadable} of {len(fleet.stacks)} stacks could not be read")
    if silent:
        parts.append(f"{silent} nodes and objects on clusters were not measured")
    return f"{'; '.join(parts)}."


def _named(words: str, names: Sequence[str]) -> list[str]:
    """A part of the sentence with the first of these names; none without names."""
    others = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{words}: {', '.join(names[:5])}{others}"] if names else []


def is_unmeasured(node: Node) -> bool:
    """Whether a node should have been measured and could not be."""
    return node.not_measured not in ("", NEVER_MEASURED)


def of_pair(pair: Pair) -> str:
    """What is known of Docker and Kata on a node; of one that is not known to break, the reason says whether it was tried."""
    broken = f"Docker {pair.docker} with Kata {pair.kata} ({pair.runtime}) is known to break: "
    return f"{'' if pair.works else broken}{with_sources(pair.reason, pair.sources)}"


def command_line(node: Node) -> str:
    """What the guest's command line of a node's proof is called: a pod has room for a part of it."""
    is_part = node.proof is not None and node.proof.source == "cluster"
    return "Of the guest's command line, what its proof looks for" if is_part else "Guest's command line"


def of_object(each: ClusterObject) -> str:
    """What is known of an object: what differs, or why nothing is known."""
    return "; ".join(each.differences) or each.not_measured


def proven_at(node: Node) -> str:
    """When the newest proof began, or else ended."""
    return when(node.proof.began or node.proof.ended) if node.proof else "never"
