"""Both pools against a recording engine: how each node is logged in to, what is secret, and what goes with what.

What would be lost if these failed: pinned keys on every hop, the sudo password, and nodes that leave without taking others.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pulumi
import pytest

from components import ExistingHost, ExistingNodes, KataNode
from components.local import cluster as local_cluster
from components.local import machine as local_machine
from components.local import site as local_site
from delivery import login
from delivery.scripts import sent
from local.boot import Boot
from tests.components.recorder import Recorder, desired, run
from tests.components.test_wiring import EXISTING, HOST_KEY, LOCAL, stack

CHECKOUT = Path(__file__).resolve().parents[2]
BASTION_KEY = HOST_KEY[:-1] + "I"
BASTION = {"address": "192.0.2.9", "user": "jump", "port": 2022, "hostKey": BASTION_KEY}
SECRETS = {"sshPrivateKey": "NODE-KEY", "sudoPassword": "SUDO-PASSWORD", "bastionPrivateKey": "BASTION-KEY"}
AS_ROOT = sent("as_root.sh", "delivery")
STEPS = ("system", "converge", "proof")
"""Commands of a node."""
COMMANDS = ("upload", *STEPS)


def existing(**node: object) -> dict[str, Any]:
    """A stack of the nodes `a`, logged in to as root, and `b`, as admin, through a bastion; `node` changes `b`."""
    a, b = EXISTING["nodes"]["existing"]
    return {"nodes": {"existing": [a, {**b, **node}], "bastion": BASTION}}


@pytest.fixture(scope="module")
def hosts() -> Recorder:
    """Existing hosts after an `up`."""
    return stack(existing(), secrets=SECRETS)


def test_both_hops_are_pinned_and_patient(hosts: Recorder) -> None:
    for step in COMMANDS:
        command = hosts.by_name[f"nodes-b-{step}"]
        assert command.is_secret("connection")
        connection = command.inputs["connection"]
        proxy = connection["proxy"]
        assert (connection["host"], connection["user"], connection["hostKey"]) == ("192.0.2.2", "admin", HOST_KEY)
        assert (proxy["host"], proxy["user"], proxy["port"], proxy["hostKey"]) == ("192.0.2.9", "jump", 2022, BASTION_KEY)
        assert connection["dialErrorLimit"] == proxy["dialErrorLimit"] == 60
        assert (connection["privateKey"], proxy["privateKey"]) == ("NODE-KEY", "BASTION-KEY")


def test_no_bastion_and_no_key_leave_the_agent_and_the_direct_way() -> None:
    connection = stack(EXISTING).by_name["nodes-b-converge"].inputs["connection"]
    assert "proxy" not in connection and "privateKey" not in connection


def test_operating_system_is_asked_before_anything_is_sent(hosts: Recorder) -> None:
    for node in ("a", "b"):
        assert not hosts.by_name[f"nodes-{node}-system"].after
        assert f"nodes-{node}-system" in hosts.by_name[f"nodes-{node}-upload"].after
        assert f"nodes-{node}-upload" in hosts.by_name[f"nodes-{node}-converge"].after


def test_password_is_secret_and_travels_on_standard_input_alone(hosts: Recorder) -> None:
    for step in STEPS:
        resource = hosts.by_name[f"nodes-b-{step}"]
        assert resource.is_secret("stdin")
        assert resource.inputs["stdin"].startswith(f"{AS_ROOT}SUDO-PASSWORD\n")
        for line in resource.inputs.keys() & {"create", "update", "delete"}:
            # The look at the machine is the login user's, and must not be given the password.
            user = "--as-user " if (step, line) == ("system", "create") else ""
            assert resource.inputs[line].startswith(f"{login.as_root(AS_ROOT)}{user}timeout "), (step, line)
    rest = {step: hosts.by_name[f"nodes-b-{step}"].inputs["stdin"].removeprefix(f"{AS_ROOT}SUDO-PASSWORD\n") for step in STEPS}
    assert rest["system"] == sent("system.sh") and rest["converge"].startswith(sent("converge.sh", "delivery"))
    assert json.loads(rest["proof"])["node"] == desired(rest["converge"])["node"] == "b"


def test_no_file_on_the_node_is_given_the_password(hosts: Recorder) -> None:
    # A file in the login user's home could be replaced before it is started.
    copied = [name for name, command in hosts.by_name.items() if "remotePath" in command.inputs and name.startswith("nodes-b-")]
    assert copied == ["nodes-b-upload"]
    for step in STEPS:
        for line in hosts.by_name[f"nodes-b-{step}"].inputs.keys() & {"create", "update", "delete"}:
            assert "dd bs=1 count=" in hosts.by_name[f"nodes-b-{step}"].inputs[line]


def test_nothing_secret_is_shown_beside_it(hosts: Recorder) -> None:
    for name, resource in hosts.by_name.items():
        public = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert not [secret for secret in SECRETS.values() if secret in repr(public)], name
        assert "environment" not in resource.inputs


def test_root_among_them_is_sent_no_password(hosts: Recorder) -> None:
    for step in STEPS:
        command = hosts.by_name[f"nodes-a-{step}"]
        assert not command.is_secret("stdin") and command.inputs["create"].startswith("timeout ")


def test_preview_stays_readable_with_a_password() -> None:
    recorder = stack(existing(), preview=True, secrets=SECRETS)
    plan = recorder.by_name["nodes-b"].inputs["plan"]
    assert plan["kernelParams"] == ["user_namespace.enable=1"]
    assert plan["repositoryAddress"] == "https://download.docker.com/linux/{id}"
    assert not recorder.by_name["nodes-b"].is_secret("plan")


def test_preview_shows_with_a_password_what_it_shows_without() -> None:
    """Lost if this fails: with a sudo password, each step's settings are secret, and the comment on a pull request that changes
    the key of Docker's repository or the sum of Kata's archive says that nothing changes."""
    settings: dict[str, Any] = {
        "docker": {"repository": {"fingerprint": "A" * 40, "suite": "noble"}},
        "kata": {"install": {"address": "https://a.example/kata-static-3.32.0-amd64.tar.zst", "sha256": "b" * 64}},
        "verification": {"timeoutSeconds": 77},
    }
    recorder = stack({**existing(), **settings}, preview=True, secrets=SECRETS)
    assert recorder.by_name["nodes-b-converge"].is_secret("stdin")
    plan = recorder.by_name["nodes-b"].inputs["plan"]
    keys = ("repositoryFingerprint", "repositorySuite", "archiveSha256", "proofSeconds")
    assert [plan[key] for key in keys] == ["A" * 40, "noble", "b" * 64, 77]


def test_preview_shows_how_a_node_is_reached_though_its_connection_is_secret() -> None:
    """Lost if this fails: the comment on a pull request that gives a node another address, or a bastion another key, says that
    nothing changes. It compares two previews, and both have `[secret]` there."""
    plan = stack(existing(), preview=True, secrets=SECRETS).by_name["nodes-b"].inputs["plan"]
    connection = stack(existing(), secrets=SECRETS).by_name["nodes-b-converge"].inputs["connection"]
    dialed = {"host": "address", "port": "port", "user": "user", "hostKey": "hostKey"}
    assert {key: plan[dialed[key]] for key in dialed} == {key: connection[key] for key in dialed}
    bastion = {"host": "bastionAddress", "port": "bastionPort", "user": "bastionUser", "hostKey": "bastionHostKey"}
    assert {key: plan[bastion[key]] for key in bastion} == {key: connection["proxy"][key] for key in bastion}


@pytest.mark.parametrize("port", [0, -1, 22.5, 70000, float("nan"), "ssh"])
def test_port_that_is_none_is_refused_before_a_machine_is_dialed(port: Any) -> None:
    host: Any = {"name": "a", "address": "192.0.2.1", "host_key": HOST_KEY, "port": port}
    with pytest.raises(pulumi.RunError, match=r"^Key hosts\.a\.port is .*Use a whole number from 1 to 65535"):
        run(lambda: ExistingNodes("pool", {"hosts": [host]}))
    connection: Any = {"address": "192.0.2.1", "host_key": HOST_KEY}
    direct: Any = {"connection": {**connection, "port": port}}
    behind: Any = {"connection": {**connection, "bastion": {**connection, "user": "jump", "port": port}}}
    with pytest.raises(pulumi.RunError, match=r"^Key connection\.port is "):
        run(lambda: KataNode("node", direct))
    with pytest.raises(pulumi.RunError, match=r"^Key bastion\.port is "):
        run(lambda: KataNode("node", behind))


def test_port_is_the_same_number_however_a_language_hands_it_over() -> None:
    host: Any = {"name": "a", "address": "192.0.2.1", "host_key": HOST_KEY}

    def dialed(port: Any) -> Any:
        args: Any = {"hosts": [{**host, "port": port}]}
        return run(lambda: ExistingNodes("pool", args)).by_name["pool-a-system"].inputs["connection"]["port"]

    assert {dialed(port) for port in (2222, 2222.0, "2222")} == {2222}
    replaced: Any = [{**host, "gone": True}, {**host, "name": "b"}]
    assert "pool-b-proof" in run(lambda: ExistingNodes("pool", {"hosts": replaced})).by_name
    doubled: Any = [{**host, "port": "22"}, {**host, "name": "b"}]
    with pytest.raises(pulumi.RunError, match=r"a and b have the same address .*\[node-doubled\]"):
        run(lambda: ExistingNodes("pool", {"hosts": doubled}))


def test_password_of_two_lines_is_refused_at_preview() -> None:
    with pytest.raises(pulumi.RunError, match=r"more than one line.*\[bad-input\]"):
        stack(existing(), preview=True, secrets={**SECRETS, "sudoPassword": "one\ntwo"})


def test_password_in_plain_is_warned_of_where_it_is_the_stacks_own(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_, **__: warnings.append(text))
    plain = {**existing(), "sudoPassword": "SUDO-PASSWORD"}
    stack(plain, preview=True, secrets={"sshPrivateKey": "NODE-KEY"})
    assert not warnings, "made-up values of a pull request's preview are plain"
    stack(plain, secrets={"sshPrivateKey": "NODE-KEY"})
    assert len(warnings) == 1 and warnings[0].startswith("kata-nodes:sudoPassword is set in plain") and "SUDO" not in warnings[0]


def test_line_end_of_a_file_is_not_part_of_the_password() -> None:
    recorder = stack(existing(), secrets={**SECRETS, "sudoPassword": "SUDO-PASSWORD\n"})
    assert recorder.by_name["nodes-b-proof"].inputs["stdin"].startswith(f"{AS_ROOT}SUDO-PASSWORD\n{{")


def test_every_machine_of_another_identity_gets_the_program_again() -> None:
    moved = existing(hostKey=BASTION_KEY)
    before, after = (stack(settings, secrets=SECRETS).by_name for settings in (existing(), moved))
    for step in ("upload", "converge", "proof"):
        assert before[f"nodes-b-{step}"].inputs["triggers"] != after[f"nodes-b-{step}"].inputs["triggers"]
    assert before["nodes-a-proof"].inputs == after["nodes-a-proof"].inputs
    looked, again = (resources["nodes-b-system"].inputs for resources in (before, after))
    assert looked["create"] != again["create"] and "triggers" not in again, "an update: the machine before can't be undone now"


def test_another_login_user_gets_a_copy_of_the_program_in_a_home_of_its_own() -> None:
    """Lost if this fails: after a user who may not become root, the right one finds no upload."""
    before, after = (stack(existing(user=user), secrets={"sshPrivateKey": "KEY"}).by_name for user in ("admin", "root"))
    assert before["nodes-b-upload"].inputs["triggers"] != after["nodes-b-upload"].inputs["triggers"]
    assert before["nodes-b-converge"].inputs["triggers"] == after["nodes-b-converge"].inputs["triggers"]


def test_secret_that_no_login_uses_is_refused_before_anything_is_made() -> None:
    with pytest.raises(pulumi.RunError, match=r"kata-nodes:sudoPassword is set, but .*\[login-useless\]"):
        stack(LOCAL, preview=True, secrets={"sudoPassword": "SUDO-PASSWORD"})


@pytest.fixture(scope="module")
def gone() -> Recorder:
    """The same, where `b` no longer exists."""
    return stack(existing(gone=True), secrets=SECRETS)


def test_preview_says_of_a_machine_that_it_is_gone(gone: Recorder) -> None:
    assert [gone.by_name[name].inputs["plan"].get("gone") for name in ("nodes-a", "nodes-b")] == [None, True]


def test_machine_that_is_gone_is_neither_changed_nor_undone(gone: Recorder) -> None:
    for step in COMMANDS:
        request = gone.by_name[f"nodes-b-{step}"].request
        assert request.retainOnDelete and list(request.ignoreChanges) == ["*"]
    for step in COMMANDS:
        request = gone.by_name[f"nodes-a-{step}"].request
        assert not request.retainOnDelete and not request.ignoreChanges


def test_machine_that_is_gone_vouches_for_nothing(gone: Recorder, hosts: Recorder) -> None:
    assert [node["name"] for node in hosts.outputs["nodes"]] == ["a", "b"]
    assert [node["name"] for node in gone.outputs["nodes"]] == ["a"]


@pytest.fixture(scope="module")
def three() -> Recorder:
    """Three local nodes after an `up`."""
    return stack({**LOCAL, "nodes": {"local": {"count": 3}}})


def test_machines_have_a_folder_each_and_stand_in_the_pool(three: Recorder) -> None:
    folders = set()
    for number in range(3):
        machine = three.by_name[f"local-{number}-machine"]
        spec = json.loads(machine.inputs["stdin"])
        folders.add(spec["directory"])
        assert Path(spec["directory"]).name == spec["name"] == f"local-{number}"
        assert "stdin" in machine.request.replaceOnChanges and "environment" not in machine.request.replaceOnChanges
        assert machine.request.deleteBeforeReplace
    assert len(folders) == 3


def test_node_goes_with_its_own_machine_and_waits_for_no_other(three: Recorder) -> None:
    for number in range(3):
        for step in COMMANDS:
            request = three.by_name[f"local-{number}-{step}"]
            assert request.request.deletedWith.endswith(f"::local-{number}-machine")
            assert not [name for name in request.after if name.startswith("local-") and f"local-{number}" not in name]


def test_machine_that_runs_is_told_its_own_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_machine, "boot", lambda directory: Boot(True, True, f"start of {directory.name}"))
    recorder = stack({**LOCAL, "nodes": {"local": {"count": 2}}})
    assert [recorder.by_name[f"local-{n}-machine"].inputs["environment"] for n in range(2)] == [
        {"KATA_NODES_BOOT": "start of local-0"},
        {"KATA_NODES_BOOT": "start of local-1"},
    ]


def test_previews_of_a_machine_that_is_not_there_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a review of two previews would show a change of every local node."""
    monkeypatch.setattr(local_machine, "boot", lambda directory: Boot(False, False, "another each time"))
    previewed = stack(LOCAL, preview=True).by_name["local-0-machine"].inputs
    assert "another each time" not in repr(previewed)
    assert stack(LOCAL).by_name["local-0-machine"].inputs["environment"] == {"KATA_NODES_BOOT": "another each time"}


