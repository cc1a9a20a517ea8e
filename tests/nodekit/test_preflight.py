"""What preflight finds missing is named with its cause, and the modules stay loaded after the next start of the node."""

import os
from pathlib import Path

import pytest

from nodekit.commands import preflight
from nodekit.commands.preflight import Presence, keep, refuse_missing
from nodekit.errors import NodeError

ALL = {"vhost_vsock": True, "vhost_net": True, "tun": True}
SAID = {"kvm_amd": "", "kvm_intel": "modprobe: Operation not supported", "vhost_vsock": "", "vhost_net": "", "tun": ""}
MODULES = ["kvm_amd", "vhost_vsock", "vhost_net", "tun"]


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (Presence(None, False, ALL), "preflight-no-kvm", "neither vmx nor svm"),
        (Presence("vmx", False, ALL), "preflight-no-kvm", "kvm_intel cannot be loaded: modprobe: Operation not supported"),
        (Presence("svm", False, ALL), "preflight-no-kvm", "kvm_amd is loaded and gives no usable device"),
        (Presence("svm", True, {**ALL, "vhost_vsock": False}), "preflight-module-missing", "/dev/vhost-vsock"),
        (Presence("svm", True, {**ALL, "tun": False}), "preflight-module-missing", "/dev/net/tun"),
    ],
)
def test_what_is_missing_is_named(found: Presence, code: str, words: str) -> None:
    with pytest.raises(NodeError) as caught:
        refuse_missing("n1", found, SAID)
    assert caught.value.code == code and words in caught.value.message and "n1" in caught.value.message


def test_a_whole_node_is_refused_nothing() -> None:
    refuse_missing("n1", Presence("svm", True, ALL), SAID)


def builtin(root: Path, text: str) -> None:
    """The list of modules that are built into the kernel."""
    path = root / f"lib/modules/{os.uname().release}/modules.builtin"
    path.parent.mkdir(parents=True)
    path.write_text(text)


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
    monkeypatch.setattr(preflight, "load", lambda _module: "")
    monkeypatch.setattr(preflight, "presence", lambda flag: Presence(flag, True, ALL))
    monkeypatch.setattr(preflight, "find_qemu", lambda: None)
    result = preflight.run({"node": "n1"}, tmp_path)
    assert isinstance(result["guest"], dict) and result["guest"]["booted"] is None
    assert "no QEMU" in str(result["explanation"])
    assert result["os"] == {"id": "debian", "versionId": "13", "codename": "trixie"}
