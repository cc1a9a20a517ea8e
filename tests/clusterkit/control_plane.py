"""A whole control plane for tests: API server and etcd, controller manager, scheduler, and nodes that kwok plays.

Everything is the real thing except kubelets: kwok Stages, one for each behaviour, decide what happens to a node's pods.
"""

import http.client
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from local import cluster, process
from local.cluster import ADDRESS
from tools import get

CONTROLLERS = (
    "serviceaccount-controller", "job-controller", "garbage-collector-controller", "namespace-controller",
    "node-lifecycle-controller", "pod-garbage-collector-controller", "deployment-controller", "replicaset-controller",
    "disruption-controller",
)  # fmt: skip
"""What Jobs, Deployments, their pods and disruption budgets need; the others would only cost time on a small machine."""
API_SERVERS = ("kube-apiserver", "kube-apiserver-oldest")
"""Today's and the oldest that the project supports: admission rules are taken, and refuse, on both."""
NOW = "{{ Now | Quote }}"
HANGS = "hangs"
"""The behaviour of a pod that starts and never ends."""


NONCE = "{{ (index (index .spec.containers 0).env 0).value }}"
"""For a termination message: the value of the container's first variable, which starts the lines of a proof's report."""


def exits(code: int, message: str) -> str:
    """The behaviour of a pod that ends with `code` and a termination message, in which NONCE can stand."""
    return json.dumps([code, message])


def stuck(reason: str, message: str) -> str:
    """The behaviour of a pod whose container never starts, of which the kubelet makes this event."""
    return json.dumps({"reason": reason, "message": message})


def stage(name: str, nodes: Iterable[str], phase: str, status: str, delay: int = 0) -> dict[str, Any]:
    """A kwok Stage: pods of `nodes` in `phase` get `status`, `delay` milliseconds later."""
    select = [
        {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
        {"key": ".status.phase", "operator": "In", "values": [phase]},
        {"key": ".spec.nodeName", "operator": "In", "values": sorted(nodes)},
    ]
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": select},
            "delay": {"durationMilliseconds": delay},
            "next": {"statusTemplate": status},
        },
    }


RUNNING = f"""
phase: Running
startTime: {NOW}
conditions:
{{{{ range $kind := list "Initialized" "ContainersReady" "Ready" }}}}
- {{type: {{{{ $kind }}}}, status: "True", lastTransitionTime: {NOW}}}
{{{{ end }}}}
containerStatuses:
- name: {{{{ (index .spec.containers 0).name | Quote }}}}
  image: {{{{ (index .spec.containers 0).image | Quote }}}}
  ready: true
  restartCount: 0
  state: {{running: {{startedAt: {NOW}}}}}
"""


CREATING = """
containerStatuses:
- name: {{ (index .spec.containers 0).name | Quote }}
  image: {{ (index .spec.containers 0).image | Quote }}
  ready: false
  restartCount: 0
  state: {waiting: {reason: ContainerCreating}}
"""


def terminated(code: int, message: str) -> str:
    """Status of a pod whose container ended, as a kubelet writes it."""
    unready = "" if code == 0 else 'message: "containers with unready status: [sandbox]", '
    reason = "PodCompleted" if code == 0 else "ContainersNotReady"
    return f"""
phase: {"Succeeded" if code == 0 else "Failed"}
conditions:
{{{{ range $kind := list "ContainersReady" "Ready" }}}}
- {{type: {{{{ $kind }}}}, status: "False", reason: {reason}, {unready}lastTransitionTime: {NOW}}}
{{{{ end }}}}
containerStatuses:
- name: {{{{ (index .spec.containers 0).name | Quote }}}}
  image: {{{{ (index .spec.containers 0).image | Quote }}}}
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: {code}
      reason: {"Completed" if code == 0 else "Error"}
      message: {json.dumps(message)}
      startedAt: {NOW}
      finishedAt: {NOW}
"""


