"""The template's pod and the proof's Job under a real kubelet and containerd, in guests that the stand-in for Kata's shim boots.

Lost if these fail: a pod that never starts on a cluster as people have it, a proof that passes without a sandbox, or a person who
looks for the cause in the wrong place. The guests are emulated: each test takes some seconds, and as long as the machine is busy.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from clusterkit import pod
from clusterkit.pod_verdict import Refusal
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.scripts import script
from tests.clusterkit import proof_image
from tests.clusterkit.control_plane import ControlPlane, ready
from tests.clusterkit.kubelet import HANDLER, MAX_PODS, NAME, NAMESPACE, REGISTRY, Kubelet, Releases
from tests.nightly import LONG_FORMS, nightly
from tests.nodekit.debian_node import booted, image, program

pytestmark = [
    pytest.mark.debian,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and a kubelet need root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="a guest with a network needs /dev/net/tun"),
]

IMAGE, WITH_SRT = "kata-nodes.test/proof:1", "kata-nodes.test/proof:sandbox-runtime"
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
CLASS, WRONG, MISSING, SHIMLESS = HANDLER, "kata-runc", "kata-nowhere", "no-shim"
USUAL = Releases("2.2", "kubelet")
OTHERS = (Releases("1.7", "kubelet"), Releases("2.2", "kubelet-newest"))
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
BROKEN = {
    "limit-zero": f'kernel_params = "{BASE} sysctl.user.max_user_namespaces=0"\n',
    "no-nesting": f'kernel_params = "{BASE} sysctl.user.max_user_namespaces=1"\n',
    "no-network-namespaces": f'kernel_params = "{BASE} sysctl.user.max_net_namespaces=0"\n',
    "base-lost": 'kernel_params = "user_namespace.enable=1"\n[agent.kata]\ndial_timeout = 8\n',
    "no-kernel": 'kernel = "/opt/kata/share/kata-containers/absent"\n',
}
"""Handlers whose Kata configuration ends with a drop-in for QEMU that breaks what the handler is named after."""


@contextmanager
def cluster(folder: Path, releases: Releases, broken: Mapping[str, str]) -> Iterator[Kubelet]:
    """A node that is Ready, with the image of the proof, and with a RuntimeClass for each handler, good, broken or missing."""
    with booted(image(), program()) as node:
        plane = ControlPlane(folder / "plane", played=False)
        joined = Kubelet(plane, node, folder, releases)
        try:
            for name, drop_in in broken.items():
                joined.handler(name, f"[hypervisor.qemu]\n{drop_in}")
            joined.handler_without_shim(SHIMLESS)
            joined.start()
            joined.load(IMAGE, proof_image.layer())
            handlers = {CLASS: CLASS, WRONG: "runc", MISSING: MISSING, SHIMLESS: SHIMLESS, **{name: name for name in broken}}
            for name, handler in handlers.items():
                joined.runtime_class(name, handler)
            yield joined
        finally:
            joined.close()
            plane.close()


@pytest.fixture(scope="module", params=[USUAL, *map(nightly, OTHERS)], ids=str)
def kubelet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Kubelet]:
    """With every broken handler."""
    with cluster(tmp_path_factory.mktemp("kubelet"), request.param, BROKEN) as joined:
        yield joined


def template(
    runtime_class: str = CLASS,
    entered: bool = True,
    context: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """The pod template of a nested sandbox; `entered`: through its entry, the rest laid over what the template has."""
    document = deepcopy(pod.template(IMAGE, runtime_class, {"app": "sandbox"}, entry=script("entry.sh")))
    inner: dict[str, Any] = document["spec"]  # type: ignore[assignment]
    first = inner["containers"][0]
    if not entered:
        first |= {"command": list(pod.COMMAND), "args": []}
    first["securityContext"] |= context or {}
    first |= container or {}
    inner |= spec
    return document


def refused(outcome: dict[str, Any] | Refusal) -> Refusal:
    """A refusal, and nothing else."""
    assert isinstance(outcome, Refusal), outcome
    return outcome


def test_the_node_reports_the_handler_that_the_verb_registered_while_it_ran(kubelet: Kubelet) -> None:
    drop_in = kubelet.releases.containerd != "1.7"
    assert kubelet.registered["handler"] == {
        "changed": True,
        "runtime": "containerd",
        "file": "/etc/containerd/conf.d/60-kata-nodes.toml" if drop_in else "/etc/containerd/config.toml",
        "restarted": "containerd.service",
    }
    if kubelet.releases.containerd == "1.7":
        assert kubelet.reported() == []
        return
    assert {"runc", *BROKEN} <= set(kubelet.before) and CLASS not in kubelet.before
    kubelet.plane.until("the handler", lambda: CLASS in kubelet.reported())
    assert {"runc", *BROKEN} <= set(kubelet.reported()) and MISSING not in kubelet.reported()
    features = {handler["name"]: handler["features"] for handler in kubelet.status()["runtimeHandlers"]}
    assert features[CLASS]["userNamespaces"] is False


SANDBOX = """
cd /tmp
{ id -u; cat /proc/sys/kernel/random/boot_id; cat /proc/cmdline
  bwrap --ro-bind / / --dev /dev --unshare-user --unshare-pid --unshare-net --proc /proc echo in the sandbox
} >/dev/termination-log 2>&1
exit 7
"""


@pytest.mark.parametrize("user", [None, 1000])
def test_a_pod_of_the_template_runs_in_a_guest_where_a_sandbox_works(kubelet: Kubelet, user: int | None) -> None:
    pod_template = pod.template(IMAGE, CLASS, {}, entry=script("entry.sh"), command=["sh", "-c", SANDBOX], user_id=user)
    if user:
        pod_template["spec"]["securityContext"] = {"fsGroup": user}  # type: ignore[index]
    ended = kubelet.ran("sandbox", pod_template)
    uid, boot_id, line, *rest = ended["message"].splitlines()
    assert (ended["exitCode"], uid, rest) == (7, str(user or 0), ["in the sandbox"])
    assert boot_id != kubelet.status()["nodeInfo"]["bootID"]
    assert {"user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000", *BASE.split()} <= set(line.split())
    left = ("sh", "-c", "pgrep 'qemu-system|virtiofsd|containerd-shim' || ls /run/kata-stand-in")
    kubelet.plane.until("the end of the guest", lambda: kubelet.node.run(*left).returncode != 0)


@pytest.mark.parametrize(
    ("name", "pod_template", "cause", "words"),
    [
        ("handler", template(MISSING), "does not know the handler", f'no runtime for "{MISSING}" is configured'),
        ("shim", template(SHIMLESS), "", "containerd-shim-absent-v2"),
        ("image", template(WRONG, container={"image": f"{REGISTRY}/absent:1"}), "the image cannot be pulled", "not found"),
        ("kernel", template("no-kernel"), "a file that Kata's configuration names is missing", "/absent does not exist"),
        ("users", template(hostUsers=False), "offers no user namespaces", "does not support user namespaces"),
    ],
)
def test_pods_that_cannot_start_are_reported_within_15_seconds_in_the_clusters_own_words(
    kubelet: Kubelet, name: str, pod_template: dict[str, Any], cause: str, words: str
) -> None:
    outcome, seconds = kubelet.proven(f"without-{name}", pod_template)
    refusal = refused(outcome)
    assert refusal.code == "proof-container-failed" and cause in refusal.sentence and words in refusal.sentence
    assert seconds < 15


def test_the_proof_of_a_good_node_passes_with_evidence_from_its_guest(kubelet: Kubelet) -> None:
    evidence, _ = kubelet.proven("good", template(), kernel_params=["sysctl.user.max_user_namespaces=9000"])
    assert not isinstance(evidence, Refusal), evidence
    assert evidence["userNamespaces"] == 9000
    assert evidence["guestBootId"] != kubelet.status()["nodeInfo"]["bootID"]
    assert "Debian" not in evidence["guestKernel"] and "cloud" in evidence["guestKernel"]
    counting = {rung["name"]: rung["passed"] for rung in evidence["rungs"] if rung["counts"]}
    assert all(counting[name] for name in ("loopback", "bwrap-proc", "bwrap-user-proc", "srt-call", "srt-call-ordinary"))
    assert False not in counting.values()


# On each change the pod above makes the calls that the package makes.
@LONG_FORMS
@pytest.mark.alone  # srt gives its own look-ups one second
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("npm"), reason="sandbox-runtime comes by npm")
def test_sandbox_runtime_itself_passes_in_a_pod_of_the_projects_own_image(kubelet: Kubelet) -> None:
    """With its real `srt`: a command without a network, and one whose proxy lets an allowed name through and refuses another."""
    kubelet.load(WITH_SRT, proof_image.layer(sandbox_runtime=True))
    patient = template(container={"env": [{"name": "KATA_NODES_SECONDS", "value": "60"}]})
    for attempt in range(3):
        evidence, _ = kubelet.proven(f"sandbox-runtime-{attempt}", patient, image=WITH_SRT, timeout_seconds=600)
        # Now and then an emulated guest misses that second even so.
        if not isinstance(evidence, Refusal) or "default_vcpus" not in evidence.sentence:
            break
    assert not isinstance(evidence, Refusal), evidence
    rungs = {rung["name"]: rung for rung in evidence["rungs"]}
    assert rungs["entry"]["passed"] and rungs["srt-call"]["passed"]
    for name in ("sandbox-runtime", "sandbox-runtime-proxy"):
        assert rungs[name]["passed"] and rungs[name]["counts"], rungs[name]


HIDDEN: dict[str, Any] = {
    "volumes": [{"name": "hidden", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    "container": {
        "volumeMounts": [{"name": "hidden", "mountPath": "/proc/sys/user"}, {"name": "tmp", "mountPath": "/tmp"}],
    },
}
DEAD: dict[str, Any] = {
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["10.88.0.1"]},
    "container": {"env": [{"name": "KATA_NODES_NETWORK", "value": "1"}, {"name": "KATA_NODES_NAME", "value": "example.test"}]},
}
DROPPED = {"capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)}}
RUNGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong-handler": (template(WRONG), "proof-not-a-guest", "the node's own"),
    "limit-zero": (
        template("limit-zero"),
        "proof-user-namespaces-zero",
        "sysctl.user.max_user_namespaces=0 on the",
    ),
    "hidden-limit": (template(entered=False, **HIDDEN), "proof-user-namespaces-absent", "something lies over /proc/sys/user"),
    "no-nesting": (template("no-nesting"), "proof-nested-failed", "used up"),
    "no-loopback": (template("no-network-namespaces"), "proof-loopback-failed", "used up"),
    "bounding-set": (template(context=DROPPED), "proof-unshare-failed", "CAP_SETFCAP is not in the bounding set"),
    "masked": (template(entered=False), "proof-bwrap-failed", "paths below /proc are masked"),
    "names": (template(**DEAD), "proof-network-missing", "resolves no name"),
    "base-lost": (template("base-lost"), "proof-container-failed", "the guest's agent did not answer in time"),
}
"""What breaks one rung: the template, the code, and words of the cause."""
EACH_CHANGE = ("wrong-handler", "limit-zero", "masked")
"""What only a cluster can break, the seed's own reading, and what the entry is for; containers of Docker and guests show each of
the others on each change."""


@pytest.fixture(scope="module")
def outcomes(kubelet: Kubelet, request: pytest.FixtureRequest) -> dict[str, dict[str, Any] | Refusal]:
    """What the proofs of those RUNGS end with that this run is to see, four at a time."""
    chosen = {
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == RUNG_TEST
    }
    with ThreadPoolExecutor(4) as workers:
        proofs = {name: workers.submit(kubelet.proven, f"rung-{name}", RUNGS[name][0]) for name in chosen}
        return {name: proof.result()[0] for name, proof in proofs.items()}


@pytest.mark.parametrize("name", [name if name in EACH_CHANGE else nightly(name, id=name) for name in RUNGS])
def test_each_rung_fails_where_the_guest_is_broken_and_names_the_cause(
    name: str, outcomes: dict[str, dict[str, Any] | Refusal]
) -> None:
    _, code, words = RUNGS[name]
    refusal = refused(outcomes[name])
    assert (refusal.code, words in refusal.sentence) == (code, True), refusal.sentence


RUNG_TEST = test_each_rung_fails_where_the_guest_is_broken_and_names_the_cause.__name__


def emptied(kubelet: Kubelet) -> None:
    """Wait until the node takes pods again."""
    kubelet.plane.request("DELETE", f"{PODS}?gracePeriodSeconds=0")
    kubelet.plane.until("an empty node", lambda: not kubelet.plane.items(PODS))
    kubelet.plane.until("a node without pressure", lambda: all(map(ready, kubelet.plane.items("/api/v1/nodes"))), 120)
    kubelet.load(IMAGE, proof_image.layer())  # under pressure the kubelet removes images that no container uses


def fill_with_pods(kubelet: Kubelet) -> None:
    """Pods that are scheduled, and never start, until the scheduler finds no room."""
    spec = {"runtimeClassName": MISSING, "containers": [{"name": "filling", "image": IMAGE}]}
    for number in range(MAX_PODS + 1):
        kubelet.plane.request("POST", PODS, {"metadata": {"name": f"filling-{number}"}, "spec": spec})
    kubelet.plane.until("a full node", lambda: not all(item["spec"].get("nodeName") for item in kubelet.plane.items(PODS)))


def pressed(kubelet: Kubelet) -> None:
    """The kubelet's own file system, of which it wants 32 MiB, is full, and the node has the taint."""
    kubelet.node.run("sh", "-c", "head -c 110m /dev/zero >/var/lib/kubelet/filling")
    kubelet.plane.until("a taint", lambda: not all(map(ready, kubelet.plane.items("/api/v1/nodes"))), 120)


