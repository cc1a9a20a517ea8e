"""What `kata-nodes doctor` says of a machine that is not quite as others; the whole command is in tests/fleet/test_fleet.py.

Lost if these fail: the rest of its checks, or the trust of somebody whose machine is well.
"""

import errno
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet import doctor, engine
from fleet.__main__ import app
from nodekit.host.capture import Captured
from tests.fleet.test_rules import deployment


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that are asked, of which none answers."""
    hosts: list[str] = []

    def connect(address: tuple[str, int], _: float) -> socket.socket:
        hosts.append(address[0])
        raise OSError("nobody answers")

    monkeypatch.setattr(socket, "create_connection", connect)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return hosts


def test_keys_are_files_and_a_link_that_leads_nowhere_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    (folder / "id_old.d").mkdir(parents=True)
    (folder / "id_gone").symlink_to("/nowhere/id_gone")
    (finding,) = doctor._ssh({})
    assert finding.subject == "ssh keys" and finding.message.startswith("none in")
    (folder / "id_ed25519").touch(0o600)
    (finding,) = doctor._ssh({})
    assert (finding.message, finding.cure) == ("id_ed25519", "")
    (folder / "id_ed25519").chmod(0o644)
    (finding,) = doctor._ssh({})
    (folder / "id_my rsa").touch(0o644)
    (exposed,) = doctor._ssh({})
    assert (finding.cure, exposed.cure) == (
        f"chmod 600 {folder}/id_ed25519", f"chmod 600 {folder}/id_ed25519 '{folder}/id_my rsa'"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("edited", "why"),
    [
        ({"type": "command:remote:Command", "parent": "n", "urn": "::n-docker"}, "an earlier version of this program"),
        ({"type": "kata-nodes:index:KataNode"}, "not of a form that an engine writes"),
    ],
)
def test_state_that_was_read_and_not_understood_is_no_matter_of_a_passphrase(
    monkeypatch: pytest.MonkeyPatch, edited: dict[str, Any], why: str
) -> None:
    """Lost if this fails: the rest of the checks. Or somebody who upgrades a stack looks for a wrong passphrase."""
    node = {"type": "kata-nodes:index:KataNode", "urn": "n"}
    monkeypatch.setattr(engine, "deployment", lambda _: {"resources": [node, edited]})
    (finding,) = doctor._state("rack")
    assert finding.level == "FAULT" and why in finding.message and "passphrase" not in finding.cure


def test_state_that_an_engine_removes_meanwhile_is_no_damaged_one(tmp_path: Path) -> None:
    """As `pulumi stack rm` in another terminal: the command ended with a traceback."""
    folder = tmp_path / ".pulumi/stacks/kata-nodes"
    folder.mkdir(parents=True)
    (folder / "rack.json.attrs").touch()
    (folder / "gone.json.attrs").symlink_to("nowhere")
    (finding,) = doctor._damaged_states(f"file://{tmp_path}")
    assert finding.cure == f"rm {folder}/rack.json.attrs"


@pytest.mark.parametrize("error", [errno.ENAMETOOLONG, errno.ENOENT])
def test_file_of_the_stack_that_cannot_be_looked_for_is_a_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int
) -> None:
    """Of a name that no file can have, or in a folder that another branch does not have."""
    name = "x" * 300 if error == errno.ENAMETOOLONG else "rack"
    monkeypatch.chdir(tmp_path)
    if error == errno.ENOENT:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
    monkeypatch.setattr(doctor, "_engine", lambda: [doctor.Finding("pulumi", "v3")])
    monkeypatch.setattr(engine, "deployment", lambda _: {"resources": []})
    monkeypatch.setattr(doctor, "_sites", lambda _: iter(()))
    (finding,) = [each for each in doctor.findings(name) if each.subject == "stack's file"]
    assert finding.level == "FAULT" and os.strerror(error) in finding.message
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("config", [{}, {"kata-nodes:nodes": {"local": {}}}])
def test_home_of_another_user_is_a_line_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: dict[str, Any]
) -> None:
    """`sudo -u deploy` keeps HOME in some configurations, and root's is closed."""

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(Path, "is_dir", refuse)  # root, as whom tests may run, is never refused
    (finding,) = doctor._ssh(config)
    assert finding.message == f"{tmp_path}/.ssh: Permission denied" and finding.level == ("note" if config else "FAULT")


