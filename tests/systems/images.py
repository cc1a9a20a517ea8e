"""Nodes with the systems that the local node image does not have, each from its own archive, with Docker as Docker packages it.

Made once, in the cache.
"""

import os
import shutil
import urllib.request
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from tests.nodekit import debian_node
from tests.nodekit.debian_node import Image
from tools import cache, docker_site, get
from tools.image import packages, rootfs
from tools.image.packages import ARCHITECTURE, COMPONENT, DockerBinaries

UBUNTU = "http://archive.ubuntu.com/ubuntu"
KEYRING = f"{UBUNTU}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
KEYRING_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"
"""The keys that sign Ubuntu's archive, which Debian does not have."""
PACKAGES = (
    *("apt", "apt-utils", "gpgv", "systemd-sysv", "dbus", "udev", "kmod", "init-system-helpers", "procps", "sudo"),
    *("openssh-server", "python3", "ca-certificates", "curl", "xz-utils", "zstd", "iptables", "iproute2"),
    *("qemu-system-x86", "busybox-static", "bubblewrap"),
    *("needrestart", "unattended-upgrades"),  # which hook into apt
)
OF_UBUNTU = ("ubuntu-advantage-tools", "snapd")
"""Of Ubuntu's own images: they hook into apt, or work with it in the background."""
DISK_SIZE = "6G"


@dataclass(frozen=True)
class System:
    """A release of Debian or Ubuntu that a node may have; its name and version are as in os-release(5)."""

    suite: str
    name: str
    version: str
    packages: tuple[str, ...] = ()
    """What it has beside `PACKAGES`."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name.capitalize()} {self.version}"


NOBLE = System("noble", "ubuntu", "24.04", (*OF_UBUNTU, "virtiofsd"))
SYSTEMS = (System("bookworm", "debian", "12"), System("jammy", "ubuntu", "22.04", OF_UBUNTU), NOBLE)


@dataclass(frozen=True)
class PackagedDocker(DockerBinaries):
    """A Docker release in packages for one of the systems."""

    system: System

    @property
    def version(self) -> str:
        """Version string in the form that Docker gives its packages for the system."""
        return f"5:{self.release}-1~{self.system.name}.{self.system.version}~{self.system.suite}"


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.suite)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Each of them in the place of the local node image: a file of tests that imports this has the tests of Debian run on it."""
    return image(request.param, tmp_path_factory.mktemp("site"))


def image(system: System, site: Path) -> Image:
    """The system with the newer Docker; `site` becomes the folder that is served to it.

    A test is skipped where Ubuntu's archive cannot be reached.
    """
    local = debian_node.image()
    kernel = Path(local.disk).parent / "kernel"
    releases = _releases(system)
    programs = [path for release in releases for path in release.files.values()]
    key = cache.key([system.suite.encode(), Path(__file__), Path(packages.__file__), kernel, *programs])
    announce = f"{system.title} as a node (downloads about 250 MB)"
    folder = cache.entry(f"system-{system.suite}-{key}", partial(_make, system, releases, kernel), announce)
    (site / system.name).symlink_to(folder / system.name)
    (site / local.archive["file"]).symlink_to(Path(local.site) / local.archive["file"])
    new, old = (release.version for release in releases)
    return Image(str(folder / "disk.raw"), str(site), (folder / "fingerprint").read_text(), local.archive, system.name, new, old)


def _releases(system: System) -> list[PackagedDocker]:
    """The newer Docker, and the one that nodes are moved to."""
    releases = []
    for release in (origin.release for origin in docker_site.ORIGINS):
        names = (f"{name}-{release.partition('.')[0]}" for name in ("dockerd", "docker-proxy", "docker"))
        daemon, proxy, client = map(get.path, names)
        releases.append(PackagedDocker(release, daemon, proxy, client, system))
    return releases


