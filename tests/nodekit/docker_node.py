"""A throw-away Debian root with real apt and dpkg, a signed repository on loopback, and a stand-in for dockerd."""

import gzip
import hashlib
import http.server
import json
import os
import re
import shutil
import socketserver
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.serving import running

SUITE = "trixie"
NEW, OLD = "5:28.5.2-1~debian.13~trixie", "5:27.5.1-1~debian.13~trixie"
CONTAINERD, OLD_CONTAINERD = "1.7.28-1~debian.13~trixie", "1.6.20-1~debian.13~trixie"
"""The new Docker needs the first, the old one takes both."""
OLD_IPTABLES = "1.8.9-1"
"""Enough for the new Docker and not for the old one, so that a downgrade of Docker upgrades it."""

# Stands for systemctl, dockerd and journalctl. `Daemon` stands for the running dockerd: it answers with the version that the
# package database of the root holds, and with the runtimes of the daemon.json that `systemctl reload` last made it read.
DAEMON = r"""#!/usr/bin/env python3
import json, os, pathlib, sys
root = pathlib.Path(os.environ["TEST_ROOT"])
seen = root / "run/daemon-read.json"
with open(root / "calls", "a") as calls:
    print(pathlib.Path(sys.argv[0]).name, *sys.argv[1:], file=calls)
name, args = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if name == "systemctl" and args[0] in ("show", "reset-failed"):
    pass
elif name == "systemctl":
    file = root / "etc/docker/daemon.json"
    if (root / "broken-service").exists():
        sys.exit("Job for docker.service failed.")
    new = json.loads(file.read_text()) if file.exists() else {}
    if "restart" not in args and seen.exists():  # a reload takes no runtime away
        new = {"runtimes": json.loads(seen.read_text()).get("runtimes", {}), **new}
    seen.write_text(json.dumps(new))
elif name == "dockerd":
    given = json.loads(pathlib.Path(args[args.index("--config-file") + 1]).read_text())
    if "misspelt" in given:
        sys.exit("unable to configure the Docker daemon with file: the following directives are unknown: misspelt")
elif name == "journalctl":
    print("failed to start daemon: a reason")
"""


class Daemon(socketserver.ThreadingUnixStreamServer):
    """The API of a running dockerd, at `run/docker.sock` of the root; a file `silent` there makes it mute."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        self.root = root
        super().__init__(str(root / "run/docker.sock"), _Call)

    def answer(self, path: str) -> object:
        """What the API answers, or None."""
        argv = ["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", "docker-ce"]
        match = re.fullmatch(r"installed 5:([0-9.]+)-.*", subprocess.run(argv, capture_output=True, text=True).stdout)
        if match is None or (self.root / "silent").exists():
            return None
        if path == "/containers/json":
            return [{"Names": ["/web"]}, {"Names": ["/database"]}]
        seen = self.root / "run/daemon-read.json"
        runtimes = json.loads(seen.read_text()).get("runtimes", {}) if seen.exists() else {}
        return {"ServerVersion": match[1], "Runtimes": {"runc": {}, **runtimes}, "LiveRestoreEnabled": False}


class _Call(socketserver.StreamRequestHandler):
    server: Daemon

    def handle(self) -> None:
        path = self.rfile.readline().decode().split()[1]
        with open(self.server.root / "calls", "a") as calls:
            print(path, file=calls)
        answer = self.server.answer(path)
        head = "503 no" if answer is None else "200 OK"
        self.wfile.write(f"HTTP/1.0 {head}\r\n\r\n{json.dumps(answer)}".encode())


@dataclass(frozen=True)
class Repository:
    """A signed repository: where it is served, its folder, and the fingerprint of its key."""

    address: str
    folder: Path
    fingerprint: str


@dataclass(frozen=True)
class Node:
    """The throw-away root."""

    root: Path

    def holds(self) -> list[str]:
        """What is held, according to apt itself."""
        return subprocess.run(["apt-mark", "showhold"], check=True, capture_output=True, text=True).stdout.split()

    def packages(self) -> dict[str, str]:
        """Every package with its status and version."""
        argv = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Abbrev}${Version}\\n"]
        lines = subprocess.run(argv, check=False, capture_output=True, text=True).stdout.splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def etc(self) -> dict[str, str]:
        """Every file below /etc with its content's hash, mode and owner."""
        entries = {}
        for path in sorted((self.root / "etc").rglob("*")):
            if path.is_symlink():
                entries[str(path)] = f"-> {path.readlink()}"
            else:
                info = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
                entries[str(path)] = f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {digest}"
        return entries

    def calls(self) -> list[str]:
        """What the stand-ins were called with, in order."""
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def install(self, *packages: str) -> None:
        """Install as an administrator would, before the program comes."""
        subprocess.run(["apt-get", "install", "-qq", "-y", "--allow-unauthenticated", *packages], check=True, capture_output=True)


