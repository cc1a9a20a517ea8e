"""A checkout holds the same bytes on every operator's machine: they are what nodes run, and what a proof is of."""

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_git_for_windows_does_not_end_lines_of_scripts_with_cr_lf(tmp_path: Path) -> None:
    """Of such a checkout, seen from WSL, `tools/env` did not start, and a stack sent its nodes scripts that no shell runs."""
    names = ("tools/env", "delivery/converge.sh", "nodekit/bootstrap.sh", "nodekit/__main__.py", "docs/report.png")
    argv = ["git", "-c", "core.autocrlf=true", "checkout-index", f"--prefix={tmp_path}/", *names]
    subprocess.run(argv, cwd=REPOSITORY, check=True, timeout=60)
    assert [name for name in names if (tmp_path / name).read_bytes() != (REPOSITORY / name).read_bytes()] == []
