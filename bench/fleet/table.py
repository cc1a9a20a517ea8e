"""The page about speed: tables of what was measured, ratios beside their targets, and what is real and what is played."""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from bench.fleet.records import Figure, Machine
from bench.fleet.targets import Reached

TITLES = {
    "converge": "First converge of fresh hosts",
    "check": "Check of hosts that nobody changed",
    "change": "One changed parameter",
}


COLUMNS = ("processor, and of each host", "connections a host", "runs")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def of_job(job: str, known: Sequence[Figure]) -> Iterator[str]:
    """The lines of one job's table: seconds by contender and number of hosts."""
    rows = [figure for figure in known if figure.job == job]
    sizes = sorted({figure.hosts for figure in rows})
    by_place = {(figure.contender, figure.hosts): figure for figure in rows}
    yield f"## {TITLES[job]}"
    yield ""
    yield _row(["contender", *(f"{size} host{'s'[: size > 1]}" for size in sizes), *COLUMNS])
    yield _row(["---", *("---:" for _ in (*sizes, *COLUMNS))])
    for contender in dict.fromkeys(figure.contender for figure in rows):
        own = [by_place.get((contender, size)) for size in sizes]
        last = [figure for figure in own if figure is not None][-1]
        runs = "/".join(str(figure.runs) if figure else "–" for figure in own)
        cells = [
            f"{_seconds(figure.seconds)} s ({_seconds(figure.shortest)}–{_seconds(figure.longest)})" if figure else "–"
            for figure in own
        ]
        processor = f"{_seconds(last.processor_seconds)} s + {_seconds(last.host_seconds / last.hosts)} s"
        yield _row([contender, *cells, processor, f"{last.connections:g}", runs])
    yield ""


def of_targets(reached: Sequence[Reached], reasons: Mapping[str, str]) -> Iterator[str]:
    """The lines of the ratios beside their targets, and a sentence for each that is missed; `reasons` by job."""
    sizes = sorted({each.hosts for each in reached})
    by_place = {(each.target, each.hosts): each for each in reached}
    yield "## Ratios beside their targets"
    yield ""
    yield _row(["job", "ratio", *(f"{size} host{'s'[: size > 1]}" for size in sizes), "target"])
    yield _row(["---", "---", *("---:" for _ in sizes), "---:"])
    for target in dict.fromkeys(each.target for each in reached):
        own = [by_place.get((target, size)) for size in sizes]
        cells = [f"{each.ratio:.2f}{'' if each.met else ' (missed)'}" if each else "–" for each in own]
        yield _row([target.job, f"{target.contender} / {target.other}", *cells, f"≤ {target.limit:g}"])
    yield ""
    missed = {each.target.job for each in reached if not each.met}
    for job in TITLES:
        if job in missed:
            yield reasons[job]
            yield ""


def page(machine: Machine, known: Sequence[Figure], reached: Sequence[Reached], reasons: Mapping[str, str], about: str) -> str:
    """The whole page."""
    others = round(statistics.median(figure.others for figure in known) * 100)
    head = (
        f"Measured on {machine.date}: {machine.cores} processors ({machine.processor}), {machine.memory_gib} GiB, Linux "
        f"{machine.kernel}. Other programs had {others} % of the processors "
        "meanwhile (median of all runs).\n\n"
        "Times are medians of alternating runs, with the least and the most. The columns after them are of the largest number "
        "of hosts: the processor time where the job is started and on each host, and the SSH connections that a host accepted."
    )
    lines = [about.rstrip("\n"), "", head, "", "![The same as a picture](speed.svg)", ""]
    for job in TITLES:
        if any(figure.job == job for figure in known):
            lines += of_job(job, known)
    lines += of_targets(reached, reasons)
    return "\n".join(lines).rstrip("\n") + "\n"
