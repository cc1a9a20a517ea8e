"""Editors complete and check stack files by a schema that agrees with the model: a file that it accepts can be relied on."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stacks import configuration
from stacks.new import SCHEMA_LINE

STACKS = Path(__file__).resolve().parents[2] / "stacks"
SCHEMA = json.loads((STACKS / "schema.json").read_text())
NODE = {"name": "a", "address": "192.0.2.1", "hostKey": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'E' * 43}"}
ARCHIVE = {"address": "https://example.org/kata-static.tar.xz", "sha256": "0" * 64}
PROVEN = {"proof": {"selector": "a=b", "image": "proof@sha256:0"}}


def refused(document: dict[str, Any]) -> list[str]:
    """The schema's objections to a stack file."""
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(document)]


def stack_file(**sections: Any) -> dict[str, Any]:
    """A stack file with these sections."""
    return {"config": {f"kata-nodes:{key}": value for key, value in sections.items()}}


def model_refuses(**sections: Any) -> bool:
    """Whether a preview would."""
    try:
        configuration.load(sections.get)
    except configuration.ConfigError:
        return True
    return False


def test_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", sorted(STACKS.glob("Pulumi.*.yaml")), ids=lambda file: file.name)
def test_every_stack_file_names_the_schema_and_keeps_it(file: Path) -> None:
    assert file.read_text().splitlines()[0] == SCHEMA_LINE
    assert refused(yaml.safe_load(file.read_text())) == []


def test_what_pulumi_writes_into_a_stack_file_is_accepted() -> None:
    document = stack_file(nodes={"local": {}}, sshPrivateKey={"secure": "v1:abc:def"}, kubeconfig={"secure": "v1:abc:def"})
    document |= {"encryptionsalt": "v1:abc", "environment": ["production"]}
    document["config"]["aws:region"] = "eu-central-1"
    assert refused(document) == []


def test_secret_in_clear_is_refused() -> None:
    assert refused(stack_file(nodes={"local": {}}, kubeconfig="apiVersion: v1"))


def test_section_that_does_not_exist_is_refused_by_both() -> None:
    document = stack_file(nodes={"local": {}}, verificaton={"timeoutSeconds": 60})
    assert refused(document)
    with pytest.raises(configuration.ConfigError, match=r"kata-nodes:verificaton: there is no such key\. Remove the key"):
        configuration.refuse_unknown(document["config"])
    configuration.refuse_unknown(["kata-nodes:verification", "kata-nodes:kubeconfig", "aws:region"])


BOTH_REFUSE: list[dict[str, Any]] = [
    {"kata": {"hypervisr": "qemu"}},  # misspelt
    {"kata": {"hypervisor": "xen"}},  # no such choice
    {"kata": {"nestedSandbox": "yes"}},  # wrong type
    {"kata": {"kernelParams": "a=b"}},
    {"kata": {"version": "3.32"}},
    {"kata": {"install": {**ARCHIVE, "sha256": "12"}}},
    {"kata": {"install": "remote"}},
    {"docker": {"version": 27}},
    {"docker": {"repository": {"address": "ftp://x"}}},
    {"nodes": {"local": {"count": 9}}},  # out of bounds
    {"nodes": {"existing": [{"name": "a", "address": "192.0.2.1"}]}},  # required key
    {"nodes": {"existing": [{**NODE, "port": 0}]}},
    *({"nodes": {"existing": [NODE], "rollout": {"batch": batch}}, "kubernetes": {}} for batch in (0, -1, "0%", "101%", "half")),
    {"nodes": {"existing": [NODE], "rollout": {"canary": 0}}, "kubernetes": {}},
    {"nodes": []},
    {"kubernetes": {"pod": {"memory": "2 GiB"}}},
    {"kubernetes": {"imageMirror": "https://mirror.example.org"}},
    {"kubernetes": {"overhead": {"memory": "160Mi"}}},
    {"verification": {"timeoutSeconds": 1}},
    {"verification": {"timeoutSeconds": "60"}},
]
BOTH_ACCEPT: list[dict[str, Any]] = [
    *({"nodes": {"existing": [NODE], "rollout": {"batch": batch}}, "kubernetes": {}} for batch in (1, 20, "20", "1%", "100%")),
    {},
    {"nodes": {"existing": [NODE]}, "docker": {"repository": {"suite": "trixie"}}, "kata": {"install": ARCHIVE}},
    {"nodes": {"local": {"count": 2}}, "docker": {"repository": "local"}, "kata": {"install": "local"}},
    {"nodes": None, "kubernetes": {"proof": None, **PROVEN}},
    {"kata": {"hypervisor": "firecracker", "nestedSandbox": False, "kernelParams": ["a=b"]}},
    {"kubernetes": {"cluster": "local", "overhead": {"memory": "160Mi", "cpu": "250m"}, "tolerations": ["kata:NoSchedule"]}},
]
MODEL_ALONE_REFUSES: list[dict[str, Any]] = [
    {"nodes": {"local": {}, "existing": [NODE]}},  # rules over several keys, and of the node program
    {"kata": {"hypervisor": "firecracker"}},
    {"kata": {"kernelParams": ['a="b']}},
    {"kubernetes": {"cluster": "local", **PROVEN}},
]


def of(sections: dict[str, Any]) -> dict[str, Any]:
    """With a source of nodes, where the example has none."""
    return {"nodes": {"local": {}}, **sections}


@pytest.mark.parametrize("sections", BOTH_REFUSE, ids=str)
def test_what_the_schema_refuses_the_model_refuses(sections: dict[str, Any]) -> None:
    assert refused(stack_file(**of(sections))) and model_refuses(**of(sections))


@pytest.mark.parametrize("sections", BOTH_ACCEPT, ids=str)
def test_what_the_model_accepts_the_schema_accepts(sections: dict[str, Any]) -> None:
    assert refused(stack_file(**of(sections))) == [] and not model_refuses(**of(sections))


@pytest.mark.parametrize("sections", MODEL_ALONE_REFUSES, ids=str)
def test_rules_over_several_keys_are_left_to_the_preview(sections: dict[str, Any]) -> None:
    assert refused(stack_file(**of(sections))) == [] and model_refuses(**of(sections))


def test_every_key_is_explained_to_who_types_it() -> None:
    def silent(name: str, definition: dict[str, Any]) -> list[str]:
        return [
            f"{name}.{key}"
            for key, value in definition["properties"].items()
            if not value.get("description") and "$ref" not in str(value)  # the model that it leads to has one
        ]

    assert [key for name, definition in SCHEMA["definitions"].items() for key in silent(name, definition)] == []
    assert [name for name, definition in SCHEMA["definitions"].items() if not definition.get("description")] == []
    config = SCHEMA["properties"]["config"]["properties"]["kata-nodes:kata"]
    assert config["default"]["version"] == "3.32.0"
