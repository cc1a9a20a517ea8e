"""docs/run.svg: lines that a real `make up` printed (docs/run.txt), drawn as a terminal shows them."""

from html import escape
from pathlib import Path

TRANSCRIPT = Path(__file__).resolve().parents[2] / "docs" / "run.txt"
COLUMN, LINE, MARGIN = 7.8, 17, 16
"""Pixels: a character of a 13-pixel monospace font, a line, the edge."""
COLORS = {"$ ": "#9ece6a", "    ": "#7aa2f7", "": "#c0caf5"}
"""Beginning of a line -> its color: what was typed, outputs, everything else."""


def text() -> str:
    """The picture."""
    lines = TRANSCRIPT.read_text(encoding="utf-8").rstrip("\n").split("\n")
    width = round(max(map(len, lines)) * COLUMN) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    drawn = []
    for number, line in enumerate(lines):
        color = next(color for start, color in COLORS.items() if line.startswith(start))
        y = MARGIN + LINE * number + 13
        drawn.append(f'<text x="{MARGIN}" y="{y}" fill="{color}" xml:space="preserve">{escape(line, quote=False)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="A run of make up" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="#1a1b26"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )
