"""A run that must end while apt works rolls back only once apt has ended.

Lost if these fail: a node that stays downgraded for ever, because the roll-back looked at packages that apt changed after that,
and forgot how they were.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from nodekit.host import apt, signals
apt.GRACE, apt.TERM_GRACE = 3.0, 2.0
signals.obey()
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGHUP)).start()
try:
    apt._follow(["sh", "-c", sys.argv[1], "apt", sys.argv[2]], 60)
finally:
    print(sorted(path.name for path in Path(sys.argv[2]).iterdir()), flush=True)
"""


def interrupted(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", INTERRUPTED, script, str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=CHECKOUT)


def test_what_apt_does_is_done_before_the_run_goes_back(tmp_path: Path) -> None:
    result = interrupted('sleep 1.5; touch "$1/installed"', tmp_path)
    assert (result.returncode, result.stdout) == (129, "['installed']\n"), result.stderr


@pytest.mark.parametrize("script", ['sleep 30; touch "$1/late"', 'trap "" TERM; sleep 30; touch "$1/late"'])
def test_apt_that_does_not_end_is_ended_and_changes_nothing_later(script: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    result = interrupted(script, tmp_path)
    assert (result.returncode, result.stdout) == (129, "[]\n"), result.stderr
    assert time.monotonic() - begin < 25
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], check=False, capture_output=True).stdout == b""
