"""What a person reads: tables and sentences, which a terminal gets with color and a pipe without, never cut there."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.table import Table
from rich.text import Text

from fleet.measure import MOST, Measured
from fleet.stack import Answers, without_proof
from nodekit.rules.difference import MAX_DIFF_LINES
from nodekit.rules.text import printable

if TYPE_CHECKING:  # what reads clusters need not be loaded where there is none
    from fleet.measure_objects import MeasuredCluster, MeasuredObject

MAX_TEXT = 20_000
"""Characters of one text that are shown."""
PIPE_WIDTH = 100_000
"""Columns where nobody looks at a terminal: nothing is folded or cut."""


def console(*, stderr: bool = False) -> Console:
    """Writes to a terminal or a pipe. Which of them it is, no variable of CI decides: FORCE_COLOR and TTY_COMPATIBLE would have
    tables folded at 80 columns in its logs, and every turn of the progress line."""
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        result = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
        if result.is_terminal and result.width > 0:  # COLUMNS=0 leaves no room for a letter
            return result
    return Console(
        stderr=stderr, highlight=False, emoji=False, markup=False, width=PIPE_WIDTH, no_color=True, force_terminal=False
    )


def progress(text: Text) -> Status:
    """A line on standard error that turns, and can be changed, while something takes its time; nothing but on a terminal."""
    errors = console(stderr=True)
    # The dots are letters of Braille, which few encodings have.
    return errors.status(text, spinner="dots" if errors.encoding.startswith("utf") else "line")


def write(*parts: RenderableType) -> None:
    """Print to standard output; into a pipe without blanks at the ends of lines, and without empty lines."""
    out = console()
    if out.is_terminal:
        out.print(*parts, sep="\n")
        return
    lines = (line.strip() if not line.startswith("    ") else line.rstrip() for part in parts for line in _plain(out, part))
    out.file.write("".join(f"{line}\n" for line in lines if line))
    out.file.flush()


def _plain(out: Console, part: RenderableType) -> Iterator[str]:
    """The lines of a part where nothing is folded. Only a table has to be laid out: doing that with each line of diffs takes most
    of the time of a command that shows some thousand nodes."""
    if isinstance(part, Group):
        for inner in part.renderables:
            yield from _plain(out, inner)
    elif isinstance(part, Text):
        yield from part.plain.expandtabs().splitlines()
    else:
        with out.capture() as captured:
            out.print(part)
        yield from captured.get().splitlines()


class Fitting(Text):
    """A text that is folded only if it does not fit in a line of the terminal: rich looks for the words of any."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        if self.spans or "\n" in self.plain or "\t" in self.plain or cell_len(self.plain) > options.max_width:
            return super().__rich_console__(console, options)
        return [Segment(self.plain, console.get_style(self.style, default="")), Segment(self.end)]


def text(value: object, style: str = "") -> Text:
    """Any text of a node, which is made harmless, and cut: to fold megabytes takes minutes."""
    return Fitting(printable(str(value), MAX_TEXT), style=style)


def line(value: object, style: str = "") -> Text:
    """The same on one line: another would look like a row, or a sentence, of another node."""
    return text(" ".join(str(value)[: 2 * MAX_TEXT].split()), style)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose cells are folded, not cut."""
    result = Table(box=box.SIMPLE_HEAD if console().is_terminal else None, pad_edge=False)
    for heading in headings:
        result.add_column(heading, overflow="fold")
    for row in rows:
        result.add_row(*(cell if isinstance(cell, Text) else line(cell) for cell in row))
    return result


def fleet(stack: str, answers: Answers, gone: Sequence[str]) -> RenderableType:
    """The tables of `status`: the nodes, the objects of clusters, and how many there are."""
    rows = [
        [measurement.host.name, state(measurement), docker(measurement), kata(measurement), proof(measurement)]
        for measurement in answers.nodes
    ]
    rows += [[name, text("gone", "dim"), "", "", ""] for name in gone]
    parts: list[RenderableType] = []
    if rows or not answers.clusters:
        parts.append(table(["NODE", "STATE", "DOCKER", "KATA", "PROVEN"], sorted(rows, key=lambda row: str(row[0]))))
    if answers.clusters:
        objects = [row for cluster in answers.clusters for row in object_rows(cluster)]
        parts.append(table(["KIND", "NAMESPACE", "NAME", "STATE"], objects))
    counted = [_counted(len(answers.nodes), "nodes", answers.unmeasured_nodes, len(answers.differing_nodes))]
    if answers.clusters:
        numbers = len(answers.objects), "objects", answers.unmeasured_objects, len(answers.differing_objects)
        counted.append(_counted(*numbers))
    counted += [without_proof(name) for name in answers.unfinished]
    return Group(*parts, text(f"Stack {stack}: {'; '.join(counted)}"))


def _counted(number: int, kind: str, unmeasured: int, differing: int) -> str:
    return f"{number} {kind}, {unmeasured} not reached, {differing} with differences"


def object_rows(cluster: "MeasuredCluster") -> list[list[object]]:
    """A row an object; one for a whole cluster that could not be reached."""
    if cluster.cause is not None:
        return [["cluster", "", cluster.cluster.name, text(f"not reached: {cluster.cause}", "red")]]
    return [
        [measured.item.kind, measured.item.namespace or "", measured.item.name, object_state(measured)]
        for measured in cluster.objects
    ]


def object_state(measured: "MeasuredObject") -> Text:
    """One cell: whether the object is as the stack left it."""
    if measured.differences:
        return text(", ".join(dict.fromkeys(difference.kind for difference in measured.differences)), "yellow")
    if measured.cause is not None:
        return text(f"not reached: {measured.cause}", "red")
    return text("its node is gone", "dim") if measured.gone else text("as deployed", "green")


def state(measurement: Measured) -> Text:
    """One cell: whether the node is as the stack left it."""
    if measurement.document is None:
        return text(f"not reached: {measurement.cause}", "red")
    if measurement.differences:
        return line(", ".join(dict.fromkeys(str(item["kind"]) for item in measurement.differences[:MOST])), "yellow")
    return text("as deployed", "green")


def docker(measurement: Measured) -> str:
    """dockerd's version, and whether its packages are held."""
    status = measurement.status.get("docker")
    daemon = status.get("daemon") if isinstance(status, Mapping) else None
    if not isinstance(status, Mapping) or not isinstance(daemon, Mapping):
        return ""
    packages = status.get("packages") or {}
    held = (
        isinstance(packages, Mapping)
        and packages
        and "reason" not in packages
        and all(isinstance(package, Mapping) and package.get("held") for package in packages.values())
    )
    return f"{daemon.get('version') or 'silent'}{', held' if held else ''}"