def _make(system: System, releases: list[PackagedDocker], kernel: Path, folder: Path) -> None:
    (folder / "fingerprint").write_text(_repository(system, releases, folder))
    docker = folder / "docker.asc"  # apt reads an armoured key only from a file that ends so
    shutil.copyfile(folder / system.name / "gpg", docker)
    root = folder / "root"
    docker_packages = [f"{name}={releases[0].version}" for name in rootfs.DOCKER]
    included = ",".join([*PACKAGES, *system.packages, "containerd.io", *docker_packages])
    options = ['APT::Sandbox::User "root"', *rootfs.transfer_options(packages.run(["apt-config", "dump"]))]
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--architectures={ARCHITECTURE}", f"--include={included}"]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale")]
    suite, archives = system.suite, _archives(system, folder)
    command += [suite, str(root), *archives, f"deb [signed-by={docker}] copy://{folder / system.name} {suite} {COMPONENT}"]
    environment = {**os.environ, "PATH": packages.TOOL_PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    log = folder / "mmdebstrap.log"
    with log.open("wb") as output:
        # As a group: one that is killed alone leaves the machine's /proc mounted in a folder that is about to be removed.
        status = rootfs.run_group(command, environment, output)
    assert status == 0, log.read_text(errors="replace")[-3000:]
    shutil.copyfile(kernel, root / "vmlinux")  # to which the local archive's kernel is a link
    _close(root)
    packages.run(["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", "-d", str(root), str(folder / "disk.raw"), DISK_SIZE])
    shutil.rmtree(root)


def _archives(system: System, folder: Path) -> list[str]:
    """Where the system's own packages come from, as lines of apt."""
    if system.name == "debian":
        mirror = rootfs.debian_mirror(
            packages.run(["apt-get", "indextargets", "--format", rootfs.LISTING, "Created-By: Packages"])
        )
        return [f"deb {mirror} {system.suite} main"]
    trusted = f"signed-by={_keyring(folder)}"
    return [f"deb [{trusted}] {UBUNTU} {system.suite}{pocket} main universe" for pocket in ("", "-updates")]


def _repository(system: System, releases: list[PackagedDocker], folder: Path) -> str:
    """Write the folder of the system's name, signed, as `packages.build_repository` does for the local image; return the key's
    fingerprint."""
    repository, suite = folder / system.name, system.suite
    work = folder / "work"
    work.mkdir()
    place = repository / "dists" / suite
    for release in releases:
        packages.add_release(release, place / "pool" / COMPONENT / ARCHITECTURE, work)
    shutil.rmtree(work)
    binary = place / COMPONENT / f"binary-{ARCHITECTURE}"
    binary.mkdir(parents=True)
    index = packages.run(["apt-ftparchive", "packages", f"dists/{suite}/pool"], cwd=repository)
    (binary / "Packages").write_text(index, encoding="utf-8")
    fields = {"Origin": "Docker", "Label": "Docker CE", "Suite": suite, "Codename": suite, "Components": COMPONENT}
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in {**fields, "Architectures": ARCHITECTURE}.items()]
    (place / "Release").write_text(packages.run(["apt-ftparchive", *options, "release", "."], cwd=place), encoding="utf-8")
    return packages.sign([place], repository / "gpg")


def _keyring(folder: Path) -> Path:
    """Ubuntu's keys, out of a package whose sum is known."""
    try:
        with urllib.request.urlopen(KEYRING, timeout=60) as answer:
            content = answer.read()
    except OSError as error:
        pytest.skip(f"Ubuntu's archive cannot be reached: {error}")
    assert sha256(content).hexdigest() == KEYRING_SHA256
    package, unpacked = folder / "keyring.deb", folder / "keyring"
    package.write_bytes(content)
    packages.run(["dpkg-deb", "--extract", str(package), str(unpacked)])
    return unpacked / "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def _close(root: Path) -> None:
    """Make of the new root a machine before its first boot, which has no package source."""
    for pattern in ("ssh/ssh_host_*", "apt/sources.list", "apt/sources.list.d/*", "apt/apt.conf.d/99mmdebstrap", "resolv.conf"):
        for file in (root / "etc").glob(pattern):
            file.unlink()
    (root / "etc/machine-id").write_text("")
