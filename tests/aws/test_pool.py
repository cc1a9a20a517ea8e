"""The whole program with a pool on AWS against a recording engine, which stands for the AWS plugin.

What would be lost if these failed: a first connection that is pinned already, a metadata service that no guest reaches, SSH for
named networks alone, machines that join unproven.
"""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.output import UNKNOWN
from pulumi.provider.experimental.analyzer import Analyzer

from aws import preflight as aws_preflight
from aws import preflight_rules as rules
from aws import user_data
from clusterkit import pod_proof
from clusterkit.api.cluster_reader import Situation
from components import package
from components.aws.node_group import AwsNodeGroup
from components.aws.nodes import AwsNodes
from components.cluster import kata_proof
from delivery import bundle
from delivery.scripts import sent
from tests.components.recorder import Recorder, desired, inputs_of, run
from tests.components.test_wiring import evidence_of, stack
from tests.package.programs import HOST_KEY, PROGRAMS, PROVEN

CHECKOUT = Path(__file__).resolve().parents[2]
MACHINES: dict[str, Any] = {
    "region": "eu-central-1",
    "instanceType": "m8i.4xlarge",
    "nestedVirtualization": True,
    "image": "ami-0123456789abcdef0",
    "vpc": "vpc-1",
    "subnets": ["subnet-1", "subnet-2"],
    "securityGroups": ["sg-9"],
    "rootVolumeGiB": 80,
    "sessionManager": True,
    "tags": {"team": "sandboxes"},
}
INSTANCES: dict[str, Any] = {
    "nodes": {"aws": {**MACHINES, "instances": {"count": 3, "sshFrom": ["203.0.113.0/24", "2001:db8::/32"]}}},
    "kata": {"kernelParams": ["sysctl.user.max_user_namespaces=9000"]},
}
JOIN = "#!/bin/sh\nkubeadm join --token 'TOKEN-OF-THE-CLUSTER'\n"
KUBECONFIG = yaml.safe_dump(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://192.0.2.9"}}],
    }
)


def group(sha256: str | None = None) -> dict[str, Any]:
    """A stack with a group."""
    program = {"address": "https://files.example.org/nodekit.pyz", "sha256": sha256 or bundle.cached().digest}
    return {
        **INSTANCES,
        "nodes": {"aws": {**MACHINES, "group": {"minSize": 1, "maxSize": 4, "program": program}}},
        "kubernetes": {"proof": {"selector": "sandbox=true", "image": "proof@sha256:0"}},
    }


@pytest.fixture(autouse=True, scope="module")
def no_credentials() -> Iterator[None]:
    """As in the preview of a pull request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws_preflight, "has_credentials", lambda: False)
        yield


class Cluster:
    """Nodes that join, one more at each look at the cluster, and that pass."""

    def __init__(self, joined: int = 1) -> None:
        self.joined = joined

    def situation(self, namespace: str, proof: str, names: list[str], selector: str | None) -> Situation:
        nodes = [pod_proof.Node(f"ip-10-0-0-{7 + number}", "uid", "boot") for number in range(self.joined)]
        self.joined += 1
        return Situation(pod_proof.chosen(nodes, names, selector), pod_proof.Nodes(nodes), {}, {}, {}, {})

    def outcome(self, namespace: str, name: str, proofs: dict[str, Any], timeout_seconds: int) -> dict[str, Any]:
        return {node: evidence_of(node) for node, _ in proofs.items()}

    def jobs(self, namespace: str, proof: str) -> dict[str, Any]:
        return {}


def up(config: dict[str, Any], preview: bool = False, cluster: Cluster | None = None, **secrets: str) -> Recorder:
    """Run the program with a group."""
    cluster = cluster or Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.cluster.kata_proof.reader", lambda args, kubeconfig: cluster)
        patch.setattr("components.cluster.kata_proof.JOIN_POLL_SECONDS", 0.01)
        return stack(config, preview, {"joinScript": JOIN, "kubeconfig": KUBECONFIG, **secrets})


@pytest.fixture(scope="module")
def instances() -> Recorder:
    """Three instances after an `up`."""
    return stack(INSTANCES)


@pytest.fixture(scope="module")
def grouped() -> Recorder:
    """A group after an `up`."""
    return up(group())


def text_of(recorder: Recorder) -> str:
    """The group's user data as a machine gets it."""
    return base64.b64decode(recorder.by_name["aws-template"].inputs["userData"]).decode()


