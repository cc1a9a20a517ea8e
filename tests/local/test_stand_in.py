"""The stand-in for Kata's shim starts containers in real guests, and fails as the genuine one does.

The guests are emulated by this machine itself, over the serial port that stands for vsock there. KVM and vsock
are used by the local stack, whose proof starts a container (tests/e2e/test_local_stack.py).
"""

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.nodekit import kata_node
from tests.nodekit.debian_node import DebianNode, image, program
from tests.nodekit.kata_node import BASE, FAULT

pytestmark = [pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(600)]

BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")
Docker = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def node() -> Iterator[DebianNode]:
    """A node with the archive's Kata, a runtime `kata`, and an image `ladder:1`; nothing of a container may stay on it."""
    with kata_node.with_kata(image(), program()) as node:
        kata_node.image(node, "ladder:1")
        yield node
        assert kata_node.left(node) == ""


@pytest.fixture
def docker(node: DebianNode) -> Docker:
    """Runs `docker run --rm --runtime kata OPTIONS ladder:1 sh -c SCRIPT`."""

    def run(script: str, *options: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        words = ["docker", "run", "--rm", "--runtime", "kata", "--network", "none", *options, "ladder:1", "sh", "-c", script]
        if stdin is not None:
            return node.run(*words, stdin=stdin, timeout=200)
        return node.run("sh", "-c", '"$@" </dev/null', "sh", *words, timeout=200)

    return run


@pytest.fixture
def drop_in(node: DebianNode) -> Iterator[Callable[[str], None]]:
    """Puts a drop-in beside Kata's configuration for one test."""
    yield lambda text: kata_node.write(node, FAULT, text)
    kata_node.remove(node, FAULT)


def test_it_is_called_a_stand_in_wherever_it_is_seen(node: DebianNode) -> None:
    assert "stand-in, not Kata Containers" in node.ask("/usr/local/bin/containerd-shim-kata-v2", "--version")
    assert node.ask("cat", "/opt/kata/STAND-IN").startswith("This is not Kata Containers.")


def test_a_container_runs_in_a_guest_and_its_streams_and_exit_code_come_back(node: DebianNode, docker: Docker) -> None:
    script = "cat /proc/sys/kernel/random/boot_id; echo wrong >&2; id -u; cat /proc/cmdline; exit 7"
    result = docker(script, "--user", "1000:1000")
    assert (result.returncode, result.stderr) == (7, "wrong\n")
    boot, user, line = result.stdout.splitlines()
    assert boot != node.ask(*BOOT_ID).strip()
    assert user == "1000"
    assert BASE in line


def test_output_after_the_end_of_standard_input_is_lost_as_with_the_genuine_go_shim(docker: Docker) -> None:
    script = "echo first; sleep 4; echo late; sleep 1; echo later"
    with_stdin = docker(script, "--interactive", stdin="")
    assert (with_stdin.returncode, "later" in with_stdin.stdout) == (0, False)
    without = docker(script)
    assert (without.returncode, without.stdout) == (0, "first\nlate\nlater\n")


PROC_AGAIN = "unshare -Urmpf mount -t proc proc /tmp && echo mounted; cat /proc/self/status"


def test_masked_paths_keep_a_user_namespace_from_a_proc_of_its_own(docker: Docker) -> None:
    masked = docker(PROC_AGAIN)
    assert "mounted" not in masked.stdout
    assert "permission denied" in masked.stderr
    unmasked = docker(PROC_AGAIN, "--security-opt", "systempaths=unconfined", "--cap-drop", "NET_RAW", "--cap-add", "NET_ADMIN")
    assert unmasked.stdout.startswith("mounted\n") and "CapBnd:\t00000000a80415fb\n" in unmasked.stdout, unmasked.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('initrd = "/nowhere/initrd"', "configuration-qemu.toml: file /nowhere/initrd does not exist: not found"),
        ('image = "/vmlinuz"', "having both an image and an initrd defined in the configuration file is not supported"),
        ('virtio_fs_daemon = "/nowhere/daemon"', "fork/exec /nowhere/daemon: no such file or directory"),
    ],
)
def test_what_kata_refuses_is_refused_in_its_words(docker: Docker, drop_in: Callable[[str], None], text: str, words: str) -> None:
    drop_in(f"[hypervisor.qemu]\n{text}\n")
    result = docker("true")
    assert result.returncode in (125, 127), result.stdout
    assert "failed to create shim task: " in result.stderr
    assert words in result.stderr


def test_a_further_process_and_a_signal_reach_the_guest(node: DebianNode, docker: Docker) -> None:
    output = node.ask(
        "sh",
        "-euc",
        """
        docker run --detach --rm --name long --runtime kata --network none ladder:1 \
            sh -c 'trap "exit 9" TERM; while :; do sleep 1; done' >/dev/null
        docker exec long cat /proc/sys/kernel/random/boot_id
        code=0; docker exec --user 1000 long sh -c 'id -u; exit 3' || code=$?
        echo $code
        docker wait long & sleep 1
        docker kill --signal TERM long >/dev/null
        wait
        """,
    )
    boot, *rest = output.split()
    assert boot != node.ask(*BOOT_ID).strip()
    assert rest == ["1000", "3", "9"]


def test_ordinary_containers_still_run_on_the_node(node: DebianNode) -> None:
    assert node.ask("docker", "run", "--rm", "--network", "none", "ladder:1", *BOOT_ID) == node.ask(*BOOT_ID)
    assert {"kata", "runc"} <= set(json.loads(node.ask("docker", "info", "--format", "{{json .Runtimes}}")))
