"""The record that pools give is what a node takes: no key more, and described alike in the schema of a component package."""

from typing import Optional

import pulumi
from pulumi.provider.experimental.analyzer import Analyzer

from components import KataNode, Node


class Probe(pulumi.ComponentResource):
    """Takes nothing but the record."""

    def __init__(self, name: str, args: Node, opts: Optional[pulumi.ResourceOptions] = None) -> None:
        super().__init__("kata-nodes:index:Probe", name, None, opts)


def test_a_node_takes_every_key_of_the_record_under_the_same_description() -> None:
    found = Analyzer("kata-nodes").analyze([Probe, KataNode])["component_definitions"]
    record, taken = found["Probe"].inputs, found["KataNode"].inputs
    assert "hostKey" in record and all(one.description for one in record.values())
    assert record.items() <= taken.items()
