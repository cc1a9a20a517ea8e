"""The plan of stack `prod` as a reviewer reads it, by the recording engine, since CI has no AWS plugin and no AWS.

`python -m tests.stacks.prod_plan` writes it again beside this file; `make generate` does so too.
"""

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from aws import preflight as aws_preflight
from delivery import bundle
from tests.components.recorder import Recorded
from tests.components.test_wiring import KUBECONFIG, stack

FILE = Path(__file__).with_name("prod-plan.yaml")
STACK = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.prod.yaml"

UNKNOWN = "(known after apply)"


def readable(value: Any, key: str = "") -> Any:
    """An input as the plan shows it: a node's desired state as a document, a script by its first comment, no other long text."""
    if isinstance(value, dict):
        return {name: readable(inner, name) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [readable(item) for item in value]
    if not isinstance(value, str | int | float | bool | None):
        return UNKNOWN
    if not isinstance(value, str):
        return value
    before, mark, rest = f"\n{value}".rpartition("\n{\n") if key == "stdin" else ("", "", "")
    if mark:
        state = readable(json.loads(f"{{{rest}"))
        return {"script": readable(before.lstrip("\n")), "state": state} if before else state
    if value.startswith("#!"):
        return f"(script) {value.splitlines()[1].lstrip('# ')}"
    packed = bundle.cached()
    place = " ".join(map(str, packed.bootstrap))
    text = value.replace(place, "BOOTSTRAP").replace(packed.digest, "PROGRAM").replace(packed.digest[:12], "PROGRAM")
    return "DIGEST" if key == "digest" else text


def resource(recorded: Recorded) -> dict[str, Any]:
    """One planned resource, without its options' defaults."""
    inputs = {key: readable(value, key) for key, value in sorted(recorded.inputs.items()) if value is not None}
    if "triggers" in inputs and "stdin" in inputs:
        own = hashlib.sha256(recorded.inputs["stdin"].encode()).hexdigest()[:12]  # which has the digest of the program in it
        inputs["triggers"] = ["SUM" if trigger == own else trigger for trigger in inputs["triggers"]]
    for key in filter(recorded.is_secret, inputs):
        # The reader must see that a secret is not known yet: what is known contacts the cluster in a preview.
        inputs[key] = "(secret, known after apply)" if inputs[key] == UNKNOWN else "(secret)"
    request = recorded.request
    options = {
        "parent": recorded.parent,
        "replaceOnChanges": sorted(request.replaceOnChanges),
        "deletedWith": request.deletedWith.rsplit("::", 1)[-1],
        "protect": bool(request.protect),
    }
    return {"type": recorded.type, **{key: value for key, value in options.items() if value}, "inputs": inputs}


def plan() -> str:
    """The plan as YAML, resources in name order."""
    config = {key.removeprefix("kata-nodes:"): value for key, value in yaml.safe_load(STACK.read_text())["config"].items()}
    with mock.patch.object(aws_preflight, "has_credentials", lambda: False):
        recorded = stack(config, preview=True, secrets={"kubeconfig": KUBECONFIG})
    resources = {
        name: resource(child) for name, child in sorted(recorded.by_name.items()) if not child.type.startswith("pulumi:pulumi:")
    }
    head = "# What a preview of stack prod plans. Written by make generate, compared by a test: a review sees what changes.\n"
    return head + yaml.safe_dump(resources, sort_keys=False, width=130, allow_unicode=True)


if __name__ == "__main__":
    FILE.write_text(plan(), encoding="utf-8")