def test_agent_without_keys_is_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """macOS starts an agent for everybody, and most are empty."""
    agent, key = tmp_path / "agent", tmp_path / "key"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL) as process:
        try:
            while not agent.exists():
                time.sleep(0.02)
            empty, keys = doctor._ssh({})
            assert (empty.message, empty.cure) == (f"{agent}, without keys", "")
            assert keys.level == "FAULT" and "none of the agent" in keys.message and "ssh-add" in keys.cure
            subprocess.run(["ssh-add", "-q", str(key)], check=True)
            assert [finding.message for finding in doctor._ssh({})] == [f"{agent}, keys: 1", "those of the agent"]
        finally:
            process.terminate()
    assert [finding.level for finding in doctor._ssh({})] == ["FAULT", "FAULT"], "it has ended"


NODES = {"kata-nodes:nodes": {"existing": [{"name": "a"}]}}
THROUGH = {"kata-nodes:nodes": {"existing": [{"name": "a"}], "bastion": {"user": "jump"}}}
SECRET = {"secure": "v1:abc:def"}


@pytest.mark.parametrize(
    ("config", "is_fault"),
    [
        (NODES, True),
        ({**NODES, "kata-nodes:sshPrivateKey": SECRET}, False),
        ({**THROUGH, "kata-nodes:sshPrivateKey": SECRET}, True),
        ({**THROUGH, "kata-nodes:sshPrivateKey": SECRET, "kata-nodes:bastionPrivateKey": SECRET}, False),
        ({"kata-nodes:kubernetes": {"kataDeploy": {}}, "kata-nodes:kubeconfig": SECRET}, False),
        ({"kata-nodes:nodes": {"local": {}}}, False),
        ({"kata-nodes:nodes": {"aws": {"instances": {"count": 1}}}}, False),
        ({"kata-nodes:nodes": {"aws": {"instances": {"publicKey": "ssh-ed25519 A"}}}}, True),
        ({"aws:region": "eu-central-1"}, True),
        ({"kata-nodes:nodes": "x"}, False),
    ],
)
def test_a_machine_without_keys_is_at_fault_only_where_a_stack_would_use_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: dict[str, Any], is_fault: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (finding,) = doctor._ssh(config)
    assert bool(finding.cure) is is_fault


def test_key_file_that_no_up_reads_is_not_called_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The plugin that logs in takes the stack's own key or the agent's, and no file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").touch(0o600)
    (finding,) = doctor._ssh(NODES)
    assert finding.level == "FAULT" and "id_ed25519" in finding.message and "ssh-add" in finding.cure
    for config in ({**NODES, "kata-nodes:sshPrivateKey": SECRET}, {"aws:region": "eu-central-1"}):
        (finding,) = doctor._ssh(config)
        assert (finding.message, finding.cure) == ("id_ed25519", "")


@pytest.mark.parametrize("printed", [b"", b"me\n", b"7", b'["me"]'])
def test_an_engine_that_prints_no_login_is_a_fault_and_no_traceback(monkeypatch: pytest.MonkeyPatch, printed: bytes) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/pulumi")
    monkeypatch.setattr(doctor.engine, "answer", lambda *_: "v3")
    monkeypatch.setattr(doctor.engine, "ask", lambda *_: Captured(0, printed, b"", False, False))
    finding = doctor._engine()[-1]
    assert finding.subject == "login" and "printed no login" in finding.message and finding.cure


