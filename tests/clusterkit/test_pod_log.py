"""A report made of a pod's log, against the message that the real ladder writes under every shell.

What would be lost if these failed: where Kata shares no files with its guests, what is judged and kept of a node would be another
thing than elsewhere, or more than the evidence has room for.
"""

import os
import subprocess
from pathlib import Path

import pytest

from clusterkit import pod_log
from clusterkit.pod_proof import key_pattern
from nodekit.rules.proof.ladder import judge
from nodekit.scripts import ladder_script
from tests.clusterkit.reports import GUEST_ID, report
from tests.nodekit.test_ladder_script import SHELLS

NONCE = "0123456789abcdef"


def climbed(shell: list[str], folder: Path, parameters: list[str], path: str) -> tuple[str, str]:
    """What the ladder prints as an argument of the shell, and its message."""
    message = folder / "message"
    environment = {
        "PATH": path,
        "KATA_NODES_NONCE": NONCE,
        "KATA_NODES_MESSAGE": str(message),
        "KATA_NODES_KEYS": " ".join(map(key_pattern, parameters)),
    }
    run = subprocess.run(
        [*shell, "-c", ladder_script()], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    return run.stdout, message.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_message_of_a_log_is_the_one_that_the_ladder_writes(shell: list[str], tmp_path: Path) -> None:
    parameters = [Path("/proc/cmdline").read_text().split()[0], "none=1"]
    printed, message = climbed(shell, tmp_path, parameters, os.environ["PATH"])
    assert pod_log.message(f"before\n{printed}behind it\n", NONCE, parameters) == message
    failing = tmp_path / "bwrap"
    failing.write_text("#!/bin/sh\necho \"100% of '$0' said:\tno\" >&2\nprintf '%0200d' 0 | tr 0 '%' >&2\nexit 1\n")
    failing.chmod(0o755)
    for tool in ("unshare", "srt", "ip", "runc", "newuidmap"):
        (tmp_path / tool).symlink_to("bwrap")
    printed, message = climbed(shell, tmp_path, parameters, f"{tmp_path}:{os.environ['PATH']}")
    assert pod_log.message(printed, NONCE, parameters) == message and len(message) < len(printed) - 2000


def test_of_a_command_line_the_same_parameters_are_kept() -> None:
    expected = ['dyndbg="module vsock +p"', "sysctl.user.max_net_namespaces=9", "module_x.y-z"]
    line = (
        'quiet%20dyndbg="module%20vsock%20+p"%20sysctl/user/max_net_namespaces=1%20module-x.y_z=2%20'
        "sysctl.user.max_user_namespaces=7%20a=100%25%20--%20init"
    )
    text = report(NONCE, command_line=f"status=ok value={line} detail= at=1.00")
    kept = judge(pod_log.message(text, NONCE, expected), NONCE, "node", []).command_line
    assert kept == (
        'dyndbg="module vsock +p" sysctl/user/max_net_namespaces=1 module-x.y_z=2 sysctl.user.max_user_namespaces=7 --'
    )


def test_a_log_that_is_garbled_or_of_another_try_proves_nothing() -> None:
    whole = report(NONCE)
    assert judge(pod_log.message(whole, NONCE, []), NONCE, "node", []).passed
    for text in (
        whole.replace("rung=uid status", "rung=uid  status"),
        whole.replace(f"{NONCE} rung=uid", f"x {NONCE} rung=uid"),
        whole.removesuffix(f"{NONCE} end\n"),
        f"{NONCE} rung=boot-id status=ok value={GUEST_ID} detail=\n{whole}",
    ):
        assert judge(pod_log.message(text, NONCE, []), NONCE, "node", []).code == "proof-transcript-incomplete", text
    assert pod_log.message(report("f" * 16) + "\x1b[2J\n", NONCE, []) == ""
