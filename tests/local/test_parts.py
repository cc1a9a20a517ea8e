"""Set-up belongs to the program that asked for it: its words are passed on, and it ends with it."""

import time
from pathlib import Path

import pytest

from local import parts, process

SET_UP = """
import pathlib, subprocess, sys
build = subprocess.Popen(["sleep", "300"])
try:
    print("Building etcd ...", file=sys.stderr, flush=True)
    build.wait()
finally:
    build.kill()
    pathlib.Path("cleaned").touch()
"""


def test_set_up_ends_with_the_program_that_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "local.py").write_text(SET_UP)
    monkeypatch.setattr(parts, "CHECKOUT", tmp_path)

    def interrupted(line: str) -> None:
        assert line == "Building etcd ..."
        raise process.Interrupted

    monkeypatch.setattr(parts, "progress", interrupted)
    begin = time.monotonic()
    with pytest.raises(process.Interrupted):
        parts.from_set_up()
    assert time.monotonic() - begin < 10
    assert (tmp_path / "cleaned").exists()
