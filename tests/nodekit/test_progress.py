"""A listener that is gone, or reads nothing, and a second signal stop nothing that was begun.

Lost if these fail: a roll-back that its own progress line or a second signal ends in the middle, or a verb that waits for ever
for somebody who does not read."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SIGNALLED = """
import os, signal
from nodekit.host import signals
signals.obey()
steps = []
try:
    try:
        with signals.undisturbed():
            for number in signals.ENDING:
                os.kill(os.getpid(), number)
            steps.append("shielded")
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append("never")
    finally:
        os.kill(os.getpid(), signal.SIGHUP)
        steps.append("rolled back")
finally:
    print(steps)
"""
SAYS = """
import os, sys, time
from nodekit import progress
progress.PATIENCE = 0.5
begin = time.monotonic()
with progress.step("a step"):
    for _ in range({lines}):
        progress.say("x" * 200)
print(f"done {{time.monotonic() - begin < 20}} {{progress._deaf}}")
"""


def python(text: str, errors: int) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", text]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, timeout=60, cwd=CHECKOUT)


def test_the_first_signal_ends_a_run_and_no_other_breaks_what_it_undoes() -> None:
    argv = [sys.executable, "-c", SIGNALLED]
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=CHECKOUT)
    assert (result.returncode, result.stdout) == (143, "['shielded', 'rolled back']\n")
    assert result.stderr.count("error: ") == 1 and "SIGTERM" in result.stderr and "[run-ended]" in result.stderr, result.stderr


def test_signal_is_told_while_a_line_is_being_printed() -> None:
    text = """
import os, signal, sys
from nodekit.host import signals
signals.obey()
class Interrupted:
    def write(self, text):
        os.kill(os.getpid(), signal.SIGTERM)
    def flush(self): pass
    def fileno(self): return 2
sys.stderr = Interrupted()
from nodekit import progress
progress.say("a line")
"""
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=60, cwd=CHECKOUT)
    assert result.returncode == 143 and "[run-ended]" in result.stderr, result.stderr


def test_a_listener_that_is_gone_stops_nothing_and_gets_no_further_line() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = python(SAYS.format(lines=3), writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stdout) == (0, "done True True\n")


@pytest.mark.slow
def test_a_listener_that_reads_nothing_is_waited_for_once() -> None:
    reader, writer = os.pipe()  # holds 64 KiB
    begin = time.monotonic()
    try:
        result = python(SAYS.format(lines=2000), writer)
    finally:
        os.close(writer)
        os.close(reader)
    assert (result.returncode, result.stdout) == (0, "done True True\n")
    assert time.monotonic() - begin < 30


def test_what_a_site_puts_into_a_line_reaches_no_terminal() -> None:
    text = "from nodekit.progress import say; say('a\\x1b[2Jb\\u202ec\\n::error::d')"
    argv = [sys.executable, "-c", text]
    output = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=True, cwd=CHECKOUT).stderr
    assert "\x1b" not in output and "\u202e" not in output and not any(line.startswith("::") for line in output.splitlines()), (
        output
    )
