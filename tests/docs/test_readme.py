"""The README stays readable: short, with quickstarts that a new user types in a minute, and a picture of a real run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.blocks import REPOSITORY, Block, blocks
from tests.e2e.checkout import copy
from tools.generate import picture

TEXT = (REPOSITORY / "README.md").read_text()
QUICKSTARTS = ("My hosts", "My cluster", "Just try it")
KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}"


def section(title: str) -> str:
    """What stands below a heading of the third level."""
    match = re.search(rf"^### {re.escape(title)}\n(.*?)^##", TEXT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def quickstart(title: str) -> Block:
    """Its commands."""
    (block,) = [block for block in blocks(section(title), title) if block.is_commands]
    return block


def commands(block: Block) -> list[str]:
    """One a line."""
    return [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]


def test_readme_has_at_most_1100_words() -> None:
    assert len(TEXT.split()) <= 1100


@pytest.mark.parametrize("title", QUICKSTARTS)
def test_quickstart_has_at_most_six_commands_and_no_two_in_a_line(title: str) -> None:
    lines = commands(quickstart(title))
    assert 1 <= len(lines) <= 6
    assert not [line for line in lines if re.search(r"&&|;|\|\||\\$", line.partition("    #")[0])]


@pytest.mark.slow
@pytest.mark.parametrize("title", QUICKSTARTS[:2])
def test_stack_of_a_quickstart_is_written_by_its_command(title: str, tmp_path: Path) -> None:
    ssh, checkout = tmp_path / "home/.ssh", tmp_path / "checkout"
    ssh.mkdir(parents=True)
    checkout.mkdir()
    copy(checkout)
    (ssh / "config").write_text("Host rack-a\n  HostName 192.0.2.1\n")
    (ssh / "known_hosts").write_text(f"192.0.2.1 {KEY}\n")
    (checkout / "venv/bin").mkdir(parents=True)
    (checkout / "venv/bin/python").symlink_to(sys.executable)
    lines = commands(quickstart(title))
    (command,) = [line for line in lines if "stacks.new" in line]
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "REGISTRY": "registry.example.org/team"}
    # A symbolic link to a virtual environment's Python does not lead to its packages.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    result = subprocess.run(
        ["bash", "-e", "-c", command], cwd=checkout, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (name,) = {
        name for line in lines for name in re.findall(r"--(?:name|stack) (\S+)|stack init (\S+)", line) for name in name if name
    }
    assert (checkout / "stacks" / f"Pulumi.{name}.yaml").is_file()
    # The quickstart continues with the commands that it prints.
    for line in lines[lines.index(command) + 1 : -1]:
        assert line.rpartition(" | ")[2].partition(" < ")[0] in result.stdout


def test_first_lines_say_for_whom_and_what_goes_wrong_without_it() -> None:
    head = TEXT.split("## Quickstart")[0]
    assert "For teams that run untrusted code" in head and "fails without an error message" in head and "proves it" in head


def test_stand_in_is_called_one_where_it_is_started() -> None:
    text = " ".join(section("Just try it").split())
    assert "Its Kata is a stand-in" in text and "It proves nothing about a release of Kata" in text


def test_picture_is_drawn_from_a_run_that_passed() -> None:
    run = picture.TRANSCRIPT.read_text()
    assert run.startswith("$ make up\n") and "notProven" in run and "stand-in" in run
    assert run.count("passed  : true") == 5 and "passed  : false" not in run
    drawn = ElementTree.fromstring((REPOSITORY / "docs/run.svg").read_text())
    lines = [text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert lines == run.rstrip("\n").split("\n")
    assert "](docs/run.svg)" in TEXT


def test_diagram_is_one_that_github_draws() -> None:
    (diagram,) = [block for block in blocks(TEXT, "README.md") if block.language == "mermaid"]
    lines = diagram.text.splitlines()
    assert lines[0] == "flowchart LR"
    node = r"(?!(?:end|class|style|graph|subgraph|click)\b)[a-z]+(?:\(\[\"[^\"]+\"\]\)|\[\"[^\"]+\"\]|\{\{\"[^\"]+\"\}\})?"
    for line in lines[1:]:
        assert re.fullmatch(rf"    {node}(?: --> {node})+", line), line