@pytest.mark.parametrize(("state", "warned"), [((True, False), True), ((True, True), False), ((False, False), False)])
def test_only_a_machine_that_died_is_named(monkeypatch: pytest.MonkeyPatch, state: tuple[bool, bool], warned: bool) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(local_machine, "boot", lambda directory: Boot(*state, "x"))
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    stack(LOCAL, preview=True)
    assert bool([text for text in warnings if "node local-0 no longer runs" in text]) is warned


@pytest.mark.parametrize("preview", [True, False])
def test_machine_that_hangs_is_named_by_up_and_started_again(monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(local_machine, "boot", lambda directory: Boot(True, True, f"start of {directory.name}"))
    monkeypatch.setattr(local_machine, "hung", lambda folder: folder.name == "local-1")
    monkeypatch.setattr(local_machine, "kernel_trouble", lambda folder: f"soft lockup of {folder.name}")
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    recorder = stack({**LOCAL, "nodes": {"local": {"count": 2}}}, preview=preview)
    starts = [recorder.by_name[f"local-{n}-machine"].inputs["environment"]["KATA_NODES_BOOT"] for n in range(2)]
    assert starts[0] == "start of local-0" and (starts[1] == "start of local-1") is preview
    hung = [text for text in warnings if "has not answered" in text]
    assert [("node local-1" in text, "soft lockup of local-1" in text) for text in hung] == [(True, True)] * (not preview)


def test_start_is_part_of_what_the_proof_vouches_for(three: Recorder) -> None:
    for step in ("upload", "converge", "proof"):
        assert "ssh-ed25519 AAAA first" in three.by_name[f"local-0-{step}"].inputs["triggers"]


def test_local_nodes_say_what_pulumi_install_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cryptography==" not in (CHECKOUT / "requirements.txt").read_text()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cryptography" else find(name))
    with pytest.raises(pulumi.RunError, match=r"packages that `pulumi install` leaves out.* Run: make up STACK=test"):
        stack(LOCAL, preview=True)


