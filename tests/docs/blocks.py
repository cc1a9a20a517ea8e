"""Command blocks of the documents, and the mark that decides where each of them runs; docs/README.md describes it to writers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = ("fast", "engine", "machine")
_FENCE = re.compile(r"^ *```+ *(\S*)")
_RUNS = re.compile(r"<!-- runs: (\w+)(?:, exit (\d+))? -->")
_NEEDS = re.compile(r"<!-- needs: \S.* -->")


@dataclass(frozen=True)
class Block:
    """A fenced block, where it stands, and the line before it."""

    where: str
    language: str
    mark: str
    text: str

    @property
    def is_commands(self) -> bool:
        """Whether a reader would type it."""
        return self.language == "sh"

    @property
    def fault(self) -> str | None:
        """What is wrong with it."""
        if self.language in ("bash", "shell", "console", "zsh", "fish", "shell-session", "terminal"):
            return f"{self.where}: commands are fenced as ```sh, not ```{self.language}"
        if not self.is_commands:
            return None
        runs = _RUNS.fullmatch(self.mark)
        if runs is None and not _NEEDS.fullmatch(self.mark):
            return f"{self.where}: say where it runs in the line before it: <!-- runs: fast --> or <!-- needs: WHAT CI LACKS -->"
        return f"{self.where}: runs is one of {', '.join(PLACES)}" if runs and runs[1] not in PLACES else None

    @property
    def place(self) -> str | None:
        """Where it runs, or None where it needs what CI lacks."""
        runs = _RUNS.fullmatch(self.mark)
        return runs[1] if runs else None

    @property
    def status(self) -> int:
        """Exit status that it ends with."""
        runs = _RUNS.fullmatch(self.mark)
        return int(runs[2] or 0) if runs else 0


def blocks(text: str, name: str) -> Iterator[Block]:
    """The fenced blocks of a document."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence:
            begin, at = at, at + 1
            while at < len(lines) and not lines[at].strip().startswith("```"):
                at += 1
            mark = lines[begin - 1].strip() if begin else ""
            yield Block(f"{name}:{begin + 1}", fence[1], mark, "\n".join(lines[begin + 1 : at]) + "\n")
        at += 1


def all_blocks() -> list[Block]:
    """Those of the README and of all pages in docs/."""
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    return [block for file in files for block in blocks(file.read_text(), file.relative_to(REPOSITORY).as_posix())]
