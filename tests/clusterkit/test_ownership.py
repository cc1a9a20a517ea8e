"""By the real engine, plugin and control plane: what belongs to others stays theirs, and every refusal has a remedy.

A small program uses the components as any other program would; its settings are what a test gives.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusterkit.control_plane import ControlPlane

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).resolve().parents[2]
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
SPACES = "/api/v1/namespaces"
PROGRAM = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
import pulumi
import pulumi_kubernetes as k8s
from pulumi_command import local
from components import KataRuntimeClass, SandboxGuard, SandboxNamespace, SandboxPodTemplate

inputs = json.loads(Path("settings.json").read_text())
kubeconfig = Path(inputs["kubeconfig"]).read_text()
if inputs.get("later"):
    kubeconfig = local.Command("later", create="true").stdout.apply(lambda _: kubeconfig)
making = k8s.Provider("making", kubeconfig=kubeconfig, enable_server_side_apply=inputs.get("serverSideApply", False))
adopting = k8s.Provider("adopting", kubeconfig=kubeconfig)


def options(provider, *after):
    return pulumi.ResourceOptions(providers={{"kubernetes": provider}}, depends_on=list(after))


kata = {{"runtime_class": "kata", "handler": "kata-qemu", "kata_version": "3.32.0"}} | inputs.get("class", {{}})
space = {{"namespace": "sandboxes"}} | inputs.get("namespace", {{}})
created = KataRuntimeClass("kata", kata, options(making))
guard = SandboxGuard(
    "guard", {{"namespaces": ["sandboxes"], "runtime_classes": created.runtime_class.apply(lambda name: [name])}}, options(making)
)
namespace = SandboxNamespace("sandboxes", space, options(adopting if space.get("adopt") else making, guard))
template = {{"template": "nested", "namespace": namespace.namespace, "runtime_class": created.runtime_class}}
SandboxPodTemplate("template", template | {{"image": "image", "nested_sandbox": True}}, options(making))
"""


class Program:
    """The program in a stack of its own."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.folder, self.kubeconfig = folder, plane.folder / "kubeconfig"
        (folder / "state").mkdir()
        (folder / "__main__.py").write_text(PROGRAM)
        (folder / "Pulumi.yaml").write_text("name: ownership\nruntime: python\n")
        backend = {"PULUMI_BACKEND_URL": f"file://{folder / 'state'}", "PULUMI_CONFIG_PASSPHRASE": "test"}
        self.environment = {**os.environ, **backend}
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        self.pulumi("stack", "init", "test")

    def pulumi(self, *argv: str, ok: bool = True, **settings: Any) -> str:
        """Run a command of the engine with these settings; its output. Fails unless it ends as `ok` demands."""
        (self.folder / "settings.json").write_text(json.dumps({"kubeconfig": str(self.kubeconfig), **settings}))
        result = subprocess.run(
            ["pulumi", *argv, "--non-interactive"], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        assert (result.returncode == 0) == ok, result.stdout
        return result.stdout

    def up(self, *argv: str, ok: bool = True, **settings: Any) -> str:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", *argv, ok=ok, **settings)

    def destroy(self) -> None:
        """`pulumi destroy`; as people do it, by what the state says."""
        self.pulumi("destroy", "--yes", "--skip-preview")


@pytest.fixture
def program(tmp_path: Path, plane: ControlPlane) -> Iterator[Program]:
    """One whose stack is gone afterwards, and with it all that was made."""
    story = Program(tmp_path, plane)
    yield story
    story.destroy()
    assert all(item["metadata"]["name"] != "nested" for item in plane.items("/api/v1/podtemplates"))


def space(plane: ControlPlane, name: str, **labels: str) -> str:
    """Make somebody else's namespace; its path."""
    plane.request("POST", f"{SPACES}?fieldManager=somebody", {"metadata": {"name": name, "labels": labels}})
    return f"{SPACES}/{name}"


def labels_of(plane: ControlPlane, path: str) -> dict[str, str]:
    """Labels of a namespace, without the one that every namespace has."""
    labels = dict(plane.request("GET", path)["metadata"].get("labels", {}))
    labels.pop("kubernetes.io/metadata.name")
    return labels


def test_changed_handler_replaces_the_class_and_nothing_else(program: Program, plane: ControlPlane) -> None:
    program.up()
    program.up("--expect-no-changes")
    before = plane.request("GET", f"{CLASSES}/kata"), plane.request("GET", f"{SPACES}/sandboxes")
    output = program.up(**{"class": {"handler": "kata-clh"}})
    after = plane.request("GET", f"{CLASSES}/kata"), plane.request("GET", f"{SPACES}/sandboxes")
    assert after[0]["handler"] == "kata-clh" and after[0]["metadata"]["uid"] != before[0]["metadata"]["uid"]
    assert after[1]["metadata"]["uid"] == before[1]["metadata"]["uid"]
    assert "1 replaced" in output
    program.up("--refresh", **{"class": {"handler": "kata-clh", "overhead_memory": "1Gi", "tolerations": ["a=b:NoSchedule"]}})
    updated = plane.request("GET", f"{CLASSES}/kata")
    assert updated["metadata"]["uid"] == after[0]["metadata"]["uid"]
    assert updated["overhead"]["podFixed"] == {"memory": "1Gi", "cpu": "250m"}
    assert updated["scheduling"]["tolerations"][0] == {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}


def test_existing_namespace_is_refused_as_it_is(program: Program, plane: ControlPlane) -> None:
    path = space(plane, "theirs", team="a")
    output = program.up(ok=False, namespace={"namespace": "theirs"})
    sentence = next(line for line in output.splitlines() if "[cluster-object-exists]" in line)
    assert "Namespace theirs exists already" in sentence and "another namespace, or adopt" in sentence
    assert labels_of(plane, path) == {"team": "a"}
    program.destroy()
    assert labels_of(plane, path) == {"team": "a"}