def test_name_that_is_given_twice_is_refused_although_an_address_is_not_known_yet() -> None:
    def program() -> None:
        unknown = pulumi.Output.from_input("192.0.2.1")
        hosts: list[ExistingHost] = [
            {"name": "a", "address": address, "host_key": HOST_KEY} for address in (unknown, "192.0.2.2")
        ]
        ExistingNodes("p", {"hosts": hosts})

    with pytest.raises(pulumi.RunError, match=r"The name a is given to two nodes.*\[node-doubled\]"):
        run(program)


SERVERS = {"cluster-server": local_cluster, "site-server": local_site}
"""Resources that end with the machine that runs Pulumi, and the modules of their components."""


@pytest.mark.parametrize(("server", "component"), SERVERS.items())
@pytest.mark.parametrize(("state", "warned"), [((True, False), True), ((True, True), False), ((False, False), False)])
def test_server_that_ended_is_named_and_started_again(
    monkeypatch: pytest.MonkeyPatch, server: str, component: ModuleType, state: tuple[bool, bool], warned: bool
) -> None:
    """A reboot ends it, and `up` would see nothing to do, or fail at what it should serve."""
    warnings: list[str] = []
    monkeypatch.setattr(
        component, f"{server.removesuffix('-server')}_boot", lambda directory: Boot(*state, f"start of {directory.name}")
    )
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    resource = stack(LOCAL).by_name[server]
    assert resource.inputs["environment"] == {"KATA_NODES_BOOT": f"start of {server.removesuffix('-server')}"}
    assert "environment" not in resource.request.replaceOnChanges
    name = {"cluster-server": "The API server", "site-server": "The package site"}[server]
    assert bool([text for text in warnings if text.startswith(f"{name} (") and "no longer runs" in text]) is warned


@pytest.mark.parametrize(("server", "component"), SERVERS.items())
def test_previews_of_a_server_that_is_not_there_do_not_differ(
    monkeypatch: pytest.MonkeyPatch, server: str, component: ModuleType
) -> None:
    monkeypatch.setattr(
        component, f"{server.removesuffix('-server')}_boot", lambda directory: Boot(False, False, "another each time")
    )
    assert "another each time" not in repr(stack(LOCAL, preview=True).by_name[server].inputs)
