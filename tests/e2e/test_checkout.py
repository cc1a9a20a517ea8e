"""A run of the local stack is repeated where an emulated machine hung, and nowhere else: other failures must stay visible."""

from pathlib import Path

import pytest

from tests.e2e import checkout
from tests.e2e.checkout import LocalStack

LOST = "the connection to node@127.0.0.1:2222 ended while the command ran: Server not responding to keepalive for 120 s"


class Played(LocalStack):
    """A stack whose commands end as written down."""

    def __init__(self, folder: Path, ends: list[tuple[int, str]]) -> None:
        self.folder = folder
        self.ends = ends
        self.machine("local-0").mkdir(parents=True)

    def run(self, *command: str, stdin: str = "") -> tuple[int, str]:
        return self.ends.pop(0)


def test_run_is_repeated_once_where_a_machine_hung(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkout, "hung", lambda folder: folder.name == "local-0")
    stack = Played(tmp_path, [(1, LOST), (0, "well")])
    assert stack.up() == "well"
    assert "local-0 hung under emulation" in capsys.readouterr().out
    stack.ends = [(1, LOST), (1, LOST)]
    with pytest.raises(AssertionError):
        stack.up()
    assert stack.ends == []


@pytest.mark.parametrize(("end", "hangs"), [((1, LOST), False), ((1, "error: [docker-not-up]"), True)])
def test_other_failure_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: tuple[int, str], hangs: bool
) -> None:
    monkeypatch.setattr(checkout, "hung", lambda folder: hangs)
    stack = Played(tmp_path, [end])
    with pytest.raises(AssertionError):
        stack.make_up()
