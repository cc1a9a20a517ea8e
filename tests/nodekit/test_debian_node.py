"""The verbs on a real Debian with real systemd, dockerd, apt and dpkg: rounds there and back, and a kill at every point.

Lost if these fail: a node that is not what it was after `restore`, or one that a power cut leaves half changed."""

import itertools
import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from nodekit.host.failpoints import POINTS
from tests.nightly import nightly
from tests.nodekit.debian_node import DebianNode, Image, booted
from tests.nodekit.test_killed import ELSEWHERE

pytestmark = [pytest.mark.debian, pytest.mark.timeout(2400)]

kills = pytest.mark.parametrize("every", [pytest.param(False, id="first-time"), nightly(True, id="every-time")])
"""Whether a run is killed each time that it comes to a point, or the first time."""
STATE = "var/lib/kata-nodes"
DOCKER = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")
CHANGE_POINTS = (
    "lock-taken", "folder-made", "content-written", "content-named", "content-placed", "change-done", "packages-settled",
    "index-read", "packages-changing", "packages-changed", "packages-marked", "service-told",
)  # fmt: skip
RESTORE_POINTS = (
    "lock-taken", "content-written", "content-named", "content-placed", "file-removed", "folder-removed", "files-restored",
    "packages-settled", "packages-changing", "packages-changed", "packages-marked", "service-told",
)  # fmt: skip
ABSENT_POINTS = ("packages-purged",)
"""Where Docker was not installed before."""


@dataclass(frozen=True)
class Outside:
    """All of a node that this program may change."""

    files: dict[str, str]
    packages: dict[str, str]
    runtimes: str

    @staticmethod
    def of(node: DebianNode) -> "Outside":
        form = "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}{{.ServerVersion}}"
        return Outside(node.files(), node.packages(), node.run("docker", "info", "--format", form).stdout)


@pytest.mark.parametrize("rounds", [3, nightly(10)])
def test_rounds_there_and_back_leave_no_trace(node: DebianNode, rounds: int) -> None:
    node.ask("apt-mark", "hold", "docker-ce-cli", "iptables")
    node.ask("apt-mark", "auto", "docker-ce-rootless-extras", "containerd.io")
    before = Outside.of(node)
    assert before.packages["docker-ce-cli"] == f"hi {node.image.new}" and before.packages["containerd.io"].endswith(" auto")
    first = None
    for _ in range(rounds):
        assert node.succeed("kata", node.kata())["changed"] is True
        assert node.succeed("docker", node.docker())["previous"] == {"version": node.image.new}
        now = Outside.of(node)
        assert {now.packages[name].removesuffix(" auto") for name in DOCKER} == {f"hi {node.image.old}"}
        assert now.runtimes.split() == ["io.containerd.runc.v2", "kata", "runc", "27.5.1"]
        assert first in (None, now)
        first = now
        assert [node.succeed(verb, state)["changed"] for verb, state in (("kata", node.kata()), ("docker", node.docker()))] == [
            False,
            False,
        ]
        assert node.succeed("restore", {"node": "n1"})["kept"] == []
        assert Outside.of(node) == before


def test_a_docker_that_was_stopped_and_disabled_is_so_again(node: DebianNode) -> None:
    node.ask("systemctl", "disable", "--now", "docker.service", "docker.socket")

    def units() -> str:
        return node.ask("systemctl", "show", "--property=Id,ActiveState,UnitFileState", "docker.service", "docker.socket")

    before, stopped = Outside.of(node), units()
    assert "ActiveState=inactive" in stopped and "UnitFileState=disabled" in stopped
    assert node.succeed("docker", node.docker())["version"] == "27.5.1"
    restored = node.succeed("restore", {"node": "n1"})
    assert {"unit docker.service", "unit docker.socket"} <= set(restored["restored"])  # type: ignore[call-overload]
    assert (Outside.of(node), units()) == (before, stopped)


def kill_socket(node: DebianNode) -> None:
    """Leave docker.service running without its socket unit, as `systemctl restart docker.service docker.socket` of a package's
    scripts does now and then (systemd 249, two jobs that cross)."""
    node.ask("systemctl", "stop", "--job-mode=ignore-dependencies", "docker.socket")
    assert active(node) == ["inactive", "active"]


def active(node: DebianNode) -> list[str]:
    """How docker.socket and docker.service are."""
    return node.run("systemctl", "is-active", "docker.socket", "docker.service").stdout.split()


