"""The pack by the real engine: this project's stack passes, and a program of another owner is refused for each rule.

What would be lost if these failed: that a mandatory rule stops a preview, in words that say what to do, and that what the engine
keeps encrypted is distinguished from what is plain.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.components.test_wiring import HOST_KEY
from tests.e2e.checkout import Checkout

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
PROGRAM = """
import signal

import pulumi
import pulumi_command as command
import pulumi_kubernetes as k8s

signal.signal(signal.SIGINT, signal.SIG_DFL)
given = pulumi.Config("given")
if pod := given.get_object("pod"):
    if later := given.get("later"):
        # Known once it is made, as the name of a RuntimeClass of the stack is.
        pod["runtimeClassName"] = command.local.Command("class", create=f"printf {later}").stdout
    render = k8s.Provider("render", render_yaml_to_directory="rendered")
    k8s.core.v1.Pod("pod", metadata={"name": "p"}, spec=pod, opts=pulumi.ResourceOptions(provider=render))
if connection := given.get_object("connection"):
    command.remote.Command("remote", connection=connection, create="true", stdin=given.get("stdin"))
if given.get("create"):
    command.local.Command("local", create=given.get("create"), stdin=given.get("stdin"))
if kept := given.get_secret("kept"):
    command.local.Command("keeping", create="cat", stdin=kept)
if plan := given.get_object("plan"):
    pulumi.ComponentResource("kata-nodes:index:KataNode", "node", {"plan": plan})
"""
TO_NODE = {"host": "192.0.2.1", "hostKey": HOST_KEY}
SAFE: dict[str, Any] = {
    "pod": {
        "runtimeClassName": "kata-qemu",
        "containers": [{"name": "c", "image": "i", "securityContext": {"capabilities": {"add": ["NET_ADMIN", "SYS_ADMIN"]}}}],
    },
    "connection": {**TO_NODE, "proxy": TO_NODE},
    "stdin": "no secret",
    "create": "true",
}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the project, with stack `local`."""
    result = Checkout(tmp_path_factory.mktemp("checkout"))
    result.pulumi("stack", "init", "local")
    return result


class Program(Checkout):
    """Somebody else's program, held to the pack of a checkout."""

    def __init__(self, folder: Path, checkout: Checkout) -> None:
        self.folder, self.environment, self.within = folder, checkout.environment, checkout.within
        (folder / "Pulumi.yaml").write_text("name: other\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        self.pack = ("--policy-pack", str(checkout.folder / "tools" / "policy"))
        self.pulumi("stack", "init", "local")
        self.settings = folder / "Pulumi.local.yaml"
        self.salt = yaml.safe_load(self.settings.read_text())

    def preview(self, inputs: dict[str, Any], *options: str, secret: str = "", ok: bool = False) -> str:
        """What the engine prints for the program with this configuration."""
        config = {f"given:{key}": value for key, value in inputs.items()}
        self.settings.write_text(yaml.safe_dump({**self.salt, "config": config}))
        if secret:
            self.pulumi("config", "set", "--secret", "given:kept", stdin=secret)
        return self.pulumi("preview", *self.pack, *options, ok=ok)


@pytest.fixture(scope="module")
def program(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """One, with its stack."""
    return Program(tmp_path_factory.mktemp("program"), checkout)


def held(output: str) -> bool:
    """Whether the engine reports that it checked the stack with the pack, and found nothing."""
    return any("✅ kata-nodes@" in line for line in output.splitlines()) and "[mandatory]" not in output


def test_local_stack_passes(checkout: Checkout) -> None:
    output = checkout.pulumi("preview", "--stack", "local", "--policy-pack", "tools/policy")
    assert held(output), output
    assert "can't run policy" not in output


def test_program_that_keeps_every_rule_passes(program: Program) -> None:
    output = program.preview(SAFE, secret=KEY, ok=True)
    assert held(output), output


UNPROVEN = {"dockerVersion": "27.5.1", "kataVersion": "3.27.0", "kataRuntime": "go"}


@pytest.mark.parametrize(
    ("wrong", "policies", "words"),
    [
        (
            {
                "pod": {**SAFE["pod"], "runtimeClassName": "runc"},
                "plan": {**UNPROVEN, "dockerVersion": "28.5.2"},
                "connection": {"host": "192.0.2.1"},
                "stdin": KEY,
            },
            ["sandbox-pods", "docker-kata-pair", "host-keys", "secrets"],
            [
                "pod-capabilities",
                "Set runtimeClassName",
                "docker-kata-incompatible",
                "Kata 3.29.0 or newer",
                "host-key-missing",
                "ssh_host_ed25519_key.pub",
                "secret-in-plain",
                "stdin holds a private key",
                "--secret",
            ],
        ),
        (
            {
                "pod": {**SAFE["pod"], "hostNetwork": True},
                "stdin": json.dumps({"version": "28.5.2", "kataVersion": "3.27.0", "kataRuntime": "go"}),
                "connection": {**TO_NODE, "proxy": {"host": "192.0.2.2"}},
                "create": f"echo '{KEY}'",
            },
            ["sandbox-pods", "docker-kata-pair", "host-keys", "secrets"],
            [
                "pod-reaches-node",
                "Remove hostNetwork",
                "docker-kata-incompatible",
                "host-key-missing",
                "bastion",
                "secret-on-command-line",
                "create holds a private key",
                "standard input",
            ],
        ),
        ({"plan": UNPROVEN}, ["proofs"], ["proof-missing", "node-proof"]),
    ],
)
def test_program_that_breaks_rules_is_refused_with_every_remedy(
    program: Program, wrong: dict[str, Any], policies: list[str], words: list[str]
) -> None:
    output = program.preview({**SAFE, **wrong})
    for text in (*(f"[mandatory]  {policy}" for policy in policies), *words):
        assert text in output
    assert KEY not in output
    assert "Traceback" not in output


def test_what_a_preview_cannot_know_is_refused_before_it_is_made(program: Program) -> None:
    assert held(program.preview({"pod": SAFE["pod"], "later": "runc"}, ok=True))
    try:
        output = program.pulumi("up", "--yes", "--skip-preview", *program.pack, ok=False)
        assert "[mandatory]  sandbox-pods" in output and "RuntimeClass runc" in output
        kinds = program.types()
        assert "command:local:Command" in kinds and "kubernetes:core/v1:Pod" not in kinds
    finally:
        program.pulumi("destroy", "--yes", "--skip-preview")


def test_classes_and_levels_are_settings(program: Program, tmp_path: Path) -> None:
    mine = {**SAFE, "pod": {**SAFE["pod"], "runtimeClassName": "mine"}}
    settings = tmp_path / "settings.json"
    options = ("--policy-pack-config", str(settings))
    settings.write_text(json.dumps({"sandbox-pods": {"runtimeClasses": ["mine"]}}))
    assert held(program.preview(mine, *options, ok=True))
    settings.write_text(json.dumps({"sandbox-pods": "advisory"}))
    assert "[advisory]  sandbox-pods" in program.preview(mine, *options, ok=True)
    settings.write_text(json.dumps({"sandbox-pods": {"runtimeClasses": []}}))
    assert "runtimeClasses" in program.preview(mine, *options)
