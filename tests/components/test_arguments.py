"""Arguments that a component cannot use are refused in a sentence, before anything is registered.

Lost if these fail: a misspelt kernel_params has no effect and no message, "false" opens SSH to everybody, and who
forgets a key reads a KeyError with a traceback.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, is_typeddict

import pulumi
import pytest
from pulumi.errors import InputPropertiesError, InputPropertyError
from pulumi.provider.experimental.util import camel_case

from components import package
from components.arguments import ArgumentError, checked, kinds_of
from tests.components.recorder import inputs_of, run
from tests.package.programs import CONNECTION, GROUP, INSTANCES, KATA_CLASS, PROGRAMS, PROVEN

NODE = PROGRAMS["KataNode"][0]
COMPONENTS = {component.__name__: component for component in package.components()}
Place = tuple[str, ...]


def record_of(component: str) -> Any:
    """The record of a component's arguments."""
    return COMPONENTS[component].__init__.__annotations__["args"]


def records(record: Any, args: Mapping[str, Any], above: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every record that `args` hold, by its place."""
    yield above, record
    for key, kind in kinds_of(record).items():
        if is_typeddict(kind.base) and key in args:
            yield from records(kind.base, args[key], (*above, key))


def changed(args: Mapping[str, Any], place: Place, change: Any) -> Any:
    """The arguments with the record in that place changed."""
    if not place:
        return change(dict(args))
    return {**args, place[0]: changed(args[place[0]], place[1:], change)}


PLACES = [(name, *place) for name, programs in PROGRAMS.items() for place in records(record_of(name), programs[0])]
REQUIRED = [(name, place, key) for name, place, record in PLACES for key in sorted(record.__required_keys__)]


def refused(component: str, args: Any) -> str:
    """How a component refuses arguments; it is not made, so it needs no engine."""
    with pytest.raises(pulumi.RunError) as caught:
        COMPONENTS[component]("it", args)  # type: ignore[arg-type,call-arg]
    return str(caught.value)


@pytest.mark.parametrize(("component", "place", "key"), REQUIRED)
def test_required_key_that_is_lacking_is_named_with_its_component(component: str, place: Place, key: str) -> None:
    args = PROGRAMS[component][0]
    reason = "The connection to the host has no host key. Set hostKey" if key == "host_key" else "the key is required. Set it to "
    sentence = f"{component} it: {'.'.join((*place, key))}: {reason}"
    without = changed(args, place, lambda record: {name: value for name, value in record.items() if name != key})
    assert refused(component, without).startswith(sentence)
    assert refused(component, changed(args, place, lambda record: {**record, key: None})).startswith(sentence)


@pytest.mark.parametrize(("component", "place", "record"), PLACES, ids=lambda value: getattr(value, "__name__", None))
def test_key_as_other_languages_write_it_is_refused_and_not_passed_over(component: str, place: Place, record: Any) -> None:
    for key in kinds_of(record):
        if (camel := camel_case(key)) != key:
            args = changed(PROGRAMS[component][0], place, lambda record, camel=camel: {**record, camel: True})
            path = ".".join((*place, camel))
            assert refused(component, args) == f"{component} it: {path}: there is no such key. Write {key}."


@pytest.mark.parametrize(
    ("component", "args", "sentence"),
    [
        ("KataNode", {**NODE, "kata": {"kernel_parms": []}}, "kata.kernel_parms: there is no such key. Write kernel_params."),
        ("KataNode", {**NODE, "xyz": 1}, "xyz: there is no such key. Remove it; there are node, connection, docker, "),
        ("HostKey", {"bits": 2048}, "bits: there is no such key. Remove it."),
        ("KataNode", {"connection": "host"}, "connection: it is of type str. Set it to a dict of keys and values."),
        ("KataNode", {**NODE, "kata": {"kernel_params": "quiet"}}, "kata.kernel_params: it is of type str. Set it to a list."),
        ("KataNode", {**NODE, "kata": {"version": 3.32}}, "kata.version: it is of type float. Set it to text, in quotes."),
        ("KataNode", {"connection": {**CONNECTION, "private_key": b"PRIVATE"}}, "connection.private_key: it is of type bytes. "),
        ("AwsNodes", {**INSTANCES, "ssh_from_everywhere": "false"}, "ssh_from_everywhere: it is of type str. Set it to a bool"),
        ("AwsNodes", {**INSTANCES, "ssh_from": [7]}, "ssh_from[0]: it is of type int. Set it to text, in quotes."),
        ("AwsNodeGroup", {**GROUP, "program": None}, "program: the key is required. Set it to a dict of keys and values."),
        ("KataDeploy", {"node_selector": {"kata": True}}, "node_selector.kata: it is of type bool. Set it to text, in quotes."),
        ("KataDeploy", {"node_selector": {"a\x1b[31m": 1}}, "node_selector.a?[31m: it is of type int. "),
        ("KataDeploy", {"\x1b[31m": 1}, "?[31m: there is no such key. "),
        ("KataDeploy", "3.32.0", "args: it is of type str. Set it to a dict of keys and values."),
        ("ExistingNodes", {"hosts": [{"name": "a", "address": "b"}]}, "hosts[0].host_key: The connection to the host"),
        ("KataNode", None, "connection: the key is required. Set it to a dict of keys and values."),
    ],
)  # fmt: skip
def test_refusal_says_what_to_write(component: str, args: Any, sentence: str) -> None:
    refusal = refused(component, args)
    assert refusal.startswith(f"{component} it: {sentence}") and "PRIVATE" not in refusal


def test_components_without_required_arguments_need_none() -> None:
    assert {"it-release"} < set(run(lambda: COMPONENTS["KataDeploy"]("it", None)).by_name)  # type: ignore[arg-type,call-arg]


@pytest.mark.parametrize(
    ("component", "args"),
    [
        ("KataNode", lambda: {"connection": pulumi.Output.from_input(CONNECTION)}),
        ("KataNode", lambda: {"connection": CONNECTION, "gone": pulumi.Output.from_input(True)}),
        ("ExistingNodes", lambda: {"hosts": pulumi.Output.secret([])}),
        ("AwsNodes", lambda: {**INSTANCES, "count": pulumi.Output.from_input(2)}),
        ("KataProof", lambda: {**PROVEN, "kubeconfig": "{}", "nodes": ["a"], "proof": pulumi.Output.from_input({})}),
        ("KataRuntimeClass", lambda: pulumi.Output.from_input({})),
    ],
)
def test_output_that_decides_which_resources_there_are_is_refused_and_not_taken_for_true(component: str, args: Any) -> None:
    with pytest.raises(
        ArgumentError, match=r"it must be a (plain value|dict, whose values may be outputs), not a secret or another resource's"
    ):
        run(lambda: COMPONENTS[component]("it", args()))  # type: ignore[arg-type,call-arg]


@pytest.mark.parametrize(
    ("component", "args", "key"),
    [
        ("AwsNodes", {**INSTANCES, "public_address": "false"}, "public_address"),
        ("AwsNodes", {**INSTANCES, "ssh_from": "0.0.0.0/0"}, "ssh_from"),
        ("SandboxGuard", {"namespaces": ["a"], "runtime_classes": ["k"], "privileged_in_guest": "false"}, "privileged_in_guest"),
    ],
)
@pytest.mark.parametrize("make", [pulumi.Output.from_input, pulumi.Output.secret], ids=["output", "secret"])
def test_output_of_another_type_is_refused_once_it_is_known(component: str, args: dict[str, Any], key: str, make: Any) -> None:
    def program() -> None:
        COMPONENTS[component]("it", {**args, key: make(args[key])})  # type: ignore[arg-type,call-arg]

    with pytest.raises(pulumi.RunError, match=f"{component} it: {key}: it is of type str"):
        run(program)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("connection", "sudo_password"), 1234, "it is of type int. Set it to text, in quotes."),
        (("connection", "host_key"), 1234, "it is of type int. Set it to text, in quotes."),
        (("kata", "version"), 3.32, "it is of type float. Set it to text, in quotes."),
        (("kata", "config_path"), ["/etc/kata.toml"], "it is of type list. Set it to text."),
        (("docker", "repository", "suite"), 13, "it is of type int. Set it to text, in quotes."),
        (("verification", "image"), {}, "it is of type dict. Set it to text."),
    ],
)
def test_output_in_the_place_of_text_is_refused_in_a_sentence(place: Place, value: Any, sentence: str) -> None:
    """As of a StackReference whose stack has a number there: rules of text ended with a traceback."""
    args: Any = {**NODE, place[0]: NODE.get(place[0], {})}
    if len(place) > 2:
        args[place[0]] = {place[1]: {}}

    def program() -> None:
        later = changed(args, place[:-1], lambda record: {**record, place[-1]: pulumi.Output.from_input(value)})
        COMPONENTS["KataNode"]("it", later)  # type: ignore[arg-type,call-arg]

    with pytest.raises(ArgumentError) as caught:
        run(program)
    assert str(caught.value) == f"KataNode it: {'.'.join(place)}: {sentence}"


def test_output_of_nothing_among_the_items_of_a_list_is_refused_as_nothing_itself_is() -> None:
    def program() -> None:
        kata: Any = {"kernel_params": ["quiet", pulumi.Output.from_input(None)]}
        COMPONENTS["KataNode"]("it", {**NODE, "kata": kata})  # type: ignore[arg-type,call-arg]

    with pytest.raises(ArgumentError, match=r"kata\.kernel_params\[1\]: the output that it is set to holds nothing\."):
        run(program)


def test_what_is_awaited_can_be_read_several_times() -> None:
    """`pulumi.Input` allows a coroutine, which can be awaited once."""

    async def later(value: Any) -> Any:
        return value

    def args(make: Any) -> Any:
        return {
            "node": make("node"),
            "connection": {**CONNECTION, "port": make(22), "user": make("admin")},
            "docker": {"version": make("27.5.1")},
            "kata": {"version": make("3.32.0"), "runtime": make("go"), "kernel_params": [make("quiet")]},
            "verification": {"image": make("debian:13"), "timeout_seconds": make(60)},
        }

    def registered(make: Any) -> Any:
        return inputs_of(lambda: COMPONENTS["KataNode"]("it", args(make)))  # type: ignore[arg-type,call-arg]

    assert registered(later) == registered(lambda value: value)


@pytest.mark.parametrize(("component", "place", "key"), REQUIRED)
def test_output_of_nothing_in_the_place_of_a_required_key_is_refused_in_a_sentence(
    component: str, place: Place, key: str
) -> None:
    """As of a StackReference whose stack has no such output: rules of text ended with a TypeError."""
    kind = kinds_of(dict(record for record in records(record_of(component), PROGRAMS[component][0]))[place])[key]
    if not kind.later or (key == "address" and place == ("connection",)):
        return

    def program() -> None:
        nothing = changed(PROGRAMS[component][0], place, lambda record: {**record, key: pulumi.Output.from_input(None)})
        COMPONENTS[component]("it", nothing)  # type: ignore[arg-type,call-arg]

    sentence = "host-key-missing" if key == "host_key" else rf"{key}: the output that it is set to holds nothing\. Set it to "
    with pytest.raises(pulumi.RunError, match=sentence):
        run(program, preview=True)


@pytest.mark.parametrize("make", [str, pulumi.Output.from_input], ids=["plain", "output"])
@pytest.mark.parametrize(
    ("component", "key"),
    [("JoiningNodes", "image"), ("SandboxPodTemplate", "runtime_class"), ("KataRuntimeClass", "kata_version")],
)
def test_required_text_that_is_empty_is_refused_in_a_preview(component: str, key: str, make: Any) -> None:
    def program() -> None:
        COMPONENTS[component]("it", {**PROGRAMS[component][0], key: make("")})  # type: ignore[arg-type,call-arg]

    with pytest.raises(pulumi.RunError, match=f"{component} it: {key}: it is empty. Set it to text"):
        run(program, preview=True)


def test_class_whose_handler_comes_to_nothing_is_refused_in_a_sentence() -> None:
    def program() -> None:
        COMPONENTS["KataRuntimeClass"]("it", {**KATA_CLASS, "handler": pulumi.Output.from_input(None)})  # type: ignore[arg-type,call-arg]

    with pytest.raises(pulumi.RunError, match="it: a RuntimeClass that is made needs its handler"):
        run(program, preview=True)


@pytest.mark.parametrize("nodes", [None, []])
def test_proof_of_nodes_that_come_to_none_is_refused_even_where_none_is_needed(nodes: Any) -> None:
    """With least_nodes 0 it would vouch for a cluster of which no node was proven."""

    def program() -> None:
        args = {**PROVEN, "kubeconfig": "{}", "nodes": pulumi.Output.from_input(nodes), "least_nodes": 0}
        COMPONENTS["KataProof"]("it", args)  # type: ignore[arg-type,call-arg]

    with pytest.raises(pulumi.RunError, match=r"The nodes to prove are none\. Use the name of at least one node"):
        run(program)


def test_secret_stays_one_and_what_is_not_known_yet_stays_unknown() -> None:
    class Component(pulumi.ComponentResource):
        def __init__(self) -> None:
            """Not registered."""

    async def inside() -> None:
        secret = pulumi.Output.secret(["quiet"])
        kata: Any = {"kernel_params": secret, "nested_sandbox": pulumi.Output.from_input(pulumi.UNKNOWN)}
        result = checked(Component(), record_of("KataNode"), "it", {"connection": CONNECTION, "kata": kata})["kata"]
        assert await result["kernel_params"].is_secret() and await result["kernel_params"].future() == ["quiet"]
        assert not await result["nested_sandbox"].is_known()

    asyncio.run(inside())


def test_program_in_another_language_reads_its_own_spelling() -> None:
    host = {"name": "a", "address": "192.0.2.1", "hostKey": "k"}

    def construct(inputs: Any) -> Any:
        return lambda: package.provider().construct("it", f"{package.NAME}:index:ExistingNodes", inputs)

    with pytest.raises(
        InputPropertiesError, match=r"^ExistingNodes it: kata.nestedSandbox: it is of type str\. Set it to a boolean\.$"
    ):
        run(construct({"hosts": [host], "kata": {"nestedSandbox": "false"}}))
    for inputs, sentence in (
        (
            {"hosts": [host], "kata": {"kernel_params": []}},
            "'kata.kernel_params' of ExistingNodes: there is no such key. Write kernelParams",
        ),
        ({"hosts": [{**host, "hostkey": "k"}]}, "'hosts[0].hostkey' of ExistingNodes: there is no such key. Write hostKey"),
    ):
        with pytest.raises(InputPropertyError) as caught:
            run(construct(inputs))
        assert caught.value.reason.startswith(sentence)