def test_a_docker_whose_socket_a_package_lost_has_it_again(node: DebianNode) -> None:
    """systemd refuses to start a socket whose service runs. Lost if this fails: a restore that fails on Ubuntu 22.04."""
    changed(node)
    before = node.packages()
    assert node.nodekit("restore", {"node": "n1"}, "packages-marked:1").returncode == -signal.SIGKILL
    assert node.packages() != before
    kill_socket(node)
    assert "unit docker.socket" in node.succeed("restore", {"node": "n1"})["restored"]  # type: ignore[operator]
    assert active(node) == ["active", "active"] and node.ask("docker", "info", "--format", "{{.ServerVersion}}")


def test_a_docker_that_ran_without_its_socket_runs_after_restore(node: DebianNode) -> None:
    """Lost if this fails: stopping the socket, as it was before, takes dockerd with it."""
    kill_socket(node)
    node.succeed("docker", node.docker())
    node.succeed("restore", {"node": "n1"})
    assert active(node)[1] == "active" and node.ask("docker", "info", "--format", "{{.ServerVersion}}")


def test_python3_apt_is_not_needed(node: DebianNode) -> None:
    assert "No module named 'apt'" in node.run("python3", "-c", "import apt").stderr
    assert node.succeed("docker", node.docker())["version"] == "27.5.1"


def test_what_an_interrupted_dpkg_left_is_finished_first(node: DebianNode) -> None:
    node.succeed("docker", node.docker())
    node.succeed("restore", {"node": "n1"})
    package = f"/var/cache/apt/archives/docker-ce-cli_{node.image.new.replace(':', '%3a')}_amd64.deb"
    node.ask("dpkg", "--unpack", package)  # as a power cut between unpacking and configuring leaves it
    assert node.packages()["docker-ce-cli"].startswith("iU")
    assert node.succeed("docker", node.docker())["version"] == "27.5.1"
    assert node.packages()["docker-ce-cli"] == f"hi {node.image.old}"


def test_a_package_that_cannot_be_configured_is_named_and_the_node_is_as_it_was(node: DebianNode) -> None:
    script = "/var/lib/dpkg/info/docker-ce-cli.postinst"
    half = "s/^Status: .*/Status: install ok half-configured/"
    node.ask("sh", "-c", f"printf '#!/bin/sh\\nexit 3\\n' > {script}; chmod 755 {script}")
    node.ask("sed", "-i", f"/^Package: docker-ce-cli$/,/^$/{half}", "/var/lib/dpkg/status")
    before = node.files(), node.packages()
    result = node.nodekit("docker", node.docker())
    error = json.loads(result.stdout)["error"]
    assert (result.returncode, error["code"]) == (1, "package-install-failed")
    assert "docker-ce-cli" in error["message"] and "dpkg --configure -a" in error["remedy"]
    assert (node.files(), node.packages()) == before


