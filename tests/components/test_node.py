"""What a node gets, from the fewest arguments and from all of them, and how its answers are read."""

import json
import re
from typing import Any

import pulumi
import pytest

from components import KataNode, KataNodeArgs
from components.nodes.kata_node import PROGRAM_SECONDS
from components.nodes.node_children import result_of
from components.nodes.settings import Archive
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker import apt_source
from tests.components.recorder import STDOUT, Recorded, Recorder, RecordingMonitor, desired, inputs_of, run, states
from tests.components.test_wiring import HOST_KEY

SMALLEST: KataNodeArgs = {"connection": {"address": "192.0.2.1", "host_key": HOST_KEY}}


def nodes(args: Any) -> dict[str, Recorded]:
    """The resources of a node `n`."""
    return run(lambda: KataNode("n", args)).by_name


def different_triggers(before: dict[str, Recorded], after: dict[str, Recorded]) -> set[str]:
    """Names of the resources whose triggers differ. Each is replaced for it, and those but the copy after it was deleted."""
    names = {name for name, resource in before.items() if after[name].inputs.get("triggers") != resource.inputs.get("triggers")}
    for name in names:
        request = after[name].request
        assert list(request.replaceOnChanges) == ["triggers[*]"]
        assert request.deleteBeforeReplace == (name != "n-upload"), name
    return names


def replaced(before: Any, after: Any) -> set[str]:
    """Names of the resources that other arguments of a node replace."""
    return different_triggers(nodes(before), nodes(after))


def documents(args: KataNodeArgs) -> dict[str, dict[str, Any]]:
    """By step: the desired state of a node `n`."""
    return states(run(lambda: KataNode("n", args)).by_name, "n")


@pytest.mark.parametrize("later", [False, True])
def test_machine_without_an_address_is_refused_once_it_is_made(later: bool) -> None:
    """As one of AWS without a public address, whose publicIp is empty: the plugin would dial the machine that runs Pulumi."""

    def node(**args: Any) -> Any:
        def program() -> None:
            connection: Any = {"address": pulumi.Output.from_input("") if later else "", "host_key": HOST_KEY}
            KataNode("n", {"connection": connection, **args})  # type: ignore[typeddict-item]

        return program

    run(node(), preview=True)  # it may not have one yet
    run(node(gone=True))
    with pytest.raises(pulumi.RunError, match=r"^The connection to the node has no address\. .*\[host-address-invalid\]$"):
        run(node())


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ({"name": "Kata QEMU"}, r"^Key handler\.name is 'Kata QEMU', not the name of a handler"),
        ({"name": "kata", "allowed_annotations": ["a b"]}, r"^Key handler\.podAnnotations holds 'a b'"),
        ({"name": "kata", "container_runtime": "dockershim"}, r"^Key handler\.runtime is 'dockershim'\. Use one of .*containerd"),
    ],
)
def test_handler_that_no_node_could_register_is_refused_in_a_preview(handler: Any, words: str) -> None:
    with pytest.raises(pulumi.RunError, match=words):
        run(lambda: KataNode("n", {**SMALLEST, "kata": {"handler": handler}}), preview=True)


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ({"address": "https://me:pw@mirror.example.org/docker"}, r"^Repository address .*without user name.*\[bad-input\]$"),
        ({"address": "https://mirror.example.org/{os}"}, r"^Repository address .*\[bad-input\]$"),
        ({"suite": "trixie stable"}, r"^Repository suite .*\[bad-input\]$"),
    ],
)
def test_repository_that_every_node_would_refuse_is_refused_in_a_preview(repository: Any, words: str) -> None:
    with pytest.raises(pulumi.RunError, match=words) as caught:
        run(lambda: KataNode("n", {**SMALLEST, "docker": {"repository": repository}}), preview=True)
    assert "pw" not in str(caught.value)


