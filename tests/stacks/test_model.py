"""Bad configuration is refused at preview: the key, the value, the reason and the remedy are in the message."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.configuration import LOGIN_SECRETS, ConfigError, in_plain, load, refuse_unknown, refuse_useless
from stacks.model import StackConfig
from stacks.rollout_model import BATCH_SCHEMA
from stacks.sections import FORMS

STACKS = Path(__file__).resolve().parents[2] / "stacks"
NODE = {
    "name": "a",
    "address": "192.0.2.1",
    "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE",
}


def loaded(**sections: Any) -> StackConfig:
    """The configuration from sections as a stack file would give them."""
    settings = {"nodes": {"local": {}}, **sections}
    return load(settings.get)


def refused(*words: str, **sections: Any) -> None:
    """The sections are refused, in words that hold each of `words`."""
    with pytest.raises(ConfigError) as caught:
        loaded(**sections)
    for text in words:
        assert text in str(caught.value), str(caught.value)


def test_defaults_are_the_documents() -> None:
    config = loaded()
    assert (config.docker.version, config.kata.hypervisor, config.kata.nested_sandbox) == ("27.5.1", "qemu", True)
    assert config.parameters == ["user_namespace.enable=1"]


def test_given_parameters_come_after_the_documents_own_and_never_twice() -> None:
    assert loaded(kata={"kernelParams": ["user_namespace.enable=1", "a=b"]}).parameters == ["user_namespace.enable=1", "a=b"]


def test_unknown_key_is_named() -> None:
    refused("kata-nodes:kata.hypervisr: there is no such key", "Remove the key", kata={"hypervisr": "qemu"})


@pytest.mark.parametrize("key", ["sudoPassword", "privateKey", "password"])
def test_secret_under_a_key_that_does_not_exist_is_not_repeated_in_a_log(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(nodes={"existing": [{**NODE, key: "hunter2"}]})
    assert f"nodes.existing[0].{key}: there is no such key" in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize("existing", [{"a": {**NODE, "password": "hunter2"}}, [[{"password": "hunter2"}]]])
def test_secret_within_a_value_of_the_wrong_kind_is_not_repeated_either(existing: object) -> None:
    with pytest.raises(ConfigError, match=r"nodes\.existing") as caught:
        loaded(nodes={"existing": existing})
    assert "hunter2" not in str(caught.value)
    values = {"values": {"registry": {"password": "hunter2"}}, "namespace": "sandboxes"}
    with pytest.raises(ConfigError, match="would refuse kata-deploy's own pods") as caught:
        load({"kubernetes": {"kataDeploy": values}}.get)
    assert "hunter2" not in str(caught.value)


def test_key_has_one_spelling() -> None:
    """By its Python name, `kata_deploy` counted, but not for the default of kata.runtime."""
    refused("verification.timeout_seconds: there is no such key", verification={"timeout_seconds": 200})
    refused("nodes.existing[0].host_key: there is no such key", nodes={"existing": [{**NODE, "host_key": NODE["hostKey"]}]})


def test_wrong_type_is_named() -> None:
    refused("kata-nodes:kata.nestedSandbox", "'yes'", "true or false", kata={"nestedSandbox": "yes"})
    refused("kata-nodes:verification.timeoutSeconds", "'60'", verification={"timeoutSeconds": "60"})


@pytest.mark.parametrize("value", ["", "3.32.0", ["a"], 3])
def test_value_in_the_place_of_keys_is_told_in_words_of_the_file(value: object) -> None:
    refused(f"kata-nodes:kata (value: {value!r}): it has keys of its own", "Write its keys below it", kata=value)
    refused("kata-nodes:nodes.existing[0] (value", "it has keys of its own", nodes={"existing": [value]})


@pytest.mark.parametrize(
    ("section", "value", "line"),
    [
        ("kata.install", "relase", "(value: 'relase'): Input should be 'release' or 'local', or keys below it."),
        (
            "kata.install",
            {"address": "https://a/b", "sha256": "A"},
            ".sha256 (value: 'A'): the key takes no such text. Use the 64 hexadecimal",
        ),
        ("docker.repository", "https://a", "(value: 'https://a'): Input should be 'local', or keys below it."),
        ("docker.repository", {"adress": "https://a"}, ".adress: there is no such key"),
        ("kata.hypervisor", {"qemu": True}, "(value: {'qemu': True}): Input should be 'qemu' or 'firecracker'."),
    ],
)
def test_key_that_takes_a_word_or_keys_is_refused_in_one_line(section: str, value: object, line: str) -> None:
    top, key = section.split(".")
    with pytest.raises(ConfigError) as caught:
        loaded(**{top: {key: value}})
    assert line in str(caught.value) and len(str(caught.value).splitlines()) == 2, str(caught.value)


@pytest.mark.parametrize(
    "key", ["kata-node:docker", "kata_nodes:nodes", "Kata-Nodes:kata", "katanodes:kubernetes", "kata-nodes:node"]
)
def test_section_of_a_misspelt_namespace_is_refused_and_not_passed_over(key: str) -> None:
    others = [
        "aws:region",
        "kubernetes:kubeconfig",
        "docker:host",
        "kata-nodes:docker",
        "kata-deploy:x",
        "pulumi:tags",
        "nodes:x",
        "data-nodes:size",
    ]
    refuse_unknown(others)
    with pytest.raises(ConfigError, match=rf"{key}: there is no such key"):
        refuse_unknown([*others, key])


def test_section_without_a_namespace_is_refused_where_the_project_has_another_name() -> None:
    """`pulumi config set --path docker.version` there makes a key of the project, which had no effect and no message."""
    keys = ["kata-nodes:nodes", "platform:docker", "platform:owner"]
    refuse_unknown(keys)
    with pytest.raises(ConfigError) as caught:
        refuse_unknown(keys, "platform")
    assert str(caught.value).splitlines()[1:] == ["  platform:docker: there is no such key. Write it as kata-nodes:docker."]


@pytest.mark.parametrize("key", ["kata-nodes:docker.version", "kata-nodes:nodes.existing[0].port", "kata-nodes:nodes[x"])
def test_part_of_a_section_that_was_set_without_path_says_how_to_set_it(key: str) -> None:
    """Messages name the key so, and `pulumi config set` without --path takes it for a key of its own."""
    with pytest.raises(ConfigError) as caught:
        refuse_unknown(["kata-nodes:docker", key])
    assert f"pulumi config rm '{key}'" in str(caught.value) and f"pulumi config set --path '{key}'" in str(caught.value)
    with pytest.raises(ConfigError, match="correct its spelling"):
        refuse_unknown(["kata-nodes:dockers.version"])


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.7:2222", "host.example:22", "[2001:db8::7]", "[2001:db8::7]:22", "-oProxyCommand=x",
        # Each was dialed for five minutes by the first `up`.
        "192.0.2.256", "192.0.2", "rack-*", "rack-[01-20]", "rack-1,rack-2", "rack-1;", "bücher.example", "a..b",
        f"{'a' * 64}.b", "192.0.2.7,192.0.2.8", "192.0.2.7\u200b", "host\u202e.example",
    ],
)  # fmt: skip
def test_address_that_could_only_be_dialed_in_vain_is_refused(address: str) -> None:
    refused("nodes.existing[0].address", "[host-address-invalid]", nodes={"existing": [{**NODE, "address": address}]})
    bastion = {"address": address, "user": "jump", "hostKey": NODE["hostKey"]}
    refused("nodes.bastion.address", "[host-address-invalid]", nodes={"existing": [NODE], "bastion": bastion})


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "a_b.example", "node-1", "a.", "1-2", "0a"])
def test_address_of_every_kind_is_taken(address: str) -> None:
    loaded(nodes={"existing": [{**NODE, "address": address}]})


def test_stack_that_would_prove_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nothing would be proven: add nodes, .* or kubernetes\.proof"):
        load({}.get)
    with pytest.raises(ConfigError, match="nothing would be proven"):
        load({"kubernetes": {}}.get)


def test_two_sources_of_nodes_are_refused() -> None:
    refused("kata-nodes:nodes", "exactly one", nodes={"local": {}, "existing": [NODE]})


def test_firecracker_is_refused_with_a_nested_sandbox_only() -> None:
    refused("kata-nodes:kata", "firecracker", "nestedSandbox", "[hypervisor-cannot-nest]", kata={"hypervisor": "firecracker"})
    assert loaded(kata={"hypervisor": "firecracker", "nestedSandbox": False}).parameters == []


def test_docker_that_breaks_kata_is_refused_with_its_cure() -> None:
    refused("28.5.2", "3.27.0", "3.29.0", "[docker-kata-incompatible]", docker={"version": "28.5.2"}, kata={"version": "3.27.0"})
    loaded(docker={"version": "28.5.2"}, kata={"version": "3.32.0"})


def test_refusal_of_a_rule_ends_with_its_code() -> None:
    """A full stop behind it stood for a remedy that the sentence has already."""
    with pytest.raises(ConfigError) as caught:
        loaded(docker={"version": "28.5.2"}, kata={"version": "3.27.0"})
    assert str(caught.value).endswith(" or Docker 27.5.1. [docker-kata-incompatible]")


@pytest.mark.parametrize("parameter", ["a=b\nc=d", "a=\x07", 'a="b', "", "a b", "é=1"])
def test_parameter_that_no_guest_can_be_given_is_refused(parameter: str) -> None:
    refused("kata-nodes:kata.kernelParams", "[bad-kernel-parameter]", kata={"kernelParams": [parameter]})


def test_parameters_beyond_the_command_line_are_refused() -> None:
    refused("kata-nodes:kata.kernelParams", "2047", "[kernel-parameters-too-long]", kata={"kernelParams": ["a=" + "b" * 2100]})


def test_parameter_against_the_documents_own_is_refused() -> None:
    refused("user_namespace.enable", "[bad-kernel-parameter]", kata={"kernelParams": ["user_namespace.enable=0"]})


def test_zero_limit_is_a_person_s_choice_and_left_to_the_proof() -> None:
    assert "sysctl.user.max_user_namespaces=0" in loaded(kata={"kernelParams": ["sysctl.user.max_user_namespaces=0"]}).parameters


def test_local_parts_need_local_nodes() -> None:
    refused("docker.repository", "local nodes only", nodes={"existing": [NODE]}, docker={"repository": "local"})


def test_bad_repository_and_archive_are_named() -> None:
    refused("kata-nodes:docker.repository.address", "'ftp://x'", docker={"repository": {"address": "ftp://x"}})
    refused("[kata-release-unlisted]", kata={"install": "release", "version": "3.27.0"})
    refused("kata-nodes:kata.install.sha256", kata={"install": {"address": "https://example.org/k.tar.xz", "sha256": "12"}})


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ({"address": "https://me:word@mirror.example/docker/{id}"}, "without user name"),
        ({"address": "https://mirror.example/docker/{distribution}"}, "such as https://download.docker.com/linux/{id}"),
        ({"address": "https://mirror.example/docker/{"}, "such as https://download.docker.com/linux/{id}"),
        ({"suite": "trixie stable"}, "is not one word"),
    ],
)
def test_repository_that_every_node_would_refuse_is_refused_before_any_is_touched(repository: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(docker={"repository": repository})
    assert "kata-nodes:docker.repository." in str(caught.value) and words in str(caught.value)
    assert "me:word" not in str(caught.value), "a log is read by more people than the stack's file"


def test_host_without_a_pinned_key_is_refused() -> None:
    refused("kata-nodes:nodes.existing[0].hostKey", "required", nodes={"existing": [{"name": "a", "address": "192.0.2.1"}]})


@pytest.mark.parametrize("file", sorted(STACKS.glob("Pulumi.*.yaml")), ids=lambda file: file.name)
def test_every_stack_file_is_accepted(file: Path) -> None:
    config = yaml.safe_load(file.read_text())["config"]
    load({key.removeprefix("kata-nodes:"): value for key, value in config.items()}.get)


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAA",
        "ssh-ed25519",
        "",
        f"ssh-rsa {NODE['hostKey'].split()[1]}",
        NODE["hostKey"] + "AAAA",
        NODE["hostKey"].replace("AAAAC3", "AAAAC4"),
        "SHA256:uNiVztksCsDhcc0u9e8BrVXrBRzFvM0BHKPlFCWFrx4",
    ],
)
def test_text_that_is_no_host_key_is_refused(key: str) -> None:
    refused("kata-nodes:nodes.existing[0].hostKey", "[host-key-invalid]", nodes={"existing": [{**NODE, "hostKey": key}]})
    bastion = {"address": "192.0.2.9", "user": "jump", "hostKey": key}
    refused("kata-nodes:nodes.bastion.hostKey", "[host-key-invalid]", nodes={"existing": [NODE], "bastion": bastion})


@pytest.mark.parametrize("head", ["-----BEGIN EC PRIVATE KEY-----", "PuTTY-User-Key-File-3: ssh-ed25519"])
def test_private_key_in_the_place_of_a_public_one_is_not_shown(head: str) -> None:
    key = f"{head}\nMHcCAQEE\n"
    aws = {
        "region": "eu-central-1",
        "instanceType": "m8i.4xlarge",
        "nestedVirtualization": True,
        "image": "ami-0123456789abcdef0",
    }
    aws |= {"vpc": "vpc-1", "subnets": ["subnet-1"], "instances": {"sshFrom": ["203.0.113.0/24"], "publicKey": key}}
    for nodes in ({"existing": [{**NODE, "hostKey": key}]}, {"aws": aws}):
        with pytest.raises(ConfigError, match=r"Key: ") as caught:
            loaded(nodes=nodes)
        assert ".pub" in str(caught.value) and "MHcCAQEE" not in str(caught.value)


def test_comment_of_a_host_key_does_not_count() -> None:
    config = loaded(nodes={"existing": [{**NODE, "hostKey": f"{NODE['hostKey']} root@a\n"}]})
    assert config.nodes.existing and config.nodes.existing[0].host_key == NODE["hostKey"]


def test_the_same_node_twice_is_refused() -> None:
    refused("name a", "[node-doubled]", nodes={"existing": [NODE, {**NODE, "address": "192.0.2.2"}]})
    refused("a and b", "192.0.2.1", "port 22", "[node-doubled]", nodes={"existing": [NODE, {**NODE, "name": "b"}]})
    loaded(nodes={"existing": [NODE, {**NODE, "name": "b", "port": 2222}]})


def test_machine_may_have_the_address_of_one_that_is_gone() -> None:
    loaded(nodes={"existing": [{**NODE, "gone": True}, {**NODE, "name": "b"}]})
    refused("[node-doubled]", nodes={"existing": [{**NODE, "gone": True}, NODE]})


@pytest.mark.parametrize(("address", "spelling"), [("2001:db8::7", "2001:DB8:0:0::0007"), ("Rack-1.example.", "rack-1.example")])
def test_same_address_in_another_spelling_is_the_same_node(address: str, spelling: str) -> None:
    hosts = [{**NODE, "address": address}, {**NODE, "name": "b", "address": spelling}]
    refused("a and b", "[node-doubled]", nodes={"existing": hosts})


def test_bastion_without_nodes_behind_it_is_refused() -> None:
    bastion = {"address": "192.0.2.9", "user": "jump", "hostKey": NODE["hostKey"]}
    refused("bastion", "existing", nodes={"local": {}, "bastion": bastion})


@pytest.mark.parametrize("secret", LOGIN_SECRETS)
def test_secret_that_no_login_uses_is_refused(secret: str) -> None:
    bastion = {"address": "192.0.2.9", "user": "jump", "hostKey": NODE["hostKey"]}
    used = loaded(nodes={"existing": [NODE, {**NODE, "name": "b", "port": 2, "user": "admin"}], "bastion": bastion})
    refuse_useless(used, LOGIN_SECRETS)
    with pytest.raises(ConfigError, match=rf"kata-nodes:{secret} is set, but .*pulumi config rm.*\[login-useless\]"):
        refuse_useless(loaded(), [secret])


def test_secret_that_is_set_in_plain_is_named_with_what_to_do_and_not_shown() -> None:
    (sentence,) = in_plain(["sudoPassword", "kubeconfig"], lambda key: key == "kata-nodes:kubeconfig")
    assert sentence.startswith("kata-nodes:sudoPassword is set in plain") and "pulumi config set --secret" in sentence


def test_kubeconfig_of_a_stack_that_makes_nothing_on_its_cluster_is_refused() -> None:
    refuse_useless(loaded(nodes={"existing": [NODE]}, kubernetes={}), ["kubeconfig"])
    for cluster in ({}, {"kubernetes": {"cluster": "local"}}):
        with pytest.raises(ConfigError, match=r"kata-nodes:kubeconfig is set, but .*Describe the cluster .*\[login-useless\]"):
            refuse_useless(loaded(**cluster), ["kubeconfig"])


def test_password_for_sudo_is_refused_where_all_are_root() -> None:
    with pytest.raises(ConfigError, match="logged in to as root"):
        refuse_useless(loaded(nodes={"existing": [{**NODE, "user": "root"}]}), ["sudoPassword"])


@pytest.mark.parametrize(
    ("rollout", "parts"),
    [
        ({"canary": 0}, ["kata-nodes:nodes.rollout.canary (value: 0)", "greater than or equal to 1"]),
        ({"canary": 3}, ["rollout.canary is 3, and there are 2 nodes", "at most the number of nodes"]),
        ({"batch": 0}, ["rollout.batch is 0", "from 1% to 100%"]),
        ({"batch": "0%"}, ["rollout.batch is 0%", "from 1% to 100%"]),
        ({"batch": True}, ["kata-nodes:nodes.rollout.batch (value: True)"]),
        ({"drainSeconds": 0}, ["kata-nodes:nodes.rollout.drainSeconds (value: 0)"]),
    ],
)
def test_waves_of_no_node_are_refused_at_preview(rollout: dict[str, object], parts: list[str]) -> None:
    hosts = [NODE, {**NODE, "name": "b", "address": "192.0.2.2"}, {**NODE, "name": "c", "address": "192.0.2.3", "gone": True}]
    refused(*parts, nodes={"existing": hosts, "rollout": rollout}, kubernetes={})
    assert loaded(nodes={"existing": hosts, "rollout": {"canary": 2, "batch": 1}}, kubernetes={}).nodes


@pytest.mark.parametrize("cluster", [{}, {"kubernetes": {"containerRuntime": "none"}}, {"kubernetes": {"cluster": "local"}}])
def test_waves_of_nodes_that_serve_no_cluster_are_refused_with_both_ways_out(cluster: dict[str, object]) -> None:
    parts = ("these nodes serve none", "Remove rollout", "without containerRuntime: none", "[rollout-refused]")
    refused(*parts, nodes={"existing": [NODE], "rollout": {}}, **cluster)


def test_waves_of_other_machines_are_refused() -> None:
    refused("'rollout' changes 'existing' nodes", nodes={"local": {}, "rollout": {}})


def patterns(schema: object) -> Iterator[str]:
    """Every pattern of a JSON schema."""
    if isinstance(schema, dict):
        for key, below in schema.items():
            if key == "pattern" and isinstance(below, str):
                yield below
            elif key == "patternProperties":
                yield from below
            yield from patterns(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from patterns(below)


def test_text_of_another_form_is_refused_in_words_and_not_by_a_regular_expression() -> None:
    schema = StackConfig.model_json_schema()
    assert {*patterns(schema)} - {BATCH_SCHEMA["anyOf"][1]["pattern"]} == FORMS.keys()
    refused(
        "kata-nodes:nodes.existing[0].name (value: 'My_Host'): the key takes no such text. "
        "Use small letters, digits and hyphens, at most 42, and no hyphen at either end.",
        nodes={"existing": [{**NODE, "name": "My_Host"}]},
    )
    refused("address (value: ''): the text is empty. Write the text.", nodes={"existing": [{**NODE, "address": ""}]})
    refused("values (value: 'x'): it is not a set of keys. Write its keys", kubernetes={"kataDeploy": {"values": "x"}})
    refused("nodeSelector.a b.[key] (value: 'a b'): the key takes no such text. Use the key of a label, such as",
            kubernetes={"kataDeploy": {"nodeSelector": {"a b": "c"}}})  # fmt: skip
