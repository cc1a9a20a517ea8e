"""The command `kata-nodes` as a process, against an engine that answers at once.

What would be lost if these failed: one sentence, not a traceback, where a node is named that is not there.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = '{"version": 3, "deployment": {"manifest": {}, "resources": []}}'


@pytest.mark.parametrize("argv", [["prove", "n9"], ["explain", "n9"], ["overhead", "n9"]])
def test_node_that_is_not_there_is_a_sentence_alone(tmp_path: Path, argv: list[str]) -> None:
    engine = tmp_path / "pulumi"
    engine.write_text(f"#!/bin/sh\necho '{STATE}'\n")
    engine.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "fleet", *argv, "--stack", "rack"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("has no node 'n9'. Its nodes: none.\n") and len(ended.stderr.splitlines()) == 1
