"""A real API server refuses what the guard is for, names the rule, and lets the template's own pods pass."""

import copy
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterkit import guard, pod, runtime_class
from local import cluster
from nodekit.scripts import script
from tests.clusterkit.control_plane import API_SERVERS
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

    def create(self, path: str, kind: str, name: str, **body: object) -> None:
        """Make an object; fails when it is refused."""
        status, answer = self.request("POST", path, {"kind": kind, "metadata": {"name": name}, **body})
        assert status == 201, answer

    def namespace(self, name: str, labels: dict[str, str]) -> None:
        """Make a namespace with the service account that the controller manager would make."""
        status, answer = self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        assert status == 201, answer
        self.create(f"/api/v1/namespaces/{name}/serviceaccounts", "ServiceAccount", "default")


@pytest.fixture(scope="module", params=API_SERVERS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with the class, a guarded namespace, one beside it, and two of stricter Pod Security."""
    directory = tmp_path_factory.mktemp("admission") / "cluster"
    command = cluster.apiserver_command
    # As on every cluster whose network add-on runs in pods; without it the server knows no privileged container.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(cluster, "apiserver_command", lambda *args: [*command(*args), "--allow-privileged=true"])
    cluster_request: dict[str, Any] = {
        "directory": str(directory), "etcd": str(get.path("etcd")), "apiserver": str(get.path(request.param)),
    }  # fmt: skip
    try:
        api = Api(directory, str(cluster.up(cluster_request)["server"]))
        registration = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
        policy = guard.policy(["kata-qemu", "kata-clh"], [ALLOWED])
        api.create(f"{registration}ies", "ValidatingAdmissionPolicy", "sandbox-guard", spec=policy)
        api.create(
            f"{registration}ybindings",
            "ValidatingAdmissionPolicyBinding",
            "sandbox-guard",
            spec=guard.binding("sandbox-guard", ["guarded", "guarded-too"]),
        )
        for name in ("kata-qemu", "runc"):
            api.create("/apis/node.k8s.io/v1/runtimeclasses", "RuntimeClass", name, handler=name)
        policy = guard.policy(["kata-qemu"], [], True)
        api.create(f"{registration}ies", "ValidatingAdmissionPolicy", "privileged-guard", spec=policy)
        binding = guard.binding("privileged-guard", ["privileged"])
        api.create(f"{registration}ybindings", "ValidatingAdmissionPolicyBinding", "privileged-guard", spec=binding)
        policy = guard.policy(["kata-qemu"], proof_namespaces=["joining-proof"])
        api.create(f"{registration}ies", "ValidatingAdmissionPolicy", "joining-guard", spec=policy)
        binding = guard.binding("joining-guard", ["joining-sandboxes", "joining-proof"])
        api.create(f"{registration}ybindings", "ValidatingAdmissionPolicyBinding", "joining-guard", spec=binding)
        for name in ("guarded", "others", "privileged", "joining-sandboxes", "joining-proof"):
            api.namespace(name, guard.namespace_labels())
        for level in ("baseline", "restricted"):
            api.namespace(level, {"pod-security.kubernetes.io/enforce": level})
        forbidden = template_pod()
        forbidden["spec"]["hostPID"] = True
        end = time.monotonic() + 30
        while not all(refusal(api, forbidden, name) for name in ("guarded", "privileged", "joining-sandboxes")):
            assert time.monotonic() < end, "the guard took no effect"
            time.sleep(0.1)
        yield api
    finally:
        cluster.down(cluster_request)
        monkeypatch.undo()


def template_pod(**variant: Any) -> dict[str, Any]:
    """A pod as a controller makes it of the template."""
    template: dict[str, Any] = copy.deepcopy(
        pod.template("image", "kata-qemu", {"app": "sandbox"}, entry=script("entry.sh"), **variant)
    )
    return {"metadata": {**template["metadata"], "generateName": "sandbox-"}, "spec": template["spec"]}


def plain_pod(**context: Any) -> dict[str, Any]:
    """A pod on the node's own kernel."""
    container = {"name": "plain", "image": "image", "securityContext": context}
    return {"metadata": {"generateName": "plain-"}, "spec": {"containers": [container]}}


def refusal(api: Api, body: dict[str, Any], namespace: str = "guarded") -> str | None:
    """The server's refusal of a pod, or None when it would make it."""
    status, answer = api.request("POST", PODS.format(namespace) + "?dryRun=All", body)
    assert status in (201, 403), answer
    return str(answer["message"]) if status == 403 else None


def refused(api: Api, body: dict[str, Any], rule: str, *words: str) -> None:
    """The pod is refused by that rule of the guard, in words that hold each of `words`."""
    message = refusal(api, body)
    assert message is not None
    assert f"Rule {rule} of the sandbox guard ({guard.RULES[rule]}): " in message, message
    for part in words:
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
    for name, body, expected in (("plain", plain_pod(), 403), ("kata", template_pod(), 200)):
        body["metadata"] = {"name": name}
        assert api.request("POST", PODS.format("guarded"), body)[0] == 201
        debug = {"name": "debug", "image": "image", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}
        path = f"{PODS.format('guarded')}/{name}/ephemeralcontainers"
        status, answer = api.request("PATCH", path, {"spec": {"ephemeralContainers": [debug]}})
        assert status == expected, answer
        assert expected == 200 or "Rule capabilities" in answer["message"]
    debug |= {"name": "worse", "securityContext": {"privileged": True}}
    status, answer = api.request("PATCH", path, {"spec": {"ephemeralContainers": [debug]}})
    assert status == 403 and "container worse is privileged" in answer["message"]


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


def test_git_runs_on_no_node_for_a_tenant(api: Api) -> None:
    """A kubelet fetches such a volume by itself, outside of any guest."""
    body = template_pod()
    body["spec"].setdefault("volumes", []).append({"name": "code", "gitRepo": {"repository": "https://git.example/x"}})
    refused(api, body, "host-path", "code is a gitRepo volume", "emptyDir")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"iscsi": {"targetPortal": "192.0.2.1:10250", "iqn": "iqn.2001-04.com.example:x", "lun": 0}}, "an iscsi volume"),
        ({"nfs": {"server": "192.0.2.1", "path": "/"}}, "an nfs volume"),
        ({"flexVolume": {"driver": "a/b"}}, "a flexVolume volume"),
    ],
)
def test_no_volume_whose_source_the_pod_names_is_mounted_by_the_node(api: Api, source: dict[str, Any], words: str) -> None:
    """It is the node that connects there, and its kernel that reads what comes."""
    for body in (template_pod(), plain_pod()):
        body["spec"].setdefault("volumes", []).append({"name": "data", **source})
        refused(api, body, "host-path", f"data is {words}", "a claim")
        body["spec"]["volumes"][-1] = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        assert refusal(api, body) is None


