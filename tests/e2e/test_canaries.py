"""Secrets show nowhere, and a guest that reads 0 fails the stack: a whole stack on a real host and a real API server.

Lost if these fail: the promise that a stack whose guests read 0 fails before anything builds on it; a key or password in a log,
in the state, on a command line or on a node, where others read it. The tests of this module are one story and run in order. The
join script of machines on AWS has its own test, tests/aws/test_pool.py.
"""

import base64
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.canaries import Canaries
from tests.clusterkit.control_plane import ControlPlane
from tests.e2e.checkout import Checkout
from tests.e2e.emulated_hosts import EmulatedHost, Forward, emulated_host, stack_config, start_sshd
from tools import environment

pytestmark = [pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]
PASSWORD = f"canary 'of\" the $sudo \\password {secrets.token_hex(8)}"
PASSPHRASE = f"canary of the backend's passphrase {secrets.token_hex(8)}"
BASTION_PORT = 2202
UP = ("up", "--yes", "--skip-preview", "--diff", "--show-config")
ZERO = "sysctl.user.max_user_namespaces=0"
NEW_AFTER_PROOF = ("RuntimeClass", "ValidatingAdmissionPolicy", "PodTemplate", "core/v1:Namespace")


class Story:
    """A stack with a host behind a bastion, and a cluster; every secret is a canary."""

    def __init__(self, folder: Path, host: EmulatedHost, plane: ControlPlane, home: Path) -> None:
        self.host, self.checkout = host, Checkout(folder, home)
        bastion_login, bastion_key = start_sshd(host.node, BASTION_PORT, "jump")
        self.bastion = Forward(host.node, BASTION_PORT)
        config = stack_config({"n1": host})
        nodes = config["kata-nodes:nodes"]
        nodes["existing"][0]["port"] = 22  # from the bastion, which is the same machine
        nodes["bastion"] = {"address": "127.0.0.1", "port": self.bastion.port, "user": "jump", "hostKey": bastion_key}
        config["kata-nodes:kubernetes"] = {"containerRuntime": "none"}  # its dockerd serves no cluster
        (folder / "stacks" / "Pulumi.canaries.yaml").write_text(yaml.safe_dump({"config": config}))
        (user,) = (entry["user"] for entry in yaml.safe_load(plane.kubeconfig)["users"])
        client_key = base64.b64decode(user["client-key-data"]).decode()
        secrets = {
            "sshPrivateKey": host.login_key, "bastionPrivateKey": bastion_login, "sudoPassword": PASSWORD,
            "kubeconfig": plane.kubeconfig,
        }  # fmt: skip
        self.canaries = Canaries(passphrase=PASSPHRASE, client_key=client_key, **secrets)
        self.checkout.environment["PULUMI_CONFIG_PASSPHRASE"] = PASSPHRASE
        self.pulumi("stack", "init", "--secrets-provider", "passphrase")
        for key, value in secrets.items():
            self.pulumi("config", "set", "--secret", f"kata-nodes:{key}", stdin=value)

    def pulumi(self, *argv: str, ok: bool = True, stdin: str = "") -> str:
        """A command of the engine, whose arguments and output are searched."""
        with self.canaries.watched():
            printed = self.checkout.pulumi(*argv, "--stack", "canaries", ok=ok, stdin=stdin)
        self.canaries.look(printed, f"what `pulumi {argv[0]}` prints")
        return printed

    def types(self) -> list[str]:
        """Types of all resources of the stack."""
        deployment = json.loads(self.pulumi("stack", "export"))["deployment"]
        return [resource["type"] for resource in deployment.get("resources", [])]

    def modified(self) -> dict[str, str]:
        """When each of the node's steps last ran: `kata`, `proof`, ..."""
        resources = json.loads(self.pulumi("stack", "export"))["deployment"]["resources"]
        steps = [each for each in resources if "::nodes-n1-" in each["urn"] and not each.get("pendingReplacement")]
        return {str(step["urn"]).rpartition("-")[2]: str(step["modified"]) for step in steps}

    def seen(self) -> set[str]:
        """Where canaries came up so far: in what was printed, in arguments, in the stack's files and state, and on the host."""
        self.pulumi("stack", "export")
        self.pulumi("stack", "output", "--json")
        self.pulumi("stack", "history", "--json")
        assert self.canaries.look_below(self.checkout.folder) > 300  # the backend with every checkpoint lies below it
        assert self.canaries.look_below(self.host.root / "mnt" / "upper") > 5  # whatever differs from the host's image
        for memory in ("run", "tmp"):
            self.canaries.look_below(self.host.root / memory)
        return self.canaries.seen


