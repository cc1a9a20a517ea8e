"""The entry of a sandbox container. Lost if it fails: a container in which no sandbox starts, or one that cannot be stopped."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nodekit.rules.proof.ladder import judge
from nodekit.scripts import ladder_script, script

ENTRY = script("entry.sh")
SHELLS = [shell for shell in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, as the first process of a container does as root")


def command(shell: list[str], *argv: str, before: str = "mount -t tmpfs x /proc/bus") -> list[str]:
    """In mount and PID namespaces of its own, with masks below /proc: the entry as an argument of the shell, then `argv`."""
    masked = f'{before}; exec "$@"'
    return ["unshare", "-mpf", "--kill-child", "sh", "-c", masked, "sh", *shell, "-c", ENTRY, "kata-nodes-entry", *argv]


def run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """With its standard input at its end."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_sandbox_can_mount_proc_behind_the_entry_and_not_without_it(shell: list[str]) -> None:
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--proc", "/proc", "true"]
    refused = run(["unshare", "-m", "sh", "-c", 'mount -t tmpfs x /proc/bus; exec "$@"', "sh", *sandbox])
    assert refused.returncode != 0 and "Can't mount proc" in refused.stderr
    assert run(command(shell, *sandbox)).returncode == 0


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_words_exit_code_and_folder_are_the_commands_own(shell: list[str]) -> None:
    result = run(command(shell, "sh", "-c", 'pwd; printf "<%s>" "$@"; echo said >&2; exit 7', "sh", "a b", "*", "", "--user"))
    assert (result.returncode, result.stdout, result.stderr) == (7, f"{Path.cwd()}\n<a b><*><><--user>", "said\n")