def test_guest_parameters_are_not_a_tenants_to_set(api: Api) -> None:
    body = template_pod()
    body["metadata"]["annotations"] = {ALLOWED: "2", "example.org/anything": "x"}
    assert refusal(api, body) is None
    body["metadata"]["annotations"] |= {KERNEL_PARAMS: "sysctl.user.max_user_namespaces=0"}
    refused(api, body, "annotations", KERNEL_PARAMS, "allow-list")


@pytest.mark.parametrize("key", [KERNEL_PARAMS, "io.kubernetes.cri.sandbox-memory", "io.kubernetes.cri-o.SandboxID"])
def test_labels_and_annotations_of_the_runtime_are_not_a_tenants_to_set(api: Api, key: str) -> None:
    """CRI-O hands both to Kata, which reads containerd's keys as well."""
    for kind, words in (("annotations", key), ("labels", f"label {key}")):
        body = template_pod()
        body["metadata"][kind] = {"app": "sandbox", key: "1"}
        refused(api, body, "annotations", f": {words} would change", "allow-list")
        body["metadata"][kind] = {"app": "sandbox", ALLOWED: "2", "io.kubernetes.criterion": "1"}
        assert refusal(api, body) is None


def test_annotation_comes_neither_with_a_binding_nor_with_a_status(api: Api) -> None:
    """The API server copies a binding's annotations into the pod, and takes those that are written with a status."""
    for name in ("bound", "bound-too"):
        assert api.request("POST", PODS.format("guarded"), {**template_pod(), "metadata": {"name": name}})[0] == 201
    about = {"name": "bound", "annotations": {KERNEL_PARAMS: "quiet"}}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": about, "target": {"kind": "Node", "name": "node"}}
    labelling = {**binding, "metadata": {"name": "bound", "labels": {KERNEL_PARAMS: "quiet"}}}
    at = f"{PODS.format('guarded')}/bound"
    for method, path, body in (
        ("POST", f"{at}/binding", binding),
        ("POST", f"{at}/binding", labelling),
        ("PATCH", at, {"metadata": {"labels": {KERNEL_PARAMS: "quiet"}}}),
        ("POST", "/api/v1/namespaces/guarded/bindings", binding),
        ("PATCH", f"{at}/status", {"metadata": {"annotations": {KERNEL_PARAMS: "quiet"}}}),
    ):
        status, answer = api.request(method, path, body)
        assert status == 403 and "Rule annotations" in answer["message"], answer
    plain = {**binding, "metadata": {"name": "bound", "annotations": {ALLOWED: "2"}}}
    assert api.request("POST", f"{at}/binding", plain)[0] == 201
    plain["metadata"] = {"name": "bound-too"}
    assert api.request("POST", "/api/v1/namespaces/guarded/bindings", plain)[0] == 201
    assert api.request("PATCH", f"{at}/status", {"status": {"phase": "Running"}})[0] == 200
    _, pod_read = api.request("GET", at)
    assert pod_read["metadata"]["annotations"] == {ALLOWED: "2"} and pod_read["spec"]["nodeName"] == "node"


