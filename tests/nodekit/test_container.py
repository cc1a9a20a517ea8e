"""What a container is given in which the ladder climbs; it climbs in real ones in `test_container_proof`."""

import os
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
    monkeypatch.setattr(container, "clean_up", finished)
    monkeypatch.setattr(container, "name_to_resolve", lambda: "deb.debian.org")
    container.climb("abc", "kata", "image", network=network, capabilities=["SYS_ADMIN"], seconds=1)
    options = [word for before, word in zip(commands[0], commands[0][1:], strict=False) if before == "-e"]
    variables = dict(option.split("=", 1) for option in options)
    assert set(variables) == {*VARIABLES, "KATA_NODES_NONCE"} and variables["KATA_NODES_ORDINARY"] == ""
    assert (variables["KATA_NODES_NONCE"], variables["KATA_NODES_NETWORK"]) == ("abc", "1" if network else "")


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
