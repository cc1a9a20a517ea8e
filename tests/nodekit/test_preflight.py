"""What preflight finds missing is named with its cause, and the modules stay loaded after the next start of the node."""

import json
import os
from pathlib import Path

import pytest

from nodekit.commands import docker, preflight, restore
from nodekit.commands.preflight import JOURNAL, refuse_missing
from nodekit.errors import NodeError
from nodekit.host import kata_archive, kata_readiness, modules, virtualization
from nodekit.host.journal import Transaction, journals, note
from nodekit.host.virtualization import Presence
from nodekit.rules.kata import guest_memory
from tests.nodekit.kata_release import FOLDER, archive, served, tree

ALL = {"vhost_vsock": True, "vhost_net": True, "tun": True}
MODPROBE_ANSWERS = {
    "kvm_amd": "",
    "kvm_intel": "modprobe: Operation not supported",
    "vhost_vsock": "",
    "vhost_net": "",
    "tun": "",
}
MODULES = ["kvm_amd", "vhost_vsock", "vhost_net", "tun"]


@pytest.mark.parametrize(
    ("devices", "code", "words"),
    [
        (Presence(None, False, ALL), "preflight-no-kvm", "neither vmx nor svm"),
        (Presence("vmx", False, ALL), "preflight-no-kvm", "kvm_intel cannot be loaded: modprobe: Operation not supported"),
        (Presence("svm", False, ALL), "preflight-no-kvm", "kvm_amd is loaded and provides no usable device"),
        (Presence("svm", True, {**ALL, "vhost_vsock": False}), "preflight-module-missing", "/dev/vhost-vsock"),
        (Presence("svm", True, {**ALL, "tun": False}), "preflight-module-missing", "/dev/net/tun"),
    ],
)
def test_what_is_missing_is_named(devices: Presence, code: str, words: str) -> None:
    with pytest.raises(NodeError) as caught:
        refuse_missing("n1", devices, MODPROBE_ANSWERS)
    assert caught.value.code == code and words in caught.value.message and "n1" in caught.value.message


def test_a_whole_node_is_refused_nothing() -> None:
    refuse_missing("n1", Presence("svm", True, ALL), MODPROBE_ANSWERS)


def builtin(root: Path, text: str) -> None:
    """The list of modules that are built into the kernel."""
    path = root / f"lib/modules/{os.uname().release}/modules.builtin"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def keep(root: Path, required: list[str]) -> bool:
    """As preflight does it."""
    with Transaction(root, JOURNAL) as change:
        return virtualization.keep(root, change, required)


def test_modules_are_kept_once_and_those_in_the_kernel_need_no_line(tmp_path: Path) -> None:
    builtin(tmp_path, "kernel/drivers/net/tun.ko\nkernel/drivers/vhost/vhost-net.ko\n")
    assert keep(tmp_path, MODULES) is True
    written = (tmp_path / "etc/modules-load.d/kata-nodes.conf").read_text()
    assert [line for line in written.splitlines() if not line.startswith("#")] == ["kvm_amd", "vhost_vsock"]
    assert keep(tmp_path, MODULES) is False, "a second run changes nothing"


def test_a_kernel_with_everything_in_it_needs_no_file(tmp_path: Path) -> None:
    builtin(tmp_path, "".join(f"kernel/x/{module}.ko\n" for module in MODULES))
    assert keep(tmp_path, MODULES) is False
    assert not (tmp_path / "etc/modules-load.d").exists()


def test_without_a_qemu_the_boot_is_left_to_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n")
    monkeypatch.setattr(modules, "load", lambda _module: "")
    monkeypatch.setattr(virtualization, "presence", lambda flag: Presence(flag, True, ALL))
    monkeypatch.setattr(preflight, "find_qemu", lambda: None)
    result = preflight.run({"node": "n1"}, tmp_path)
    assert isinstance(result["guest"], dict) and result["guest"]["booted"] is None
    assert "no QEMU" in str(result["explanation"])
    assert result["os"] == {"id": "debian", "versionId": "13", "codename": "trixie"}