def test_address_and_host_key_are_all_that_a_node_needs() -> None:
    steps = documents(SMALLEST)
    assert steps["docker"]["version"] == "27.5.1"
    assert steps["docker"]["repository"]["fingerprint"] == apt_source.DOCKER_FINGERPRINT
    assert set(steps["kata"]["install"]) == {"x86_64", "aarch64"} and steps["kata"]["version"] == "3.32.0"
    assert steps["kata"]["configPath"].endswith("/configuration-qemu.toml")
    assert steps["kata"]["kernelParams"] == steps["proof"]["expect"] == ["user_namespace.enable=1"]
    assert (steps["proof"]["sandbox"], steps["proof"]["timeoutSeconds"]) == ("sandbox-runtime", 300)
    commands = run(lambda: KataNode("n", SMALLEST)).by_name
    assert commands["n-converge"].inputs["triggers"][0] == commands["n-proof"].inputs["triggers"][0] == HOST_KEY
    assert commands["n-proof"].inputs["connection"]["user"] == "root"


@pytest.mark.parametrize("changed", [{"kata": {"kernel_params": ["quiet"]}}, {"verification": {"timeout_seconds": 400}}], ids=str)
def test_what_is_done_with_other_settings_is_done_by_an_update(changed: dict[str, Any]) -> None:
    assert replaced(SMALLEST, {**SMALLEST, **changed}) == set()
    before, after = nodes(SMALLEST), nodes({**SMALLEST, **changed})
    assert before["n-proof"].inputs["stdin"] != after["n-proof"].inputs["stdin"]


