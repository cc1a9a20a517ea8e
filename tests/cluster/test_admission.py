"""A real API server refuses what the guard is for, says which rule it was, and lets the template's own pods pass."""

import copy
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cluster
from nodekit.rules import guard, pod
from tools import get

pytestmark = pytest.mark.engine
ALLOWED = "io.katacontainers.config.hypervisor.default_vcpus"
KERNEL_PARAMS = "io.katacontainers.config.hypervisor.kernel_params"
PODS = "/api/v1/namespaces/{}/pods"


class Api:
    """The API server as its administrator sees it."""

    def __init__(self, directory: Path, server: str) -> None:
        self.port, self.context = int(server.rpartition(":")[2]), cluster.client_context(directory / "pki")

    def request(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and document of the answer."""
        connection = http.client.HTTPSConnection(cluster.ADDRESS, self.port, timeout=30, context=self.context)
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def made(self, path: str, kind: str, name: str, **body: object) -> None:
        """Make an object; fails when it is refused."""
        status, said = self.request("POST", path, {"kind": kind, "metadata": {"name": name}, **body})
        assert status == 201, said

    def namespace(self, name: str, labels: dict[str, str]) -> None:
        """Make a namespace with the service account that the controller manager would make."""
        status, said = self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        assert status == 201, said
        self.made(f"/api/v1/namespaces/{name}/serviceaccounts", "ServiceAccount", "default")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with the class, a guarded namespace, one beside it, and two of stricter Pod Security."""
    directory = tmp_path_factory.mktemp("admission") / "cluster"
    command = cluster.apiserver_command
    # As on every cluster whose network add-on runs in pods; without it the server knows no privileged container.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(cluster, "apiserver_command", lambda *given: [*command(*given), "--allow-privileged=true"])
    asked: dict[str, Any] = {
        "directory": str(directory), "etcd": str(get.path("etcd")), "apiserver": str(get.path("kube-apiserver")),
    }  # fmt: skip
    try:
        api = Api(directory, str(cluster.up(asked)["server"]))
        registration = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
        policy = guard.policy(["kata-qemu", "kata-clh"], [ALLOWED])
        api.made(f"{registration}ies", "ValidatingAdmissionPolicy", "sandbox-guard", spec=policy)
        api.made(
            f"{registration}ybindings",
            "ValidatingAdmissionPolicyBinding",
            "sandbox-guard",
            spec=guard.binding("sandbox-guard", "us"),
        )
        for name in ("kata-qemu", "runc"):
            api.made("/apis/node.k8s.io/v1/runtimeclasses", "RuntimeClass", name, handler=name)
        api.namespace("guarded", guard.namespace_labels("us"))
        api.namespace("others", guard.namespace_labels("them"))
        for level in ("baseline", "restricted"):
            api.namespace(level, {"pod-security.kubernetes.io/enforce": level})
        forbidden = template_pod()
        forbidden["spec"]["hostPID"] = True
        end = time.monotonic() + 30
        while refusal(api, forbidden) is None:
            assert time.monotonic() < end, "the guard took no effect"
            time.sleep(0.1)
        yield api
    finally:
        cluster.down(asked)
        monkeypatch.undo()


def template_pod(**variant: Any) -> dict[str, Any]:
    """A pod as a controller makes it of the template."""
    made: dict[str, Any] = copy.deepcopy(pod.template("image", "kata-qemu", {"app": "sandbox"}, **variant))
    return {"metadata": {**made["metadata"], "generateName": "sandbox-"}, "spec": made["spec"]}


def plain_pod(**context: Any) -> dict[str, Any]:
    """A pod on the node's own kernel."""
    container = {"name": "plain", "image": "image", "securityContext": context}
    return {"metadata": {"generateName": "plain-"}, "spec": {"containers": [container]}}


def refusal(api: Api, body: dict[str, Any], namespace: str = "guarded") -> str | None:
    """What the server says when it refuses a pod, or None when it would make it."""
    status, said = api.request("POST", PODS.format(namespace) + "?dryRun=All", body)
    assert status in (201, 403), said
    return str(said["message"]) if status == 403 else None


def refused(api: Api, body: dict[str, Any], rule: str, *said: str) -> None:
    """The pod is refused by that rule of the guard, in words that hold each of `said`."""
    message = refusal(api, body)
    assert message is not None
    assert f"Rule {rule} of the sandbox guard ({guard.RULES[rule]}): " in message, message
    for part in said:
        assert part in message


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("ordinary", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_every_variant_of_the_template_is_admitted(api: Api, nested: bool, ordinary: bool, read_only: bool) -> None:
    assert refusal(api, template_pod(nested_sandbox=nested, ordinary_user=ordinary, read_only_root=read_only)) is None


def test_plain_pod_is_admitted(api: Api) -> None:
    assert refusal(api, plain_pod()) is None
    assert refusal(api, plain_pod(capabilities={"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]})) is None


@pytest.mark.parametrize(
    "name",
    ["NET_ADMIN", "SYS_ADMIN", "CAP_SYS_ADMIN", "sys_admin", "cap_Net_Admin", "ALL", "all", "SYS_ADM\u0131N", "\u017fYS_ADMIN",
     "SYS_MODULE"],
)  # fmt: skip
def test_capability_is_refused_without_a_kata_class_however_it_is_written(api: Api, name: str) -> None:
    refused(api, plain_pod(capabilities={"add": ["CHOWN", name]}), "capabilities", "container plain adds", "kata-qemu, kata-clh")


def test_capability_is_refused_under_a_class_that_is_not_ours(api: Api) -> None:
    body = template_pod()
    body["spec"]["runtimeClassName"] = "runc"
    refused(api, body, "capabilities", "container sandbox adds")


def test_capability_hides_in_no_kind_of_container(api: Api) -> None:
    body = plain_pod()
    body["spec"]["initContainers"] = [
        {"name": "first", "image": "image", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
    ]
    refused(api, body, "capabilities", "container first adds")
    body["spec"]["initContainers"][0] |= {"securityContext": {"privileged": True}}
    refused(api, body, "privileged", "container first is privileged")


def test_debug_container_is_refused_and_allowed_as_any_other(api: Api) -> None:
    for name, body, wanted in (("plain", plain_pod(), 403), ("kata", template_pod(), 200)):
        body["metadata"] = {"name": name}
        assert api.request("POST", PODS.format("guarded"), body)[0] == 201
        debug = {"name": "debug", "image": "image", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
        path = f"{PODS.format('guarded')}/{name}/ephemeralcontainers"
        status, said = api.request("PATCH", path, {"spec": {"ephemeralContainers": [debug]}})
        assert status == wanted, said
        assert wanted == 200 or "Rule capabilities" in said["message"]
    debug |= {"name": "worse", "securityContext": {"privileged": True}}
    status, said = api.request("PATCH", path, {"spec": {"ephemeralContainers": [debug]}})
    assert status == 403 and "container worse is privileged" in said["message"]


def test_privileged_is_refused_under_every_class(api: Api) -> None:
    body = template_pod()
    body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    refused(api, body, "privileged", "container sandbox is privileged")
    refused(api, plain_pod(privileged=True), "privileged", "container plain is privileged")


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_host_namespace_is_refused_under_every_class(api: Api, field: str) -> None:
    body = template_pod()
    body["spec"][field] = True
    refused(api, body, "host-namespaces", field)


def test_node_folder_is_refused_under_every_class(api: Api) -> None:
    body = template_pod()
    body["spec"].setdefault("volumes", []).append({"name": "node", "hostPath": {"path": "/"}})
    refused(api, body, "host-path", "node is a hostPath volume", "emptyDir")


def test_guest_parameters_are_not_a_tenants_to_set(api: Api) -> None:
    body = template_pod()
    body["metadata"]["annotations"] = {ALLOWED: "2", "example.org/anything": "x"}
    assert refusal(api, body) is None
    body["metadata"]["annotations"] |= {KERNEL_PARAMS: "sysctl.user.max_user_namespaces=0"}
    refused(api, body, "annotations", KERNEL_PARAMS, "allow-list")


def test_annotation_is_refused_later_as_well_and_a_pod_from_before_can_still_finish(api: Api) -> None:
    body = template_pod()
    body["metadata"] = {"name": "older", "annotations": {KERNEL_PARAMS: "quiet"}}
    body["spec"]["hostPID"] = True
    _, namespace = api.request("GET", "/api/v1/namespaces/guarded")
    unguarded = {"metadata": {"labels": {guard.LABEL: None}}}
    assert api.request("PATCH", "/api/v1/namespaces/guarded", unguarded)[0] == 200
    end = time.monotonic() + 30
    while (status := api.request("POST", PODS.format("guarded"), body)[0]) != 201:
        assert time.monotonic() < end, status
        time.sleep(0.1)
    labelled = {"metadata": {"labels": {guard.LABEL: namespace["metadata"]["labels"][guard.LABEL]}}}
    assert api.request("PATCH", "/api/v1/namespaces/guarded", labelled)[0] == 200
    while refusal(api, {**body, "metadata": {"name": "again"}}) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    path = f"{PODS.format('guarded')}/older"
    status, said = api.request("PATCH", path, {"metadata": {"labels": {"finished": "yes"}}})
    assert status == 200, said["message"]
    status, said = api.request("PATCH", path, {"metadata": {"annotations": {KERNEL_PARAMS: "other"}}})
    assert status == 403 and "Rule annotations" in said["message"]


def test_guard_watches_its_own_namespaces_alone(api: Api) -> None:
    assert refusal(api, plain_pod(privileged=True), "others") is None


def test_baseline_namespace_refuses_the_template_and_says_why(api: Api) -> None:
    message = refusal(api, template_pod(), "baseline")
    assert message and 'violates PodSecurity "baseline:latest"' in message
    assert 'container "sandbox" must not include "NET_ADMIN", "SYS_ADMIN"' in message


def test_ordinary_user_passes_where_pod_security_is_strictest(api: Api) -> None:
    assert refusal(api, template_pod(ordinary_user=True), "restricted") is None
    assert refusal(api, template_pod(), "restricted") is not None
