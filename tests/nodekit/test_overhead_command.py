"""The verb `overhead` reads a sandbox from /proc, and says why where it cannot start one.

Lost if these fail: a figure of processes that have ended meanwhile, or a node of which nobody knows why it has none.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nodekit.commands import overhead
from nodekit.errors import NodeError
from nodekit.host import sandbox_container, sandbox_processes
from nodekit.host.sandbox_container import Container, Ready
from nodekit.rules.node_state import OverheadState
from tests.nodekit.docker_node import Daemon
from tests.nodekit.kata_files import put
from tests.nodekit.kata_release import CONFIG, FOLDER
from tests.nodekit.test_overhead_rules import ID, MIB, OTHER, smaps
from tests.serving import running

FIRST = 5_000_000
"""No process of this machine: Linux gives no pid above 2^22."""
SHARING = """
import mmap, os, sys, time
file = os.open(sys.argv[2], os.O_RDWR)
memory = mmap.mmap(file, 64 << 20)
memory[: 20 << 20] = bytes(20 << 20)
if os.fork() == 0:
    sum(memory[: 20 << 20 : 4096])
    print(os.getppid(), os.getpid(), flush=True)
time.sleep(60)
"""
"""Two processes that share 64 MiB, of which they have touched 20, as hypervisor and virtiofsd share a guest's memory."""
STATE = OverheadState("n1", "qemu", "go", 2, 60)


