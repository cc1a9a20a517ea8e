"""The component of joining nodes by the real engine and Kubernetes plugin: what they make is what the API server knows.

What would be lost if this failed: a misspelt field, a name that was never made, a Deployment that keeps its old settings.
"""

import json
from pathlib import Path

import pytest

from clusterkit import joining, joining_workload, pod
from nodekit.scripts import script
from tests.clusterkit.control_plane import HANGS, ControlPlane
from tests.clusterkit.joining import OTHER, UNPROVEN
from tests.clusterkit.proving import Proving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
NAMESPACE = "component"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from components import JoiningNodes
inputs = json.loads(pathlib.Path("inputs.json").read_text())
kubeconfig = pulumi.Output.secret(inputs.pop("kubeconfig"))
provider = k8s.Provider("cluster", kubeconfig=kubeconfig, enable_server_side_apply=False)
created = JoiningNodes("joining-nodes", inputs, pulumi.ResourceOptions(providers={"kubernetes": provider}))
pulumi.export("deployment", created.deployment)
"""


def test_controller_starts_where_every_node_waits_rolls_on_a_change_and_is_removed(plane: ControlPlane, tmp_path: Path) -> None:
    plane.behave({"node-0": HANGS}, taints=[OTHER, UNPROVEN])
    plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    plane.until("its account", lambda: plane.get(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"))
    proving = Proving(tmp_path / "stack", plane)
    (proving.folder / "__main__.py").write_text(PROGRAM)
    proving.inputs = {
        "kubeconfig": plane.kubeconfig, "namespace": NAMESPACE, "image": "controller:1", "selector": "a=b",
        "proof": {
            "pod_template": json.dumps(pod.template("image", "kata-qemu", {}, entry=script("entry.sh"))),
            "handler": "kata-qemu", "kata_version": "3.32.0", "kernel_params": ["quiet"], "timeout_seconds": 60,
        },
    }  # fmt: skip

    def deployed_settings() -> joining.Settings:
        """The settings that the one Deployment's pods get."""
        (deployment,) = plane.items(DEPLOYMENTS)
        assert deployment["status"]["availableReplicas"] == 1
        name = deployment["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
        config_map = plane.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
        return joining.settings(config_map["data"][joining_workload.SETTINGS_KEY])

    proving.up()
    (before,) = plane.items(DEPLOYMENTS)
    assert deployed_settings().selector == "a=b" and deployed_settings().kernel_params == ["quiet"]
    account = before["spec"]["template"]["spec"]["serviceAccountName"]
    policies = plane.items("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")
    (policy,) = (candidate for candidate in policies if "guard-policy" in candidate["metadata"]["name"])
    (alone,) = (candidate for candidate in policies if "proof-policy" in candidate["metadata"]["name"])
    assert f"system:serviceaccount:{NAMESPACE}:{account}" in json.dumps(alone["spec"]["validations"])
    assert deployed_settings().account != account
    assert f"system:serviceaccount:{NAMESPACE}:{account}" in policy["spec"]["matchConditions"][0]["expression"]
    (bound,) = (
        role_binding
        for role_binding in plane.items("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")
        if "joining" in role_binding["roleRef"]["name"]
    )
    assert bound["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    proving.up("--expect-no-changes")
    proving.up(selector="c=d", image="controller:2")
    (after,) = plane.items(DEPLOYMENTS)
    assert deployed_settings().selector == "c=d" and after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "controller:2"
    proving.run("destroy", "--yes", "--skip-preview")
    assert not plane.items(DEPLOYMENTS)
    assert not plane.items("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")