def test_each_run_that_took_a_step_is_followed_by_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost if this fails: a proof failed, the settings from before come back, and the `up` passes with the proof from before."""
    before = nodes(SMALLEST)
    monkeypatch.setitem(STDOUT, "converge", {**STDOUT["converge"], "run": "fedcba9876543210"})
    after = nodes(SMALLEST)
    assert {name for name in before if before[name].inputs.get("create") != after[name].inputs.get("create")} == {"n-proof"}
    assert after["n-proof"].inputs["create"].endswith("prove' # run fedcba9876543210")


@pytest.mark.parametrize("run_name", ["", "x", "0' ; reboot '", "0\n1", 7, None, "0" * 33])
def test_the_name_of_a_run_is_a_part_of_a_command_line_and_checked_before(run_name: Any) -> None:
    with pytest.raises(NodeError, match="its key run is"):
        result_of(json.dumps({"verb": "converge", "dockerVersion": "27.5.1", "run": run_name}), "converge", "n")


@pytest.mark.parametrize(
    ("changed", "made_again"),
    [
        ({"docker": {"version": "28.5.2"}}, {"n-converge"}),
        ({"docker": {"repository": {"address": "https://mirror.example.org/docker"}}}, {"n-converge"}),
        ({"kata": {"version": "3.31.0"}}, {"n-converge"}),  # Docker is asked for what this Kata works with
        ({"kata": {"handler": {"name": "kata-qemu"}}}, set()),
        ({"connection": {**SMALLEST["connection"], "identity": "other"}}, {"n-upload", "n-converge", "n-proof"}),
    ],
    ids=["docker", "repository", "kata", "handler", "machine"],
)
def test_what_is_brought_to_a_node_is_made_again_with_another_docker_or_machine_alone(
    changed: dict[str, Any], made_again: set[str]
) -> None:
    """Lost if this fails: a state that keeps the Docker from before, where a Kata after another one has failed; or a first run
    on another machine that the stack takes for one where all was done."""
    assert replaced(SMALLEST, {**SMALLEST, **changed}) == made_again


def test_what_is_brought_to_a_node_is_updated_by_its_own_command_line() -> None:
    """A command that is created takes every step, and one that is updated those that have changed: `again` tells bootstrap.sh."""
    before, after = (nodes({**SMALLEST, "kata": {"kernel_params": parameters}})["n-converge"] for parameters in ([], ["quiet"]))
    assert before.inputs["stdin"] != after.inputs["stdin"] and before.inputs["triggers"] == after.inputs["triggers"]
    assert " again # machine " in after.inputs["update"] and " again" not in after.inputs["create"]


def test_only_what_is_made_first_on_a_node_undoes_it_and_another_machine_does_not_replace_it() -> None:
    """Lost if this fails: another Docker, whose replacement deletes first, would take Kata and Docker away from the node before,
    or another machine behind the address be undone as the one before."""
    commands = nodes(SMALLEST)
    assert [name for name, command in commands.items() if "delete" in command.inputs] == ["n-system"]
    system = commands["n-system"]
    assert "triggers" not in system.inputs and "--remove kata-nodes/test n" in system.inputs["delete"]
    assert system.request.deleteBeforeReplace, "it would undo what another one has made"


def test_a_node_that_was_undone_gets_the_program_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pulumi up --replace` of its -system, as after a person has it removed: nothing else would show that there is no node."""
    before, plain = nodes(SMALLEST), Recorder.new_resource

    def renewed(resource: str) -> dict[str, Recorded]:
        def another(self: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
            identifier, outputs = plain(self, args)
            return (f"another-{identifier}" if args.name == resource else identifier), outputs

        with monkeypatch.context() as patch:
            patch.setattr(Recorder, "new_resource", another)
            return nodes(SMALLEST)

    assert different_triggers(before, renewed("n-system")) == {"n-upload"}
    sent_again = renewed("n-upload")
    assert different_triggers(before, sent_again) == set()
    assert before["n-converge"].inputs["update"] != sent_again["n-converge"].inputs["update"], "it puts the program in place"


def test_what_of_a_protected_node_undoes_nothing_can_be_replaced() -> None:
    commands = run(lambda: KataNode("n", SMALLEST, pulumi.ResourceOptions(protect=True))).by_name
    protected = {name for name, command in commands.items() if command.request.protect}
    assert protected == {"n", "n-system"}
    assert {*commands} - protected == {"n-upload", "n-converge", "n-proof", "kata-nodes-test"}


def test_every_verb_reads_what_its_component_writes() -> None:
    kinds = {
        "preflight": node_state.PreflightState, "docker": node_state.DockerState, "kata": node_state.KataState,
        "proof": node_state.ProveState,
    }  # fmt: skip
    commands = nodes(SMALLEST)
    for step, state in states(commands, "n").items():
        assert kinds[step].read(state).document() == state
    converge = desired(commands["n-converge"].inputs["stdin"])
    assert node_state.ConvergeState.read(converge).document() == converge


def test_all_steps_end_within_the_bound_of_the_command_that_takes_them() -> None:
    commands = nodes(SMALLEST)
    state = node_state.ConvergeState.read(desired(commands["n-converge"].inputs["stdin"]))
    steps = state.preflight_seconds + state.docker_seconds + state.kata_seconds
    line = commands["n-converge"].inputs["create"]
    # Of the whole script, and of the program, which the script bounds.
    bounds = re.search(r"^timeout (\d+) .* [0-9a-f]{64} (\d+) \.kata-nodes-", line)
    assert bounds and steps < int(bounds[2]) < int(bounds[1]) - PROGRAM_SECONDS


def test_kata_that_is_there_already_is_left_there() -> None:
    steps = documents({**SMALLEST, "kata": {"install_release": False}})
    assert steps["kata"]["install"] is None and steps["kata"]["configPath"] is None


def test_two_ways_to_install_are_refused() -> None:
    archive: Archive = {"address": "https://mirror.example/kata.tar.zst", "sha256": "a" * 64}
    assert documents({**SMALLEST, "kata": {"archive": archive}})["kata"]["install"] == {"any": archive}
    with pytest.raises(pulumi.RunError, match="beside the official release"):
        run(lambda: KataNode("n", {**SMALLEST, "kata": {"archive": archive, "install_release": True}}))


@pytest.mark.parametrize(
    "seconds",
    [
        0,
        float("inf"),
        float("nan"),
        60.5,
        "soon",
        "٦٠",
        True,
        node_state.LEAST_TIMEOUT_SECONDS - 1,
        node_state.MOST_TIMEOUT_SECONDS + 1,
    ],
)
def test_a_proof_that_could_not_end_or_would_last_for_hours_is_refused(seconds: Any) -> None:
    with pytest.raises(pulumi.RunError, match=f"timeoutSeconds is {seconds!r}"):
        run(lambda: KataNode("n", {**SMALLEST, "verification": {"timeout_seconds": seconds}}))


def test_what_is_on_a_machine_goes_with_it() -> None:
    def program() -> None:
        machine = pulumi.ComponentResource("test:index:Machine", "machine")
        KataNode("n", SMALLEST, pulumi.ResourceOptions(deleted_with=machine))

    resources = run(program).by_name
    children = [resource for name, resource in resources.items() if name.startswith("n-")]
    assert len(children) == 4 and all(child.request.deletedWith.endswith("::machine") for child in children)


@pytest.mark.parametrize(
    "text", ["", "done", "[]", '{"verb": "docker", "version": "1", "dockerVersion": "1"}', '{"dockerVersion": "1"}']
)
def test_what_a_resource_recorded_is_no_result_unless_it_is_the_verb_s_own(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        result_of(text, "converge", "n-converge")
    assert caught.value.code == "result-missing" and "n-converge" in caught.value.remedy


def test_who_is_told_to_replace_what_undoes_the_node_is_told_what_else_helps_and_what_it_does() -> None:
    """As after `pulumi up --target` of another resource, in a stack of an earlier version, whose -system printed no verb."""
    with pytest.raises(NodeError) as caught:
        result_of('{"id": "debian", "versionId": "12"}', "system", "n-system")
    assert caught.value.remedy.startswith("Run pulumi up without --target; ") and "undoes the node" in caught.value.remedy


PROVEN = STDOUT["proof"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[" * 3000 + "]" * 3000, "it is"),
        ("[" * 100_000, "it is nested too deeply"),
        (json.dumps({**PROVEN, "note": json.loads("[" * 60 + "]" * 60)}), "it is nested too deeply"),
        (json.dumps(PROVEN).replace("7563", "1e999"), "not JSON compliant"),
        (json.dumps(PROVEN).replace("7563", "NaN"), "not JSON compliant"),
        (json.dumps({**PROVEN, "attempts": 10**400}), "a number that is too large"),
        (json.dumps({**PROVEN, "note": "\ud800"}), "text that is not Unicode"),
        (json.dumps({key: value for key, value in PROVEN.items() if key != "userNamespaces"}), "userNamespaces is missing"),
        *((json.dumps({**PROVEN, key: value}), f"its key {key} is ") for key, value in (
            ("userNamespaces", -1), ("userNamespaces", 1 << 31), ("userNamespaces", 7.5), ("userNamespaces", True),
            ("userNamespaces", "7"), ("passed", False), ("passed", 1), ("passed", None), ("guestKernel", {}), ("proven", "pod"),
            ("proven", []), ("rungs", 7), ("rungs", [7]), ("rungs", [{"name": "unshare", "passed": "yes", "counts": True}]),
        )),
    ],
)  # fmt: skip
def test_a_node_s_result_is_checked_before_anything_is_taken_from_it(text: str, cause: str) -> None:
    with pytest.raises(NodeError) as caught:
        result_of(text, "prove", "n-proof")
    assert caught.value.code == "result-missing" and cause in caught.value.message and len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rungs": []}, "has no rung"),
        ({"rungs": [*PROVEN["rungs"], {"name": "srt-call", "passed": False, "counts": True}]}, "the rung srt-call, which counts"),
        ({"sandbox": "bubblewrap", "userNamespaces": 0}, "no user namespace"),
    ],
)
def test_a_result_that_contradicts_its_pass_is_none(values: dict[str, Any], words: str) -> None:
    """Such as of a node program that somebody changed: the stack was proven, and its checklist had rows that failed."""
    with pytest.raises(NodeError, match=rf"it says that the proof passed, and .*{words}"):
        result_of(json.dumps({**PROVEN, **values}), "prove", "n-proof")
    beside = [{"name": "srt-call", "passed": False, "counts": False}]
    harmless = {"sandbox": None, "userNamespaces": 0, "rungs": [*PROVEN["rungs"], *beside]}
    assert result_of(json.dumps({**PROVEN, **harmless}), "prove", "n-proof")["passed"] is True


