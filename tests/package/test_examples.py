"""The examples do what their README files say: by the real engine, the package's own provider, and a real API server."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import package
from tests.clusterkit.control_plane import HANGS, ControlPlane
from tests.package.breaking import breaks
from tests.package.example import REPOSITORY, Example, sdk

pytestmark = [pytest.mark.engine]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One that is gone after the tests."""
    control_plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    yield control_plane
    control_plane.close()


def test_engine_reads_the_schema_that_is_in_the_repository(tmp_path: Path) -> None:
    plugin = REPOSITORY / "components" / "pulumi-resource-kata-nodes"
    schema = json.loads(Example("yaml", tmp_path).pulumi("package", "get-schema", str(plugin)))
    ours = json.loads(package.schema())
    assert sorted(schema["resources"]) == sorted(ours["resources"])
    assert breaks(ours, schema) == breaks(schema, ours) == []


def test_yaml_program_makes_what_sandbox_pods_are_made_from(plane: ControlPlane, tmp_path: Path) -> None:
    example = Example("yaml", tmp_path)
    example.start(plane.kubeconfig)
    example.pulumi("preview")
    output = example.up()
    assert plane.kubeconfig not in output
    assert example.output("runtimeClass") == "kata-qemu"
    assert example.output("capabilities") == ["NET_ADMIN", "SYS_ADMIN", "SETFCAP"]
    template = plane.request("GET", "/api/v1/namespaces/sandboxes/podtemplates/nested")
    assert template["template"]["spec"]["runtimeClassName"] == "kata-qemu"
    labels = plane.request("GET", "/api/v1/namespaces/sandboxes")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    assert plane.get(f"{policies}/{example.output('guardPolicy')}")
    example.up("--expect-no-changes")
    example.pulumi("destroy", "--yes", "--skip-preview")
    assert plane.get("/apis/node.k8s.io/v1/runtimeclasses/kata-qemu") is None


VERBS = ("system", "upload", "converge", "proof")
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"
OWN_MACHINE = f"""
name: own
runtime: yaml
resources:
  machine:
    type: kata-nodes:KataNode
    properties:
      connection:
        address: 192.0.2.1
        hostKey: {HOST_KEY}
  node:
    type: kata-nodes:KataNode
    properties:
      connection:
        address: ${{machine.configFile}}
        hostKey: {HOST_KEY}
        identity: ${{machine.guestKernel}}
    options:
      deletedWith: ${{machine}}
  lost:
    type: kata-nodes:KataNode
    properties:
      connection:
        address: 192.0.2.2
        hostKey: {HOST_KEY}
      gone: true
"""
"""Any resource with outputs stands for a machine; here it is the one whose schema is at hand."""


def test_python_program_previews_a_node(tmp_path: Path) -> None:
    example = Example("python", tmp_path)
    site = tmp_path / "site"
    package = str(sdk("python", tmp_path / "sdk"))
    example.run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), package)
    example.environment["PYTHONPATH"] = str(site)
    example.pulumi("stack", "init", "test")
    example.pulumi("config", "set", "address", "192.0.2.1")
    example.pulumi("config", "set", "hostKey", "ssh-ed25519 AAAA")
    output = example.pulumi("preview", "--diff")
    for child in VERBS:
        assert f"::node-{child}]" in output
    assert "sysctl.user.max_user_namespaces=20000" in output


def test_yaml_program_previews_a_pool_that_proves_its_nodes(tmp_path: Path) -> None:
    example = Example("yaml-nodes", tmp_path)
    example.pulumi("stack", "init", "test")
    for host in ("first", "second"):
        example.pulumi("config", "set", host, f"{host}.example")
        example.pulumi("config", "set", f"{host}Key", HOST_KEY)
    example.pulumi("config", "set", "--secret", "privateKey", stdin="PRIVATE-KEY")
    output = example.pulumi("preview", "--diff")
    for host in ("first", "second"):
        for child in VERBS:
            assert f"::nodes-{host}-{child}]" in output
    assert "PRIVATE-KEY" not in output


