"""The template's pod and the proof's Job under a real kubelet and containerd, in guests that the stand-in for Kata's shim boots.

Lost if these fail: a pod that never starts on a cluster as people have it, a proof that passes without a sandbox, or a person who
looks for the cause in the wrong place. The guests are emulated: each test takes some seconds, and as long as the machine is busy.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from clusterkit import pod
from clusterkit.pod_verdict import Refusal
from nodekit.rules.proof.capabilities import CAPABILITIES
from nodekit.scripts import script
from tests.clusterkit import proof_image
from tests.clusterkit.control_plane import ControlPlane
from tests.clusterkit.kubelet import REGISTRY, Kubelet
from tests.nodekit.debian_node import booted, image, program

pytestmark = [
    pytest.mark.debian,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces, mounts and a kubelet need root"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="a guest with a network needs /dev/net/tun"),
]

IMAGE = "kata-nodes.test/proof:1"
BASE = "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
CLASS, WRONG, MISSING = "kata-qemu", "kata-runc", "kata-nowhere"
BROKEN = {
    "limit-zero": f'kernel_params = "{BASE} sysctl.user.max_user_namespaces=0"\n',
    "no-nesting": f'kernel_params = "{BASE} sysctl.user.max_user_namespaces=1"\n',
    "no-network-namespaces": f'kernel_params = "{BASE} sysctl.user.max_net_namespaces=0"\n',
    "base-lost": 'kernel_params = "user_namespace.enable=1"\n[agent.kata]\ndial_timeout = 8\n',
    "no-kernel": 'kernel = "/opt/kata/share/kata-containers/absent"\n',
}
"""Handlers whose Kata configuration ends with a drop-in for QEMU that breaks what the name says."""


@pytest.fixture(scope="module")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """A node that is Ready, with the image of the proof, and with a RuntimeClass for each handler, good, broken or missing."""
    folder = tmp_path_factory.mktemp("kubelet")
    with booted(image(), program()) as node:
        plane = ControlPlane(folder / "plane", played=False)
        joined = Kubelet(plane, node, folder)
        try:
            for name, drop_in in BROKEN.items():
                joined.handler(name, f"[hypervisor.qemu]\n{drop_in}")
            joined.start()
            joined.load(IMAGE, proof_image.layer())
            for name, handler in {CLASS: CLASS, WRONG: "runc", MISSING: MISSING, **{one: one for one in BROKEN}}.items():
                joined.runtime_class(name, handler)
            yield joined
        finally:
            joined.close()
            plane.close()


def template(
    runtime_class: str = CLASS,
    entered: bool = True,
    context: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """The pod template of a nested sandbox; `entered`: through its entry, the rest laid over what the template has."""
    made = deepcopy(pod.template(IMAGE, runtime_class, {"app": "sandbox"}, entry=script("entry.sh")))
    inner: dict[str, Any] = made["spec"]  # type: ignore[assignment]
    first = inner["containers"][0]
    if not entered:
        first |= {"command": list(pod.COMMAND), "args": []}
    first["securityContext"] |= context or {}
    first |= container or {}
    inner |= spec
    return made


def refused(outcome: dict[str, Any] | Refusal) -> Refusal:
    """A refusal, and nothing else."""
    assert isinstance(outcome, Refusal), outcome
    return outcome


def test_the_node_reports_the_handlers_of_its_containerd(kubelet: Kubelet) -> None:
    handlers = {one["name"]: one["features"] for one in kubelet.status()["runtimeHandlers"]}
    assert {CLASS, "runc", *BROKEN} <= set(handlers) and MISSING not in handlers
    assert handlers[CLASS]["userNamespaces"] is False


SANDBOX = """
cd /tmp
{ id -u; cat /proc/sys/kernel/random/boot_id; cat /proc/cmdline
  bwrap --ro-bind / / --dev /dev --unshare-user --unshare-pid --unshare-net --proc /proc echo in the sandbox
} >/dev/termination-log 2>&1
exit 7
"""


@pytest.mark.parametrize("user", [None, 1000])
def test_a_pod_of_the_template_runs_in_a_guest_where_a_sandbox_works(kubelet: Kubelet, user: int | None) -> None:
    made = pod.template(IMAGE, CLASS, {}, entry=script("entry.sh"), command=["sh", "-c", SANDBOX], user_id=user)
    if user:
        made["spec"]["securityContext"] = {"fsGroup": user}  # type: ignore[index]
    ended = kubelet.ran("sandbox", made)
    uid, boot_id, line, *rest = ended["message"].splitlines()
    assert (ended["exitCode"], uid, rest) == (7, str(user or 0), ["in the sandbox"])
    assert boot_id != kubelet.status()["nodeInfo"]["bootID"]
    assert {"user_namespace.enable=1", "sysctl.user.max_user_namespaces=9000", *BASE.split()} <= set(line.split())
    left = ("sh", "-c", "pgrep 'qemu-system|virtiofsd|containerd-shim' || ls /run/kata-stand-in")
    kubelet.plane.until("the end of the guest", lambda: kubelet.node.run(*left).returncode != 0)


@pytest.mark.parametrize(
    ("name", "made", "cause", "words"),
    [
        ("handler", template(MISSING), "does not know the handler", f'no runtime for "{MISSING}" is configured'),
        ("image", template(WRONG, container={"image": f"{REGISTRY}/absent:1"}), "the image cannot be pulled", "not found"),
        ("kernel", template("no-kernel"), "a file that Kata's configuration names is missing", "/absent does not exist"),
        ("users", template(hostUsers=False), "offers no user namespaces", "does not support user namespaces"),
    ],
)
def test_what_cannot_start_is_told_within_15_seconds_in_the_clusters_own_words(
    kubelet: Kubelet, name: str, made: dict[str, Any], cause: str, words: str
) -> None:
    outcome, seconds = kubelet.proven(f"without-{name}", made)
    told = refused(outcome)
    assert told.code == "proof-container-failed" and cause in told.sentence and words in told.sentence
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
    "no-user-namespaces": (template(entered=False, **HIDDEN), "proof-user-namespaces-absent", "no user namespaces"),
    "no-nesting": (template("no-nesting"), "proof-nested-failed", "used up"),
    "no-loopback": (template("no-network-namespaces"), "proof-loopback-failed", "used up"),
    "bounding-set": (template(context=DROPPED), "proof-unshare-failed", "CAP_SETFCAP is not in the bounding set"),
    "masked": (template(entered=False), "proof-bwrap-failed", "paths below /proc are masked"),
    "names": (template(**DEAD), "proof-network-missing", "resolves no name"),
    "base-lost": (template("base-lost"), "proof-container-failed", "the guest's agent did not answer in time"),
}
"""What breaks one rung: the template, the code, and words of the cause."""


@pytest.fixture(scope="module")
def outcomes(kubelet: Kubelet) -> dict[str, dict[str, Any] | Refusal]:
    """What the proofs of RUNGS end with, four at a time."""
    with ThreadPoolExecutor(4) as workers:
        proofs = {name: workers.submit(kubelet.proven, f"rung-{name}", made) for name, (made, _, _) in RUNGS.items()}
        return {name: proof.result()[0] for name, proof in proofs.items()}


@pytest.mark.parametrize("name", RUNGS)
def test_each_rung_fails_where_the_guest_is_broken_and_names_the_cause(
    name: str, outcomes: dict[str, dict[str, Any] | Refusal]
) -> None:
    _, code, words = RUNGS[name]
    told = refused(outcomes[name])
    assert (told.code, words in told.sentence) == (code, True), told.sentence
