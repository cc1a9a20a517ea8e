"""A node finds key, packages and archive under the printed addresses, and the server goes with its stack."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from local import process, site
from local.boot import BOOT_VARIABLE, Boot, site_boot
from nodekit.errors import NodeError


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    image = tmp_path / "image"
    (image / "site/debian").mkdir(parents=True)
    (image / "site/debian/gpg").write_text("a key")
    document = {"fingerprint": "F" * 40, "archive": {"file": "kata.tar.xz", "sha256": "0" * 64}}
    (image / "image.json").write_text(json.dumps(document))
    return {"directory": str(tmp_path / "records"), "site": str(image / "site")}


def test_the_site_is_served_under_what_up_prints(settings: dict[str, Any]) -> None:
    result = site.up(settings)
    try:
        port = result["port"]
        assert result == {
            "port": port,
            "address": f"http://10.0.2.2:{port}",
            "repository": f"http://10.0.2.2:{port}/debian",
            "fingerprint": "F" * 40,
            "archiveUrl": f"http://10.0.2.2:{port}/kata.tar.xz",
            "archiveSha256": "0" * 64,
        }
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/debian/gpg", timeout=5) as answer:
            assert answer.read() == b"a key"
        assert site.up(settings) == result
    finally:
        assert site.down(settings) == {"removed": True}
    assert not Path(settings["directory"]).exists()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/debian/gpg", timeout=5)
    assert site.down(settings) == {"removed": False}


def test_a_server_that_died_comes_back_on_its_port(settings: dict[str, Any]) -> None:
    first = site.up(settings)
    process.stop(Path(settings["directory"]) / "process.json")
    assert site.up(settings) == first
    site.down(settings)


def test_start_that_was_asked_for_is_recorded_and_a_server_that_ended_gets_another(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(settings["directory"])
    assert (site_boot(directory).exists, site_boot(directory).running) == (False, False)
    monkeypatch.setenv(BOOT_VARIABLE, "asked")
    first = site.up(settings)
    try:
        assert site_boot(directory) == Boot(True, True, "asked")
        process.stop(directory / "process.json")  # as a reboot ends it
        ended = site_boot(directory)
        assert (ended.exists, ended.running) == (True, False) and ended.name != "asked"
        for name in (ended.name, "asked again"):  # the second finds it running
            monkeypatch.setenv(BOOT_VARIABLE, name)
            assert site.up(settings) == first and site_boot(directory) == Boot(True, True, name)
    finally:
        site.down(settings)


def test_another_site_is_not_taken_for_this_one(settings: dict[str, Any], tmp_path: Path) -> None:
    site.up(settings)
    other = tmp_path / "other"
    (other / "site/debian").mkdir(parents=True)
    (other / "site/debian/gpg").write_text("another key")
    (other / "image.json").write_text((tmp_path / "image/image.json").read_text())
    result = site.up({**settings, "site": str(other / "site")})
    with urllib.request.urlopen(f"http://127.0.0.1:{result['port']}/debian/gpg", timeout=5) as answer:
        assert answer.read() == b"another key"
    site.down(settings)


@pytest.mark.slow
def test_a_site_that_cannot_be_served_leaves_nothing(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (Path(settings["site"]) / "debian/gpg").unlink()
    monkeypatch.setattr(site, "START_SECONDS", 1)
    with pytest.raises(NodeError, match="did not start"):
        site.up(settings)
    assert not Path(settings["directory"]).exists()


def test_a_folder_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="no built image"):
        site.up({"directory": str(tmp_path / "records"), "site": str(tmp_path / "none")})
    assert not (tmp_path / "records").exists()
