"""The script `tools/kata-nodes` finds its checkout, however it is called: people put a link to it in a folder of PATH."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "kata-nodes"


@pytest.mark.parametrize("target", ["../checkout/tools/kata-nodes", "{folder}/checkout/tools/kata-nodes", "second"])
def test_command_runs_through_a_link_in_the_folder_where_it_is_called(tmp_path: Path, target: str) -> None:
    tools, links, project = (tmp_path / name for name in ("checkout/tools", "links", "project"))
    for folder in (tools, links, project):
        folder.mkdir(parents=True)
    (tools / "kata-nodes").write_bytes(SCRIPT.read_bytes())
    (tools / "env").write_text('#!/bin/sh\necho ":"\n')
    (links / "python").write_text('#!/bin/sh\necho "$PYTHONPATH in $PWD: $*"\n')
    for program in (tools / "kata-nodes", tools / "env", links / "python"):
        program.chmod(0o755)
    (links / "second").symlink_to(tools / "kata-nodes")
    (links / "kata-nodes").symlink_to(target.format(folder=tmp_path))
    environment = {"PATH": f"{links}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["kata-nodes", "status"], cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == f"{tmp_path}/checkout in {project}: -m fleet status\n", result.stderr
