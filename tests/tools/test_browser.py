"""What judges the page of a report is the release that was pinned.

Lost if these fail: a script of somebody else's that runs in the tests, or a set-up that ends where no browser can be had."""

import io
import tarfile
from pathlib import Path

import pytest

from tests.fleet.browser import missing
from tools import browser, local
from tools.cache import SetupError


def archive() -> bytes:
    """An archive in the shape of npm's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as members:
        entry = tarfile.TarInfo("package/axe.min.js")
        entry.size = 2
        members.addfile(entry, io.BytesIO(b"//"))
    return out.getvalue()


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is pinned"):
        browser.unpacked(archive(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_set_up_goes_on_where_no_browser_can_be_had_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(packages: list[str]) -> None:
        raise SetupError(f"The Debian packages {', '.join(packages)} could not be installed")

    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path))
    monkeypatch.setattr(browser, "PROGRAMS", ("no-such-browser",))
    monkeypatch.setattr(local, "install", refused)
    assert browser.main() == 0
    assert "will be skipped: The Debian packages chromium-headless-shell could not" in capsys.readouterr().err
    assert "there is no browser" in missing()


def test_registry_that_never_answers_ends_no_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("KATA_NODES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(browser, "PROGRAMS", ("npm",))
    monkeypatch.setattr(browser, "SECONDS", 0.2)
    assert browser.main() == 0
    assert "will be skipped: axe-core" in capsys.readouterr().err
