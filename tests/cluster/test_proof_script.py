"""The pod's own judge says what the Python judge says, under every shell that an image may bring.

What would be lost if these failed: a node would pass in its pod that the node-level proof refuses, or fail in other words.
"""

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from nodekit.rules import pod_proof
from nodekit.rules.kernel_params import LIMIT
from nodekit.rules.ladder import judge

SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
NODE_ID = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
GUEST_ID = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
LINES = {
    "boot-id": f"status=ok value={GUEST_ID} detail=",
    "kernel": "status=ok value=6.12.0 detail=",
    "command-line": "status=ok value=panic=1%20user_namespace.enable=1 detail=",
    "user-namespaces": "status=ok value=7563 detail=",
    "uid": "status=ok value=0 detail=",
    "unshare": "status=ok value=0 detail=",
    "unshare-map-root": "status=ok value=0 detail=",
    "unshare-nested": "status=ok value=0 detail=",
    "bwrap-proc": "status=absent value= detail=bwrap%20is%20not%20installed%20here",
    "bwrap-user": "status=absent value= detail=bwrap%20is%20not%20installed%20here",
    "bwrap-user-proc": "status=absent value= detail=bwrap%20is%20not%20installed%20here",
    "loopback": "status=ok value=0 detail=",
}
EXPECT = ["user_namespace.enable=1"]


def transcript(*dropped: str, end: bool = True, before: str = "", **changed: str) -> str:
    """A passing ladder with lines changed (rung names with underscores), dropped, or without its end."""
    lines = {**LINES, **{name.replace("_", "-"): line for name, line in changed.items()}}
    text = before + "".join(f"kata-nodes rung={name} {line}\n" for name, line in lines.items() if name not in dropped)
    return text + ("kata-nodes end\n" if end else "")


def failed(said: str, code: int = 1) -> str:
    """A command's line."""
    return f"status=fail value={code} detail={said}"


