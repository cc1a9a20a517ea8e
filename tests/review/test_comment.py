"""What a reviewer reads is true, complete or visibly cut, and no text of others becomes markup in it.

What would be lost if these failed: a change that nobody saw, a key in a public comment, or a comment that a fork wrote.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from review import comment, documents
from review.documents import Preview

HERE = Path(__file__).parent
PROJECT = "urn:pulumi:s::kata-nodes::"
LIMIT = 65536
"""GitHub's: "Body is too long (maximum is 65536 characters)"."""


def recorded(name: str) -> dict[str, Any]:
    """A document of the real engine, without its stack traces."""
    document: dict[str, Any] = json.loads((HERE / name).read_text())
    return document


def step(op: str, kind: str, name: str, old: Any = None, new: Any = None, *, parent: str = "", **fields: Any) -> dict[str, Any]:
    """One step as the engine writes it."""
    custom = not kind.startswith("kata-nodes:")
    states = {
        key: {"type": kind, "custom": custom, "inputs": inputs, "parent": f"{PROJECT}{parent}"}
        for key, inputs in (("oldState", old), ("newState", new))
        if inputs is not None
    }
    return {"op": op, "urn": f"{PROJECT}{kind}::{name}", **states, **fields}


def read(*steps: Any, errors: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> Preview:
    """The preview of those steps and diagnostics."""
    diagnostics = [{"severity": "error", "message": f"error: {error}\n"} for error in errors]
    diagnostics += [{"severity": "warning", "message": warning} for warning in warnings]
    return documents.read(json.dumps({"steps": steps, "diagnostics": diagnostics}))


def node(old: dict[str, Any], new: dict[str, Any], name: str = "a") -> dict[str, Any]:
    """The step of a node whose plan changes."""
    return step("same", "kata-nodes:index:KataNode", name, {"plan": old}, {"plan": new})


def child(
    verb: str, old: dict[str, Any], new: dict[str, Any], name: str = "a", *, op: str = "update", **fields: Any
) -> dict[str, Any]:
    """The step of one of a node's commands."""
    parent = f"kata-nodes:index:KataNode::{name}"
    return step(op, "command:remote:Command", f"{name}-{verb}", old, new, parent=parent, **fields)


def of_node(verb: str) -> dict[str, Any]:
    """What a step of one of a node's commands is about."""
    return {"kind": "command:remote:Command", "name": f"a-{verb}", "parent": "kata-nodes:index:KataNode::a"}


def converging(before: str = "#!/bin/sh\n", **steps: Any) -> dict[str, Any]:
    """Inputs of the command that takes the steps before the proof: a script, and the state of each step."""
    return {"stdin": before + json.dumps({"node": "a", **steps}, indent=1)}


def skeleton(text: str) -> str:
    """The text with every code span as a dot: what is left is Markdown."""
    return re.sub(r"`[^`\n]+`", "·", text)


def test_comment_of_a_real_pair_of_previews_is_the_golden_one() -> None:
    base, head = (documents.read(json.dumps(recorded(name))) for name in ("base.json", "head.json"))
    assert comment.pull_request("staging", head, base) == (HERE / "comment.md").read_text()


def test_stack_without_a_base_is_all_new() -> None:
    text = comment.pull_request("staging", documents.read(json.dumps(recorded("head.json"))), None)
    assert "node `staging-1`: **new**: Docker `28.5.2`, Kata `3.32.0`" in text
    assert "Nodes (1): **1 to create** · Cluster: **7 to create**" in text and "everything is new" in text


def test_pull_request_that_changes_nothing_says_so() -> None:
    same = documents.read(json.dumps(recorded("base.json")))
    text = comment.pull_request("staging", same, same)
    assert "Nodes (1): **no change** · Cluster: **no change** · Other resources: **no change**" in text
    assert "<details>" not in text and "`staging-1`" not in text


def test_resource_that_is_gone_from_the_head_is_removed() -> None:
    base = documents.read(json.dumps(recorded("base.json")))
    text = comment.pull_request("staging", Preview(), base)
    assert "node `staging-1`: **removed** from the stack" in text and "delete `RuntimeClass` `kata-qemu`" in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"dockerVersion": "27.5.1"}, {"dockerVersion": "28.5.2"}, "Docker `27.5.1` → `28.5.2`"),
        ({"kataRuntime": "go"}, {"kataRuntime": "rust"}, "Kata's runtime `go` → `rust`"),
        ({"nestedSandbox": True}, {"nestedSandbox": False}, "nested sandbox `true` → `false`"),
        ({"kernelParams": ["a=1"]}, {"kernelParams": ["a=1", "b"]}, "kernel_params gain `b`"),
        ({"kernelParams": ["a=1", "b"]}, {"kernelParams": ["a=1"]}, "kernel_params lose `b`"),
        ({"kernelParams": ["a=1"]}, {"kernelParams": ["a=2"]}, "kernel_params change `a=1` → `a=2`"),
        # A key may stand several times, all meant: then none is paired with another.
        ({"kernelParams": ["p=1", "p=2"]}, {"kernelParams": ["p=3"]}, "kernel_params gain `p=3`; kernel_params lose `p=1` `p=2`"),
        ({"kataVersion": "3.32.0"}, {"kataVersion": documents.UNKNOWN}, "Kata `3.32.0` → (known later)"),
        ({"kernelParams": ["a"]}, {"kernelParams": documents.UNKNOWN}, "kernel_params (known later)"),
        ({"kernelParams": ["a"]}, {"kernelParams": ["a", documents.UNKNOWN]}, "kernel_params (known later)"),
        ({"kernelParams": ["a"]}, {"kernelParams": documents.SECRET}, "kernel_params (secret)"),
        ({"kernelParams": [documents.SECRET]}, {"kernelParams": ["a"]}, "kernel_params (secret)"),
        ({"address": "192.0.2.1"}, {"address": "192.0.2.9"}, "address `192.0.2.1` → `192.0.2.9`"),
        ({"address": "a", "port": 22}, {"address": "a", "port": 2222}, "port `22` → `2222`"),
        ({"address": "a"}, {"address": "a", "bastionAddress": "jump"}, "address of the bastion (none) → `jump`"),
        ({"address": "a", "hostKey": "k"}, {"address": "a", "hostKey": "l"}, "**its host key** changes"),
        ({"address": "a", "bastionHostKey": "k"}, {"address": "a", "bastionHostKey": "l"}, "**the bastion's host key** changes"),
        # The base is of a version whose plans had no addresses.
        (
            {"kernelParams": ["a"]},
            {"kernelParams": ["b"], "address": "a", "hostKey": "k"},
            "kernel_params gain `b`; kernel_params lose `a`",
        ),
    ],
)
def test_plan_of_a_node_is_told_in_words(old: dict[str, Any], new: dict[str, Any], words: str) -> None:
    assert f"- node `a`: {words}\n" in comment.plan("s", read(node(old, new)))


