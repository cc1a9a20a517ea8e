"""Becoming root on a real Debian with a real sudo: by password, without one, or not at all; and where the password can be seen.

What would be lost if these failed: a node whose user has a password for sudo, or that password.
"""

import hashlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from delivery import bundle, login
from nodekit.scripts import script
from tests.nodekit.debian_node import DebianNode, Image, booted

pytestmark = [pytest.mark.debian, pytest.mark.timeout(120)]
SCRIPT, CONVERGE, SYSTEM = script("as_root.sh", "delivery"), script("converge.sh", "delivery"), script("system.sh")
PASSWORD = "s3cret 'of\" $the \\user"
TEXT = '{"node": "n1"}\n second line \n\n'


@pytest.fixture(scope="module")
def node(built: Image, zipapp: bytes) -> Iterator[DebianNode]:
    """A Debian with the user `admin`, who has a password and is in the group sudo, and `guest`, who is not."""
    with booted(built, zipapp) as running:
        for user in ("admin", "guest"):
            running.ask("useradd", "--create-home", "--shell", "/bin/sh", user)
        running.ask("usermod", "--append", "--groups", "sudo", "admin")
        assert running.run("chpasswd", stdin=f"admin:{PASSWORD}\nguest:{PASSWORD}\n").returncode == 0
        yield running


@pytest.fixture(autouse=True)
def rules(node: DebianNode) -> Iterator[None]:
    """No test's rule for sudo reaches the next."""
    yield
    node.run("rm", "-f", "/etc/sudoers.d/test")


def allow(node: DebianNode, rule: str) -> None:
    """A rule for sudo."""
    result = node.run("sh", "-c", "install -m 0440 /dev/stdin /etc/sudoers.d/test && visudo -c", stdin=f"{rule}\n")
    assert result.returncode == 0, result.stdout + result.stderr


def run(node: DebianNode, *argv: str, user: str = "admin", password: str = PASSWORD) -> "subprocess.CompletedProcess[str]":
    """A program as root, as a stack asks for it."""
    line = f"{login.as_root(SCRIPT)}{shlex.join(argv)}"
    return node.run("setpriv", *as_user(user), "sh", "-c", line, stdin=login.before(SCRIPT, password, TEXT))


def as_user(user: str) -> tuple[str, ...]:
    return (f"--reuid={user}", f"--regid={user}", "--init-groups", "env", f"HOME=/home/{user}", f"USER={user}")


def test_password_opens_sudo_and_the_program_reads_only_what_is_its_own(node: DebianNode) -> None:
    result = run(node, "sh", "-c", "id -u; cat")
    assert (result.returncode, result.stdout) == (0, f"0\n{TEXT}"), result.stderr


def test_status_of_the_program_is_kept(node: DebianNode) -> None:
    assert run(node, "sh", "-c", "exit 7").returncode == 7


def test_arguments_arrive_as_they_were_given(node: DebianNode) -> None:
    assert run(node, "printf", "%s|", "a b", "$HOME", "'").stdout == "a b|$HOME|'|"


def test_password_is_not_sent_where_sudo_asks_for_none(node: DebianNode) -> None:
    allow(node, "admin ALL=(ALL) NOPASSWD: ALL")
    result = run(node, "sh", "-c", "id -u; cat", password="not the password")
    assert (result.returncode, result.stdout) == (0, f"0\n{TEXT}")


def test_program_that_alone_needs_no_password_is_not_given_one(node: DebianNode) -> None:
    # sudo's answer for `true` does not hold for it: nothing reads the password, and it must not become the program's input.
    allow(node, "admin ALL=(ALL) NOPASSWD: /usr/bin/sh")
    result = run(node, "sh", "-c", "id -u; cat")
    assert (result.returncode, result.stdout) == (0, f"0\n{TEXT}")


def test_root_needs_no_sudo(node: DebianNode) -> None:
    assert run(node, "sh", "-c", "id -u; cat", user="root").stdout == f"0\n{TEXT}"


def test_wrong_password_is_tried_once_and_reported(node: DebianNode) -> None:
    # What follows the password must not be taken for a second and a third one: that locks accounts.
    allow(node, "Defaults logfile=/var/log/sudo.log")
    result = run(node, "cat", password="wrong")
    assert result.returncode == 1 and result.stdout == ""
    assert re.search(r"password of user admin.*kata-nodes:sudoPassword, then pulumi up.*\[sudo-password-wrong\]", result.stderr)
    assert re.findall(r"\d incorrect", node.ask("cat", "/var/log/sudo.log")) == ["1 incorrect"]


