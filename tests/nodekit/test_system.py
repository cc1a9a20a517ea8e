"""A node of an unknown operating system is refused in words, before anything is changed there."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from delivery.bundle import cached
from nodekit.rules.docker.docker_packages import SUPPORTED

SCRIPT = Path(__file__).resolve().parents[2] / "nodekit" / "system.sh"

PASSED = ("ID", "VERSION_ID")
"""Variables of the environment that reach the script."""

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True, check=False).returncode != 0,
    reason="needs a user and a mount namespace",
)


def run(
    folder: Path, text: str, mounts: str = ":", options: str = "", processor: str = "x86_64"
) -> "subprocess.CompletedProcess[str]":
    """The script by standard input, as it is sent to a node, where /etc/os-release holds `text`."""
    file, uname = folder / "os-release", folder.parent / f"{folder.name}-uname"
    file.write_text(text)
    uname.write_text(f"#!/bin/sh\n[ $1 = -m ] && echo {processor} || echo node\n")
    uname.chmod(0o755)
    line = 'mount --bind "$1" "$(readlink -f /etc/os-release)" && mount --bind "$2" "$(readlink -f "$(command -v uname)")" && '
    line += f"{mounts} && exec sh -s {options}"
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", line, "sh", str(file), str(uname)],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), **passed},
        input=SCRIPT.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_script_passes_the_systems_whose_packages_are_known_and_no_other() -> None:
    (line,) = (line for line in SCRIPT.read_text().splitlines() if line.lstrip().startswith('"debian '))
    assert {tuple(words.split()) for words in re.findall(r'"([^"]+)"', line)} == set(SUPPORTED)


@pytest.mark.parametrize(("name", "version"), sorted(SUPPORTED))
def test_known_systems_pass(tmp_path: Path, name: str, version: str) -> None:
    result = run(tmp_path, f'PRETTY_NAME="A system"\nID={name}\nVERSION_ID="{version}"\n')
    assert result.returncode == 0, result.stderr
    known = Path("/etc/machine-id").read_text().strip() if Path("/etc/machine-id").exists() else ""
    assert json.loads(result.stdout) == {"verb": "system", "id": name, "versionId": version, "machineId": known}


@pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="needs a machine id to lay another over")
@pytest.mark.parametrize(
    ("text", "known"),
    [
        (f"{'a1' * 16}\n", "a1" * 16),
        ("", ""),
        ("uninitialized\n", ""),  # of an image before its first boot
        ('"}\x1b\n', ""),
        (None, ""),
    ],
)
def test_machine_id_is_the_one_by_which_a_cluster_knows_the_machine(tmp_path: Path, text: str | None, known: str) -> None:
    """Lost if this fails: the cluster's node is not found among the stack's, or all images before their first boot are one."""
    file = tmp_path.parent / f"{tmp_path.name}-machine-id"
    file.write_text(text or "")
    mounts = f"mount --bind {file} /etc/machine-id"
    if text is None:  # none at all
        mounts = "mount -t tmpfs none /mnt && mkdir /mnt/etc && cp /etc/os-release /mnt/etc && mount --bind /mnt/etc /etc"
    result = run(tmp_path, "ID=debian\nVERSION_ID=12\n", mounts)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["machineId"] == known


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ID=fedora\nVERSION_ID=43\n", "says fedora 43,"),
        ("ID=debian\nVERSION_ID=11\n", "says debian 11,"),
        ("ID=ubuntu\nVERSION_ID=25.10\n", "says ubuntu 25.10,"),
        ("ID=debian\n", "says debian without VERSION_ID,"),  # testing and unstable
        ("ID=linuxmint\nID_LIKE=debian\nVERSION_ID=12\n", "says linuxmint 12,"),
        ("", "says no ID without VERSION_ID,"),
        ('ID="de\x1b[31mbian\x07"\nVERSION_ID="12"\n', "says de31mbian 12,"),
    ],
)
def test_others_are_refused_by_what_was_seen(tmp_path: Path, text: str, seen: str) -> None:
    result = run(tmp_path, text)
    assert result.returncode == 1 and result.stdout == ""
    assert seen in result.stderr and "nothing was changed" in result.stderr and "[unsupported-os]" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("processor", ["aarch64", "i686"])
def test_a_processor_on_which_no_proof_can_pass_is_refused(tmp_path: Path, processor: str) -> None:
    """Lost if this fails: Docker is moved and restarted, Kata installed, and only then the proof ends with QEMU's own words."""
    result = run(tmp_path, "ID=debian\nVERSION_ID=12\n", processor=processor)
    assert result.returncode == 1 and result.stdout == ""
    assert f"node: its processor is {processor}, and nothing was changed there" in result.stderr
    assert "[unsupported-processor]" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"), [("ro", "Read-only file system"), ("size=1m", "No space left on device")], ids=["read-only", "full"]
)
def test_a_login_that_can_store_nothing_is_named_before_the_upload_fails_silently(
    tmp_path: Path, options: str, words: str
) -> None:
    result = run(tmp_path, "ID=debian\nVERSION_ID=12\n", f'mount -t tmpfs -o {options} home "$HOME"')
    assert result.returncode == 1 and result.stdout == ""
    assert f"cannot be written: {words}, and nothing was changed" in result.stderr and "[file-unwritable]" in result.stderr
    assert run(tmp_path, "ID=debian\nVERSION_ID=12\n").returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["os-release"]


@pytest.mark.parametrize(("option", "left"), [("rw", []), ("ro", [".kata-nodes-0123456789ab.pyz", ".kata-nodes-probe"])])
def test_an_upload_that_nothing_took_goes_with_the_stack_and_keeps_it_from_nothing(
    tmp_path: Path, option: str, left: list[str]
) -> None:
    for name in (".kata-nodes-0123456789ab.pyz", ".kata-nodes-probe", "notes.pyz"):
        (tmp_path / name).write_bytes(b"PK")
    mounts = f'mount --bind "$HOME" "$HOME" && mount -o remount,bind,{option} "$HOME" && cd "$HOME"'
    result = run(tmp_path, "ID=fedora\n", mounts, "-- --remove")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"changed": False}), result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*left, "notes.pyz", "os-release"])
    assert ("stays in" in result.stderr) == bool(left)


def test_the_room_that_is_asked_for_is_enough_for_the_program() -> None:
    (size,) = re.findall(r"^UPLOAD=(\d+)", SCRIPT.read_text(), flags=re.MULTILINE)
    assert cached().path.stat().st_size < int(size)


def test_environment_of_the_login_does_not_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ID", "debian")
    monkeypatch.setenv("VERSION_ID", "12")
    assert run(tmp_path, "NAME=x\n").returncode == 1
