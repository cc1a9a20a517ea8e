"""A tenant who may edit everything in the proof's own namespace cannot make a proof pass, on a real API server.

What would be lost if these failed: a tenant would write what a proof runs, reports or keeps, and the node's own kernel would pass
for a guest. Pods are played: no kubelet runs here.
"""

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from clusterkit import guard, pod, pod_proof, pod_verdict, proof_guard
from clusterkit.api.cluster_reader import Reader
from clusterkit.pod_verdict import Refusal
from local import cluster
from nodekit.scripts import ladder_script, script
from tests.clusterkit.control_plane import API_SERVERS
from tests.clusterkit.reports import report
from tools import get

pytestmark = pytest.mark.engine
PLACE, TENANTS = "proofs", "boxes"
JOB_CONTROLLER = proof_guard.JOB_CONTROLLERS[0]
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
OWN_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
LADDER = ladder_script()
NODE = pod_proof.Node("worker-1", "uid-of-worker-1", OWN_ID)
SETTINGS: dict[str, Any] = {
    "pod_template": json.dumps(pod.template("debian:13-slim", "kata-qemu", {}, entry=script("entry.sh"))),
    "handler": "kata-qemu", "kata_version": "3.32.0",
    "kernel_params": [], "nested_sandbox": True, "image": None, "timeout_seconds": 300,
}  # fmt: skip


class Api:
    """The API server, asked as its administrator or as someone else."""

    def __init__(self, directory: Path, started: dict[str, Any]) -> None:
        self.port = int(str(started["server"]).rpartition(":")[2])
        self.context = cluster.client_context(directory / "pki")
        self.reader = Reader(str(started["kubeconfig"]), None)

    def request(self, method: str, path: str, body: object = None, user: str = "") -> tuple[int, dict[str, Any]]:
        """Status and document of the answer."""
        connection = http.client.HTTPSConnection(cluster.ADDRESS, self.port, timeout=30, context=self.context)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": kind} | ({"Impersonate-User": user} if user else {})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, {"message": text.decode(errors="replace")}

    def succeed(self, method: str, path: str, body: object = None, user: str = "") -> dict[str, Any]:
        """The document of a request that succeeds."""
        status, document = self.request(method, path, body, user)
        assert status < 300, document
        return document

    def refused(self, rule: str, method: str, path: str, body: object = None, user: str = "tenant") -> None:
        """The guard refuses it by that rule."""
        status, document = self.request(method, path, body, user)
        assert status == 403, document
        assert f"Rule {rule} of the proof's guard ({proof_guard.RULES[rule]})" in document["message"], document


