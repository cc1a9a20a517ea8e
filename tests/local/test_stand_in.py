"""The stand-in for Kata's shim starts containers in real guests, and fails as the genuine one does. Needs minutes."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local import machine, site
from nodekit.rules import node_state
from tests.local.test_node import login, node_program, wait_for_docker

pytestmark = [pytest.mark.machine, pytest.mark.timeout(900)]

Docker = Callable[..., subprocess.CompletedProcess[str]]
DROP_INS = "/opt/kata/share/defaults/kata-containers/config.d"
DROP_IN = f"{DROP_INS}/70-test.toml"
SLOW = f"{DROP_INS}/51-slow-machine.toml"
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words that run a command on a node with the archive's Kata, a runtime `kata`, and an image `ladder:1`."""
    folder = tmp_path_factory.mktemp("node")
    # One core: the kernel of an emulated node of two has panicked in its KVM module under many guests.
    place: dict[str, Any] = {"name": "node-1", "directory": str(folder / "machine"), "cores": 1}
    served = site.up({"directory": str(folder / "site")})
    try:
        node = machine.up(place)
        kata = node_state.kata(
            "node-1",
            hypervisor="qemu",
            runtime="go",
            version="3.32.0",
            archive_address=str(served["archiveUrl"]),
            archive_sha256=str(served["archiveSha256"]),
            install_release=None,
            kernel_params=[],
            config_path=None,
        )
        assert node_program(folder, node, "kata", kata)[0] == 0
        words = login(folder, node, str(node["hostKey"]))
        shell(
            words,
            """
            mkdir -p image/bin image/tmp
            cp /bin/busybox image/bin/
            for tool in sh cat echo grep id ip mount ping sleep true unshare; do ln -sf busybox image/bin/$tool; done
            tar -C image -c . | sudo docker import - ladder:1
            sudo mkdir -p /etc/docker
            echo '{"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}' | sudo tee /etc/docker/daemon.json
            sudo systemctl restart docker
            """,
        )
        # A guest on an emulated machine that has other work takes longer than Kata's 45 seconds.
        configure(words, SLOW, "[agent.kata]\ndial_timeout = 90\n")
        wait_for_docker(lambda script: shell(words, script))
        yield words
    finally:
        machine.down(place)
        site.down({"directory": str(folder / "site")})


