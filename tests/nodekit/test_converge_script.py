"""What -converge and -system run on a machine, which a mount namespace plays. Lost if these fail: an update that installs what is
in place, which takes longer than all the rest of it; or one that runs a program which is not the stack's."""

import hashlib
import io
import json
import shlex
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from delivery import login
from delivery.bundle import BOOTSTRAP
from delivery.scripts import sent
from tests.nodekit.namespace_node import ASKING, BOUND, PASSWORD, STATE, SUDO, Node, needs_namespace, program

pytestmark = [pytest.mark.slow, needs_namespace]
AS_ROOT, CONVERGE, SYSTEM = sent("as_root.sh", "delivery"), sent("converge.sh", "delivery"), sent("system.sh")
STACK = ("project/first", "n1")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node of a stack, on a machine with an id."""
    made_node = Node(tmp_path)
    (tmp_path / "machine-id").write_text(f"{'a' * 32}\n")
    result = converge(made_node, *STACK)
    assert result.returncode == 0 and documents(result) == [True, "converge"], result.stderr
    for log in ("apt", "converged"):
        (tmp_path / log).unlink()
    return made_node


def converge(node: Node, *owner: str) -> "subprocess.CompletedProcess[str]":
    return node.run(".kata-nodes.pyz", node.target, node.digest, *owner)


def documents(result: "subprocess.CompletedProcess[str]") -> list[object]:
    """What was printed: whether the installation changed something, where there was one; then the verb."""
    return [document.get("changed", document.get("verb")) for document in map(json.loads, result.stdout.splitlines())]


def test_what_is_in_place_is_not_installed_again_and_the_verb_reads_its_state(node: Node) -> None:
    node.fake("install", "touch $NODE/installs\n")
    for number in range(1, 3):
        result = converge(node, *STACK, "again")
        assert result.returncode == 0 and documents(result) == ["converge"], result.stderr
        assert node.log("converged") == f"-I -S {node.target}.compiled converge\n{STATE}" * number
    assert node.log("apt") == "" and not (node.root / "installs").exists()


def another_program(node: Node) -> None:
    node.upload(program("newer"))


def sent_again(node: Node) -> None:
    node.upload(node.data)


def in_folder(name: str, content: str | None) -> Callable[[Node], object]:
    def change(node: Node) -> None:
        file = node.root / "lib/kata-nodes" / name
        file.unlink() if content is None else file.write_text(content)

    return change


def damaged(node: Node) -> None:
    node.upload(node.data)  # otherwise nothing could be installed
    (node.root / "lib/kata-nodes" / Path(node.target).name).write_bytes(b"other")


DIFFERENT: dict[str, tuple[Callable[[Node], object], tuple[str, ...]]] = {
    "resource-created": (lambda node: None, STACK),
    "another-word": (lambda node: None, (*STACK, "once")),
    "another-name": (lambda node: None, (STACK[0], "n2", "again")),
    "name-of-which-it-is-a-part": (in_folder("names", "n10\nan1\n"), (*STACK, "again")),
    "name-as-a-pattern": (lambda node: None, (STACK[0], "n.", "again")),
    "names-gone": (in_folder("names", None), (*STACK, "again")),
    "stack-gone": (in_folder("stack", None), (*STACK, "again")),
    "machine-gone": (in_folder("machine", None), (*STACK, "again")),
    "another-machine": (lambda node: (node.root / "machine-id").write_text(f"{'b' * 32}\n"), (*STACK, "again")),
    "another-program": (another_program, (*STACK, "again")),
    "the-same-program-sent-again": (sent_again, (*STACK, "again")),
    "program-damaged": (damaged, (*STACK, "again")),
    "start-up-script-gone": (in_folder("run.sh", None), (*STACK, "again")),
    "start-up-script-empty": (in_folder("run.sh", ""), (*STACK, "again")),
}
"""What differs -> how it comes, and the words with which the stack then starts the script."""


@pytest.mark.parametrize("difference", DIFFERENT)
def test_whatever_else_a_stack_meets_is_installed_first(node: Node, difference: str) -> None:
    change, owner = DIFFERENT[difference]
    change(node)
    result = converge(node, *owner)
    assert result.returncode == 0, result.stderr
    assert len(documents(result)) == 2 and documents(result)[1] == "converge"
    assert node.log("converged").startswith(f"-I -S {node.target}.compiled converge\n")
    folder = node.root / "lib/kata-nodes"
    assert (folder / Path(node.target).name).read_bytes() == node.data and (folder / "stack").read_text() == f"{owner[0]}\n"
    assert owner[1] in (folder / "names").read_text().split() and not list((node.root / "home").iterdir())


@pytest.mark.parametrize("left", ["damaged", "missing"])
def test_a_program_that_is_not_whole_and_was_not_sent_again_is_named_and_not_started(node: Node, left: str) -> None:
    file = node.root / "lib/kata-nodes" / Path(node.target).name
    for each in (file, file.with_name(f"{file.name}.copy")):
        each.write_bytes(b"other")
        if left == "missing":
            each.unlink()
    result = converge(node, *STACK, "again")
    code = {"missing": "file-unreadable", "damaged": "program-damaged"}[left]
    assert (result.returncode, result.stdout) == (1, "") and f"[{code}]" in result.stderr
    assert "again: pulumi up --replace with the URN of the node's -upload" in result.stderr and node.log("converged") == ""


@pytest.mark.parametrize("left", ["damaged", "missing"])
def test_a_program_whose_copy_is_whole_needs_no_other_upload(node: Node, left: str) -> None:
    file = node.root / "lib/kata-nodes" / Path(node.target).name
    file.write_bytes(b"other")
    if left == "missing":
        file.unlink()
    result = converge(node, *STACK, "again")
    assert result.returncode == 0 and documents(result) == ["converge"] and file.read_bytes() == node.data, result.stderr


def test_another_stack_s_node_is_refused_though_its_program_is_the_same(node: Node) -> None:
    result = converge(node, "project/second", "n1", "again")
    assert (result.returncode, result.stdout) == (1, "") and "[node-taken]" in result.stderr
    assert node.log("converged") == ""


@pytest.mark.parametrize(
    ("owner", "upload", "stays"),
    [(STACK, False, False), ((*STACK, "again"), False, True), ((*STACK, "again"), True, True)],
    ids=["created", "updated", "updated-and-installed"],
)
def test_a_node_that_is_made_anew_forgets_which_steps_it_has_taken(
    node: Node, owner: tuple[str, ...], upload: bool, stays: bool
) -> None:
    """Lost if this fails: a person replaces the command to repair a node, and nothing is done there."""
    record = node.root / "lib/kata-nodes/converged.json"
    record.write_text("{}")
    if upload:
        node.upload(program("newer"))
    assert converge(node, *owner).returncode == 0 and record.exists() == stays


@pytest.mark.parametrize("user", ["root", "admin"])
def test_a_verb_that_hangs_is_ended_by_its_bound(node: Node, user: str) -> None:
    if user == "admin":
        node.log_in()
    node.fake("python3", "exec sleep 60\n")
    argv = (*node.place("1"), ".kata-nodes.pyz", node.target, node.digest, *STACK, "again")
    begin = time.monotonic()
    result = node.inside("sh", "-c", CONVERGE, "converge", *argv, stdin=STATE)
    assert result.returncode == 124 and time.monotonic() - begin < 20, result.stderr
    assert node.log("sudo").startswith("-n timeout --kill-after=30 1 sh -c " if user == "admin" else "")


def test_a_user_with_sudo_runs_the_verb_as_root_and_what_is_in_place_needs_no_further_sudo(node: Node) -> None:
    node.log_in()
    node.fake("python3", 'echo "$(id -u) $SUDO_USER" >"$NODE/user"; cat >"$NODE/input"; cat "$NODE/convergence"\n')
    result = converge(node, *STACK, "again")
    assert result.returncode == 0 and documents(result) == ["converge"], result.stderr
    assert (node.log("user"), node.log("input")) == ("0 admin\n", STATE) and len(node.log("sudo").splitlines()) == 1
    assert node.log("sudo").startswith(f"-n timeout --kill-after=30 {BOUND} sh -c ")


@pytest.mark.parametrize("verb", ["refused", "result-missing"])
def test_a_verb_that_fails_fails_the_resource(node: Node, verb: str) -> None:
    text = {"refused": "echo '{\"error\": {}}'; exit 1", "result-missing": "echo done"}[verb]
    node.fake("python3", f"cat >/dev/null; {text}\n")
    result = converge(node, *STACK, "again")
    assert result.returncode == 1 and ("[result-missing]" in result.stderr) == (verb == "result-missing")


def test_a_node_is_looked_at_made_and_undone_by_a_user_whose_sudo_wants_a_password(tmp_path: Path) -> None:
    """As a stack does it, by way of the login user's shell. The password is in no argument, no output and no file."""
    node = Node(tmp_path)
    node.log_in(ASKING)
    node.fake("uname", "[ $1 = -m ] && echo x86_64 || echo node\n")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (tmp_path / "machine-id").write_text(f"{'a' * 32}\n")

    def logged_in(line: str, text: str) -> "subprocess.CompletedProcess[str]":
        return node.inside("sh", "-c", line, stdin=login.before(AS_ROOT, PASSWORD, text))

    system = logged_in(f"{login.as_root(AS_ROOT)}--as-user timeout 60 sh -s -- --with-password # machine 0123", SYSTEM)
    assert system.returncode == 0 and json.loads(system.stdout)["machineId"] == "a" * 32, system.stderr
    last = [Path(line.split()[-1]).name for line in node.log("sudo").splitlines()]
    assert last == ["true", "true", ".kata-nodes-probe"], "it only looks whether it could"
    (tmp_path / "home/.kata-nodes.pyz").rename(tmp_path / "home/.kata-nodes-0123456789ab.pyz")
    words = shlex.join([*node.place(), ".kata-nodes-0123456789ab.pyz", node.target, node.digest, *STACK])
    start = f"{login.as_root(AS_ROOT)}timeout 60 {login.handed(CONVERGE, 'converge')}{words}"
    installation = logged_in(f"{start} # machine 0123", f"{CONVERGE}{STATE}")
    assert installation.returncode == 0 and documents(installation) == [True, "converge"], installation.stderr
    assert node.log("converged").endswith(f"converge\n{STATE}")
    again = logged_in(f"{start} again # machine 0123, upload 1", f"{CONVERGE}{STATE}")
    assert again.returncode == 0 and documents(again) == ["converge"], again.stderr
    (tmp_path / "home/.kata-nodes-0123456789ab.pyz").touch()
    removal = logged_in(f"{login.as_root(AS_ROOT)}timeout 60 sh -s -- --remove {shlex.join(STACK)}", SYSTEM)
    assert removal.returncode == 0 and documents(removal) == ["restore"], removal.stderr
    assert not (tmp_path / "lib/kata-nodes").exists() and not list((tmp_path / "home").iterdir())
    (tmp_path / "password").unlink()
    for result in (system, installation, again, removal):
        assert PASSWORD not in result.stdout + result.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and b"s3cret" in file.read_bytes()]


