"""The Makefile does nothing for a stack that there is not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("target", ["up", "preview", "policy"])
@pytest.mark.parametrize(("stack", "file"), [("rak", "rak"), ("acme/kata-nodes/rak", "rak")])
def test_mistyped_stack_is_refused_before_the_engine_makes_it(tmp_path: Path, target: str, stack: str, file: str) -> None:
    """`make preview STACK=rak`, which changes nothing, made a stack in the backend and a file in the way of the real one."""
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/env").write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\n")
    (tmp_path / "tools/env").chmod(0o755)
    environment = {**os.environ, "MAKEFLAGS": ""}
    argv = ["make", target, f"STACK={stack}"]
    result = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0 and not (tmp_path / "asked").exists()
    assert f"error: there is no stacks/Pulumi.{file}.yaml. Name another stack" in result.stderr


def test_bash_is_that_of_path(tmp_path: Path) -> None:
    """NixOS has no /bin/bash."""
    (tmp_path / "bash").write_text('#!/bin/sh\necho "bash of PATH"\n')
    (tmp_path / "bash").chmod(0o755)
    environment = {**os.environ, "MAKEFLAGS": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    argv = ["make", "--no-print-directory", "--file", REPOSITORY / "Makefile", "down"]
    result = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "bash of PATH\n", result.stderr
