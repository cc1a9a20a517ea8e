"""Makes the node's disk: Debian 13 with Docker, QEMU and what a Kata guest needs, and no package source left."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

from tools.cache import SetupError
from tools.image import boot
from tools.image.packages import COMPONENT, SUITE, TOOL_PATH, ToolError, run

HERE = Path(__file__).resolve().parent
# Sparse: a fresh disk takes about 1 GiB; the rest is room for Kata releases and container images.
DISK_SIZE = "12G"
PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "kmod", "udev", "systemd-sysv", "dbus", "init-system-helpers"),
    *("openssh-server", "sudo", "python3", "ca-certificates", "curl", "xz-utils", "zstd", "procps"),
    *("iptables", "iproute2", "iputils-ping"),
    *("qemu-system-x86", "virtiofsd", "busybox-static", "bubblewrap"),
)
DOCKER = ("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras")


class NoMirror(SetupError):
    """This machine's apt has no Debian archive."""

    def __init__(self) -> None:
        super().__init__(
            "apt on this machine has no Debian archive to build the node from. "
            "Have a Debian mirror in /etc/apt/sources.list.d and run: apt-get update"
        )


def debian_mirror(listing: str) -> str:
    """The Debian archive's address out of `apt-get indextargets` in the form of `LISTING`.

    Security and update suites carry other labels or names and do not count. Raises `NoMirror`.
    """
    for line in listing.splitlines():
        address, _, rest = line.partition(" ")
        if rest == "main|Debian":
            return address
    raise NoMirror


LISTING = "$(REPO_URI) $(COMPONENT)|$(LABEL)"


def transfer_options(dump: str) -> list[str]:
    """apt's own settings for how this machine reaches its mirror (proxies, clock checks), from `apt-config dump`."""
    options = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")
    lines = [line.rstrip(";") for line in dump.splitlines() if line.startswith(options)]
    return [line for line in lines if not line.endswith('""')]


def bootstrap_command(mirror: str, options: list[str], repository: Path, version: str, root: Path) -> list[str]:
    """The mmdebstrap call: Debian from `mirror`, Docker `version` from `repository`, both by one apt installation."""
    docker = [f"{name}={version}" for name in DOCKER]
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--architectures=amd64",
        f"--include={','.join([*PACKAGES, 'containerd.io', *docker])}",
        # apt's own unprivileged user cannot read a cache below root's home.
        '--aptopt=APT::Sandbox::User "root"',
        *(f"--aptopt={option}" for option in options),
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/docker*",
        f"--essential-hook={HERE / 'prepare'}",
        f"--customize-hook={HERE / 'customize'}",
        SUITE,
        str(root),
        f"deb {mirror} {SUITE} main",
        f"deb [signed-by={repository.parent / 'docker.asc'}] copy://{repository} {SUITE} {COMPONENT}",
    ]


def bootstrap(repository: Path, version: str, root: Path) -> None:
    """Unpack and install the node's system into `root`.

    Raises `NoMirror`, or `ToolError` with the last lines of mmdebstrap's log.
    """
    mirror = debian_mirror(run(["apt-get", "indextargets", "--format", LISTING, "Created-By: Packages"]))
    options = transfer_options(run(["apt-config", "dump"]))
    # apt reads an armoured key only from a file that ends in .asc.
    shutil.copyfile(repository / "gpg", repository.parent / "docker.asc")
    log = root.parent / "mmdebstrap.log"
    environment = {**os.environ, "PATH": TOOL_PATH, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        with log.open("wb") as output:
            status = run_group(bootstrap_command(mirror, options, repository, version, root), environment, output)
        if status != 0:
            raise ToolError("mmdebstrap", status, log.read_text(errors="replace"))
    finally:
        (repository.parent / "docker.asc").unlink()
        log.unlink()


def run_group(command: list[str], environment: dict[str, str], output: IO[bytes]) -> int:
    """Run `command` as a process group of its own and return its status.

    An interruption ends the whole group, with apt and dpkg in the new root folder, before it is raised further.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    try:
        return child.wait()
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(20)
        raise


def make_disk(root: Path, folder: Path) -> None:
    """Write `disk.raw`, `kernel` and `initrd.img` into `folder` from the installed system in `root`."""
    shutil.copyfile(root / "vmlinux", folder / "kernel")
    (folder / "initrd.img").write_bytes(boot.initrd_of(root))
    disk = folder / "disk.raw"
    run(["mkfs.ext4", "-q", "-L", "node", "-m", "0", "-E", "lazy_itable_init=1", "-d", str(root), str(disk), DISK_SIZE])
