"""The proof in a container fails at each rung by a container that was made to fail there, in a real guest of the stand-in shim.

Lost if these fail: a proof that passes because a booted guest works, where the tenants' containers do not.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nodekit.rules.node_state import OverheadState, ProveState
from nodekit.rules.proof.ladder import judge
from nodekit.scripts import ladder_script
from tests.nodekit import kata_node
from tests.nodekit.debian_node import PROGRAM, DebianNode, Image
from tests.nodekit.kata_node import BASE, FAULT, FOLDER, PARAMETER, RUNTIME

pytestmark = [pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]

BRIDGE = "172.17.0.1"
NAME = "deb.debian.org"
RESOLVER = """
import socket, struct
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: Docker makes the bridge again when it starts
listener.bind(("172.17.0.1", 53))
while True:
    query, peer = listener.recvfrom(512)
    question = query[12:query.index(0, 12) + 5]
    is_a = question[-4:-2] == b"\\0\\1"
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_a), 0, 0)
    record = b"\\xc0\\x0c\\0\\1\\0\\1" + struct.pack("!IH", 60, 4) + bytes((198, 51, 100, 7))
    listener.sendto(head + question + (record if is_a else b""), peer)
"""
CLIMB = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from nodekit.commands.prove import Proof, container_proof
from nodekit.errors import NodeError
from nodekit.host.kata import effective
image, sandbox, network, parameter = json.loads(sys.argv[2])
here = effective(Path("/"), runtime="go", hypervisor="qemu", config_path=None)
proof = Proof("n1", "qemu", "go", [parameter], sandbox, here, Path("/"))
try:
    rungs = container_proof(proof, image, 240, network).rungs
    print(json.dumps({"rungs": [rung.as_dict() for rung in rungs]}))
except NodeError as error:
    print(json.dumps({"error": error.code, "message": error.message, "remedy": error.remedy}))
"""
Climb = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def node(built: Image, zipapp: bytes) -> Iterator[DebianNode]:
    """A node with Kata, a runtime `kata`, the image `proof:1`, and a DNS server that the node and its containers reach.

    Nothing of a container may stay on it.
    """
    with kata_node.with_kata(built, zipapp) as node:
        kata_node.write(node, "/etc/resolv.conf", f"nameserver {BRIDGE}\n")
        kata_node.image(node, "proof:1")
        server = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *node.command("python3", "-I", "-c", RESOLVER)])
        yield node
        server.kill()
        server.wait()
        assert kata_node.left(node) == ""


@pytest.fixture
def climb(node: DebianNode) -> Climb:
    """Climbs the ladder in a container, as the verb `prove` does: what it read, or the error."""

    def climbed(image: str | None = "proof:1", sandbox: str | None = "sandbox-runtime", network: bool = False) -> dict[str, Any]:
        outcome = node.run(
            *("python3", "-I", "-c", CLIMB, PROGRAM, json.dumps([image, sandbox, network, PARAMETER])), timeout=300
        )
        assert outcome.returncode == 0, outcome.stderr
        result: dict[str, Any] = json.loads(outcome.stdout)
        return result

    return climbed


@contextmanager
def drop_in(node: DebianNode, parameters: str, rest: str = "") -> Iterator[None]:
    """A drop-in that somebody put behind the stack's own, for a while."""
    kata_node.write(node, FAULT, f'[hypervisor.qemu]\nkernel_params = "{parameters}"\n{rest}')
    try:
        yield
    finally:
        kata_node.remove(node, FAULT)


@contextmanager
def daemon(node: DebianNode, runtime: dict[str, object], **settings: object) -> Iterator[None]:
    """Another runtime behind the name `kata`, or other settings of Docker, for a while."""
    kata_node.register(node, runtime, **settings)
    try:
        yield
    finally:
        kata_node.register(node, dict(RUNTIME))