@pytest.mark.parametrize("later", [False, True])
def test_a_node_speaks_under_no_other_name_than_the_stack_s(later: bool) -> None:
    """What it printed is `local-0`: in the checklist it would have spoken for that one."""

    def program() -> None:
        name: Any = pulumi.Output.from_input("rack-7") if later else "rack-7"
        pulumi.export("evidence", KataNode("n", {**SMALLEST, "node": name}).evidence)

    assert run(program).outputs["evidence"]["node"] == "rack-7"


def test_what_a_stack_takes_from_the_verbs_before_the_proof_is_checked_too() -> None:
    for verb, key in (("converge", "dockerVersion"), ("system", "machineId")):
        assert result_of(json.dumps({"verb": verb, "machineId": "", key: "x", "run": "0"}), verb, "n")[key] == "x"
        for document in ({"verb": verb}, {"verb": verb, key: 7}):
            with pytest.raises(NodeError, match=f"its key {key} is"):
                result_of(json.dumps(document), verb, "n")


@pytest.mark.parametrize("before", ["", "Welcome to rack 7!\n", "{}\n\n", "Welcome!\r\n", "Logo\n\x1b[?25h", "\x1b]0;a@n1\x07"])
def test_the_verb_s_own_result_is_taken_whatever_the_login_shell_printed_first(before: str) -> None:
    text = before + '{"verb": "converge", "dockerVersion": "27.5.1", "run": "0", "machineId": ""}'
    assert result_of(text, "converge", "n-converge")["dockerVersion"] == "27.5.1"