def test_instances_are_what_guests_need_and_closed_to_everything_else(instances: Recorder) -> None:
    for number in range(3):
        inputs = instances.by_name[f"aws-{number}-instance"].inputs
        assert (inputs["ami"], inputs["instanceType"]) == ("ami-0123456789abcdef0", "m8i.4xlarge")
        assert inputs["cpuOptions"] == {"nestedVirtualization": "enabled"}
        assert inputs["metadataOptions"]["httpTokens"] == "required"
        assert inputs["metadataOptions"]["httpPutResponseHopLimit"] == 1
        disk = inputs["rootBlockDevice"]
        assert (disk["encrypted"], disk["volumeSize"], disk["volumeType"]) == (True, 80, "gp3")
        assert inputs["vpcSecurityGroupIds"] == ["aws-security-group-id", "sg-9"]
        assert inputs["subnetId"] == ("subnet-1", "subnet-2", "subnet-1")[number]
        assert inputs["associatePublicIpAddress"] is False
        assert inputs["iamInstanceProfile"] == "p"


@pytest.mark.parametrize("number", [-1, 1.5, "two", float("nan")])
def test_number_that_is_none_is_refused_and_not_cut(number: Any) -> None:
    """Of -1 there would be no instance, and evidence of nothing."""
    machine: Any = {"instance_type": "m7i.metal-24xl", "image": "ami-1", "vpc": "vpc-1", "subnets": ["subnet-1"]}
    pool: Any = {"machine": machine, "count": 1, "ssh_from": ["203.0.113.0/24"]}
    program = {"address": "https://files.example.org/nodekit.pyz", "sha256": bundle.cached().digest}
    machines: Any = {"machine": machine, "min_size": 1, "max_size": 1, "program": program}
    several, large = {**pool, "count": number}, {**pool, "machine": {**machine, "root_volume_gib": number}}
    smallest, largest = {**machines, "min_size": number}, {**machines, "max_size": number}
    programs: dict[str, Any] = {
        "count": lambda: AwsNodes("a", several),
        "rootVolumeGib": lambda: AwsNodes("a", large),
        "minSize": lambda: AwsNodeGroup("a", smallest),
        "maxSize": lambda: AwsNodeGroup("a", largest),
    }
    for key, program_of_it in programs.items():
        with pytest.raises(pulumi.RunError, match=rf"^Key {key} is "):
            run(program_of_it)


def test_group_that_is_larger_than_its_largest_size_is_refused_before_anything_is_made() -> None:
    args: Any = {**PROGRAMS["AwsNodeGroup"][0], "min_size": 3}
    with pytest.raises(pulumi.RunError, match=r"^Key minSize is 3, and maxSize 2\..*\[bad-input\]"):
        run(lambda: AwsNodeGroup("a", args))


def test_bare_metal_gets_no_option_that_ec2_would_refuse() -> None:
    machines = {**MACHINES, "instanceType": "m7i.metal-24xl", "nestedVirtualization": False, "sessionManager": False}
    recorder = stack({"nodes": {"aws": {**machines, "instances": {"sshFrom": ["203.0.113.7/32"]}}}})
    inputs = recorder.by_name["aws-0-instance"].inputs
    assert "cpuOptions" not in inputs and "iamInstanceProfile" not in inputs
    assert not [resource for resource in recorder.by_name.values() if resource.type.startswith("aws:iam/")]


