"""A machine of an ordinary user: nothing but building the image needs root.

What would be lost if this failed: people would run the whole stack as root because a folder of root's was written somewhere.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import limits, parts
from tests.nightly import LONG_FORMS

# On each change tests/e2e/test_local_stack.py boots a machine, for the user who runs the tests.
pytestmark = [
    LONG_FORMS,
    pytest.mark.machine,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user"),
]
HERE = Path(__file__).resolve().parent


def test_machine_boots_and_ends_as_a_user_without_any_right() -> None:
    built = parts.completed({}, {"disk": "disk", "kernel": "kernel", "initrd": "initrd"})
    settings = {**built, "name": "plain", "directory": "/mnt/own/machine", "memoryMiB": limits.MEMORY_MIB.minimum}
    argv = ["unshare", "--mount", "sh", str(HERE / "ordinary_user.sh"), str(HERE.parents[1]), sys.executable]
    result = subprocess.run(argv, input=json.dumps(settings), capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    up, status = (json.loads(line) for line in result.stdout.splitlines())
    assert status == {"exists": True, "pid": up["pid"], "answers": True}
    assert up["accelerator"] in ("kvm", "tcg")
    ended = Path(f"/proc/{up['pid']}")
    for _ in range(100):  # until the process that inherited it has seen it
        if not ended.exists():
            return
        time.sleep(0.1)
    pytest.fail("QEMU outlived the machine")
