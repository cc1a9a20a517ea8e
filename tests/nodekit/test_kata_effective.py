"""What Kata would read on a machine: lost if these fail is that a proof boots another guest than Kata does."""

from pathlib import Path

import pytest

from nodekit.errors import NodeError
from nodekit.host.kata import Effective, effective
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER


def put(root: Path, path: str, text: str = CONFIG) -> Path:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def drop_in(value: str) -> str:
    return f'[hypervisor.qemu]\nkernel_params = "{value}"\n'


def read(root: Path, config_path: str | None = None, runtime: str = "go", hypervisor: str = "qemu") -> Effective:
    return effective(root, runtime=runtime, hypervisor=hypervisor, config_path=config_path)


def refused(root: Path, **how: str) -> NodeError:
    with pytest.raises(NodeError) as caught:
        read(root, **how)
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, f"{FOLDER}/configuration-qemu.toml")
    (tmp_path / FOLDER / "configuration.toml").symlink_to("configuration-qemu.toml")
    put(tmp_path, "/opt/kata/VERSION", "3.32.0\n")
    return tmp_path


def test_the_release_file_is_read_through_its_link(root: Path) -> None:
    found = read(root)
    assert (found.config_file, found.resolved_file) == (f"/{FOLDER}/configuration.toml", f"/{FOLDER}/configuration-qemu.toml")
    assert (found.kernel_params, found.version, found.shim, found.drop_ins) == (BASE, "3.32.0", None, ())
    assert found.hypervisor["default_memory"] == 2048


def test_a_file_below_etc_hides_the_release_and_config_path_hides_both(root: Path) -> None:
    put(root, "/etc/kata-containers/configuration.toml", drop_in("etc"))
    put(root, "/srv/mine.toml", drop_in("mine"))
    assert read(root).kernel_params == "etc"
    assert read(root, config_path="/srv/mine.toml").kernel_params == "mine"
    assert refused(root, config_path="/srv/other.toml").code == "kata-not-found"  # no way back to the list, as in Kata


def test_the_rust_runtime_reads_its_own_folder(root: Path) -> None:
    assert refused(root, runtime="rust").code == "kata-not-found"
    put(root, f"{FOLDER}/runtime-rs/configuration.toml", drop_in("rust"))
    assert read(root, runtime="rust").kernel_params == "rust"
    assert read(root).kernel_params == BASE


def test_an_absolute_link_stays_inside_the_root(root: Path) -> None:
    put(root, "/srv/real/kata.toml", drop_in("real"))
    put(root, "/srv/real/config.d/10-x.toml", drop_in("dropped"))
    (root / "etc/kata-containers").mkdir(parents=True)
    (root / "etc/kata-containers/configuration.toml").symlink_to("/srv/real/kata.toml")
    found = read(root)
    assert found.resolved_file == "/srv/real/kata.toml"
    assert found.drop_ins == ("/srv/real/config.d/10-x.toml",)  # beside the real file, not beside the link
    assert found.kernel_params == "dropped"


def test_drop_ins_count_in_name_order_whatever_their_suffix(root: Path) -> None:
    for name, value in (("50-b.toml", "second"), ("60-c.bak", "last"), ("10-a", "first")):
        put(root, f"{FOLDER}/config.d/{name}", drop_in(value))
    put(root, f"{FOLDER}/config.d/55-memory", "[hypervisor.qemu]\ndefault_memory = 512\n[runtime]\na = 1\n")
    found = read(root)
    assert [path.rpartition("/")[2] for path in found.drop_ins] == ["10-a", "50-b.toml", "55-memory", "60-c.bak"]
    assert found.kernel_params == "last"
    assert found.hypervisor["default_memory"] == 512
    assert found.sources["kernel_params"].endswith("60-c.bak")
    assert found.sources["default_memory"].endswith("55-memory")
    assert found.sources["kernel"] == found.resolved_file


def test_a_drop_in_that_would_fail_every_guest_is_named(root: Path) -> None:
    bad = put(root, f"{FOLDER}/config.d/20-bad", "[hypervisor.qemu\n")
    assert "20-bad is not valid TOML" in refused(root).message
    bad.unlink()
    bad.mkdir()
    assert "20-bad" in refused(root).message
    bad.rmdir()
    bad.symlink_to("nowhere")
    assert "dangling" in refused(root).message


def test_a_linked_drop_in_is_refused_as_the_rust_runtime_does(root: Path) -> None:
    put(root, "/srv/drop", drop_in("linked"))
    for folder in (FOLDER, f"{FOLDER}/runtime-rs"):
        put(root, f"{folder}/configuration.toml" if "rs" in folder else f"{folder}/configuration-qemu.toml")
        (root / folder / "config.d").mkdir()
        (root / folder / "config.d/10-link").symlink_to("/srv/drop")
    assert read(root).kernel_params == "linked"
    assert "symbolic link" in refused(root, runtime="rust").message


def test_a_missing_kata_names_what_kata_deploy_has_put_there(tmp_path: Path) -> None:
    path = f"{FOLDER}/runtimes/qemu/configuration-qemu.toml"
    put(tmp_path, path)
    error = refused(tmp_path)
    assert error.code == "kata-not-found" and f"/{path}" in error.remedy
    assert read(tmp_path, config_path=f"/{path}").kernel_params == BASE


def test_a_file_of_another_hypervisor_leads_to_the_right_one(root: Path) -> None:
    put(root, f"{FOLDER}/configuration-fc.toml", '[hypervisor.firecracker]\nkernel_params = "fc"\n')
    error = refused(root, hypervisor="firecracker")
    assert "no table [hypervisor.firecracker] (it has: qemu)" in error.message
    assert f"/{FOLDER}/configuration-fc.toml with configPath" in error.remedy
    assert read(root, config_path=f"/{FOLDER}/configuration-fc.toml", hypervisor="firecracker").kernel_params == "fc"


def test_the_shim_in_path_comes_before_the_one_of_the_release(root: Path) -> None:
    put(root, "/opt/kata/bin/containerd-shim-kata-v2", "x")
    assert read(root).shim is None  # it cannot be executed
    (root / "opt/kata/bin/containerd-shim-kata-v2").chmod(0o755)
    assert read(root).shim == "/opt/kata/bin/containerd-shim-kata-v2"
    put(root, "/usr/bin/containerd-shim-kata-v2", "x").chmod(0o755)
    assert read(root).shim == "/usr/bin/containerd-shim-kata-v2"


def test_an_unknown_hypervisor_and_a_version_that_nobody_tells(root: Path) -> None:
    assert refused(root, hypervisor="xen").code == "bad-input"
    (root / "opt/kata/VERSION").unlink()
    assert read(root).version is None
