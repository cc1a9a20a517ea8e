"""Debian packages that cannot be installed are named, with a command that works for who reads it."""

import os
from pathlib import Path

import pytest

from tools import local
from tools.cache import SetupError, exit_status


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that is on PATH: an apt-get that finds nothing."""
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    (tmp_path / "env").symlink_to("/usr/bin/env")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("user", "sudo", "remedy"),
    [
        (0, False, "). Run: apt-get update && apt-get install "),
        (1000, True, "). Run: sudo apt-get update && sudo apt-get install "),
        # As Debian is where root got a password.
        (1000, False, "(this user is not root, and there is no sudo). As root, run: apt-get update && apt-get install "),
    ],
)
def test_packages_that_cannot_be_installed_are_named_with_what_this_user_can_run(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], user: int, sudo: bool, remedy: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if sudo:
        (programs / "sudo").write_text('#!/bin/sh\nshift\nexec "$@"\n')
        (programs / "sudo").chmod(0o755)
    with pytest.raises(SetupError) as caught:
        local.install(["qemu-utils"])
    assert remedy in str(caught.value) and str(caught.value).endswith(" qemu-utils")
    assert exit_status(lambda: local.install(["qemu-utils"])) == 1
    assert "Check the space" not in capsys.readouterr().err
