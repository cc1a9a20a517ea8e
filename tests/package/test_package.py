"""The package's schema is what schema.json shows reviewers, describes everything in it, and keeps what was released."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from unittest import mock

import pulumi
import pytest
import tomllib
import yaml
from pulumi.errors import InputPropertiesError, InputPropertyError
from pulumi.provider.experimental.util import camel_case
from pulumi.provider.server import ProviderServicer

import components
from aws import ec2
from clusterkit import pod, rollout
from components import package
from delivery import login
from nodekit.rules import node_state
from tests.components.recorder import run
from tests.package import release
from tests.package.breaking import breaks, lost
from tests.package.programs import PROGRAMS, registered
from tools import published_schema

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads(package.schema())


def test_schema_in_the_repository_is_the_components_own() -> None:
    assert (REPOSITORY / "components" / "schema.json").read_text() == package.schema(), "run: make schema"


def test_no_description_is_shown_as_code() -> None:
    """Up to Python 3.12 a doc string keeps its indentation, and Markdown takes an indented paragraph for code: a registry's
    page would show most of a component's text so, and from Python 3.13 on the schema would be another one."""
    descriptions = re.findall(r'"description": (".*")', json.dumps(SCHEMA, indent=1))
    assert len(descriptions) > 100
    assert [text for text in descriptions if re.search(r"\\n {4}|^\" ", text)] == []


def test_registry_reads_what_the_package_is_and_where_it_was_published() -> None:
    address = "https://github.com/somebody/a-fork"
    published = published_schema.published(SCHEMA, address, "v1.2.3")
    required = ("displayName", "description", "keywords", "homepage", "repository", "publisher", "license", "logoUrl")
    assert [key for key in required if not published.get(key)] == []
    assert (published["homepage"], published["publisher"]) == (address, "somebody")
    assert (
        published["logoUrl"] == f"{address}/raw/v1.2.3/{published_schema.LOGO}" and (REPOSITORY / published_schema.LOGO).is_file()
    )
    assert published["resources"] == SCHEMA["resources"]
    assert f'license = "{SCHEMA["license"]}"' in (REPOSITORY / "pyproject.toml").read_text()
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text()


@pytest.mark.parametrize("address", ["somebody/a-fork", "http://github.com/somebody/a-fork", "https://github.com/a", ""])
def test_schema_of_a_release_without_the_repositorys_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="give https://HOST/OWNER/NAME"):
        published_schema.published({}, address, "v1.2.3")


def test_no_file_claims_an_address_for_this_project() -> None:
    argv = ["git", "ls-files", "*.md", "*.yml", "*.yaml", "*.json", "*.toml", "*.py"]
    tracked = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    pattern = r"(?:github\.com|githubusercontent\.com|ghcr\.io)/[\w.-]+/kata-nodes\b"
    texts = {file: (REPOSITORY / file).read_text() for file in tracked if (REPOSITORY / file).is_file()}
    assert {file: addresses for file, text in texts.items() if (addresses := re.findall(pattern, text))} == {}