def test_annotation_is_refused_later_as_well_and_a_pod_from_before_can_still_finish(api: Api) -> None:
    api.namespace("guarded-before", guard.namespace_labels())
    body = template_pod()
    body["metadata"] = {"name": "older", "annotations": {KERNEL_PARAMS: "quiet"}}
    body["spec"]["hostPID"] = True
    assert api.request("POST", PODS.format("guarded-before"), body)[0] == 201
    path = f"{PODS.format('guarded-before')}/older"
    binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/sandbox-guard"
    spec = guard.binding("sandbox-guard", ["guarded", "guarded-before"])
    assert api.request("PATCH", binding, {"spec": spec})[0] == 200
    end = time.monotonic() + 30
    while refusal(api, {**body, "metadata": {"name": "again"}}, "guarded-before") is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    status, answer = api.request("PATCH", path, {"metadata": {"labels": {"finished": "yes"}}})
    assert status == 200, answer["message"]
    assert api.request("PATCH", f"{path}/status", {"status": {"phase": "Running"}})[0] == 200
    status, answer = api.request("PATCH", path, {"metadata": {"annotations": {KERNEL_PARAMS: "other"}}})
    assert status == 403 and "Rule annotations" in answer["message"]


def test_nobody_removes_the_guard_by_labeling_the_namespace(api: Api) -> None:
    for label in (guard.NAMESPACE_LABEL, "kata-nodes/guard"):
        api.request("PATCH", "/api/v1/namespaces/guarded", {"metadata": {"labels": {label: None}}})
        api.request("PATCH", "/api/v1/namespaces/guarded", {"metadata": {"labels": {label: "others"}}})
    _, namespace = api.request("GET", "/api/v1/namespaces/guarded")
    assert namespace["metadata"]["labels"][guard.NAMESPACE_LABEL] == "guarded"
    time.sleep(2)
    refused(api, plain_pod(privileged=True), "privileged")


