"""A real kubelet beside a test's control plane: on a Debian in namespaces, with containerd, runc, CNI and the stand-in shim.

The node is the one of tests/nodekit/debian_node.py, with Kata as the verb `kata` installs it and registers it in containerd,
while kubelet and containerd run. Neither KVM nor vhost-vsock is needed: the guests are emulated, which the stand-in's own table
`[stand_in]` asks for. The kubelet runs among the node's mounts and processes, and in this machine's network, where the API
server is.
"""

import hashlib
import io
import json
import shutil
import tarfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clusterkit import guard, pod_proof
from clusterkit.api.cluster_reader import Reader
from clusterkit.pod_verdict import Refusal
from local import process
from local.cluster import ADDRESS
from nodekit.scripts import ladder_script
from tests.clusterkit.control_plane import ControlPlane, ready
from tests.nodekit.debian_node import PORT, DebianNode
from tools import get

HERE = Path(__file__).resolve().parent
NAME = "worker"
NAMESPACE = "proofs"
REGISTRY = f"127.0.0.1:{PORT}"
"""What serves the node its packages, and has no image."""
PAUSE = "kata-nodes.test/pause:1"
CONFIGURATION = "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"
EMULATED = "[stand_in]\nemulated = true\n"
BINARIES = "/opt/kubelet"
NETWORK_PROGRAMS = ("loopback", "ptp", "host-local")
SERVICE = f"""[Service]
Environment=PATH={BINARIES}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=
ExecStart={BINARIES}/containerd
"""
HANDLER = "kata-qemu"
MAX_PODS = 12


@dataclass(frozen=True)
class Releases:
    """What a node runs."""

    containerd: str
    """2.2 is built from Go modules; 1.7 is Debian's own, which reports no handlers to the kubelet."""
    kubelet: str
    """The part's name, of the oldest or the newest release."""

    def __str__(self) -> str:
        return f"containerd-{self.containerd}-{self.kubelet}"

    @property
    def programs(self) -> tuple[str, ...]:
        """What is built for it."""
        return ("containerd", "containerd-shim-runc-v2", "ctr") if self.containerd == "2.2" else ()


NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "ptp",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }
    ],
}


def containerd(release: str, handlers: Mapping[str, str]) -> str:
    """containerd's configuration as people have it: `runc`, where handlers that are wrong lead, and handlers that are broken.

    The handler of the class is not in it: the verb `kata` registers that.
    """
    runtime = "plugins.'io.containerd.cri.v1.runtime'" if release == "2.2" else "plugins.'io.containerd.grpc.v1.cri'"
    text = (
        f"""version = 3
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "/etc/containerd/certs.d"
[{runtime}]
"""
        if release == "2.2"
        else f"""version = 2
[{runtime}.registry]
config_path = "/etc/containerd/certs.d"
[{runtime}]
sandbox_image = "{PAUSE}"
"""
    )
    text += f"""disable_apparmor = true
disable_cgroup = true
restrict_oom_score_adj = true
[{runtime}.cni]
{f'bin_dirs = ["{BINARIES}"]' if release == "2.2" else f'bin_dir = "{BINARIES}"'}
[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options.BinaryName = "{BINARIES}/runc"
"""
    for handler, file in handlers.items():
        text += f"""[{runtime}.containerd.runtimes.{handler}]
runtime_type = "{"io.containerd.kata.v2" if file else "io.containerd.absent.v2"}"
privileged_without_host_devices = true
options.ConfigPath = "{file}"
"""
    return text


def image(name: str, layer: Path | bytes, *command: str) -> dict[str, Any]:
    """Configuration and manifest of an image of one layer, as `docker save` writes them."""
    content = layer.read_bytes() if isinstance(layer, Path) else layer
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": list(command), "Env": [path]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode(), "layer.tar": content}


