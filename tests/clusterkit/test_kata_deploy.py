"""kata-deploy's values: lost if these fail are every guest's base parameters, or nodes that keep the old ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from clusterkit import kata_deploy
from nodekit.errors import NodeError
from nodekit.rules.kata import kata_config

SEED, LIMIT = "user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000"


def values(version: str, *given: str, runtime: str = "go") -> Any:
    return kata_deploy.values(version, runtime, given, True)


def written(text: str) -> str:
    """The parameters that a drop-in sets."""
    return kata_config.parameters([("drop-in", text)], "qemu")


@pytest.mark.parametrize(
    ("version", "runtime", "handler"),
    [
        ("3.26.0", "go", "kata-nodes-qemu"),
        ("3.31.0", "rust", "kata-nodes-qemu"),
        ("3.32.0", "go", "kata-qemu"),
        ("4.1.0", "rust", "kata-qemu-runtime-rs"),
    ],
)
def test_the_handler_is_the_one_that_has_the_drop_in(version: str, runtime: str, handler: str) -> None:
    assert kata_deploy.handler(version, runtime) == handler


def test_from_3_32_the_shim_has_the_drop_in_and_nothing_else_is_on() -> None:
    made = values("3.32.0", LIMIT)
    assert made["shims"] == {"disableAll": True, "qemu": {"enabled": True, "dropIn": made["shims"]["qemu"]["dropIn"]}}
    assert written(made["shims"]["qemu"]["dropIn"]) == f"{kata_deploy.BASE} {SEED} {LIMIT}"
    assert "customRuntimes" not in made
    assert values("4.1.0", runtime="rust")["shims"]["qemu-runtime-rs"]["enabled"] is True


def test_before_a_custom_runtime_has_it_with_the_class_whose_handler_the_chart_reads() -> None:
    custom = values("3.27.0", LIMIT)["customRuntimes"]["runtimes"]["kata-nodes-qemu"]
    assert written(custom["dropIn"]) == f"{kata_deploy.BASE} {SEED} {LIMIT}"
    assert custom["baseConfig"] == "qemu"
    handlers = [line.strip() for line in custom["runtimeClass"].split("\n") if line.strip().startswith("handler:")]
    assert handlers == ["handler: kata-nodes-qemu"]
    assert custom["containerd"] == {"snapshotter": ""} and custom["crio"] == {"pullType": ""}  # the chart reads through both


@pytest.mark.parametrize(("version", "key"), [("3.27.0", "tolerations"), ("3.32.0", "tolerations"), ("4.0.0", "podAnnotations")])
def test_a_changed_drop_in_rolls_the_pods_and_an_unchanged_one_does_not(version: str, key: str) -> None:
    assert values(version, LIMIT)[key] == values(version, LIMIT)[key] != values(version)[key]


@pytest.mark.parametrize("version", ["3.27.0", "3.32.0", "4.1.0"])
def test_a_node_that_waits_for_its_proof_gets_kata(version: str) -> None:
    assert {"key": "kata-nodes/unproven", "operator": "Exists"} in values(version)["tolerations"]


def test_a_release_without_drop_ins_is_refused_with_the_remedy() -> None:
    with pytest.raises(NodeError) as caught:
        values("3.25.0")
    assert caught.value.code == "bad-input" and "3.26.0 or newer" in caught.value.remedy
    with pytest.raises(NodeError, match="twice"):
        values("3.32.0", "quiet=1", "quiet=0")


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: kata-deploy\nversion: {version}\n",
    "templates/told.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: told\ndata:\n  values: {{{{ .Values | toJson | quote }}}}\n"
    ),
}
"""A chart in kata-deploy's place that only keeps what it is told."""
PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from components.cluster.kata_deploy import KataDeploy
given = json.loads(pathlib.Path("given.json").read_text())
provider = k8s.Provider("cluster", kubeconfig=pulumi.Output.secret(given.pop("kubeconfig")))
made = KataDeploy("kata", given, pulumi.ResourceOptions(providers={"kubernetes": provider}))
pulumi.export("handler", made.handler)
"""


def write_chart(folder: Path, version: str) -> None:
    """Lay the chart out."""
    for name, text in CHART.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(version=version))


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_real_helm_engine_is_told_and_a_change_is_an_upgrade(tmp_path: Path) -> None:
    from tests.clusterkit.control_plane import ControlPlane
    from tests.clusterkit.proving import Proving

    plane = ControlPlane(tmp_path / "plane")
    try:
        write_chart(tmp_path / "chart", "3.32.0")
        proving = Proving(tmp_path / "stack", plane)
        (proving.folder / "__main__.py").write_text(PROGRAM)
        proving.given = {
            "kubeconfig": plane.kubeconfig, "chart": str(tmp_path / "chart"), "version": "3.32.0", "runtime": "go",
            "kernel_params": [LIMIT], "nested_sandbox": True, "namespace": "default",
        }  # fmt: skip

        def told() -> dict[str, Any]:
            found = plane.get("/api/v1/namespaces/default/configmaps/told")
            assert found is not None
            values: dict[str, Any] = json.loads(json.loads(found)["data"]["values"])
            return values

        proving.up()
        assert written(told()["shims"]["qemu"]["dropIn"]).endswith(LIMIT)
        assert json.loads(proving.run("stack", "output", "handler", "--json")) == "kata-qemu"
        before = told()["tolerations"]
        proving.up("--expect-no-changes")
        proving.up(kernel_params=["quiet"])
        assert written(told()["shims"]["qemu"]["dropIn"]).endswith("quiet")
        assert told()["tolerations"] != before
        proving.run("destroy", "--yes", "--skip-preview")
        assert plane.get("/api/v1/namespaces/default/configmaps/told") is None
    finally:
        plane.close()
