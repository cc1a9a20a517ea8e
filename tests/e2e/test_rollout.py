"""Three hosts of a real cluster change in waves: a whole stack on real hosts, the real engine and a real control plane.

Lost if these fail: pods that are cut off by a restart, a change that reaches every node although it broke the first, nodes that
stay cordoned. kwok plays the kubelets, so that only its machine id shows which node a host is. The tests of this
module are one story of five minutes and run in order; on each change the draining runs on a real API server, the waves on mocks.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml

from clusterkit.rollout import CORDONED_BY, DRAINING
from tests.clusterkit.control_plane import HANGS, ControlPlane
from tests.e2e.checkout import Checkout
from tests.e2e.emulated_hosts import SSHD, EmulatedHost, emulated_host, stack_config
from tests.nightly import LONG_FORMS

pytestmark = [LONG_FORMS, pytest.mark.engine, pytest.mark.debian, pytest.mark.guest, pytest.mark.timeout(900)]
HOSTS = {"n1": "worker-a", "n2": "worker-b", "n3": "worker-c"}
"""Host -> its node, since names of machines and of nodes are chosen apart."""
ZERO = "sysctl.user.max_user_namespaces=0"
PARAMETER = "kata-nodes:kata.kernelParams[0]"
PODS = "/api/v1/namespaces/default/pods"
OWNER = "kata-nodes/waves"


class Story:
    """The stack, its hosts, and their cluster, on which three pods of a workload run."""

    def __init__(self, folder: Path, hosts: dict[str, EmulatedHost], plane: ControlPlane) -> None:
        self.hosts, self.plane, self.checkout = hosts, plane, Checkout(folder)
        plane.behave(dict.fromkeys(HOSTS.values(), HANGS))
        first = hosts["n1"]
        public = asyncssh.import_private_key(first.login_key).export_public_key().decode()
        for name, host in hosts.items():
            (host.root / SSHD / f"keys-{host.user}").write_text(public)
            (host.root / "etc/k0s").mkdir()
            (host.root / "etc/k0s/containerd.toml").write_text("# k0s_managed=true\nversion = 2\n")  # k0s merges a folder into it
            path = f"/api/v1/nodes/{HOSTS[name]}/status"
            information = plane.request("GET", path)["status"]["nodeInfo"]
            information["machineID"] = (host.root / "etc/machine-id").read_text().strip()
            plane.request("PATCH", path, {"status": {"nodeInfo": information}})
        config = stack_config(hosts)
        config["kata-nodes:nodes"]["rollout"] = {"canary": 1, "batch": "10%", "drainSeconds": 20}
        config["kata-nodes:kubernetes"] = {}
        (folder / "stacks" / "Pulumi.waves.yaml").write_text(yaml.safe_dump({"config": config}))
        self.pulumi("stack", "init")
        for key, value in {"sshPrivateKey": first.login_key, "kubeconfig": plane.kubeconfig}.items():
            self.pulumi("config", "set", "--secret", f"kata-nodes:{key}", stdin=value)
        spec = {"containers": [{"name": "web", "image": "image"}], "terminationGracePeriodSeconds": 1}
        template = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
        body = {"metadata": {"name": "web"}, "spec": {"replicas": 6, "selector": {"matchLabels": {"app": "web"}}}}
        body["spec"]["template"] = template
        plane.request("POST", "/apis/apps/v1/namespaces/default/replicasets", body)
        plane.until("the pods", lambda: set(self.pods().values()) == set(HOSTS.values()))

    def pulumi(self, *argv: str, ok: bool = True, stdin: str = "") -> str:
        """A command of the engine."""
        return self.checkout.pulumi(*argv, "--stack", "waves", ok=ok, stdin=stdin)

    def up(self, *argv: str, ok: bool = True) -> str:
        """`pulumi up`."""
        printed = self.pulumi("up", "--yes", "--skip-preview", *argv, ok=ok)
        assert "Traceback" not in printed
        return printed

    def pods(self) -> dict[str, str]:
        """Uid of each running pod -> its node."""
        pods = self.plane.items(PODS)
        return {item["metadata"]["uid"]: item["spec"]["nodeName"] for item in pods if item["status"].get("phase") == "Running"}

    def cordoned(self) -> dict[str, str | None]:
        """Cordoned node -> the stack that has cordoned it."""
        nodes = self.plane.items("/api/v1/nodes")
        cordoned = [item["metadata"] for item in nodes if item["spec"].get("unschedulable")]
        return {item["name"]: (item.get("annotations") or {}).get(CORDONED_BY) for item in cordoned}

    def annotated(self) -> list[str]:
        """Nodes with the mark of any stack."""
        nodes = [item["metadata"] for item in self.plane.items("/api/v1/nodes")]
        return [item["name"] for item in nodes if {CORDONED_BY, DRAINING} & (item.get("annotations") or {}).keys()]

    def touched(self) -> set[str]:
        """Hosts that hold anything of ours."""
        return {name for name, host in self.hosts.items() if (host.root / "usr/local/lib/kata-nodes").exists()}

    def parameters(self) -> dict[str, str]:
        """By host: the guest kernel parameters that its proof read."""
        nodes: list[dict[str, Any]] = json.loads(self.pulumi("stack", "output", "nodes", "--json"))
        return {node["name"]: node["kernelParams"] for node in nodes}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, plane: ControlPlane) -> Iterator[Story]:
    with contextlib.ExitStack() as running:
        hosts = {name: running.enter_context(emulated_host()) for name in HOSTS}
        story = Story(tmp_path_factory.mktemp("checkout"), hosts, plane)
        try:
            yield story
        finally:
            story.pulumi("destroy", "--yes", "--skip-preview")


def test_preview_shows_the_waves_and_cordons_nothing(story: Story) -> None:
    assert "rollout in 3 waves: 1 (n1), then 2 (n2), then 3 (n3)" in story.pulumi("preview")
    assert story.cordoned() == {} and story.touched() == set()


def test_a_first_proof_that_fails_leaves_the_other_nodes_alone_and_names_them(story: Story) -> None:
    story.pulumi("config", "set", "--path", PARAMETER, ZERO)
    before = story.pods()
    printed = story.up(ok=False)
    assert "[proof-user-namespaces-zero]" in printed
    stopped = "The rollout stops at n1 in wave 1 of 3: changed and proven: none; changing: n1; unchanged: n2, n3; cordoned: n1"
    assert stopped in printed and "[rollout-stopped]" in printed
    assert story.touched() == {"n1"}
    assert story.cordoned() == {"worker-a": OWNER}
    story.plane.until("the pods on other nodes", lambda: len(story.pods()) == 6)
    after = story.pods()
    assert set(after.values()) == {"worker-b", "worker-c"}
    assert {uid for uid, node in before.items() if node != "worker-a"} < set(after)


def test_the_next_up_goes_on_and_uncordons_all_but_what_a_person_has_cordoned(story: Story) -> None:
    story.plane.request("PATCH", "/api/v1/nodes/worker-b", {"spec": {"unschedulable": True}})
    story.pulumi("config", "rm", "--path", PARAMETER)
    story.up()
    assert story.touched() == set(HOSTS)
    assert story.cordoned() == {"worker-b": None} and story.annotated() == []
    story.plane.request("PATCH", "/api/v1/nodes/worker-b", {"spec": {"unschedulable": None}})


def test_a_run_that_changes_nothing_moves_no_pod(story: Story) -> None:
    story.plane.until("the pods", lambda: len(story.pods()) == 6)
    before = story.pods()
    story.up("--expect-no-changes")
    assert story.pods() == before and story.cordoned() == {}


def test_a_run_that_was_cut_off_after_the_proof_is_ended_by_the_next(story: Story) -> None:
    left = {"spec": {"unschedulable": True}, "metadata": {"annotations": {CORDONED_BY: OWNER}}}
    story.plane.request("PATCH", "/api/v1/nodes/worker-c", left)
    story.up("--expect-no-changes")
    assert story.cordoned() == {} and story.annotated() == []


def test_a_node_that_cannot_be_drained_stops_the_waves_and_is_as_it_was(story: Story) -> None:
    spec = {"containers": [{"name": "tool", "image": "image"}], "nodeName": "worker-b"}
    story.plane.request("POST", PODS, {"metadata": {"name": "tool"}, "spec": spec})
    story.plane.until("the pod", lambda: "worker-b" in story.pods().values())
    story.pulumi("config", "set", "--path", PARAMETER, "sysctl.user.max_user_namespaces=9000")
    printed = story.up(ok=False)
    assert "Node worker-b is not drained: no controller would start its pods elsewhere: default/tool" in printed
    assert "evictBarePods: true" in printed and "[drain-refused]" in printed
    stopped = "The rollout stops at n2 in wave 2 of 3: changed and proven: n1; changing: none; unchanged: n2, n3; cordoned: none"
    assert stopped in printed
    assert story.cordoned() == {}
    story.plane.request("DELETE", f"{PODS}/tool?gracePeriodSeconds=0")
    story.up()
    assert {value.rpartition("=")[2] for value in story.parameters().values()} == {"9000"}
    assert story.cordoned() == {} and story.annotated() == []
