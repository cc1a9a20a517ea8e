"""Previews by the real engine: what is refused there, in which words, and that nobody is contacted."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.checkout import Checkout

pytestmark = [pytest.mark.engine]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with its stack `staging` initialised."""
    copy = Checkout(tmp_path_factory.mktemp("checkout"))
    copy.pulumi("stack", "init", "staging")
    return copy


class Doorkeeper:
    """Listens on a loopback port and counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        """Count and hang up."""
        while True:
            try:
                caller, _ = self.socket.accept()
            except OSError:
                return
            self.calls += 1
            caller.close()


@pytest.fixture
def doorkeeper() -> Iterator[Doorkeeper]:
    """One that is gone after the test."""
    keeper = Doorkeeper()
    yield keeper
    keeper.socket.close()


def test_preview_of_existing_nodes_contacts_neither_node_nor_cluster(checkout: Checkout, doorkeeper: Doorkeeper) -> None:
    file = checkout.folder / "stacks" / "Pulumi.staging.yaml"
    document = yaml.safe_load(file.read_text())
    nodes = document["config"]["kata-nodes:nodes"]
    for machine in (nodes["existing"][0], nodes["bastion"]):
        machine |= {"address": "127.0.0.1", "port": doorkeeper.port}
    file.write_text(yaml.safe_dump(document))
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{doorkeeper.port}"}}],
        "users": [{"name": "u", "user": {"token": "SECRET-TOKEN"}}],
    }
    secret = ("config", "set", "--secret", "--stack", "staging")
    checkout.pulumi(*secret, "kata-nodes:kubeconfig", stdin=yaml.safe_dump(kubeconfig))
    checkout.pulumi(*secret, "kata-nodes:sshPrivateKey", stdin="-----BEGIN OPENSSH PRIVATE KEY-----")
    checkout.pulumi(*secret, "kata-nodes:sudoPassword", stdin="SUDO-PASSWORD")
    output = checkout.pulumi("preview", "--stack", "staging", "--diff")
    assert doorkeeper.calls == 0
    assert "user_namespace.enable=1" in output and "https://download.docker.com/linux/{id}" in output
    assert "SECRET-TOKEN" not in output and "OPENSSH" not in output and "SUDO-PASSWORD" not in output


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("verificaton", "60", ["kata-nodes:verificaton", "no such key", "Remove the key"]),
        ("docker.version", "29.5.0", ["29.5.0", "3.32.0", "docker-kata-incompatible"]),
    ],
)
def test_bad_configuration_is_refused_in_words(checkout: Checkout, key: str, value: str, words: list[str]) -> None:
    """As tests/stacks/test_model.py for every key: a name and a rule are enough here, where the engine prints it."""
    file = checkout.folder / "stacks" / "Pulumi.staging.yaml"
    before = file.read_text()
    if key == "docker.version":
        checkout.pulumi("config", "set", "--path", "kata-nodes:kata.version", "3.27.0", "--stack", "staging")
    checkout.pulumi("config", "set", "--path", f"kata-nodes:{key}", value, "--stack", "staging")
    try:
        output = checkout.pulumi("preview", "--stack", "staging", ok=False)
    finally:
        Path(file).write_text(before)
    for text in words:
        assert text in output
    assert "Traceback" not in output


SSH = """
Host rack-*
    User admin
Host rack-a
    HostName 192.0.2.1
Host rack-b
    HostName 192.0.2.2
"""
KNOWN = "".join(f"192.0.2.{at} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}\n" for at, letter in ((1, "A"), (2, "B")))


@pytest.mark.parametrize(
    ("name", "argv", "planned"),
    [
        ("rack", ["--nodes", "existing", "--address", "rack-*"], ["rack-1-converge", "rack-2-converge", "rack-2-proof"]),
        ("pinned", ["--nodes", "existing", "--address", "rack-*", "--docker", "28.5.2"], ["pinned-1-converge", "pinned-2-proof"]),
        ("here", ["--nodes", "local"], ["local-0-machine", "local-0-proof", "kata-class"]),
    ],
)
def test_new_stack_is_previewed_by_the_commands_that_are_printed_after_it(
    checkout: Checkout, tmp_path: Path, name: str, argv: list[str], planned: list[str]
) -> None:
    (tmp_path / "config").write_text(SSH)
    (tmp_path / "known_hosts").write_text(KNOWN)
    command = ["python", "-m", "stacks.new", "--name", name, *argv, "--ssh-folder", str(tmp_path)]
    result = subprocess.run(command, cwd=checkout.folder, env=checkout.environment, capture_output=True, text=True, check=True)
    commands = re.findall(r"^  pulumi (.*?)(?:    #.*)?$", result.stdout, re.MULTILINE)
    # The packages are there already, and secrets are a person's own.
    outputs = [checkout.pulumi(*words) for command in commands if (words := command.split())[0] not in ("install", "config")]
    assert len(outputs) == 2 and all(text in outputs[-1] for text in planned)


def test_stack_genuine_is_refused_in_one_sentence_before_anything_is_made(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    file = checkout.folder / "stacks" / "Pulumi.genuine.yaml"
    document = yaml.safe_load(file.read_text())
    document["config"]["kata-nodes:docker"]["repository"] = {"address": f"{dead}/{{id}}"}
    document["config"]["kata-nodes:kata"]["install"] = {"address": f"{dead}/kata.tar.zst", "sha256": "a" * 64}
    file.write_text(yaml.safe_dump(document))
    checkout.pulumi("stack", "init", "genuine")
    sentence = f"{dead}/debian/gpg cannot be reached from this machine"
    previewed = checkout.pulumi("preview", "--stack", "genuine")
    assert (
        "`pulumi up` would be refused on this machine" in previewed and sentence in previewed and "local-0-machine" in previewed
    )
    refused = checkout.pulumi("up", "--stack", "genuine", "--yes", "--skip-preview", ok=False)
    assert sentence in refused and "[genuine-impossible]" in refused and "Traceback" not in refused
    assert "command:" not in checkout.pulumi("stack", "export", "--stack", "genuine")
