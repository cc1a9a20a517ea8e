"""The rules of the policy pack on what an engine sends, and the same rules in the constructors of components.

What would be lost if these failed: a review that may trust the pack, and stacks of this project that pass it.
"""

import base64
import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest
from google.protobuf import json_format

from clusterkit import pod, pod_safety
from components.cluster import kata_deploy, kata_proof
from components.cluster.joining_nodes import JoiningNodes
from components.cluster.proof_settings import PodProof
from components.cluster.sandbox_pod_template import SandboxPodTemplate
from components.nodes.kata_node import KataNode
from nodekit.errors import NodeError
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.scripts import script
from policy import stack_policy
from policy.plain_secrets import Secret
from policy.stack_policy import CLASSES, Resource, Unknown
from stacks import adoption
from tests.aws import test_pool
from tests.components.recorder import Recorder, run
from tests.components.test_pools import SECRETS, existing
from tests.components.test_wiring import EXISTING, HOST_KEY, KUBECONFIG, LOCAL, FakeCluster, stack

SETTINGS = {"runtimeClasses": list(CLASSES)}
JUDGES = (stack_policy.pods, stack_policy.pairs, stack_policy.host_keys, stack_policy.plain_secrets)
BOTH = list(CAPABILITIES)
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
LOGIN = "apiVersion: v1\nclusters:\n- name: k\nusers:\n- name: u\n  user:\n    token: abcdef\ncontexts: []\n"


def codes(errors: list[NodeError]) -> list[str]:
    """What is refused; every refusal has a remedy."""
    assert all(error.message and error.remedy for error in errors)
    return [error.code for error in errors]


# --- the project's own stacks


def sent(recorder: Recorder) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and inputs of every resource, as an engine would send them to a pack."""
    for name, recorded in recorder.by_name.items():
        yield name, recorded.type, stack_policy.values(json_format.MessageToDict(recorded.request.object))


def refused(recorder: Recorder) -> list[str]:
    """All that the pack would report about a stack."""
    sentences = [
        error.sentence() for _, kind, inputs in sent(recorder) for judge in JUDGES for error in judge(kind, inputs, SETTINGS)
    ]
    resources = [Resource(recorded.name, recorded.type, recorded.name, recorded.parent) for recorded in recorder.by_name.values()]
    return sentences + [error.sentence() for _, error in stack_policy.proofs(resources)]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster with two nodes that pass."""
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())
    monkeypatch.setattr(kata_deploy, "cluster", lambda kubeconfig, context: FakeCluster())
    monkeypatch.setattr(adoption, "reader", lambda kubeconfig, context: FakeCluster())


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(
    ("config", "secrets"),
    [
        (LOCAL, {}),
        (existing(), SECRETS),
        (
            {**EXISTING, "kubernetes": {"proof": {"nodes": ["one", "two"], "image": "proof@sha256:0"}}},
            {"sshPrivateKey": KEY, "kubeconfig": KUBECONFIG},
        ),
        (
            {
                "kubernetes": {
                    "proof": {"selector": "sandbox=true", "image": "proof@sha256:0"},
                    "kataDeploy": {"k8sDistribution": "k3s"},
                    "joiningNodes": {"image": "registry.example.org/controller@sha256:0"},
                }
            },
            {"kubeconfig": KUBECONFIG},
        ),
    ],
)
def test_stacks_of_this_project_pass_every_rule(
    answering: None, config: dict[str, Any], secrets: dict[str, str], preview: bool
) -> None:
    recorder = stack(config, preview, secrets)
    assert len(recorder.by_name) > 8
    assert refused(recorder) == []


