"""A disk without room for what a proof writes for a moment, a Docker that removes nothing. Lost if these fail: the cause."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import pytest

from nodekit.errors import NodeError
from nodekit.host import container, guest, process
from nodekit.host.guest import Plan, boot

LARGE = 1 << 20
"""Bytes that are more than a file keeps in memory before it writes."""


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """/var/tmp takes a name, and not one byte more."""

    def opened(*_: object, **__: object) -> IO[bytes]:
        return open("/dev/full", "wb")

    monkeypatch.setattr(tempfile, "TemporaryFile", opened)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", opened)


def refused(call: Callable[[], object]) -> None:
    """The call fails, and says that the disk is full."""
    with pytest.raises(NodeError) as caught:
        call()
    assert caught.value.code == "file-unwritable", caught.value
    assert "/var/tmp cannot be written: No space left on device" in caught.value.message
    assert caught.value.remedy.startswith("Free space")


@pytest.mark.parametrize("size", [8, LARGE])
@pytest.mark.parametrize("is_file", [False, True])
def test_a_ram_disk_that_has_no_room_is_not_taken_for_one_that_cannot_be_read(
    tmp_path: Path, full: None, size: int, is_file: bool
) -> None:
    (tmp_path / "kernel").write_bytes(b"kernel")
    (tmp_path / "initrd").write_bytes(bytes(size))
    part = tmp_path / "initrd" if is_file else bytes(size)
    plan = Plan("/bin/true", str(tmp_path / "kernel"), (part,), None, "", 256, 1, "end")
    refused(lambda: boot(plan, accel="tcg", timeout=5))


@pytest.mark.parametrize("size", [8, LARGE])
def test_an_image_that_has_no_room_is_one_sentence(full: None, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(container, "root_file_system", lambda sandbox: bytes(size))
    monkeypatch.setattr(container, "run", lambda *_, **__: None)
    refused(lambda: container.own_image("0" * 32, None).__enter__())


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", missing)
    refused(lambda: guest.boot(Plan("/bin/true", "/etc/passwd", (b"x",), None, "", 256, 1, "end"), accel="tcg", timeout=5))


def test_a_container_that_cannot_be_removed_hides_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hangs(argv: Sequence[str], **_: object) -> process.Finished:
        raise NodeError("command-timeout", f"{argv[3]} did not end")

    monkeypatch.setattr(process, "run", hangs)
    monkeypatch.setattr(container, "run", hangs)
    with pytest.raises(NodeError, match="run did not end"):
        container.climb("0" * 32, "kata", "image", network=False, capabilities=[], seconds=1)
    assert "something may be left behind: rm did not end" in capsys.readouterr().err
