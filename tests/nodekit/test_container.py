"""What a container is given in which the ladder climbs; it climbs in real ones in `test_container_proof`."""

from typing import Any

import pytest

from nodekit.host import container
from nodekit.host.process import Finished
from nodekit.rules.proof.ladder import VARIABLES


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