def test_node_whose_machine_is_gone_is_not_said_to_be_proven_again() -> None:
    """A pull request that sets `gone: true` leaves its commands nothing to run, which read as a change of them."""
    proof = child("proof", {"create": "prove", "stdin": "{}"}, {"stdin": "{}"})
    gone = "- node `a`: **gone**: nothing is done on it any longer, and it vouches for nothing\n"
    assert gone in comment.plan("s", read(node({"node": "a"}, {"node": "a", "gone": True}), proof))
    both = {"node": "a", "gone": True, "dockerVersion": "27.5.1"}, {"node": "a", "gone": True, "dockerVersion": "28.5.2"}
    assert "Nodes (1): **no change**" in comment.plan("s", read(node(*both), proof))
    back = child("proof", {"stdin": "{}"}, {"create": "prove", "stdin": "{}"})
    words = "- node `a`: **no longer gone**: everything is done again; proven again\n"
    assert words in comment.plan("s", read(node({"node": "a", "gone": True}, {"node": "a"}), back))


@pytest.mark.parametrize(
    ("parameters", "words"), [(documents.UNKNOWN, "(known later)"), (documents.SECRET, "(secret)"), (["a"], "`a`")]
)
def test_a_new_node_says_of_parameters_that_cannot_be_shown_why(parameters: object, words: str) -> None:
    new = step("create", "kata-nodes:index:KataNode", "a", new={"plan": {"kernelParams": parameters}})
    assert f"kernel_params {words};" in comment.plan("s", read(new))


@pytest.mark.parametrize(("plan_name", "label"), [("b", "b"), (None, "pool-b"), (documents.UNKNOWN, "pool-b"), (7, "pool-b")])
def test_node_has_the_name_of_its_stacks_file_and_not_that_of_its_resource(plan_name: object, label: str) -> None:
    old, new = ({"node": plan_name, "dockerVersion": version} for version in ("27.5.1", "28.5.2"))
    assert f"- node `{label}`: Docker `27.5.1` → `28.5.2`\n" in comment.plan("s", read(node(old, new, "pool-b")))
    removed = step("delete", "kata-nodes:index:KataNode", "pool-b", {"plan": old})
    assert f"- node `{label}`: **removed** from the stack\n" in comment.plan("s", read(removed))


