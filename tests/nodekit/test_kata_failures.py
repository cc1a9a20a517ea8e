"""The verb `kata` where something goes wrong on the way. Lost if these fail: parameters that a node had, or its whole Kata."""

import io
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import ANY

import pytest

from nodekit.commands import kata, restore
from nodekit.errors import NodeError
from nodekit.host import journal, kata_archive, kata_download, kata_handler
from nodekit.host.kata import effective
from nodekit.rules.kata.kata_layout import DROP_IN, MANAGED_MARK
from nodekit.rules.node_state import KataState
from tests.nodekit import forked
from tests.nodekit.kata_files import put, setting
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER, archive, served, tree
from tests.nodekit.test_kata_command import SEED, ZERO, state

LIMIT = "sysctl.user.max_user_namespaces=9000"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with release 3.32.0 installed by the verb, parameters merged."""
    with served(archive()) as (address, sha256):
        kata.run(state([SEED], install={"any": {"address": address, "sha256": sha256}}), tmp_path)
    return tmp_path


def fails(root: Path, data: bytes, code: str, *, sha256: str | None = None) -> NodeError:
    """An upgrade fails with that code; what was installed and merged is as it was, down to the records."""
    before, records = tree(root), journal.recorded(root, kata.JOURNAL)
    with served(data) as (address, real), pytest.raises(NodeError) as caught:
        kata.run(state([LIMIT], version="3.33.0", install={"any": {"address": address, "sha256": sha256 or real}}), root)
    assert caught.value.code == code, caught.value
    assert tree(root) == before
    assert journal.recorded(root, kata.JOURNAL) == records
    return caught.value


def test_a_failed_upgrade_leaves_the_old_kata_with_its_parameters(installed: Path) -> None:
    fails(installed, archive("3.33.0"), "kata-archive-differs", sha256="0" * 64)
    fails(installed, archive("3.34.0"), "kata-version-differs")
    fails(installed, archive("3.33.0", {f"./{FOLDER}/configuration-qemu.toml": b"[runtime]\n"}), "file-invalid")
    fails(installed, archive("3.33.0", {f"./{FOLDER}/configuration-qemu.toml": b"broken = [\n"}), "file-invalid")
    fails(installed, b"no archive", "kata-archive-invalid")


def test_an_upgrade_after_all_that_takes_the_new_base_and_can_be_undone(installed: Path) -> None:
    text = CONFIG.replace(BASE, "new_base=1")
    with served(archive("3.33.0", {f"./{FOLDER}/configuration-qemu.toml": text.encode()})) as (address, sha256):
        desired = state([LIMIT], version="3.33.0", install={"any": {"address": address, "sha256": sha256}})
        result = kata.run(desired, installed)
        assert kata.run(desired, installed)["changed"] is False
    assert (result["base"], result["kernelParams"]) == ("new_base=1", f"new_base=1 {LIMIT}")
    restored = restore.run({"node": "n"}, installed)
    assert restored["kept"] == [] and tree(installed) == {}


def test_a_download_that_breaks_off_is_no_forgery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive()

    class Short(io.BytesIO):
        def __init__(self) -> None:
            super().__init__(data)
            self.headers = {"Content-Length": str(len(data) + 7)}

    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *_, **__: Short())
    with pytest.raises(NodeError) as caught:
        kata_archive.install(tmp_path, "http://127.0.0.1/x", "0" * 64, lambda _: None)
    assert caught.value.code == "kata-download-failed"
    assert f"{len(data)} of {len(data) + 7} bytes" in caught.value.message


def test_parameters_of_a_failed_run_do_not_stay_for_ever(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise NodeError("file-unwritable", "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(journal.Transaction, "write", full)
        with pytest.raises(NodeError):
            kata.run(state([ZERO]), installed)
    assert kata.run(state([LIMIT]), installed)["kernelParams"] == f"{BASE} {LIMIT}"
    assert kata.run(state([]), installed)["kernelParams"] == BASE


@pytest.mark.parametrize("version", ["3.32.0", "2.4.3"])
def test_a_value_that_another_file_overrides_is_rolled_back(
    installed: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(installed, "/opt/kata/VERSION", f"{version}\n")
    kata.run(state([SEED], version=version), installed)
    before = tree(installed)
    real, calls = kata._effective, iter([True, False])
    stale = real(installed, KataState.read(state([SEED], configPath=None, version=version)))
    with monkeypatch.context() as patch:
        patch.setattr(kata, "_effective", lambda *arguments: real(*arguments) if next(calls) else stale)
        with pytest.raises(NodeError) as caught:
            kata.run(state([ZERO], version=version), installed)
    assert caught.value.code == "kata-parameters-lost" and ZERO in caught.value.message
    changed = {path for path, content in tree(installed).items() if before.get(path) != content}
    assert changed <= {"var/lib/kata-nodes/kata.json"}
    assert kata.run(state([SEED], version=version), installed)["kernelParams"] == f"{BASE} {SEED}"


def test_a_drop_in_follows_the_base_file_that_kata_deploy_writes_again(tmp_path: Path) -> None:
    path = f"{FOLDER}/runtimes/qemu/configuration-qemu.toml"
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(f"# {MANAGED_MARK}\n{CONFIG}")
    desired = state([SEED, "quiet=1"], configPath=f"/{path}")
    assert kata.run(desired, tmp_path)["kernelParams"] == f"{BASE} {SEED} quiet=1"
    file.write_text(f"# {MANAGED_MARK}\n{CONFIG.replace(BASE, 'new_base=1 quiet=0')}")
    result = kata.run(desired, tmp_path)
    assert result["changed"] is True
    assert (result["base"], result["kernelParams"]) == ("new_base=1 quiet=0", f"new_base=1 quiet=1 {SEED}")
    assert kata.run(desired, tmp_path)["changed"] is False
    assert kata.run(state([], configPath=f"/{path}"), tmp_path)["kernelParams"] == "new_base=1 quiet=0"
    restore.run({"node": "n"}, tmp_path)
    assert not (file.parent / "config.d").exists()


def test_a_drop_in_before_ours_is_part_of_the_base_while_it_is_there(installed: Path) -> None:
    theirs = put(installed, f"{FOLDER}/config.d/30-kernel-params.toml", setting("theirs"))
    result = kata.run(state([SEED]), installed)
    assert result["written"] == f"/{FOLDER}/config.d/{DROP_IN}"
    assert result["kernelParams"] == f"theirs {SEED}"
    theirs.unlink()
    assert kata.run(state([LIMIT]), installed)["kernelParams"] == f"{BASE} {LIMIT}"


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("ends", ["fails", "archive-prepared", "archive-placed"])
@pytest.mark.parametrize("old", ["3.32.0", "2.4.3"])
def test_an_upgrade_that_fails_with_the_release_in_place_brings_the_old_one_back(
    tmp_path: Path, old: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost if this fails: the stack's state keeps the old settings and their proof, so that an `up` with these, which changes
    nothing, succeeds on a node that has the new release."""
    root = tmp_path
    with served(archive(old)) as (address, sha256):
        kata.run(state([SEED], version=old, install={"any": {"address": address, "sha256": sha256}}), root)
    before = tree(root)
    data = archive("3.33.0", {"./opt/kata/new": b"", f"./{FOLDER}/configuration-qemu.toml": CONFIG.replace(BASE, "new").encode()})
    with served(data) as (address, sha256), monkeypatch.context() as patch:
        patch.setattr(kata_handler, "withdraw", failing(NodeError("file-unwritable", "x")))
        patch.setattr(kata_archive, "reach", lambda point: failing(SystemExit(143))() if point == ends else None)
        with pytest.raises(NodeError if ends == "fails" else SystemExit):
            kata.run(state([LIMIT], version="3.33.0", install={"any": {"address": address, "sha256": sha256}}), root)
    assert tree(root) == before
    assert kata.run(state([LIMIT], version=old), root)["kernelParams"] == f"{BASE} {LIMIT}"
    assert restore.run({"node": "n"}, root)["kept"] == [] and tree(root) == {}


