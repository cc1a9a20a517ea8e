"""Which file Kata reads: lost if these fail is an edit that no guest ever sees."""

import pytest

from nodekit.errors import NodeError
from nodekit.rules.kata_layout import (
    DROP_IN,
    candidates,
    drop_in_folder,
    is_managed,
    release_config_path,
    release_shim,
    version_numbers,
    written_file,
)

DEFAULTS = "/opt/kata/share/defaults/kata-containers"
MANAGED = f"{DEFAULTS}/runtimes/qemu/configuration-qemu.toml"
RELEASE = f"{DEFAULTS}/configuration-qemu.toml"


def test_the_order_in_which_each_runtime_looks() -> None:
    assert candidates("go", "3.32.0") == (
        "/etc/kata-containers/configuration.toml",
        "/usr/share/defaults/kata-containers/configuration.toml",
        f"{DEFAULTS}/configuration.toml",
    )
    assert (
        candidates("rust", "4.1.0")
        == candidates("rust")
        == (
            "/etc/kata-containers/runtime-rs/configuration.toml",
            "/usr/share/defaults/kata-containers/runtime-rs/configuration.toml",
            f"{DEFAULTS}/runtime-rs/configuration.toml",
        )
    )
    assert candidates("rust", "3.2.0") == candidates("go")
    with pytest.raises(NodeError, match="no runtime 'java'"):
        candidates("java")


@pytest.mark.parametrize(
    ("runtime", "version", "hypervisor", "file"),
    [
        ("go", "2.5.0", "qemu", "configuration-qemu.toml"),
        ("go", "4.1.0", "qemu", "configuration-qemu.toml"),
        ("go", "3.32.0", "firecracker", "configuration-fc.toml"),
        ("rust", "3.30.0", "qemu", "runtime-rs/configuration-qemu-runtime-rs.toml"),
        ("rust", "4.1.0", "qemu", "runtime-rs/configuration-qemu-runtime-rs.toml"),
        ("rust", "4.1.0", "firecracker", "runtime-rs/configuration-rs-fc.toml"),
    ],
)
def test_the_file_of_a_hypervisor_in_a_release(runtime: str, version: str, hypervisor: str, file: str) -> None:
    assert release_config_path(runtime, version, hypervisor) == f"{DEFAULTS}/{file}"


@pytest.mark.parametrize(
    ("runtime", "version", "hypervisor"),
    [("rust", "3.3.0", "qemu"), ("rust", "3.6.0", "firecracker"), ("go", "3.32.0", "xen"), ("go", "new", "qemu")],
)
def test_a_pair_that_a_release_does_not_hold_is_refused(runtime: str, version: str, hypervisor: str) -> None:
    with pytest.raises(NodeError) as caught:
        release_config_path(runtime, version, hypervisor)
    assert caught.value.code == "bad-input"


def test_the_shims_of_a_release() -> None:
    assert release_shim("go") == "/opt/kata/bin/containerd-shim-kata-v2"
    assert release_shim("rust") == "/opt/kata/runtime-rs/bin/containerd-shim-kata-v2"


def test_versions() -> None:
    assert version_numbers("3.32.0") == version_numbers("3.32.0-rc1") == (3, 32, 0)
    assert version_numbers("3.32") is None and version_numbers("3.32.0.1") is None and version_numbers("x") is None


def test_a_release_file_is_edited_and_a_managed_one_never() -> None:
    ours = f"{drop_in_folder(MANAGED)}/{DROP_IN}"
    assert written_file(RELEASE, "", "3.32.0", ()) == RELEASE
    assert written_file(MANAGED, "", "3.32.0", ()) == ours == f"{DEFAULTS}/runtimes/qemu/config.d/60-kata-nodes.toml"
    assert written_file(f"{DEFAULTS}/custom-runtimes/x/configuration-qemu.toml", "", None, ()).endswith(f"config.d/{DROP_IN}")
    assert is_managed(RELEASE, "# IMPORTANT: This file is managed by kata-deploy. Do not modify it directly!\n")
    assert not is_managed(RELEASE, "# kata-deploy\n")


def test_a_drop_in_that_already_sets_the_value_decides_for_a_drop_in() -> None:
    folder = drop_in_folder(RELEASE)
    ours = f"{folder}/{DROP_IN}"
    assert written_file(RELEASE, "", "3.32.0", (f"{folder}/30-kernel-params.toml",)) == ours
    assert written_file(RELEASE, "", "3.32.0", (ours,)) == ours  # ours stays: an edit of the base would not count
    with pytest.raises(NodeError, match=r"70-theirs\.toml sets kernel_params and is read after"):
        written_file(RELEASE, "", "3.32.0", (ours, f"{folder}/70-theirs.toml"))


def test_a_drop_in_is_refused_where_kata_reads_none() -> None:
    with pytest.raises(NodeError) as caught:
        written_file(MANAGED, "", "2.4.3", ())
    assert "2.4.3" in caught.value.message and "Upgrade" in caught.value.remedy