def test_what_the_plan_does_not_show_is_named_by_its_key_and_never_by_its_value() -> None:
    plan = {"dockerVersion": "27.5.1"}
    old, new = (converging(docker={"repository": {"address": at}, "version": "27.5.1"}) for at in ("mirror-1", "mirror-2"))
    text = comment.plan("s", read(node(plan, plan), child("converge", old, new), child("proof", {"stdin": "1"}, {"stdin": "2"})))
    assert "- node `a`: `repository` of its `docker` step changes; proven again\n" in text
    assert "mirror" not in text


@pytest.mark.parametrize("before", ["", "#!/bin/sh\nhold() {\n    :\n}\n", "#!/bin/sh\n{\nread -r password\n}\nPASSWORD\n"])
def test_each_step_whose_settings_change_is_named_with_them(before: str) -> None:
    old, new = (
        converging(before, docker={"repository": at, "version": "1"}, kata={"configPath": at, "kernelParams": [at]}, program=at)
        for at in ("1", "2")
    )
    words = "`repository` of its `docker` step changes; `configPath` of its `kata` step changes"
    assert f"- node `a`: {words}\n" in comment.plan("s", read(node({}, {}), child("converge", old, new)))


@pytest.mark.parametrize("other", [documents.UNKNOWN, "[secret]", '{"docker": 7}', "[]", ""])
def test_states_that_cannot_be_compared_are_no_change_of_a_step(other: str) -> None:
    pair = (converging(docker={"repository": "1"}), {"stdin": other})
    assert "- node `a`: its commands change\n" in comment.plan("s", read(node({}, {}), child("converge", *pair)))


def test_new_program_and_another_machine_are_told_apart() -> None:
    upload = child("upload", {"triggers": ["key", "1"]}, {"triggers": ["key", "2"]})
    assert "node `a`: the node program is renewed\n" in comment.plan("s", read(node({}, {}), upload))
    user = child("upload", {"triggers": ["key", "root", "1"]}, {"triggers": ["key", "admin", "1"]})
    assert "node `a`: its commands change\n" in comment.plan("s", read(node({}, {}), user))
    proof = child("proof", {"stdin": "1", "triggers": ["key", "1"]}, {"stdin": "2", "triggers": ["key", "2"]})
    assert "node `a`: proven again\n" in comment.plan("s", read(node({}, {}), proof))
    docker = child("converge", {"triggers": ["key", "sum"]}, {"triggers": ["key", "other"]})
    assert "node `a`: its commands change\n" in comment.plan("s", read(node({}, {}), docker))
    machine = child("converge", {"triggers": ["key", "sum"]}, {"triggers": ["other", "sum"]})
    words = "node `a`: **another machine**: everything is done and proven again\n"
    assert words in comment.plan("s", read(node({}, {}), upload, machine))


