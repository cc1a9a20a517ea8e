"""Docker's packages for the local node from Docker's own apt repository, checked as apt does: key, signature, index, package."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekit.errors import NodeError
from nodekit.rules.docker import openpgp
from nodekit.rules.docker.apt_source import DOCKER_FINGERPRINT
from nodekit.rules.docker.docker_packages import PACKAGES
from tools import cache, sites
from tools.cache import SetupError
from tools.image.packages import ARCHITECTURE, COMPONENT, SUITE, DockerArchives
from tools.official import Unavailable

REPOSITORY = "https://download.docker.com/linux/debian"
KEY = f"{REPOSITORY}/gpg"
CONTAINERD = ("containerd.io", f"1.7.29-1~debian.13~{SUITE}")


@dataclass(frozen=True)
class Origin:
    """Where one Docker release is in the repository."""

    release: str
    suite: str
    suffix: str
    """What follows the release in the version string of its packages."""


# Docker's repository of Debian 13 begins with 28.1.0 (docker/docker-ce-packaging#1246); 27.5.1 is that of Debian 12.
ORIGINS = (Origin("28.5.2", SUITE, f"1~debian.13~{SUITE}"), Origin("27.5.1", "bookworm", "1~debian.12~bookworm"))


def fetched(url: str) -> bytes:
    """A file of the repository; raises Unavailable and SetupError."""
    try:
        return sites.fetch(url)
    except OSError as error:
        raise Unavailable(str(error)) from error


def run_gpg(home: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """gpg with a home of its own; what it reports for programs is on standard output."""
    command = ["gpg", "--homedir", home, "--batch", "--no-tty", "--status-fd", "1", *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False)


def signed_text(signed: bytes, key: bytes, source: str) -> str:
    """The text that Docker's key has signed; raises SetupError for another key, and for a signature that is not its own."""
    try:
        keys = openpgp.primary_fingerprints(key)
    except NodeError:
        keys = []
    if keys != [DOCKER_FINGERPRINT]:
        raise SetupError(
            f"The key at {sites.address(KEY)} is {', '.join(keys) or 'no OpenPGP key'}, and Docker's is {DOCKER_FINGERPRINT}. "
            "Check that the site, its mirror or a proxy returns the file itself."
        )
    # A short path: the agent's socket name is bounded (unix(7): 108 bytes).
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        place = Path(home)
        (place / "key").write_bytes(key)
        (place / "signed").write_bytes(signed)
        run_gpg(home, "--import", str(place / "key"))
        result = run_gpg(home, "--output", str(place / "text"), "--verify", str(place / "signed"))
        signers = re.findall(r"^\[GNUPG:\] VALIDSIG .* ([0-9A-F]{40})$", result.stdout, re.MULTILINE)
        if result.returncode != 0 or DOCKER_FINGERPRINT not in signers:
            raise SetupError(
                f"{source} has no valid signature of Docker's key {DOCKER_FINGERPRINT}. Run the command again; where that does "
                "not help, the mirror or a proxy holds a damaged or a changed copy."
            )
        return (place / "text").read_text(encoding="utf-8")


def stanzas(index: str) -> dict[tuple[str, str], dict[str, str]]:
    """The entries of a Packages file by name and version."""
    entries = [dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", text, re.MULTILINE)) for text in index.split("\n\n")]
    return {(entry["Package"], entry["Version"]): entry for entry in entries if {"Package", "Version"} <= entry.keys()}


def index(suite: str) -> dict[tuple[str, str], dict[str, str]]:
    """The packages of one suite, from an index that Docker's key vouches for; raises Unavailable and SetupError."""
    folder = f"{REPOSITORY}/dists/{suite}"
    key, signed = fetched(KEY), fetched(f"{folder}/InRelease")
    source = sites.address(f"{folder}/InRelease")
    release = signed_text(signed, key, source)
    name = f"{COMPONENT}/binary-{ARCHITECTURE}/Packages"
    listed = re.search(rf"^SHA256:\n(?:^ .*\n)*?^ ([0-9a-f]{{64}}) +\d+ {re.escape(name)}$", release, re.MULTILINE)
    if not listed:
        raise SetupError(f"{source} lists no sha256 of {name}. Report this to this project: the layout has changed.")
    url = f"{folder}/{name}"
    return stanzas(sites.summed(fetched(url), listed[1], sites.address(url), source).decode())


def package(entries: Mapping[tuple[str, str], Mapping[str, str]], name: str, version: str, suite: str, folder: Path) -> Path:
    """One package of an index, in `folder`; raises Unavailable and SetupError."""
    entry = entries.get((name, version))
    if not entry or not {"Filename", "SHA256"} <= entry.keys():
        known = ", ".join(sorted(version for package, version in entries if package == name)[-4:]) or "none"
        raise SetupError(
            f"Docker's repository has no {name} {version} in {suite} (there are {known}). Report this to this project."
        )
    url = f"{REPOSITORY}/{entry['Filename']}"
    file = folder / f"{name}_{version.partition(':')[2] or version}_{ARCHITECTURE}.deb"
    file.write_bytes(sites.summed(fetched(url), entry["SHA256"], sites.address(url), f"the index of {suite}"))
    return file


def download(folder: Path) -> None:
    """Put every package into `folder`; raises Unavailable and SetupError."""
    if not shutil.which("gpg"):
        raise SetupError("Docker's packages cannot be verified without gpg. Run: apt-get install gnupg")
    indices = {suite: index(suite) for suite in dict.fromkeys([SUITE, *(origin.suite for origin in ORIGINS)])}
    for origin in ORIGINS:
        for name in PACKAGES:
            package(indices[origin.suite], name, f"5:{origin.release}-{origin.suffix}", origin.suite, folder)
    package(indices[SUITE], *CONTAINERD, SUITE, folder)


def entry() -> str:
    """The name that the packages have in the cache."""
    return f"parts/docker-packages-{cache.key([repr(ORIGINS), repr(CONTAINERD)])}"


def releases() -> list[DockerArchives]:
    """The packages, by release, from the cache or the repository; raises Unavailable and SetupError."""
    folder = cache.entry(entry(), download, "Downloading Docker's packages from its apt repository")
    containerd = next(folder.glob("containerd.io_*.deb"))
    return [
        DockerArchives(
            origin.release, tuple(next(folder.glob(f"{name}_{origin.release}-*.deb")) for name in PACKAGES), containerd
        )
        for origin in ORIGINS
    ]