def test_adopted_namespace_gets_our_labels_and_loses_only_them(program: Program, plane: ControlPlane) -> None:
    path = space(plane, "adopted", team="a")
    adopted = {"namespace": "adopted", "adopt": True}
    program.up(namespace=adopted)
    labels = labels_of(plane, path)
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    program.up("--expect-no-changes", namespace=adopted)
    program.destroy()
    assert labels_of(plane, path) == {"team": "a"}


def test_label_of_somebody_else_stays(program: Program, plane: ControlPlane) -> None:
    path = space(plane, "strict", **{"pod-security.kubernetes.io/enforce": "baseline"})
    output = program.up(ok=False, namespace={"namespace": "strict", "adopt": True})
    sentence = next(line for line in output.splitlines() if "[cluster-field-owned]" in line)
    assert "pod-security.kubernetes.io/enforce belongs to somebody" in sentence and "Release the field" in sentence
    assert labels_of(plane, path) == {"pod-security.kubernetes.io/enforce": "baseline"}


def test_namespace_that_was_made_and_is_adopted_later_outlives_the_stack(program: Program, plane: ControlPlane) -> None:
    program.up(namespace={"namespace": "kept"})
    uid = plane.request("GET", f"{SPACES}/kept")["metadata"]["uid"]
    program.up(namespace={"namespace": "kept", "adopt": True})
    assert labels_of(plane, f"{SPACES}/kept")["pod-security.kubernetes.io/enforce"] == "privileged"
    program.destroy()
    left = plane.request("GET", f"{SPACES}/kept")
    assert left["metadata"]["uid"] == uid and "deletionTimestamp" not in left["metadata"]


def test_missing_namespace_is_not_adopted(program: Program, plane: ControlPlane) -> None:
    output = program.up(ok=False, namespace={"namespace": "nowhere", "adopt": True})
    assert "resource 'nowhere' does not exist" in output
    assert plane.get(f"{SPACES}/nowhere") is None


def test_existing_class_is_refused_or_used_as_it_is(program: Program, plane: ControlPlane) -> None:
    theirs = {"metadata": {"name": "deployed"}, "handler": "kata-vm-isolation", "overhead": {"podFixed": {"memory": "7Mi"}}}
    created = plane.request("POST", CLASSES, theirs)
    output = program.up(ok=False, **{"class": {"runtime_class": "deployed"}})
    sentence = next(line for line in output.splitlines() if "[cluster-object-exists]" in line)
    assert "RuntimeClass deployed exists already" in sentence and "another name for the class, or use this one" in sentence
    output = program.up(ok=False, **{"class": {"runtime_class": "deployed", "adopt": True, "handler": "kata-clh"}})
    assert "uses the handler 'kata-vm-isolation', not 'kata-clh'" in output and "[runtime-class-handler]" in output
    assert "Traceback" not in output
    program.up(**{"class": {"runtime_class": "deployed", "adopt": True, "handler": None}})
    template = plane.request("GET", f"{SPACES}/sandboxes/podtemplates/nested")
    assert template["template"]["spec"]["runtimeClassName"] == "deployed"
    program.destroy()
    assert plane.request("GET", f"{CLASSES}/deployed") == created


def test_provider_that_would_take_over_makes_nothing(program: Program, plane: ControlPlane) -> None:
    path = space(plane, "taken", team="a")
    output = program.up(ok=False, serverSideApply=True, namespace={"namespace": "taken"})
    assert "enableServerSideApply: false" in output and "[cluster-provider-takes-over]" in output
    assert labels_of(plane, path) == {"team": "a"}
    assert plane.get(f"{CLASSES}/kata") is None


def reached(program: Program, plane: ControlPlane, **change: Any) -> str:
    """A kubeconfig like the plane's, with another server, or a token in place of the administrator's certificate."""
    document = json.loads(plane.kubeconfig)
    document["clusters"][0]["cluster"]["server"] = change.get("server", plane.server)
    if "token" in change:
        document["users"][0]["user"] = {"token": change["token"]}
    file = program.folder / "kubeconfig"
    file.write_text(json.dumps(document))
    return str(file)


def test_preview_works_without_a_cluster(program: Program, plane: ControlPlane) -> None:
    nowhere = reached(program, plane, server="https://127.0.0.1:1")
    output = program.pulumi("preview", kubeconfig=nowhere)
    assert "sandboxes-namespace" in output and "kata-class" in output
    adopted = {"namespace": {"adopt": True}, "class": {"adopt": True}}
    output = program.pulumi("preview", kubeconfig=nowhere, later=True, **adopted)
    assert "sandboxes-labels" in output


def test_cluster_that_lets_nobody_in_is_explained(program: Program, plane: ControlPlane) -> None:
    output = program.up(ok=False, kubeconfig=reached(program, plane, server="https://127.0.0.1:1"))
    assert "[cluster-unreachable]" in output and "does not answer. Start it" in output
    output = program.up(ok=False, kubeconfig=reached(program, plane, token="expired"))
    assert "[cluster-login-refused]" in output and "Get a new kubeconfig" in output
    token = plane.request("POST", f"{SPACES}/default/serviceaccounts/default/token", {"spec": {}})["status"]["token"]
    output = program.up(ok=False, kubeconfig=reached(program, plane, token=token))
    assert "[cluster-forbidden]" in output
    assert "user system:serviceaccount:default:default may not create runtimeclasses" in output