def gpg_key(home: Path, algorithm: str) -> tuple[str, bytes]:
    """A fresh key: its fingerprint, and the armoured public key."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run(
        [*gpg, "--quick-generate-key", f"test {algorithm} <t@kata-nodes.invalid>", algorithm, "sign", "never"], check=True
    )
    listing = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True, text=True).stdout
    fingerprint = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")][-1]
    armoured = subprocess.run([*gpg, "--armor", "--export", fingerprint], check=True, capture_output=True).stdout
    return fingerprint, armoured


def _package(work: Path, name: str, version: str, program: str = "", **fields: str) -> tuple[Path, str]:
    folder = work / f"{name}-{version.replace(':', '_')}"
    (folder / "DEBIAN").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "usr/share/doc" / name).mkdir(parents=True)
    (folder / "usr/share/doc" / name / "version").write_text(version)
    if program:
        (folder / "usr/bin").mkdir()
        (folder / "usr/bin" / program).write_text(name)
    lines = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "t <t@kata-nodes.invalid>", **fields}
    control = "".join(f"{key}: {value}\n" for key, value in lines.items()) + f"Description: {name}\n"
    (folder / "DEBIAN/control").write_text(control)
    file = work / f"{folder.name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(folder), str(file)], check=True, capture_output=True
    )
    return file, control


def build_repository(folder: Path, home: Path, *, iptables: bool = True) -> str:
    """Packages of two Docker releases, and of what they need, below `folder`; returns the key's fingerprint."""
    fingerprint, armoured = gpg_key(home, "ed25519")
    pool = folder / "pool"
    pool.mkdir(parents=True)
    packages = [_package(pool, "containerd.io", version) for version in (CONTAINERD, OLD_CONTAINERD)]
    packages += [_package(pool, "iptables", version) for version in ("1.8.11-2", OLD_IPTABLES) if iptables]
    for version, needs in ((NEW, "containerd.io (>= 1.7.27), iptables"), (OLD, "containerd.io, iptables (>= 1.8.10)")):
        packages.append(_package(pool, "docker-ce", version, Depends=f"docker-ce-cli, {needs}"))
        packages.append(_package(pool, "docker-ce-cli", version, "docker", Conflicts="docker-rival"))
        packages.append(_package(pool, "docker-ce-rootless-extras", version))
    packages.append(_package(pool, "docker-rival", "1.0"))
    packages.append(_package(pool, "podman-docker", "4.3.1", "docker"))
    _publish(folder, home, packages)
    (folder / "gpg").write_bytes(armoured)
    return fingerprint