def cordon(kubelet: Kubelet, cordoned: bool = True) -> None:
    kubelet.plane.request("PATCH", f"/api/v1/nodes/{NAME}", {"spec": {"unschedulable": cordoned or None}})


def without_room(kubelet: Kubelet, words: str, remedy: str) -> None:
    """A proof ends within 15 seconds, in the cluster's own words."""
    outcome, seconds = kubelet.proven("without-room", template())
    refusal = refused(outcome)
    assert refusal.code == "proof-pod-unscheduled" and words in refusal.sentence and remedy in refusal.sentence
    assert seconds < 15


@pytest.mark.parametrize(
    ("fill", "words", "remedy"),
    [
        (fill_with_pods, "Too many pods", "Make room on the node"),
        (cordon, "were unschedulable", "Run kubectl uncordon"),
    ],
)
def test_a_node_without_room_is_reported_within_15_seconds_in_the_clusters_own_words(
    kubelet: Kubelet, fill: Callable[[Kubelet], None], words: str, remedy: str
) -> None:
    try:
        fill(kubelet)
        without_room(kubelet, words, remedy)
    finally:
        cordon(kubelet, False)
        emptied(kubelet)


DEAF = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 53)); print(flush=True); sys.stdin.read()"
"""A name server that takes every question and answers none: a proof that asks it lasts until the kubelet looks at its disk."""


