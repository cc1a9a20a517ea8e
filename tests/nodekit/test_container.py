"""What a container is given in which the ladder climbs; it climbs in real ones in `test_container_proof`."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from nodekit.commands import prove
from nodekit.errors import NodeError
from nodekit.host import container
from nodekit.host.process import Finished
from nodekit.rules.proof.ladder import VARIABLES
from tests.nodekit.test_bounded import PROOF
from tests.nodekit.test_ladder import NODE, NONCE, transcript


@pytest.mark.parametrize("network", [False, True])
def test_no_variable_of_an_image_speaks_to_the_ladder(monkeypatch: pytest.MonkeyPatch, network: bool) -> None:
    commands: list[list[str]] = []

    def finished(command: list[str], **_: Any) -> Finished:
        commands.append(command)
        return Finished(0, "", "")

    monkeypatch.setattr(container, "run", finished)
    monkeypatch.setattr(container, "name_to_resolve", lambda: "deb.debian.org")
    container.climb("abc", "kata", "image", network=network, capabilities=["SYS_ADMIN"], seconds=1)
    options = [word for before, word in zip(commands[0], commands[0][1:], strict=False) if before == "-e"]
    variables = dict(option.split("=", 1) for option in options)
    assert set(variables) == {*VARIABLES, "KATA_NODES_NONCE"} and variables["KATA_NODES_ORDINARY"] == ""
    assert (variables["KATA_NODES_NONCE"], variables["KATA_NODES_NETWORK"]) == ("abc", "1" if network else "")


@pytest.mark.parametrize("hangs", [True, False])
def test_a_container_that_docker_cannot_remove_goes_with_its_shim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hangs: bool
) -> None:
    """As seen with a genuine Kata whose QEMU had ended: `docker rm` waited for a shim that waited without end."""
    id = "5c32" * 16
    script = tmp_path / "bin/docker"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\necho "$3 $4" >>{tmp_path}/calls\ncase $3 in\n'
        f"ps) echo {id} ;;\nrm) [ ! -e {tmp_path}/hangs ] || {{ rm {tmp_path}/hangs; exec sleep 60; }} ;;\nesac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(container, "REMOVAL_SECONDS", 1)
    if hangs:
        (tmp_path / "hangs").touch()
    shims = {
        # Not python3, which pyenv has as a script: its process has another name.
        name: subprocess.Popen(["bash", "-c", f"exec -a {name} sh -c 'read _' -id {known}"], stdin=subprocess.PIPE)
        for name, known in {"/opt/kata/bin/containerd-shim-kata-v2": id, "/usr/bin/containerd-shim-runc-v2": "a" * 64}.items()
    }
    try:
        for name, shim in shims.items():
            while not Path(f"/proc/{shim.pid}/cmdline").read_text().startswith(name):  # until bash has started it
                time.sleep(0.05)
        container.remove("kata-nodes-proof-abc")
        ours, others = shims.values()
        assert (ours.wait(10) == -signal.SIGKILL) if hangs else (ours.poll() is None)
        assert others.poll() is None, "of another container"
        rm = "rm --force"
        assert (tmp_path / "calls").read_text().splitlines() == ([rm, "ps --all", rm] if hangs else [rm])
        assert "left behind" not in capsys.readouterr().err
    finally:
        for shim in shims.values():
            shim.kill()
            shim.wait()


@pytest.mark.parametrize(("kernel", "seconds", "passes"), [("", 86400, False), ("", 1, True), ("6.12.9", 86400, True)])
def test_a_kernel_that_ran_before_the_container_passes_for_no_guest(
    monkeypatch: pytest.MonkeyPatch, kernel: str, seconds: int, passes: bool
) -> None:
    """As under runc on a node that is a container of LXC, whose boot id is not its kernel's."""
    own = os.uname().release
    text = transcript(kernel=("ok", kernel or own, "")).replace("detail=\r", f"detail= at={seconds}.00\r", 1)
    monkeypatch.setattr(prove, "new_nonce", lambda: NONCE)
    monkeypatch.setattr(prove, "boot_id", lambda root: NODE)
    monkeypatch.setattr(prove, "patiently", lambda *_: Finished(0, text, ""))
    if passes:
        assert prove.container_proof(PROOF, "debian", 60, False).passed
        return
    with pytest.raises(NodeError, match="ran before the container was started, so this ran in no guest") as refused:
        prove.container_proof(PROOF, "debian", 60, False)
    assert refused.value.code == "proof-not-a-guest"
