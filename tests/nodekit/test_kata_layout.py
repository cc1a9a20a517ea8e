"""Which file Kata reads. Lost if these fail: an edit that no guest ever sees."""

import pytest

from nodekit.errors import NodeError
from nodekit.rules.kata.kata_layout import (
    DROP_IN,
    MANAGED_MARK,
    candidates,
    drop_in_folder,
    environment_guarded,
    is_managed,
    reads_drop_ins,
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


@pytest.mark.parametrize("version", ["2.5.0", "3.2.0", "3.14.0", "3.27.0", "4.1.0", None])
@pytest.mark.parametrize("resolved", [RELEASE, MANAGED, "/etc/kata-containers/configuration.toml"])
def test_a_drop_in_is_written_wherever_kata_reads_one(version: str | None, resolved: str) -> None:
    target = written_file(resolved, "", version, ())
    assert (target.file, target.strategy) == (f"{drop_in_folder(resolved)}/{DROP_IN}", "drop-in")
    assert resolved in target.reason


def test_before_drop_ins_the_file_is_edited_and_a_managed_one_never() -> None:
    target = written_file(RELEASE, "", "2.4.3", ())
    assert (target.file, target.strategy) == (RELEASE, "edit") and "2.4.3" in target.reason
    for resolved, text in ((MANAGED, ""), (RELEASE, f"# {MANAGED_MARK}. Do not modify it directly!\n")):
        with pytest.raises(NodeError) as caught:
            written_file(resolved, text, "2.4.3", ())
        assert "2.4.3" in caught.value.message and "Upgrade" in caught.value.remedy


def test_a_drop_in_that_sets_the_value_after_ours_is_refused() -> None:
    folder = drop_in_folder(RELEASE)
    ours = f"{folder}/{DROP_IN}"
    assert written_file(RELEASE, "", "3.32.0", (f"{folder}/30-kernel-params.toml", ours)).file == ours
    with pytest.raises(NodeError, match=r"70-theirs\.toml sets kernel_params and is read after"):
        written_file(RELEASE, "", "3.32.0", (ours, f"{folder}/70-theirs.toml"))


@pytest.mark.parametrize(
    ("path", "text", "managed"),
    [
        (RELEASE, "# kata-deploy\n", False),
        (RELEASE, f"# {MANAGED_MARK}. Do not modify it directly!\n", True),
        (MANAGED, "", True),
        (f"{DEFAULTS}/runtime-rs/runtimes/qemu-runtime-rs/configuration-qemu-runtime-rs.toml", "", True),
        (f"{DEFAULTS}/custom-runtimes/mine/configuration-qemu.toml", "", True),
        (f"{DEFAULTS}/runtimes/qemu/config.d/30-kernel-params.toml", "", True),
        (f"{DEFAULTS}/runtimes/qemu/config.d/50-user-overrides.toml", "", True),
        (f"{DEFAULTS}/runtimes/qemu/config.d/50-mine.toml", "", False),
        (f"{DEFAULTS}/runtimes/qemu/config.d/{DROP_IN}", "", False),
    ],
)
def test_what_kata_deploy_writes_again_is_known(path: str, text: str, managed: bool) -> None:
    assert is_managed(path, text) is managed


def test_a_release_shim_looks_in_opt_where_a_package_looks_in_usr() -> None:
    assert "/usr/share/defaults/kata-containers/configuration.toml" in candidates(
        "go", "3.32.0", "/usr/bin/containerd-shim-kata-v2"
    )
    assert candidates("go", "3.32.0", release_shim("go")) == (
        "/etc/kata-containers/configuration.toml",
        f"{DEFAULTS}/configuration.toml",
    )
    assert len(candidates("rust", "3.32.0", release_shim("rust"))) == 3  # its list is the same in every build


@pytest.mark.parametrize(
    ("version", "reads", "guarded"),
    [
        ("2.4.3", False, False),
        ("2.5.0", True, False),
        ("3.14.0", True, False),
        ("3.32.0", True, False),
        ("4.0.0", True, True),
        ("4.1.0", True, True),
        (None, True, False),
    ],
)
def test_what_a_release_reads(version: str | None, reads: bool, guarded: bool) -> None:
    assert reads_drop_ins(version) is reads and environment_guarded(version) is guarded