def build_distribution(folder: Path, home: Path, version: str) -> None:
    """A release of the node's own distribution in place of the one before, whose package is gone: iptables of a version alone.

    It is dated a minute after the one before: apt asks for what is newer than its own copy, and HTTP counts in whole seconds,
    so one that follows within the same second would stay unread.
    """
    release = folder / f"dists/{SUITE}/InRelease"
    dated = release.stat().st_mtime + 60 if release.exists() else time.time()
    if not (folder / "gpg").exists():
        folder.mkdir()
        (folder / "gpg").write_bytes(gpg_key(home, "ed25519")[1])
    for name in ("pool", "dists"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "pool").mkdir()
    _publish(folder, home, [_package(folder / "pool", "iptables", version)])
    os.utime(release, (dated, dated))


def _publish(folder: Path, home: Path, packages: Sequence[tuple[Path, str]]) -> None:
    """Index and signature of packages in `pool` of the folder."""
    index = ""
    for file, control in packages:
        data = file.read_bytes()
        index += f"{control}Filename: pool/{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
    binary = folder / f"dists/{SUITE}/stable/binary-all"
    for architecture in ("all", subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()):
        binary = folder / f"dists/{SUITE}/stable/binary-{architecture}"
        binary.mkdir(parents=True)
        (binary / "Packages").write_text(index)
        (binary / "Packages.gz").write_bytes(gzip.compress(index.encode(), mtime=0))
    release = f"Origin: Test\nSuite: {SUITE}\nCodename: {SUITE}\nDate: Mon, 01 Jan 2024 00:00:00 UTC\nComponents: stable\n"
    release += f"Architectures: all {binary.name.removeprefix('binary-')}\nSHA256:\n"
    for file in sorted((folder / "dists").rglob("Packages*")):
        data = file.read_bytes()
        release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {file.relative_to(folder / 'dists' / SUITE)}\n"
    suite = folder / "dists" / SUITE
    (suite / "Release").write_text(release)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    subprocess.run([*gpg, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release")], check=True)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yields the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    with running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def make_root(root: Path) -> dict[str, str]:
    """Lay out the root; returns the environment in which apt, dpkg and the stand-ins work on it and on nothing else."""
    for folder in (
        "etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "run", "tmp",
        "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log/apt",
        "var/lib/dpkg/triggers", "usr/share",
    ):  # fmt: skip
        (root / folder).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n')
    log = root / "var/log/dpkg.log"
    config = root.parent / f"{root.name}-apt.conf"
    config.write_text(
        f'Dir "{root}/";\nDir::State::status "{root}/var/lib/dpkg/status";\nDir::Etc::parts "{root}/etc/apt/apt.conf.d";\n'
        'Acquire::http::Proxy "DIRECT";\nAPT::Sandbox::User "root";\nAcquire::Languages "none";\n'
        # Of the machine that the test runs on: its dpkg, apt's methods, and gpg's verifier.
        'Dir::Bin::dpkg "/usr/bin/dpkg";\nDir::Bin::methods "/usr/lib/apt/methods";\n'
        f'DPkg::Options {{ "--root={root}"; "--force-not-root"; "--force-bad-path"; "--log={log}"; }};\n'
    )
    tools = root.parent / f"{root.name}-bin"
    tools.mkdir()
    for name in ("dockerd", "systemctl", "journalctl"):
        (tools / name).write_text(DAEMON)
        (tools / name).chmod(0o755)
    return {
        "APT_CONFIG": str(config),
        "DPKG_ADMINDIR": str(root / "var/lib/dpkg"),
        "DPKG_ROOT": "",
        "PATH": f"{tools}:{os.environ['PATH']}",
        "TEST_ROOT": str(root),
        "no_proxy": "127.0.0.1",
    }


def desired(repository: Repository, **settings: object) -> dict[str, object]:
    """A desired state for the verb `docker`."""
    state: dict[str, object] = {
        "node": "n1",
        "version": "27.5.1",
        "kataVersion": "3.32.0",
        "kataRuntime": "go",
        "repository": {
            "address": repository.address,
            "suite": None,
            "fingerprint": repository.fingerprint,
        },
        "configPath": None,
    }
    return state | settings
