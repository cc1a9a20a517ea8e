"""The command kata-nodes on a real API server: what somebody changes behind the stack is named with who did it, and put back.

Lost if these fail: a guard without its rules, or a class without its handler, that nobody sees. The tests of this module are one
story and run in order, by the real engine, Kubernetes plugin and control plane.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.proving import JOBS, PROVEN

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parents[2]
STACK = "cluster"
LABEL = "katacontainers.io/kata-runtime"
CLASS = "/apis/node.k8s.io/v1/runtimeclasses/kata"
GUARDS = "/apis/admissionregistration.k8s.io/v1"
TEMPLATE = "/api/v1/namespaces/sandboxes/podtemplates/nested"
NODE = "/api/v1/nodes/node-1"
BY = "?fieldManager=kubectl-edit"
PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from components import KataNodeLabels, KataRuntimeClass, SandboxGuard, SandboxNamespace, SandboxPodTemplate
from components.cluster.kata_proof import KataProof

kubeconfig = pulumi.Output.secret(pathlib.Path("kubeconfig").read_text())
making = k8s.Provider("cluster", kubeconfig=kubeconfig, enable_server_side_apply=False)
labelling = k8s.Provider("cluster-labelling", kubeconfig=kubeconfig)


def options(*after, provider=making):
    return pulumi.ResourceOptions(providers={"kubernetes": provider}, depends_on=list(after))


kata = KataRuntimeClass("kata", {"runtime_class": "kata", "handler": "kata-qemu", "kata_version": "3.32.0"}, options())
labels = KataNodeLabels("kata-labels", {"kubeconfig": kubeconfig, "machines": {"node-1": "m1"}}, options(provider=labelling))
classes = kata.runtime_class.apply(lambda name: [name])
guard = SandboxGuard("guard", {"namespaces": ["sandboxes"], "runtime_classes": classes}, options())
space = SandboxNamespace("sandboxes", {"namespace": "sandboxes"}, options(guard))
template = SandboxPodTemplate(
    "sandbox",
    {"template": "nested", "namespace": space.namespace, "runtime_class": "kata", "image": "image"},
    options(kata),
)
place = SandboxNamespace("proof-place", {"namespace": "proofs"}, options(guard))
proof = {
    "pod_template": template.pod_template, "handler": kata.handler, "kata_version": "3.32.0",
    "kernel_params": ["user_namespace.enable=1"], "timeout_seconds": 60,
}
settings = {"kubeconfig": kubeconfig, "namespace": place.namespace, "proof": proof, "nodes": ["node-1"]}
KataProof("proof", settings, options(template, kata, labels))
"""


class Story:
    """A stack on a control plane, and the command in its folder."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.folder, self.plane = folder, plane
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: cluster\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        (folder / "kubeconfig").write_text(plane.kubeconfig)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "KUBECONFIG": str(folder / "none"),
            "HOME": str(folder),
            "PULUMI_HOME": os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi")),
        }
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        self.pulumi("stack", "init", STACK)

    def started(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program in the folder, and show what it says."""
        begin = time.monotonic()
        result = subprocess.run(
            argv, cwd=self.folder, env=self.environment, text=True, input=stdin, capture_output=True, check=False
        )  # fmt: skip
        took = time.monotonic() - begin
        output = "" if "export" in argv else result.stdout + result.stderr
        print(f"--- {' '.join(argv[-6:])}: {result.returncode} after {took:.1f} s\n{output}")
        return result

    def pulumi(self, *argv: str, stdin: str | None = None) -> str:
        """What the engine says; it must succeed."""
        result = self.started("pulumi", *argv, "--non-interactive", stdin=stdin)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def run(self, *argv: str, status: int = 0) -> str:
        """What the command prints; it must end with this status, and show no secret."""
        result = self.started(sys.executable, "-m", "fleet", *argv)
        assert result.returncode == status, result.stdout + result.stderr
        assert "client-key-data" not in result.stdout + result.stderr
        return result.stdout

    def objects(self, *argv: str, status: int = 0) -> dict[str, dict[str, Any]]:
        """What the command prints of each object, by kind and name in the stack."""
        document = json.loads(self.run(*argv, STACK, "--json", status=status))
        return {f"{each['kind']} {each['name']}": each for each in document["objects"]}

    def report(self) -> tuple[str, dict[str, str], dict[str, Any]]:
        """The outcome of the stack's document, the state of each object in it that is not as made, and its one node."""
        document = json.loads(self.run("report", STACK, "--format", "json"))
        (node,) = document["nodes"]
        states = {f"{each['kind']} {short(each['name'])}": each["state"] for each in document["objects"]}
        assert not any(name.startswith("Job ") for name in states)
        return document["outcome"], {name: state for name, state in states.items() if state != "as made"}, node

    def named(self, kind: str, start: str) -> str:
        """Path of the one object of a kind whose name, which the engine chose, starts so."""
        plural = f"{kind.lower()}s" if not kind.endswith("Policy") else "validatingadmissionpolicies"
        (name,) = [each["metadata"]["name"] for each in self.plane.items(f"{GUARDS}/{plural}") if named(each).startswith(start)]
        return f"{GUARDS}/{plural}/{name}"