UNCONFINED = {"type": "Unconfined"}
BEYOND: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # of the pod, of its container, words of the refusal
    "seccomp": ({}, {"securityContext": {"seccompProfile": UNCONFINED}}, "plain sets an unconfined seccompProfile"),
    "seccomp of the pod": ({"securityContext": {"seccompProfile": UNCONFINED}}, {}, "pod sets an unconfined seccomp"),
    "apparmor": ({}, {"securityContext": {"appArmorProfile": UNCONFINED}}, "plain sets an unconfined appArmor"),
    "apparmor of the pod": ({"securityContext": {"appArmorProfile": UNCONFINED}}, {}, "pod sets an unconfined appArmor"),
    "selinux type": ({}, {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "container plain sets seLinuxOptions"),
    "selinux user": ({"securityContext": {"seLinuxOptions": {"user": "system_u"}}}, {}, "the pod sets seLinuxOptions"),
    "selinux role": ({}, {"securityContext": {"seLinuxOptions": {"role": "system_r"}}}, "container plain sets seLinuxOptions"),
    "sysctl": ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, {}, "pod sets sysctl kernel.msgmax"),
    "proc": ({"hostUsers": False}, {"securityContext": {"procMount": "Unmasked"}}, "container plain sets a procMount"),
}  # fmt: skip
NETWORK: dict[str, tuple[dict[str, Any], str]] = {
    # of the container, words of the refusal
    "host port": ({"ports": [{"containerPort": 80, "hostPort": 80}]}, "sets a hostPort"),
    "probe": ({"livenessProbe": {"httpGet": {"host": "192.0.2.1", "port": 80}}}, "sets a host in a probe"),
    "hook": ({"lifecycle": {"preStop": {"tcpSocket": {"host": "192.0.2.1", "port": 80}}}}, "sets a host in a probe"),
}


def beyond(name: str, kind: str = "containers") -> dict[str, Any]:
    """A plain pod with that setting, of the pod or of a container of that kind."""
    of_pod, of_container, _ = BEYOND[name]
    body = plain_pod()
    body["spec"] |= of_pod
    body["spec"]["containers"].append({"name": "other", "image": "image"})
    if kind == "initContainers":
        body["spec"][kind] = [{"name": "plain", "image": "image", "restartPolicy": "Always", **of_container}]
        body["spec"]["containers"] = body["spec"]["containers"][1:]
    else:
        body["spec"]["containers"][0] |= of_container
    return body


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_not_in_a_guest_keeps_to_baseline(api: Api, name: str) -> None:
    words = BEYOND[name][2]
    refused(api, beyond(name), "baseline", words, "kata-qemu, kata-clh")
    if BEYOND[name][1]:
        refused(api, beyond(name, "initContainers"), "baseline", words)
    inside = beyond(name)
    inside["spec"]["runtimeClassName"] = "kata-qemu"
    assert refusal(api, inside) is None
    # The API server's own judgement, but for procMount, which it lets pass with hostUsers.
    if name != "proc":
        assert refusal(api, inside, "baseline"), "baseline refuses it as well"


@pytest.mark.parametrize("name", NETWORK)
def test_what_acts_on_the_nodes_network_is_refused_under_every_class(api: Api, name: str) -> None:
    of_container, words = NETWORK[name]
    plain, inside, sidecar = plain_pod(), template_pod(), template_pod()
    plain["spec"]["containers"][0] |= of_container
    inside["spec"]["containers"][0] |= of_container
    sidecar["spec"]["initContainers"] = [{"name": "first", "image": "image", "restartPolicy": "Always", **of_container}]
    for body, container in ((plain, "plain"), (inside, "sandbox"), (sidecar, "first")):
        refused(api, body, "node-network", f"container {container} {words}")