def shell(words: list[str], script: str) -> str:
    done = subprocess.run([*words, "sh", "-eu"], input=script, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def docker(ssh: list[str]) -> Iterator[Docker]:
    """Runs `docker run --rm --runtime kata OPTIONS ladder:1 sh -c SCRIPT`; nothing of a container may be left afterwards."""

    def run(
        script: str, *options: str, network: str = "none", stdin: str | None = None, attempts: int = 3
    ) -> subprocess.CompletedProcess[str]:
        words = [*options, "--network", network, "ladder:1", "sh", "-c", script]
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
        command = f"sudo timeout -k 5 200 docker run --rm --runtime kata {quoted}"
        if stdin is None:
            command += " </dev/null"
        for _ in range(attempts):
            done = subprocess.run([*ssh, command], input=stdin or "", capture_output=True, text=True, timeout=300, check=False)
            # A guest in an emulated machine hangs now and then before its first process.
            if "timed out connecting to vsock" not in done.stderr:
                break
        return done

    yield run
    left = """
    timeout 60 sh -c 'while pgrep -x "containerd-shim|virtiofsd|qemu-system-x86" >/dev/null; do sleep 1; done' ||
        pgrep -l -x "containerd-shim|virtiofsd|qemu-system-x86" || true
    sudo docker ps --all --quiet
    grep kata-stand-in /proc/mounts || true
    ls -d /run/kata-stand-in 2>/dev/null || true
    """
    assert shell(ssh, left) == ""


def configure(ssh: list[str], path: str, text: str) -> None:
    shell(ssh, f"sudo mkdir -p {DROP_INS}\nsudo tee {path} >/dev/null <<'END'\n{text}END\n")


@pytest.fixture
def drop_in(ssh: list[str]) -> Iterator[Callable[[str], None]]:
    """Puts a drop-in beside Kata's configuration for one test."""
    yield lambda text: configure(ssh, DROP_IN, text)
    shell(ssh, f"sudo rm -f {DROP_IN}")


def test_it_is_called_a_stand_in_wherever_it_is_seen(ssh: list[str]) -> None:
    assert "stand-in, not Kata Containers" in shell(ssh, "containerd-shim-kata-v2 --version")
    assert shell(ssh, "cat /opt/kata/STAND-IN").startswith("This is not Kata Containers.")


def test_a_container_runs_in_a_guest_and_its_streams_and_exit_code_come_back(ssh: list[str], docker: Docker) -> None:
    script = "cat /proc/sys/kernel/random/boot_id; echo wrong >&2; id -u; cat /proc/cmdline; exit 7"
    done = docker(script, "--user", "1000:1000")
    assert (done.returncode, done.stderr) == (7, "wrong\n")
    boot, user, line = done.stdout.splitlines()
    assert boot != shell(ssh, "cat /proc/sys/kernel/random/boot_id").strip()
    assert user == "1000"
    assert BASE in line


def test_output_after_the_end_of_standard_input_is_lost_as_with_the_genuine_go_shim(docker: Docker) -> None:
    script = "echo first; sleep 4; echo late; sleep 1; echo later"
    with_stdin = docker(script, "--interactive", stdin="")
    assert (with_stdin.returncode, "later" in with_stdin.stdout) == (0, False)
    without = docker(script)
    assert (without.returncode, without.stdout) == (0, "first\nlate\nlater\n")


PROC_AGAIN = "unshare -Urmpf mount -t proc proc /tmp && echo mounted; grep CapBnd /proc/self/status"


def test_masked_paths_keep_a_user_namespace_from_a_proc_of_its_own(docker: Docker) -> None:
    masked = docker(PROC_AGAIN)
    assert "mounted" not in masked.stdout
    assert "permission denied" in masked.stderr
    unmasked = docker(PROC_AGAIN, "--security-opt", "systempaths=unconfined", "--cap-drop", "NET_RAW", "--cap-add", "NET_ADMIN")
    assert unmasked.stdout.split() == ["mounted", "CapBnd:", "00000000a80415fb"], unmasked.stderr


def test_kernel_parameters_of_a_drop_in_reach_the_guest(docker: Docker, drop_in: Callable[[str], None]) -> None:
    drop_in(f'[hypervisor.qemu]\nkernel_params = "{BASE} sysctl.user.max_user_namespaces=0"\n')
    done = docker("cat /proc/sys/user/max_user_namespaces; unshare -U true")
    assert done.stdout == "0\n"
    assert "No space left on device" in done.stderr


def test_lost_base_parameters_keep_the_guest_from_coming_up(docker: Docker, drop_in: Callable[[str], None]) -> None:
    drop_in('[hypervisor.qemu]\nkernel_params = "quiet"\n[agent.kata]\ndial_timeout = 30\n')
    done = docker("true", attempts=1)
    assert done.returncode == 125
    assert "failed to create shim task: timed out connecting to vsock " in done.stderr


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
    done = docker("true")
    assert done.returncode in (125, 127), done.stdout
    assert "failed to create shim task: " in done.stderr
    assert words in done.stderr


def test_docker_s_bridge_reaches_the_guest(docker: Docker) -> None:
    """Docker 28 makes it after the container's start, so a process has to wait for it, as with the genuine shim."""
    wait = "for i in 0 1 2 3 4 5 6 7 8 9; do ip address show eth0 2>/dev/null && break; sleep 1; done"
    done = docker(f"{wait}; ping -c 1 -w 10 172.17.0.1", network="bridge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 packets received" in done.stdout


def test_a_further_process_and_a_signal_reach_the_guest(ssh: list[str], docker: Docker) -> None:
    said = shell(
        ssh,
        """
        sudo docker run --detach --rm --name long --runtime kata --network none ladder:1 \
            sh -c 'trap "exit 9" TERM; while :; do sleep 1; done' >/dev/null
        sudo docker exec long cat /proc/sys/kernel/random/boot_id
        code=0; sudo docker exec --user 1000 long sh -c 'id -u; exit 3' || code=$?
        echo $code
        sudo docker wait long & sleep 1
        sudo docker kill --signal TERM long >/dev/null
        wait
        """,
    )
    boot, *rest = said.split()
    assert boot != shell(ssh, "cat /proc/sys/kernel/random/boot_id").strip()
    assert rest == ["1000", "3", "9"]


def test_ordinary_containers_still_run_on_the_node(ssh: list[str]) -> None:
    boot = "cat /proc/sys/kernel/random/boot_id"
    assert shell(ssh, f"sudo docker run --rm --network none ladder:1 {boot}") == shell(ssh, boot)
    assert {"kata", "runc"} <= set(json.loads(shell(ssh, "sudo docker info --format '{{json .Runtimes}}'")))