def test_yaml_program_brings_its_own_machine_and_what_is_on_it_goes_with_it(tmp_path: Path) -> None:
    example = Example("yaml-nodes", tmp_path)
    (example.folder / "Pulumi.yaml").write_text(OWN_MACHINE)
    example.pulumi("stack", "init", "test")
    output = example.pulumi("preview", "--json")
    states = [step["newState"] for step in json.loads(output[output.index("\n{") :])["steps"]]
    machine = next(state["urn"] for state in states if state["urn"].endswith("::machine"))
    with_it = {state["urn"].rpartition("::")[2] for state in states if state.get("deletedWith") == machine}
    assert {f"node-{child}" for child in VERBS} <= with_it
    left = {state["urn"].rpartition("::")[2] for state in states if state.get("retainOnDelete")}
    assert {f"lost-{child}" for child in VERBS} <= left


REFUSED = {
    "kata-nodes:ExistingNodes, properties: {hosts: [{name: a, address: 192.0.2.1, hostKey: ssh-rsa AAAA}]}": (
        "The host key 'ssh-rsa AAAA' is not an ed25519 or ECDSA public key. Use the content of"
    ),
    "kata-nodes:SandboxPodTemplate, properties: {template: t, namespace: n, runtimeClass: kata, image: i, seccomp: none}": (
        "The seccomp profile 'none' is not known. Use one of RuntimeDefault, Unconfined."
    ),
}
"""A resource -> its refusal: at once, and when the inputs of a child are known."""


@pytest.mark.parametrize("resource", REFUSED)
def test_program_in_another_language_reads_a_refusal_and_its_remedy_alone(tmp_path: Path, resource: str) -> None:
    example = Example("yaml-nodes", tmp_path)
    (example.folder / "Pulumi.yaml").write_text(f"name: own\nruntime: yaml\nresources: {{it: {{type: {resource}}}}}\n")
    example.pulumi("stack", "init", "test")
    printed = example.pulumi("preview", ok=False)
    assert f"'it' has a problem: {REFUSED[resource]}" in printed
    assert "Unexpected" not in printed and "Traceback" not in printed


PREVIEW = """
const { LocalWorkspace } = require("@pulumi/pulumi/automation");
const program = async () => require("./out/index.js");
(async () => {
    const stack = await LocalWorkspace.createOrSelectStack({ stackName: "test", projectName: "sandboxes", program });
    await stack.setConfig("kubeconfig", { value: process.env.TEST_KUBECONFIG, secret: true });
    await stack.setConfig("privateKey", { value: "PRIVATE-KEY", secret: true });
    const plain = { address: "192.0.2.1", hostKey: process.env.TEST_HOST_KEY, proofImage: "proof@sha256:0" };
    for (const key in plain) await stack.setConfig(key, { value: plain[key] });
    await stack.preview({ onOutput: (text) => process.stdout.write(text) });
})().catch((error) => { console.error(error); process.exit(1); });
"""
"""Previews the program without a Node.js language host: to the engine this process is one."""


@pytest.mark.skipif(not shutil.which("npm"), reason="needs Node.js with npm")
def test_typescript_program_type_checks_and_previews(plane: ControlPlane, tmp_path: Path) -> None:
    example = Example("typescript", tmp_path)
    example.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    package_folder = sdk("nodejs", example.folder / "node_modules" / "@pulumi" / "kata-nodes")
    example.run("node", "node_modules/typescript/bin/tsc", "--project", str(package_folder))
    shutil.copy(package_folder / "package.json", package_folder / "bin")
    example.run("node", "node_modules/typescript/bin/tsc", "--noEmit", "false", "--outDir", "out")
    (example.folder / "preview.js").write_text(PREVIEW)
    plane.behave({"node-0": HANGS})
    example.environment |= {"TEST_KUBECONFIG": plane.kubeconfig, "TEST_HOST_KEY": HOST_KEY}
    output = example.run("node", "preview.js")
    for child in ("kata-class", "guard-policy", "guard-binding", "sandboxes-namespace", "nested-template", "proof-node-0"):
        assert child in output
    for child in VERBS:
        assert f"nodes-node-0-{child}" in output
    text = (example.folder / "index.ts").read_text()
    wrong = text.replace('name: "node-0",', 'name: "node-0", gone: "yes",')
    assert wrong != text
    (example.folder / "index.ts").write_text(wrong)
    assert "Type 'string' is not assignable to type" in example.run("node", "node_modules/typescript/bin/tsc", ok=False)