@pytest.mark.parametrize(
    ("url", "address"),
    [("postgres://me:hunter2@db.example.org/pulumi", "postgres://db.example.org/pulumi"), ("file:///a@b/c d", "file:///a@b/c d")],
)
def test_password_in_a_backends_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str, address: str) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/pulumi")
    monkeypatch.setattr(doctor.engine, "answer", lambda *_: "[]")
    login = json.dumps({"user": "me", "url": url}).encode()
    monkeypatch.setattr(doctor.engine, "ask", lambda *_: Captured(0, login, b"", False, False))
    (finding,) = (finding for finding in doctor._engine() if finding.subject == "login")
    assert finding.message == f"me at {address}"


@pytest.mark.parametrize(("name", "level"), [("command", "ok"), ("commander", "FAULT")])
@pytest.mark.parametrize("json_by_variable", ["", "true"])
def test_command_plugin_is_found_in_the_list_of_any_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, level: str, json_by_variable: str
) -> None:
    """A person may have all lists printed as JSON (PULUMI_OPTION_JSON), and a healthy machine had a fault."""
    (tmp_path / "pulumi").write_text(
        f"""#!/bin/sh
case " $* $PULUMI_OPTION_JSON" in
    *" whoami "*) echo '{{"user": "me", "url": "file://~"}}' ;;
    *" plugin ls --json "* | *" plugin ls "*true) echo '[{{"name": "{name}", "kind": "resource", "version": "1.2.1"}}]' ;;
    *) echo "NAME KIND VERSION"; echo "{name} resource 1.2.1" ;;
esac
"""
    )
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PULUMI_OPTION_JSON", json_by_variable)
    finding = doctor._engine()[-1]
    assert (finding.subject, finding.level) == ("plugins", level)


@pytest.mark.parametrize("runtime", ["rust", "go"])
def test_the_release_is_the_one_of_the_stacks_own_runtime(reached: list[str], runtime: str) -> None:
    config = {"kata-nodes:kata": {"install": "release", "version": "4.1.0", "runtime": runtime}}
    subjects = [finding.subject for finding in doctor._sites(config)]
    # The table has no archive of 4.1.0 for the Go runtime.
    assert subjects == (["site", "site"] if runtime == "rust" else ["kata release", "site"])
    assert reached == ["download.docker.com", *(["github.com"] if runtime == "rust" else [])]


@pytest.mark.parametrize("address", ["http://a:99999/x", "http://a:b/x", "http://[x/", "https://" + "a" * 64 + "\u00e9.example/"])
def test_an_address_that_leads_nowhere_costs_the_others_no_line(address: str) -> None:
    config: dict[str, Any] = {"kata-nodes:docker": {"repository": {"address": address}}}
    (finding,) = doctor._sites(config)
    assert finding.subject == "site"


@pytest.mark.parametrize("line", ["kata-nodes:node: {}", "kata-node:docker: {}", "kata-nodes:docker:", "kata-nodes:kata: 3.32.0"])
def test_file_that_a_preview_refuses_is_not_called_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.a.yaml").write_text("config:\n  kata-nodes:nodes:\n    local: {}\n")
    assert doctor._file("a")[1].cure == ""
    (tmp_path / "Pulumi.a.yaml").write_text(f"config:\n  {line}\n  kata-nodes:nodes:\n    local: {{}}\n")
    finding = doctor._file("a")[1]
    assert finding.cure and line.split(": ")[0].rstrip(":") in finding.message


def test_file_whose_settings_do_not_come_to_the_stack_is_not_called_valid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: platform\nruntime: python\n")
    machines = {"region": "eu-central-1", "instanceType": "m7i.metal-24xl", "image": "ami-0123456789abcdef0", "vpc": "vpc-1"}
    aws = {**machines, "subnets": ["subnet-1"], "instances": {"sshFrom": ["203.0.113.0/24"]}}
    for key, cure in (("aws:profile", "AWS_PROFILE"), ("docker", "Write it as kata-nodes:docker")):
        (tmp_path / "Pulumi.a.yaml").write_text(json.dumps({"config": {"kata-nodes:nodes": {"aws": aws}, key: "x"}}))
        assert cure in doctor._file("a")[1].message