def test_node_whose_commands_alone_change_is_told_as_a_node_in_the_plan_of_a_deployment() -> None:
    """The engine writes no step of a component that stays the same, so that a plan has the commands of such a node alone."""
    component = "kata-nodes:index:ExistingNodes$kata-nodes:index:KataNode"

    def of(name: str, verb: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        kind = "CopyToRemote" if verb == "upload" else "Command"
        return step("update", f"command:remote:{kind}", f"{name}-{verb}", old, new, parent=f"{component}::{name}")

    steps = [
        each
        for name in ("nodes-a", "nodes-b")
        for each in (
            of(name, "upload", {"triggers": ["key", "1"]}, {"triggers": ["key", "2"]}),
            of(name, "converge", *(converging(node=name[-1], program=program) for program in "12")),
            of(name, "proof", {"create": "1"}, {"create": "2"}),
        )
    ]
    text = comment.plan("s", read(*steps))
    assert "- nodes `a`, `b`: the node program is renewed; proven again\n" in text
    assert "Nodes (2): **2 to change** · Cluster: **no change** · Other resources: **no change**" in text
    # With a sudo password the state is secret, and the name of the resource is all that there is.
    hidden = of("nodes-a", "converge", {"stdin": "[secret]", "create": "1"}, {"stdin": "[secret]", "create": "2"})
    assert "- node `nodes-a`: its commands change\n" in comment.plan("s", read(hidden))


@pytest.mark.parametrize(
    ("kind", "name", "key", "nodes"),
    [
        ("aws:ec2/instance:Instance", "pool-0-instance", "ami", "node `pool-0`"),
        ("aws:ec2/keyPair:KeyPair", "pool-login", "publicKey", "nodes `pool-0`, `pool-1`"),
    ],
)
def test_another_machine_on_aws_is_told_where_nobody_knows_its_identity(kind: str, name: str, key: str, nodes: str) -> None:
    """The comment on a pull request with another image said that it changes the instance, and nothing of the node."""

    pools = "kata-nodes:index:AwsNodes::"

    def pool(value: str) -> Preview:
        state = {
            "type": kind,
            "custom": True,
            "inputs": {key: value},
            "parent": f"{PROJECT}{pools}pool",
            "replaceOnChanges": [key],
        }
        places = {"pool-0": f"{pools}pool", "pool-1": f"{pools}pool", "other-0": f"{pools}other", "own": "own"}
        steps = [step("create", "kata-nodes:index:KataNode", node, None, {}, parent=parent) for node, parent in places.items()]
        return read({"op": "create", "urn": f"{PROJECT}{kind}::{name}", "newState": state}, *steps)

    text = comment.pull_request("s", pool("2"), pool("1"))
    assert f"- {nodes}: **another machine**: everything is done and proven again\n" in text
    assert f"- replace `{kind}` `{name}`: `{key}`" in text and text.count("another machine") == 1
    assert "another machine" not in comment.pull_request("s", pool("1"), pool("1"))


def test_another_machine_is_told_although_both_identities_read_secret() -> None:
    same, noted = {"triggers": ["[secret]", "sum"]}, {"triggers[0]": {"kind": "update-replace", "inputDiff": True}}
    words = "node `a`: **another machine**"
    assert words in comment.plan("s", read(node({}, {}), child("converge", same, same, detailedDiff=noted)))
    docker = {**same, "triggers": ["[secret]", "other"]}
    noted = {"triggers[1]": {"kind": "update-replace", "inputDiff": True}}
    assert words not in comment.plan("s", read(node({}, {}), child("converge", same, docker, detailedDiff=noted)))
    # A mirror's address can be a secret, and with it all that is made of Docker's settings.
    hidden = {**same, "triggers": ["key", "[secret]"]}
    assert words not in comment.plan("s", read(node({}, {}), child("converge", hidden, hidden, detailedDiff=noted)))


def test_node_that_an_earlier_version_made_gets_the_program_of_this_one_and_nothing_else_is_said_of_it() -> None:
    """Its seven resources are four now, of which those that come and go have all their inputs changed."""
    whole = {"connection": "[secret]", "triggers": ["key"], "stdin": json.dumps({"version": "27.5.1"})}
    earlier = [step("delete", **of_node(verb), old=whole) for verb in ("program", "preflight", "docker", "kata")]
    now = [
        child(
            "system",
            {"connection": "[secret]", "delete": "--remove a"},
            {"connection": "[secret]", "delete": "--remove a-system"},
        ),
        child(
            "upload", {**whole, "triggers": ["key", "1"]}, {**whole, "triggers": ["key", documents.UNKNOWN, "2"]}, op="replace"
        ),
        step("create", **of_node("converge"), new={**whole, "triggers": ["key", "sum"]}),
        child("proof", {**whole, "triggers": ["key", "1"]}, {**whole, "triggers": ["key", documents.UNKNOWN, "2"]}, op="replace"),
    ]
    plan = {"address": "192.0.2.1"}
    assert "- node `a`: the node program is renewed; proven again\n" in comment.plan("s", read(node(plan, plan), *now, *earlier))


def test_changed_login_is_told_although_both_read_secret() -> None:
    same = {"connection": "[secret]"}
    noted = {"connection.privateKey": {"kind": "update", "inputDiff": True}}
    for which in ("converge", "upload"):
        changed = child(which, {**same, "triggers": ["key", "1"]}, {**same, "triggers": ["key", "1"]}, detailedDiff=noted)
        assert "node `a`: its connection changes\n" in comment.plan("s", read(node({}, {}), changed))


def test_group_says_what_machines_become_that_start_from_then_on() -> None:
    """The plan of another Kata said only that the user data of a launch template changes, and of nodes that none does."""
    kind, template = "kata-nodes:index:AwsNodeGroup", "aws:ec2/launchTemplate:LaunchTemplate"
    old = {
        "dockerVersion": "27.5.1",
        "kataVersion": "3.31.0",
        "kernelParams": ["a=1"],
        "proofSeconds": 300,
        "handler": "kata-qemu",
    }
    new = {**old, "kataVersion": "3.32.0", "kernelParams": ["a=2"], "proofSeconds": 600}
    user_data = {"userData": {"kind": "update"}}
    hidden = step("update", template, "aws-template", {"userData": "[secret]"}, {"userData": "[secret]"}, detailedDiff=user_data)
    text = comment.plan("s", read(step("same", kind, "aws", {"plan": old}, {"plan": new}), hidden))
    assert "Nodes (0): **no change** · Groups (1): **1 to change** · Cluster: **no change** · Other" in text
    change = "Kata `3.31.0` → `3.32.0`; `proofSeconds` `300` → `600`; kernel_params change `a=1` → `a=2`"
    assert f"- group `aws`: {change}; for machines that start from then on\n" in text and f"`{template}`" in text
    moved = ({**old, "programAddress": f"https://{host}/n.pyz"} for host in ("ours.example", "theirs.example"))
    text = comment.plan("s", read(step("same", kind, "aws", *({"plan": plan} for plan in moved))))
    assert "`programAddress` `https://ours.example/n.pyz` → `https://theirs.example/n.pyz`; for machines" in text
    same = comment.plan("s", read(step("same", kind, "aws", {"plan": old}, {"plan": old})))
    assert "Groups (1): **no change**" in same and "- group" not in same
    created = comment.plan("s", read(step("create", kind, "aws", None, {"plan": old})))
    assert "- group `aws`: **new**: Docker `27.5.1`, Kata `3.31.0`" in created and "each machine is proven" in created
    gone = comment.plan("s", read(step("delete", kind, "aws", {"plan": old}, None)))
    assert "Groups (0): **1 to delete**" in gone and "- group `aws`: **removed** from the stack" in gone


def test_nodes_with_the_same_change_are_one_line() -> None:
    old, new = {"dockerVersion": "27.5.1"}, {"dockerVersion": "28.5.2"}
    text = comment.plan("s", read(*(node(old, new, f"n-{number}") for number in range(100))))
    assert "Nodes (100): **100 to change**" in text
    assert text.count("27.5.1") == 1 and "nodes `n-0`, `n-1`" in text and "`n-19` and 80 more: Docker" in text


def test_object_of_the_cluster_shows_what_changes_and_only_plain_values() -> None:
    kind = "kubernetes:core/v1:Namespace"
    old = {"metadata": {"name": "sandboxes", "labels": {"enforce": "baseline"}, "resourceVersion": "1"}, "spec": {"token": "one"}}
    new = {
        "metadata": {"name": "sandboxes", "labels": {"enforce": "privileged"}, "resourceVersion": "2"},
        "spec": {"token": "two"},
    }
    text = comment.plan("s", read(step("update", kind, "x", old, new)))
    assert "- change `Namespace` `sandboxes`: `metadata.labels.enforce` `baseline` → `privileged`; `spec.token`\n" in text


def test_other_nodes_to_prove_are_told_although_no_preview_has_their_jobs() -> None:
    """A pull request that proves other nodes of a cluster, or another sandbox, read as no change."""
    proof = {"kind": "kata-nodes:index:KataProof", "name": "proof"}
    plans = ({"nodeSelector": "a=b", "sandbox": "rootless"}, {"nodeSelector": "c=d", "sandbox": "bubblewrap"})
    base, head = (read(step("create", **proof, new={"plan": plan})) for plan in plans)
    text = comment.pull_request("s", head, base)
    assert "Cluster: **1 to change**" in text
    words = "`nodeSelector` `a=b` → `c=d`; `sandbox` `rootless` → `bubblewrap`"
    assert f"- change the proof of the cluster's nodes `proof`: {words}\n" in text
    # Its objects show a new one, and what an earlier version made has no plan.
    for other in (None, read(step("create", **proof, new={})), head):
        assert "the proof of the cluster" not in comment.pull_request("s", head, other)


def test_another_region_or_cluster_is_told_although_no_input_of_what_moves_there_changes() -> None:
    provider = {"kind": "pulumi:providers:aws", "name": "aws-account"}
    base, head = (read(step("create", **provider, new={"region": region})) for region in ("eu-central-1", "eu-west-1"))
    assert "- change `pulumi:providers:aws` `aws-account`: `region`\n" in comment.pull_request("s", head, base)
    assert "pulumi:providers" not in comment.pull_request("s", head, None)
    for later in (documents.UNKNOWN, documents.SECRET):
        old, new = ({"kubeconfig": kubeconfig, "clusterIdentifier": "https://c"} for kubeconfig in (documents.SECRET, later))
        noted = {"kubeconfig": {"kind": "update"}}
        changed = step("update", "pulumi:providers:kubernetes", "cluster", old, new, detailedDiff=noted)
        assert "Other resources: **no change**" in comment.plan("s", read(changed))


def test_type_of_a_resource_is_shown_that_is_named_like_a_key() -> None:
    text = comment.plan("s", read(step("create", "tls:index/privateKey:PrivateKey", "host-key", new={"algorithm": "ED25519"})))
    assert "- create `tls:index/privateKey:PrivateKey` `host-key`\n" in text
    assert "`x:token:[hidden]`" in comment.plan("s", read(step("create", f"x:token:ghp_{'a1' * 18}", "x", new={})))


def test_replacement_is_one_line_and_called_one() -> None:
    kind, old, new = "kubernetes:node.k8s.io/v1:RuntimeClass", {"handler": "a"}, {"handler": "b"}
    ops = ("create-replacement", "replace", "delete-replaced")
    text = comment.plan("s", read(*(step(op, kind, "c", old, new) for op in ops)))
    assert "Cluster: **1 to replace**" in text and text.count("`RuntimeClass`") == 1
    # Without a state the engine says nothing of it; the resource itself does.
    state = {"op": "create", "urn": f"{PROJECT}{kind}::c"}
    before, after = (
        read({**state, "newState": {"type": kind, "custom": True, "inputs": values, "replaceOnChanges": ["handler"]}})
        for values in (old, new)
    )
    assert "- replace `RuntimeClass` `c`: `handler` `a` → `b`" in comment.pull_request("s", after, before)


def test_refusal_comes_first_with_the_meaning_of_its_code() -> None:
    sentence = "Docker 29.5.0 does not work. Use another. [docker-kata-incompatible]"
    noise = "an unhandled error occurred: program exited with non-zero exit code: 1"
    text = comment.pull_request("s", read(errors=("something else", noise, sentence), warnings=("careful",)), None)
    lines = [line for line in text.splitlines() if line]
    assert lines[2].startswith("**Refused")
    assert lines[3:6] == [
        f"- `{sentence}`",
        "- `docker-kata-incompatible`: The pair of Docker and Kata is known to break.",
        "- `something else`",
    ]
    assert "unhandled" not in text
    assert "`careful`" in text


def test_base_that_cannot_be_previewed_is_said() -> None:
    text = comment.pull_request("s", read(node({}, {"dockerVersion": "27.5.1"})), read(errors=("broken",)))
    assert "The base itself cannot be previewed" in text and "broken" not in text


PLANTED = "Pl4ntedS3cretPl4ntedS3cretPl4ntedS3cret"


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nPl4nted\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\nPl4nted and cut off",
        "password=Pl4nted",
        "DB_PASSWORD: 'Pl4nted'",
        '"client-key-data": "Pl4nted"'.replace("client-key-data", "private_key"),
        "https://user:Pl4nted@example.org/",
        "AKIA" + "PL4NTEDPL4NTED00",
        "gh" + "p_Pl4ntedPl4ntedPl4ntedPl4nted",
        "pul-" + "0123456789abcdef" * 2 + "01234567",
        "eyJhbGciOiJIUzI1NiJ9.Pl4ntedPl4nted.x",
        "abcdef.pl4ntedpl4nted00",
        "gl" + "pat-Pl4nted_Pl4nted_Pl4n",
        "xo" + "xb-Pl4ntedPl4nted",
        "hv" + "s.Pl4ntedPl4ntedPl4ntedPl4n",
        "AGE-SECRET-KEY-1" + "PL4NTEDPL4NTEDPL4NTED",
        "Authorization: Basic Pl4ntedPl4nted",
        "helm registry login --password 'Pl4nted'",
        "kubectl --token Pl4nted get nodes",
        PLANTED,
    ],
)
def test_what_looks_like_a_key_is_shown_nowhere(secret: str) -> None:
    kinds = ("kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Secret", "kubernetes:core/v1:Namespace", "aws:ec2:Instance")
    steps = [step("update", kind, "x", {"data": {"v": "old"}}, {"data": {"v": secret}}) for kind in kinds]
    steps.append(node({"kernelParams": [secret]}, {"kernelParams": [], "dockerVersion": secret}))
    steps.append(
        child("converge", {**converging(kata={"x": 1}), "create": "a"}, {**converging(kata={"x": secret}), "create": secret})
    )
    steps.append(child("proof", {"stdin": '{"x": 1}'}, {"stdin": json.dumps({"x": secret})}))
    pages = comment.plan("s", read(*steps, warnings=(f"warned of {secret} here",)))
    pages += comment.pull_request("s", read(errors=(f"failed with {secret} here",)), None)
    assert "pl4nted" not in pages.lower() and secret not in pages


