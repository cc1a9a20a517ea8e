"""The record that pools give is what a node takes: no key more, and described alike in the schema of a component package."""

from typing import Optional

import pulumi
import pytest
from pulumi.provider.experimental.analyzer import Analyzer

from components import ExistingNodes, KataNode, LocalNodes, Node
from components.nodes.kata_node import result_of
from nodekit.errors import NodeError


class Probe(pulumi.ComponentResource):
    """Takes nothing but the record."""

    def __init__(self, name: str, args: Node, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:Probe", name, None, opts)


def test_a_node_takes_every_key_of_the_record_under_the_same_description() -> None:
    found = Analyzer("kata-nodes").analyze([Probe, KataNode])["component_definitions"]
    record, taken = found["Probe"].inputs, found["KataNode"].inputs
    assert "hostKey" in record and all(one.description for one in record.values())
    assert record.items() <= taken.items()


def test_pools_of_a_component_package_give_the_record_and_say_what_they_take() -> None:
    found = Analyzer("kata-nodes").analyze([ExistingNodes, LocalNodes])
    for pool in found["component_definitions"].values():
        assert pool.outputs["nodes"].items and pool.outputs["nodes"].items.ref == "#/types/kata-nodes:index:Node"
        assert all(one.description for one in pool.inputs.values())
    assert all(one.description for one in found["type_definitions"]["ExistingHost"].properties.values())


@pytest.mark.parametrize("text", ["", "done", "[]", '{"verb": "kata", "version": "1"}', '{"version": "1"}'])
def test_what_a_resource_recorded_is_no_result_unless_it_is_the_verb_s_own(text: str) -> None:
    with pytest.raises(NodeError) as caught:
        result_of(text, "docker", "n-docker")
    assert caught.value.code == "result-missing" and "n-docker" in caught.value.remedy


def test_the_verb_s_own_result_is_taken() -> None:
    assert result_of('{"verb": "docker", "version": "27.5.1"}', "docker", "n-docker")["version"] == "27.5.1"