def named(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def report_handlers(plane: ControlPlane, *handlers: str) -> None:
    """What the container runtime of a node knows that the class selects too."""
    plane.request(
        "PATCH", "/api/v1/nodes/node-2/status", {"status": {"runtimeHandlers": [{"name": name} for name in ("", *handlers)]}}
    )


@pytest.fixture(scope="module")
def story(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A stack that is up."""
    plane.behave(dict.fromkeys(("node-1", "node-2"), PROVEN))
    plane.request("PATCH", f"{NODE}/status", {"status": {"nodeInfo": {"machineID": "m1"}}})
    report_handlers(plane, "runc", "kata-qemu")
    story = Story(tmp_path_factory.mktemp("stack"), plane)
    story.pulumi("up", "--yes", "--skip-preview")
    yield story


def test_objects_as_the_stack_left_them_have_no_drift(story: Story) -> None:
    objects = story.objects("drift")
    assert {each["kind"] for each in objects.values()} == {
        "RuntimeClass", "Node", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "Namespace", "PodTemplate",
        "ServiceAccount", "Job", "ConfigMap",
    }  # fmt: skip
    assert all(each["reached"] and each["differences"] == [] and each["notes"] == [] for each in objects.values())
    lines = story.run("status", STACK).splitlines()
    assert lines[0].split() == ["KIND", "NAMESPACE", "NAME", "STATE"]
    assert any(line.split() == ["RuntimeClass", "kata", "as", "deployed"] for line in lines)
    assert (
        lines[-1]
        == f"Stack {STACK}: 0 nodes, 0 not reached, 0 with differences; {len(objects)} objects, 0 not reached, 0 with differences"
    )
    outcome, differing, node = story.report()
    assert (outcome, differing, node["name"], node["outcome"]) == ("proven", {}, "node-1", "proven")
    assert node["proof"]["climbs"][0]["userNamespaces"] == 7563, "by the state: the program has no output clusterProof"


def plant(story: Story) -> None:
    """One drift of each kind that leaves the objects there."""
    plane = story.plane
    plane.request("PATCH", CLASS + BY, {"overhead": {"podFixed": {"memory": "1Gi"}}})
    policy = story.named("ValidatingAdmissionPolicy", "guard-policy")
    rules = plane.request("GET", policy)["spec"]["validations"]
    plane.request("PATCH", policy + BY, {"spec": {"validations": [{**rules[0], "expression": "true"}, *rules[1:]]}})
    never = [{"name": "never", "expression": "false"}]
    plane.request(
        "PATCH", story.named("ValidatingAdmissionPolicy", "proof-guard-policy") + BY, {"spec": {"matchConditions": never}}
    )
    elsewhere = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["elsewhere"]}
    place = {"spec": {"matchResources": {"namespaceSelector": {"matchExpressions": [elsewhere]}}}}
    plane.request("PATCH", story.named("ValidatingAdmissionPolicyBinding", "guard-binding") + BY, place)
    plane.request(
        "PATCH", "/api/v1/namespaces/sandboxes" + BY, {"metadata": {"labels": {"pod-security.kubernetes.io/warn": None}}}
    )
    plane.request("PATCH", NODE + BY, {"metadata": {"labels": {LABEL: None}}})
    template = plane.request("GET", TEMPLATE)["template"]
    template["spec"]["containers"][0]["securityContext"]["capabilities"]["add"].remove("SYS_ADMIN")
    template["metadata"]["labels"]["team"] = "mine"
    plane.request("PATCH", TEMPLATE + BY, {"template": template})
    report_handlers(plane, "runc")


def differences(objects: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Those of each object that has any, by its name in the program."""
    return {short(name): each["differences"] for name, each in objects.items() if each["differences"]}


def short(name: str) -> str:
    """Without the eight characters that the engine adds to a name."""
    return re.sub(r"-[0-9a-f]{8}$", "", name)


def test_every_kind_of_change_is_named_with_its_diff_and_who_wrote(story: Story) -> None:
    plant(story)
    differing = differences(story.objects("drift", status=2))
    assert {name: [item["kind"] for item in items] for name, items in differing.items()} == {
        "RuntimeClass kata": ["changed", "handler"],
        "ValidatingAdmissionPolicy guard-policy": ["changed"],
        "ValidatingAdmissionPolicy proof-guard-policy": ["added"],
        "ValidatingAdmissionPolicyBinding guard-binding": ["changed"],
        "Namespace sandboxes": ["label"],
        "Node node-1": ["label"],
        "PodTemplate nested": ["changed"],
    }
    overhead, handler = differing["RuntimeClass kata"]
    assert overhead["what"] == "RuntimeClass kata differs from the stack in overhead.podFixed.memory"
    assert "-    memory: 160Mi\n+    memory: 1Gi" in overhead["diff"]
    assert overhead["traces"][0].startswith("kubectl-edit (Update) wrote overhead.podFixed.memory at 20")
    assert "1 of 1 nodes that RuntimeClass kata selects do not report its handler kata-qemu: node-2" in handler["what"]
    (rules,) = differing["ValidatingAdmissionPolicy guard-policy"]
    assert "spec.validations[0].expression" in rules["what"] and "+  - expression: 'true'" in rules["diff"]
    (never,) = differing["ValidatingAdmissionPolicy proof-guard-policy"]
    assert "has what the stack does not set: spec.matchConditions" in never["what"] and "name: never" in never["diff"]
    (place,) = differing["ValidatingAdmissionPolicyBinding guard-binding"]
    assert "-        - sandboxes\n+        - elsewhere" in place["diff"]
    (template,) = differing["PodTemplate nested"]
    assert "capabilities.add" in template["what"] and "template.metadata.labels.team" in template["what"]
    (label,) = differing["Node node-1"]
    assert f"metadata.labels[{LABEL}]" in label["what"]
    outcome, states, node = story.report()
    assert (outcome, states, node["outcome"]) == ("drifted", dict.fromkeys(differing, "differs"), "proven")
    words = story.run("drift", STACK, status=2)
    assert f"kata-nodes cure {STACK}" in words.splitlines()[-1] and "7 of " in words.splitlines()[-1]


def test_cure_puts_all_of_it_back_and_replaces_only_what_has_too_much(story: Story) -> None:
    plane = story.plane
    report_handlers(plane, "runc", "kata-qemu")  # the cluster's part: no resource of the stack is the container runtime
    kept = {
        path: uid(plane, path)
        for path in (CLASS, "/api/v1/namespaces/sandboxes", story.named("ValidatingAdmissionPolicy", "guard-policy"))
    }
    jobs = [item["metadata"]["uid"] for item in plane.items(JOBS)]
    output = story.run("cure", STACK, "--yes")
    assert "Nothing that was measured differs" in output.splitlines()[-1]
    assert {path: uid(plane, path) for path in kept} == kept
    assert plane.request("GET", CLASS)["overhead"]["podFixed"] == {"memory": "160Mi", "cpu": "250m"}
    assert "matchConditions" not in plane.request("GET", story.named("ValidatingAdmissionPolicy", "proof-guard-policy"))["spec"]
    (container,) = plane.request("GET", TEMPLATE)["template"]["spec"]["containers"]
    assert container["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "SYS_ADMIN", "SETFCAP"]
    assert plane.request("GET", NODE)["metadata"]["labels"][LABEL] == "true"
    assert [item["metadata"]["uid"] for item in plane.items(JOBS)] == jobs, "what was proven stays proven"


def uid(plane: ControlPlane, path: str) -> str:
    return str(plane.request("GET", path)["metadata"]["uid"])


def test_objects_that_are_gone_and_a_proof_of_another_machine_are_named_and_made_again(story: Story) -> None:
    plane = story.plane
    plane.remove_node("node-1")
    plane.behave({"node-1": PROVEN})
    plane.request("PATCH", f"{NODE}/status", {"status": {"nodeInfo": {"machineID": "m1"}}})
    deleted = [
        story.named("ValidatingAdmissionPolicy", "guard-policy"),
        story.named("ValidatingAdmissionPolicyBinding", "guard-binding"),
    ]
    for path in deleted:
        plane.request("DELETE", path)
    document = plane.request("GET", CLASS)
    plane.request("DELETE", CLASS)
    about = {"metadata": {"name": "kata"}, "handler": "runc"}
    plane.request(
        "POST", CLASS.rpartition("/")[0] + BY, {key: value for key, value in {**document, **about}.items() if key != "status"}
    )
    before = [item["metadata"]["uid"] for item in plane.items(JOBS)]
    differing = differences(story.objects("drift", status=2))
    assert {name: [item["kind"] for item in items] for name, items in differing.items()} == {
        "RuntimeClass kata": ["changed"],
        "Node node-1": ["label"],
        "Job proof-node-1": ["setting"],
        "ValidatingAdmissionPolicy guard-policy": ["missing"],
        "ValidatingAdmissionPolicyBinding guard-binding": ["missing"],
    }
    assert "-handler: kata-qemu\n+handler: runc" in differing["RuntimeClass kata"][0]["diff"]
    story.run("cure", STACK, "--yes")
    assert plane.request("GET", CLASS)["handler"] == "kata-qemu"
    binding = plane.request("GET", story.named("ValidatingAdmissionPolicyBinding", "guard-binding"))
    assert binding["spec"]["policyName"] == story.named("ValidatingAdmissionPolicy", "guard-policy").rpartition("/")[2]
    assert [item["metadata"]["uid"] for item in plane.items(JOBS)] != before, "under another handler nothing was proven"
    story.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_an_api_server_that_is_not_reached_is_a_row_with_its_cause(story: Story) -> None:
    text = story.pulumi("stack", "export", "--show-secrets")
    moved = text.replace(story.plane.server, "https://127.0.0.1:1")
    story.pulumi("stack", "import", stdin=moved)
    table = story.run("status", STACK, status=1)
    assert "not reached: the API server https://127.0.0.1:1 does not answer" in table
    story.pulumi("stack", "import", stdin=text)
    assert differences(story.objects("drift")) == {}