@pytest.mark.parametrize("parameters", [["a b"], ['a="'], ["x=1", "x=2"], ["a=" + "b" * 2000]])
def test_parameter_that_no_guest_could_be_given_is_refused_before_docker_is_changed(parameters: list[str]) -> None:
    with pytest.raises(pulumi.RunError, match=r"\[(bad-kernel-parameter|kernel-parameters-too-long)\]"):
        run(lambda: KataNode("n", {**SMALLEST, "kata": {"kernel_params": parameters}}))


def test_firecracker_is_refused_with_a_nested_sandbox_only() -> None:
    with pytest.raises(pulumi.RunError, match=r"\[hypervisor-cannot-nest\]"):
        run(lambda: KataNode("n", {**SMALLEST, "kata": {"hypervisor": "firecracker"}}))
    alone = run(lambda: KataNode("n", {**SMALLEST, "kata": {"hypervisor": "firecracker", "nested_sandbox": False}})).by_name
    assert json.loads(alone["n-proof"].inputs["stdin"])["sandbox"] is None


def test_setting_without_a_value_keeps_its_default() -> None:
    unset: Any = {
        "connection": {**SMALLEST["connection"], **dict.fromkeys(("user", "port", "private_key", "sudo_password", "identity"))},
        "docker": dict.fromkeys(("version", "repository")),
        "kata": dict.fromkeys(("version", "runtime", "hypervisor", "kernel_params", "archive", "config_path", "handler")),
        "verification": dict.fromkeys(("image", "timeout_seconds")),
    }
    commands = run(lambda: KataNode("n", unset)).by_name
    for name, same in run(lambda: KataNode("n", SMALLEST)).by_name.items():
        if name.startswith("n-"):
            assert {**commands[name].inputs, "source": ""} == {**same.inputs, "source": ""}, name


def test_nothing_is_run_on_a_machine_that_is_gone_however_far_it_came() -> None:
    def program() -> None:
        node = KataNode("n", {**SMALLEST, "gone": True})
        pulumi.export("summary", node.summary)

    ended = run(program)
    for child in ("system", "converge", "proof"):
        inputs = ended.by_name[f"n-{child}"].inputs
        assert not {"create", "update"} & set(inputs) and inputs["connection"]["dialErrorLimit"] == 0, child
    assert {"delete"} <= set(ended.by_name["n-system"].inputs)
    assert ended.outputs["summary"]["dockerVersion"] == ""


