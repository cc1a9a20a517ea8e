"""The vendors' download sites on loopback: release files of small programs, laid out as the vendors document them.

Pulumi: https://github.com/pulumi/pulumi/releases (an archive whose only folder is `pulumi`, and a list of sums);
etcd: https://github.com/etcd-io/etcd/releases (a folder of the archive's name; SHA256SUMS);
Kubernetes: https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/ (the program itself, and a file with its sum alone);
Pulumi's plugins: https://get.pulumi.com/releases/plugins/ (an archive with the program at its top);
kwok: https://github.com/kubernetes-sigs/kwok/releases (the program itself, and no list of sums);
Docker: https://download.docker.com/linux/debian/ (an apt repository: `gpg`, and for each suite `InRelease`, indices and a pool).
"""

import functools
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.serving import running
from tools import get, sites
from tools.image import packages

PULUMI = "github.com/pulumi/pulumi/releases/download/v{version}"
ETCD = "github.com/etcd-io/etcd/releases/download/v{version}"
KUBERNETES = "dl.k8s.io/release/v{version}/bin"
PLUGINS = "get.pulumi.com/releases/plugins"
DOCKER = "download.docker.com/linux/debian"


def tar(members: Mapping[str, bytes | Path]) -> bytes:
    """A gzipped tar of programs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def prints(text: str) -> bytes:
    """A program that prints a line."""
    return f"#!/bin/sh\necho {text}\n".encode()


def truncate(file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have the server announce the whole file and end in its middle, as a broken connection does; the whole size."""
    read = file.read_bytes()
    file.write_bytes(read[: len(read) // 2])
    fstat, shorter = os.fstat, file.stat().st_ino

    def announced(descriptor: int) -> os.stat_result:
        seen = fstat(descriptor)
        return os.stat_result((*seen[:6], len(read), *seen[7:])) if seen.st_ino == shorter else seen

    monkeypatch.setattr("http.server.os.fstat", announced)
    return len(read)


class Sites:
    """All of them, as one mirror holds them: a folder for each host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = sites.this_platform()
        self.requests: list[str] = []
        """Paths that were asked for."""
        self.url = ""

    def put(self, path: str, data: bytes) -> Path:
        """A file of a site."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def put_listed(self, path: str, listing: str, data: bytes) -> Path:
        """A file of a site, and its line in the list of sums beside it."""
        file = self.put(path, data)
        with open(file.parent / listing, "a") as out:
            out.write(f"{hashlib.sha256(data).hexdigest()}  {file.name}\n")
        return file

    def pulumi(self, programs: Mapping[str, bytes | Path] | None = None) -> Path:
        """The engine's release; its archive."""
        version = get.parts()["pulumi"].version
        programs = programs or {"pulumi": prints(f"v{version}"), "pulumi-language-python": prints("host")}
        name = f"pulumi-v{version}-{self.names['os']}-{self.names['x64']}.tar.gz"
        place = PULUMI.format(version=version)
        listing = f"pulumi-{version}-checksums.txt"
        return self.put_listed(f"{place}/{name}", listing, tar({f"pulumi/{file}": data for file, data in programs.items()}))

    def etcd(self) -> Path:
        """etcd's release; its archive."""
        version = get.parts()["etcd"].version
        name = f"etcd-v{version}-{self.names['os']}-{self.names['amd64']}"
        programs = {file: prints(f"{file} Version: {version}") for file in ("etcd", "etcdctl", "Documentation/README.md")}
        place = ETCD.format(version=version)
        return self.put_listed(f"{place}/{name}.tar.gz", "SHA256SUMS", tar({f"{name}/{f}": data for f, data in programs.items()}))

    def kubernetes(self, program: str) -> Path:
        """One program of a Kubernetes release."""
        version = get.parts()[program].version
        place = f"{KUBERNETES.format(version=version)}/{self.names['os']}/{self.names['amd64']}"
        file = self.put(f"{place}/{program}", prints(f"Kubernetes v{version}"))
        self.put(f"{place}/{program}.sha256", hashlib.sha256(file.read_bytes()).hexdigest().encode())
        return file

    def plugin(self, name: str, version: str, program: bytes | Path) -> Path:
        """A plugin's release; its archive."""
        file = f"pulumi-resource-{name}-v{version}-{self.names['os']}-{self.names['amd64']}.tar.gz"
        return self.put(f"{PLUGINS}/{file}", tar({f"pulumi-resource-{name}": program}))

    def docker(self, suites: Mapping[str, Sequence[Path]]) -> str:
        """Docker's apt repository with these packages, signed by a key of this test's own; the key's fingerprint."""
        place = self.folder / DOCKER
        for suite, archives in suites.items():
            pool, binary = (place / "dists" / suite / folder for folder in ("pool/stable/amd64", "stable/binary-amd64"))
            for folder in (pool, binary):
                folder.mkdir(parents=True, exist_ok=True)
            for archive in archives:
                shutil.copy(archive, pool)
            index = packages.run(["apt-ftparchive", "packages", str(pool.relative_to(place))], cwd=place)
            (binary / "Packages").write_text(index)
        return self.sign_docker()

    def sign_docker(self) -> str:
        """Sign the indices of Docker's repository as they are, with a new key; its fingerprint."""
        place = self.folder / DOCKER
        suites = sorted((place / "dists").iterdir())
        for suite in suites:
            for stale in ("Release", "InRelease"):
                (suite / stale).unlink(missing_ok=True)
            (suite / "Release").write_text(packages.run(["apt-ftparchive", "release", "."], cwd=suite))
        return packages.sign(suites, place / "gpg")


@contextmanager
def served(folder: Path) -> Iterator[Sites]:
    """The sites, empty yet, on a port of loopback."""
    vendors = Sites(folder)

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            vendors.requests.append(self.path)

        def log_message(self, format: str, *args: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    with running(ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))) as server:
        vendors.url = f"http://127.0.0.1:{server.server_port}"
        yield vendors
