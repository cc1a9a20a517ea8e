"""A stand-in for GitHub's command: it keeps comments and issues in a file and writes down how it was called."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """#!{python}
import json, pathlib, re, sys
folder = pathlib.Path({folder!r})
argv = sys.argv[1:]
body = json.loads(sys.stdin.read()) if "--input" in argv else None
with open(folder / "calls", "a") as calls:
    print(json.dumps([argv, body]), file=calls)
answers = json.loads((folder / "answers.json").read_text())
method, path = (argv[2], argv[3]) if argv[1] == "--method" else ("GET", argv[1])
resource, _, query = path.partition("?")
if method == "GET" and resource in answers:
    answer = answers[resource]
    page = re.search(r"page=(\\d+)$", query)
    if page:
        first = 100 * (int(page[1]) - 1)
        answer = answer[first : first + 100]
    print(answer if isinstance(answer, str) else json.dumps(answer))
elif method == "GET":
    sys.exit(f"gh: Not Found (HTTP 404) {{path}}")
else:
    print("{{}}")
"""


class GitHub:
    """What it answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "gh"
        program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)
        self.answers: dict[str, Any] = {}

    def answer(self, path: str, value: Any) -> None:
        """Answer reads of `path`; a list is served a hundred at a time, text as it is."""
        self.answers[path] = value
        (self.folder / "answers.json").write_text(json.dumps(self.answers))

    def calls(self) -> list[tuple[list[str], dict[str, Any] | None]]:
        """Arguments and body of every call."""
        file = self.folder / "calls"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    def writes(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Method, path and body of every call that writes."""
        return [(argv[2], argv[3], body) for argv, body in self.calls() if body is not None]


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    """First on PATH; knows pull request 7, open, of commit `new`, without comments, and no issues."""
    folder = tmp_path / "github"
    folder.mkdir()
    stand_in = GitHub(folder)
    stand_in.answer("repos/o/r/pulls/7", {"head": {"sha": "new"}, "state": "open"})
    stand_in.answer("repos/o/r/issues/7/comments", [])
    stand_in.answer("repos/o/r/issues", [])
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("HEAD_SHA", "new")
    return stand_in


def git(folder: Path, *argv: str) -> None:
    """Run git there, as nobody in particular."""
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *argv], cwd=folder, check=True, capture_output=True)
