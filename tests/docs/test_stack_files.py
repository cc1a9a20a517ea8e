"""What the documents tell a reader to write into a stack file is accepted by the model, beside what they leave out."""

import copy
from typing import Any

import pytest
import yaml

from stacks.configuration import ConfigError, load
from tests.docs.blocks import Block, all_blocks

NAMESPACE = "kata-nodes:"
NODE = {
    "name": "a",
    "address": "192.0.2.1",
    "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE",
}
CLUSTER = {"proof": {"selector": "a=b", "image": "registry.example/proof"}}
REST: list[dict[str, Any]] = [
    {"kubernetes": CLUSTER},
    {"nodes": {"existing": [NODE]}},
    {"nodes": {"existing": [NODE]}, "kubernetes": CLUSTER},
]
"""What a stack can have beside the sections of a block: a cluster, machines, or both."""
BLOCKS = [block for block in all_blocks() if block.language == "yaml" and NAMESPACE in block.text]


def filled(value: Any, key: str = "") -> Any:
    """What a reader makes of a block's ellipses."""
    if isinstance(value, dict):
        return {name: filled(below, name) for name, below in value.items()}
    if value == ["…"]:
        return [NODE]
    if isinstance(value, str) and value.endswith("@sha256:…"):
        return value.replace("…", "0" * 64)
    return "0" * 64 if key == "sha256" and value == "…" else value


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_stack_file_of_the_documents_is_accepted(block: Block) -> None:
    settings = {key.removeprefix(NAMESPACE): value for key, value in filled(yaml.safe_load(block.text)).items()}
    refusals = []
    for rest in REST:
        sections = {**copy.deepcopy(rest), **settings}
        if "kubernetes" in rest:
            sections["kubernetes"] = {**rest["kubernetes"], **settings.get("kubernetes", {})}
        try:
            load(sections.get)
            return
        except ConfigError as error:
            refusals.append(str(error))
    pytest.fail(f"{block.where}:\n" + "\n".join(refusals))