def test_a_proof_that_the_kubelet_evicts_is_explained_and_the_next_one_finds_no_room(kubelet: Kubelet) -> None:
    """The disk fills up while the guest is being tried, and stays full."""
    deaf = subprocess.Popen(kubelet.node.command("python3", "-c", DEAF), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with deaf, ThreadPoolExecutor(1) as worker:
        assert deaf.stdin is not None and deaf.stdout is not None and deaf.stdout.readline() == b"\n"
        try:
            proof = worker.submit(kubelet.proven, "evicted", template(**DEAD))
            kubelet.plane.until("the pod", lambda: any(item["spec"].get("nodeName") for item in kubelet.plane.items(PODS)))
            pressed(kubelet)
            refusal = refused(proof.result()[0])
            without_room(kubelet, "kubelet has disk pressure", "Free what the node is short of")
        finally:
            deaf.stdin.close()
            kubelet.node.run("rm", "-f", "/var/lib/kubelet/filling")
            emptied(kubelet)
    assert refusal.code == "proof-pod-lost" and "evicted the pod" in refusal.sentence and "low on resource" in refusal.sentence


def running(kubelet: Kubelet, name: str) -> dict[str, Any]:
    """The container of a pod that runs; empty while it does not."""
    status = kubelet.plane.request("GET", f"{PODS}/{name}")["status"]
    first = (status.get("containerStatuses") or [{}])[0]
    return dict(first) if (first.get("state") or {}).get("running") else {}


def test_after_a_reboot_the_pods_are_in_guests_again_and_the_node_passes_its_proof(kubelet: Kubelet) -> None:
    spec = template(container={"command": ["sleep"], "args": ["100000"]}, restartPolicy="Always")["spec"]
    kubelet.plane.request("POST", PODS, {"metadata": {"name": "lasting"}, "spec": spec})
    kubelet.plane.until("a sandbox", lambda: running(kubelet, "lasting"), 120)
    first = running(kubelet, "lasting")
    boot_id = kubelet.reboot()
    kubelet.plane.until(
        "the sandbox after the reboot",
        lambda: running(kubelet, "lasting").get("containerID", first["containerID"]) != first["containerID"],
        180,
    )
    assert kubelet.node.run("pgrep", "qemu-system").returncode == 0 and running(kubelet, "lasting")["restartCount"] == 1
    assert kubelet.node.succeed("kata", kubelet.desired())["changed"] is False, "the handler outlived the reboot"
    if kubelet.releases.containerd != "1.7":
        kubelet.plane.until("the handler", lambda: CLASS in kubelet.reported())
    kubelet.plane.request("DELETE", f"{PODS}/lasting?gracePeriodSeconds=0")
    evidence, _ = kubelet.proven("after-a-reboot", template())
    assert not isinstance(evidence, Refusal), evidence
    assert evidence["guestBootId"] != boot_id == kubelet.status()["nodeInfo"]["bootID"]
