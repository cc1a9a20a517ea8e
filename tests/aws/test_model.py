"""What cannot be made on AWS is refused from the stack's file alone: the key, the value, the reason, the remedy."""

from typing import Any

import pytest

from stacks.configuration import ConfigError, load, refuse_settings_of_plugins, refuse_useless
from tests.aws.test_pool import MACHINES, group

INSTANCES = {"sshFrom": ["203.0.113.0/24"]}
GROUP: dict[str, Any] = group("0" * 64)["nodes"]["aws"]["group"]


def refused(*words: str, instances: Any = INSTANCES, **machines: Any) -> None:
    """A stack with such machines is refused, in words that hold each of `words`."""
    with pytest.raises(ConfigError) as caught:
        load({"nodes": {"aws": {**MACHINES, "instances": instances, **machines}}}.get)
    for text in words:
        assert text in str(caught.value), str(caught.value)


def test_what_is_asked_for_is_accepted() -> None:
    assert load({"nodes": {"aws": {**MACHINES, "instances": INSTANCES}}}.get).nodes.aws
    config = load(group().get)
    assert config.nodes.aws and config.nodes.aws.most == 4


@pytest.mark.parametrize("name", ["m7g.4xlarge", "c8gn.metal-24xl", "a1.metal", "t4g.large", "im4gn.xlarge", "mac2.metal"])
def test_arm_is_refused_whatever_else_is_said(name: str) -> None:
    refused("kata-nodes:nodes.aws", name, "Arm", "metal", "[aws-instance-type]", instanceType=name)


def test_type_without_kvm_is_refused_with_both_ways_out() -> None:
    refused("m8i.4xlarge", "/dev/kvm", "nestedVirtualization", ".metal", "[aws-instance-type]", nestedVirtualization=False)
    metal = "m7i.metal-24xl"
    refused(metal, "bare metal", "Remove nestedVirtualization", "[aws-instance-type]", instanceType=metal)


@pytest.mark.parametrize("networks", [["0.0.0.0/0"], ["::/0"], ["10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"]])
def test_ssh_for_everybody_is_refused_however_it_is_spelled(networks: list[str]) -> None:
    key = "nodes.aws.instances"
    refused(key, networks[-1], "everybody", "sshFromEverywhere", "[aws-ssh-networks]", instances={"sshFrom": networks})
    load({"nodes": {"aws": {**MACHINES, "instances": {"sshFrom": networks, "sshFromEverywhere": True}}}}.get)


def test_text_that_is_not_a_network_is_refused() -> None:
    refused("203.0.113.7/24", "203.0.113.7/32", "[aws-ssh-networks]", instances={"sshFrom": ["203.0.113.7/24"]})
    refused("nodes.aws.instances.sshFrom[0]", "'home'", instances={"sshFrom": ["home"]})


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1"])
def test_a_region_of_another_partition_is_refused(region: str) -> None:
    refused("kata-nodes:nodes.aws.region", region, region=region)
    load({"nodes": {"aws": {**MACHINES, "region": "ca-central-1", "instances": INSTANCES}}}.get)


def test_image_must_be_pinned() -> None:
    refused("kata-nodes:nodes.aws.image", "'ubuntu'", image="ubuntu")


def test_managed_node_group_is_refused_with_the_reason() -> None:
    words = ("managedNodeGroup", "without a message", "2784", "nodes.aws.group", "[aws-managed-node-group]")
    refused(*words, managedNodeGroup={"name": "n"})


def test_tag_that_is_ours_is_refused() -> None:
    refused("kata-nodes=x", "[aws-tags]", tags={"kata-nodes": "x"})
    refused("aws:cost", "[aws-tags]", tags={"aws:cost": "x"})
    refused("'a=b'", "[aws-tags]", tags={"a=b": "c"})  # as a pair it would be the tag `a`
    refused("'team=R&D'", "[aws-tags]", tags={"team": "R&D"}, sessionManager=True)


def test_instances_and_a_group_are_refused_together_and_neither() -> None:
    refused("kata-nodes:nodes.aws", "exactly one of", instances=None)
    refused("kata-nodes:nodes.aws", "exactly one of", group=GROUP)


def test_sizes_the_wrong_way_round_are_refused() -> None:
    refused("nodes.aws.group", "minSize 5", "maxSize 4", instances=None, group={**GROUP, "minSize": 5})


def test_program_is_not_downloaded_in_clear() -> None:
    program = {"address": "http://files.example.org/n.pyz", "sha256": "0" * 64}
    refused("nodes.aws.group.program.address", "'http://files", instances=None, group={**GROUP, "program": program})


@pytest.mark.parametrize("kubernetes", [None, {}, {"proof": {"nodes": ["a"], "image": "proof@sha256:0"}}])
def test_group_that_nothing_would_prove_is_refused(kubernetes: Any) -> None:
    with pytest.raises(ConfigError, match=r"nobody logs in.*kubernetes\.proof\.selector"):
        load({**group(), "kubernetes": kubernetes}.get)


def test_two_pools_are_refused() -> None:
    with pytest.raises(ConfigError, match="exactly one of 'local', 'existing' and 'aws'"):
        load({"nodes": {"local": {}, "aws": {**MACHINES, "instances": INSTANCES}}}.get)


def test_setting_of_the_plugin_that_does_not_come_to_it_is_refused() -> None:
    """With aws:profile, or without what aws:allowedAccountIds forbids, machines were made in another account, without a word."""
    config = load({"nodes": {"aws": {**MACHINES, "instances": INSTANCES}}}.get)
    refuse_settings_of_plugins(config, {"kata-nodes:nodes": "{}", "aws:region": "eu-central-1", "awsx:x": "y"})
    with pytest.raises(ConfigError) as caught:
        refuse_settings_of_plugins(config, {"aws:profile": "prod", "aws:region": "us-east-1"})
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[1] for line in lines] == ["profile", "region"] and "prod" not in lines[0]
    assert "AWS_PROFILE" in lines[0] and lines[0].endswith("pulumi config rm aws:profile.")
    cluster = load({"kubernetes": {"proof": {"selector": "a=b", "image": "i"}}}.get)
    with pytest.raises(ConfigError, match=r"kubernetes:context: .* kubernetes\.context name the cluster\. Remove it"):
        refuse_settings_of_plugins(cluster, {"kubernetes:context": "prod", "aws:profile": "prod"})
    elsewhere = load({"nodes": {"local": {}}, "kata": {"install": "local"}, "docker": {"repository": "local"}}.get)
    refuse_settings_of_plugins(elsewhere, {"aws:profile": "prod", "kubernetes:context": "prod"})


def test_secret_that_nothing_would_use_is_refused() -> None:
    config = load({"nodes": {"aws": {**MACHINES, "instances": INSTANCES}}}.get)
    with pytest.raises(
        ConfigError, match=r"(?s)kata-nodes:sshPrivateKey is set.*publicKey.*joinScript is set.*nodes\.aws\.group"
    ):
        refuse_useless(config, ["sshPrivateKey", "joinScript"])
    refuse_useless(load(group().get), ["joinScript"])
