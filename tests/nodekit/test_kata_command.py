"""The verb `kata` in a throw-away root: what is read holds the parameters, everything else stays, and all of it can go again."""

from pathlib import Path
from typing import Any

import pytest

from nodekit.commands import kata, restore
from nodekit.errors import NodeError
from nodekit.rules.kata_layout import MANAGED_MARK
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER, archive, served, tree

SEED = "user_namespace.enable=1"
ZERO = "sysctl.user.max_user_namespaces=0"


def state(parameters: list[str], **more: Any) -> dict[str, object]:
    """The desired state of a Go runtime with QEMU."""
    fixed = {"node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "install": None}
    return {**fixed, "kernelParams": parameters, **more}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a Kata that somebody installed."""
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    (folder / "configuration-qemu.toml").write_text(CONFIG)
    (folder / "configuration.toml").symlink_to("configuration-qemu.toml")
    (tmp_path / "opt/kata/VERSION").write_text("3.32.0\n")
    return tmp_path


def text(root: Path) -> str:
    return (root / FOLDER / "configuration-qemu.toml").read_text()


def refused(root: Path, code: str, desired: dict[str, object]) -> NodeError:
    """The verb refuses with that code, and the root is as it was."""
    before = tree(root)
    with pytest.raises(NodeError) as caught:
        kata.run(desired, root)
    assert caught.value.code == code, caught.value
    assert tree(root) == before
    return caught.value


def test_only_the_value_changes_and_base_parameters_stay(root: Path) -> None:
    result = kata.run(state([SEED]), root)
    assert result["changed"] is True
    assert result["kernelParams"] == f"{BASE} {SEED}"
    assert result["base"] == BASE
    assert [one["parameter"] for one in result["inert"]] == [SEED]  # type: ignore[attr-defined]
    assert text(root) == CONFIG.replace(f'"{BASE}"', f'"{BASE} {SEED}"')
    assert (root / FOLDER / "configuration.toml").is_symlink()


def test_second_run_changes_nothing(root: Path) -> None:
    kata.run(state([SEED]), root)
    before = tree(root)
    assert kata.run(state([SEED]), root)["changed"] is False
    assert tree(root) == before


def test_parameter_no_longer_wanted_goes_again(root: Path) -> None:
    kata.run(state([SEED, ZERO]), root)
    assert kata.run(state([SEED]), root)["kernelParams"] == f"{BASE} {SEED}"
    assert kata.run(state([]), root)["kernelParams"] == BASE
    assert text(root) == CONFIG


def test_parameter_that_somebody_added_stays(root: Path) -> None:
    kata.run(state([SEED]), root)
    file = root / FOLDER / "configuration-qemu.toml"
    file.write_text(file.read_text().replace(SEED, f"{SEED} agent.log=debug"))
    assert kata.run(state([ZERO]), root)["kernelParams"] == f"{BASE} agent.log=debug {ZERO}"


def test_managed_file_gets_a_drop_in_with_the_whole_string(root: Path) -> None:
    file = root / FOLDER / "configuration-qemu.toml"
    file.write_text(f"# {MANAGED_MARK}\n{CONFIG}")
    before = file.read_text()
    result = kata.run(state([SEED]), root)
    assert file.read_text() == before
    assert result["written"] == f"/{FOLDER}/config.d/60-kata-nodes.toml"
    assert result["kernelParams"] == f"{BASE} {SEED}"
    assert [path.name for path in (root / FOLDER / "config.d").iterdir()] == ["60-kata-nodes.toml"]


def test_restore_puts_the_first_file_back(root: Path) -> None:
    before = tree(root)
    kata.run(state([SEED, ZERO]), root)
    kata.run(state([SEED]), root)
    restore.run({"node": "n"}, root)
    assert tree(root) == before


def test_archive_is_installed_edited_and_removed(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"address": address, "sha256": sha256})
        result = kata.run(desired, tmp_path)
        assert kata.run(desired, tmp_path)["changed"] is False
    assert result["kernelParams"] == f"{BASE} {SEED}"
    assert result["shim"] == "/usr/local/bin/containerd-shim-kata-v2"
    restore.run({"node": "n"}, tmp_path)
    assert tree(tmp_path) == {}


def test_new_archive_starts_from_its_own_parameters(tmp_path: Path) -> None:
    for version in ("3.32.0", "3.33.0"):
        with served(archive(version)) as (address, sha256):
            result = kata.run(state([SEED], version=version, install={"address": address, "sha256": sha256}), tmp_path)
    assert (result["base"], result["version"]) == (BASE, "3.33.0")


def test_other_release_than_said_is_refused(root: Path) -> None:
    assert "3.32.0" in refused(root, "kata-version-differs", state([SEED], version="3.27.0")).message


def test_missing_kata_is_named_with_its_remedy(tmp_path: Path) -> None:
    assert "kata.install" in refused(tmp_path, "kata-not-found", state([SEED])).remedy


def test_broken_toml_is_named_and_left(root: Path) -> None:
    file = root / FOLDER / "configuration-qemu.toml"
    file.write_text(CONFIG + "\nbroken = [\n")
    assert "configuration-qemu.toml" in refused(root, "file-invalid", state([SEED])).message


def test_parameters_that_do_not_fit_are_refused(root: Path) -> None:
    refused(root, "kernel-parameters-too-long", state(["a=" + "b" * 1400, "c=" + "d" * 100]))


def test_unknown_key_and_bad_archive_are_refused(root: Path) -> None:
    assert "kernelParam" in refused(root, "bad-input", {**state([SEED]), "kernelParam": []}).message
    refused(root, "bad-input", state([SEED], install={"address": "file:///x", "sha256": "0" * 64}))
