"""The stand-in's programs: their own tests pass, and their code is formatted and vetted."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import get

GROUP = Path(get.__file__).parent / "go/stand-in-shim"
pytestmark = [
    pytest.mark.machine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed"),
]


@pytest.mark.parametrize("verb", ["vet", "test"])
def test_go_finds_nothing_wrong(verb: str) -> None:
    environment = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    result = subprocess.run(["go", verb, "./..."], cwd=GROUP, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_code_is_formatted() -> None:
    result = subprocess.run(["gofmt", "-l", "."], cwd=GROUP, capture_output=True, text=True, check=True)
    assert result.stdout == ""