def process(root: Path, pid: int, name: str, arguments: str, groups: str, memory: str, parent: int = 1) -> Path:
    """A process in a /proc of its own."""
    numbers = f"S {parent} 1 1 0 -1 0 0 0 0 0 30 20 0 0 20 0 1 0 77 0 0 " + " ".join(["0"] * 18) + " 10 0 0"
    folder = f"/proc/{pid}"
    put(root, f"{folder}/stat", f"{pid} ({name}) {numbers}")
    put(root, f"{folder}/cmdline", arguments.replace(" ", "\0"))
    put(root, f"{folder}/cgroup", groups)
    put(root, f"{folder}/smaps", memory)
    put(root, f"{folder}/status", f"Name:\t{name}\nVmPTE:\t{2 * MIB} kB\n")
    (root / folder.lstrip("/") / "cwd").symlink_to("/")
    return root / folder.lstrip("/")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A root with the /proc of a node on which two sandboxes run, and the control groups of the first."""
    group = f"0::/kata_overhead/{ID}\n"
    process(tmp_path, FIRST, "a shim", f"shim -id {ID}", group, smaps("rw-p 0 60 40"))
    process(tmp_path, FIRST + 1, "a hypervisor", f"vm -name sandbox-{ID}", group, smaps("rw-p 0 64 30", "rw-s 9 512 120"))
    process(tmp_path, FIRST + 2, "files", "serve", "0::/system.slice\n", smaps("rw-p 0 8 5", "rw-s 9 512 20"), FIRST)
    process(tmp_path, FIRST + 3, "a hypervisor", f"vm -name sandbox-{OTHER}", "0::/\n", smaps("rw-s 10 512 400"))
    process(tmp_path, 2, "kthreadd", "", "0::/\n", "", 0)
    put(tmp_path, "/proc/self-made", "no process")
    put(tmp_path, f"/sys/fs/cgroup/kata_overhead/{ID}/memory.stat", f"kernel {50 << 20}\nslab_reclaimable {10 << 20}\n")
    return tmp_path


def test_a_sandbox_is_read_from_proc_and_its_control_group(node: Path) -> None:
    sample = sandbox_processes.sample(node, ID, 512)
    assert [(use.pid - FIRST, use.name, use.memory.own // MIB, use.memory.guest // MIB) for use in sample.uses] == [
        (0, "a shim", 40, 0),
        (1, "a hypervisor", 30, 120),
        (2, "files", 5, 20),
    ]
    assert {(use.cpu_ticks, use.guest_ticks, use.page_tables // MIB, use.start) for use in sample.uses} == {(50, 10, 2, 77)}
    assert sample.guest_known and dict(sample.groups) == {f"/kata_overhead/{ID}": 40 * MIB}


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[None]:
    """Two real processes that share memory; started so that they are none of this test's own."""
    with open(tmp_path / "memory", "wb") as file:
        file.truncate(64 << 20)
    argv = ["setsid", "--fork", sys.executable, "-c", SHARING, ID, file.name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.usefixtures("sharing")
def test_memory_that_real_processes_share_is_the_guests_once() -> None:
    sample = sandbox_processes.sample(Path("/"), ID, 64)
    assert len(sample.uses) == 2 and sample.guest_known
    shares = [use.memory.guest / MIB for use in sample.uses]
    assert 19 < sum(shares) < 22 and min(shares) > 8
    for use in sample.uses:
        assert 1 < use.memory.own / MIB < 19 and use.page_tables > 0


def test_a_process_that_ends_meanwhile_is_left_out(node: Path) -> None:
    (node / f"proc/{FIRST}/stat").unlink()
    (node / f"proc/{FIRST + 1}/smaps").unlink()
    (node / f"proc/{FIRST + 2}/cmdline").write_text(ID)  # its parent is gone
    (node / f"sys/fs/cgroup/kata_overhead/{ID}/memory.stat").unlink()
    sample = sandbox_processes.sample(node, ID, 512)
    assert [use.pid - FIRST for use in sample.uses] == [2] and dict(sample.groups) == {}


def test_a_sandbox_that_nobody_sees_is_an_error_and_no_zero(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measuring = overhead._Measuring(node, STATE, "image", "nonce", 512, 0)
    container = Container("n1", "c", "nonce", "a" * 64)
    docker = SimpleNamespace(code=0, stdout="nonce ready 0 0\n", stderr="")
    monkeypatch.setattr(sandbox_container, "run", lambda *_, **__: docker)
    with pytest.raises(NodeError, match=r"no process .* container aaaaaaaaaaaa") as caught:
        measuring._sample(container)
    assert caught.value.code == "overhead-not-measured" and "not in a container" in caught.value.remedy
    docker.code, docker.stderr = 1, "Error response from daemon: No such container: c"
    with pytest.raises(NodeError, match=r"container c ended before .*No such container") as caught:
        measuring._sample(container)
    assert "a guest or hypervisor that was killed" in caught.value.remedy


def root_with(folder: Path, *, shim: bool, hypervisor: str = "qemu") -> Path:
    """A root with Kata's configuration, and with a shim if it is to have one."""
    put(folder, f"/{FOLDER}/configuration.toml", CONFIG.replace("hypervisor.qemu", f"hypervisor.{hypervisor}"))
    if shim:
        put(folder, "/usr/local/bin/containerd-shim-kata-v2", "").chmod(0o755)
    (folder / "run").mkdir()
    return folder


def refusal(root: Path, **changes: Any) -> NodeError:
    """The error of the verb."""
    with pytest.raises(NodeError) as caught:
        overhead.run({**STATE.document(), **changes}, root)
    return caught.value


def test_a_node_that_can_start_no_sandbox_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    bare = root_with(tmp_path / "bare", shim=False)
    error = refusal(bare)
    assert (error.code, error.message) == ("overhead-not-measured", "Node n1 has no Kata shim, which starts sandboxes")
    whole = root_with(tmp_path / "whole", shim=True)
    error = refusal(whole)
    assert "n1 has no Docker" in error.message and "a node with Docker" in error.remedy
    (programs / "docker").touch(mode=0o755)
    error = refusal(whole)
    assert "/run/docker.sock: No such file" in error.message and error.remedy == "Start Docker: systemctl start docker"
    other = root_with(tmp_path / "other", shim=True, hypervisor="firecracker")
    assert "no storage driver" in refusal(other, hypervisor="firecracker").message


class WithoutKata(Daemon):
    """A dockerd that knows runc alone."""

    def answer(self, path: str) -> object:
        return {"ServerVersion": "27.5.1", "Runtimes": {"runc": {}, "crun": {}}}


def test_a_docker_that_does_not_know_kata_is_named_with_what_it_knows(tmp_path: Path) -> None:
    root = root_with(tmp_path, shim=True)
    with running(WithoutKata(root)):
        error = refusal(root)
    assert "does not know the runtime kata, only crun, runc" in error.message and "kata-nodes cure" in error.remedy


@pytest.mark.parametrize(("key", "value", "bounds"), [("seconds", 1, "2 to 600"), ("timeoutSeconds", 5, "30 to 3600")])
def test_a_time_out_of_bounds_is_refused_before_anything_starts(key: str, value: int, bounds: str) -> None:
    with pytest.raises(NodeError, match=f"Key {key} is {value}") as caught:
        OverheadState.read({**STATE.document(), key: value})
    assert bounds in caught.value.remedy


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("", None),
        ("another ready 1 1\n", None),
        ("nonce ready many 1\n", None),
        ("nonce ready 1024 2\nnonce round\nnoise\nnonce round\nnonce rou", Ready(1024, 2, 2)),
    ],
)
def test_what_a_container_prints_is_believed_only_as_far_as_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, printed: str, expected: Ready | None
) -> None:
    monkeypatch.setattr(sandbox_container, "run", lambda *_, **__: SimpleNamespace(code=0, stdout=printed, stderr=""))
    container = Container("n1", "c", "nonce", ID)
    assert container.ready() == expected
    if expected is not None:
        assert container.wait_until_ready(0, 2) == expected
    with pytest.raises(NodeError, match="was not ready in time"):
        container.wait_until_ready(0, 3)


def test_a_result_is_one_that_json_holds(node: Path) -> None:
    uses = sandbox_processes.sample(node, ID, 512)
    measured = overhead.overhead.between(uses, uses._replace(at=uses.at + 1), 100)
    assert json.loads(json.dumps(measured.as_dict()))["memoryMiB"] == 75