def test_section_beside_the_configuration_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.a.yaml").write_text("config:\n  kata-nodes:nodes: {local: {}}\nkata-nodes:docker: {version: 28.5.2}\n")
    finding = doctor._file("a")[1]
    assert "kata-nodes:docker" in finding.message and finding.cure == "Indent it below config"


def test_words_of_the_file_are_what_the_engine_takes_them_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "Pulumi.a.yaml"
    proof = "kata-nodes:kubernetes: {kataDeploy: {nodeSelector: {kata: yes}}, proof: {selector: a=b, image: i}}"
    file.write_text(f"config:\n  {proof}\n")
    assert doctor._file("a")[1].cure == "", "yes is a label's value there, and no truth value"
    file.write_text("config:\n  kata-nodes:nodes: {local: {}}\n  kata-nodes:kata: {nestedSandbox: yes}\n")
    assert "true or false" in doctor._file("a")[1].message


@pytest.mark.parametrize("stack", ["a", "acme/a", "acme/kata-nodes/a"])
def test_file_of_a_stack_is_named_without_its_organization(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stack: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.a.yaml").write_text("config:\n  kata-nodes:nodes:\n    local: {}\n")
    finding = doctor._file(stack)[1]
    assert (finding.message, finding.cure) == ("Pulumi.a.yaml is valid", "")


def test_file_is_read_as_the_engine_reads_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key without a namespace is of the project's, and `yes` is a text: go-yaml 3 has no other booleans than true and false."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: kata-nodes\nruntime: python\n")
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
    host = f"{{name: off, address: 10.0.0.5, hostKey: {key}}}"
    (tmp_path / "Pulumi.a.yaml").write_text(f"config:\n  nodes:\n    existing:\n    - {host}\n")
    assert doctor._file("a")[1].message == "Pulumi.a.yaml is valid"
    (tmp_path / "Pulumi.a.yaml").write_text("config:\n  nodes:\n    local: {}\n  dokcer: {}\n")
    assert "kata-nodes:dokcer" in doctor._file("a")[1].message and doctor._file("a")[1].cure
    # As `pulumi config set kata-nodes:docker '{…}'` writes it, and a number that the engine hands over as 2.
    (tmp_path / "Pulumi.a.yaml").write_text('config:\n  nodes: {local: {count: 2e0}}\n  docker: \'{"version": "28.5.2"}\'\n')
    config, finding = doctor._file("a")
    assert (finding.message, finding.cure) == ("Pulumi.a.yaml is valid", "")
    assert config["kata-nodes:docker"] == {"version": "28.5.2"} and config["kata-nodes:nodes"]["local"]["count"] == 2
    (tmp_path / "Pulumi.yaml").write_text("name: other\nruntime: python\n")
    assert "another program" in doctor._file("a")[1].message


@pytest.mark.usefixtures("reached")
def test_site_that_this_machine_cannot_reach_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = doctor._sites({})
    assert "does not answer here" in finding.message and finding.cure.startswith("Harmless if your nodes reach it")
    assert finding.level == "note"
    monkeypatch.setattr(doctor, "findings", lambda _: [finding])
    result = CliRunner().invoke(app, ["doctor"])
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["note", "site:"])


def test_site_whose_name_is_looked_up_in_vain_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch, reached: list[str]) -> None:
    """The system's look-up ends with its own time-outs alone, and Ctrl-C does not end it."""
    going_on = threading.Event()

    def connect(*_: object) -> socket.socket:
        going_on.wait(60)
        raise OSError("nobody answers")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(doctor, "SITE_SECONDS", 0.2)
    begin = time.monotonic()
    (finding,) = doctor._sites({})
    going_on.set()
    assert (finding.level, reached) == ("note", []) and "no answer within 0.2 s" in finding.message
    assert time.monotonic() - begin < 10


