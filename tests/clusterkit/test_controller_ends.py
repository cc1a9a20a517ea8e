"""A signal ends the controller. Lost if it fails: an update of its Deployment that waits until the kubelet kills the old pod."""

import subprocess
import sys

import pytest

from tests.clusterkit.controller_image import ROOT

BEGUN = """
import signal, time
from concurrent.futures import ThreadPoolExecutor
from clusterkit.controller.__main__ import ended
signal.signal(signal.SIGTERM, ended)
"""
IN_A_DESTRUCTOR = """
class Destroyed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
Destroyed()
time.sleep(60)
"""
WHILE_A_WRITER_WAITS = """
ThreadPoolExecutor().submit(time.sleep, 60)
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("busy", [IN_A_DESTRUCTOR, WHILE_A_WRITER_WAITS], ids=["destructor", "writer"])
def test_a_signal_ends_the_controller_whatever_it_is_doing(busy: str) -> None:
    command = [sys.executable, "-c", BEGUN + busy]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