@pytest.mark.parametrize("user", [[], ["--user", "1234"]], ids=["root", "user"])
@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_variables_are_the_commands_own_whatever_their_names(shell: list[str], user: list[str]) -> None:
    odd = {"my.name": "a b", "a-b": "* \\n\nx\n\n", "1st": "", "app.url": "x=y", "BASH_FUNC_f%%": "() {  echo x\n}"}
    ordinary = {
        "user": "bob",
        "name": "app",
        "said": "x",
        "setpriv": "/x",
        "HOME": "/data",
        "IFS": ",",
        "empty": "",
        "lines": "a\nb\n",
    }
    env = {"PATH": os.environ["PATH"], **odd, **ordinary}
    argv = ["unshare", "-mpf", "--kill-child", *shell, "-c", ENTRY, "kata-nodes-entry", *user, "env", "-0"]
    result = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    reached = dict(entry.split("=", 1) for entry in result.stdout.split("\0") if entry)
    assert {name: value for name, value in reached.items() if name not in ("PWD", "OLDPWD", "SHLVL", "_")} == env


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_home_is_the_users_own_where_the_runtime_has_set_roots(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnode:x:1234:1234::/home/node:/bin/sh\n")
    before = f"mount --bind {tmp_path}/passwd /etc/passwd"
    for home, user, expected in (
        ("/root", "1234", "/home/node"),
        ("/root", "4321", "/"),  # as containerd and runc have it for a user that the image does not know
        ("/data", "1234", "/data"),
    ):
        argv = command(shell, "--user", user, "sh", "-c", "echo $HOME", before=f"{before}; export HOME={home}")
        assert run(argv).stdout == f"{expected}\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_setuid_program_makes_no_root_of_another_user(shell: list[str], tmp_path: Path) -> None:
    """Root without capabilities may write core_pattern, whose program the kernel starts with all of them."""
    shutil.copyfile(Path(shutil.which("cat") or "").resolve(), tmp_path / "cat")
    (tmp_path / "cat").chmod(0o4755)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    result = run(command(shell, "--user", "1234", str(tmp_path / "cat"), "/proc/self/status"))
    assert "\nUid:\t1234\t1234\t1234\t1234\n" in result.stdout and "\nNoNewPrivs:\t1\n" in result.stdout, result.stderr


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_command_takes_the_entrys_place_so_that_signals_reach_it(shell: list[str], tmp_path: Path) -> None:
    ready, mark = tmp_path / "ready", tmp_path / "mark"
    waits = f"trap 'echo ended >{mark}; exit 3' TERM; echo $$ >{ready}; while :; do sleep 0.1; done"
    with subprocess.Popen(command(shell, "bash", "-c", waits)) as process:
        for _ in range(200):
            if ready.exists() and ready.read_text():
                break
            time.sleep(0.05)
        assert ready.read_text() == "1\n", "the command is the first process of its PID namespace"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(20) == 3
    assert mark.read_text() == "ended\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_read_only_root_does_not_matter(shell: list[str]) -> None:
    before = (
        "mount --bind / /mnt && mount -o remount,ro,bind /mnt && mount --rbind /proc /mnt/proc && cd /mnt && exec chroot /mnt"
    )
    result = run(
        ["unshare", "-mpf", "sh", "-c", f'{before} "$@"', "sh", *shell, "-c", ENTRY, "entry", "sh", "-c", "! touch /x && echo ro"]
    )
    assert result.stdout == "ro\n", result.stderr


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_another_user_has_no_capability_and_a_clean_proc(shell: list[str]) -> None:
    script = "id -u; id -g; id -G; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; ! grep -q /proc/bus /proc/self/mountinfo"
    result = run(command(shell, "--user", "1234", "sh", "-c", script))
    assert result.stdout.split() == [
        "1234",
        "1234",
        "1234",
        *(part for c in ("Prm", "Eff", "Bnd") for part in (f"Cap{c}:", "0" * 16)),
    ]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_it_cannot_do_is_reported_with_the_way_out(shell: list[str]) -> None:
    plain = run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *shell, "-c", ENTRY, "kata-nodes-entry", "true"])
    assert plain.returncode == 125
    assert "kata-nodes-entry: proc cannot be mounted" in plain.stderr and "enableWeakerNestedSandbox" in plain.stderr
    for user in ("nobody-knows", ""):
        unknown = run(command(shell, "--user", user, "true"))
        assert unknown.returncode == 125 and "kata-nodes-entry: " in unknown.stderr and "number" in unknown.stderr
    empty = run(command(shell))
    assert empty.returncode == 125 and "no command is given" in empty.stderr


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_proof_goes_on_behind_an_entry_that_fails_and_reports_it(shell: list[str]) -> None:
    ladder = ladder_script()
    plain = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *shell, "-c", ENTRY, "entry", "sh", "-c", ladder]
    result = subprocess.run(
        plain,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "KATA_NODES_NONCE": "n"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    verdict = judge(result.stdout, "n", "another", [])
    assert verdict.code == "proof-entry-failed", verdict
    mounted = subprocess.run(
        command(shell, "sh", "-c", ladder), stdin=subprocess.DEVNULL, env={**os.environ, "KATA_NODES_NONCE": "n"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert judge(mounted.stdout, "n", "another", []).passed


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != ["busybox", "sh"]], ids=" ".join)
def test_a_mount_that_fails_without_a_word_is_a_failed_entry_in_a_proof_too(shell: list[str], tmp_path: Path) -> None:
    # As where an image has it as a link to false, or seccomp kills it: each container of a consumer ends with 125.
    # Not under busybox, whose shell takes its own applet.
    (tmp_path / "mount").write_text("#!/bin/sh\nexit 5\n")
    (tmp_path / "mount").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    entered = ["unshare", "-m", *shell, "-c", ENTRY, "kata-nodes-entry", "sh", "-c", ladder_script()]
    proof, plain = (
        subprocess.run(entered, stdin=subprocess.DEVNULL, env=of, capture_output=True, text=True, timeout=60, check=False)
        for of in ({**env, "KATA_NODES_NONCE": "n"}, env)
    )
    verdict = judge(proof.stdout, "n", "another", [])
    assert verdict.code == "proof-entry-failed" and "mount ended with 5" in verdict.message, verdict
    assert plain.returncode == 125 and "proc cannot be mounted: mount ended with 5" in plain.stderr
