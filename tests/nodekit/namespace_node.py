"""A machine as scripts of a stack see it: a mount namespace where /usr/local/lib is a throw-away folder, and apt is a fake."""

import hashlib
import io
import json
import subprocess
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from delivery.bundle import BOOTSTRAP, part
from delivery.scripts import sent

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = "usr/local/lib/kata-nodes"
NAMESPACE = """\
set -eu
mount --bind /usr/local/lib "$NODE/real"
mount --bind "$NODE/lib" /usr/local/lib
mount --bind "$NODE/state" /var/lib
mount --bind "$NODE/run" /run
[ ! -e "$NODE/os-release" ] || mount --bind "$NODE/os-release" "$(readlink -f /etc/os-release)"
[ ! -e "$NODE/machine-id" ] || mount --bind "$NODE/machine-id" /etc/machine-id
for entry in "$NODE"/real/*; do ln -sfn "$entry" /usr/local/lib/; done
[ ! -e "$NODE/disk" ] || mount -t tmpfs -o "$(cat "$NODE/disk")" disk /usr/local/lib
cd "$NODE/home"
PATH="$NODE/bin:$PATH"
umask 077
exec "$@"
"""
FAKES = {
    "apt-get": 'echo "$*" >>"$NODE/apt"; cat >/dev/null\n'
    'case "$*" in *update*) if [ -e "$NODE/locked" ]; then rm "$NODE/locked"; echo "E: Could not get lock '
    '/var/lib/apt/lists/lock. It is held by process 7 (apt-get)" >&2; exit 100; fi\n'
    '[ ! -e "$NODE/offline" ] || exit 100 ;; esac\n'
    'case "$*" in *install*) if [ -e "$NODE/state/dpkg/updates/0003" ]; then echo "E: dpkg was interrupted, you must manually '
    "run 'dpkg --configure -a' to correct the problem.\" >&2; exit 100; fi\n"
    '[ ! -e "$NODE/broken" ] && touch "$NODE/whole" ;; esac\n',
    "dpkg": 'echo "$*" >>"$NODE/dpkg"; cat >/dev/null; case "$*" in *--configure*) rm -f "$NODE"/state/dpkg/updates/*; '
    'exit ;; esac\n[ "$2" != "$(cat "$NODE/needed" 2>/dev/null)" ]\n',
    "dpkg-query": 'if [ -e "$NODE/whole" ]; then printf installed; else printf not-installed; exit 1; fi\n',
    "python3": 'case "$*" in *find_spec*) [ -e "$NODE/whole" ] ;; *zipfile* | *zipimport*) exec /usr/bin/python3 "$@" ;; '
    '*converge) echo "$*" >>"$NODE/converged"; cat >>"$NODE/converged"; cat "$NODE/convergence" ;; '
    '*pyz*) echo "$*" >>"$NODE/ran"; cat >>"$NODE/ran"; [ ! -e "$NODE/slow" ] || while [ -e "$NODE/slow" ]; do sleep 0.1; done; '
    'cat "$NODE/result" ;; esac\n',
}

BOUND = "60"
"""Seconds that the verb has."""
STATE = '{\n "node": "n1"\n}'
SUDO = {
    "id": '[ -z "${SUDO_USER:-}" ] || exec /usr/bin/id "$@"\ncase $1 in -u) echo 1000 ;; *) echo admin ;; esac\n',
    "sudo": 'echo "$*" >>"$NODE/sudo"; [ "$1" = -n ] && shift && exec env -i NODE="$NODE" PATH="$PATH" SUDO_USER=admin "$@"\n',
}
"""A user who becomes root with sudo, which keeps nothing of the environment."""

needs_namespace = pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "t", "/mnt"], capture_output=True, check=False).returncode != 0,
    reason="needs a user and a mount namespace",
)