def upgrade_that_ends(root: Path, data: bytes, **fields: object) -> None:
    """An upgrade to 3.33.0 that is killed as soon as the new release is in place."""
    with served(data) as (address, sha256):
        desired = state([LIMIT], version="3.33.0", install={"any": {"address": address, "sha256": sha256}}, **fields)
        assert forked.verb("kata", root, desired, KATA_NODES_KILL_AT="archive-placed:1") == (-signal.SIGKILL, ANY)


def test_a_new_release_is_never_without_our_parameters(installed: Path) -> None:
    data = archive("3.33.0", {f"./{FOLDER}/configuration-qemu.toml": CONFIG.replace(BASE, "new_base=1").encode()})
    upgrade_that_ends(installed, data)
    configuration = effective(installed, runtime="go", hypervisor="qemu", config_path=None)
    assert (configuration.version, configuration.kernel_params) == ("3.33.0", f"new_base=1 {LIMIT}")
    assert (installed / FOLDER / "configuration-qemu.toml").read_text() == CONFIG.replace(BASE, "new_base=1")
    assert kata.run(state([LIMIT], version="3.33.0"), installed)["kernelParams"] == f"new_base=1 {LIMIT}"
    assert restore.run({"node": "n"}, installed)["kept"] == [] and tree(installed) == {}


