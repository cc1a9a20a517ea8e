"""What the documents tell a reader to type works: every command block runs here, or names what it needs that CI lacks."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.docs.blocks import Block, all_blocks, blocks
from tests.e2e.checkout import Checkout, copy
from tests.nightly import LONG_FORMS

pytestmark = pytest.mark.slow

BLOCKS = all_blocks()


def at(place: str) -> pytest.MarkDecorator:
    """The blocks that run at that place."""
    chosen = [block for block in BLOCKS if block.place == place]
    return pytest.mark.parametrize("block", chosen, ids=[block.where for block in chosen])


def run(block: Block, folder: Path, environment: Mapping[str, str], seconds: float) -> None:
    """Run a block as a person's shell would, stopping at the first command that fails."""
    result = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", block.text],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=seconds,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == block.status, (
        f"{block.where} ended with {result.returncode}, not {block.status}:\n{result.stdout}"
    )


def test_every_command_block_says_where_it_runs() -> None:
    assert [block.fault for block in BLOCKS if block.fault] == []
    assert any(block.place == "fast" for block in BLOCKS)


@at("fast")
def test_fast_commands_work_in_a_clean_checkout(block: Block, tmp_path: Path) -> None:
    copy(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(block, tmp_path, {**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}, 60)


@pytest.mark.engine
@at("engine")
def test_engine_commands_work_in_a_clean_checkout(block: Block, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    for stack in dict.fromkeys(re.findall(r"--stack (\w+)", block.text)):
        checkout.pulumi("stack", "init", stack)
    run(block, tmp_path, checkout.environment, 240)


# On each change `tests/e2e/test_local_stack.py` runs what these blocks consist of.
@LONG_FORMS
@pytest.mark.engine
@pytest.mark.machine
@pytest.mark.timeout(1500)
@at("machine")
def test_commands_that_make_a_machine_work_in_a_clean_checkout(block: Block, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    try:
        run(block, tmp_path, checkout.environment, 1200)
    finally:
        subprocess.run(["make", "down"], cwd=tmp_path, env=checkout.environment, check=False)


def test_commands_that_make_a_machine_are_those_of_the_local_stack_s_story() -> None:
    commands = {
        line.partition("#")[0].strip() for block in BLOCKS if block.place == "machine" for line in block.text.splitlines()
    }
    assert commands <= {"make up", "make down"}


def test_who_mounts_under_unshare_has_a_mount_namespace_of_its_own() -> None:
    """Lost if this fails: `unshare -Urpf mount` is refused in every guest, since the mounts belong to another user namespace."""
    options = [(block.where, flags) for block in BLOCKS for flags in re.findall(r"unshare (-\S+) mount\b", block.text)]
    assert options and [where for where, flags in options if "m" not in flags] == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("text\n```sh\nls\n```\n", "say where it runs"),
        ("<!-- runs: fast -->\n\n```sh\nls\n```\n", "say where it runs"),  # not the line before
        ("<!-- runs: somewhere -->\n```sh\nls\n```\n", "runs is one of"),
        ("<!-- needs: -->\n```sh\nls\n```\n", "say where it runs"),
        ("<!-- runs: fast -->\n```bash\nls\n```\n", "fenced as ```sh"),
        ("<!-- needs: AWS -->\n```sh\nls\n```\n", None),
        ("- item\n  <!-- runs: fast, exit 1 -->\n  ```sh\n  false\n  ```\n", None),
        ("```yaml\na: b\n```\n", None),
    ],
)
def test_unmarked_commands_are_found(page: str, fault: str | None) -> None:
    (block,) = blocks(page, "page.md")
    assert (fault in (block.fault or "")) if fault else block.fault is None


def test_block_that_ends_otherwise_than_it_says_is_found(tmp_path: Path) -> None:
    (block,) = blocks("<!-- runs: fast, exit 3 -->\n```sh\nexit 3\n```\n", "page.md")
    run(block, tmp_path, os.environ, 10)
    (block,) = blocks("<!-- runs: fast -->\n```sh\nfalse\ntrue\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"page\.md:2 ended with 1, not 0"):
        run(block, tmp_path, os.environ, 10)
