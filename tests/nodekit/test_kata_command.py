"""The verb `kata` in a throw-away root: what is read holds the parameters, everything else stays, and all of it can go again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodekit.commands import compare, kata, restore
from nodekit.commands.kata import SHIM_LINK
from nodekit.errors import NodeError
from nodekit.host import files, journal, kata_launching
from nodekit.host.inventory import Inventory
from nodekit.rules.kata import containerd_config
from nodekit.rules.kata.containerd_config import Handler
from nodekit.rules.kata.kata_layout import DROP_IN, MANAGED_MARK, MARKER
from nodekit.rules.node_state import CompareState, KataState
from tests.nodekit.kata_files import put, setting
from tests.nodekit.kata_release import BASE, CONFIG, FOLDER, archive, served, tree

SEED = "user_namespace.enable=1"
ZERO = "sysctl.user.max_user_namespaces=0"


def state(parameters: list[str], **fields: Any) -> dict[str, object]:
    """The desired state of a Go runtime with QEMU."""
    fixed = {"node": "n", "hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "install": None}
    return {**fixed, "kernelParams": parameters, **fields}


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


@pytest.fixture
def old(root: Path) -> Path:
    """A root with a Kata that reads no drop-ins, so that its file is edited."""
    (root / "opt/kata/VERSION").write_text("2.4.3\n")
    return root


def refused(root: Path, code: str, desired: dict[str, object]) -> NodeError:
    """The verb refuses with that code, and the root is as it was."""
    before = tree(root)
    with pytest.raises(NodeError) as caught:
        kata.run(desired, root)
    assert caught.value.code == code, caught.value
    assert tree(root) == before
    return caught.value


def test_a_drop_in_holds_the_whole_string_and_the_file_stays(root: Path) -> None:
    result = kata.run(state([SEED]), root)
    assert (result["changed"], result["strategy"]) == (True, "drop-in")
    assert result["kernelParams"] == f"{BASE} {SEED}"
    assert result["base"] == BASE
    assert [entry["parameter"] for entry in result["inert"]] == [SEED]  # type: ignore[attr-defined]
    assert text(root) == CONFIG
    assert result["written"] == f"/{FOLDER}/config.d/{DROP_IN}"
    assert [path.name for path in (root / FOLDER / "config.d").iterdir()] == [DROP_IN]
    assert f'kernel_params = "{BASE} {SEED}"\n' in (root / FOLDER / "config.d" / DROP_IN).read_text()


def test_before_drop_ins_only_the_value_changes(old: Path) -> None:
    result = kata.run(state([SEED], version="2.4.3"), old)
    assert (result["changed"], result["strategy"]) == (True, "edit")
    assert (result["kernelParams"], result["base"]) == (f"{BASE} {SEED}", BASE)
    assert result["written"] == f"/{FOLDER}/configuration-qemu.toml"
    assert text(old) == CONFIG.replace(f'"{BASE}"', f'"{BASE} {SEED}"')
    assert (old / FOLDER / "configuration.toml").is_symlink() and not (old / FOLDER / "config.d").exists()


def test_the_wanted_release_decides_where_the_machine_tells_none(root: Path) -> None:
    (root / "opt/kata/VERSION").unlink()
    assert kata.run(state([SEED], version="2.4.3"), root)["strategy"] == "edit"


@pytest.mark.parametrize("version", ["3.32.0", "2.4.3"])
def test_second_run_changes_and_saves_nothing(root: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "opt/kata/VERSION").write_text(f"{version}\n")
    kata.run(state([SEED], version=version), root)
    before = tree(root)

    def saved(*_: object) -> None:
        raise AssertionError("a run with nothing to do wrote something")

    monkeypatch.setattr(journal, "put", saved)
    assert kata.run(state([SEED], version=version), root)["changed"] is False
    assert tree(root) == before


@pytest.mark.parametrize("version", ["3.32.0", "2.4.3"])
def test_parameter_no_longer_wanted_goes_again(root: Path, version: str) -> None:
    (root / "opt/kata/VERSION").write_text(f"{version}\n")
    kata.run(state([SEED, ZERO], version=version), root)
    assert kata.run(state([SEED], version=version), root)["kernelParams"] == f"{BASE} {SEED}"
    assert kata.run(state([], version=version), root)["kernelParams"] == BASE
    assert text(root) == CONFIG


def test_parameter_that_somebody_added_to_the_edited_file_stays(old: Path) -> None:
    kata.run(state([SEED], version="2.4.3"), old)
    file = old / FOLDER / "configuration-qemu.toml"
    file.write_text(file.read_text().replace(SEED, f"{SEED} agent.log=debug"))
    assert kata.run(state([ZERO], version="2.4.3"), old)["kernelParams"] == f"{BASE} agent.log=debug {ZERO}"


def test_parameter_that_somebody_adds_to_the_base_is_taken_up(root: Path) -> None:
    kata.run(state([SEED]), root)
    file = root / FOLDER / "configuration-qemu.toml"
    file.write_text(CONFIG.replace(BASE, f"{BASE} agent.log=debug"))
    assert kata.run(state([SEED]), root)["kernelParams"] == f"{BASE} agent.log=debug {SEED}"


def test_an_edited_file_is_no_base_once_drop_ins_are_read(old: Path) -> None:
    kata.run(state([SEED, ZERO], version="2.4.3"), old)
    (old / "opt/kata/VERSION").write_text("2.5.0\n")
    result = kata.run(state([SEED], version="2.5.0"), old)
    assert (result["strategy"], result["base"], result["kernelParams"]) == ("drop-in", BASE, f"{BASE} {SEED}")
    restore.run({"node": "n"}, old)
    assert text(old) == CONFIG and not (old / FOLDER / "config.d").exists()


def test_the_file_that_docker_names_is_the_one_that_is_written_for(root: Path) -> None:
    mine = put(root, "/srv/kata/mine.toml", CONFIG.replace(BASE, "mine=1"))
    put(
        root,
        "/etc/docker/daemon.json",
        '{"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/srv/kata/mine.toml"}}}}',
    )
    result = kata.run(state([SEED]), root)
    assert (result["configFile"], result["kernelParams"]) == ("/srv/kata/mine.toml", f"mine=1 {SEED}")
    assert (mine.parent / "config.d" / DROP_IN).exists() and not (root / FOLDER / "config.d").exists()


def test_managed_file_that_reads_no_drop_in_is_refused(old: Path) -> None:
    file = old / FOLDER / "configuration-qemu.toml"
    file.write_text(f"# {MANAGED_MARK}\n{CONFIG}")
    assert "Upgrade Kata" in refused(old, "file-invalid", state([SEED], version="2.4.3")).remedy


def test_a_drop_in_that_counts_more_than_ours_is_refused(root: Path) -> None:
    put(root, f"{FOLDER}/config.d/70-theirs.toml", setting("theirs"))
    assert "70-theirs.toml" in refused(root, "file-invalid", state([SEED])).message


def test_restore_puts_the_first_file_back(root: Path) -> None:
    before = tree(root)
    kata.run(state([SEED, ZERO]), root)
    kata.run(state([SEED]), root)
    restore.run({"node": "n"}, root)
    assert tree(root) == before


def test_archive_is_installed_edited_and_removed(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        result = kata.run(desired, tmp_path)
        assert kata.run(desired, tmp_path)["changed"] is False
    assert result["kernelParams"] == f"{BASE} {SEED}"
    assert result["shim"] == "/usr/local/bin/containerd-shim-kata-v2"
    restore.run({"node": "n"}, tmp_path)
    assert tree(tmp_path) == {}


def test_a_script_that_somebody_puts_in_place_of_our_link_is_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
        script = tmp_path / "usr/local/bin/containerd-shim-kata-v2"
        script.unlink()
        script.write_text("#!/bin/sh\nKATA_CONF_FILE=/etc/mine.toml exec /opt/kata/bin/containerd-shim-kata-v2\n")
        script.chmod(0o755)
        theirs = tree(tmp_path)["usr/local/bin/containerd-shim-kata-v2"]
        assert kata.run(desired, tmp_path)["changed"] is True
        assert script.is_symlink() and f"another file at /{script.relative_to(tmp_path)}" in capsys.readouterr().err
        assert kata.run(desired, tmp_path)["changed"] is False
    restore.run({"node": "n"}, tmp_path)
    assert tree(tmp_path) == {"usr/local/bin/containerd-shim-kata-v2": theirs}


def test_a_shim_s_link_that_cannot_be_written_is_refused_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    monkeypatch.setattr(files, "flag", lambda place: "i" if place.name == "bin" else None)
    (tmp_path / SHIM_LINK.lstrip("/")).symlink_to("/nowhere")
    install = {"any": {"address": "http://127.0.0.1:9/kata.tar.xz", "sha256": "0" * 64}}
    error = refused(tmp_path, "file-unwritable", state([SEED], install=install))
    assert "/usr/local/bin is immutable" in error.message and "chattr -i /usr/local/bin" in error.remedy


@pytest.mark.parametrize("version", ["3.32.0", "3.33.0"])
def test_an_opt_that_is_a_link_to_a_larger_disk_makes_no_difference(tmp_path: Path, version: str) -> None:
    (tmp_path / "srv/opt").mkdir(parents=True)
    (tmp_path / "opt").symlink_to("/srv/opt" if tmp_path == Path("/") else "srv/opt")
    drop_in = tmp_path / FOLDER / "config.d" / DROP_IN
    for release in dict.fromkeys(["3.32.0", version]):
        with served(archive(release)) as (address, sha256):
            desired = state([SEED], version=release, install={"any": {"address": address, "sha256": sha256}})
            for changed in (True, False):
                result = kata.run(desired, tmp_path)
                assert (result["changed"], result["version"], result["kernelParams"]) == (changed, release, f"{BASE} {SEED}")
                assert SEED in drop_in.read_text()
    edited = drop_in.read_text() + "# mine\n"
    drop_in.write_text(edited)
    for _ in range(2):
        assert "/opt/kata: holds a file that somebody edited or added" in restore.run({"node": "n"}, tmp_path)["kept"]
        assert drop_in.read_text() == edited
    drop_in.unlink()
    restore.run({"node": "n"}, tmp_path)
    assert tree(tmp_path / "srv") == {} and (tmp_path / "opt").is_symlink()


@pytest.mark.parametrize("runs", [1, 2])
def test_a_file_of_our_release_that_somebody_edited_survives_every_restore(tmp_path: Path, runs: int) -> None:
    drop_in = tmp_path / FOLDER / "config.d" / DROP_IN
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
        edited = drop_in.read_text() + "# mine\n"
        drop_in.write_text(edited)
        for run in range(runs):
            if run:
                kata.run({**desired, "kernelParams": [SEED, ZERO]}, tmp_path)  # writes over the edit; `restore` puts that back
            for again in range(2):
                kept = restore.run({"node": "n"}, tmp_path)
                assert kept["changed"] is (again == 0), kept
                assert [str(line).partition(":")[0] for line in kept["kept"]] == [f"/{FOLDER}/config.d/{DROP_IN}", "/opt/kata"]
                assert journal.journals(tmp_path) == []
                assert drop_in.read_text() == edited
    drop_in.rename(tmp_path / FOLDER / "mine")
    assert f"/{FOLDER}/mine: edited or added by somebody" in restore.run({"node": "n"}, tmp_path)["kept"]
    (tmp_path / FOLDER / "mine").unlink()
    restore.run({"node": "n"}, tmp_path)
    assert tree(tmp_path) == {}


def test_an_edit_that_other_settings_wrote_over_keeps_no_release_on_the_node(tmp_path: Path) -> None:
    drop_in = tmp_path / FOLDER / "config.d" / DROP_IN
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
        drop_in.write_text(drop_in.read_text().replace(SEED, f"{SEED} quiet"))
        kata.run({**desired, "kernelParams": [SEED, ZERO]}, tmp_path)
    assert restore.run({"node": "n"}, tmp_path)["kept"] == []
    assert tree(tmp_path) == {}


def test_new_archive_starts_from_its_own_parameters(tmp_path: Path) -> None:
    for version in ("3.32.0", "3.33.0"):
        with served(archive(version)) as (address, sha256):
            result = kata.run(state([SEED], version=version, install={"any": {"address": address, "sha256": sha256}}), tmp_path)
    assert (result["base"], result["version"]) == (BASE, "3.33.0")


@pytest.mark.parametrize("versions", [["2.4.3"], ["2.4.3", "3.33.0"], ["2.4.3", "2.4.4"]])
def test_what_this_program_edited_in_a_release_counts_as_nobodys_edit(tmp_path: Path, versions: list[str]) -> None:
    for version in versions:
        with served(archive(version)) as (address, sha256):
            result = kata.run(state([SEED], version=version, install={"any": {"address": address, "sha256": sha256}}), tmp_path)
        assert result["kernelParams"] == f"{BASE} {SEED}" and "by somebody" not in str(result["notes"])
    assert restore.run({"node": "n"}, tmp_path)["kept"] == []
    assert tree(tmp_path) == {}


def test_a_new_release_names_what_somebody_edited_in_our_drop_in_or_put_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "config.d"
    for version in ("3.32.0", "3.33.0"):
        with served(archive(version)) as (address, sha256):
            result = kata.run(state([SEED], version=version, install={"any": {"address": address, "sha256": sha256}}), tmp_path)
        if version == "3.32.0":
            edited = (folder / DROP_IN).read_text() + "# mine\n"
            (folder / DROP_IN).write_text(edited)
            (folder / "70-mine.toml").write_text("[hypervisor.qemu]\ndefault_vcpus = 3\n")
    (kept,) = (tmp_path / "opt/kata/kept").rglob(DROP_IN)
    assert kept.read_text() == edited and "# mine" not in (folder / DROP_IN).read_text()
    assert result["notes"] == [
        f"/{FOLDER}/config.d/{DROP_IN} was edited or added by somebody: the new release has its own, and this one is now "
        f"/{kept.relative_to(tmp_path)}",
        f"/{FOLDER}/config.d/70-mine.toml was edited or added by somebody: it is in the new release too",
    ]
    assert result["kernelParams"] == f"{BASE} {SEED}" and (folder / "70-mine.toml").exists()
    for _ in range(2):
        left = restore.run({"node": "n"}, tmp_path)["kept"]
        assert isinstance(left, list) and len(left) == 3 and kept.exists() and (folder / "70-mine.toml").exists()


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
    refused(root, "bad-input", state([SEED], install={"any": {"address": "file:///x", "sha256": "0" * 64}}))


def test_a_drop_in_that_adds_nothing_any_more_is_removed(root: Path) -> None:
    kata.run(state([SEED]), root)
    result = kata.run(state([]), root)
    assert (result["changed"], result["kernelParams"]) == (True, BASE)
    assert not (root / FOLDER / "config.d" / DROP_IN).exists()
    assert kata.run(state([]), root)["changed"] is False


VIRTIOFSD = "opt/kata/libexec/virtiofsd"


def test_a_file_that_is_gone_from_our_release_comes_back_and_nothing_else_changes(tmp_path: Path) -> None:
    with served(archive(members={f"./{VIRTIOFSD}": b"#!/bin/sh\n"}, links={"./opt/kata/bin/other": "x"})) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
        theirs = put(tmp_path, f"/{FOLDER}/config.d/70-theirs.toml", "[runtime]\n")
        whole = tree(tmp_path)
        for gone in (VIRTIOFSD, "opt/kata/bin/containerd-shim-kata-v2", "opt/kata/bin/other"):
            (tmp_path / gone).unlink()
        (tmp_path / VIRTIOFSD).parent.rmdir()
        assert kata.run(desired, tmp_path)["changed"] is True
        assert tree(tmp_path) == whole and theirs.exists()
        assert (tmp_path / VIRTIOFSD).stat().st_mode & 0o111
        assert kata.run(desired, tmp_path)["changed"] is False


def test_a_release_with_a_missing_file_is_left_alone_where_its_archive_is_not_available(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
    (tmp_path / "opt/kata/VERSION").unlink()
    before = tree(tmp_path)
    with pytest.raises(NodeError) as caught:
        kata.run(desired, tmp_path)
    assert caught.value.code == "kata-download-failed" and tree(tmp_path) == before


def test_a_release_of_a_marker_without_a_list_counts_as_whole(tmp_path: Path) -> None:
    with served(archive()) as (address, sha256):
        desired = state([SEED], install={"any": {"address": address, "sha256": sha256}})
        kata.run(desired, tmp_path)
        put(tmp_path, f"/opt/kata/{MARKER}", f'{{"sha256": "{sha256}"}}')
        assert kata.run(desired, tmp_path)["changed"] is False


IN_RELEASE = f"/{FOLDER}/configuration-qemu.toml"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "all of it": (lambda root: shutil.rmtree(root / "opt/kata"), "3.32.0", ["release"]),
    "its configuration": (lambda root: (root / IN_RELEASE.lstrip("/")).unlink(), "3.32.0", ["release"]),
    "its shim": (lambda root: (root / "opt/kata/bin/containerd-shim-kata-v2").unlink(), "3.32.0", ["release"]),
    "its drop-in": (lambda root: shutil.rmtree(root / FOLDER / "config.d"), "3.32.0", ["file"]),
    "nothing, and it is another one": (lambda root: None, "3.33.0", ["release"]),
    "its syntax, and it is another one": (lambda root: (root / IN_RELEASE.lstrip("/")).write_text("x ="), "3.33.0", ["release"]),
    "its syntax": (lambda root: (root / IN_RELEASE.lstrip("/")).write_text("x ="), "3.32.0", ["refused"]),
    "its mark": (lambda root: (root / "opt/kata" / MARKER).unlink(), "3.32.0", ["refused"]),
}
"""What a release of ours has lost -> how, the release that the stack wants, and the kinds of differences."""


@pytest.mark.parametrize("path", [None, IN_RELEASE], ids=["found", "named"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_check_of_a_damaged_release_foretells_what_the_verb_does(tmp_path: Path, damage: str, path: str | None) -> None:
    spoil, version, kinds = DAMAGES[damage]
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("a-boot\n")
    with served(archive()) as (address, sha256):
        kata.run(state([SEED], install={"any": {"address": address, "sha256": sha256}}, configPath=path), tmp_path)
    spoil(tmp_path)
    with served(archive(version)) as (address, sha256):
        desired = state([SEED], version=version, install={"any": {"address": address, "sha256": sha256}}, configPath=path)

        def differing() -> list[str]:
            check = CompareState(node="n", kata=KataState.read(desired))
            return [difference.kind for difference in compare._differences(check, Inventory(tmp_path))]

        assert differing() == kinds
        if kinds == ["refused"]:
            with pytest.raises(NodeError):
                kata.run(desired, tmp_path)
        else:
            assert kata.run(desired, tmp_path)["changed"] is True
            assert differing() == []


def test_a_check_without_the_release_still_names_a_file_outside_it_that_is_gone(tmp_path: Path) -> None:
    desired = state([], install={"any": {"address": "http://127.0.0.1:9/x", "sha256": "0" * 64}}, configPath="/srv/gone.toml")
    with pytest.raises(NodeError) as caught:
        list(kata.differences(KataState.read(desired), tmp_path))
    assert caught.value.code == "kata-not-found"


def _handler(root: Path, name: str, file: str, main: str = "version = 2\n") -> None:
    """Have containerd start Kata with another file."""
    table = f'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}'
    put(root, "/etc/containerd/config.toml", f'{main}{table}]\nruntime_type = "io.containerd.{name}.v2"\n{table}.options]\n')
    (root / "etc/containerd/config.toml").open("a").write(f'ConfigPath = "{file}"\n')


def test_a_folder_of_drop_ins_that_another_hypervisor_reads_is_left_alone(root: Path) -> None:
    """Lost if this fails: guests of somebody's other handler start at random with QEMU and half a configuration, or fail."""
    other = f"/{FOLDER}/configuration-fc.toml"
    put(root, other, CONFIG.replace("hypervisor.qemu", "hypervisor.firecracker"))
    _handler(root, "kata-fc", other)
    error = refused(root, "file-invalid", state([SEED]))
    assert "containerd handler kata-fc" in error.message and "into a folder of its own" in error.remedy
    assert kata.run(state([]), root)["changed"] is False, "nothing is to be written"
    _handler(root, "kata-fc", other, 'version = 2\ndisabled_plugins = ["cri"]\n')
    assert kata.run(state([SEED]), root)["changed"] is True, "a containerd that serves no cluster"
    _handler(root, "kata-fc", other)
    with pytest.raises(NodeError, match="kata-fc"):
        list(kata.differences(KataState.read(state([SEED])), root))
    own = "/srv/kata/configuration-qemu.toml"
    put(root, own, CONFIG)
    result = kata.run(state([SEED], configPath=own), root)
    assert result["written"] == f"/srv/kata/config.d/{DROP_IN}" and not (root / FOLDER / "config.d").exists()


