"""Debian packages that cannot be installed are named, with a command that works for who reads it.

What would be lost too: a dpkg that ends what it has begun, where a person ends set-up.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodekit.rules.proof.ladder import brought
from nodekit.rules.proof.sandboxes import SANDBOXES
from tools import local
from tools.cache import SetupError, exit_status

CHECKOUT = Path(__file__).resolve().parents[2]


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


SLOW = """\
import os, pathlib, signal, sys, time

here = pathlib.Path(os.environ["HERE"])

def end(*_):
    time.sleep(1.5)
    (here / "ended").write_text("by itself")
    sys.exit(100)

signal.signal(signal.SIGINT, end)
(here / "begun").touch()
time.sleep(60)
"""
"""An apt-get that ends what dpkg has begun."""


@pytest.mark.slow
def test_apt_that_is_interrupted_ends_by_itself(programs: Path) -> None:
    (programs / "apt-get").write_text(f"#!{sys.executable}\n{SLOW}")
    environment = {**os.environ, "HERE": str(programs), "PATH": str(programs), "PYTHONPATH": str(Path(local.HERE).parent)}
    code = "import os, sys; os.geteuid = lambda: 0; from tools import cache, local\n"
    code += "sys.exit(cache.exit_status(lambda: local.install(['qemu-utils'])))"
    with subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True) as setup:
        while not (programs / "begun").exists():
            assert setup.poll() is None
            time.sleep(0.05)
        os.killpg(setup.pid, signal.SIGINT)
        assert setup.wait(30) == 130
    assert (programs / "ended").read_text() == "by itself"


@pytest.mark.parametrize("module", ["browser", "local", "platforms", "policy_environment"])
@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--newest-imag", 2)])
def test_program_of_set_up_that_is_only_asked_how_to_use_it_makes_nothing(
    tmp_path: Path, module: str, option: str, status: int
) -> None:
    """`python3 -m tools.local --help` installed Debian packages and built an image."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    argv = [sys.executable, "-m", f"tools.{module}", option]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == status and f"usage: tools.{module}" in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    """`make test` on Ubuntu 22.04 ended with `No module named 'tomllib'`."""
    (tmp_path / "tools").mkdir()
    old = (CHECKOUT / "tools/__init__.py").read_text().replace("import sys", "import sys\nsys.version_info = (3, 10, 12)", 1)
    (tmp_path / "tools/__init__.py").write_text(old)
    (tmp_path / "tools/get.py").write_text("import no_such_module")
    argv = [sys.executable, "-m", "tools.get"]
    result = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1 and result.stderr.startswith("error: python3 is Python 3.")
    assert result.stderr.endswith("Put Python 3.11 to 3.14 first on PATH as python3.\n")


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_set_up_installs_what_guests_of_tests_are_packed_from(sandbox: str) -> None:
    """A machine without bubblewrap was set up whole, and every test of a guest or a container failed on it."""
    listed = {line.split()[0] for line in (CHECKOUT / "tools/debian-packages.txt").read_text().splitlines() if line[:1] != "#"}
    essential = {"setpriv"}  # of util-linux, which every Debian has
    assert not {"busybox", "qemu-system-x86_64", *brought(sandbox)} - listed - essential