def kata(measurement: Measured) -> str:
    """Its release."""
    status = measurement.status.get("kata")
    version = status.get("version") if isinstance(status, Mapping) else None
    return version if isinstance(version, str) else ""


def proof(measurement: Measured) -> str:
    """When the last proof ended, what it read, and where it ran."""
    evidence = measurement.host.evidence
    if evidence is None:
        return "never"
    time = (measurement.host.proven or "").partition(".")[0].replace("T", " ").removesuffix("Z")
    when = f"{time} UTC" if time else "at an unknown time"  # older engines keep none
    return f"{when}, {evidence.get('userNamespaces')} user namespaces, kernel {evidence.get('guestKernel')}"


def differences(measurement: Measured) -> RenderableType:
    """A node's differences in words, each with the diff of its file and who could have caused it."""
    parts: list[RenderableType] = []
    items, notes = measurement.differences, (measurement.document or {}).get("notes") or []
    for item in items[:MOST]:
        parts += _difference(f"{measurement.host.name}: {item['what']}", item)
    parts += [line(f"{measurement.host.name}: note: {note}", "dim") for note in notes[:MOST]]
    for kind, entries in (("differences", items), ("notes", notes)):
        if len(entries) > MOST:
            parts.append(line(f"{measurement.host.name}: {len(entries) - MOST} more {kind} are not shown", "dim"))
    return Group(*parts)


def drift(answers: Answers) -> RenderableType:
    """All of what differs, after what could not be measured."""
    parts: list[RenderableType] = []
    for measurement in answers.nodes:
        if measurement.cause is not None:
            parts.append(text(f"{measurement.host.name}: not measured: {measurement.cause}", "red"))
        parts.append(differences(measurement))
    for cluster in answers.clusters:
        if cluster.cause is not None:
            parts.append(text(f"cluster {cluster.cluster.name}: not measured: {cluster.cause}", "red"))
        for measured in cluster.objects:
            if measured.cause is not None:
                parts.append(text(f"{measured.item.label}: not measured: {measured.cause}", "red"))
            for difference in measured.differences:
                parts += _difference(difference.message, difference.as_dict())
            parts += [text(f"note: {note}", "dim") for note in measured.notes]
    parts += [line(f"{without_proof(name)}. [setting]", "bold") for name in answers.unfinished]
    return Group(*parts)


def _difference(sentence: str, item: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = [line(f"{sentence}. [{item['kind']}]", "bold")]
    parts += [Text("    ").append_text(line(trace, "dim")) for trace in (item.get("traces") or [])[:MOST]]
    if item.get("diff"):
        rows = str(item["diff"]).splitlines()
        rows = [*rows[: MAX_DIFF_LINES + 1], *(["(cut)"] if len(rows) > MAX_DIFF_LINES + 1 else [])]
        parts += [text(f"    {row}", _COLORS.get(row[:1], "")) for row in rows]
    return parts


_COLORS = {"+": "green", "-": "red", "@": "cyan"}


def as_json(values: object) -> str:
    """One line of JSON. The values are as they came: what would command a CI anywhere in a line of its log is escaped."""
    return json.dumps(values).replace("##", "#\\u0023")


def document(stack: str, answers: Answers, gone: Sequence[str]) -> dict[str, Any]:
    """All of it for programs."""
    return {
        "stack": stack,
        "nodes": [
            {
                "name": measurement.host.name,
                "address": measurement.host.address,
                "reached": measurement.document is not None,
                "cause": measurement.cause,
                "seconds": round(measurement.seconds, 3),
                "programSent": measurement.sent,
                "differences": measurement.differences,
                "notes": (measurement.document or {}).get("notes") or [],
                "proven": measurement.host.proven,
                "evidence": measurement.host.evidence,
                "status": measurement.status or None,
            }
            for measurement in answers.nodes
        ],
        "gone": list(gone),
        "unfinished": list(answers.unfinished),
        "clusters": [
            {
                "name": cluster.cluster.name,
                "reached": cluster.cause is None,
                "cause": cluster.cause,
                "seconds": round(cluster.seconds, 3),
            }
            for cluster in answers.clusters
        ],
        "objects": [
            {
                "cluster": cluster.cluster.name,
                "apiVersion": measured.item.api_version,
                "kind": measured.item.kind,
                "namespace": measured.item.namespace,
                "name": measured.item.name,
                "reached": cluster.cause is None and measured.cause is None,
                "cause": measured.cause or cluster.cause,
                "differences": [difference.as_dict() for difference in measured.differences],
                "notes": list(measured.notes),
            }
            for cluster in answers.clusters
            for measured in cluster.objects
        ],
    }
