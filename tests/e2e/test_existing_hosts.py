"""An existing host by the real engine: a real Debian behind a bastion, whose user has a password for sudo.

The Debian runs in namespaces of this machine, where no guest can boot: the stack gets as far as the preflight, run as root.
The tests of this module are one story and run in order: each needs the one before.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs.test_readme import commands, quickstart
from tests.e2e.checkout import Checkout
from tests.e2e.emulated_hosts import start_sshd
from tests.nodekit.debian_node import DebianNode, booted, image, program

pytestmark = [pytest.mark.engine, pytest.mark.debian, pytest.mark.timeout(600)]
PASSWORD = "s3cret 'of\" $the \\user"
UP = ("up", "--yes", "--skip-preview", "--stack", "staging")
NODE_PORT, BASTION_PORT, RACK_PORT = 2201, 2202, 2203


class Hosts(Checkout):
    """The stack `staging`, run where the Debian's network is."""

    def __init__(self, folder: Path, node: DebianNode) -> None:
        super().__init__(folder)
        self.node = node
        self.within = ["nsenter", f"--target={node.pid}", "--net", "--"]
        login, self.host_key = start_sshd(node, NODE_PORT, "admin")
        node.ask("usermod", "--append", "--groups", "sudo", "admin")
        assert node.run("chpasswd", stdin=f"admin:{PASSWORD}\n").returncode == 0
        bastion_login, bastion_key = start_sshd(node, BASTION_PORT, "jump")
        file = folder / "stacks" / "Pulumi.staging.yaml"
        document = yaml.safe_load(file.read_text())
        host = {"name": "n1", "address": "127.0.0.1", "port": NODE_PORT, "user": "admin", "hostKey": self.host_key}
        bastion = {"address": "127.0.0.1", "port": BASTION_PORT, "user": "jump", "hostKey": bastion_key}
        document["config"]["kata-nodes:nodes"] = {"existing": [host], "bastion": bastion}
        del document["config"]["kata-nodes:kubernetes"]
        file.write_text(yaml.safe_dump(document))
        self.pulumi("stack", "init", "staging")
        for key, value in (("sshPrivateKey", login), ("bastionPrivateKey", bastion_login), ("sudoPassword", PASSWORD)):
            self.secret(key, value)

    def secret(self, key: str, value: str) -> None:
        """Set a secret."""
        self.pulumi("config", "set", "--secret", "--stack", "staging", f"kata-nodes:{key}", stdin=value)

    def programs(self) -> list[Path]:
        """What lies where the stack puts the node program."""
        return list(Path(f"/proc/{self.node.pid}/root/usr/local/lib/kata-nodes").glob("nodekit-*.pyz"))

    def resource_names(self) -> set[str]:
        """Names of the resources in the state."""
        deployment = json.loads(self.pulumi("stack", "export", "--stack", "staging"))["deployment"]
        return {resource["urn"].rpartition("::")[2] for resource in deployment.get("resources", [])}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A Debian and the stack for it."""
    with booted(image(), program()) as node:
        yield Hosts(tmp_path_factory.mktemp("checkout"), node)


def test_preview_tells_what_would_be_done_and_no_secret(hosts: Hosts) -> None:
    output = hosts.pulumi("preview", "--stack", "staging", "--diff")
    assert "user_namespace.enable=1" in output and "https://download.docker.com/linux/{id}" in output
    assert PASSWORD not in output and "PRIVATE KEY" not in output


def test_wrong_password_stops_before_anything_is_installed(hosts: Hosts) -> None:
    hosts.secret("sudoPassword", "letmein")  # the engine blots out every text that is a secret
    output = hosts.pulumi(*UP, ok=False)
    assert "[sudo-password-wrong]" in output and "kata-nodes:sudoPassword" in output
    assert hosts.resource_names() & {"nodes-n1-system", "nodes-n1-upload", "nodes-n1-converge"} == set()
    assert not hosts.programs()


def test_right_password_makes_the_program_root_behind_the_bastion(hosts: Hosts) -> None:
    hosts.secret("sudoPassword", PASSWORD)
    output = hosts.pulumi(*UP, ok=False)
    # It has no Kata, and the stack installs none: known before anything on it is changed.
    assert "Kata's go runtime finds no configuration file on this node" in output and "[kata-not-found]" in output
    assert "nodes-n1-converge" not in hosts.resource_names() and hosts.programs()
    assert {"nodes-n1-system", "nodes-n1-upload"} <= hosts.resource_names()
    state = hosts.pulumi("stack", "export", "--stack", "staging")
    for text in (output, state):
        assert json.dumps(PASSWORD)[1:-1] not in text and PASSWORD not in text
    assert "PRIVATE KEY" not in state


def test_destroy_undoes_it_by_the_same_password(hosts: Hosts) -> None:
    hosts.pulumi("destroy", "--yes", "--stack", "staging")
    root = Path(f"/proc/{hosts.node.pid}/root")
    assert not (root / "usr/local/lib/kata-nodes").exists()
    assert not list((root / "home/admin").glob(".kata-nodes*"))


def test_quickstart_for_own_hosts_leads_to_them(hosts: Hosts, tmp_path: Path) -> None:
    """The README's own commands, where the person knows the machine by ~/.ssh/config and known_hosts.

    Kata's site is out of reach in there: known before anything but the program is put onto the machine.
    """
    login, host_key = start_sshd(hosts.node, RACK_PORT, "rack")
    hosts.node.ask("usermod", "--append", "--groups", "sudo", "rack")
    (Path(f"/proc/{hosts.node.pid}/root") / "etc/sudoers.d/rack").write_text("rack ALL=(ALL) NOPASSWD: ALL\n")
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text(f"Host rack-a\n  HostName 127.0.0.1\n  Port {RACK_PORT}\n  User rack\n")
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{RACK_PORT} {host_key}\n")
    (ssh / "id_ed25519").write_text(login)
    lines = commands(quickstart("My hosts"))
    assert lines[0] == "pulumi install", "the packages are those of the tests"
    script = re.sub(r"^(pulumi up .*)$", r"\1 --yes --skip-preview --non-interactive", "\n".join(lines[1:]), flags=re.MULTILINE)
    result = subprocess.run(
        [*hosts.within, "bash", "-e", "-c", script], cwd=hosts.folder, env={**hosts.environment, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False,
    )  # fmt: skip
    print(result.stdout)
    assert result.returncode != 0 and "[kata-download-failed]" in result.stdout and "kata-static-3.32.0" in result.stdout
    names = {
        urn.rpartition("::")[2] for urn in re.findall(r'"urn": "([^"]+)"', hosts.pulumi("stack", "export", "--stack", "rack"))
    }
    assert "nodes-rack-1-upload" in names and "nodes-rack-1-converge" not in names
