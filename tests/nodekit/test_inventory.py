"""A check asks dpkg and dockerd once. Lost if this fails: each question more takes a twentieth of its time on a host."""

import json
from pathlib import Path

import pytest

from nodekit.commands import compare
from nodekit.host import apt, docker
from nodekit.rules.docker.daemon_json import PATH
from nodekit.rules.docker.docker_packages import HELD, PackageState
from nodekit.rules.node_state import CompareState, DockerState, Repository

VERSION = "5:27.5.1-1~debian.13~trixie"
STATE = DockerState("n1", "27.5.1", Repository("https://example.org/{id}", "A" * 40), "3.32.0", "go")


@pytest.mark.parametrize("version", [VERSION, "5:29.0.0-1~debian.13~trixie"], ids=["pinned", "newer"])
def test_a_check_asks_dpkg_and_dockerd_once(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_ID=13\n")
    (tmp_path / PATH.lstrip("/")).write_text('{"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}')
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("a-boot\n")
    questions = []

    def package_states(names: object, root: Path) -> dict[str, PackageState]:
        questions.append("dpkg")
        return {name: PackageState(True, "installed", version) for name in HELD}

    def ask(root: Path) -> docker.Answer:
        questions.append("dockerd")
        return docker.Answer("27.5.1", frozenset({"runc"}), "")

    monkeypatch.setattr(apt, "package_states", package_states)
    monkeypatch.setattr(docker, "ask", ask)
    checked = compare.run(CompareState(node="n1", docker=STATE).document(), tmp_path)
    assert sorted(questions) == ["dockerd", "dpkg"]
    # Both parts of the document are of that answer.
    expected = "does not know the runtime kata" if version == VERSION else f"docker-ce is {version}"
    assert expected in json.dumps(checked["differences"])
    assert json.loads(json.dumps(checked["status"]))["docker"]["daemon"]["version"] == "27.5.1"
