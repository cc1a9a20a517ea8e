"""The command kata-nodes on a real host: what it says of a node is so, and what it repairs is repaired.

Lost if these fail: the only look at all nodes at once, and a drift that nobody sees. The tests of this module are one story and
run in order: one `up`, one `cure` for all kinds of drift.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fleet import hosts
from fleet.measure import measure
from nodekit.host import proofs
from tests.e2e.checkout import REPOSITORY, Checkout
from tests.e2e.emulated_hosts import EmulatedHost, emulated_host, stack_config
from tests.nodekit import kata_node
from tests.nodekit.docker_node import NEW, OLD

pytestmark = [pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(600)]
PASSWORD = "s3cret 'of\" $the \\user"
STACK = "fleet"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MODULES_FILE = "/etc/modules-load.d/kata-nodes.conf"
DAEMON = "/etc/docker/daemon.json"
PROGRAMS = "/usr/local/lib/kata-nodes"


class Story:
    """A stack with one host, and the command in its folder."""

    def __init__(self, folder: Path, host: EmulatedHost) -> None:
        self.host, self.checkout = host, Checkout(folder)
        self.checkout.environment["HOME"] = str(folder)  # no SSH settings of the person who runs the tests
        (folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": stack_config({"n1": host})}))
        self.checkout.pulumi("stack", "init", STACK)
        for key, value in (("sshPrivateKey", host.login_key), ("sudoPassword", PASSWORD)):
            self.checkout.pulumi("config", "set", "--secret", "--stack", STACK, f"kata-nodes:{key}", stdin=value)

    def run(self, *argv: str, status: int = 0) -> str:
        """What the command prints; it must end with this status, and show no secret."""
        result = subprocess.run(
            [sys.executable, "-m", "fleet", *argv], cwd=self.checkout.folder, env=self.checkout.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        print(f"--- kata-nodes {' '.join(argv)}: {result.returncode}\n{result.stdout}{result.stderr}")
        assert result.returncode == status, result.stdout + result.stderr
        for secret in (PASSWORD, "PRIVATE KEY"):
            assert secret not in result.stdout + result.stderr
        return result.stdout

    def document(self, *argv: str, status: int = 0) -> dict[str, Any]:
        """The one node of what the command prints as JSON."""
        (node,) = json.loads(self.run(*argv, STACK, "--json", status=status))["nodes"]
        return dict(node)

    def deployment(self) -> dict[str, Any]:
        """The state, with its secrets."""
        argv = ["pulumi", "stack", "export", "--show-secrets", "--stack", STACK]
        result = subprocess.run(argv, cwd=self.checkout.folder, env=self.checkout.environment, capture_output=True, check=True)
        return dict(json.loads(result.stdout)["deployment"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The host and the stack for it, which is up."""
    with emulated_host(password=PASSWORD) as host:
        story = Story(tmp_path_factory.mktemp("checkout"), host)
        story.checkout.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
        yield story


def test_a_node_as_the_stack_left_it_has_no_drift(story: Story) -> None:
    node = story.document("status")
    assert node["reached"] and node["differences"] == [] and node["notes"] == [] and not node["programSent"]
    assert node["status"]["docker"]["daemon"]["version"] == "27.5.1"
    assert "Nothing that was measured differs" in story.run("drift", STACK)
    table = story.run("status", STACK).splitlines()
    assert table[0].split() == ["NODE", "STATE", "DOCKER", "KATA", "PROVEN"]
    assert "n1" in table[1] and "as deployed" in table[1] and "27.5.1, held" in table[1] and "3.32.0" in table[1]


def test_explain_tells_whose_each_parameter_is_and_why_the_pair_works(story: Story) -> None:
    output = story.run("explain", "n1", "--stack", STACK)
    assert (
        "user_namespace.enable=1: the stack's" in output
        and "Docker 27.5.1 with Kata 3.32.0 (go)" in output
        and "moby/moby#47626" in output
    )
    assert "Its nodes: n1" not in output