@pytest.mark.parametrize("config", [test_pool.INSTANCES, test_pool.group()])
def test_stacks_on_aws_pass_every_rule(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    monkeypatch.setattr("aws.preflight.has_credentials", lambda: False)
    assert refused(test_pool.up(config) if "kubernetes" in config else stack(config)) == []


def test_rules_see_what_the_stacks_pass_on(answering: None) -> None:
    # Otherwise the tests above would pass with rules that check nothing.
    recorder = stack(
        {**EXISTING, "kubernetes": {"proof": {"nodes": ["one"], "image": "proof@sha256:0"}}}, secrets={"kubeconfig": KUBECONFIG}
    )
    by_name = {name: inputs for name, _, inputs in sent(recorder)}
    assert codes(stack_policy.pods("kubernetes:", by_name["sandbox-template"], {"runtimeClasses": ["other"]})) == [
        "pod-capabilities"
    ]
    assert codes(stack_policy.pods("kubernetes:", by_name["proof-one"], {"runtimeClasses": ["other"]})) == ["pod-capabilities"]
    assert isinstance(by_name["nodes-a-converge"]["connection"], Secret)
    broken = str(by_name["nodes-a-converge"]["stdin"]).replace('"version": "27.5.1"', '"version": "28.5.2"')
    broken = broken.replace('"kataVersion": "3.32.0"', '"kataVersion": "3.27.0"')
    assert codes(stack_policy.pairs("command:remote:Command", {"stdin": broken}, {})) == ["docker-kata-incompatible"]


# --- pods


def spec(*add: object, **fields: Any) -> dict[str, Any]:
    """Of a pod under Kata whose container adds these."""
    context: dict[str, Any] = {"capabilities": {"add": list(add)}}
    body = {"runtimeClassName": "kata-qemu", "containers": [{"name": "c", "securityContext": context}], **fields}
    return {key: value for key, value in body.items() if value is not None}


def kinds(body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every kind that makes pods, with a pod of this spec."""
    template = {"template": {"metadata": {}, "spec": body}}
    apps = [f"apps/v1:{kind}" for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "DeploymentPatch")]
    return [
        ("core/v1:Pod", {"spec": body}),
        ("core/v1:PodTemplate", template),
        ("core/v1:ReplicationController", {"spec": template}),
        *((kind, {"spec": template}) for kind in (*apps, "batch/v1:Job")),
        ("batch/v1:CronJob", {"spec": {"jobTemplate": {"spec": template}}}),
        ("core/v1:PodList", {"items": [{"kind": "Pod", "spec": body}]}),
        ("argoproj.io/v1alpha1:Rollout", {"spec": template}),
    ]


@pytest.mark.parametrize("kind", range(12))
def test_no_kind_that_makes_pods_takes_the_capabilities_to_the_node(kind: int) -> None:
    (name, unsafe), (_, safe) = (kinds(body)[kind] for body in (spec(*BOTH, runtimeClassName=None), spec(*BOTH)))
    (error,) = stack_policy.pods(f"kubernetes:{name}", unsafe, SETTINGS)
    assert error.code == "pod-capabilities"
    assert "spec" in error.message or "items[0]" in error.message
    assert "kata-qemu" in error.remedy
    assert stack_policy.pods(f"kubernetes:{name}", safe, SETTINGS) == []


@pytest.mark.parametrize("fields", [{"hostPID": True}, {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}], ids=str)
def test_patch_that_repeats_no_container_takes_no_pod_out_of_its_guest(fields: dict[str, Any]) -> None:
    patch = {"spec": {"template": {"spec": {"runtimeClassName": "kata-qemu", **fields}}}}
    (error,) = stack_policy.pods("kubernetes:apps/v1:DeploymentPatch", patch, SETTINGS)
    assert error.code == "pod-reaches-node"
    assert stack_policy.pods("kubernetes:apps/v1:DeploymentPatch", {"spec": {"runtimeClassName": "kata-qemu"}}, SETTINGS) == []


NETWORK: dict[str, dict[str, Any]] = {
    "hostPort": {"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]},
    "livenessProbe": {"livenessProbe": {"httpGet": {"host": "127.0.0.1", "port": 80}}},
    "lifecycle.postStart": {"lifecycle": {"postStart": {"tcpSocket": {"host": "127.0.0.1", "port": 80}}}},
}


@pytest.mark.parametrize("name", NETWORK)
def test_sandbox_takes_no_part_in_the_nodes_network(name: str) -> None:
    """As the guard of the namespace refuses it, which a preview does not ask."""
    spec = {"containers": [{"name": "c", **NETWORK[name]}]}
    assert stack_policy.pods("kubernetes:core/v1:Pod", {"spec": spec}, SETTINGS) == [], "nobody's sandbox"
    (error,) = stack_policy.pods("kubernetes:core/v1:Pod", {"spec": {**spec, "runtimeClassName": "kata-qemu"}}, SETTINGS)
    assert error.code == "pod-reaches-node" and name in error.message


def test_container_that_is_a_process_of_a_windows_node_is_refused() -> None:
    options = {"securityContext": {"windowsOptions": {"hostProcess": True}}}
    # Of a pod, it is each container's.
    for of_pod, of_container in ({}, options), (options, {}):
        spec = {"containers": [{"name": "c", **of_container}], "hostNetwork": True, **of_pod}
        (error,) = stack_policy.pods("kubernetes:core/v1:Pod", {"spec": spec}, SETTINGS)
        assert error.code == "pod-reaches-node" and "Remove windowsOptions.hostProcess" in error.remedy


@pytest.mark.parametrize(
    "body",
    [
        spec(*BOTH),
        spec(*BOTH, "CHOWN"),
        spec("CHOWN", "NET_BIND_SERVICE", runtimeClassName=None),
        spec(hostNetwork=True, runtimeClassName=None),  # nobody's sandbox
        spec(hostNetwork=True, volumes=[{"name": "v", "hostPath": {"path": "/"}}], runtimeClassName="runc"),
        spec(*BOTH, volumes=[{"name": "v", "emptyDir": {}}], hostNetwork=False),
        spec(*BOTH, runtimeClassName=Unknown()),
        spec(Unknown(), runtimeClassName=None),
        spec("SYS_ADMIN", Unknown()),
        {"containers": Unknown(), "initContainers": [Unknown()]},
        {"containers": [{"name": "c", "securityContext": {"privileged": False, "capabilities": {"drop": ["ALL"]}}}]},
    ],
)
def test_safe_pod_passes(body: dict[str, Any]) -> None:
    assert stack_policy.pods("kubernetes:core/v1:Pod", {"spec": body}, SETTINGS) == []


@pytest.mark.parametrize("place", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (spec("NET_ADMIN"), "pod-capabilities", "exactly NET_ADMIN and SYS_ADMIN"),
        (spec("SYS_ADMIN", "CHOWN"), "pod-capabilities", "exactly"),
        (spec(*BOTH, "SYS_PTRACE"), "pod-capabilities", "SYS_PTRACE"),
        (spec("CAP_NET_ADMIN", "CAP_SYS_ADMIN"), "pod-capabilities", "CAP_NET_ADMIN"),
        (spec("ALL"), "pod-capabilities", "ALL"),
        (spec("SYS_ADM\u0131N", runtimeClassName=None), "pod-capabilities", "no RuntimeClass"),
        (spec("SYS_PTRACE", runtimeClassName="runc"), "pod-capabilities", "RuntimeClass runc"),
        (spec("SYS_PTRACE", runtimeClassName=Unknown()), "pod-capabilities", "exactly"),
        (spec("SYS_PTRACE", runtimeClassName=""), "pod-capabilities", "no RuntimeClass"),
        (spec("SYS_PTRACE", Unknown()), "pod-capabilities", "SYS_PTRACE"),
        (spec(*BOTH, hostPID=True), "pod-reaches-node", "hostPID"),
        (spec(hostNetwork=True, hostIPC=True), "pod-reaches-node", "hostNetwork, hostIPC"),
        (spec(volumes=[{"name": "root", "hostPath": {"path": "/"}}]), "pod-reaches-node", "(root)"),
        (
            spec(volumes=[{"name": "code", "gitRepo": {"repository": "https://git.example/x"}}]),
            "pod-reaches-node",
            "git on the node",
        ),
        (
            spec(volumes=[{"name": "data", "nfs": {"server": "192.0.2.1", "path": "/"}}]),
            "pod-reaches-node",
            "has nfs volumes (data), and so the node's own kernel reads what is there",
        ),
        (spec(*BOTH, runtimeClassName=Unknown(), hostPID=True), "pod-reaches-node", "hostPID"),
    ],
)
def test_unsafe_pod_is_refused(body: dict[str, Any], code: str, message: str, place: str) -> None:
    body = {place if key == "containers" else key: value for key, value in body.items()}
    (error,) = stack_policy.pods("kubernetes:core/v1:Pod", {"spec": body}, SETTINGS)
    assert error.code == code
    assert message in error.message


@pytest.mark.parametrize("name", ["kata-qemu", "runc", None])
def test_privileged_is_refused_under_every_class(name: str | None) -> None:
    body = {"runtimeClassName": name, "containers": [{"name": "c", "securityContext": {"privileged": True}}]}
    assert codes(stack_policy.pods("kubernetes:core/v1:Pod", {"spec": body}, SETTINGS)) == ["pod-reaches-node"]


def test_classes_are_a_setting() -> None:
    body = {"spec": spec(*BOTH, runtimeClassName="mine")}
    assert codes(stack_policy.pods("kubernetes:core/v1:Pod", body, SETTINGS)) == ["pod-capabilities"]
    assert stack_policy.pods("kubernetes:core/v1:Pod", body, {"runtimeClasses": ["mine"]}) == []


def test_what_is_secret_is_judged_as_well() -> None:
    body = {"spec": Secret(spec(*BOTH, runtimeClassName=Secret(None)))}
    assert codes(stack_policy.pods("kubernetes:core/v1:Pod", body, SETTINGS)) == ["pod-capabilities"]


# --- pairs


@pytest.mark.parametrize("first", ["", "sudo-password\n", "#!/bin/sh\nbring() {\n\n}\n"])
@pytest.mark.parametrize(
    ("docker", "kata", "fine"), [("27.5.1", "3.27.0", True), ("28.5.2", "3.27.0", False), (Unknown(), "3", True)]
)
def test_pair_that_breaks_is_refused_in_plan_and_state(docker: Any, kata: str, fine: bool, first: str) -> None:
    plan = {"plan": {"dockerVersion": docker, "kataVersion": kata, "kataRuntime": "go"}}
    expected = [] if fine else ["docker-kata-incompatible"]
    for kind in ("kata-nodes:index:KataNode", "kata-nodes:index:AwsNodeGroup"):
        assert codes(stack_policy.pairs(kind, plan, {})) == expected
    if isinstance(docker, str):
        state = {"version": docker, "kataVersion": kata, "kataRuntime": "go"}
        for document in (state, {"docker": state, "kata": {"version": kata}, "node": "n"}):
            stdin = {"stdin": Secret(first + json.dumps(document, indent=1))}
            assert codes(stack_policy.pairs("command:remote:Command", stdin, {})) == expected
    for stdin in ("echo {", "[]", Unknown(), None):
        assert stack_policy.pairs("command:remote:Command", {"stdin": stdin}, {}) == []


def test_standard_input_that_is_no_state_is_judged_by_no_pair() -> None:
    for text in ("x", "[]", "{", "[" * 100_000, '{"docker": 7}', '{"docker": null}'):
        assert stack_policy.pairs("command:remote:Command", {"stdin": text}, {}) == []


# --- host keys


@pytest.mark.parametrize("kind", ["Command", "CopyToRemote", "CopyFile"])
@pytest.mark.parametrize(
    ("connection", "lacking"),
    [
        ({"host": "h", "hostKey": HOST_KEY}, []),
        ({"host": "h", "hostKey": Unknown()}, []),
        ({"host": "h"}, ["host"]),
        ({"host": "h", "hostKey": " "}, ["host"]),
        ({"host": "h", "hostKey": HOST_KEY, "proxy": {"host": "b"}}, ["bastion"]),
        ({"host": "h", "hostKey": None, "proxy": {"host": "b", "hostKey": ""}}, ["host", "bastion"]),
        ({"host": "h", "hostKey": HOST_KEY, "proxy": {"host": "b", "hostKey": HOST_KEY}}, []),
    ],
)
def test_every_hop_has_its_key(kind: str, connection: dict[str, Any], lacking: list[str]) -> None:
    errors = stack_policy.host_keys(f"command:remote:{kind}", {"connection": Secret(connection)}, {})
    assert codes(errors) == ["host-key-missing"] * len(lacking)
    assert [error.message.split()[4] for error in errors] == lacking
    assert stack_policy.host_keys("command:remote:Command", {"connection": Unknown()}, {}) == []


# --- secrets


@pytest.mark.parametrize(
    ("inputs", "at"),
    [
        ({"data": {"key": KEY}}, "data.key"),
        ({"data": {"key": base64.b64encode(KEY.encode()).decode()}}, "data.key"),
        ({"data": {"a.json": json.dumps({"list": [{"password": "hunter2"}]})}}, "data.a.json.list[0].password"),
        ({"kubeconfig": LOGIN}, "kubeconfig"),
        ({"kubeconfig": json.dumps({"clusters": [], "users": [{"user": {"token": "abc"}}]})}, "kubeconfig"),
        ({"kubeconfig": "client-key-data: LS0tLS1CRUdJTg=="}, "kubeconfig"),
        ({"spec": {"env": [{"name": "DB_PASSWORD", "value": "x"}]}}, "spec.env[0].value"),
        ({"values": {"github": {"auth": "ghp_" + "a1" * 18}}}, "values.github.auth"),
        ({"plan": {"repositoryAddress": "https://user:pass@mirror.example.org/x"}}, "plan.repositoryAddress"),
        ({"stdin": "export API_TOKEN=abc123def456\n"}, "stdin"),
        ({"header": "Authorization: Bearer abcdefgh"}, "header"),
        ({"userData": base64.b64encode(b"#!/bin/sh\nkubeadm join --token abcdef.0123456789abcdef\n").decode()}, "userData"),
        ({"password": "hunter2"}, "password"),
        ({"clientSecret": "hunter2"}, "clientSecret"),
        ({"env": [{"name": "DB_PASSWORD", "value": "vault:hunter2 and more"}]}, "env[0].value"),
        ({"token": "https://files.example.org/x?sig=hunter2"}, "token"),
        ({"parameters": {"prod/db/secret": "hunter2"}}, "parameters.prod/db/secret"),
        ({"annotations": {"example.org/webhook-secret": "Hunter2"}}, "annotations.example.org/webhook-secret"),
        ({"x": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl"}, "x"),
    ],
)
def test_secret_in_plain_is_refused_and_never_shown(inputs: dict[str, Any], at: str) -> None:
    (error,) = stack_policy.plain_secrets("kubernetes:core/v1:ConfigMap", inputs, {})
    assert error.code == "secret-in-plain"
    assert error.message.startswith(f"{at} holds ")
    for secret in ("hunter2", "OPENSSH", "user:pass", "ghp_a1", "abc123def456", "abcdef"):
        assert secret not in error.sentence()


@pytest.mark.parametrize(
    "wrap", [lambda text: Secret(text), lambda mapping: {key: Secret(value) for key, value in mapping.items()}]
)
def test_secret_that_is_kept_passes(wrap: Any) -> None:
    connection = wrap({"privateKey": KEY, "password": "hunter2"})
    assert stack_policy.plain_secrets("command:remote:Command", {"connection": connection}, {}) == []


@pytest.mark.parametrize(
    "inputs",
    [
        {"spec": {"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}},
        {"spec": {"volumes": [{"name": "s", "secret": {"secretName": "db"}}], "automountServiceAccountToken": True}},
        {"password": "", "token": Unknown(), "skipToken": "true"},
        {"stdin": 'read -r password; TOKEN=$(cat /run/token) curl --token "$TOKEN" https://host:443/a@b'},
        {"data": {"text": "The token of a cluster, the password and the secret; -----BEGIN CERTIFICATE-----"}},
        {"hostKey": HOST_KEY, "passwordFile": "/run/secrets/db", "sha256": "0123456789abcdef" * 4},
        {"kubeconfig": KUBECONFIG},
        {"spec": {"env": [{"name": "ALLOW_EMPTY_PASSWORD", "value": "yes"}, {"name": "RANDOM_ROOT_PASSWORD", "value": "1"}]}},
        {"metadata": {"annotations": {"checksum/secret": "0123456789abcdef" * 4}}},
        {"metadata": {"annotations": {"nginx.ingress.kubernetes.io/auth-tls-secret": "ingress/clients-ca"}}},
        {"spec": {"env": [{"name": "DB_PASSWORD", "value": "vault:secret/data/db#password"}]}},
        {
            "stringData": {
                "password": "op://prod/db/password",
                "token": "ref+awsssm://db/token",
                "api-key": "ENC[AES256_GCM,data:a,type:str]",
            }
        },
        {"values": {"auth": {"existingSecret": "db", "existingSecretKey": "password"}}},
        {"creationToken": "sandboxes", "idempotencyToken": "a"},
    ],
)
def test_what_is_no_secret_passes(inputs: dict[str, Any]) -> None:
    assert stack_policy.plain_secrets("kubernetes:core/v1:ConfigMap", inputs, {}) == []


@pytest.mark.parametrize("unit", ["password=x,", "--a-", "a.b-", "token=", "--token x "])
def test_long_text_without_blanks_is_not_slow(unit: str) -> None:
    """A megabyte, as a ConfigMap can have, took minutes: a preview stood still."""
    begin = time.process_time()
    stack_policy.plain_secrets("kubernetes:core/v1:ConfigMap", {"data": {"list": unit * (100_000 // len(unit))}}, {})
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("kind", "spec", "at"),
    [
        ("external-secrets.io/v1:ExternalSecret", {"data": [{"secretKey": "password", "remoteRef": {"key": "db"}}]}, None),
        ("external-secrets.io/v1:ExternalSecret", {"target": {"template": {"data": {"password": "{{ .password }}"}}}}, None),
        ("external-secrets.io/v1alpha1:PushSecret", {"data": [{"match": {"secretKey": "db"}}]}, None),
        ("external-secrets.io/v1:ExternalSecret", {"target": {"template": {"data": {"password": "hunter2"}}}}, "password"),
        ("external-secrets.io/v1:ExternalSecret", {"target": {"data": {"token": '{{ "hunter2" }}'}}}, "token"),
        ("bitnami.com/v1alpha1:SealedSecret", {"encryptedData": {"password": "AgBy3i4OJSWK" * 8}}, None),
        ("bitnami.com/v1alpha1:SealedSecret", {"template": {"data": {"password": "hunter2"}}}, "password"),
        ("core/v1:Pod", {"containers": [{"env": [{"name": "TOKEN", "value": "$(OTHER)"}]}]}, None),
        ("core/v1:Pod", {"containers": [{"env": [{"name": "TOKEN", "value": "$(OTHER)hunter2"}]}]}, "value"),
        ("core/v1:Pod", {"secretKey": "hunter2"}, "secretKey"),
    ],
)
def test_object_that_keeps_a_secret_out_of_the_stack_is_not_taken_for_one_in_plain(kind: str, spec: Any, at: str | None) -> None:
    errors = stack_policy.plain_secrets(f"kubernetes:{kind}", {"spec": spec}, {})
    assert [error.message.partition(" ")[0].rpartition(".")[2] for error in errors] == ([at] if at else [])


@pytest.mark.parametrize("kind", ["command:local:Command", "command:remote:Command"])
@pytest.mark.parametrize(
    ("inputs", "at"),
    [
        ({"create": Secret("login --user x")}, "create"),
        ({"create": Secret(Unknown())}, "create"),
        ({"update": f"echo '{KEY}'"}, "update"),
        ({"delete": "curl https://user:pass@host/"}, "delete"),
        ({"environment": {"DB_PASSWORD": "hunter2"}}, "environment.DB_PASSWORD"),
        ({"environment": {"X": Secret("anything")}}, "environment.X"),
        ({"environment": Secret({"DB_PASSWORD": "hunter2"})}, "environment"),
    ],
)
def test_no_secret_stands_on_a_command_line_even_if_it_is_kept(kind: str, inputs: dict[str, Any], at: str) -> None:
    errors = stack_policy.plain_secrets(kind, inputs, {})
    assert {error.code for error in errors} == {"secret-on-command-line"}
    assert errors[0].message.startswith(at)
    assert "hunter2" not in errors[0].sentence()
    plain = {"create": "login --password-stdin", "environment": {"HOME": "/root"}, "stdin": Secret("hunter2")}
    assert stack_policy.plain_secrets(kind, plain, {}) == []


# --- proofs

NODE = Resource("urn:n", "kata-nodes:index:KataNode", "n", "")
PROVEN = Resource("urn:n-proof", "command:remote:Command", "n-proof", "urn:n")
CLUSTER = Resource("urn:p", "kata-nodes:index:KataProof", "p", "")
EVIDENCE = Resource("urn:p-e", "kubernetes:core/v1:ConfigMap", "p-evidence", "urn:p")
GROUP = Resource("urn:g", "kata-nodes:index:AwsNodeGroup", "g", "")
TEMPLATE = Resource("urn:t", "kata-nodes:index:SandboxPodTemplate", "t", "")


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([], []),
        ([NODE, PROVEN, TEMPLATE], []),
        ([CLUSTER, EVIDENCE, TEMPLATE], []),
        ([GROUP, TEMPLATE], []),
        ([NODE], ["urn:n"]),
        ([NODE, Resource("u", "command:remote:Command", "n-proof", "urn:m")], ["urn:n"]),
        ([NODE, Resource("u", "command:local:Command", "n-proof", "urn:n")], ["urn:n"]),
        ([NODE, PROVEN, Resource("urn:m", NODE.type, "m", "")], ["urn:m"]),
        ([CLUSTER, TEMPLATE], ["urn:p"]),
        ([TEMPLATE], ["urn:t"]),
    ],
)
def test_nothing_goes_without_its_proof(resources: list[Resource], expected: list[str]) -> None:
    errors = stack_policy.proofs(resources)
    assert [urn for urn, _ in errors] == expected
    assert {error.code for _, error in errors} <= {"proof-missing"}


# --- the same in constructors


def fails(program: Any, code: str) -> None:
    """Run a program that is refused with this code."""
    with pytest.raises(pulumi.RunError, match=rf"\[{code}\]"):
        run(program)
    # What waited for the refused input complains when it is collected: here, and not in the middle of something else.
    run(lambda: None)
    gc.collect()


def node(docker: str = "27.5.1", kata: str = "3.27.0", **connection: Any) -> Any:
    """A program with one node."""
    hop: dict[str, Any] = {"address": "192.0.2.1", "host_key": HOST_KEY, **connection}
    args: dict[str, Any] = {
        "connection": hop,
        "docker": {"version": docker},
        "kata": {"version": kata, "install_release": False},
    }
    return lambda: KataNode("n", args)  # type: ignore[arg-type]


def proven(body: dict[str, Any]) -> PodProof:
    """The inputs of proofs."""
    return {"pod_template": json.dumps({"metadata": {}, "spec": body}), "handler": "kata-qemu", "kata_version": "3.32.0"}


def joining(body: dict[str, Any]) -> Any:
    """A program with the controller of joining nodes."""
    return lambda: JoiningNodes("j", {"namespace": "n", "image": "i", "selector": "a=b", "proof": proven(body)})


def proof(body: dict[str, Any]) -> Any:
    """A program with the proof of a cluster."""
    return lambda: kata_proof.KataProof("p", {"kubeconfig": "{}", "namespace": "n", "proof": proven(body), "nodes": ["one"]})


PRIVILEGED = {**spec(*BOTH), "containers": [{"name": "c", "securityContext": {"privileged": True}}]}


@pytest.mark.parametrize(
    ("program", "code"),
    [
        (node(host_key=""), "host-key-missing"),
        (node(host_key=None), "host-key-missing"),
        (node(bastion={"address": "192.0.2.9", "user": "jump"}), "host-key-missing"),
        (node(docker="28.5.2"), "docker-kata-incompatible"),
        (joining(spec(*BOTH, hostPID=True)), "pod-reaches-node"),
        (joining(spec(*BOTH, runtimeClassName=None)), "pod-capabilities"),
        (proof(PRIVILEGED), "pod-reaches-node"),
        (proof(spec(*BOTH, "SYS_PTRACE")), "pod-capabilities"),
    ],
)
def test_constructor_refuses_what_the_pack_refuses(answering: None, program: Any, code: str) -> None:
    fails(program, code)


@pytest.mark.parametrize("key", ["host_key", "user", "identity"])
def test_login_of_which_a_part_is_secret_keeps_the_rules(key: str) -> None:
    """A host key read by another resource often is: the pack refused the component's own commands, which held its sum."""

    def program() -> None:
        connection = {"address": "192.0.2.1", "host_key": HOST_KEY, "user": "admin", "identity": "i-0123"}
        KataNode("n", {"connection": {**connection, key: pulumi.Output.secret(connection[key])}})  # type: ignore[typeddict-item]

    recorder = run(program)
    assert refused(recorder) == []
    trigger = recorder.by_name["n-converge"].request.object.fields["triggers"]
    assert key != "identity" or "1b47061264138c4ac30d75fd1eb44270" in str(trigger)


def test_constructor_takes_what_the_pack_passes(answering: None) -> None:
    for program in (node(), node(kata="3.32.0", docker="28.5.2"), joining(spec(*BOTH)), proof(spec(*BOTH))):
        assert len(run(program).by_name) > 3


def test_template_of_the_component_is_held_to_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def template() -> Any:
        return SandboxPodTemplate(
            "t",
            {"template": "t", "namespace": "n", "runtime_class": "kata-qemu", "image": "i", "nested_sandbox": True},
        )

    assert "t-template" in run(template).by_name
    monkeypatch.setattr(pod, "security_context", lambda *_, **__: {"privileged": True})
    fails(template, "pod-reaches-node")


@pytest.mark.parametrize("variant", [{}, {"ordinary_user": True}, {"nested_sandbox": False}, {"read_only_root": False}])
def test_every_variant_of_the_template_is_safe(variant: dict[str, Any]) -> None:
    template = pod.template("i", "kata-fc", {}, entry=script("entry.sh"), **variant)
    assert pod_safety.safe(template) is template
    assert stack_policy.pods("kubernetes:core/v1:PodTemplate", {"template": template}, SETTINGS) == []
