"""The start-up script from end to end, in a mount namespace where /usr/local/lib is a throw-away folder and apt is a fake."""

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "nodekit" / "bootstrap.sh"
FOLDER = "usr/local/lib/kata-nodes"
NAMESPACE = """\
set -eu
mount --bind /usr/local/lib "$NODE/real"
mount --bind "$NODE/lib" /usr/local/lib
for entry in "$NODE"/real/*; do ln -sfn "$entry" /usr/local/lib/; done
cd "$NODE/home"
PATH="$NODE/bin:$PATH"
umask 077
exec sh -s -- "$@"
"""
FAKES = {
    "apt-get": 'echo "$*" >>"$NODE/apt"; cat >/dev/null\n'
    'case "$*" in *install*) [ ! -e "$NODE/broken" ] && touch "$NODE/whole" ;; esac\n',
    "dpkg": 'echo "$*" >>"$NODE/dpkg"; [ "$2" != "$(cat "$NODE/needed" 2>/dev/null)" ]\n',
    "dpkg-query": 'if [ -e "$NODE/whole" ]; then printf installed; else printf not-installed; exit 1; fi\n',
    "python3": 'case "$*" in *"import ctypes"*) [ -e "$NODE/whole" ] ;; *pyz*) echo "$*" >>"$NODE/ran"; cat >>"$NODE/ran"; '
    "echo '{\"changed\": true}' ;; *) echo 3.13.5 ;; esac\n",
}

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True, check=False).returncode != 0,
    reason="needs a user and a mount namespace",
)


@dataclass
class Node:
    """A machine as far as the script sees it."""

    root: Path
    data: bytes = b"program"
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        for folder in ("bin", "lib", "real", "home"):
            (self.root / folder).mkdir()
        for name, text in FAKES.items():
            file = self.root / "bin" / name
            file.write_text(f"#!/bin/sh\n{text}")
            file.chmod(0o755)
        self.upload(self.data)

    def upload(self, data: bytes) -> None:
        self.digest = hashlib.sha256(data).hexdigest()
        (self.root / "home" / ".kata-nodes.pyz").write_bytes(data)

    @property
    def target(self) -> str:
        return f"/{FOLDER}/nodekit-{self.digest[:12]}.pyz"

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", NAMESPACE, "sh", *argv],
            input=SCRIPT.read_text(), env={"NODE": str(self.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def install(self) -> subprocess.CompletedProcess[str]:
        return self.run(".kata-nodes.pyz", self.target, self.digest)

    def programs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "lib" / "kata-nodes").glob("*.pyz")}

    def log(self, name: str) -> str:
        file = self.root / name
        return file.read_text() if file.exists() else ""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_bare_node_gets_python_and_the_program_and_a_second_run_changes_nothing(node: Node) -> None:
    done = node.install()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"changed": True, "path": node.target, "python": "3.13.5"}
    assert "--no-install-recommends install python3 busybox-static bubblewrap zstd" in node.log("apt")
    assert "DPkg::Lock::Timeout=300" in node.log("apt")
    program = node.root / "lib" / "kata-nodes" / Path(node.target).name
    assert program.read_bytes() == node.data
    # Readable for every user whatever the login's umask is.
    assert (program.stat().st_mode & 0o7777, program.parent.stat().st_mode & 0o7777) == (0o644, 0o755)
    assert list((node.root / "home").iterdir()) == []
    (node.root / "apt").unlink()
    again = node.install()
    assert json.loads(again.stdout) == {"changed": False, "path": node.target, "python": "3.13.5"}
    assert node.log("apt") == ""


def test_a_newer_program_takes_the_place_of_the_older(node: Node) -> None:
    node.install()
    node.upload(b"newer")
    assert json.loads(node.install().stdout)["changed"] is True
    assert node.programs() == {Path(node.target).name: b"newer"}


def test_a_damaged_upload_is_refused_and_the_older_program_stays(node: Node) -> None:
    node.install()
    before = node.programs()
    node.upload(b"newer")
    (node.root / "home" / ".kata-nodes.pyz").write_bytes(b"newe")
    done = node.install()
    assert done.returncode == 1 and "[file-invalid]" in done.stderr
    assert node.programs() == before


def test_a_program_that_is_swapped_under_the_check_is_refused(node: Node) -> None:
    # The login user's file is the genuine one while it is looked at, and another one when root copies it.
    real = "/usr/bin/install"
    swap = f'case "$*" in *.pyz.new) printf evil >"$NODE/home/.kata-nodes.pyz" ;; esac; exec {real} "$@"\n'
    (node.root / "bin" / "install").write_text(f"#!/bin/sh\n{swap}")
    (node.root / "bin" / "install").chmod(0o755)
    done = node.install()
    assert done.returncode == 1 and "[file-invalid]" in done.stderr
    assert node.programs() == {} and not list((node.root / "lib" / "kata-nodes").glob("*.new"))


def test_a_program_that_was_changed_in_place_is_put_right(node: Node) -> None:
    node.install()
    (node.root / "lib" / "kata-nodes" / Path(node.target).name).write_bytes(b"other")
    lost = node.install()
    assert lost.returncode == 1 and "so is the upload" in lost.stderr
    node.upload(node.data)
    assert json.loads(node.install().stdout)["changed"] is True
    assert node.programs() == {Path(node.target).name: node.data}


def test_packages_that_cannot_be_installed_are_named(node: Node) -> None:
    (node.root / "broken").touch()
    done = node.install()
    assert done.returncode == 1 and done.stdout == ""
    assert "python3 busybox-static bubblewrap zstd could not be installed" in done.stderr and "[tool-missing]" in done.stderr
    assert node.programs() == {}


def test_removal_undoes_the_node_first_and_takes_the_folder_away(node: Node) -> None:
    node.install()
    done = node.run("--remove")
    assert done.returncode == 0, done.stderr
    assert node.log("ran").startswith(f"-I {node.target} restore\n" + '{"node": ')
    assert not (node.root / "lib" / "kata-nodes").exists()
    assert json.loads(node.run("--remove").stdout) == {"changed": False}


def test_packages_that_came_by_us_go_again_and_others_stay(node: Node) -> None:
    node.install()
    (node.root / "needed").write_text("bubblewrap")
    done = node.run("--remove")
    assert done.returncode == 0, done.stderr
    assert node.log("dpkg") == "--purge bubblewrap\n--purge busybox-static\n--purge zstd\n"
    assert "bubblewrap stays" in done.stderr


def test_packages_that_were_there_before_stay(node: Node) -> None:
    (node.root / "whole").touch()
    node.install()
    assert node.run("--remove").returncode == 0
    assert node.log("dpkg") == ""