def test_no_sandbox_comes_to_a_node_before_its_proof(api: Api) -> None:
    """Where nodes join unproven; a toleration can be added later too."""
    every, ours, other = ([{"key": key, "operator": "Exists"}] for key in ("", runtime_class.TAINT, "team"))
    for spec, words in (
        ({"tolerations": every}, "tolerates the taint kata-nodes/unproven"),
        ({"tolerations": ours}, "tolerates the taint kata-nodes/unproven"),
        ({"nodeName": "node"}, "names its node"),
    ):
        body = template_pod()
        body["spec"] |= spec
        message = refusal(api, body, "joining-sandboxes")
        assert message and "Rule unproven of the sandbox guard" in message and words in message, message
        assert refusal(api, body, "joining-proof") is None and refusal(api, body) is None
        outside = plain_pod()
        outside["spec"] |= spec
        assert refusal(api, outside, "joining-sandboxes") is None
    body = template_pod()
    body["metadata"] = {"name": "waiting"}
    body["spec"]["tolerations"] = other
    assert api.request("POST", PODS.format("joining-sandboxes"), body)[0] == 201
    path = f"{PODS.format('joining-sandboxes')}/waiting"
    _, waiting = api.request("GET", path)
    status, answer = api.request("PATCH", path, {"spec": {"tolerations": [*waiting["spec"]["tolerations"], *ours]}})
    assert status == 403 and "Rule unproven" in answer["message"], answer
    assert api.request("PATCH", path, {"metadata": {"labels": {"a": "b"}}})[0] == 200
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waiting"}, "target": {"kind": "Node", "name": "node"}}
    assert api.request("POST", f"{path}/binding", binding)[0] == 201
    assert api.request("PATCH", f"{path}/status", {"status": {"phase": "Running"}})[0] == 200


def test_apparmor_of_former_times_keeps_to_baseline(api: Api) -> None:
    for value, admitted in (("unconfined", False), ("runtime/default", True), ("localhost/x", True)):
        body = plain_pod()
        body["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/plain": value}
        assert (refusal(api, body) is None) is admitted


def test_what_baseline_lets_pass_is_admitted(api: Api) -> None:
    body = plain_pod(seccompProfile={"type": "RuntimeDefault"}, appArmorProfile={"type": "RuntimeDefault"}, procMount="Default")
    body["spec"]["securityContext"] = {
        "seccompProfile": {"type": "Localhost", "localhostProfile": "p"},
        "seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"},
        "sysctls": [{"name": f"net.ipv4.{name}", "value": "0"} for name in ("ip_unprivileged_port_start", "tcp_notsent_lowat")],
    }
    body["spec"]["hostUsers"] = False
    body["spec"]["containers"][0] |= {"ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}}}
    assert refusal(api, body) is None


def test_a_user_namespace_of_the_nodes_kernel_is_not_a_guest(api: Api) -> None:
    """`hostUsers: false` is GA in Kubernetes 1.36; Pod Security itself lets more pass under it."""
    body = plain_pod(capabilities={"add": ["SYS_ADMIN"]})
    body["spec"]["hostUsers"] = False
    refused(api, body, "capabilities", "container plain adds")


def test_privileged_passes_in_a_guest_alone_and_only_where_that_is_asked_for(api: Api) -> None:
    body = template_pod()
    body["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert refusal(api, body, "privileged") is None
    refused(api, body, "privileged")
    for spec in (plain_pod(privileged=True), {**body, "spec": {**body["spec"], "runtimeClassName": "runc"}}):
        message = refusal(api, spec, "privileged")
        assert message and "Rule privileged" in message
    body["spec"]["hostPID"] = True
    message = refusal(api, body, "privileged")
    assert message and "Rule host-namespaces" in message


def test_guard_watches_its_own_namespaces_alone(api: Api) -> None:
    assert refusal(api, plain_pod(privileged=True), "others") is None


def test_baseline_namespace_refuses_the_template_with_the_reason(api: Api) -> None:
    message = refusal(api, template_pod(), "baseline")
    assert message and 'violates PodSecurity "baseline:latest"' in message
    assert 'container "sandbox" must not include "NET_ADMIN", "SYS_ADMIN" in' in message


def test_ordinary_user_passes_where_pod_security_is_strictest(api: Api) -> None:
    assert refusal(api, template_pod(ordinary_user=True), "restricted") is None
    assert refusal(api, template_pod(), "restricted") is not None
