"""The RAM disk of a proof: an archive that another cpio reads, the same for the same input, with a busybox that can start."""

import errno
import shutil
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host import initramfs
from nodekit.host.initramfs import Entry, build, cpio, folder, is_static, link, program


def unpack(archive: bytes) -> dict[str, Entry]:
    """The entries of a newc archive, read by the format's description."""
    data = archive
    entries: dict[str, Entry] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return entries
        entries[name] = Entry(name, fields[1], data[at : at + fields[6]], (fields[9], fields[10]))
        at += (fields[6] + 3) // 4 * 4


def test_entries_come_back_as_they_were() -> None:
    entries = [folder("d"), program("d/p", b"12345"), link("l", "d/p"), Entry("c", stat.S_IFCHR | 0o600, device=(5, 1))]
    assert list(unpack(cpio(entries)).values()) == entries


def test_another_cpio_reads_it(tmp_path: Path) -> None:
    archive = cpio([folder("d"), program("d/p", b"12345"), link("l", "d/p")])
    subprocess.run(["busybox", "cpio", "-i"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "l").read_bytes() == b"12345"
    assert (tmp_path / "d/p").stat().st_mode & 0o777 == 0o755


def test_the_same_nonce_makes_the_same_bytes() -> None:
    assert build("n1") == build("n1") != build("n2")


def test_it_holds_all_that_its_first_process_needs() -> None:
    inside = unpack(build("abc", "erofs"))
    assert (
        inside["kata-nodes/environment"].content
        == b"KATA_NODES_NONCE=abc\nKATA_NODES_IMAGE=erofs\nKATA_NODES_ORDINARY='nsenter -S 1000 -G 1000'\n"
    )
    first = inside["kata-nodes/init"]
    assert first.content.startswith(b"#!/kata-nodes/root/bin/busybox sh\n") and first.mode & 0o111
    assert is_static(inside["kata-nodes/root/bin/busybox"].content)
    assert stat.S_ISCHR(inside["dev/console"].mode)
    assert all(name.startswith(("kata-nodes", "dev")) for name in inside), "Kata's own initrd lies around ours"


def test_a_program_comes_with_what_its_loader_loads() -> None:
    places = initramfs.closure("true")
    assert places["/usr/bin/true"] == Path(shutil.which("true") or "")
    assert any("libc.so" in place for place in places) and all(path.is_file() for path in places.values())
    assert initramfs.closure("no-such-program") == {}


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + b"\0" * 26 + struct.pack("<Q", 1 << 40) + b"\0" * 60]
)
def test_what_is_no_whole_program_still_is_no_reason_to_crash(content: bytes) -> None:
    assert is_static(content) in (True, False)


def test_a_busybox_with_shared_libraries_is_refused_by_the_name_of_the_right_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "BUSYBOX", (shutil.which("bash"),))
    with pytest.raises(NodeError) as caught:
        build("n")
    assert caught.value.code == "tool-missing"
    assert "busybox-static" in caught.value.remedy and "shared libraries" in caught.value.message


def test_a_busybox_without_a_needed_applet_is_refused_naming_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "APPLETS", ("sh", "no-such-applet"))
    with pytest.raises(NodeError, match="lacks no-such-applet"):
        build("n")


def test_a_tool_that_the_disk_does_not_give_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(initramfs, "closure", lambda name: {f"/usr/bin/{name}": Path(f"/usr/bin/{name}")})
    monkeypatch.setattr(initramfs, "read", refuse)
    with pytest.raises(NodeError) as caught:
        initramfs.node_files("bubblewrap")
    assert caught.value.code == "file-unreadable" and "/usr/bin/bwrap" in caught.value.message