def described() -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in the schema that a person reads about."""
    for name, definition in {**SCHEMA["resources"], **SCHEMA.get("types", {})}.items():
        yield name, definition
        for place in ("inputProperties", "properties"):
            for key, value in definition.get(place, {}).items():
                yield f"{name} {place}.{key}", value


def test_every_component_and_property_is_described() -> None:
    assert [where for where, definition in described() if not definition.get("description", "").strip()] == []


def test_defaults_in_descriptions_are_those_of_the_rules() -> None:
    rules = {node_state.DOCKER_VERSION, node_state.KATA_VERSION, pod.CPU, pod.MEMORY, pod.MEMORY_LIMIT}
    rules |= {str(number) for number in (node_state.TIMEOUT_SECONDS, login.SSH_PORT, ec2.ROOT_VOLUME_GIB)}
    rules |= {str(rollout.DRAIN_SECONDS), rollout.BATCH.rstrip("%")}
    described_defaults = {
        value
        for _, entry in described()
        for value in re.findall(r"by default (?:the official release )?([0-9][\w.]*\w)", " ".join(entry["description"].split()))
    }
    assert described_defaults == rules


def test_every_component_gives_an_output_to_come_after() -> None:
    assert [name for name, definition in SCHEMA["resources"].items() if not definition["required"]] == []


def test_python_programs_import_every_component_from_one_place() -> None:
    """Lost if this fails: `from components import AwsNodes`."""
    names = [component.__name__ for component in package.components()]
    assert sorted({*names, *(f"{name}Args" for name in names)} - set(components.__all__)) == []


def test_only_components_of_this_checkout_are_left_out() -> None:
    left = {component.__name__ for component in package.components()} - {component.__name__ for component in package.published()}
    assert left == {name for name in left if name.startswith("Local")} and left
    for name in left:
        module = next(component.__module__ for component in package.components() if component.__name__ == name)
        text = (REPOSITORY / f"{module.replace('.', '/')}.py").read_text()
        assert "components.local." in text, f"{name} runs nothing of this checkout: call it otherwise, or publish it"


def test_plain_arguments_are_those_that_decide_which_resources_there_are() -> None:
    reasons = ("which resources there are", "what depends on what")
    for name, definition in {**SCHEMA["resources"], **SCHEMA["types"]}.items():
        for key, value in definition.get("inputProperties", definition["properties"]).items():
            # Of a record that is plain, every key takes outputs.
            words = " ".join(value["description"].split())
            assert not value.get("plain") or "$ref" in value or any(reason in words for reason in reasons), f"{name}.{key}"


def test_descriptions_name_keys_as_every_language_but_python_writes_them() -> None:
    keys = {key for definition in (*SCHEMA["resources"].values(), *SCHEMA["types"].values()) for key in definition["properties"]}
    keys |= {key for definition in SCHEMA["resources"].values() for key in definition["inputProperties"]}
    keys.add("enableServerSideApply")  # of the Kubernetes provider
    words = {where: re.findall(r"`([a-z]+(?:_[a-z]+)+)", definition["description"]) for where, definition in described()}
    kata = {"kernel_params"}  # in Kata's own files
    assert [
        (where, word) for where, all_of in words.items() for word in all_of if camel_case(word) in keys and word not in kata
    ] == []


def test_every_published_component_has_a_program_with_fixed_inputs() -> None:
    assert sorted(PROGRAMS) == [component.__name__ for component in package.published()], (
        "add its arguments to tests/package/programs.py"
    )


def test_released_schema_is_kept() -> None:
    assert breaks(json.loads(release.SCHEMA.read_text()), SCHEMA) == []


@pytest.mark.parametrize("component", PROGRAMS)
def test_released_resources_are_kept(component: str) -> None:
    released: list[list[str]] = json.loads(release.RESOURCES.read_text()).get(component, [])
    for urns, args in zip(released, PROGRAMS[component], strict=False):
        assert lost(urns, registered(component, args)) == []


def test_every_child_carries_its_components_name() -> None:
    for component, programs in PROGRAMS.items():
        for args in programs:
            for child in registered(component, args):
                assert child.name == "it" or child.name.startswith("it-"), f"{component}: two of it would both make {child.name}"


def test_release_has_one_version() -> None:
    version = yaml.safe_load((REPOSITORY / "components" / "PulumiPlugin.yaml").read_text())["version"]
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert newest and newest[1] == version == project["version"] == SCHEMA["version"]
    released = json.loads(release.SCHEMA.read_text())["version"]
    assert tuple(map(int, released.split("."))) <= tuple(map(int, version.split(".")))


def test_folder_runs_as_the_program_that_the_engine_starts(tmp_path: Path) -> None:
    """The host prints the port of its server first of all; it imports nodekit from beside its own folder."""
    started = subprocess.Popen(
        [sys.executable, "-I", str(REPOSITORY / "components"), "127.0.0.1:1"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert started.stdout and started.stdout.readline().strip().isdigit(), started.stderr and started.stderr.read()
    finally:
        started.kill()
        started.communicate()


class Machine(TypedDict):
    """A machine."""

    host_key: pulumi.Input[str]
    """Its key."""
    ssh_port: pulumi.Input[int]
    """Its port."""


class MachinesArgs(TypedDict):
    """Some machines."""

    machines: pulumi.Input[list[Machine]]
    """All of them."""
    first: pulumi.Input[Machine]
    """One of them."""
    count: pulumi.Input[int]
    """How many."""
    plain: bool
    """Which resources there are."""
    hosts: NotRequired[list[Machine]]
    """Which others there are."""


class Machines(pulumi.ComponentResource):
    """Gives back what it gets."""

    machines: list[Machine]
    """All of them."""

    def __init__(self, name: str, args: MachinesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kata-nodes:index:Machines", name, None, opts)
        self.machines = args["machines"]  # type: ignore[assignment]


def arguments(**inputs: Any) -> Any:
    """What a component of the package gets for inputs as the engine sends them, resolved."""
    provider = package.PackageProvider([Machines], package.NAME)
    return provider.map_inputs(inputs, provider._component_defs["Machines"])


def resolved(value: Any) -> Any:
    """What an output comes to."""
    import asyncio

    async def inside() -> Any:
        return await pulumi.Output.from_input(value()).future()

    return asyncio.run(inside())


MACHINE = {"hostKey": "A", "sshPort": 22.0}


def test_outputs_of_other_resources_reach_components_under_pythons_names() -> None:
    def value() -> Any:
        out = pulumi.Output.from_input
        return arguments(machines=out([MACHINE]), first=out(MACHINE), count=out(2.0), plain=True)

    machine = {"host_key": "A", "ssh_port": 22}
    assert resolved(value) == {"machines": [machine], "first": machine, "count": 2, "plain": True}


def test_parts_that_are_outputs_reach_components_too() -> None:
    def value() -> Any:
        out = pulumi.Output.from_input
        return arguments(machines=[out(MACHINE)], first={**MACHINE, "sshPort": out(22.0)}, count=2.0, plain=True)

    machine = {"host_key": "A", "ssh_port": 22}
    assert resolved(value) == {"machines": [machine], "first": machine, "count": 2, "plain": True}


def test_text_that_a_yaml_program_wrote_without_quotes_is_text() -> None:
    provider = package.provider()

    def value(component: str, inputs: Callable[[], dict[str, Any]]) -> Any:
        return resolved(lambda: provider.map_inputs(inputs(), provider._component_defs[component]))

    out = pulumi.Output.from_input
    host, rollout = {"name": 1.0, "address": "a", "hostKey": "k"}, {"kubeconfig": "k", "batch": 2.0, "canary": 1.0}
    nodes = value("ExistingNodes", lambda: {"hosts": [{**host, "user": out(1000.0)}], "rollout": rollout})
    assert nodes["hosts"] == [{"name": "1", "address": "a", "host_key": "k", "user": "1000"}]
    assert nodes["rollout"] == {"kubeconfig": "k", "batch": "2", "canary": 1}
    labels = {"kata": True, "rack": 7.0}
    chart = {"version": 3.5, "kernelParams": [True, "a"], "values": {"a": 1.0}}
    assert value("KataDeploy", lambda: {**chart, "nodeSelector": {**labels, "row": out(8.0)}}) == {
        "version": "3.5", "kernel_params": ["true", "a"], "node_selector": {"kata": "true", "rack": "7", "row": "8"},
        "values": {"a": 1.0},
    }  # fmt: skip


def test_plain_argument_that_is_an_output_is_refused() -> None:
    def value() -> Any:
        return arguments(machines=[], first=MACHINE, count=1.0, plain=pulumi.Output.from_input(False))

    with pytest.raises(InputPropertyError) as caught:
        resolved(value)
    assert "'plain' of Machines must be a plain value" in caught.value.reason


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"first": "x"}, "'first' of Machines must be an object with keys of its own"),
        ({"first": [MACHINE]}, "'first' of Machines must be an object with keys of its own"),
        ({"machines": [MACHINE, "x"]}, "'machines[1]' of Machines must be an object with keys of its own"),
        ({"machines": [None]}, "'machines[0]' of Machines holds nothing"),
        ({"count": float("inf")}, "'count' of Machines must be a whole number"),
        ({"count": float("nan")}, "'count' of Machines must be a whole number"),
        ({"count": "two"}, "'count' of Machines must be a whole number"),
        ({"count": [1]}, "'count' of Machines must be a whole number"),
        ({"first": {**MACHINE, "sshPort": {}}}, "'first.sshPort' of Machines must be a whole number"),
    ],
)
def test_value_of_another_shape_is_refused_and_not_taken_for_an_empty_record(changed: dict[str, Any], sentence: str) -> None:
    """A program in JavaScript that sets `kata: "go"` got the defaults, and no message."""
    inputs = {"machines": [], "first": MACHINE, "count": 1.0, "plain": True, **changed}
    for make in (lambda value: value, pulumi.Output.from_input):
        with pytest.raises(InputPropertyError) as caught:
            resolved(lambda make=make: arguments(**{**inputs, **{key: make(value) for key, value in changed.items()}}))
        assert caught.value.reason == sentence


def sent(error: InputPropertiesError) -> str:
    """What the SDK sends to the engine of an error, which shows just that."""
    status = ProviderServicer.create_grpc_invalid_properties_status(mock.Mock(), error.message, error.errors)
    assert status.trailing_metadata, "the SDK would send its own AttributeError"
    return str(status.details)


def test_refusal_of_a_component_has_no_traceback() -> None:
    host = {"name": "a", "address": "192.0.2.1", "hostKey": "ssh-rsa AAAA"}

    def construct() -> None:
        package.provider().construct("p", f"{package.NAME}:index:ExistingNodes", {"hosts": [host]})

    with pytest.raises(InputPropertiesError) as caught:
        run(construct)
    assert re.fullmatch(r"The host key 'ssh-rsa AAAA' is not .*\[host-key-invalid\]", sent(caught.value))


def test_refusal_of_what_is_known_later_has_no_words_of_python() -> None:
    def refuse(_: object) -> None:
        raise pulumi.RunError("It is not known. Use another. [bad-input]")

    with pytest.raises(InputPropertiesError) as caught:
        resolved(lambda: package.refusing(pulumi.Output.from_input(1).apply(refuse)))
    assert sent(caught.value) == "It is not known. Use another. [bad-input]"


def test_refusal_of_what_a_component_shows_of_its_arguments_has_no_words_of_python_either() -> None:
    """It is registered with a plan, so the engine gets no URN of it: the refusal began with `Unexpected <class`."""
    refusals: list[str] = []

    async def construct() -> None:
        connection = {"address": "192.0.2.1", "hostKey": "ssh-ed25519 AAAA"}
        inputs = {"connection": connection, "kata": {"version": pulumi.Output.from_input("3.33.9")}}
        try:
            await package.provider().construct("n", f"{package.NAME}:index:KataNode", inputs).urn.future()
        except InputPropertiesError as error:
            refusals.append(sent(error))

    with pytest.raises(pulumi.RunError):
        run(construct)
    assert refusals and refusals[0].startswith("No sha256 of ")


def test_output_that_refuses_nothing_stays_as_it_is() -> None:
    assert resolved(lambda: package.refusing(pulumi.Output.secret(1))) == 1
    assert resolved(lambda: package.refusing(pulumi.Output.secret(1)).is_secret()) is True
    assert resolved(lambda: package.refusing(pulumi.Output.from_input(pulumi.UNKNOWN)).is_known()) is False


def test_record_of_a_plain_list_that_is_an_output_is_refused_and_its_parts_are_not() -> None:
    def value(host: Any) -> Any:
        return arguments(machines=[], first=MACHINE, count=1.0, plain=True, hosts=[MACHINE, host])["hosts"]

    with pytest.raises(InputPropertyError) as caught:
        resolved(lambda: value(pulumi.Output.from_input(MACHINE)))
    assert "'hosts[1]' of Machines must be a record, whose keys may be outputs" in caught.value.reason
    machine = {"host_key": "A", "ssh_port": 22}
    assert resolved(lambda: value({**MACHINE, "sshPort": pulumi.Output.from_input(22.0)})) == [machine, machine]


def test_objects_in_lists_reach_programs_under_the_schemas_names() -> None:
    provider = package.PackageProvider([Machines], package.NAME)

    class Component:
        machines = ({"host_key": "A", "ssh_port": 22},)

    state = provider.get_state(Component(), provider._component_defs["Machines"])  # type: ignore[arg-type]
    assert state == {"machines": [{"hostKey": "A", "sshPort": 22}]}
