"""A Pulumi program with one KataProof on a control plane, run by the real engine and the real Kubernetes plugin."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from clusterkit import guard, pod, pod_proof
from nodekit.scripts import script
from tests.clusterkit import reports
from tests.clusterkit.control_plane import NONCE, ControlPlane, exits

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "proofs"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PROGRAM = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s
from clusterkit import pod_proof
from components.cluster.kata_proof import KataProof
from components.cluster.proof_settings import PodProof
inputs = json.loads(pathlib.Path("inputs.json").read_text())
kubeconfig = pulumi.Output.secret(inputs.pop("kubeconfig"))
provider = k8s.Provider("cluster", kubeconfig=kubeconfig, enable_server_side_apply=inputs.pop("server_side"))
pod_proof.NODES_OF_MAP = inputs.pop("nodes_of_map", pod_proof.NODES_OF_MAP)
proof = {key: inputs.pop(key) for key in PodProof.__annotations__ if key in inputs}
options = pulumi.ResourceOptions(providers={"kubernetes": provider})
created = KataProof("proof", {**inputs, "proof": proof, "kubeconfig": kubeconfig}, options)
options = pulumi.ResourceOptions(provider=provider, depends_on=[created])
k8s.core.v1.ConfigMap("after", metadata={"name": "after"}, opts=options)
pulumi.export("evidence", created.evidence)
"""
PROVEN = exits(0, reports.report(NONCE))
ZERO_TEXT = "rung user-namespaces (/proc/sys/user/max_user_namespaces) read '0': a hardening default of the guest sets it"
ZERO = exits(0, reports.report(NONCE, **reports.ZERO))


class Proving:
    """The program in a folder of its own, against a control plane."""

    def __init__(self, folder: Path, plane: ControlPlane, **inputs: Any) -> None:
        self.folder, self.plane = folder, plane
        (folder / "state").mkdir(parents=True)
        (folder / "Pulumi.yaml").write_text("name: proof-test\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        if plane.get(f"/api/v1/namespaces/{NAMESPACE}") is None:
            place = {"metadata": {"name": NAMESPACE, "labels": guard.namespace_labels()}}
            plane.request("POST", "/api/v1/namespaces", place)
        template = pod.template("debian:13-slim", plane.runtime_class(), {"app": "sandbox"}, entry=script("entry.sh"))
        self.inputs: dict[str, Any] = {
            "kubeconfig": plane.kubeconfig,
            "namespace": NAMESPACE,
            "pod_template": json.dumps(template),
            "handler": "kata-qemu",
            "kata_version": "3.32.0",
            "kernel_params": ["user_namespace.enable=1"],
            "nested_sandbox": True,
            "timeout_seconds": 60,
            "server_side": False,
            **inputs,
        }
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "KUBECONFIG": str(folder / "none"),
        }
        self.environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        self.run("stack", "init", "test")

    def run(self, *arguments: str, fails: bool = False) -> str:
        """What the engine prints; it must succeed, or fail where `fails` is set."""
        (self.folder / "inputs.json").write_text(json.dumps(self.inputs))
        begin = time.monotonic()
        result = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.folder, env=self.environment, text=True, timeout=280,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        print(
            f"--- pulumi {' '.join(arguments)}: exit {result.returncode} after {time.monotonic() - begin:.1f} s\n{result.stdout}"
        )
        assert (result.returncode != 0) == fails, result.stdout
        return result.stdout

    def up(self, *arguments: str, fails: bool = False, **inputs: Any) -> str:
        """`up` with changed arguments of the component; None takes one away."""
        self.inputs = {key: value for key, value in {**self.inputs, **inputs}.items() if value is not None}
        return self.run("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def evidence(self) -> dict[str, Any]:
        """The stack output."""
        value: dict[str, Any] = json.loads(self.run("stack", "output", "evidence", "--json"))
        return value

    def jobs(self) -> dict[str, str]:
        """Uid of every Job on the cluster, by node."""
        return {
            job["metadata"]["annotations"][pod_proof.NODE_ANNOTATION]: job["metadata"]["uid"] for job in self.plane.items(JOBS)
        }

    def has(self, name: str) -> bool:
        """Whether a ConfigMap is there."""
        place = "default" if name == "after" else NAMESPACE
        return self.plane.get(f"/api/v1/namespaces/{place}/configmaps/{name}") is not None


def refusals(output: str) -> dict[str, str]:
    """The code by node, from the lines that name nodes that are not proven."""
    matches = (re.match(r"\s+(node-\d+): .*\[([a-z-]+)\]$", line) for line in output.splitlines())
    return {match[1]: match[2] for match in matches if match}