def test_ssh_is_for_named_networks_alone(instances: Recorder) -> None:
    (rule,) = instances.by_name["aws-security-group"].inputs["ingress"]
    assert (rule["protocol"], rule["fromPort"], rule["toPort"]) == ("tcp", 22, 22)
    assert (rule["cidrBlocks"], rule["ipv6CidrBlocks"]) == (["203.0.113.0/24"], ["2001:db8::/32"])


def test_first_connection_is_pinned_to_the_key_that_the_machine_was_given(instances: Recorder) -> None:
    for number in range(3):
        head, text = instances.by_name[f"aws-{number}-instance"].inputs["userData"].split("\n", 1)
        assert head == "#cloud-config"
        keys = yaml.safe_load(text)["ssh_keys"]
        assert keys["ed25519_private"] == f"PRIVATE-KEY-OF-aws-{number}-host-key\n"
        assert keys["ed25519_public"] == f"ssh-ed25519 AAAAaws-{number}-host-key"
        connection = instances.by_name[f"aws-{number}-converge"].inputs["connection"]
        assert connection["hostKey"] == keys["ed25519_public"]
        assert connection["host"] == "10.0.0.7" and connection["user"] == "ubuntu"
        assert connection["privateKey"].strip() == "PRIVATE-KEY-OF-aws-login-key"
    assert instances.by_name["aws-login"].inputs["publicKey"] == "ssh-ed25519 AAAAaws-login-key"


def test_private_keys_are_secret_wherever_they_go(instances: Recorder) -> None:
    for resource in instances.by_name.values():
        public = {key: value for key, value in resource.inputs.items() if not resource.is_secret(key)}
        assert "PRIVATE-KEY" not in repr(public), resource.name
    for name in ("aws-login-key", "aws-0-host-key"):
        key = instances.by_name[name]
        assert key.inputs["algorithm"] == "ED25519"
        private = {"privateKeyOpenssh", "privateKeyPem", "privateKeyPemPkcs8"}
        assert private <= set(key.request.additionalSecretOutputs)
    assert instances.by_name["aws-0-instance"].is_secret("userData")


@pytest.mark.parametrize("make", [lambda key: key, pulumi.Output.secret], ids=["plain", "output"])
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"private_key": "KEY"}, "is set without its public key"),
        ({"public_key": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE"}, "is a private key"),
        ({"public_key": ""}, "holds nothing"),
        ({"public_key": HOST_KEY[:-9]}, "is not a whole key of the kind ssh-ed25519"),
    ],
)
def test_login_key_that_no_instance_could_use_is_refused_in_a_preview(keys: dict[str, str], words: str, make: Any) -> None:
    """The pool made a pair of its own, and the private key was never used."""

    def program() -> None:
        AwsNodes("pool", {**PROGRAMS["AwsNodes"][0], **{key: make(value) for key, value in keys.items()}})  # type: ignore[typeddict-item]

    with pytest.raises(pulumi.RunError, match=words) as refused:
        run(program, preview=True)
    assert "MHcCAQEE" not in str(refused.value)