@pytest.fixture(scope="module", params=API_SERVERS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with the guarded namespace, and a tenant with the cluster's role `edit` everywhere."""
    directory = tmp_path_factory.mktemp("guard") / "cluster"
    settings: dict[str, Any] = {
        "directory": str(directory), "etcd": str(get.path("etcd")), "apiserver": str(get.path(request.param)),
    }  # fmt: skip
    try:
        api = Api(directory, dict(cluster.up(settings)))
        for name in (PLACE, TENANTS):
            labels = guard.namespace_labels()
            api.succeed("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
            for account in ("default", "prover"):
                path = f"/api/v1/namespaces/{name}/serviceaccounts"
                api.succeed("POST", path, {"metadata": {"name": account}})
        api.succeed("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "kata-qemu"}, "handler": "kata-qemu"})
        # The role `edit` is the sum of these two; no controller manager runs here to add them up.
        for role in ("system:aggregate-to-edit", "system:aggregate-to-view"):
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
            subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "tenant"}]
            body = {"metadata": {"name": role.replace(":", "-")}, "roleRef": ref, "subjects": subjects}
            api.succeed("POST", f"{RBAC}/clusterrolebindings", body)
        api.succeed("POST", f"{ADMISSION}ies?fieldValidation=Strict", {"metadata": {"name": "p"}, "spec": proof_guard.policy()})
        bound = {"metadata": {"name": "p"}, "spec": proof_guard.binding("p", PLACE)}
        api.succeed("POST", f"{ADMISSION}ybindings?fieldValidation=Strict", bound)
        end = time.monotonic() + 30
        while (
            api.request("POST", f"/api/v1/namespaces/{PLACE}/configmaps", {"metadata": {"name": "x-evidence"}}, "tenant")[0]
            == 201
        ):
            assert time.monotonic() < end, "the guard took no effect"
            api.succeed("DELETE", f"/api/v1/namespaces/{PLACE}/configmaps/x-evidence")
            time.sleep(0.1)
        yield api
    finally:
        cluster.down(settings)


@pytest.fixture
def job(api: Api) -> Iterator[dict[str, Any]]:
    """The Job that `up` makes."""
    path = f"/apis/batch/v1/namespaces/{PLACE}/jobs"
    request = ask()
    created = api.succeed(
        "POST", path, {"metadata": {**request.body["metadata"], "generateName": "proof-"}, "spec": request.body["spec"]}
    )
    yield created
    api.succeed("DELETE", f"{path}/{created['metadata']['name']}")


def ask() -> pod_proof.ProofRequest:
    """What `up` asks for."""
    return pod_proof.ask("proof", NODE, SETTINGS, LADDER, "prover")


def pod_of(job: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """The pod that the Job controller makes, on its node."""
    about, template = job["metadata"], deepcopy(job["spec"]["template"])
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"], "controller": True}
    metadata = {"generateName": "proof-", "ownerReferences": [owner], "finalizers": ["batch.kubernetes.io/job-tracking"]}
    return {"metadata": {**template["metadata"], **metadata}, "spec": {**template["spec"], "nodeName": NODE.name, **spec}}


def pods(namespace: str = PLACE, name: str = "", way: str = "") -> str:
    """Path of a namespace's pods, of one pod, or of a way into it."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "") + (f"/{way}" if way else "")


@pytest.fixture
def proof_pod(api: Api, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The Job's pod."""
    created = api.succeed("POST", pods(), pod_of(job), JOB_CONTROLLER)
    yield created
    path = pods(name=created["metadata"]["name"])
    api.request("PATCH", path, {"metadata": {"finalizers": None}})
    api.request("DELETE", f"{path}?gracePeriodSeconds=0")


def ended(api: Api, proof_pod: dict[str, Any], message: str) -> None:
    """The kubelet says that the pod's container ended with this message."""
    state = {"terminated": {"exitCode": 0, "message": message, "startedAt": None, "finishedAt": None}}
    about = {"name": "sandbox", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    body = {"status": {"phase": "Succeeded", "containerStatuses": [about]}}
    api.succeed("PATCH", pods(name=proof_pod["metadata"]["name"], way="status"), body)


def verdict(api: Api, job: dict[str, Any], before: str | None = None) -> dict[str, Any] | Refusal:
    """What the next `up` makes of it; the Job controller's own word, that the Job is complete, is played."""
    jobs, seen = api.reader.jobs(PLACE, "proof"), api.reader.pods(PLACE, "proof")
    uid = job["metadata"]["uid"]
    complete = {**jobs[uid], "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    return pod_verdict.verdict(ask(), pod_proof.Nodes([NODE]), complete, seen.get(uid), before)


def test_what_is_asked_for_is_what_the_api_server_holds(api: Api, job: dict[str, Any], proof_pod: dict[str, Any]) -> None:
    ended(api, proof_pod, report(ask().nonce))
    result = verdict(api, job)
    assert isinstance(result, dict), result
    assert result["job"] == job["metadata"]["uid"]


def test_nothing_of_what_a_pod_runs_lies_where_a_tenant_writes(job: dict[str, Any]) -> None:
    spec = job["spec"]["template"]["spec"]
    assert all(set(volume) <= {"name", "emptyDir"} for volume in spec["volumes"])
    (container,) = spec["containers"]
    assert LADDER in container["args"] and not [variable for variable in container["env"] if "valueFrom" in variable]
    assert "envFrom" not in container and spec["serviceAccountName"] == "prover"


def test_the_nodes_own_kernel_never_passes_for_a_guest(
    api: Api, job: dict[str, Any], proof_pod: dict[str, Any], tmp_path: Path
) -> None:
    """The kubelet's part, with a handler that leads to runc: the container's own command runs on the node's kernel."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable.get("value", "") for variable in container["env"]} | {
        "KATA_NODES_MESSAGE": str(tmp_path / "message")
    }
    climbing = container["args"][-3:]
    subprocess.run(
        climbing, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **variables}, capture_output=True, check=True, timeout=200
    )
    ended(api, proof_pod, (tmp_path / "message").read_text())
    result = verdict(api, job)
    assert isinstance(result, Refusal) and result.code == "proof-not-a-guest", result
    # Evidence with this boot id is not accepted later either.
    rungs = [{"name": "boot-id", "counts": True, "passed": True}]
    kept = {"node": NODE.name, "job": job["metadata"]["uid"], "proven": "pod", "guestBootId": OWN_ID, "rungs": rungs}
    api.succeed("PATCH", pods(name=proof_pod["metadata"]["name"]), {"metadata": {"finalizers": None}})
    api.succeed("DELETE", pods(name=proof_pod["metadata"]["name"]) + "?gracePeriodSeconds=0")
    result = verdict(api, job, json.dumps(kept))
    assert isinstance(result, Refusal) and result.code == "proof-not-a-guest", result


def test_a_tenants_pod_does_not_come_into_the_proofs_namespace_and_is_not_taken_for_the_jobs(
    api: Api, job: dict[str, Any]
) -> None:
    forged = pod_of(job)
    forged["spec"]["containers"][0] |= {"command": ["/bin/sh", "-c"], "args": ["echo forged >/dev/termination-log"]}
    api.refused("pods", "POST", pods(), forged)
    # If it existed all the same, because the guard was removed:
    forged_pod = api.succeed("POST", pods(), forged, JOB_CONTROLLER)
    ended(api, forged_pod, report(ask().nonce))
    result = verdict(api, job)
    assert isinstance(result, Refusal) and result.code == "proof-forged" and "container.args" in result.sentence
    api.succeed("PATCH", pods(name=forged_pod["metadata"]["name"]), {"metadata": {"finalizers": None}})
    api.succeed("DELETE", pods(name=forged_pod["metadata"]["name"]) + "?gracePeriodSeconds=0")
    # In its own namespace the tenant may do anything, and no proof reads it.
    api.succeed("POST", pods(TENANTS), forged | {"metadata": {**forged["metadata"], "finalizers": []}}, "tenant")
    assert job["metadata"]["uid"] not in api.reader.pods(PLACE, "proof")


@pytest.mark.parametrize("way", ["exec", "attach", "portforward", "proxy"])
def test_nobody_enters_a_pod_of_the_proof(api: Api, proof_pod: dict[str, Any], way: str) -> None:
    query = {"exec": "?command=sh&stdin=true&stdout=true", "attach": "?stdout=true", "portforward": "", "proxy": "/"}[way]
    for user in ("tenant", ""):
        api.refused("connect", "POST", pods(name=proof_pod["metadata"]["name"], way=way) + query, user=user)


def test_a_debug_container_an_image_an_owner_and_a_label_are_refused(api: Api, proof_pod: dict[str, Any]) -> None:
    name = proof_pod["metadata"]["name"]
    debug = {"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}}
    assert api.request("PATCH", pods(name=name, way="ephemeralcontainers"), debug, "tenant")[0] == 403
    api.refused("connect", "PATCH", pods(name=name, way="ephemeralcontainers"), debug, "")
    containers = [{**proof_pod["spec"]["containers"][0], "image": "another"}]
    api.refused("images", "PATCH", pods(name=name), {"spec": {"containers": containers}})
    owner = {**proof_pod["metadata"]["ownerReferences"][0], "uid": "11111111-2222-3333-4444-555555555555"}
    api.refused("images", "PATCH", pods(name=name), {"metadata": {"ownerReferences": [owner]}})
    # By its labels the Job controller gives a pod to another Job.
    for key in ("batch.kubernetes.io/controller-uid", "controller-uid", pod_proof.PROOF_LABEL, "new"):
        api.refused("images", "PATCH", pods(name=name), {"metadata": {"labels": {key: owner["uid"]}}})
    api.succeed("PATCH", pods(name=name), {"metadata": {"annotations": {"team": "a"}}}, "tenant")
    api.succeed("PATCH", pods(name=name), {"metadata": {"finalizers": None}}, JOB_CONTROLLER)


def test_jobs_and_evidence_are_written_by_the_stack_and_the_controllers_alone(api: Api, job: dict[str, Any]) -> None:
    maps = f"/api/v1/namespaces/{PLACE}/configmaps"
    name = pod_proof.evidence_name("proof")
    api.refused("writes", "POST", maps, {"metadata": {"name": name}, "data": {NODE.name: "{}"}})
    api.succeed("POST", maps, {"metadata": {"name": name}})
    api.refused("writes", "PATCH", f"{maps}/{name}", {"data": {NODE.name: "{}"}})
    path_of_job = f"/apis/batch/v1/namespaces/{PLACE}/jobs/{job['metadata']['name']}"
    api.refused("writes", "PATCH", path_of_job, {"metadata": {"annotations": {pod_proof.BOOT_ANNOTATION: "x"}}})
    body = {"metadata": {"generateName": "mine-"}, "spec": ask().body["spec"]}
    api.refused("writes", "POST", f"/apis/batch/v1/namespaces/{PLACE}/jobs", body)
    # A CronJob is a way to a Job as well.
    api.refused(
        "writes", "POST", f"/apis/batch/v1/namespaces/{PLACE}/jobs", body, "system:serviceaccount:kube-system:cronjob-controller"
    )
    api.refused("writes", "POST", maps, {"metadata": {"name": "joining-nodes-settings-0123"}})
    api.succeed("PATCH", path_of_job, {"metadata": {"annotations": {"a": "b"}}}, JOB_CONTROLLER)
    api.succeed("POST", maps, {"metadata": {"name": "kube-root-ca.crt"}}, "tenant")
    api.succeed("DELETE", f"{maps}/{name}")


def test_the_guard_holds_in_its_own_namespace_alone(api: Api) -> None:
    api.succeed("POST", f"/api/v1/namespaces/{TENANTS}/configmaps", {"metadata": {"name": "mine"}}, "tenant")
    api.succeed(
        "POST", pods(TENANTS), {"metadata": {"name": "mine"}, "spec": {"containers": [{"name": "a", "image": "i"}]}}, "tenant"
    )


def test_tenants_can_neither_lift_the_guard_nor_write_what_a_kubelet_reports(api: Api, proof_pod: dict[str, Any]) -> None:
    assert api.request("DELETE", f"{ADMISSION}ybindings/p", user="tenant")[0] == 403
    labels = {"metadata": {"labels": {"kubernetes.io/metadata.name": "another"}}}
    assert api.request("PATCH", f"/api/v1/namespaces/{PLACE}", labels, "tenant")[0] == 403
    status = {"status": {"phase": "Succeeded"}}
    assert api.request("PATCH", pods(name=proof_pod["metadata"]["name"], way="status"), status, "tenant")[0] == 403
