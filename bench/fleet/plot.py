"""The figures as a picture: one panel a job, seconds over the number of hosts on logarithmic axes, one line a contender."""

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from bench.fleet.records import Figure
from bench.fleet.table import TITLES

WIDTH, PANEL, LEFT, TOP, PLOT_HEIGHT, PLOT_WIDTH, LABELS = 860, 300, 60, 36, 220, 480, 14
COLORS = {
    "pulumi up": "#7c3aed", "kata-nodes status": "#7c3aed", "kata-nodes drift": "#c026d3", "node program alone": "#0284c7",
    "ansible": "#dc2626", "pyinfra": "#d97706", "ssh, the floor": "#6b7280",
}  # fmt: skip
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}.grid{stroke:#9ca3af;stroke-opacity:.4}.title{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e5e7eb}}"
)


def ticks(lowest: float, highest: float) -> list[float]:
    """The round values 1, 2, 5, 10, ... that enclose all values."""
    values = [mantissa * 10.0**power for power in range(-2, 5) for mantissa in (1, 2, 5)]
    low = max((value for value in values if value <= lowest), default=values[0])
    high = min((value for value in values if value >= highest), default=values[-1])
    return [value for value in values if low <= value <= high]


def place(value: float, low: float, high: float, length: float) -> float:
    """Where a value stands on a logarithmic axis of a length."""
    if high <= low:
        return length / 2
    return length * (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))


def panel(job: str, known: Sequence[Figure], top: float) -> Iterator[str]:
    """The elements of one job."""
    rows = [figure for figure in known if figure.job == job]
    sizes = sorted({figure.hosts for figure in rows})
    marks = ticks(min(figure.seconds for figure in rows), max(figure.seconds for figure in rows))

    def x(hosts: int) -> float:
        return LEFT + place(hosts, sizes[0], sizes[-1], PLOT_WIDTH)

    def y(seconds: float) -> float:
        return top + TOP + PLOT_HEIGHT - place(seconds, marks[0], marks[-1], PLOT_HEIGHT)

    yield f'<text class="title" x="{LEFT}" y="{top + 20:g}">{escape(TITLES[job])}: seconds over hosts</text>'
    for mark in marks:
        yield f'<path class="grid" d="M{LEFT} {y(mark):.1f}h{PLOT_WIDTH}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>'
    for size in sizes:
        yield f'<text x="{x(size):.1f}" y="{top + TOP + PLOT_HEIGHT + 18:.1f}" text-anchor="middle">{size}</text>'
    ends = []
    for contender in dict.fromkeys(figure.contender for figure in rows):
        own = sorted((figure for figure in rows if figure.contender == contender), key=lambda figure: figure.hosts)
        points = " ".join(f"{x(figure.hosts):.1f},{y(figure.seconds):.1f}" for figure in own)
        color = COLORS[contender]
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'
        for figure in own:
            yield f'<circle cx="{x(figure.hosts):.1f}" cy="{y(figure.seconds):.1f}" r="3.5" fill="{color}"/>'
        ends.append((y(own[-1].seconds), contender, own[-1]))
    last = -math.inf
    for height, contender, figure in sorted(ends, key=lambda end: end[0]):
        last = max(height, last + LABELS + 2)
        label = escape(f"{contender}, {figure.seconds:.3g} s")
        yield f'<circle cx="{LEFT + PLOT_WIDTH + 22}" cy="{last:.1f}" r="4" fill="{COLORS[contender]}"/>'
        yield f'<text x="{LEFT + PLOT_WIDTH + 34}" y="{last + 4:.1f}">{label}</text>'


def svg(known: Sequence[Figure]) -> str:
    """The picture."""
    jobs = [job for job in TITLES if any(figure.job == job for figure in known)]
    elements = [element for number, job in enumerate(jobs) for element in panel(job, known, number * PANEL)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {PANEL * len(jobs)}" role="img">'
    title = "<title>Seconds that each contender takes, by job and number of hosts</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *elements, "</svg>", ""])
