"""What components of a cluster refuse before anything is made, in one line and with its remedy."""

from typing import Any

import pulumi
import pytest
import yaml

from components import JoiningNodes, KataProof
from components.cluster import kata_proof
from components.cluster.proof_settings import PodProof
from tests.components.recorder import run
from tests.components.test_wiring import FakeCluster

PROOF: PodProof = {
    "pod_template": '{"spec": {"runtimeClassName": "kata-qemu", "containers": [{"name": "sandbox", "image": "i"}]}}',
    "handler": "kata-qemu",
    "kata_version": "3.32.0",
}
KUBECONFIG = yaml.safe_dump({"clusters": []})


def proves(proof: dict[str, Any]) -> Any:
    return lambda: KataProof(
        "p",
        {"kubeconfig": KUBECONFIG, "namespace": "n", "proof": {**PROOF, **proof}, "nodes": ["one"]},  # type: ignore[typeddict-item]
    )


def joins(proof: dict[str, Any]) -> Any:
    return lambda: JoiningNodes(
        "j",
        {"namespace": "n", "image": "c", "selector": "a=b", "proof": {**PROOF, **proof}},  # type: ignore[typeddict-item]
    )


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kata_proof, "reader", lambda args, kubeconfig: FakeCluster())


@pytest.mark.parametrize("program", [proves, joins])
def test_sandbox_that_no_rung_counts_for_is_refused_and_not_proven(program: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"sandbox is 'bubblewarp'. Use one of sandbox-runtime, bubblewrap, rootless"):
        run(program({"sandbox": "bubblewarp"}))


@pytest.mark.parametrize("key", ["nested_sandbox", "sandbox", "timeout_seconds", "kernel_params"])
def test_setting_without_a_value_keeps_its_default(key: str) -> None:
    (job,) = (resource for resource in run(proves({key: None})).by_name.values() if resource.type == "kubernetes:batch/v1:Job")
    (same,) = (resource for resource in run(proves({})).by_name.values() if resource.type == "kubernetes:batch/v1:Job")
    assert job.inputs == same.inputs