@pytest.fixture(scope="module", params=["own", "official"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's folder with our command plugin, and with the official one where it can be downloaded."""
    official = request.param == "official"
    if official and not environment.published("command", environment.COMMAND_PLUGIN):
        pytest.skip("the official command plugin cannot be downloaded here")
    home = tmp_path_factory.mktemp("home")
    own = None if official else environment.own_command_plugin(Path(os.environ["VIRTUAL_ENV"]))
    environment.install_plugin(environment.engine_folder() / "pulumi", home, "command", environment.COMMAND_PLUGIN, own)
    return home


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, plane: ControlPlane, home: Path) -> Iterator[Story]:
    """The host and the stack for it; whatever happens, the stack is destroyed in the end."""
    with emulated_host(password=PASSWORD) as host:
        story = Story(tmp_path_factory.mktemp("checkout"), host, plane, home)
        try:
            yield story
        finally:
            story.pulumi("destroy", "--yes", "--skip-preview")
            story.bastion.close()


def test_previews_and_plans_show_no_secret(story: Story) -> None:
    story.pulumi("preview", "--diff", "--show-config", "--save-plan", str(story.checkout.folder / "plan.json"))
    story.pulumi("preview", "--json")
    assert story.seen() == set()


def test_a_guest_that_reads_zero_fails_the_stack_at_the_proof_and_shows_no_secret(story: Story) -> None:
    story.pulumi("config", "set", "--path", "kata-nodes:kata.kernelParams[0]", ZERO)
    printed = story.pulumi(*UP, ok=False)
    sentence = next(line for line in printed.splitlines() if "[proof-user-namespaces-zero]" in line and "error: " in line)
    for part in ("n1", "max_user_namespaces", "0", ZERO, "kata.kernelParams"):
        assert part in sentence
    early = [name for name in story.types() if any(late in name for late in NEW_AFTER_PROOF)]
    assert early == []
    assert story.seen() == set()


def test_the_corrected_parameter_is_all_it_takes_and_shows_no_secret(story: Story) -> None:
    story.pulumi("config", "rm", "--path", "kata-nodes:kata.kernelParams[0]")
    story.pulumi(*UP)
    assert all(any(late in name for name in story.types()) for late in NEW_AFTER_PROOF)
    story.pulumi("refresh", "--yes", "--skip-preview", "--diff")
    assert story.seen() == set()


def test_a_proof_that_failed_is_made_again_where_the_former_settings_come_back(story: Story) -> None:
    passed = story.modified()["proof"]
    story.pulumi("config", "set", "--path", "kata-nodes:kata.kernelParams[0]", ZERO)
    assert "[proof-user-namespaces-zero]" in story.pulumi(*UP, ok=False)
    assert story.modified()["proof"] == passed, "the state still has the proof from before"
    story.pulumi("config", "rm", "--path", "kata-nodes:kata.kernelParams[0]")
    story.pulumi(*UP)
    modified = story.modified()
    assert modified["proof"] > modified["converge"] > passed


def test_a_wrong_password_and_a_broken_kubeconfig_are_told_without_being_shown(story: Story) -> None:
    wrong = f"canary-{secrets.token_hex(8)}"
    story.canaries.add("wrong", wrong)
    story.pulumi("config", "set", "--secret", "kata-nodes:sudoPassword", stdin=wrong)
    assert "[sudo-password-wrong]" in story.pulumi(*UP, "--refresh=false", ok=False)
    story.pulumi("config", "set", "--secret", "kata-nodes:sudoPassword", stdin=PASSWORD)
    assert story.seen() == set()


def test_destroy_shows_no_secret(story: Story) -> None:
    story.pulumi("destroy", "--yes", "--skip-preview", "--diff")
    assert story.seen() == set()


def test_a_canary_is_recognized_wherever_it_comes_up(story: Story) -> None:
    """The other tests can fail: the same search finds a secret that was planted where none may be."""
    planted = Canaries(login_key=story.host.login_key)
    (story.host.root / "run" / "planted").write_text(story.host.login_key)
    planted.look_below(story.host.root / "run")
    (story.host.root / "run" / "planted").unlink()
    assert any(place.endswith("/run/planted") for place in planted.seen)