# Stands for modprobe: the list of modules of a throw-away root is its kernel.
MODPROBE = """#!/usr/bin/env python3
import os, pathlib, sys
listing = pathlib.Path(os.environ["MODULES"])
names = listing.read_text().split()
module = sys.argv[-1]
if sys.argv[1] == "--remove":
    if module == "tun":
        sys.exit("modprobe: FATAL: Module tun is in use.")
    names.remove(module)
elif module not in names:
    names.append(module)
listing.write_text("".join(f"{name}\\n" for name in names))
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root whose kernel has vhost_net loaded, and where whatever preflight needs is there once it is loaded."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/modprobe").write_text(MODPROBE)
    (tmp_path / "bin/modprobe").chmod(0o755)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/modules").write_text("vhost_net\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=debian\nVERSION_ID=13\n")
    monkeypatch.setenv("MODULES", str(tmp_path / "proc/modules"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(virtualization, "cpu_flag", lambda: "svm")
    monkeypatch.setattr(virtualization, "presence", lambda flag: Presence(flag, True, ALL))
    monkeypatch.setattr(preflight, "find_qemu", lambda: None)
    return tmp_path


def listed(root: Path) -> list[str]:
    return (root / "proc/modules").read_text().split()


def test_restore_unloads_what_was_loaded_and_keeps_what_is_in_use(kernel: Path) -> None:
    assert preflight.run({"node": "n1"}, kernel)["changed"] is True
    assert listed(kernel) == ["vhost_net", "kvm_amd", "vhost_vsock", "tun"]
    assert preflight.run({"node": "n1"}, kernel)["changed"] is False
    result = restore.run({"node": "n1"}, kernel)
    assert result["restored"] == ["/etc/modules-load.d/kata-nodes.conf", "module vhost_vsock", "module kvm_amd"]
    assert result["kept"] == ["module tun: in use"]
    assert listed(kernel) == ["vhost_net", "tun"]
    assert journals(kernel) == []


def test_a_refused_node_has_the_modules_that_it_had(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtualization, "presence", lambda flag: Presence(flag, False, ALL))
    (kernel / "proc/modules").write_text("vhost_net\ntun\n")
    with pytest.raises(NodeError, match="no usable /dev/kvm"):
        preflight.run({"node": "n1"}, kernel)
    assert listed(kernel) == ["vhost_net", "tun"]
    assert journals(kernel) == []


@pytest.mark.parametrize(
    ("runtime", "words"), [(None, "no container runtime for it"), ("k3s", "has no k3s to register the Kata handler in")]
)
def test_a_node_without_the_clusters_container_runtime_is_refused_before_anything_is_changed(
    kernel: Path, runtime: str | None, words: str
) -> None:
    handler = {"name": "kata-qemu", "podAnnotations": [], "runtime": runtime}
    with pytest.raises(NodeError, match=words) as caught:
        preflight.run({"node": "n1", "handler": handler}, kernel)
    assert caught.value.code == "container-runtime-missing" and "kubernetes.containerRuntime: none" in caught.value.remedy
    assert listed(kernel) == ["vhost_net"] and journals(kernel) == []
    with pytest.raises(NodeError) as caught:
        preflight.run({"node": "n1", "handler": {**handler, "name": "Kata"}}, kernel)
    assert caught.value.code == "bad-input" and listed(kernel) == ["vhost_net"]


def test_a_node_with_the_clusters_container_runtime_passes(kernel: Path) -> None:
    (kernel / "etc/k0s").mkdir()
    (kernel / "etc/k0s/containerd.toml").write_text("version = 3\n")
    assert preflight.run({"node": "n1", "handler": {"name": "kata-qemu", "podAnnotations": []}}, kernel)["changed"] is True


def settings(root: Path, **changed: object) -> dict[str, object]:
    """A desired state with the settings of Kata, for a node whose machine is whole."""
    kata = {"hypervisor": "qemu", "runtime": "go", "version": "3.32.0", "install": None, "configPath": None}
    return {"node": "n1", "kata": {**kata, **changed}}


def refused_untouched(root: Path, desired: dict[str, object]) -> NodeError:
    """Preflight refuses that, and nothing on the node has changed: no module, no file."""
    before = (listed(root), tree(root))
    with pytest.raises(NodeError) as caught:
        preflight.run(desired, root)
    assert (listed(root), tree(root)) == before and journals(root) == []
    return caught.value


def test_a_node_without_kata_is_refused_before_anything_is_changed(kernel: Path) -> None:
    assert refused_untouched(kernel, settings(kernel)).code == "kata-not-found"


def test_another_kata_than_the_settings_say_is_refused_before_anything_is_changed(kernel: Path) -> None:
    with served(archive("3.27.0")) as (address, sha256):
        kata_archive.install(kernel, address, sha256, lambda _unpacked: None)
    error = refused_untouched(kernel, settings(kernel))
    assert error.code == "kata-version-differs" and "3.27.0" in error.message


def test_a_drop_in_that_counts_more_than_ours_is_refused_before_docker_is_touched(kernel: Path) -> None:
    with served(archive()) as (address, sha256):
        kata_archive.install(kernel, address, sha256, lambda _unpacked: None)
    later = kernel / FOLDER / "config.d/99-theirs.toml"
    later.parent.mkdir()
    later.write_text('[hypervisor.qemu]\nkernel_params = "quiet"\n')
    assert "99-theirs.toml sets kernel_params and is read after" in refused_untouched(kernel, settings(kernel)).message


def test_a_file_that_the_settings_no_longer_name_may_be_gone(kernel: Path) -> None:
    """Lost if this fails: no `up` gets past the preflight any more, and so none takes the path out of daemon.json."""
    with served(archive()) as (address, sha256):
        kata_archive.install(kernel, address, sha256, lambda _unpacked: None)
    entry = {"runtimeType": "io.containerd.kata.v2", "options": {"ConfigPath": "/srv/gone.toml"}}
    (kernel / "etc/docker").mkdir()
    (kernel / "etc/docker/daemon.json").write_text(json.dumps({"runtimes": {"kata": entry}}))
    assert refused_untouched(kernel, settings(kernel)).code == "kata-not-found"  # somebody's own path stays
    note(kernel, docker.JOURNAL, docker.CONFIG_PATH_RECORD, {"before": None, "ours": ["/srv/gone.toml"]})
    assert preflight.run(settings(kernel), kernel)["changed"] is True


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "/srv/kata.toml", "names /srv/kata.toml, which does not exist"),
        ({"srv/kata.toml": "x ="}, "/srv/kata.toml", "/srv/kata.toml is not valid TOML"),
        ({"srv/kata.toml": "[hypervisor.clh]\n"}, "/srv/kata.toml", "has no table [hypervisor.qemu]"),
        ({"etc/kata-containers/configuration.toml": "x ="}, None, "configuration.toml is not valid TOML"),
        (
            {"srv/kata.toml": "[hypervisor.qemu]\n", "srv/config.d/99": '[hypervisor.qemu]\nkernel_params = ""\n'},
            "/srv/kata.toml",
            "/srv/config.d/99 sets kernel_params and is read after",
        ),
        ({"srv/kata.toml": "[hypervisor.qemu]\n"}, "/srv/kata.toml", None),
        ({"usr/share/defaults/kata-containers/configuration.toml": "x ="}, None, None),  # a release's shim does not read it
        ({}, f"/{FOLDER}/configuration.toml", None),
        # Somebody's other Kata, whose file is read only where no shim is in the PATH.
        (
            {
                "etc/containerd/config.toml": "version = 1\n[plugins.cri.containerd.runtimes.x]\n"
                'runtime_type = "/srv/containerd-shim-kata-v2"\noptions = {ConfigPath = "/srv/kata.toml"}\n',
                "srv/kata.toml": "[hypervisor.qemu]\n",
                "srv/config.d/99": '[hypervisor.qemu]\nkernel_params = ""\n',
            },
            None,
            None,
        ),
    ],
)
def test_a_file_outside_the_release_to_come_is_judged_before_docker_is_touched(
    kernel: Path, files: dict[str, str], path: str | None, message: str | None
) -> None:
    """Lost if this fails: Docker restarts, and names a file with which no guest starts, before the verb `kata` refuses it."""
    for name, text in files.items():
        (kernel / name).parent.mkdir(parents=True, exist_ok=True)
        (kernel / name).write_text(text)
    with served(archive()) as (address, sha256):
        desired = settings(kernel, install={"any": {"address": address, "sha256": sha256}}, configPath=path)
        if message is None:
            assert preflight.run(desired, kernel)["changed"] is True
        else:
            assert message in refused_untouched(kernel, desired).message


def test_firecracker_without_block_devices_is_refused_before_docker_is_touched(kernel: Path) -> None:
    (kernel / "etc/k0s").mkdir()
    (kernel / "etc/k0s/containerd.toml").write_text("version = 3\n")
    handler = {"name": "kata-fc", "podAnnotations": []}
    desired = {**settings(kernel, hypervisor="firecracker"), "handler": handler}
    assert refused_untouched(kernel, desired).code == "snapshotter-missing"


def test_an_archive_without_room_is_refused_before_it_is_downloaded(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive()
    with served(data) as (address, sha256):
        desired = settings(kernel, install={"any": {"address": address, "sha256": sha256}})
        monkeypatch.setattr(kata_archive, "free_bytes", lambda _root: 2 * len(data) - 1)
        assert refused_untouched(kernel, desired).code == "kata-disk-full"
        monkeypatch.setattr(kata_archive, "free_bytes", lambda _root: 2 * len(data))
        assert preflight.run(desired, kernel)["changed"] is True


def test_an_archive_out_of_reach_is_refused_before_anything_is_changed(kernel: Path) -> None:
    with served(archive()) as (address, sha256):
        pass
    assert refused_untouched(kernel, settings(kernel, install={"any": {"address": address, "sha256": sha256}})).code == (
        "kata-download-failed"
    )


def test_a_machine_that_the_release_is_not_listed_for_is_refused_before_anything_is_changed(kernel: Path) -> None:
    row = {"address": "http://127.0.0.1:9/kata.tar.zst", "sha256": "a" * 64}
    error = refused_untouched(kernel, settings(kernel, install={"riscv64": row}))
    assert error.code == "kata-release-unlisted" and os.uname().machine in error.message


def test_somebody_elses_kata_is_refused_before_docker_is_touched(kernel: Path) -> None:
    (kernel / "opt/kata").mkdir(parents=True)
    with served(archive()) as (address, sha256):
        error = refused_untouched(kernel, settings(kernel, install={"any": {"address": address, "sha256": sha256}}))
    assert error.code == "kata-foreign-install"


def test_the_guest_boots_with_the_qemu_of_the_kata_that_is_there(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    booted: list[str] = []

    def guest(_node: str, qemu: str, *_rest: object) -> tuple[dict[str, object], str]:
        booted.append(qemu)
        return {}, ""

    monkeypatch.setattr(preflight, "tiny_guest", guest)
    monkeypatch.setattr(preflight.os, "access", lambda *_args: True)
    program = {"./opt/kata/bin/qemu-system-x86_64": b"#!/bin/sh\n"}
    with served(archive(members=program)) as (address, sha256):
        kata_archive.install(kernel, address, sha256, lambda _unpacked: None)
        preflight.run(settings(kernel, install={"any": {"address": address, "sha256": sha256}}), kernel)
    assert booted == [str(kernel / "opt/kata/bin/qemu-system-x86_64")]


def test_a_node_in_which_no_guest_fits_is_refused_before_anything_is_changed(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kata_readiness, "memory_mib", {"MemTotal": 1023, "MemAvailable": 900}.__getitem__)
    with served(archive()) as (address, sha256):
        desired = settings(kernel, install={"any": {"address": address, "sha256": sha256}})
        error = refused_untouched(kernel, desired)
        assert error.code == "node-memory-too-small" and "1023 MiB" in error.message and "2048 MiB" in error.message
        kata_archive.install(kernel, address, sha256, lambda _unpacked: None)
        assert refused_untouched(kernel, desired).code == "node-memory-too-small"
        monkeypatch.setattr(kata_readiness, "memory_mib", {"MemTotal": 1024, "MemAvailable": 4096}.__getitem__)
        assert preflight.run(desired, kernel)["changed"] is True


@pytest.mark.parametrize(("runtime", "total"), [("go", 1966), ("rust", 1000)])
def test_a_node_with_less_memory_than_a_guest_is_warned_where_kata_starts_it(
    runtime: str, total: int, kernel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Go adds 1024 MiB to what a guest may grow to, and Rust starts a guest with what there is."""
    monkeypatch.setattr(kata_readiness, "memory_mib", {"MemTotal": total, "MemAvailable": 900}.__getitem__)
    with served(archive()) as (address, sha256):
        desired = settings(kernel, install={"any": {"address": address, "sha256": sha256}}, runtime=runtime)
        preflight.run(desired, kernel)
    assert "900 MiB of memory are available now" in capsys.readouterr().err


def test_memory_that_is_short_now_is_said_and_not_refused(
    kernel: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(archive()) as (address, sha256):
        desired = settings(kernel, install={"any": {"address": address, "sha256": sha256}})
        monkeypatch.setattr(kata_readiness, "memory_mib", {"MemTotal": 4096, "MemAvailable": 2207}.__getitem__)
        preflight.run(desired, kernel)
        assert "2207 MiB of memory are available now" in capsys.readouterr().err
        monkeypatch.setattr(kata_readiness, "memory_mib", {"MemTotal": 4096, "MemAvailable": 2208}.__getitem__)
        preflight.run(desired, kernel)
        assert "of memory" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("configured", "runtime", "mib"),
    [
        (None, "go", 2048),
        (128, "go", 2048),
        (256, "go", 256),
        (8192, "go", 8192),
        (96, "rust", 96),
        (0, "rust", 128),
        (None, "rust", 128),
    ],
)
def test_memory_of_a_guest_is_what_kata_takes(configured: object, runtime: str, mib: int) -> None:
    assert guest_memory.of_guest(configured, runtime) == mib
