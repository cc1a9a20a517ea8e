"""What the hosts of the benchmark install: small packages in a signed apt repository, and a small archive shaped like Kata's."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.clusterkit.reports import report
from tools import cache
from tools.image import archive, packages, rootfs
from tools.image.packages import SUITE, DockerBinaries

PLAYED = Path(__file__).resolve().parent / "played"
DOCKER = "27.5.1"
PYTHON_APT = ("python3-apt", "python-apt-common", "distro-info-data")
"""What Ansible's module apt needs on a host, and would otherwise install itself."""
QEMU = """\
#!/bin/sh
# Plays a guest that boots at once and passes the ladder: its lines, with the nonce of the RAM disk and the command line.
while [ $# -gt 0 ]; do
    case $1 in
        -initrd) initrd=$2 ;;
        -append)
            append=$(printf %s "$2" | sed 's/%/%25/g; s/ /%20/g')
            limit=$(printf %s "$2" | sed 's/.*sysctl[.]user[.]max_user_namespaces=//; s/[^0-9].*//')
            ;;
    esac
    shift
done
nonce=$(grep -aom1 'KATA_NODES_NONCE=[0-9a-f]*' "$initrd")
nonce=${nonce#*=}
cat <<LINES
@LINES@
LINES
sleep 10
"""
"""Of a guest under QEMU on a machine without KVM the boot alone takes some seconds of a processor."""


@dataclass(frozen=True)
class Site:
    """The folder to serve, the key of its repository, and the archive in it."""

    folder: Path
    fingerprint: str
    archive: str
    sha256: str


def played_qemu() -> str:
    """A program that takes the place of QEMU."""
    lines = report(
        "$nonce", command_line="status=ok value=$append detail=", user_namespaces="status=ok value=${limit:-7563} detail="
    )
    return QEMU.replace("@LINES@", lines.rstrip("\n"))


def build(folder: Path, work: Path) -> Site:
    """Make both in `folder`."""
    binaries = DockerBinaries(DOCKER, PLAYED / "dockerd", PLAYED / "docker", PLAYED / "docker")
    fingerprint = packages.build_repository(folder, [binaries], work)
    sources = archive.ArchiveSources(busybox=b"", shim=None, agent=archive.IDLE, boot_modules=(), network_modules=())
    kata = archive.build_archive(folder, sources)
    return Site(folder, fingerprint, kata["file"], kata["sha256"])


def python_apt() -> list[Path]:
    """Debian's packages of `PYTHON_APT`, downloaded once."""

    def download(folder: Path) -> None:
        mirror = rootfs.debian_mirror(
            packages.run(["apt-get", "indextargets", "--format", rootfs.LISTING, "Created-By: Packages"])
        )
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        key = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (folder / "sources.list").write_text(f"deb [signed-by={key}] {mirror} {SUITE} main\n")
        settings = {
            "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "-", "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache", "Acquire::Languages": "none", "APT::Sandbox::User": "root",
        }  # fmt: skip
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        for argv in (["update", "-qq"], ["download", "-qq", *PYTHON_APT]):
            subprocess.run(["apt-get", *options, *argv], cwd=folder, check=True, stdin=subprocess.DEVNULL)

    name = f"bench-python-apt-{cache.key([SUITE, *PYTHON_APT])}"
    return sorted(cache.entry(name, download, "Downloading python3-apt for the hosts of the benchmark").glob("*.deb"))