PASSWORD = "s3cret 'of\" $the \\user"
ASKING = """\
echo "$*" >>"$NODE/sudo"
case " $* " in *" -n "*) echo "sudo: a password is required" >&2; exit 1 ;; esac
IFS= read -r line
[ "$line" = "$(cat "$NODE/password")" ] || { echo "Sorry, try again." >&2; exit 1; }
shift 4
[ "$1" != -- ] || shift
exec env -i NODE="$NODE" PATH="$PATH" SUDO_USER=admin "$@"
"""
"""A sudo that wants `PASSWORD`, started as as_root.sh does: `-k -S -p '' [--] PROGRAM`."""


def program(text: str = "program") -> bytes:
    """A node program of which nothing but its scripts is genuine."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), text)
        archive.writestr(zipfile.ZipInfo("tomlkit/items.py"), "")
        for name in ("nodekit/run.sh", BOOTSTRAP):
            archive.writestr(zipfile.ZipInfo(name), (CHECKOUT / name).read_bytes())
    return file.getvalue()


@dataclass
class Node:
    """A machine as far as the script sees it."""

    root: Path
    data: bytes = field(default_factory=program)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        for folder in ("bin", "lib", "real", "state", "run", "home"):
            (self.root / folder).mkdir()
        for name, text in FAKES.items():
            self.fake(name, text)
        self.result('{"verb": "restore"}')
        (self.root / "convergence").write_text('{"verb": "converge"}\n')
        self.upload(self.data)

    def result(self, text: str) -> None:
        """What the program prints, except for the verb converge."""
        (self.root / "result").write_text(text)

    def upload(self, data: bytes) -> None:
        self.data, self.digest = data, hashlib.sha256(data).hexdigest()
        (self.root / "home" / ".kata-nodes.pyz").write_bytes(data)

    @property
    def target(self) -> str:
        return f"/{FOLDER}/nodekit-{self.digest[:12]}.pyz"

    def inside(self, *argv: str, stdin: str) -> subprocess.CompletedProcess[str]:
        """A program on the node, in the home of the login user."""
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", NAMESPACE, "sh", *argv],
            input=stdin, env={"NODE": str(self.root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def fake(self, name: str, text: str) -> None:
        """Put a program on the node, in front of its own."""
        file = self.root / "bin" / name
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)

    def log_in(self, sudo: str = SUDO["sudo"]) -> None:
        """Have a user log in who is not root, and who has this sudo."""
        (self.root / "password").write_text(f"{PASSWORD}\n")
        for name, text in {**SUDO, "sudo": sudo}.items():
            self.fake(name, text)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """What -converge runs, with the arguments of bootstrap.sh; or with --remove, what the removal of -system runs."""
        if argv[0] == "--remove":
            return self.inside("sh", "-s", "--", *argv, stdin=sent("system.sh"))
        return self.inside("sh", "-c", sent("converge.sh", "delivery"), "converge", *self.place(), *argv, stdin=STATE)

    def place(self, bound: str = BOUND) -> list[str]:
        """What converge.sh has before the arguments of bootstrap.sh."""
        return [*(str(value) for value in part(self.data, BOOTSTRAP)), bound]

    def start(self, verb: str) -> subprocess.CompletedProcess[str]:
        """Start a verb as a stack does."""
        return self.inside("sh", "-c", f". /{FOLDER}/run.sh; nodekit {self.digest[:12]} {verb}", stdin="{}")

    def install(self) -> subprocess.CompletedProcess[str]:
        return self.run(".kata-nodes.pyz", self.target, self.digest)

    def programs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.root / "lib" / "kata-nodes").glob("nodekit-*.pyz")}

    def log(self, name: str) -> str:
        file = self.root / name
        return file.read_text() if file.exists() else ""


def answer(result: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """What an installation printed, which the result of the verb follows."""
    assert result.returncode == 0, result.stderr
    document, converged = map(json.loads, result.stdout.splitlines())
    assert converged == {"verb": "converge"}
    return dict(document)