def test_command_that_a_message_tells_a_person_to_type_stays_readable() -> None:
    command = "pulumi config set --secret kata-nodes:kubeconfig <value>"
    assert command in comment.pull_request("s", read(errors=(f"please set a value using the command `{command}`",)), None)


def test_secret_that_the_engine_marks_is_shown_nowhere() -> None:
    marked = {documents.SIGNATURE: documents.SIGNED_SECRET, "plaintext": '"x9"', "ciphertext": "x9"}
    for value in (marked, "[secret]"):
        kind = "kubernetes:core/v1:Namespace"
        text = comment.plan("s", read(step("update", kind, "x", {"spec": {"a": "1"}}, {"spec": {"a": value}})))
        assert "- change `Namespace` `x`: `spec.a`\n" in text


HOSTILE = "@octocat [here](https://evil.example) <img src=x onerror=y> **b** `x` ` --> </details> #1 \u202e a\n\n# head\n- row"


def everywhere(text: str) -> str:
    """All pages with `text` in every place that somebody else can write to."""
    kinds = ("kubernetes:core/v1:Namespace", "aws:ec2:Instance")
    steps = [
        step("update", f"{kind}{text}", text, {text: text, "metadata": {"name": text, "namespace": text}}, {text: "1"})
        for kind in kinds
    ]
    steps += [node({"dockerVersion": text, text: text}, {"dockerVersion": "1", "kernelParams": [text]}, f"n{text}")]
    steps += [node({}, {"kernelParams": [text]}, f"m{text}")]
    whole = read(*steps, warnings=(text,))
    preview = json.dumps({"madeUp": [text], "preview": {"steps": steps, "diagnostics": []}})
    pages = [comment.plan("s", whole), comment.drift("s", whole), comment.pull_request("s", documents.read(preview), Preview())]
    return "\n".join([*pages, comment.pull_request("s", read(errors=(text,)), None)])