@pytest.mark.parametrize(
    ("sudo", "code"),
    [
        ('echo "sudo: a password is required" >&2; exit 1\n', "no-sudo"),
        ('echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1\n', "sudo-needs-terminal"),
        (SUDO["sudo"], ""),
    ],
)
def test_a_user_who_cannot_become_root_is_told_before_anything_is_sent(tmp_path: Path, sudo: str, code: str) -> None:
    """Lost if this fails: the state has a login by which the node can never be undone."""
    node = Node(tmp_path)
    node.log_in(sudo)
    node.fake("uname", "[ $1 = -m ] && echo x86_64 || echo node\n")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    result = node.inside("sh", "-s", stdin=SYSTEM)
    assert (result.returncode, f"[{code}]" in result.stderr) == ((1, True) if code else (0, False)), result.stderr
    assert not list((tmp_path / "lib").glob("kata-nodes*"))


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("password", [True, False])
def test_a_home_that_root_may_not_read_is_refused_before_anything_is_sent(tmp_path: Path, closed: bool, password: bool) -> None:
    """As on NFS with root_squash. Lost if this fails: the installation says that the program's folder cannot be written, or that
    there is no upload, which is sent again and again."""
    node = Node(tmp_path)
    reads = (
        'for last in "$@"; do :; done\n'
        'case "$*" in *"timeout 30 test -r "*) [ -r "$last" ] || exit 2; [ ! -e "$NODE/closed" ] || exit 1 ;; esac\n'
    )
    node.log_in(f"{reads}{ASKING if password else SUDO['sudo']}")
    if closed:
        (tmp_path / "closed").touch()
    node.fake("uname", "[ $1 = -m ] && echo x86_64 || echo node\n")
    (tmp_path / "os-release").write_text("ID=debian\nVERSION_ID=12\n")
    home = tmp_path / "home"
    line = f"{login.as_root(AS_ROOT)}--as-user timeout 60 sh -s -- --with-password" if password else "sh -s"
    stdin = login.before(AS_ROOT, PASSWORD, SYSTEM) if password else SYSTEM
    result = node.inside("env", f"HOME={home}", "sh", "-c", line, stdin=stdin)
    assert result.returncode == closed, result.stderr
    line = f"error: node: root may not read {home}, where user admin logs in, and nothing was changed there. Log in as root, or"
    assert (line in result.stderr) == ("[file-unreadable]" in result.stderr) == closed
    assert [file.name for file in home.iterdir()] == [".kata-nodes.pyz"]


def test_a_node_that_was_put_back_to_an_earlier_version_is_undone_by_the_words_of_that_one(node: Node) -> None:
    """As by a snapshot. Lost if this fails: no `destroy` ends, and what it says has nothing to do with it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(BOOTSTRAP, 'case $1 in --remove) echo "$@" >"$NODE/removal" ;; *) exit 1 ;; esac\n')
    earlier = hashlib.sha256(file.getvalue()).hexdigest()[:12]
    folder = node.root / "lib/kata-nodes"
    for program_file in folder.glob("nodekit-*"):
        program_file.unlink()
    (folder / f"nodekit-{earlier}.pyz").write_bytes(file.getvalue())
    (folder / f"nodekit-{earlier}.pyz").chmod(0o644)
    result = node.run("--remove", *STACK)
    assert (result.returncode, node.log("removal")) == (0, f"--remove {STACK[0]} {STACK[1]}\n"), result.stderr