def test_status_reports_everything_to_an_ordinary_user_and_changes_nothing(node: DebianNode) -> None:
    node.succeed("kata", node.kata())
    node.succeed("docker", node.docker())
    before = Outside.of(node)
    argv = ["python3", "-I", "/usr/local/lib/kata-nodes/nodekit.pyz", "status"]
    root = json.loads(node.ask(*argv, "--json"))
    user = json.loads(node.ask("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *argv, "--json"))
    assert root["docker"]["daemon"]["version"] == "27.5.1" and "kata" in root["docker"]["daemon"]["runtimes"]
    assert root["docker"]["daemonJson"]["kata"]["runtimeType"] == "io.containerd.kata.v2"
    assert root["compatible"]["go"]["ok"] is True
    assert root["kata"]["configurations"]["go"]["qemu"]["kernelParams"].endswith("sysctl.user.max_user_namespaces=9000")
    assert root["changes"]["docker"]["restores"] == [
        "/etc/apt/sources.list.d/kata-nodes-docker.sources",
        "/etc/docker/daemon.json",
    ]
    assert user["changes"]["code"] == user["aptLockedBy"]["code"] == "file-unreadable"
    assert user["docker"]["daemon"]["version"] is None and "ermission denied" in user["docker"]["daemon"]["reason"]
    for part in (("docker", "packages"), ("docker", "daemonJson"), ("kata", "configurations")):
        assert user[part[0]][part[1]] == root[part[0]][part[1]]
    assert "sysctl.user.max_user_namespaces=9000" in node.ask(*argv)
    assert Outside.of(node) == before


class Killed:
    """Kills a run at every point in turn, and looks at the node in between and after."""

    def __init__(
        self,
        built: Image,
        zipapp: bytes,
        prepare: Callable[[DebianNode], None],
        verb: str,
        state: Callable[[DebianNode], dict[str, object]],
    ) -> None:
        self.built, self.zipapp, self.prepare, self.verb, self.state = built, zipapp, prepare, verb, state
        with booted(built, zipapp) as node:
            prepare(node)
            self.before = Outside.of(node)
            node.succeed(verb, state(node))
            self.after = Outside.of(node)

    def at(self, point: str, every: bool) -> int:
        """Kills of a run at a point, each repaired by another run: one, or as many as it takes until a run comes through."""
        for number in itertools.count(1):
            with booted(self.built, self.zipapp) as node:
                self.prepare(node)
                result = node.nodekit(self.verb, self.state(node), f"{point}:{number}")
                if result.returncode == 0:
                    assert Outside.of(node) == self.after
                    return number - 1
                assert result.returncode == -signal.SIGKILL, result.stderr[-2000:]
                if point != "packages-changing":  # there dpkg is at work
                    self.look(node, f"{point}:{number}")
                node.succeed(self.verb, self.state(node))
                assert Outside.of(node) == self.after, f"after a kill at {point}:{number}"
            if not every:
                return number
        raise AssertionError("not reached")

    def look(self, node: DebianNode, where: str) -> None:
        """Every file is as before or as after; there is nothing else except what our own folder may hold."""
        for path, content in node.files().items():
            if path.startswith(f"{STATE}/"):
                assert path.removeprefix(f"{STATE}/") in ("docker.json", "kata.json", "pending"), f"{path} at {where}"
                if path.endswith(".json") and content != "gone":
                    json.loads(node.ask("cat", f"/{path}"))
            elif path != STATE:
                assert content in (self.before.files.get(path, content), self.after.files.get(path, content)), (
                    f"{path} at {where}"
                )
                assert path in self.before.files or path in self.after.files, f"{path} at {where}"

    def everywhere(self, points: tuple[str, ...], every: bool) -> dict[str, int]:
        """Kills at all of `points`, two nodes at a time."""
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(points, pool.map(self.at, points, itertools.repeat(every)), strict=False))


def nothing(node: DebianNode) -> None:
    """A node as it comes."""


def changed(node: DebianNode) -> None:
    """A node whose Docker is pinned, and had a configuration before."""
    node.ask(
        "sh", "-c", "mkdir -p /etc/docker; echo '{\"debug\": true}' > /etc/docker/daemon.json; chmod 640 /etc/docker/daemon.json"
    )
    node.ask("apt-mark", "hold", "docker-ce-cli")
    node.ask("apt-mark", "auto", "docker-ce-rootless-extras")
    node.succeed("docker", node.docker())


def without_docker(node: DebianNode) -> None:
    """A node that had no Docker before it was pinned."""
    node.ask("dpkg", "--purge", *DOCKER, "containerd.io")
    node.succeed("docker", node.docker())


@kills
def test_a_kill_at_any_point_of_docker_is_repaired_by_the_next_run(built: Image, zipapp: bytes, every: bool) -> None:
    counts = Killed(built, zipapp, nothing, "docker", DebianNode.docker).everywhere(CHANGE_POINTS, every)
    print(counts, sum(counts.values()))
    assert all(counts.values()), counts


@kills
def test_a_kill_at_any_point_of_restore_is_repaired_by_the_next_run(built: Image, zipapp: bytes, every: bool) -> None:
    counts = Killed(built, zipapp, changed, "restore", lambda _: {"node": "n1"}).everywhere(RESTORE_POINTS, every)
    print(counts, sum(counts.values()))
    assert all(counts.values()), counts


@kills
def test_a_kill_while_docker_is_removed_again_is_repaired_by_the_next_run(built: Image, zipapp: bytes, every: bool) -> None:
    counts = Killed(built, zipapp, without_docker, "restore", lambda _: {"node": "n1"}).everywhere(ABSENT_POINTS, every)
    assert all(counts.values()), counts


def test_every_point_is_one_at_which_a_test_kills() -> None:
    assert {*CHANGE_POINTS, *RESTORE_POINTS, *ABSENT_POINTS, *ELSEWHERE} == set(POINTS)


def test_nodes_beside_each_other_share_no_control_group(built: Image, zipapp: bytes) -> None:
    """Lost otherwise: a node whose services end because systemd kills those of another, now and then."""
    with booted(built, zipapp) as node, booted(built, zipapp) as other:
        before = other.ask("pidof", "dockerd")
        node.ask("systemctl", "kill", "--signal=KILL", "docker.service")
        assert other.ask("pidof", "dockerd") == before
