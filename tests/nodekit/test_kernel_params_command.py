"""The verb `kernel-params`. Lost if these fail: a byte of a file that a person trusted it with."""

import argparse
import os
from pathlib import Path

import pytest

from nodekit.commands.kernel_params import arguments, run, text
from nodekit.errors import NodeError
from nodekit.rules.kata.kata_layout import MANAGED_MARK
from tests.nodekit.kata_files import AWKWARD, BASE, PLAIN, RENDERED, put, setting
from tests.nodekit.kata_release import tree

FILE = "/etc/kata.toml"
NEW = "sysctl.user.max_user_namespaces=9000"
rendered = sorted(RENDERED.glob("*/*/configuration-*.toml"))


def merged(root: Path, *sets: str, file: str = FILE, hypervisor: str | None = None, write: bool = False) -> dict[str, object]:
    return run(root, file=file, sets=list(sets), hypervisor=hypervisor, write=write)


def refused(root: Path, code: str, *sets: str, file: str = FILE, hypervisor: str | None = None) -> NodeError:
    """Refused with that code when asked to write, and nothing is written."""
    before = tree(root)
    with pytest.raises(NodeError) as caught:
        merged(root, *(sets or (NEW,)), file=file, hypervisor=hypervisor, write=True)
    assert caught.value.code == code and caught.value.remedy, caught.value
    assert tree(root) == before
    return caught.value


@pytest.mark.parametrize("name", AWKWARD)
def test_the_new_file_is_printed_and_only_its_value_differs(name: str, tmp_path: Path) -> None:
    file = put(tmp_path, FILE, "")
    file.write_bytes(AWKWARD[name].encode())
    document = merged(tmp_path, NEW, hypervisor="qemu")
    assert (document["before"], document["after"], document["changed"], document["written"]) == (
        BASE,
        f"{BASE} {NEW}",
        True,
        False,
    )
    assert file.read_bytes() == AWKWARD[name].encode()
    assert text(document) == document["content"]  # so that it can be redirected into a file
    merged(tmp_path, NEW, hypervisor="qemu", write=True)
    assert file.read_bytes().decode() == document["content"]
    assert merged(tmp_path, NEW, hypervisor="qemu")["changed"] is False


@pytest.mark.skipif(not rendered, reason="the rendered files lie beside the checkout only")
@pytest.mark.parametrize("path", rendered, ids=lambda path: "/".join(path.parts[-3:]))
def test_every_rendered_release_file_needs_no_hypervisor_named(path: Path, tmp_path: Path) -> None:
    put(tmp_path, FILE, path.read_text())
    document = merged(tmp_path, NEW)
    assert document["hypervisor"] in ("qemu", "firecracker") and f"{document['before']} {NEW}".strip() == document["after"]


def test_a_written_file_keeps_its_link_mode_and_attributes_and_says_so_in_one_line(tmp_path: Path) -> None:
    file = put(tmp_path, "/srv/real.toml", setting("a=1"))
    file.chmod(0o600)
    put(tmp_path, FILE, "").unlink()
    (tmp_path / FILE.lstrip("/")).symlink_to("/srv/real.toml")
    document = merged(tmp_path, "a=2", "b=1", write=True)
    assert file.read_text() == setting("a=2 b=1") and file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / FILE.lstrip("/")).is_symlink()
    assert text(document) == f"{FILE}: kernel_params of [hypervisor.qemu] is now 'a=2 b=1'\n"
    assert text(merged(tmp_path, "a=2", write=True)) == f"{FILE}: kernel_params of [hypervisor.qemu] was already 'a=2 b=1'\n"
    assert [path.name for path in (tmp_path / "srv").iterdir()] == ["real.toml"]
    assert not (tmp_path / "var").exists()  # a person's own edit leaves no journal


def test_a_drop_in_without_the_key_gets_it(tmp_path: Path) -> None:
    file = put(tmp_path, FILE, "[hypervisor.clh]\ndefault_vcpus = 2\n")
    document = merged(tmp_path, NEW, write=True)
    assert (document["before"], document["hypervisor"]) == ("", "clh")
    assert file.read_text() == f'[hypervisor.clh]\nkernel_params = "{NEW}"\ndefault_vcpus = 2\n'


def test_which_table_must_be_said_when_there_is_not_one(tmp_path: Path) -> None:
    put(tmp_path, FILE, PLAIN)
    assert "2 hypervisor tables: qemu, firecracker" in refused(tmp_path, "bad-input").message
    assert merged(tmp_path, NEW, hypervisor="firecracker")["before"] == "console=ttyS0"
    assert "no table [hypervisor.clh]" in refused(tmp_path, "file-invalid", hypervisor="clh").message
    put(tmp_path, FILE, "[runtime]\na = 1\n")
    assert "no hypervisor table" in refused(tmp_path, "bad-input").message


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert f"{FILE} does not exist" in refused(tmp_path, "file-unreadable").message
    (tmp_path / "etc").mkdir()
    (tmp_path / FILE.lstrip("/")).symlink_to("gone.toml")
    assert "a symbolic link to /etc/gone.toml, which does not exist" in refused(tmp_path, "file-unreadable").message
    assert "/etc is not a regular file" in refused(tmp_path, "file-invalid", file="/etc").message
    put(tmp_path, "/etc/broken.toml", "[hypervisor.qemu]\na = [\n")
    assert "/etc/broken.toml is not valid TOML" in refused(tmp_path, "file-invalid", file="/etc/broken.toml").message
    (tmp_path / "etc/latin.toml").write_bytes(b"# \xe4\n")
    assert "not UTF-8" in refused(tmp_path, "file-invalid", file="/etc/latin.toml").message
    assert refused(tmp_path, "bad-input", file="etc/latin.toml").remedy == "Use an absolute path"


def test_parameters_that_no_guest_could_be_given_are_refused(tmp_path: Path) -> None:
    put(tmp_path, FILE, setting("a=1"))
    refused(tmp_path, "bad-kernel-parameter", "a b")
    refused(tmp_path, "kernel-parameters-too-long", f"x={'y' * 2000}")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (FILE, f"# {MANAGED_MARK}\n{setting('a=1')}"),
        ("/opt/kata/share/defaults/kata-containers/runtimes/qemu/configuration-qemu.toml", setting("a=1")),
        ("/opt/kata/share/defaults/kata-containers/runtimes/qemu/config.d/30-kernel-params.toml", setting("a=1")),
    ],
)
def test_kata_deploy_s_own_file_is_printed_and_never_written(tmp_path: Path, file: str, content: str) -> None:
    put(tmp_path, file, content)
    error = refused(tmp_path, "file-invalid", file=file)
    assert file.rpartition("/")[0].removesuffix("/config.d") + "/config.d/60-kata-nodes.toml" in error.remedy
    assert merged(tmp_path, NEW, file=file)["after"] == f"a=1 {NEW}"


def test_a_relative_path_is_taken_from_here_on_the_machine_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path, "kata.toml", setting("a=1"))
    monkeypatch.chdir(tmp_path)
    assert merged(Path("/"), "a=2", file="kata.toml", write=True)["file"] == os.fspath(file)
    assert file.read_text() == setting("a=2")


def test_the_options_are_those_of_the_document(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    arguments(parser)
    put(tmp_path, FILE, setting("a=1"))
    options = vars(parser.parse_args([FILE, "--set", "a=2", "--set", "b=1", "--write"]))
    assert options == {"file": FILE, "sets": ["a=2", "b=1"], "hypervisor": None, "write": True}
    assert run(tmp_path, **options)["after"] == "a=2 b=1"
    with pytest.raises(SystemExit):
        parser.parse_args([FILE])