def test_a_release_that_is_not_read_is_left_as_it_comes(installed: Path) -> None:
    put(installed, "/etc/kata-containers/configuration.toml", CONFIG)
    upgrade_that_ends(installed, archive("3.33.0"))
    assert not (installed / FOLDER / "config.d").exists()
    put(installed, "/srv/k.toml", CONFIG)
    upgrade_that_ends(installed, archive("3.33.0", {"./opt/kata/x": b""}), configPath="/srv/k.toml")
    assert not (installed / FOLDER / "config.d").exists()


def test_what_docker_names_in_a_new_release_is_checked_before_it_is_in_place(installed: Path) -> None:
    fc = f"/{FOLDER}/configuration-fc.toml"
    entry = f'{{"runtimeType": "io.containerd.kata.v2", "options": {{"ConfigPath": "{fc}"}}}}'
    put(installed, "/etc/docker/daemon.json", f'{{"runtimes": {{"kata": {entry}}}}}')
    with served(archive(members={f".{fc}": CONFIG.encode()})) as (address, sha256):
        kata.run(state([SEED], install={"any": {"address": address, "sha256": sha256}}), installed)
    assert fc in fails(installed, archive("3.33.0"), "kata-not-found").message


def test_an_archive_whose_config_d_leads_out_of_it_is_no_way_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with served(archive(links={f"./{FOLDER}/config.d": str(outside)})) as (address, sha256):
        kata.run(state([SEED], install={"any": {"address": address, "sha256": sha256}}), tmp_path / "root")
    assert list(outside.iterdir()) == []


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd")
def test_an_archive_is_known_by_its_content_not_by_its_address(tmp_path: Path) -> None:
    plain = subprocess.run(["xz", "-dc"], input=archive(), capture_output=True, check=True).stdout
    packed = subprocess.run(["zstd", "-qc"], input=plain, capture_output=True, check=True).stdout
    with served(packed) as (address, sha256):
        assert address.endswith(".tar.xz")
        kata_archive.install(tmp_path, address, sha256, lambda _: None)
    assert (tmp_path / "opt/kata/VERSION").read_text() == "3.32.0\n"


def test_a_missing_zstd_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "apt-config").symlink_to("/usr/bin/apt-config")
    with served(kata_download.ZSTD + b"x") as (address, sha256), pytest.raises(NodeError) as caught:
        kata_archive.install(tmp_path, address, sha256, lambda _: None)
    assert caught.value.code == "tool-missing" and "zstd" in caught.value.remedy


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [member("./opt/kata/d", tarfile.SYMTYPE, "/etc"), member("./opt/kata/h", tarfile.LNKTYPE, "opt/kata/d/hosts")],
            "outside",
        ),
        ([member("./opt/kata/h", tarfile.LNKTYPE, "etc/hosts")], "outside"),
        ([member("./opt/kata/h", tarfile.LNKTYPE, "../../etc/hosts")], "leaves its folder"),
        ([member("./opt/kata/n", tarfile.CHRTYPE)], "device"),
        ([member("./opt/kata/p", tarfile.FIFOTYPE)], "device"),
        ([member("./opt", tarfile.DIRTYPE)], "has no /opt/kata"),
        ([member("./opt", tarfile.SYMTYPE, "/etc"), member("./opt/kata", tarfile.DIRTYPE)], "not a folder"),
        ([member("./opt/kata", tarfile.SYMTYPE, "/tmp")], "not a folder"),
    ],
)
def test_hard_links_and_devices_are_no_way_out(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for member in members:
            tar.addfile(member)
    with served(buffer.getvalue()) as (address, sha256), pytest.raises(NodeError) as caught:
        kata_archive.install(tmp_path, address, sha256, lambda _: None)
    assert caught.value.code == "kata-archive-invalid" and message in caught.value.message
    assert tree(tmp_path) == {}