@pytest.mark.parametrize(("component", "left_out"), [("AwsNodes", "it-1"), ("AwsNodeGroup", "it-"), ("HostKey", "it-")])
def test_what_a_run_leaves_out_is_not_known_and_ends_nothing(
    component: str, left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pulumi up --target` of something else (Pulumi 3.255 and older), and tests of programs, whose mocks answer with the inputs:
    the run ended with a traceback, and the public key was `None`."""
    plain = Recorder.new_resource

    def without_outputs(self: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return (None, dict(args.inputs)) if args.name.startswith(left_out) else plain(self, args)

    monkeypatch.setattr(Recorder, "new_resource", without_outputs)
    (make,) = (each for each in package.published() if each.__name__ == component)
    outputs = package.provider()._component_defs[component].outputs_mapping.values()
    known: dict[str, bool] = {}

    async def program() -> None:
        pool = make("it", PROGRAMS[component][0])  # type: ignore[arg-type,call-arg]
        known.update({name: await getattr(pool, name).is_known() for name in outputs})

    recorder = run(program)
    assert known == dict.fromkeys(outputs, False)
    if component == "AwsNodes":
        assert recorder.by_name["it-0-proof"].inputs["connection"]["host"] == "10.0.0.7"


def test_everything_that_can_be_tagged_is(instances: Recorder, grouped: Recorder) -> None:
    tagged = {"Instance", "SecurityGroup", "KeyPair", "LaunchTemplate", "Role", "InstanceProfile"}
    seen = set()
    for recorder in (instances, grouped):
        for resource in recorder.by_name.values():
            if resource.type.startswith("aws:") and (kind := resource.type.rsplit(":", 1)[1]) in tagged:
                seen.add(kind)
                assert resource.inputs["tags"]["team"] == "sandboxes", resource.name
                assert resource.inputs["tags"]["kata-nodes"] == "kata-nodes/test", resource.name
    assert seen == tagged
    assert instances.by_name["aws-0-instance"].inputs["rootBlockDevice"]["tags"]["team"] == "sandboxes"
    kinds = {
        specification["resourceType"]: specification["tags"]
        for specification in grouped.by_name["aws-template"].inputs["tagSpecifications"]
    }
    assert set(kinds) == {"instance", "volume", "network-interface"}
    assert all(tags["kata-nodes"] == "kata-nodes/test" for tags in kinds.values())
    assert {"key": "team", "value": "sandboxes", "propagateAtLaunch": False} in grouped.by_name["aws-group"].inputs["tags"]


def test_another_instance_is_proven_again_and_no_other_node_is(instances: Recorder) -> None:
    assert "publicKey" in instances.by_name["aws-login"].request.replaceOnChanges
    for number in range(3):
        machine = instances.by_name[f"aws-{number}-instance"]
        assert machine.inputs["userDataReplaceOnChange"] is True
        replacing = {"instanceType", "cpuOptions", "ami", "subnetId", "keyName"}
        assert replacing <= set(machine.request.replaceOnChanges) and machine.request.deleteBeforeReplace
        for child in ("upload", "converge", "proof"):
            command = instances.by_name[f"aws-{number}-{child}"]
            assert command.inputs["triggers"][0] == f"aws-{number}-instance-id"
            assert command.request.deletedWith.endswith(f"::aws-{number}-instance")
        for other in set(range(3)) - {number}:
            assert not any(f"aws-{other}-" in name for name in instances.by_name[f"aws-{number}-converge"].after)


@pytest.mark.parametrize("end", ["", "\n"])
def test_own_login_key_makes_no_other(end: str) -> None:
    """A file of a key ends with a newline, and so does a block of YAML."""
    key = f"{HOST_KEY}{end}"
    settings = {"sshFrom": ["203.0.113.0/24"], "publicKey": key, "publicAddress": True, "user": "admin"}
    recorder = stack({"nodes": {"aws": {**MACHINES, "instances": settings}}}, secrets={"sshPrivateKey": "PRIVATE-KEY-OF-MINE"})
    assert "aws-login-key" not in recorder.by_name
    assert recorder.by_name["aws-login"].inputs["publicKey"] == HOST_KEY
    connection = recorder.by_name["aws-0-converge"].inputs["connection"]
    assert (connection["host"], connection["user"], connection["privateKey"]) == ("203.0.113.9", "admin", "PRIVATE-KEY-OF-MINE")
    assert recorder.by_name["aws-0-converge"].is_secret("connection")


def test_preview_without_credentials_plans_the_same_resources(instances: Recorder) -> None:
    planned = stack(INSTANCES, preview=True)
    assert set(planned.by_name) == set(instances.by_name)
    assert planned.by_name["aws-account"].inputs["skipCredentialsValidation"] == "true"
    assert instances.by_name["aws-account"].inputs["skipCredentialsValidation"] == "false"
    for recorder in (planned, instances):
        resources = [resource for resource in recorder.by_name.values() if resource.type.startswith("aws:")]
        assert resources and all("::aws-account::" in resource.request.provider for resource in resources)


def test_preview_with_credentials_is_refused_when_the_account_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[rules.Request] = []

    def record(request: rules.Request) -> list[rules.Row]:
        requests.append(request)
        return [rules.Row("type", rules.OK, "there"), rules.Row("quota", rules.FAILED, "48 asked for, quota 5", "Ask for more")]

    monkeypatch.setattr(aws_preflight, "has_credentials", lambda: True)
    monkeypatch.setattr(aws_preflight, "preflight", record)
    with pytest.raises(
        pulumi.RunError, match=r"(?s)quota +failed +48 asked for, quota 5.*Ask for more.*\[aws-preflight-failed\]"
    ):
        stack(INSTANCES, preview=True)
    assert (requests[0].count, requests[0].stack, requests[0].subnets) == (3, "kata-nodes/test", ["subnet-1", "subnet-2"])
    assert requests[0].root_volume_gib == 80 and requests[0].security_groups == ["sg-9"]


@pytest.mark.parametrize(("count", "subnets"), [(1, ["subnet-1"]), (2, ["subnet-1", "subnet-2"])])
def test_zone_in_which_no_instance_will_be_is_not_asked(monkeypatch: pytest.MonkeyPatch, count: int, subnets: list[str]) -> None:
    """One that does not offer the type refused a stack that has no machine there."""
    requests: list[rules.Request] = []

    def record(request: rules.Request) -> list[rules.Row]:
        requests.append(request)
        return [rules.Row("type", rules.OK, "there")]

    monkeypatch.setattr(aws_preflight, "has_credentials", lambda: True)
    monkeypatch.setattr(aws_preflight, "preflight", record)
    machines = {**MACHINES, "instances": {"count": count, "sshFrom": ["203.0.113.0/24"]}}
    planned = stack({"nodes": {"aws": machines}}, preview=True).by_name
    assert requests[0].subnets == subnets
    used = {resource.inputs["subnetId"] for resource in planned.values() if resource.type == "aws:ec2/instance:Instance"}
    assert used == set(subnets)


def test_preview_of_a_group_shows_what_its_machines_become(grouped: Recorder) -> None:
    """Their user data, in which everything else is, is secret."""
    plan = grouped.by_name["aws"].inputs["plan"]
    assert (plan["dockerVersion"], plan["kataVersion"]) == ("27.5.1", "3.32.0")
    assert "sysctl.user.max_user_namespaces=9000" in plan["kernelParams"]
    assert grouped.by_name["aws-template"].is_secret("userData")
    assert plan["programAddress"] == "https://files.example.org/nodekit.pyz"


def test_preview_of_a_group_shows_no_signature_of_the_programs_address() -> None:
    args = PROGRAMS["AwsNodeGroup"][0]
    signed = {**args, "program": {**args["program"], "address": "https://files.example.org/n.pyz?X-Amz-Signature=SIGNATURE"}}
    recorder = run(lambda: AwsNodeGroup("pool", signed), preview=True)  # type: ignore[arg-type]
    assert recorder.by_name["pool"].inputs["plan"]["programAddress"] == "https://files.example.org/n.pyz"


def test_machines_of_a_group_are_what_guests_need_and_nobody_logs_in(grouped: Recorder) -> None:
    inputs = grouped.by_name["aws-template"].inputs
    assert inputs["cpuOptions"] == {"nestedVirtualization": "enabled"}
    assert inputs["metadataOptions"]["httpTokens"] == "required" and inputs["metadataOptions"]["httpPutResponseHopLimit"] == 1
    assert inputs["blockDeviceMappings"] == [
        {
            "deviceName": "/dev/sda1",
            "ebs": {"volumeSize": 80, "volumeType": "gp3", "encrypted": "true", "deleteOnTermination": "true"},
        }
    ]
    assert inputs["updateDefaultVersion"] is True and "keyName" not in inputs
    assert inputs["iamInstanceProfile"] == {"arn": "arn:aws:iam::123456789012:instance-profile/p"}
    assert grouped.by_name["aws-security-group"].inputs["ingress"] == []
    scaling = grouped.by_name["aws-group"].inputs
    assert (scaling["minSize"], scaling["maxSize"], "desiredCapacity" in scaling) == (1, 4, False)
    assert scaling["launchTemplate"] == {"id": "aws-template-id", "version": "3"}
    assert "instanceRefresh" not in scaling
    assert not [resource for resource in grouped.by_name.values() if resource.type.startswith("command:")]


def test_first_boot_gets_the_same_states_as_a_node_over_ssh(grouped: Recorder, instances: Recorder) -> None:
    text = text_of(grouped)
    assert text.endswith(sent("first_boot.sh", "aws")) and len(text.encode()) <= user_data.MAX_BYTES
    names = ("STATE_CONVERGE", "STATE_PROVE", "JOIN", "SECONDS_CONVERGE", "SECONDS_PROVE", "PROGRAM_SHA256")
    program = text.removesuffix(sent("first_boot.sh", "aws")) + "".join(f"printf '%s\\0' \"${name}\"\n" for name in names)
    output = subprocess.run(["dash"], input=program, capture_output=True, text=True, check=True).stdout
    variables = dict(zip(names, output.split("\0"), strict=False))
    inputs = {child: instances.by_name[f"aws-0-{child}"].inputs for child in ("converge", "proof")}
    converge, expected = json.loads(variables["STATE_CONVERGE"]), desired(inputs["converge"]["stdin"])
    for state, node in ((converge, user_data.NODE), (expected, "aws-0")):
        assert [part.pop("node") for part in (state, state["docker"], state["kata"])] == [node] * 3
    # A group's machines always serve a cluster, whose runtime must know Kata before they join.
    assert converge["kata"].pop("handler") == {"name": "kata-qemu", "podAnnotations": [], "runtime": None}
    assert expected["kata"].pop("handler") is None
    assert converge == expected and converge["program"] == bundle.cached().digest
    proof, expected = json.loads(variables["STATE_PROVE"]), desired(inputs["proof"]["stdin"])
    assert (proof.pop("node"), expected.pop("node")) == (user_data.NODE, "aws-0")
    # The digest covers the states of Docker and Kata, and for a node over SSH the machine too.
    assert proof.pop("digest") != expected.pop("digest") and proof == expected
    assert f" {variables['SECONDS_CONVERGE']} .kata-nodes-" in inputs["converge"]["create"]
    assert f" {variables['SECONDS_PROVE']} sh " in inputs["proof"]["create"] and variables["SECONDS_PROVE"] == "900"
    assert variables["JOIN"] == JOIN
    assert variables["PROGRAM_SHA256"] == bundle.cached().digest


def test_join_script_is_secret_and_the_checklist_is_the_pods(grouped: Recorder) -> None:
    for resource in grouped.by_name.values():
        public = repr({key: value for key, value in resource.inputs.items() if not resource.is_secret(key)})
        assert "TOKEN-OF-THE-CLUSTER" not in public and "userData" not in public, resource.name
    assert "TOKEN-OF-THE-CLUSTER" in text_of(grouped)
    rows = grouped.outputs["checklist"]
    assert [row["passed"] for row in rows] == [True] * 5
    assert "ip-10-0-0-7: 7563" in rows[3]["measured"]
    assert "in a pod of the template" in rows[4]["measured"]


def test_program_of_another_checkout_is_refused_with_the_command_that_builds_it() -> None:
    with pytest.raises(pulumi.RunError, match=r"0{64}.*python -m delivery\.bundle --output.*\[aws-program-differs\]"):
        up(group("0" * 64), preview=True)


def test_user_data_that_ec2_would_refuse_is_refused_with_its_size() -> None:
    with pytest.raises(pulumi.RunError, match=r"has \d{5} bytes, \d+ more than the 16384.*\[user-data-too-long\]"):
        up(group(), preview=True, joinScript="#!/bin/sh\n" + "x" * user_data.MAX_BYTES)


@pytest.mark.parametrize("key", ["joinScript", "runtimeScript"])
def test_script_that_nothing_runs_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(pulumi.RunError, match=r"#!/bin/sh") as caught:
        up(group(), preview=True, **{key: "kubeadm join --token SECRET-TOKEN"})
    assert "SECRET-TOKEN" not in str(caught.value)


def grown(minimum: int, seconds: int) -> dict[str, Any]:
    """A stack with a group of so many machines, which are waited for so long."""
    config = group()
    config["nodes"]["aws"]["group"] |= {"minSize": minimum, "joinSeconds": seconds}
    return config


def test_the_first_up_waits_for_the_machines_and_proves_all_of_them() -> None:
    recorder = up(grown(3, 60), cluster=Cluster(0))
    proven = {name for name in recorder.by_name if name.startswith("proof-ip-")}
    assert proven == {"proof-ip-10-0-0-7", "proof-ip-10-0-0-8", "proof-ip-10-0-0-9"}


def test_machines_that_do_not_join_in_time_are_reported_with_where_the_reason_is() -> None:
    with pytest.raises(
        pulumi.RunError,
        match=r"\d of the 4 expected nodes.*/var/log/kata-nodes/first-boot.*terminate-instance-in-auto-scaling-group.*unknown\]",
    ):
        up(grown(4, 0), cluster=Cluster(1))
    with pytest.raises(pulumi.RunError, match=r"no node has the labels sandbox=true.*first-boot.*\[cluster-node-unknown\]"):
        up(grown(4, 0), cluster=Cluster(0))


def test_a_group_that_is_scaled_to_nothing_is_no_failure_and_proves_nothing() -> None:
    recorder = up(grown(0, 3600), cluster=Cluster(0))
    assert not [name for name in recorder.by_name if name.startswith("proof-ip-")]
    assert recorder.outputs["clusterProof"] == {}
    assert not any(row["passed"] for row in recorder.outputs["checklist"] if "guest" in row["item"])
    assert "proof-ip-10-0-0-7" in up(grown(0, 3600), cluster=Cluster(1)).by_name


def test_a_preview_of_a_proof_of_no_node_knows_its_evidence() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.cluster.kata_proof.reader", lambda args, kubeconfig: Cluster(0))
        args: Any = {**PROVEN, "kubeconfig": KUBECONFIG, "node_selector": "a=b", "least_nodes": 0}
        recorder = run(lambda: pulumi.export("evidence", kata_proof.KataProof("p", args).evidence), preview=True)
    assert recorder.outputs["evidence"] == {}


def test_a_preview_does_not_wait_and_is_not_refused_since_nodes_are_missing() -> None:
    cluster = Cluster(0)
    recorder = up(grown(4, 3600), preview=True, cluster=cluster)
    assert not [name for name in recorder.by_name if name.startswith("proof-ip-")]
    # A later preview knows the group, and asks the cluster once.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kata_proof, "reader", lambda args, kubeconfig: cluster)
        patch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
        args = {"namespace": "proofs", "node_selector": "a=b", "least_nodes": 4, "join_seconds": 3600}
        before = cluster.joined
        assert asyncio.run(kata_proof.situation("proof", args, KUBECONFIG)) is UNKNOWN
        assert cluster.joined == before + 1


@pytest.mark.slow
def test_other_stacks_never_load_what_aws_alone_needs() -> None:
    program = (
        "import sys\n"
        "from tests.components.test_wiring import EXISTING, stack\n"
        "assert 'nodes-a-converge' in stack(EXISTING).by_name\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore')])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert result.stdout.strip() == "[]", result.stderr


def test_component_packages_can_tell_what_these_pools_take() -> None:
    analysis = Analyzer("kata-nodes").analyze([AwsNodes, AwsNodeGroup])
    for pool in analysis["component_definitions"].values():
        assert {"machine", "docker", "kata", "verification"} <= set(pool.inputs)
        assert all(definition.description for definition in pool.inputs.values())


@pytest.mark.parametrize(
    ("changed", "words"), [({"subnets": []}, "have no subnet"), ({"ssh_from": []}, "SSH would be open to nobody")]
)
def test_empty_list_of_a_component_is_refused(changed: dict[str, Any], words: str) -> None:
    machine: Any = {"instance_type": "m7i.metal-24xl", "image": "ami-1", "vpc": "vpc-1", "subnets": changed.get("subnets", ["s"])}
    with pytest.raises(pulumi.RunError, match=words):
        run(lambda: AwsNodes("aws", {"count": 1, "machine": machine, "ssh_from": changed.get("ssh_from", ["203.0.113.0/24"])}))


@pytest.mark.parametrize("make", [list, pulumi.Output.from_input], ids=["plain", "output"])
def test_group_without_a_subnet_is_refused_before_its_template_is_made(make: Any) -> None:
    machine = PROGRAMS["AwsNodeGroup"][0]["machine"]

    def program() -> None:
        AwsNodeGroup("g", {**PROGRAMS["AwsNodeGroup"][0], "machine": {**machine, "subnets": make([])}})  # type: ignore[typeddict-item]

    with pytest.raises(pulumi.RunError, match=r"The machines have no subnet\. Use one subnet at least\. \[bad-input\]"):
        run(program, preview=True)


@pytest.mark.parametrize("later", [False, True])
def test_a_setting_of_nothing_is_one_that_was_left_out(later: bool) -> None:
    machine: Any = {
        "instance_type": "m8i.4xlarge", "nested_virtualization": True, "image": "ami-1", "vpc": "vpc-1", "subnets": ["subnet-1"],
    }  # fmt: skip
    program = {"address": "https://files.example.org/nodekit.pyz", "sha256": bundle.cached().digest}

    def inputs(machine_keys: tuple[str, ...], instances_keys: tuple[str, ...], group_keys: tuple[str, ...]) -> dict[str, Any]:
        def nothing(keys: tuple[str, ...]) -> Any:
            return {key: pulumi.Output.from_input(None) if later else None for key in keys}

        def make() -> None:
            described = {**machine, **nothing(machine_keys)}
            AwsNodes("i", {"count": 1, "machine": described, "ssh_from": ["203.0.113.0/24"], **nothing(instances_keys)})
            sizes: Any = {"min_size": 0, "max_size": 2, "program": program}
            AwsNodeGroup("g", {"machine": described, **sizes, **nothing(group_keys)})

        return inputs_of(make)

    keys = ("root_volume_gib", "security_groups", "tags"), ("user", "ssh_from_everywhere"), ("root_device", "join_script")
    assert inputs(*keys) == inputs((), (), ())


@pytest.mark.parametrize("name", ["pool", "myPool_7.a", "x" * 51])
def test_pool_whose_name_aws_takes_is_made(name: str) -> None:
    for component, args in ((AwsNodes, PROGRAMS["AwsNodes"][1]), (AwsNodeGroup, PROGRAMS["AwsNodeGroup"][1])):
        assert f"{name}-role" in run(lambda pool=component, args=args: pool(name, args), preview=True).by_name  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "role"), [("pröf", False), ("my pool", False), ("sg-pool", False), ("x" * 101, False), ("x" * 52, True)]
)
def test_pool_whose_name_aws_would_refuse_halfway_is_refused_in_a_preview(name: str, role: bool) -> None:
    """Of a launch template, a security group or a role: each was refused when others were made already."""
    for component, programs in ((AwsNodes, PROGRAMS["AwsNodes"]), (AwsNodeGroup, PROGRAMS["AwsNodeGroup"])):
        with pytest.raises(pulumi.RunError, match=r"cannot name what it makes on AWS\. Use a name of letters, .*\[bad-input\]$"):
            run(lambda pool=component, args=programs[role]: pool(name, args), preview=True)  # type: ignore[misc]