def test_site_behind_a_proxy_is_not_tried_without_it(monkeypatch: pytest.MonkeyPatch, reached: list[str]) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    (finding,) = doctor._sites({})
    assert (finding.level, reached) == ("note", []) and "proxy" in finding.message
    monkeypatch.setenv("NO_PROXY", ".docker.com")
    assert [finding.level for finding in doctor._sites({})] == ["note"] and reached == ["download.docker.com"]


def test_stack_without_machines_gets_nothing_from_the_sites(reached: list[str]) -> None:
    config = {"kata-nodes:kubernetes": {"kataDeploy": {}, "proof": {"selector": "a=b"}}, "kata-nodes:kubeconfig": SECRET}
    assert [*doctor._sites(config)] == [] == reached


@pytest.mark.parametrize("environment", ["\n  - rack/login", "\n  imports:\n    - rack/login"])
def test_values_of_an_esc_environment_are_not_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: str) -> None:
    """The engine merges them; the file shows neither the sections nor the keys."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.a.yaml").write_text(f"environment:{environment}\nconfig:\n  kata-nodes:docker: {{version: 28.5.2}}\n")
    config, finding = doctor._file("a")
    assert finding.cure == "" and "environment" in finding.message
    assert [each.cure for each in doctor._ssh(config)] == [""]


def test_file_of_a_stack_is_where_the_project_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: n\nruntime: python\nstackConfigDir: settings\n")
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/Pulumi.a.yaml").write_text("config:\n  kata-nodes:nodes:\n    local: {}\n")
    assert doctor._file("a")[1].message == "settings/Pulumi.a.yaml is valid"
    (tmp_path / "Pulumi.yaml").write_text("[")
    assert doctor._file("a")[1].message.startswith("there is no stacks/Pulumi.a.yaml or Pulumi.a.yaml")


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_file_of_a_stack_is_where_the_engine_looks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    """It takes a project of a folder above, and the ending of its file; the file of the stack was called missing."""
    (tmp_path / "deploy/nodes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deploy/nodes")
    (tmp_path / f"Pulumi.{suffix}").write_text('{"name": "kata-nodes", "runtime": "python"}')
    (tmp_path / f"Pulumi.a.{suffix}").write_text('{"config": {"nodes": {"local": {}}}}')
    assert doctor._file("a")[1] == doctor.Finding("stack's file", f"../../Pulumi.a.{suffix} is valid")


def test_proof_of_other_settings_and_one_in_pods_that_is_not_there_are_no_proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an `up` that sent another node program and ended then: `drift` named the node, and each was proven here."""
    state = deployment()
    (upload,) = (resource for resource in state["resources"] if resource["urn"].endswith("-upload"))
    monkeypatch.setattr(doctor.engine, "deployment", lambda _: state)
    assert [each.message for each in doctor._state("s")] == ["1 nodes, each proven"]
    upload["inputs"]["triggers"][-1] = "e" * 64
    assert [each.message for each in doctor._state("s")] == ["n1 with a proof of other settings than those on the node"]
    state["resources"] = [{"urn": "urn:pulumi:s::p::kata-nodes:index:KataProof::pods", "type": "kata-nodes:index:KataProof"}]
    (finding,) = doctor._state("s")
    assert finding.level == "FAULT" and finding.message.startswith("pods: the stack holds no proof in pods")


def test_state_in_a_folder_whose_name_a_url_encodes_is_looked_at(tmp_path: Path) -> None:
    attributes = tmp_path / "a#b/.pulumi/stacks/kata-nodes/local.json.attrs"
    attributes.parent.mkdir(parents=True)
    attributes.touch()
    (finding,) = doctor._damaged_states(f"file://{tmp_path}/a%23b")
    assert finding.cure == f"rm {attributes}"