def test_a_whole_node_passes_in_a_container_too(node: DebianNode, climb: Climb) -> None:
    state = ProveState("n1", "qemu", "go", expect=[PARAMETER], sandbox="sandbox-runtime", timeout_seconds=300, digest="")
    result = node.succeed("prove", state.document())
    assert result["proven"] == "container"
    rungs = result["rungs"]
    assert isinstance(rungs, list)
    passed = {rung["name"]: rung["passed"] for rung in rungs}
    counted = {rung["name"] for rung in rungs if rung["counts"]}
    tried = counted - {"sandbox-runtime", "sandbox-runtime-proxy"}  # these two are for images that hold the package
    assert {name: passed[name] for name in tried} == dict.fromkeys(tried, True)
    assert {"entry", "srt-call", "srt-call-ordinary", "network", "route", "name-resolution"} <= tried


def test_a_container_of_rootless_runc_starts_within_the_container(climb: Climb) -> None:
    result = climb(sandbox="rootless")
    rungs = {rung["name"]: rung for rung in result["rungs"]}
    assert rungs["rootless-runc"]["passed"] is True and rungs["rootless-runc"]["counts"] is True, result


def test_a_limit_of_zero_fails(node: DebianNode, climb: Climb) -> None:
    with drop_in(node, f"{BASE} {PARAMETER} sysctl.user.max_user_namespaces=0"):
        result = climb()
    assert result["error"] == "proof-user-namespaces-zero", result
    assert "sysctl.user.max_user_namespaces=0 on the guest's command line" in result["message"]


def test_lost_base_parameters_fail_with_the_file_that_lost_them(node: DebianNode, climb: Climb) -> None:
    with drop_in(node, f"quiet {PARAMETER}", "[agent.kata]\ndial_timeout = 20\n"):
        result = climb()
    assert result["error"] == "proof-base-parameters-lost", result
    assert f"kernel_params is 'quiet {PARAMETER}', set by {FAULT}" in result["message"]
    assert "cgroup: Unknown subsys name" in result["message"] and BASE in result["remedy"]


def test_parameters_of_the_stack_that_are_lost_fail(node: DebianNode, climb: Climb) -> None:
    with drop_in(node, BASE):
        result = climb()
    assert result["error"] == "proof-parameters-missing" and PARAMETER in result["message"], result


def test_another_configuration_than_the_proven_fails(node: DebianNode, climb: Climb) -> None:
    other = "/etc/kata-other"
    kept = f"{FOLDER}/configuration-qemu.toml {FOLDER}/config.d/60-emulated.toml"
    node.ask("sh", "-c", f"mkdir -p {other}/config.d && cp {kept} {other}/ && mv {other}/60-* {other}/config.d/")
    options = {"TypeUrl": "io.containerd.runtimeoptions.v1.Options", "ConfigPath": f"{other}/configuration-qemu.toml"}
    with daemon(node, {**RUNTIME, "options": options}):
        result = climb()
    assert result["error"] == "proof-parameters-missing", result
    assert "another configuration file is read" in result["message"]


def test_a_runtime_named_kata_that_is_runc_is_not_a_guest(node: DebianNode, climb: Climb) -> None:
    with daemon(node, {"path": "runc"}):
        result = climb()
    assert result["error"] == "proof-not-a-guest", result


def test_no_loopback_fails(node: DebianNode, climb: Climb) -> None:
    with drop_in(node, f"{BASE} {PARAMETER} sysctl.user.max_net_namespaces=0"):
        result = climb()
    assert result["error"] == "proof-loopback-failed", result


def test_a_container_that_resolves_nothing_fails(node: DebianNode, climb: Climb) -> None:
    assert NAME in node.ask("getent", "-s", "dns", "hosts", NAME)
    with daemon(node, dict(RUNTIME), dns=["172.17.0.99"]):
        result = climb(network=True)
    assert result["error"] == "proof-network-missing", result
    assert "resolves no name that the node does" in result["message"]


def shell(through: str) -> dict[str, str]:
    """In place of the image's sh: one that goes on in a command, once the entry has mounted proc."""
    before = '#!/bin/busybox sh\n[ -n "$KATA_NODES_ENTRY" ] || exec /bin/busybox sh "$@"\n'
    return {"bin/sh": before + f'exec {through} /bin/busybox sh "$@"\n'}


