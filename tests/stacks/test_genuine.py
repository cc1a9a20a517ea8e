"""Stack genuine is refused where it cannot work, before anything is made, and planned with the real parts elsewhere."""

import http.server
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.local import machine as local_machine
from local import accelerator, genuine
from nodekit.errors import NodeError
from stacks import pool
from stacks.configuration import load
from tests.components.recorder import Recorder, states
from tests.components.test_wiring import LOCAL, stack
from tests.serving import running

FILE = Path(__file__).resolve().parents[2] / "stacks" / "Pulumi.genuine.yaml"
CONFIG: dict[str, Any] = {
    key.removeprefix("kata-nodes:"): value for key, value in yaml.safe_load(FILE.read_text())["config"].items()
}
DOCKER = "https://download.docker.com/linux/debian/gpg"
KATA = "https://github.com/kata-containers/kata-containers/releases/download/3.32.0/kata-static-3.32.0-amd64.tar.zst"


class Machine:
    """What the machine is played to have: a device of KVM, a node image, and what a guest does there."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.device, self.image, self.tried, self.boots = folder / "kvm", folder / "cache/image/0", 0, True
        self.image.mkdir(parents=True)
        self.device.touch()
        (self.image / "image.json").touch()
        patch.setenv("KATA_NODES_CACHE", str(folder / "cache"))
        patch.setattr(accelerator, "DEVICE", self.device)
        patch.setattr(accelerator, "boots_with_kvm", self.boot)

    def boot(self, kernel: Path, initrd: Path) -> bool:
        """A guest of the image."""
        assert (kernel, initrd) == (self.image / "kernel", self.image / "initrd.img")
        self.tried += 1
        return self.boots


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with everything."""
    return Machine(tmp_path, monkeypatch)


@contextmanager
def site(status: int) -> Iterator[str]:
    """The address of a file on a site on loopback that answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}/file"


def refused(addresses: list[str], build: bool = False) -> str:
    """The sentence."""
    with pytest.raises(NodeError) as caught:
        genuine.refuse_where_impossible("genuine", addresses, build)
    assert caught.value.code == "genuine-impossible"
    return caught.value.sentence()


def test_machine_with_everything_is_refused_nothing(machine: Machine) -> None:
    with site(200) as address:
        genuine.refuse_where_impossible("genuine", [address], build=False)
    assert machine.tried == 1


def test_each_thing_that_is_missing_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(200) as reachable, site(404) as absent:
        machine.boots = False
        assert f"no guest boots with {machine.device} on this machine" in refused([reachable])
        monkeypatch.setattr(genuine.os, "access", lambda *_: False)
        assert f"this user may not open {machine.device}" in refused([reachable])
        machine.device.unlink()
        message = refused([reachable, absent])
        assert (
            f"this machine has no {machine.device}; {absent} cannot be reached from this machine" in message
            and reachable not in message
        )
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "Connection refused" in refused([f"http://127.0.0.1:{port}/gpg"])


def test_proxy_of_this_machine_is_not_the_way_of_the_node(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(200) as proxy, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        monkeypatch.setenv("http_proxy", proxy)
        assert "cannot be reached" in refused([f"http://127.0.0.1:{port}/gpg"])


def test_image_is_built_by_up_alone_and_a_guest_tried_in_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.image / "image.json").unlink()
    built: list[bool] = []

    ask = genuine.parts.from_set_up

    def set_up(*arguments: str) -> object:
        if arguments:
            return ask(*arguments)
        built.append(True)
        (machine.image / "image.json").touch()
        return {}

    monkeypatch.setattr(genuine.parts, "from_set_up", set_up)
    machine.boots = False
    genuine.refuse_where_impossible("genuine", [], build=False)
    assert built == [] and machine.tried == 0
    assert "no guest boots" in refused([], build=True) and built == [True]


def run(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], preview: bool, reached: bool = True) -> Recorder:
    """The whole program with these settings, where the sites are played."""
    reason = "cannot be reached from this machine (played)"
    monkeypatch.setattr(genuine, "unreached", lambda address: None if reached else f"{address} {reason}")
    ask = genuine.parts.from_set_up
    monkeypatch.setattr(genuine.parts, "from_set_up", lambda *arguments: ask(*arguments) if arguments else {})
    return stack(config, preview)


@pytest.mark.parametrize("preview", [True, False])
def test_plan_has_the_real_parts_on_a_local_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch, preview: bool) -> None:
    resources = run(monkeypatch, CONFIG, preview).by_name
    assert "site" not in resources and resources["local-0-machine"].type == "command:local:Command"
    # A preview shows the plan: the states are made with the identity of the machine, which is not there yet.
    plan = resources["local-0"].inputs["plan"]
    assert (plan["repositoryAddress"], plan["dockerVersion"]) == ("https://download.docker.com/linux/{id}", "28.5.1")
    assert (plan["installRelease"], plan.get("archiveAddress"), plan["kataVersion"]) == (True, None, "3.32.0")
    if not preview:
        steps = states(resources, "local-0")
        assert (steps["docker"]["repository"]["address"], steps["docker"]["version"]) == (plan["repositoryAddress"], "28.5.1")
        assert steps["kata"]["install"]["x86_64"]["address"] == KATA


def test_nothing_is_made_where_a_site_is_not_reached(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_machine, "boot", lambda _folder: pytest.fail("a machine was looked for"))
    with pytest.raises(pulumi.RunError, match=f"{DOCKER} cannot be reached .*; {KATA} cannot be reached"):
        run(monkeypatch, CONFIG, preview=False, reached=False)


def test_preview_warns_of_what_up_would_refuse_and_still_plans_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    machine.device.unlink()
    assert "local-0-proof" in run(monkeypatch, CONFIG, preview=True, reached=False).by_name
    (warning,) = warnings
    assert f"this machine has no {machine.device}; {DOCKER} cannot be reached" in warning and "stack local" in warning


def test_stand_in_needs_neither_kvm_nor_internet_and_says_what_it_did_not_prove(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.device.unlink()
    assert "local-0-machine" in run(monkeypatch, LOCAL, preview=True, reached=False).by_name
    kata, cluster = load(LOCAL.get).not_proven
    assert "stand-in" in kata and "nothing is proven about a Kata release" in kata and "runs no pods" in cluster
    assert load(CONFIG.get).not_proven == [cluster]


def test_own_mirrors_are_asked_instead_of_the_sites() -> None:
    docker = {"repository": {"address": "https://mirror.example/docker/{id}/"}, "version": "28.5.1"}
    kata = {"install": {"address": "https://mirror.example/kata.tar.zst", "sha256": "a" * 64}}
    config = load({**CONFIG, "docker": docker, "kata": kata}.get)
    assert pool.sources(config) == ["https://mirror.example/docker/debian/gpg", "https://mirror.example/kata.tar.zst"]
    assert pool.sources(load(CONFIG.get)) == [DOCKER, KATA] and pool.sources(load(LOCAL.get)) == []