def test_user_who_is_not_a_sudoer_is_named(node: DebianNode) -> None:
    result = run(node, "cat", user="guest")
    assert result.returncode == 1 and "user guest may not become root" in result.stderr and "[sudo-not-allowed]" in result.stderr


@pytest.mark.parametrize("rest", ["", "\nadmin ALL=(ALL) NOPASSWD: ALL"])
def test_sudo_that_wants_a_terminal_is_reported_with_its_remedy(node: DebianNode, rest: str) -> None:
    allow(node, f"Defaults:admin requiretty{rest}")
    result = run(node, "cat")
    assert result.returncode == 1 and "!requiretty" in result.stderr and "[sudo-needs-terminal]" in result.stderr


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        ("Defaults:admin requiretty\nadmin ALL=(ALL) NOPASSWD: ALL", r"!requiretty.*\[sudo-needs-terminal\]"),
        ("", r"no password-less sudo.*the secret sudoPassword.*\[no-sudo\]"),
    ],
)
def test_user_without_a_password_in_the_stack_is_told_what_is_missing(node: DebianNode, rule: str, pattern: str) -> None:
    allow(node, rule)
    target = "/usr/local/lib/kata-nodes/nodekit-0.pyz"
    argv = ["sh", "-c", script("bootstrap.sh"), "bootstrap.sh", "none", target, "0" * 64]
    result = node.run("setpriv", *as_user("admin"), *argv)
    assert result.returncode == 1 and re.search(pattern, result.stderr), result.stderr


def test_password_is_in_no_argument_no_environment_and_no_log(node: DebianNode) -> None:
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; journalctl --no-pager 2>/dev/null; true"
    result = run(node, "sh", "-c", look)
    assert result.returncode == 0 and "as-root" in result.stdout
    assert PASSWORD not in result.stdout + result.stderr


@pytest.mark.parametrize("password", [True, False], ids=["password", "no-password"])
def test_program_is_put_in_place_and_taken_away_by_a_user_with_sudo(node: DebianNode, zipapp: bytes, password: bool) -> None:
    digest = hashlib.sha256(zipapp).hexdigest()
    home = Path(f"/proc/{node.pid}/root/home/admin")
    (home / "up.pyz").write_bytes(zipapp)
    target = f"/usr/local/lib/kata-nodes/nodekit-{digest[:12]}.pyz"
    as_root = login.as_root(SCRIPT) if password else ""
    if not password:
        allow(node, "admin ALL=(ALL) NOPASSWD: ALL")

    def sent(line: str, text: str) -> "subprocess.CompletedProcess[str]":
        stdin = login.before(SCRIPT, PASSWORD, text) if password else text
        return node.run("setpriv", *as_user("admin"), "sh", "-c", f"cd && {line} # machine 0123", stdin=stdin)

    system = sent(f"{as_root}--as-user timeout 60 sh -s -- --with-password" if password else "timeout 60 sh -s", SYSTEM)
    assert system.returncode == 0 and json.loads(system.stdout)["verb"] == "system", system.stderr
    place = " ".join(map(str, bundle.part(zipapp, bundle.BOOTSTRAP)))
    start = f"{as_root}timeout 100 {login.handed(CONVERGE, 'converge')}{place} 60 up.pyz {target} {digest}"
    result = sent(start, f'{CONVERGE}{{"node": "n1", "program": 7}}')
    # The verb says what is wrong with its state, which no step is taken for.
    installation, refusal = map(json.loads, result.stdout.splitlines())
    assert (result.returncode, installation["path"], refusal["error"]["code"]) == (1, target, "bad-input"), result.stderr
    verb = run(node, "python3", "-I", target, "status", "--json")
    assert verb.returncode == 0, verb.stderr
    gone = sent(f"{as_root}timeout 100 sh -s -- --remove", SYSTEM)
    assert gone.returncode == 0, gone.stderr
    theirs = (".bashrc", ".profile", ".bash_logout", ".sudo_as_admin_successful")
    assert not [file.name for file in home.iterdir() if file.name not in theirs]
    assert not Path(f"/proc/{node.pid}/root{target}").exists()