def test_what_this_program_registered_for_earlier_settings_is_nobody_elses(root: Path) -> None:
    """Lost if this fails: a stack that is given another hypervisor is refused for the sake of its own handler."""
    fc, own = f"/{FOLDER}/configuration-fc.toml", f"/{FOLDER}/configuration-qemu.toml"
    put(root, fc, CONFIG.replace("hypervisor.qemu", "hypervisor.firecracker"))
    entry = {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": own}}
    put(root, "/etc/docker/daemon.json", json.dumps({"runtimes": {"kata": entry}}))
    handler = Handler("kata-qemu", "/opt/kata/bin/shim", own)
    put(root, "/etc/containerd/conf.d/60-kata-nodes.toml", containerd_config.drop_in(handler, 2))
    imported = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    put(root, "/etc/containerd/config.toml", imported)
    desired = state([SEED], hypervisor="firecracker", configPath=fc)
    assert [launcher.name for launcher in kata_launching.launchers(root, [])][1:] == ["containerd handler kata-qemu"]
    assert kata.run(desired, root)["changed"] is True
    restore.run({"node": "n"}, root)
    (root / "etc/containerd/conf.d/60-kata-nodes.toml").unlink()
    edited = containerd_config.edited(imported, "/etc/containerd/config.toml", handler, 2)
    put(root, "/etc/containerd/config.toml", edited)
    assert kata.run(desired, root)["changed"] is True
    put(root, "/etc/containerd/config.toml", edited.replace(containerd_config.BEGIN, "#"))
    assert refused(root, "file-invalid", desired)


def test_another_file_of_the_same_hypervisor_that_gets_our_parameters_is_named(root: Path) -> None:
    other = f"/{FOLDER}/configuration-qemu-gpu.toml"
    put(root, SHIM_LINK, "ELF").chmod(0o755)
    put(root, other, CONFIG.replace(BASE, "pci=realloc"))
    _handler(root, "kata-qemu-gpu", other)
    notes = kata.run(state([SEED]), root)["notes"]
    assert (
        f"is read for containerd handler kata-qemu-gpu too: its guests get these parameters in place of those of {other}"
        in str(notes)
    )
    assert "kata-qemu-gpu" not in str(kata.run(state([]), root)["notes"])
