"""What a type's name means, compared with the table of every type that EC2 had when moto was released."""

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from aws import ec2, user_data
from nodekit.errors import NodeError


def test_name_tells_the_architecture_of_every_type() -> None:
    assert len(INSTANCE_TYPES) > 1000
    wrong = [
        name
        for name, about in INSTANCE_TYPES.items()
        if ec2.is_x86(name) != ("x86_64" in about["ProcessorInfo"]["SupportedArchitectures"])
    ]
    assert wrong == []


def test_name_tells_bare_metal_of_every_type() -> None:
    named = {name for name in INSTANCE_TYPES if ec2.is_metal(name)}
    metal = {name for name, about in INSTANCE_TYPES.items() if about.get("BareMetal")}
    # The Macs are bare metal too, and no place for Kata.
    assert {name for name in named ^ metal if not name.startswith(("mac", "u-"))} == set()


def test_every_type_on_which_guests_run_has_a_known_quota() -> None:
    series = {
        name.partition(".")[0]
        for name, about in INSTANCE_TYPES.items()
        if (about.get("BareMetal") or "nested-virtualization" in about["ProcessorInfo"].get("SupportedFeatures", []))
        and ec2.is_x86(name)
        and ec2.quota_of(name) is None
    }
    assert series == set()


def test_quota_of_a_series_that_is_named_by_its_memory_is_known() -> None:
    assert ec2.quota_of("u-6tb1.metal") == ec2.quota_of("u-24tb1.112xlarge") == ("high memory", "L-43DA4232")
    assert ec2.quota_of("m8i.4xlarge") == ("standard", "L-1216C47A") and ec2.quota_of("mac2.metal") is None


@pytest.mark.parametrize("pair", ["no-value", "=x", "Name=x", "AWS:x=y", "k" * 129 + "=v", "k=" + "v" * 257])
def test_tag_that_cannot_be_set_is_refused(pair: str) -> None:
    with pytest.raises(NodeError, match="cannot be set"):
        ec2.tags([pair], "p/s", "n")
    assert ec2.tags(["k=a=b"], "p/s", "n") == {"k": "a=b", "Name": "n", "kata-nodes": "p/s"}


@pytest.mark.parametrize("pairs", [["team=R&D"], ["owner=Smith, Jo"], ["a(b)=c"], ["Team=a", "team=b"], ["name=x"], ["a=b\tc"]])
def test_tags_that_a_role_cannot_have_are_refused_where_there_is_a_role(pairs: list[str]) -> None:
    """EC2 takes them, and IAM refuses them once the rest is made."""
    assert ec2.tags(pairs, "p/s", "n")
    with pytest.raises(NodeError, match=r"cannot (both )?be set.*role") as caught:
        ec2.tags(pairs, "p/s", "n", role=True)
    assert caught.value.code == "aws-tags"
    assert ec2.tags(["Kosten stelle=Übung 7_.:/=+-@"], "p/s", "n", role=True)


def test_tag_with_two_values_is_refused_instead_of_losing_the_first() -> None:
    with pytest.raises(NodeError, match="'team=b' cannot be set: its key is set to 'a' before it") as caught:
        ec2.tags(["team=a", "team=b"], "p/s", "n")
    assert caught.value.code == "aws-tags" and ec2.tags(["team=a", "team=a"], "p/s", "n")["team"] == "a"


def test_network_of_one_machine_alone_is_refused_before_ec2_does() -> None:
    with pytest.raises(NodeError, match="has a zone"):
        ec2.ssh_networks(["fe80::1%eth0"], False)


def test_more_tags_than_a_resource_can_have_are_refused() -> None:
    pairs = [f"k{number}=v" for number in range(48)]
    assert len(ec2.tags(pairs, "p/s", "n")) == 50
    with pytest.raises(NodeError, match="50 at most, and 2 are the stack's"):
        ec2.tags([*pairs, "k48=v"], "p/s", "n")


def test_network_that_is_named_twice_is_in_the_rule_once() -> None:
    networks = ["203.0.113.0/24", "2001:db8::/32", "203.0.113.0/24", "2001:0DB8::/32", "198.51.100.7/32"]
    assert ec2.ssh_networks(networks, False) == (["203.0.113.0/24", "198.51.100.7/32"], ["2001:db8::/32"])


@pytest.mark.parametrize("instance_type", ["m8i", "", "m8i.4xlarge\n", "M8i.4xlarge", "m8i 4xlarge"])
def test_type_without_its_size_is_refused_before_anything_is_made(instance_type: str) -> None:
    with pytest.raises(NodeError, match="is not a type with its size") as caught:
        ec2.nested_virtualization(instance_type, True)
    assert caught.value.code == "aws-instance-type"


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/n.pyz",
        "files.example.org/n.pyz",
        "https://f.example.org/n b",
        "https://f.example.org/n\n",
        "https://",
        "https:///n",
        "",
        "https://f.example.org/größe/n",
        "https://f.example.org/n?signature=example\x01",
        "https://f.example\x7f.org/n",
        "https://f.example.org:port/n",
        "https://f.example.org:99999/n",
        "https://f.example.org:0/n",
        "https://[::1/n",
        "https://:443/n",
    ],
)
def test_an_address_that_is_not_of_http_is_refused_before_machines_are_made_that_never_join(address: str) -> None:
    with pytest.raises(NodeError, match="is not one of HTTP") as caught:
        user_data.first_boot("", program_address=address, program_sha256="0", states={}, seconds={}, join_script=None)
    assert caught.value.code == "bad-input" and "example" not in caught.value.sentence()


@pytest.mark.parametrize("address", ["https://me:word@files.example.org/n.pyz", "https://word@files.example.org/n.pyz?sig=a"])
def test_an_address_that_no_machine_could_use_is_refused_without_its_password(address: str) -> None:
    """Python's client takes it for a port, and each machine would write it to its console."""
    with pytest.raises(NodeError, match="user name or a password") as caught:
        user_data.first_boot("", program_address=address, program_sha256="0", states={}, seconds={}, join_script=None)
    assert caught.value.code == "bad-input" and "word@" not in caught.value.sentence()
    whole = user_data.first_boot(
        "", program_address="https://f.example.org/a@b?sig=c@d", program_sha256="0", states={}, seconds={}, join_script=None
    )
    assert "a@b?sig=c@d" in whole
    for address in ("https://[2001:db8::1]:8443/n", "https://bücher.example.org/gr%C3%B6%C3%9Fe?sig=a", "http://f.example.org"):
        user_data.first_boot("", program_address=address, program_sha256="0", states={}, seconds={}, join_script=None)


@pytest.mark.parametrize("name", ["join_script", "runtime_script"])
def test_a_script_with_line_ends_of_windows_is_refused_before_each_machine_fails_to_start_it(name: str) -> None:
    program = {"program_address": "https://f.example.org/n", "program_sha256": "0", "states": {}, "seconds": {}}
    scripts = {"join_script": None, "runtime_script": None, name: "#!/bin/sh\r\necho joined\r\n"}
    with pytest.raises(NodeError, match="line ends of Windows"):
        user_data.first_boot("", **program, **scripts)  # type: ignore[arg-type]
    assert "joined" in user_data.first_boot("", **program, **{**scripts, name: "#!/bin/sh\necho 'joined\r'\n"})  # type: ignore[arg-type]