@pytest.mark.parametrize(
    ("spoiled", "sandbox", "code", "words"),
    [
        (
            {"replaced": shell("/bin/busybox unshare -Ur")},
            "bubblewrap",
            "proof-user-namespaces-child-namespace",
            "a child user namespace",
        ),
        (
            {"replaced": shell("/usr/bin/setpriv --bounding-set=-setfcap")},
            "bubblewrap",
            "proof-unshare-failed",
            "CAP_SETFCAP is not",
        ),
        ({"user": "1000"}, "bubblewrap", "proof-entry-failed", "could not mount a proc of its own"),
        ({"without": "usr/bin/runc"}, "rootless", "proof-tool-missing", "runc is not installed here"),
    ],
    ids=["child-namespace", "bounding-set", "image-of-a-user", "no-runc"],
)
def test_an_image_that_spoils_the_sandbox_fails(
    node: DebianNode, climb: Climb, spoiled: dict[str, Any], sandbox: str, code: str, words: str
) -> None:
    result = climb(kata_node.image(node, "spoiled:1", **spoiled), sandbox)
    assert result["error"] == code, result
    assert words in result["message"]


def test_paths_masked_below_proc_fail_without_the_entry(node: DebianNode, climb: Climb) -> None:
    ladder = ladder_script()
    options = ["--runtime=kata", "--network=none", "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--env=KATA_NODES_NONCE=n"]
    container = node.run("docker", "run", "--rm", *options, "proof:1", "sh", "-c", ladder, timeout=200)
    verdict = judge(container.stdout, "n", "another", [PARAMETER], place="image")
    assert verdict.code == "proof-bwrap-failed", (verdict, container.stderr)
    assert "paths below /proc are masked" in verdict.message and "nodekit/entry.sh" in verdict.remedy
    rootless = {rung.name: rung for rung in judge(container.stdout, "n", "another", [PARAMETER], sandbox="rootless").rungs}[
        "rootless-runc"
    ]
    assert rootless.passed is False and "paths below /proc are masked" in rootless.cause, rootless


def test_a_guests_memory_is_set_apart_from_what_its_processes_take(node: DebianNode) -> None:
    state = OverheadState("n1", "qemu", "go", seconds=4, timeout_seconds=300)
    answer: dict[str, Any] = node.succeed("overhead", state.document())
    idle, busy, load = answer["idle"], answer["busy"], answer["load"]
    for sandbox in (idle, busy):
        memory = {process["name"]: process["memoryMiB"] for process in sandbox["processes"]}
        assert {name for name, mib in memory.items() if mib > 0} >= {"containerd-shim", "virtiofsd", "qemu-system-x86"}
        assert sandbox["kernelMiB"] > 0 and 4 <= sandbox["seconds"] < 8
    assert (answer["guestMiB"], load["filledMiB"], load["processors"]) == (512, 256, 1)
    assert 30 < idle["guestMiB"] <= 512 and busy["guestMiB"] >= idle["guestMiB"] + 0.5 * load["filledMiB"]
    assert busy["memoryMiB"] < idle["memoryMiB"] + load["filledMiB"] / 2, "what the container touched is not its processes' own"
    assert busy["cpuMilli"] > 2 * idle["cpuMilli"]
    assert answer["proposal"]["comparable"] is False, "its guests are emulated"
    assert kata_node.left(node) == ""


STARTED = 'echo $$ >/run/overhead.pid; exec python3 -I "$0" overhead'


def test_a_measurement_that_is_ended_leaves_no_container(node: DebianNode) -> None:
    state = OverheadState("n1", "qemu", "go", seconds=60, timeout_seconds=300)
    argv = node.command("sh", "-c", STARTED, PROGRAM)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as measuring:
        assert measuring.stdin is not None
        measuring.stdin.write(json.dumps(state.document()))
        measuring.stdin.close()
        end = time.monotonic() + 120
        while not node.ask("docker", "ps", "--quiet", "--filter", "name=kata-nodes-overhead"):
            assert measuring.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        node.ask("sh", "-c", "kill $(cat /run/overhead.pid)")
        assert measuring.wait(60) != 0
        assert measuring.stderr is not None and "[run-ended]" in measuring.stderr.read()
    assert kata_node.left(node) == ""
