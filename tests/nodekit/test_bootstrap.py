"""The script that puts the node program in place: refuses clearly who may not, and never takes what was not uploaded whole."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "nodekit" / "bootstrap.sh"
CONVERGE = SCRIPT.parents[1] / "delivery" / "converge.sh"
TARGET = "/usr/local/lib/kata-nodes/nodekit-test00000000.pyz"


def run(*argv: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    """The script as converge.sh and system.sh start it; as another user id if given."""
    return subprocess.run(
        ["sh", "-c", SCRIPT.read_text(), "bootstrap.sh", *argv], capture_output=True, text=True, cwd="/", check=False,
        user=user, group=user, extra_groups=None if user is None else [],
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_user_who_may_not_become_root_is_named() -> None:
    result = run("a", TARGET, "0" * 64, user=65534)
    assert result.returncode == 1
    assert "[no-sudo]" in result.stderr and "as root" in result.stderr


def test_target_outside_its_folder_is_refused() -> None:
    result = run("a", "/etc/passwd", "0" * 64)
    assert result.returncode == 1 and "lies outside" in result.stderr


def test_wrong_number_of_arguments_is_refused() -> None:
    assert "three to six arguments" in run("a").stderr


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("script", [SCRIPT, SCRIPT.with_name("system.sh"), CONVERGE], ids=lambda file: file.stem)
def test_every_shell_reads_it(shell: str, script: Path) -> None:
    argv = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    with script.open() as text:
        assert subprocess.run(argv, stdin=text, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(
    ("argument", "bound", "start", "line"),
    [
        ("uploaded", 840, CONVERGE, 'timeout 900 sh -c "$text" bootstrap.sh'),
        ("--undo", 1740, SCRIPT.parents[1] / "components/nodes/kata_node.py", "timeout 1800 sh -s -- --remove"),
    ],
)
def test_what_runs_as_root_by_sudo_has_a_bound_of_its_own(argument: str, bound: int, start: Path, line: str) -> None:
    """The login user's timeout cannot end it. The played sudo makes the bound a second."""
    with tempfile.TemporaryDirectory() as folder:  # that user may not enter pytest's
        sudo = Path(folder) / "sudo"
        sudo.write_text(
            f'#!/bin/sh\n[ "$2" = true ] && exit\n[ "$2 $3 $4" = "timeout --kill-after=30 {bound}" ] || exit 9\n'
            'shift 4\nexec timeout --kill-after=1 1 "$@"\n'
        )
        sudo.chmod(0o755)
        sudo.parent.chmod(0o755)
        begin = time.monotonic()
        result = subprocess.run(
            ["sh", "-c", SCRIPT.read_text(), "bootstrap.sh", argument], capture_output=True, text=True, cwd="/", check=False,
            user=65534, group=65534, extra_groups=[], env={"PATH": f"{folder}:/usr/bin:/bin", "KATA_NODES_SCRIPT": "sleep 60"},
        )  # fmt: skip
    assert result.returncode == 124, result.stderr
    assert time.monotonic() - begin < 20
    assert line in start.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(("code", "words"), [(137, "[run-ended]"), (1, ""), (0, "")])
def test_how_root_s_part_ended_is_how_the_script_ends(code: int, words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sudo, upload = Path(folder) / "sudo", Path(folder) / "upload"
        sudo.write_text(f'#!/bin/sh\n[ "$2" = true ] && exit\ncat >/dev/null\nexit {code}\n')
        sudo.chmod(0o755)
        upload.touch()
        os.chown(folder, 65534, 65534)
        result = subprocess.run(
            ["sh", "-c", SCRIPT.read_text(), "bootstrap.sh", str(upload)], capture_output=True, text=True, cwd="/", check=False,
            user=65534, group=65534, extra_groups=[], env={"PATH": f"{folder}:/usr/bin:/bin", "KATA_NODES_SCRIPT": "x"},
        )  # fmt: skip
        assert upload.exists() == bool(code), "where root may not remove it, its owner does"
    assert result.returncode == (1 if code else 0) and words in result.stderr


def test_what_a_stack_of_an_earlier_version_undid_a_node_with_leaves_it_alone() -> None:
    """Lost if this fails: the `up` that upgrades a stack removes its -program last, and with it the node that it has proven."""
    result = run("--remove", "project/stack", "n1")
    assert (result.returncode, result.stdout) == (0, '{"changed": false}\n') and "left as it is" in result.stderr
