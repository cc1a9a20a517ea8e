"""What a node gets, from the fewest arguments and from all of them, and how its answers are read."""

import json
import re
from typing import Any

import pulumi
import pytest

from components import KataNode, KataNodeArgs
from components.nodes.kata_node import result_of
from components.nodes.settings import Archive
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker import apt_source
from tests.components.recorder import STDOUT, Recorder, inputs_of, run
from tests.components.test_wiring import HOST_KEY

SMALLEST: KataNodeArgs = {"connection": {"address": "192.0.2.1", "host_key": HOST_KEY}}


def documents(args: KataNodeArgs) -> dict[str, dict[str, Any]]:
    """By child: the desired state of a node `n`."""
    resources = run(lambda: KataNode("n", args)).by_name
    return {verb: json.loads(resources[f"n-{verb}"].inputs["stdin"]) for verb in ("preflight", "docker", "kata", "proof")}


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
    states = documents(SMALLEST)
    assert states["docker"]["version"] == "27.5.1"
    assert states["docker"]["repository"]["fingerprint"] == apt_source.DOCKER_FINGERPRINT
    assert set(states["kata"]["install"]) == {"x86_64", "aarch64"} and states["kata"]["version"] == "3.32.0"
    assert states["kata"]["configPath"].endswith("/configuration-qemu.toml")
    assert states["kata"]["kernelParams"] == states["proof"]["expect"] == ["user_namespace.enable=1"]
    assert (states["proof"]["sandbox"], states["proof"]["timeoutSeconds"]) == ("sandbox-runtime", 300)
    commands = run(lambda: KataNode("n", SMALLEST)).by_name
    assert commands["n-kata"].inputs["triggers"] == [HOST_KEY]
    assert commands["n-proof"].inputs["connection"]["user"] == "root"


@pytest.mark.parametrize("changed", [{"kata": {"kernel_params": ["quiet"]}}, {"verification": {"timeout_seconds": 400}}], ids=str)
def test_a_proof_of_other_settings_is_another_one_and_the_verbs_are_updated(changed: dict[str, Any]) -> None:
    before, after = (run(lambda args=args: KataNode("n", args)).by_name for args in (SMALLEST, {**SMALLEST, **changed}))
    kept = {name for name, command in before.items() if after[name].inputs.get("triggers") == command.inputs.get("triggers")}
    assert {*before} - kept == {"n-proof"}
    assert after["n-proof"].request.deleteBeforeReplace and list(after["n-proof"].request.replaceOnChanges) == ["triggers[*]"]


def test_the_proof_of_a_protected_node_can_be_replaced() -> None:
    commands = run(lambda: KataNode("n", SMALLEST, pulumi.ResourceOptions(protect=True))).by_name
    protected = {name for name, command in commands.items() if command.request.protect}
    assert {*commands} - protected == {"n-proof", "kata-nodes-test"}


def test_every_verb_reads_what_its_component_writes() -> None:
    kinds = {
        "preflight": node_state.PreflightState, "docker": node_state.DockerState, "kata": node_state.KataState,
        "proof": node_state.ProveState,
    }  # fmt: skip
    for verb, state in documents(SMALLEST).items():
        assert kinds[verb].read(state).document() == state


def test_kata_that_is_there_already_is_left_there() -> None:
    states = documents({**SMALLEST, "kata": {"install_release": False}})
    assert states["kata"]["install"] is None and states["kata"]["configPath"] is None


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
    assert len(children) == 7 and all(child.request.deletedWith.endswith("::machine") for child in children)


@pytest.mark.parametrize("text", ["", "done", "[]", '{"verb": "kata", "version": "1"}', '{"version": "1"}'])
def test_what_a_resource_recorded_is_no_result_unless_it_is_the_verb_s_own(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        result_of(text, "docker", "n-docker")
    assert caught.value.code == "result-missing" and "n-docker" in caught.value.remedy


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


def test_what_a_stack_takes_from_the_verbs_before_the_proof_is_checked_too() -> None:
    for verb, key in (("docker", "version"), ("preflight", "machineId")):
        assert result_of(json.dumps({"verb": verb, key: "x"}), verb, "n")[key] == "x"
        for document in ({"verb": verb}, {"verb": verb, key: 7}):
            with pytest.raises(NodeError, match=f"its key {key} is"):
                result_of(json.dumps(document), verb, "n")


@pytest.mark.parametrize("before", ["", "Welcome to rack 7!\n", "{}\n\n", "Welcome!\r\n", "Logo\n\x1b[?25h", "\x1b]0;a@n1\x07"])
def test_the_verb_s_own_result_is_taken_whatever_the_login_shell_printed_first(before: str) -> None:
    text = before + '{"verb": "docker", "version": "27.5.1"}'
    assert result_of(text, "docker", "n-docker")["version"] == "27.5.1"


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
    for child in ("system", "program", "preflight", "docker", "kata", "proof"):
        inputs = ended.by_name[f"n-{child}"].inputs
        assert not {"create", "update"} & set(inputs) and inputs["connection"]["dialErrorLimit"] == 0, child
    assert {"delete"} <= set(ended.by_name["n-program"].inputs)
    assert ended.outputs["summary"]["dockerVersion"] == ""


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
        delete = run(lambda: KataNode(name, SMALLEST)).by_name[f"{name}-program"].inputs["delete"]
        owner = str(delete).rpartition("--remove ")[2]
        assert re.fullmatch(r"kata-nodes/test [A-Za-z0-9._-]+", owner), owner
        return owner

    names = ("my-node", "my node", "my/node", "nöde", "näde", "n$(id)", "n; id")
    assert len({record_of(name) for name in names}) == len(names)
    assert record_of("my-node") == "kata-nodes/test my-node"