def test_hostile_names_and_values_stay_letters() -> None:
    text = everywhere(HOSTILE)
    for part in ("octocat", "evil.example", "img", "onerror", "head"):
        assert part in text and part not in skeleton(text)
    assert skeleton(text).count("</details>") == skeleton(text).count("<details>") > 0
    assert "\u202e" not in text


@given(st.text(min_size=1, max_size=60))
def test_no_text_at_all_can_leave_its_code_span(text: str) -> None:
    # Something that is always shown, so that both have the same spans; no letters, which could make it look like a key.
    page = skeleton(everywhere(f"x{text}x"))
    assert not re.sub(r"[^\x00-\x7f]", "", page).count("`")
    allowed = set(skeleton(everywhere("xx")))
    assert set(page) <= allowed, set(page) - allowed


@pytest.mark.parametrize("name", ["", "a b", "A", "-a", "a-->", "a\n", "x" * 43])
def test_stack_whose_name_could_hold_markup_gets_no_page(name: str) -> None:
    with pytest.raises(ValueError, match="stack's name"):
        comment.pull_request(name, Preview(), None)


@pytest.mark.parametrize(
    "preview",
    [
        pytest.param(
            lambda: read(
                *(node({"dockerVersion": "1"}, {"dockerVersion": f"2.{number}"}, f"n-{number}") for number in range(3000))
            ),
            id="nodes",
        ),
        pytest.param(
            lambda: read(
                *(step("create", "kubernetes:core/v1:Namespace", f"ü{number}" * 20, None, {}) for number in range(3000))
            ),
            id="objects",
        ),
        pytest.param(lambda: read(errors=tuple(f"{number} " + "ü" * 5000 for number in range(200))), id="refusals"),
        pytest.param(lambda: read(warnings=tuple(f"{number} " + "w" * 490 for number in range(3000))), id="warnings"),
    ],
)
def test_page_keeps_below_the_limit_and_says_what_was_cut(preview: Callable[[], Preview]) -> None:
    text = comment.drift("s", preview())
    assert len(text.encode()) < LIMIT
    cut = re.search(r"\*\*(\d+) more lines were cut\*\*", text)
    assert cut and int(cut[1]) > 0
    assert text.count("<details>") == text.count("</details>")
    assert text.endswith("</sub>\n")


