"""The controller of joining nodes as a real process, with its own token and real roles and policy on a control plane."""

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusterkit import guard, joining, joining_guard, joining_workload, pod, pod_proof, proof_guard, runtime_class
from local import certificates, cluster, process
from nodekit.scripts import script
from tests.clusterkit import controller_image
from tests.clusterkit.control_plane import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, ACCOUNT = "joining", "controller"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
UNPROVEN = {"key": runtime_class.TAINT, "effect": "NoSchedule"}
OTHER = {"key": "team", "value": "a", "effect": "PreferNoSchedule"}


class Joining:
    """One namespace with the account, its rights and its settings; the controller is started and ended as a test needs it."""

    def __init__(self, folder: Path, plane: ControlPlane) -> None:
        self.folder, self.plane = folder, plane
        self.running: subprocess.Popen[bytes] | None = None
        template = pod.template("debian:13-slim", plane.runtime_class(), {"app": "sandbox"}, entry=script("entry.sh"))
        self.settings = joining.Settings(
            proof="joining-nodes",
            namespace=NAMESPACE,
            selector="katacontainers.io/kata-runtime=true",
            pod_template=json.dumps(template),
            handler="kata-qemu",
            kata_version="3.32.0",
            kernel_params=["user_namespace.enable=1"],
            nested_sandbox=True,
            sandbox="sandbox-runtime",
            image=None,
            timeout_seconds=60,
            account="prover",
        )
        self.make("/api/v1/namespaces", "Namespace", NAMESPACE, labels=guard.namespace_labels())
        for account in (ACCOUNT, self.settings.account):
            self.make(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", "ServiceAccount", account)
        alone = proof_guard.policy([proof_guard.REPLICA_SETS], [joining_guard.subject(NAMESPACE, ACCOUNT)])
        self.make(f"{ADMISSION}ies", "ValidatingAdmissionPolicy", "alone", spec=alone)
        bound = proof_guard.binding("alone", NAMESPACE)
        self.make(f"{ADMISSION}ybindings", "ValidatingAdmissionPolicyBinding", "alone", spec=bound)
        self.make(f"{ADMISSION}ies", "ValidatingAdmissionPolicy", "joining", spec=joining_guard.policy(NAMESPACE, ACCOUNT))
        self.make(f"{ADMISSION}ybindings", "ValidatingAdmissionPolicyBinding", "joining", spec=joining_guard.binding("joining"))
        subjects = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]
        for place, kind, rules in (
            ("", "ClusterRole", joining_workload.NODE_RULES),
            (f"/namespaces/{NAMESPACE}", "Role", joining_workload.own_rules(self.settings.proof)),
            (f"/namespaces/{joining.EVENTS_NAMESPACE}", "Role", joining_workload.EVENT_RULES),
        ):
            self.make(f"{RBAC}{place}/{kind.lower()}s", kind, "joining", rules=rules)
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "joining"}
            self.make(f"{RBAC}{place}/{kind.lower()}bindings", f"{kind}Binding", "joining", roleRef=ref, subjects=subjects)
        self.token = self.token_of(ACCOUNT)
        plane.until("the default account", lambda: plane.get(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"))

    def make(self, path: str, kind: str, name: str, labels: dict[str, str] | None = None, **body: object) -> None:
        """Make an object as the administrator; one with a field that the server does not know is refused."""
        about = {"name": name, "labels": labels or {}}
        self.plane.request("POST", f"{path}?fieldValidation=Strict", {"kind": kind, "metadata": about, **body})

    def token_of(self, account: str) -> str:
        """A token of a service account of the namespace."""
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.plane.request("POST", path, body)["status"]["token"])

    def kubeconfig(self, token: str, server: str) -> str:
        """A kubeconfig of a token."""
        authority = certificates.base64((self.plane.folder / "cluster" / "pki" / "ca.crt").read_text())
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        return json.dumps(document)

    def start(
        self,
        token: str | None = None,
        server: str | None = None,
        program: Sequence[str] = ("-m", "clusterkit.controller"),
        image: Path | None = None,
    ) -> None:
        """Start the controller, from this checkout or in its image's file system; its output so far is forgotten."""
        (self.folder / "kubeconfig").write_text(self.kubeconfig(token or self.token, server or self.plane.server))
        (self.folder / "settings.json").write_text(self.settings.json())
        health = f"http://{cluster.ADDRESS}:{process.free_port()}/healthz"
        environment = {**os.environ, "KUBECONFIG": str(self.folder / "kubeconfig"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *program, str(self.folder / "settings.json"), health]
        if image:
            inside = joining_workload.SETTINGS_PLACE
            place = image / inside.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for name in ("kubeconfig", "settings.json"):
                shutil.copyfile(self.folder / name, place / name)
            environment = {**os.environ, "KUBECONFIG": f"{inside}/kubeconfig"}
            command = controller_image.command(image, f"{inside}/{joining_workload.SETTINGS_KEY}", health)
        with (self.folder / "log").open("wb") as log:
            self.running = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)
        self.health = health

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the controller; its exit code."""
        assert self.running
        running, self.running = self.running, None
        running.send_signal(how)
        try:
            code = running.wait(40)
        finally:
            running.kill()  # so that one that goes on does not write into the next one's log
        print(f"--- controller: exit {code}\n{self.log()}")
        return code

    def log(self) -> str:
        """What it has logged since its start."""
        return (self.folder / "log").read_text()

    def node(self, name: str) -> dict[str, Any]:
        """A node as it is."""
        return self.plane.request("GET", f"/api/v1/nodes/{name}")

    def taints(self, name: str) -> list[dict[str, str]]:
        """Its taints, without what only the API server adds."""
        return [
            {key: taint[key] for key in ("key", "value", "effect") if key in taint}
            for taint in self.node(name)["spec"].get("taints", [])
        ]

    def jobs(self, node: str) -> list[dict[str, Any]]:
        """Jobs that should prove it."""
        jobs = self.plane.items(JOBS)
        return [job for job in jobs if job["metadata"]["annotations"][pod_proof.NODE_ANNOTATION] == node]

    def events(self, node: str) -> list[dict[str, Any]]:
        """Our Events about it."""
        events = self.plane.items(f"/api/v1/namespaces/{joining.EVENTS_NAMESPACE}/events")
        return [event for event in events if event["involvedObject"].get("name") == node and event["reason"] == "NotProven"]

    def evidence(self) -> dict[str, str]:
        """What is kept of proven nodes, by node."""
        label = f"{pod_proof.PROOF_LABEL}={self.settings.proof}"
        maps = self.plane.items(f"/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector={label}")
        return {node: text for config_map in maps for node, text in config_map.get("data", {}).items()}

    def patch_as_controller(self, node: str, patch: dict[str, Any] | list[dict[str, Any]]) -> tuple[int, str]:
        """Status and message of a patch of a node with the controller's own rights; nothing is changed."""
        context = ssl.create_default_context(cafile=str(self.plane.folder / "cluster" / "pki" / "ca.crt"))
        port = int(self.plane.server.rpartition(":")[2])
        connection = http.client.HTTPSConnection(cluster.ADDRESS, port, timeout=30, context=context)
        kind = "application/json-patch+json" if isinstance(patch, list) else "application/merge-patch+json"
        try:
            headers = {"Content-Type": kind, "Authorization": f"Bearer {self.token}"}
            connection.request("PATCH", f"/api/v1/nodes/{node}?dryRun=All", json.dumps(patch), headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        finally:
            connection.close()
        return answer.status, str(document.get("message", ""))