def archive(members: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), (modes or {}).get(name, 0o644)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Kubelet:
    """The node as a control plane's only one; `close` ends the kubelet, and with the node everything else ends."""

    def __init__(self, plane: ControlPlane, node: DebianNode, folder: Path, releases: Releases) -> None:
        self.plane, self.node, self.folder, self.releases = plane, node, folder, releases
        self.root = Path(f"/proc/{node.pid}/root")
        self.handlers: dict[str, str] = {}
        self.before: list[str] = []
        """The handlers that the node reported before the verb `kata` registered one."""
        self.registered: dict[str, Any] = {}
        """What the verb answered."""
        node.succeed("kata", node.kata())
        self.write(f"{Path(CONFIGURATION).parent}/config.d/60-emulated.toml", EMULATED)

    def write(self, path: str, content: str | bytes) -> None:
        """A file of the node."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def handler(self, name: str, drop_in: str) -> None:
        """A further handler, for Kata's configuration with a drop-in of its own behind the others."""
        base = self.root / Path(CONFIGURATION).parent.relative_to("/")
        place = f"/etc/kata-containers/{name}"
        shutil.copytree(base, self.root / place.lstrip("/"))
        self.write(f"{place}/config.d/90-{name}.toml", drop_in)
        self.handlers[name] = f"{place}/{Path(CONFIGURATION).name}"

    def handler_without_shim(self, name: str) -> None:
        """A further handler, whose shim is not on the node."""
        self.handlers[name] = ""

    def start(self) -> None:
        """Start containerd and the kubelet, wait for the node to be Ready, and have the verb `kata` register the handler."""
        self.write("/etc/containerd/config.toml", containerd(self.releases.containerd, self.handlers))
        self.write(
            f"/etc/containerd/certs.d/{REGISTRY}/hosts.toml", f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\n'
        )
        self.write("/etc/cni/net.d/10-pods.conflist", json.dumps(NETWORK))
        programs = {name: get.path(name).read_bytes() for name in (*self.releases.programs, *NETWORK_PROGRAMS)}
        programs |= {"kubelet": get.path(self.releases.kubelet).read_bytes()}
        programs |= {"runc": (HERE / "runc_without_limits.py").read_bytes()}
        for program, content in programs.items():
            self.write(f"{BINARIES}/{program}", content)
            (self.root / BINARIES.lstrip("/") / program).chmod(0o755)
        if self.releases.programs:
            self.write("/etc/systemd/system/containerd.service.d/newer.conf", SERVICE)
        result = self.node.run("sh", stdin=(HERE / "kubelet_node.sh").read_text())
        assert result.returncode == 0, result.stderr
        busybox = (self.root / "usr/bin/busybox").read_bytes()
        layer = archive({"bin/busybox": busybox}, {"bin/busybox": 0o755})
        self.load(PAUSE, layer, "/bin/busybox", "sleep", "2147483647")
        self.write("/etc/kubernetes/kubeconfig", self.plane.kubeconfig)
        self.write("/etc/kubernetes/ca.crt", (self.plane.folder / "cluster/pki/ca.crt").read_bytes())
        # Not started by it, since a unit would be in the node's network; the verb `kata` asks its program for the release.
        self.write("/etc/systemd/system/kubelet.service", f"[Service]\nExecStart={BINARIES}/kubelet\n")
        self.write("/var/lib/kubelet/config.yaml", yaml.safe_dump(self.configuration()))
        self.start_kubelet()
        self.plane.until("the node", lambda: any(map(ready, self.plane.items("/api/v1/nodes"))))
        self.before = self.reported()
        self.registered = self.node.succeed("kata", self.desired())
        place = {"metadata": {"name": NAMESPACE, "labels": guard.namespace_labels()}}
        self.plane.request("POST", "/api/v1/namespaces", place)
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        self.plane.until("the service account", lambda: self.plane.get(account) is not None)

    def desired(self) -> dict[str, object]:
        """For the verb `kata`, on a node that serves a cluster."""
        return {**self.node.kata(), "handler": {"name": HANDLER, "podAnnotations": []}}

    def start_kubelet(self) -> None:
        """In the node's namespaces, but this machine's network."""
        inside = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd")
        command = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--target={self.node.pid}", *inside, "--", "env", "-i"]
        command += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"{BINARIES}/kubelet", "--config=/var/lib/kubelet/config.yaml"]
        command += ["--kubeconfig=/etc/kubernetes/kubeconfig", f"--hostname-override={NAME}"]
        command += ["--node-labels=katacontainers.io/kata-runtime=true"]
        process.spawn(command, self.folder / "kubelet.process", self.folder / "kubelet.log")

    def reboot(self) -> str:
        """What a reboot of the node leaves of it (kubelet_reboot.sh), with everything started again; its new boot id."""
        boot_id = str(uuid.uuid4())
        result = self.node.run("sh", "-s", "--", boot_id, stdin=(HERE / "kubelet_reboot.sh").read_text())
        assert result.returncode == 0, result.stderr
        process.stop(self.folder / "kubelet.process", grace=5)
        self.start_kubelet()
        self.plane.until("the node's boot id", lambda: self.status()["nodeInfo"]["bootID"] == boot_id)
        return boot_id

    def reported(self) -> list[str]:
        """The handlers that the node reports; none with containerd 1.7, which does not tell the kubelet."""
        return [handler["name"] for handler in self.status().get("runtimeHandlers") or []]

    def configuration(self) -> dict[str, Any]:
        """The kubelet's own."""
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "port": process.free_port(),
            "healthzPort": 0,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "resolvConf": "/etc/resolv.conf",
            # containerd manages no cgroups by systemd here: the controllers of this machine may be those of version 1, which the
            # node's unified hierarchy has not. From 2.0 on the kubelet asks it, whatever is set here.
            "cgroupDriver": "systemd" if self.releases.containerd == "2.2" else "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "nodeStatusUpdateFrequency": "2s",
            "imageMinimumGCAge": "24h",
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "32Mi"},
            "evictionPressureTransitionPeriod": "5s",
            "maxPods": MAX_PODS,
        }

    def load(self, name: str, layer: Path | bytes, *command: str) -> None:
        """Give the node's containerd an image, as if it had been pulled."""
        self.write("/run/image.tar", archive(image(name, layer, *command)))
        client = f"{BINARIES}/ctr" if self.releases.programs else "ctr"
        self.node.ask(client, "--namespace", "k8s.io", "images", "import", "--local", "/run/image.tar")
        (self.root / "run/image.tar").unlink()

    def runtime_class(self, name: str, handler: str) -> None:
        """A RuntimeClass of the cluster."""
        self.plane.request("POST", "/apis/node.k8s.io/v1/runtimeclasses", {"metadata": {"name": name}, "handler": handler})

    def status(self) -> dict[str, Any]:
        """The node's, as the kubelet reports it."""
        (node,) = self.plane.items("/api/v1/nodes")
        return dict(node["status"])

    def ran(self, name: str, template: Mapping[str, Any], seconds: int = 120) -> dict[str, Any]:
        """A pod of a template, run to its end and removed: how its container ended."""
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        self.plane.request("POST", pods, {"metadata": {"name": name}, "spec": template["spec"]})
        path = f"{pods}/{name}"
        self.plane.until(
            f"the end of the pod {name}",
            lambda: self.plane.request("GET", path)["status"]["phase"] in ("Succeeded", "Failed"),
            seconds,
        )
        status = self.plane.request("GET", path)["status"]
        self.plane.request("DELETE", path)
        self.plane.until(f"that the pod {name} is gone", lambda: self.plane.get(path) is None)
        return dict(status["containerStatuses"][0]["state"]["terminated"])

    def proven(self, proof: str, template: Mapping[str, Any], **options: Any) -> tuple[dict[str, Any] | Refusal, float]:
        """The result of a proof of this node, by the functions of KataProof, and its seconds; the Job is removed."""
        settings = {"pod_template": json.dumps(template), "nested_sandbox": True, "kernel_params": [], "timeout_seconds": 200}
        reader = Reader(self.plane.kubeconfig, None)
        (node,) = reader.nodes([NAME], None)
        request = pod_proof.ask(proof, node, {**settings, **options}, ladder_script(), "default")
        jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        begin = time.monotonic()
        metadata = {"name": proof, **request.body["metadata"]}
        job = self.plane.request("POST", jobs, {"metadata": metadata, "spec": request.body["spec"]})
        seconds = int(options.get("timeout_seconds", settings["timeout_seconds"]))
        outcome = reader.outcome(NAMESPACE, proof, {NAME: (job["metadata"]["uid"], request)}, seconds)[NAME]
        took = time.monotonic() - begin
        self.plane.request("DELETE", f"{jobs}/{proof}?propagationPolicy=Background")
        return outcome, took

    def close(self) -> None:
        """End the kubelet."""
        process.stop(self.folder / "kubelet.process", grace=5)