def test_one_change_that_is_too_long_is_shortened_and_said() -> None:
    text = comment.plan("s", read(node({}, {"kernelParams": [f"p{number}" for number in range(90_000)]})))
    assert "kernel_params gain `p0` `p1`" in text and "`p19` and 89980 more" in text
    text = comment.drift("s", read(errors=("\n".join(f"{number} " + "u" * 900 for number in range(9_000)),)))
    assert "- `0 uuu" in text and "…`\n" in text and len(text) < LIMIT


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["token", "eyJ-", "://", "-----BEGIN ", "abcdef.", "a=", "Aa0", "token = ", "[a]", " --token ", "authorization "]
)
def test_text_made_to_be_slow_is_not(unit: str) -> None:
    long = unit * (30_000 // len(unit))
    comment.plan(
        "s", read(*(step("update", "kubernetes:a:B", "x", {"v": str(n)}, {"v": long}) for n in range(20)), errors=(long,))
    )
    comment.plan("s", read(node({long: "1"}, {long: long}), warnings=(long,)))


def test_who_approves_a_plan_sees_all_of_it_as_far_as_a_summary_can_hold_it() -> None:
    steps = [step("create", "kubernetes:core/v1:Namespace", f"name-{number}" * 5, None, {}) for number in range(3000)]
    assert comment.plan("s", read(*steps)).count("\n- create") == 3000
    text = comment.plan(
        "s", read(*(step("create", "kubernetes:a:B", f"{number}-" + "n" * 290, None, {}) for number in range(4500)))
    )
    assert len(text.encode()) < 1 << 20 and "more lines were cut**" in text and "the upload `plan`" in text


@pytest.mark.parametrize(
    ("page", "whole"),
    [
        (lambda preview: comment.pull_request("s", preview, None), "the upload `preview-s`"),
        (lambda preview: comment.drift("s", preview), "`kata-nodes drift s`"),
    ],
)
def test_page_that_was_cut_says_where_the_whole_is(page: Callable[[Preview], str], whole: str) -> None:
    steps = [step("create", "kubernetes:core/v1:Namespace", f"name-{number}" * 5, None, {}) for number in range(3000)]
    assert whole in page(read(*steps)).partition("more lines were cut**")[2]


@pytest.mark.timeout(30)
def test_document_of_very_many_resources_is_not_slow() -> None:
    nodes = [node({"dockerVersion": "1"}, {"dockerVersion": "2"}, f"n-{number}") for number in range(8000)]
    objects = [step("create", "kubernetes:core/v1:Namespace", f"n{number}", None, {}) for number in range(12000)]
    assert "Nodes (8000)" in comment.drift("s", read(*nodes, *objects))


def test_every_line_that_was_cut_is_counted() -> None:
    steps = [step("create", "kubernetes:core/v1:Namespace", f"name-{number}" * 5, None, {}) for number in range(3000)]
    text = comment.drift("s", read(*steps))
    cut = re.search(r"\*\*(\d+) more lines were cut\*\*", text)
    assert cut and int(cut[1]) + text.count("\n- create") == 3000
    assert "Cluster: **3000 to create**" in text


SIGNED = {documents.SIGNATURE: documents.SIGNED_SECRET}
"""All inputs of a resource, where a fork calls them secret."""


@pytest.mark.parametrize(
    "document",
    [
        "", "null", "[]", "7", '"x"', "{", "[" * 200_000, '{"steps": ' + '{"a":' * 50_000,
        '{"steps": 7, "diagnostics": 7, "madeUp": 7}',
        '{"steps": [7, null, [], {}, {"urn": 7}, {"urn": "a::b", "newState": {}}], "diagnostics": [7, {"severity": 7}]}',
        '{"steps": [{"op": 7, "urn": "a::b::c::d", "newState": {"inputs": [], "parent": 1, "replaceOnChanges": [1]}}]}',
        json.dumps({"steps": [step("create", "kata-nodes:index:KataNode", "a", None, {"plan": [1]})]}),
        json.dumps({"steps": [step("update", "kubernetes:a:B", "a", {"metadata": 1}, {"metadata": {"name": {}}})]}),
        json.dumps({"steps": [node({"kernelParams": 1}, {"kernelParams": [[]]})]}),
        json.dumps({"steps": [step("update", "aws:a:B", "a", SIGNED, {"a": 1})]}),
        json.dumps({"steps": [step("delete", "kata-nodes:index:KataNode", "a", SIGNED, None)]}),
    ],
    ids=range(16),
)  # fmt: skip
def test_document_of_any_shape_makes_a_page(document: str) -> None:
    parsed = documents.read(document)
    for text in (comment.plan("s", parsed), comment.pull_request("s", parsed, parsed), comment.drift("s", parsed)):
        assert text.startswith("<!-- kata-nodes ")


@pytest.mark.parametrize("text", ["", "7", '{"nodes": {}}', "[" * 100_000])
def test_measurements_of_another_form_are_refused_and_not_taken_for_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "measured").write_text(text)
    with pytest.raises(ValueError):
        documents.measured(tmp_path / "measured")


def test_too_large_a_document_is_not_read() -> None:
    assert "larger than 10" in comment.plan("s", documents.read('{"steps": []}', 10))


def test_preview_of_a_thousand_nodes_is_read() -> None:
    """Their pull request had a red check, although a deployment does what it holds."""
    inputs = {"stdin": "x" * 10_000}
    head = read(*(child(verb, inputs, inputs, f"n{number}") for number in range(1_000) for verb in ("system", "proof")))
    assert head.errors == () and len(head.resources) == 2_000


def test_plan_of_very_many_nodes_is_read_which_is_done_once_it_is_approved(tmp_path: Path) -> None:
    """Beyond the bound of what a fork uploads, the summary said that the preview failed and nothing was planned."""
    (tmp_path / "document").write_text('{"steps": []}' + " " * documents.MAX_DOCUMENT)
    assert "Refused" not in comment.plan("s", documents.of(tmp_path / "document"))