NODE_READY = {
    "apiVersion": "kwok.x-k8s.io/v1alpha1",
    "kind": "Stage",
    "metadata": {"name": "node-ready"},
    "spec": {
        "resourceRef": {"apiGroup": "v1", "kind": "Node"},
        "selector": {"matchExpressions": [{"key": ".status.phase", "operator": "NotIn", "values": ["Running"]}]},
        "next": {
            "statusTemplate": f"""
phase: Running
conditions:
- {{type: Ready, status: "True", reason: KubeletReady, message: ready, lastHeartbeatTime: {NOW}, lastTransitionTime: {NOW}}}
"""
        },
    },
}
POD_GONE = {
    "apiVersion": "kwok.x-k8s.io/v1alpha1",
    "kind": "Stage",
    "metadata": {"name": "pod-gone"},
    "spec": {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchExpressions": [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}]},
        "next": {"finalizers": {"empty": True}, "delete": True},
    },
}


class ControlPlane:
    """A running control plane in `folder`; `close` ends all of it."""

    def __init__(self, folder: Path, request_rate: int = 20, played: bool = True) -> None:
        """`request_rate`: requests a second that the controller manager allows each of its controllers; 20 is its default.

        `played`: whether kwok plays all nodes; where a kubelet joins, it must not.
        """
        self.folder, self.settings = folder, {"directory": str(folder / "cluster")}
        self.settings |= {"etcd": str(get.path("etcd")), "apiserver": str(get.path("kube-apiserver"))}
        folder.mkdir(parents=True, exist_ok=True)
        self.behaviour: dict[str, str] = {}
        result = cluster.up({**self.settings})
        try:
            self.kubeconfig, self.server = str(result["kubeconfig"]), str(result["server"])
            self.context = cluster.client_context(folder / "cluster" / "pki")
            (folder / "kubeconfig").write_text(self.kubeconfig)
            pki = folder / "cluster" / "pki"
            # As kubeadm and the clouds run it: each controller acts as a service account of its own.
            document = json.loads(self.kubeconfig)
            document["users"][0]["user"]["as"] = "system:kube-controller-manager"
            (folder / "controller-manager.kubeconfig").write_text(json.dumps(document))
            self.spawn(
                "kube-controller-manager",
                f"--kubeconfig={folder / 'controller-manager.kubeconfig'}",
                "--use-service-account-credentials=true",
                f"--controllers={','.join(CONTROLLERS)}",
                f"--service-account-private-key-file={pki / 'service-account.key'}",
                # kwok renews no lease here: those of one run would keep the nodes from the next.
                "--node-monitor-grace-period=24h",
                f"--kube-api-qps={request_rate}",
                f"--kube-api-burst={request_rate * 3 // 2}",
                *self.serving(),
            )
            self.spawn("kube-scheduler", *self.serving())
            if played:
                self.start_kwok()
            self.until("the default service account", lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default"))
        except BaseException:
            self.close()
            raise

    def serving(self) -> list[str]:
        """Arguments of a component that serves its health on a loopback port and is the only one of its kind."""
        return [
            "--leader-elect=false",
            f"--bind-address={ADDRESS}",
            f"--secure-port={process.free_port()}",
            f"--cert-dir={self.folder}",
        ]

    def spawn(self, name: str, *argv: str, around: Sequence[str] = ()) -> None:
        """Start a component as the administrator, ending the one before; `around` is a command that runs it."""
        process.stop(self.folder / f"{name}.process", grace=5)
        command = [*around, str(get.path(name)), f"--kubeconfig={self.folder / 'kubeconfig'}", *argv]
        process.spawn(command, self.folder / f"{name}.process", self.folder / f"{name}.log")

    def start_kwok(self) -> None:
        """Start kwok with the Stages of every node's behaviour."""
        by_behaviour: dict[str, list[str]] = {}
        for node, behaviour in self.behaviour.items():
            by_behaviour.setdefault(behaviour, []).append(node)
        stages = [NODE_READY, POD_GONE]
        for number, (behaviour, nodes) in enumerate(by_behaviour.items()):
            if behaviour.startswith("{"):
                stages.append(stage(f"stuck-{number}", nodes, "Pending", CREATING, 500))
                stages[-1]["spec"]["next"]["event"] = {"type": "Warning", **json.loads(behaviour)}
                continue
            stages.append(stage(f"starts-{number}", nodes, "Pending", RUNNING))
            if behaviour != HANGS:
                stages.append(stage(f"ends-{number}", nodes, "Running", terminated(*json.loads(behaviour))))
        (self.folder / "kwok.yaml").write_text(yaml.safe_dump_all(stages))
        arguments = [f"--config={self.folder / 'kwok.yaml'}", "--manage-all-nodes=true", "--node-lease-duration-seconds=0"]
        # On several processors 0.7.0 sometimes dies of "concurrent map writes" as it reads its Stages (easycel 0.6.0, types.go).
        self.spawn("kwok", *arguments, around=("env", "GOMAXPROCS=1"))

    def behave(self, behaviour: Mapping[str, str], taints: Sequence[Mapping[str, str]] = ()) -> None:
        """From now on pods on these nodes do this: `exits(...)` or HANGS. Nodes that are not there are made, with `taints`."""
        known = set(self.behaviour)
        self.behaviour |= behaviour
        for name in sorted(set(behaviour) - known):
            self.add_node(name, taints)
        self.start_kwok()
        self.until("the nodes", lambda: len(self.behaviour) <= len([n for n in self.items("/api/v1/nodes") if ready(n)]))

    def add_node(self, name: str, taints: Sequence[Mapping[str, str]] = (), images: Sequence[Mapping[str, Any]] = ()) -> None:
        """A node with room, Kata's label, a boot id of its own, and the taints with which its kubelet registers it.

        `images` are those that it reports to have.
        """
        labels = {"katacontainers.io/kata-runtime": "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        body = {"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}
        node = self.request("POST", "/api/v1/nodes", body)
        room = {"cpu": "32", "memory": "64Gi", "pods": "110"}
        about = dict.fromkeys(("machineID", "systemUUID", "kernelVersion", "osImage", "containerRuntimeVersion"), "")
        about |= {"kubeletVersion": "v1.37.2", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"}
        information = {**about, "bootID": node["metadata"]["uid"]}
        status = {"capacity": room, "allocatable": room, "nodeInfo": information, "images": list(images)}
        self.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": status})

    def runtime_class(self) -> str:
        """Name of a RuntimeClass that is there; kwok plays every handler."""
        if self.get("/apis/node.k8s.io/v1/runtimeclasses/played") is None:
            self.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": "played"}, "handler": "played"})
        return "played"

    def remove_node(self, name: str) -> None:
        """The node is gone, its pods without a kubelet."""
        self.behaviour.pop(name)
        self.request("DELETE", f"/api/v1/nodes/{name}")
        self.start_kwok()

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request as the administrator; fails on every answer that is not a success."""
        port = int(self.server.rpartition(":")[2])
        connection = http.client.HTTPSConnection(ADDRESS, port, timeout=30, context=self.context)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text!r}"
        document: dict[str, Any] = json.loads(text)
        return document

    def get(self, path: str) -> bytes | None:
        """What is there, or None."""
        return cluster.get(int(self.server.rpartition(":")[2]), path, self.context)

    def items(self, path: str) -> list[dict[str, Any]]:
        """Objects of a list."""
        return list(self.request("GET", path)["items"])

    def until(self, event: str, true: Any, seconds: int = 60) -> None:
        """Wait for something; names it when it does not come."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{event} did not come in {seconds} s: {process.tail(self.folder / 'kwok.log', 5)}"
            time.sleep(0.1)

    def close(self) -> None:
        """End everything and remove the cluster's data."""
        for name in ("kwok", "kube-scheduler", "kube-controller-manager"):
            process.stop(self.folder / f"{name}.process", grace=5)
        cluster.down({**self.settings})


def ready(node: Mapping[str, Any]) -> bool:
    """Whether the control plane lets pods be scheduled to it, whatever taints it registered with."""
    conditions = node["status"].get("conditions") or []
    held = any(taint["key"].startswith("node.kubernetes.io/") for taint in node["spec"].get("taints") or [])
    return not held and any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
