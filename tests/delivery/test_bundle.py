"""The node program travels as one file that is the same for the same sources and runs without anything else installed."""

import json
import subprocess
import sys
from pathlib import Path

from delivery import bundle
from nodekit.__main__ import VERBS


def run(pyz: Path, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-S", str(pyz), *argv], input=stdin, capture_output=True, text=True, check=False)


def test_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    assert bundle.build(tmp_path / "a.pyz") == bundle.build(tmp_path / "b.pyz")
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


def test_runs_without_site_packages_and_keeps_its_exit_codes(tmp_path: Path) -> None:
    pyz = tmp_path / "nodekit.pyz"
    bundle.build(pyz)
    assert "Kata" in run(pyz, "--help").stdout
    status = run(pyz, "status", "--json")
    assert status.returncode == 0 and "kata" in json.loads(status.stdout)
    refused = run(pyz, "kata", "--root", str(tmp_path), stdin='{"node": 1}')
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"]["code"] == "bad-input"
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert run(pyz, "no-such-verb").returncode == 2


def test_every_verb_is_a_module_in_it(tmp_path: Path) -> None:
    pyz = tmp_path / "nodekit.pyz"
    bundle.build(pyz)
    for verb in VERBS:
        assert run(pyz, verb, "--help").returncode == 0
        assert (Path(__file__).resolve().parents[2] / "nodekit" / "commands" / f"{verb}.py").exists()