CASES = {
    "passes": transcript(),
    "node's own kernel": transcript(boot_id=f"status=ok value={NODE_ID} detail="),
    "no boot id": transcript(boot_id="status=absent value= detail=/proc/...%20does%20not%20exist"),
    "parameter lacking": transcript(command_line="status=ok value=panic=1 detail="),
    "parameter only part of another": transcript(command_line="status=ok value=user_namespace.enable=10 detail="),
    "zero by parameter": transcript(
        command_line=f"status=ok value=user_namespace.enable=1%20{LIMIT}=5%20{LIMIT}=0 detail=",
        user_namespaces="status=ok value=0 detail=",
    ),
    "zero by default": transcript(user_namespaces="status=ok value=0 detail="),
    "many zeros": transcript(user_namespaces="status=ok value=000 detail="),
    "absent": transcript(user_namespaces="status=absent value= detail=it%20does%20not%20exist"),
    "unreadable": transcript(user_namespaces="status=fail value= detail=cat:%20Permission%20denied"),
    "no number": transcript(user_namespaces="status=ok value=many detail="),
    "empty": transcript(user_namespaces="status=ok value= detail="),
    "too long a number": transcript(user_namespaces="status=ok value=12345678901 detail="),
    "child namespace": transcript(user_namespaces="status=ok value=2147483647 detail="),
    "no unshare": transcript(unshare="status=absent value= detail=unshare%20is%20not%20installed%20here"),
    "limit used up": transcript(unshare=failed("unshare:%20unshare(0x10000000):%20No%20space%20left%20on%20device")),
    "forbidden": transcript(unshare_map_root=failed("unshare:%20Operation%20not%20permitted")),
    "kernel lacks": transcript(unshare_nested=failed("unshare:%20Invalid%20argument")),
    "bwrap": transcript(bwrap_proc=failed("bwrap:%20Can't%20mount%20proc:%20Operation%20not%20permitted")),
    "bwrap as user": transcript(bwrap_user=failed("50%25%20done%0Athen%09what")),
    "masked proc is no failure": transcript(bwrap_user_proc=failed("Operation%20not%20permitted")),
    "loopback": transcript(loopback=failed("x" * 500, 124)),
    "the first failure counts": transcript(unshare=failed("one"), loopback=failed("two")),
    "no end": transcript(end=False),
    "hung after unshare": transcript("unshare-map-root", "unshare-nested", "loopback", end=False),
    "a rung lacking": transcript("uid"),
    "a rung twice": transcript(before="kata-nodes rung=unshare status=ok value=0 detail=\n"),
    "garbled": transcript(before="kata-nodes rung=unshare stat\n"),
    "other output": transcript(before="sh: warning\n"),
    "nothing": "",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder that the pod's volume shows."""
    for name in ("ladder.sh", "pod_proof.sh"):
        (tmp_path / name).write_text(resources.files("nodekit").joinpath(name).read_text())
    (tmp_path / "verdicts").write_text(pod_proof.verdicts())
    (tmp_path / "node-boot-id").write_text(NODE_ID)
    return tmp_path


def proof(
    shell: list[str], place: Path, around: tuple[str, ...] = (), nested: bool = True, expect: list[str] = EXPECT
) -> tuple[int, str]:
    """Exit status and termination message; what it prints must be the same."""
    message = place / "message"
    message.unlink(missing_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "KATA_NODES_NODE": "node-7",
        "KATA_NODES_EXPECT": " ".join(map(pod_proof.escaped, expect)),
        "KATA_NODES_NESTED": "1" if nested else "0",
        "KATA_NODES_MESSAGE": str(message),
    }
    argv = [*around, *shell, str(place / "pod_proof.sh")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.stderr == "" and done.stdout == message.read_text()
    assert done.stdout.count("\n") == 1 and len(done.stdout.encode()) < pod_proof.MAX_MESSAGE
    return done.returncode, done.stdout.rstrip("\n")


def canned(place: Path, text: str) -> None:
    """A ladder that prints `text`."""
    (place / "canned").write_text(text)
    (place / "ladder.sh").write_text(f"cat '{place / 'canned'}'\n")


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "not nested"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_same_verdict_as_the_python_judge(shell: list[str], case: str, nested: bool, place: Path) -> None:
    canned(place, CASES[case])
    code, said = proof(shell, place, nested=nested)
    expected = judge(CASES[case], "kata-nodes", NODE_ID, EXPECT, nested=nested)
    assert (code == 0) == expected.passed, said
    if expected.passed:
        found = pod_proof.evidence(said)
        assert found is not None and found["node"] == "node-7"
        assert found["guestKernel"] == "6.12.0" and found["guestBootId"] == GUEST_ID
        assert {one["name"]: one["passed"] for one in found["rungs"]} == {one.name: one.passed for one in expected.rungs}
        return
    assert said.endswith(f". [{expected.code}]")
    assert said.startswith(f"node-7: {expected.message}. ")
    if case not in ("no unshare",) and expected.code != "proof-transcript-incomplete":
        assert said == f"node-7: {expected.message}. {expected.remedy}. [{expected.code}]"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_quoted_parameters_are_found_whole(shell: list[str], place: Path) -> None:
    canned(place, transcript(command_line='status=ok value=a="b%20c"%20100%25 detail='))
    assert proof(shell, place, expect=['a="b c"', "100%"])[0] == 0
    assert proof(shell, place, expect=['a="b d"'])[0] == 1


REAL = pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs user namespaces on this machine",
)


@REAL
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_real_ladder_on_this_machines_own_kernel_is_no_guest(shell: list[str], place: Path) -> None:
    (place / "node-boot-id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    code, said = proof(shell, place, expect=[])
    assert code == 1 and said.endswith("[proof-not-a-guest]")


@REAL
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_real_ladder_passes_where_a_sandbox_nests(shell: list[str], place: Path) -> None:
    code, said = proof(shell, place, expect=[])
    found = pod_proof.evidence(said)
    assert code == 0 and found is not None, said
    assert found["userNamespaces"] == int(Path("/proc/sys/user/max_user_namespaces").read_text())
    assert {"name": "unshare-nested", "passed": True} in found["rungs"]


@REAL
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_real_ladder_fails_where_the_limit_reads_zero(shell: list[str], place: Path) -> None:
    # Who sets the limit is the namespace's own root, as a guest's hardening is.
    zero = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    code, said = proof(shell, place, around=("unshare", "-Ur", "sh", "-c", zero, "sh"), expect=[])
    assert code == 1 and said.endswith("[proof-user-namespaces-zero]")