def test_machine_that_is_gone_does_not_hold_up_the_upgrade_from_a_version_that_printed_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It keeps what it had, and can print nothing else any more."""
    plain = Recorder.new_resource

    def kept(self: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        before = {"n-converge": {"verb": "converge", "dockerVersion": "27.5.1"}, "n-proof": STDOUT["proof"]}
        known, outputs = plain(self, args)
        return known, outputs | ({"stdout": json.dumps(before[args.name])} if args.name in before else {})

    def program(**args: Any) -> Any:
        return lambda: pulumi.export("summary", KataNode("n", {**SMALLEST, **args}).summary)  # type: ignore[typeddict-item]

    monkeypatch.setattr(Recorder, "new_resource", kept)
    summary = run(program(gone=True)).outputs["summary"]
    assert (summary["machineId"], summary["dockerVersion"], summary["guestKernel"]) == ("", "", "6.12.0")
    with pytest.raises(pulumi.RunError, match=r"\[result-missing\]"):
        run(program())


def test_machine_id_is_that_of_the_last_run_and_not_of_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a host that was installed again, with its former key, and that `kata-nodes cure` has set up."""
    plain = Recorder.new_resource

    def installed_again(self: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        known, outputs = plain(self, args)
        stdout = outputs.get("stdout", "")
        return known, outputs | ({"stdout": stdout.replace("id-of-n", "new-id")} if args.name == "n-converge" else {})

    def program() -> None:
        node = KataNode("n", SMALLEST)
        pulumi.export("ids", [node.machine_id, node.summary["machineId"]])

    monkeypatch.setattr(Recorder, "new_resource", installed_again)
    assert run(program).outputs["ids"] == ["new-id", "new-id"]


def test_node_that_a_run_leaves_out_is_not_known_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pulumi up --target` of another node: Pulumi 3.255 and older answers without outputs for what it does not make."""
    plain = Recorder.new_resource

    def left_out(self: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return (None, dict(args.inputs)) if args.name.startswith("n-") else plain(self, args)

    monkeypatch.setattr(Recorder, "new_resource", left_out)

    known: dict[str, list[bool]] = {}

    async def program() -> None:
        nodes = {name: KataNode(name, SMALLEST) for name in ("n", "m")}
        for name, node in nodes.items():
            values = (node.summary, node.evidence, node.machine_id, node.docker_version, node.user_namespaces)
            known[name] = [await value.is_known() for value in values]

    run(program)
    assert known == {"n": [False] * 5, "m": [True] * 5}


@pytest.mark.parametrize("at", ["node", "bastion"])
def test_key_that_no_login_could_use_is_refused_before_anybody_is_contacted(at: str) -> None:
    def program() -> None:
        public = pulumi.Output.secret("ssh-ed25519 AAAA me@home")
        hop = {"address": "192.0.2.9", "user": "jump", "host_key": HOST_KEY, "private_key": public}
        overrides: Any = {"private_key": public} if at == "node" else {"bastion": hop}
        KataNode("n", {**SMALLEST, "connection": {**SMALLEST["connection"], **overrides}})

    with pytest.raises(pulumi.RunError, match=rf"login to the {at} is a public key.*\[login-key-unusable\]"):
        run(program)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("at", ["node", "bastion"])
def test_private_key_in_the_place_of_a_host_key_comes_into_no_preview_and_no_state(
    at: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nMHcCAQEE\n-----END OPENSSH PRIVATE KEY-----\n"
    sent: list[str] = []
    register = RecordingMonitor.RegisterResource

    def recorded(monitor: RecordingMonitor, request: Any) -> Any:
        sent.append(str(request))
        return register(monitor, request)

    monkeypatch.setattr(RecordingMonitor, "RegisterResource", recorded)

    def program() -> None:
        host_key = pulumi.Output.from_input(key) if later else key
        hop = {"address": "192.0.2.9", "user": "jump", "host_key": host_key}
        overrides: Any = {"host_key": host_key} if at == "node" else {"bastion": hop}
        KataNode("n", {**SMALLEST, "connection": {**SMALLEST["connection"], **overrides}})

    with pytest.raises(pulumi.RunError, match=r"is a private key.*\[host-key-invalid\]"):
        run(program)
    assert "MHcCAQEE" not in "".join(sent)


def test_address_with_a_port_is_refused_before_it_is_dialed() -> None:
    connection: Any = {**SMALLEST["connection"], "address": "192.0.2.1:22"}
    with pytest.raises(pulumi.RunError, match=r"192\.0\.2\.1:22.* of the node .*\[host-address-invalid\]"):
        run(lambda: KataNode("n", {**SMALLEST, "connection": connection}))


@pytest.mark.parametrize("password", ["", None])
def test_sudo_password_that_turns_out_to_be_none_is_refused_in_a_line(password: Any) -> None:
    def program() -> None:
        connection: Any = {**SMALLEST["connection"], "user": "admin", "sudo_password": pulumi.Output.from_input(password)}
        KataNode("n", {"connection": connection})

    with pytest.raises(pulumi.RunError, match=r"sudoPassword is empty or has more than one line"):
        run(program)


OPTIONAL: dict[str, tuple[str, ...]] = {
    "": ("node",),
    "connection": ("port", "user", "identity"),
    "docker": ("version",),
    "kata": ("version", "runtime", "hypervisor", "nested_sandbox", "sandbox", "kernel_params", "install_release", "config_path"),
    "verification": ("image", "timeout_seconds"),
}


def inputs(args: Any, later: bool = False) -> dict[str, Any]:
    """Of the resources of a node; each None of `args` is one that an output holds, if `later`."""

    def held(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: held(below) for key, below in value.items()}
        return pulumi.Output.from_input(None) if value is None and later else value

    return inputs_of(lambda: KataNode("n", held(args)))


@pytest.mark.parametrize("later", [False, True])
def test_text_that_is_empty_is_a_setting_that_was_left_out(later: bool) -> None:
    """Lost if this fails: a machine that was installed again gets the program, and a preview shows the version that comes."""

    def program() -> None:
        empty = pulumi.Output.from_input("") if later else ""
        args: Any = {
            "node": empty,
            "connection": {**SMALLEST["connection"], "user": empty, "identity": empty},
            "docker": {"version": empty, "repository": {"address": empty, "fingerprint": empty, "suite": empty}},
            "kata": {"version": empty, "runtime": empty, "hypervisor": empty, "config_path": empty},
            "verification": {"image": empty},
        }
        KataNode("n", args)

    assert inputs_of(program) == inputs(SMALLEST)


@pytest.mark.parametrize("later", [False, True])
def test_a_setting_of_nothing_is_one_that_was_left_out(later: bool) -> None:
    args: dict[str, Any] = {**SMALLEST}
    for record, keys in OPTIONAL.items():
        nothing = dict.fromkeys(keys)
        args |= {record: {**args.get(record, {}), **nothing}} if record else nothing
    assert inputs(args, later) == inputs(SMALLEST)


@pytest.mark.parametrize("record", ["docker", "kata", "verification"])
def test_a_record_of_nothing_is_one_that_was_left_out(record: str) -> None:
    assert inputs({**SMALLEST, record: None}) == inputs(SMALLEST)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"kata": {"hypervisor": "QEMU", "install_release": False}}, r"^Hypervisor 'QEMU' is not known\. Use one of qemu, fire"),
        ({"kata": {"hypervisor": "clh"}}, "^Hypervisor 'clh' is not known"),
        ({"kata": {"config_path": "etc/kata.toml"}}, "^Key configPath is 'etc/kata.toml'"),
        ({"kata": {"config_path": "/etc/my kata.toml", "install_release": False}}, "^Key configPath is '/etc/my kata.toml'"),
        ({"docker": {"repository": {"fingerprint": "0EBF CD88"}}}, "^Key fingerprint '0EBF CD88' is not 40 hexadecimal digits"),
        ({"verification": {"image": "debian:13\n"}}, r"^Key verification\.image is 'debian:13\\n', which is not the na"),
        ({"connection": {"address": "root@192.0.2.1", "host_key": HOST_KEY}}, "^The address 'root@192.0.2.1' of the node is not"),
        ({"connection": {"address": "192.0.2.1\n", "host_key": HOST_KEY}}, "of the node is not a host name or an IP address"),
    ],
)  # fmt: skip
def test_what_the_stack_file_would_refuse_is_refused_in_other_programs_too(args: Any, words: str) -> None:
    """Each of these was found on the node, the last two after minutes of dialing."""
    with pytest.raises(pulumi.RunError, match=words):
        run(lambda: KataNode("n", {**SMALLEST, **args}), preview=True)


@pytest.mark.parametrize(
    "fingerprint", [apt_source.DOCKER_FINGERPRINT.lower(), "9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88"]
)
def test_fingerprint_is_taken_as_people_publish_it(fingerprint: str) -> None:
    documents({**SMALLEST, "docker": {"repository": {"fingerprint": fingerprint}}})


def test_names_that_look_alike_on_a_machine_are_two() -> None:
    """Where a program renames `my node` to `my-node`, the first is removed last, and would undo what the second has made."""

    def record_of(name: str) -> str:
        delete = run(lambda: KataNode(name, SMALLEST)).by_name[f"{name}-system"].inputs["delete"]
        owner = str(delete).rpartition("--remove ")[2]
        assert re.fullmatch(r"kata-nodes/test [A-Za-z0-9._-]+", owner), owner
        return owner

    names = ("my-node", "my node", "my/node", "nöde", "näde", "n$(id)", "n; id")
    assert len({record_of(name) for name in names}) == len(names)
    assert record_of("my-node") == "kata-nodes/test my-node"
