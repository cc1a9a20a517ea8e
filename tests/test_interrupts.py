"""What a test starts ends by SIGINT. Lost if this fails: 5 s of each command of Pulumi, where a background job runs the tests."""

import signal
import subprocess
import sys

PROGRAM = """
import signal, subprocess, sys
from tests import interrupts
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
if "heed" in sys.argv:
    interrupts.heed()
child = subprocess.Popen(["sleep", "30"])
child.send_signal(signal.SIGINT)
try:
    print(child.wait(1))
except subprocess.TimeoutExpired:
    child.kill()
    print("lives on")
"""


def of_a_background_job(*arguments: str) -> str:
    argv = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_program_of_a_background_job_ends_by_the_signal() -> None:
    assert of_a_background_job() == "lives on"
    assert of_a_background_job("heed") == str(-signal.SIGINT)


def test_this_process_heeds_it() -> None:
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
