"""The local node is a real node: pinned keys, a real Docker that apt can change, and guests inside it. Needs minutes."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import machine, process, site
from tests.nightly import LONG_FORMS

# On each change tests/e2e/test_local_stack.py boots such a node, changes its Docker and boots guests in it.
pytestmark = [LONG_FORMS, pytest.mark.machine, pytest.mark.timeout(900)]

Run = Callable[[str], str]
DOCKER = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {"directory": str(folder / "site")}
    yield site.up(request)
    site.down(request)


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {"name": "node-1", "directory": str(folder / "machine")}
    yield machine.up(request)
    machine.down(request)
    assert not (folder / "machine").exists()


def login(folder: Path, node: dict[str, Any], host_key: str, user: str = "node") -> list[str]:
    known, key = folder / "known", folder / "key"
    known.write_text(f"[{node['address']}]:{node['port']} {host_key}\n")
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_text(node["privateKey"])
    options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"]
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", *words, "-i", str(key), "-p", str(node["port"]), f"{user}@{node['address']}"]


@pytest.fixture(scope="module")
def run(folder: Path, node: dict[str, Any]) -> Run:
    """Runs a script on the node and returns what it printed; a failing script fails the test with all of it."""

    def on_node(script: str) -> str:
        command = [*login(folder, node, node["hostKey"]), "sh", "-eu"]
        result = subprocess.run(command, input=script, capture_output=True, text=True, timeout=600, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return on_node


def wait_for_docker(run: Run) -> None:
    """SSH answers some seconds before dockerd does on an emulated node."""
    run("timeout 120 sh -c 'until sudo docker version >/dev/null 2>&1; do sleep 1; done'")


def test_only_the_pinned_host_and_the_one_user_get_through(folder: Path, node: dict[str, Any], run: Run) -> None:
    assert run("hostname; sudo id -u") == "node-1\n0\n"
    another = machine.new_key()[1].decode()
    for host_key, user, refusal in (
        (another, "node", "Host key verification failed"),
        (node["hostKey"], "root", "Permission denied"),
    ):
        command = [*login(folder, node, host_key, user), "true"]
        result = subprocess.run(command, input="", capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 255
        assert refusal in result.stderr


def test_the_node_starts_with_docker_28_and_no_package_source(run: Run) -> None:
    wait_for_docker(run)
    assert run("sudo docker version -f '{{.Server.Version}} {{.Client.Version}}'") == "28.5.2 28.5.2\n"
    assert run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true") == ""
    assert run("systemctl is-enabled docker.service docker.socket") == "enabled\nenabled\n"


def test_the_devices_of_a_kata_node_are_there(run: Run) -> None:
    run("for device in /dev/kvm /dev/vhost-vsock /dev/vhost-net /dev/net/tun; do test -c $device; done")


def test_apt_changes_docker_to_27_and_back(served: dict[str, Any], run: Run) -> None:
    wait_for_docker(run)
    run(
        f"""sudo install -d /etc/apt/keyrings
        curl -fsS {served["repository"]}/gpg | sudo tee /etc/apt/keyrings/docker.asc >/dev/null
        printf 'Types: deb\\nURIs: %s\\nSuites: trixie\\nComponents: stable\\nSigned-By: /etc/apt/keyrings/docker.asc\\n' \
            {served["repository"]} | sudo tee /etc/apt/sources.list.d/docker.sources >/dev/null
        sudo apt-get -q --error-on=any update"""
    )
    for release in ("27.5.1", "28.5.2"):
        packages = " ".join(f"{name}=5:{release}-1~debian.13~trixie" for name in DOCKER)
        run(f"sudo DEBIAN_FRONTEND=noninteractive apt-get -q -y --allow-downgrades install {packages}")
        wait_for_docker(run)
        assert run("sudo docker version -f '{{.Server.Version}} {{.Client.Version}}'") == f"{release} {release}\n"
        assert run("systemctl is-active docker.service docker.socket") == "active\nactive\n"


def test_the_archive_is_served_with_the_sum_that_is_reported(served: dict[str, Any], run: Run) -> None:
    assert run(f"curl -fsS {served['archiveUrl']} | sha256sum").split()[0] == served["archiveSha256"]


def test_a_guest_inside_the_node_reaches_user_space(served: dict[str, Any], run: Run) -> None:
    output = run(
        f"""cd "$(mktemp -d)"
        curl -fsS {served["archiveUrl"]} | tar -xJ
        for attempt in 1 2 3; do
            sudo timeout -s KILL 60 opt/kata/bin/qemu-system-x86_64 -machine q35 -accel kvm -cpu host -m 256 -nodefaults \
                -no-reboot -display none -monitor none -serial stdio \
                -kernel opt/kata/share/kata-containers/vmlinux.container \
                -initrd opt/kata/share/kata-containers/kata-containers-initrd.img \
                -append 'console=ttyS0 panic=-1 rdinit=/bin/busybox' </dev/null >console 2>&1 || true
            if grep -q 'Attempted to kill init! exitcode=0x00000000' console; then echo up; exit 0; fi
        done
        tail -n 5 console"""
    )
    assert output == "up\n"


def test_a_restart_keeps_what_was_done_on_the_node(node: dict[str, Any], folder: Path, run: Run) -> None:
    run("echo kept >mark; sync")
    process.stop(folder / "machine" / "process.json")
    again = machine.up({"name": "node-1", "directory": str(folder / "machine")})
    assert again["boot"] != node["boot"]  # so that the start is seen, and the node proven again
    of_the_start = {"pid": 0, "boot": ""}
    assert {**again, **of_the_start} == {**node, **of_the_start}
    begin = time.monotonic()
    assert run("cat mark") == "kept\n"
    assert time.monotonic() - begin < 60