def test_overhead_measures_on_the_node_and_leaves_nothing_there(story: Story) -> None:
    output = story.run("overhead", "n1", "--stack", STACK, "--seconds", "2")
    names = [line.split()[0] for line in output.splitlines()]
    assert {"PROCESS", "qemu-system-x86", "virtiofsd", "containerd-shim", "guest,"} <= set(names)
    assert "No proposal: the guests did not run on KVM." in output
    assert kata_node.left(story.host.node) == ""


def kept(story: Story, name: str) -> None:
    """Keep the node's record as what the tests of the page show, where a person asks for that (tests/fleet/samples.py)."""
    if folder := os.environ.get("KATA_NODES_PROOF_SAMPLES"):
        record = json.loads((story.host.root / proofs.RECORD.lstrip("/")).read_text())
        (Path(folder) / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def report(story: Story) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stack's report, which must be as its schema says, and its one node."""
    document = json.loads(story.run("report", STACK, "--format", "json"))
    jsonschema.validate(document, json.loads((REPOSITORY / "docs/reference/report.schema.json").read_text()))
    (node,) = document["nodes"]
    return document, node


def test_a_report_holds_what_was_read_in_guest_and_container_and_when(story: Story) -> None:
    document, node = report(story)
    assert node["outcome"] == document["outcome"] == "proven" and all(row["passed"] for row in document["checklist"])
    assert [climb["place"] for climb in node["proof"]["climbs"]] == ["booted guest", "container of runtime kata"]
    for climb in node["proof"]["climbs"]:
        times = [rung["at"] for rung in climb["rungs"]]
        assert None not in times and 0 < min(times) <= max(times) < climb["seconds"] + 1 < node["proof"]["seconds"] + 1.1
    assert [past["passed"] for past in node["timeline"]] == [True]
    assert (node["pair"]["docker"], node["pair"]["kata"], node["pair"]["works"]) == ("27.5.1", "3.32.0", True)
    assert {each["origin"] for each in node["parameters"]} >= {"the stack's"}
    assert [step["state"] for step in node["steps"]] == ["done"] * 5
    file = story.checkout.folder / "report.html"
    assert story.run("report", STACK, "--format", "html", "--output", str(file)) == ""
    assert file.read_text().startswith("<!doctype html>") and "max_user_namespaces" in file.read_text()
    summary = json.loads(story.run("report", "--fleet", STACK, "absent", "--format", "json", status=1))
    assert [(line["stack"], line["readable"], line["proven"]) for line in summary["stacks"]] == [
        (STACK, True, 1),
        ("absent", False, 0),
    ]
    kept(story, "passed")


def plant(host: EmulatedHost) -> None:
    """One drift of each kind that a person or a program causes on a node."""
    node, root = host.node, host.root
    node.ask("apt-mark", "unhold", "docker-ce-cli")
    package = f"docker-ce-rootless-extras={NEW}"
    moved = node.run(
        "runuser", "-u", host.user, "--", "sudo", "-S", "apt-get", "install", "-q", "-y", "--allow-change-held-packages", package,
        stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert moved.returncode == 0, moved.stdout + moved.stderr
    daemon = root / DAEMON.lstrip("/")
    daemon.write_text(daemon.read_text().replace("configuration-qemu.toml", "configuration-clh.toml"))
    (drop_in,) = (root / "opt/kata").rglob("*kata-nodes*.toml")
    drop_in.write_text(drop_in.read_text().replace("user_namespace.enable=1", "quiet"))
    (root / MODULES_FILE.lstrip("/")).unlink()
    (program,) = [path for path in (root / PROGRAMS.lstrip("/")).glob("nodekit-*.pyz") if not path.is_symlink()]
    program.write_bytes(program.read_bytes()[:1000])
    (root / "run/another-boot").write_text("11111111-2222-3333-4444-555555555555\n")
    node.ask("mount", "--bind", "/run/another-boot", BOOT_ID)


def test_every_kind_of_drift_is_named_with_who_could_have_done_it(story: Story) -> None:
    plant(story.host)
    node = story.document("drift", status=2)
    differences = {(item["kind"], item["file"] or item["what"].split(" ")[0]): item for item in node["differences"]}
    assert {kind for kind, _ in differences} == {"hold", "package", "file", "program", "boot"}
    assert node["programSent"], "a damaged program must not be what measures"
    assert "docker-ce-cli" in differences["hold", "docker-ce-cli"]["what"]
    package = differences["package", "docker-ce-rootless-extras"]
    assert NEW in package["what"] and OLD in package["what"]
    assert "run by admin" in package["traces"][-1] and "apt-get install" in package["traces"][-1]
    daemon = differences["file", DAEMON]
    assert '-        "ConfigPath": "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"' in daemon["diff"]
    assert '+        "ConfigPath": "/opt/kata/share/defaults/kata-containers/configuration-clh.toml"' in daemon["diff"]
    assert differences["file", MODULES_FILE]["diff"].startswith(f"--- {MODULES_FILE} (stack)\n+++ /dev/null")
    (drop_in,) = (item for (_, file), item in differences.items() if file.startswith("/opt/kata"))
    assert "user_namespace.enable=1" in drop_in["what"] and "its owner is user root" in drop_in["traces"][0]
    assert "1 of 1 nodes differ" in story.run("drift", STACK, status=2)


def test_cure_repairs_all_of_it_and_proves_the_node_again(story: Story) -> None:
    before = story.document("status")["evidence"]["bootId"]
    output = story.run("cure", STACK, "--yes")
    assert "Nothing that was measured differs" in output
    node = story.document("drift")
    assert node["evidence"]["bootId"] != before, "it was proven in this boot"
    assert node["differences"] == [] and not node["programSent"]
    story.host.node.ask("umount", BOOT_ID)


def test_a_proof_that_was_asked_for_and_failed_is_not_passed_over_by_the_next_up(story: Story) -> None:
    """The settings are as they were, so an engine that keeps the proof before it sees no change."""
    (drop_in,) = (story.host.root / "opt/kata").rglob("*kata-nodes*.toml")
    right = drop_in.read_text()
    drop_in.write_text(right.replace("user_namespace.enable=1", "quiet"))
    story.run("prove", "n1", "--stack", STACK, "--yes", status=1)
    drop_in.write_text(right)
    (host,) = hosts.of(story.deployment())
    assert host.evidence is None and [difference.kind for difference in host.differences] == ["setting"]
    story.checkout.pulumi("up", "--yes", "--skip-preview", "--stack", STACK)
    assert story.document("drift")["differences"] == []


def test_a_missing_device_is_named(story: Story) -> None:
    device = story.host.root / "dev/vhost-vsock"
    device.unlink()
    differences = story.document("drift", status=2)["differences"]
    device.touch()
    assert [item["kind"] for item in differences if item["kind"] != "boot"] == ["module"] and "/dev/vhost-vsock" in differences[
        0
    ]["what"]


def test_a_setting_newer_than_the_proof_is_named(story: Story) -> None:
    deployment = story.deployment()
    (converge,) = (resource for resource in deployment["resources"] if resource["urn"].endswith("-n1-converge"))
    changed = json.dumps(converge["inputs"]["stdin"]).replace("user_namespace.enable=1", "user_namespace.enable=2")
    converge["inputs"]["stdin"] = json.loads(changed)
    (host,) = hosts.of(deployment)
    assert [difference.kind for difference in host.differences] == ["setting"]
    deployment["resources"] = [resource for resource in deployment["resources"] if not resource["urn"].endswith("-n1-proof")]
    (host,) = hosts.of(deployment)
    assert [difference.message for difference in host.differences] == [
        "the stack holds no proof of it: the last run ended before"
    ]


def test_a_host_that_cannot_be_reached_is_a_row_with_its_cause_and_the_others_are_measured(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (host,) = hosts.of(story.deployment())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = replace(host, name="closed", connection={**host.connection, "port": free.getsockname()[1]})
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    pinned = replace(host, name="another", connection={**host.connection, "hostKey": other})
    measured = {measurement.host.name: measurement for measurement in measure([closed, host, pinned], 60)}
    assert measured["n1"].document is not None
    assert "cannot reach" in str(measured["closed"].cause) and "host key mismatch" in str(measured["another"].cause)


def test_a_hosts_own_ssh_settings_lead_to_it(story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the state has neither key nor proxy: the user's key, and a way through another machine, in ~/.ssh/config."""
    (host,) = hosts.of(story.deployment())
    place = story.host.forward.port
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "key").write_text(story.host.login_key)
    (ssh / "key").chmod(0o600)
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{place} {story.host.host_key}\n")
    (ssh / "config").write_text(
        f"Host rack\n  HostName 127.0.0.1\n  ProxyJump {story.host.user}@127.0.0.1:{place}\nHost *\n  IdentityFile {ssh}/key\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    connection = {"host": "rack", "port": 22, "user": story.host.user, "hostKey": story.host.host_key}
    (measured,) = measure([replace(host, connection=connection)], 60)
    assert measured.document is not None, measured.cause


def test_a_failed_stack_has_a_report_with_the_rung_that_failed(story: Story) -> None:
    file = story.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
    config = yaml.safe_load(file.read_text())
    config["config"]["kata-nodes:kata"]["kernelParams"] = ["sysctl.user.max_user_namespaces=0"]
    file.write_text(yaml.safe_dump(config))
    story.checkout.pulumi("up", "--yes", "--skip-preview", "--stack", STACK, ok=False)
    document, node = report(story)
    assert document["outcome"] == node["outcome"] == "failed" and document["checklist"] == []
    assert node["proof"]["failure"]["code"] == "proof-user-namespaces-zero"
    (climb,) = node["proof"]["climbs"]
    (rung,) = [rung for rung in climb["rungs"] if rung["name"] == "user-namespaces"]
    assert (rung["verdict"], rung["value"], rung["counts"]) == ("failed", "0", True)
    assert [past["passed"] for past in node["timeline"]] == [False, True, False, True, True], (
        "before it, those of the first up, of cure, and of prove, which failed, and the up after that"
    )
    assert [step["state"] for step in node["steps"]][3:] == ["failed", "not reached"]
    kept(story, "failed")


def test_doctor_names_a_node_whose_proof_failed_a_dead_agent_and_a_fault_in_the_stacks_file(story: Story) -> None:
    story.checkout.environment["SSH_AUTH_SOCK"] = str(story.checkout.folder / "nobody")
    output = story.run("doctor", STACK, status=1)
    assert "FAULT  ssh agent" in output and f"Pulumi.{STACK}.yaml is valid" in output and "n1 without a proof" in output
    (attributes,) = story.checkout.folder.glob(f".state/backend/.pulumi/stacks/*/{STACK}.json.attrs")
    kept = attributes.read_bytes()
    attributes.write_bytes(b"")  # as the engine leaves it when it is killed while it writes
    output = story.run("doctor", STACK, status=1)
    assert "FAULT  state" in output and f"rm {attributes}" in " ".join(output.split())
    attributes.write_bytes(kept)
    file = story.checkout.folder / "stacks" / f"Pulumi.{STACK}.yaml"
    file.write_text(file.read_text().replace("kata-nodes:docker", "kata-nodes:dokcer"))
    story.run("doctor", STACK, status=1)


def test_import_of_the_program_loads_nothing_of_the_command() -> None:
    code = "import sys, components, stacks.pool; print({'typer', 'rich', 'asyncssh', 'fleet'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
