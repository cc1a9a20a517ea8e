"""Get everything that stack `local` runs on this machine: Debian packages, servers, node image. Prints it as JSON."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tools import cache, docker_site, get, official, sites
from tools.cache import SetupError, exit_status, say
from tools.environment import OWN_BACKEND as OWN_STACK
from tools.image import build as image
from tools.image.packages import DockerBinaries, DockerRelease

HERE = Path(__file__).resolve().parent
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def supported() -> None:
    """Raise SetupError where no local node can be made: its packages are Debian's and Docker's for x86-64."""
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        raise SetupError(
            f"Stack {OWN_STACK} makes its node on Linux on x86_64, and this machine is {machine}. Use another stack: "
            "make new-stack writes one for hosts of yours, or for AWS."
        )


def missing_packages() -> list[str]:
    """Debian packages of debian-packages.txt whose program is not there."""
    lines = [line.split() for line in (HERE / "debian-packages.txt").read_text().splitlines() if line and line[0] != "#"]
    return [package for program, package in lines if not shutil.which(program, path=SYSTEM_PATH)]


def system_packages() -> None:
    """Install what is missing, as root or by password-less sudo; raises SetupError with the command to run by hand."""
    missing = missing_packages()
    if not missing:
        return
    install(missing)
    if left := missing_packages():
        raise SetupError(f"Debian packages were installed, and {', '.join(left)} lack their program. Install them by hand.")


def install(missing: list[str]) -> None:
    """Install Debian packages, as root or by password-less sudo; raises SetupError with the command to run by hand."""
    argv = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    if not shutil.which("apt-get"):
        raise SetupError(f"These programs are missing, and this is not Debian: {', '.join(missing)}. Install them by hand.")
    root, steps = os.geteuid() == 0, ("apt-get update", " ".join(argv))
    if not root and not shutil.which("sudo"):
        raise SetupError(
            f"The Debian packages {', '.join(missing)} could not be installed (this user is not root, and there is no sudo). "
            f"As root, run: {' && '.join(steps)}"
        )
    sudo = [] if root else ["sudo", "-n"]
    by_hand = f"Run: {' && '.join(steps if root else [f'sudo {step}' for step in steps])}"
    say(f"Installing Debian packages: {', '.join(missing)} ...")
    begin = time.monotonic()
    for step in (["apt-get", "update", "--quiet"], argv):
        with cache.interrupted_afterwards():  # a killed apt-get leaves packages half installed
            result = subprocess.run(
                [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *step],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
    if result.returncode != 0:
        why = result.stderr.strip().splitlines()[-1:] or [f"apt-get ended with {result.returncode}"]
        raise SetupError(f"The Debian packages {', '.join(missing)} could not be installed ({why[0]}). {by_hand}")
    say(f"Installing Debian packages: done in {time.monotonic() - begin:.0f} s")


def built_docker() -> list[DockerRelease]:
    """Both Docker releases, built from Go modules; raises SetupError."""
    programs = ("dockerd", "docker-proxy", "docker")
    return [
        DockerBinaries(release, *(get.path(f"{name}-{release.partition('.')[0]}") for name in programs))
        for release in (origin.release for origin in docker_site.ORIGINS)
    ]


def docker() -> list[DockerRelease]:
    """Both Docker releases: what was built before, else Docker's own packages, else built now; raises SetupError."""
    names = [f"{name}-{origin.release.partition('.')[0]}" for name in ("dockerd", "docker") for origin in docker_site.ORIGINS]
    can_build = get.can_build()
    if can_build and all(get.is_built(name) for name in names):
        return built_docker()
    try:
        return [*docker_site.releases()]
    except official.Unavailable as error:
        if not can_build:
            raise SetupError(
                f"Docker's packages cannot be downloaded ({error}), and there is no Go 1.26 or newer to build Docker with. "
                f"Check the connection and its proxy, set {sites.MIRROR} to a mirror, or install Go."
            ) from error
        say(f"Docker's packages cannot be downloaded ({error}); building Docker instead")
    return built_docker()


def stand_in() -> image.StandIn | None:
    """The programs that take the place of Kata's shim and agent; None where no Go builds them."""
    if not get.can_build():
        say(f"Without Go there is no stand-in for Kata's shim: stack {OWN_STACK} proves its guests, and starts no container.")
        return None
    return image.StandIn(get.path("kata-stand-in-shim"), get.path("kata-stand-in-agent"))


def parts() -> dict[str, object]:
    """Paths of the servers and of what the node image consists of, after making what is missing; raises SetupError."""
    supported()
    system_packages()
    servers = {name: str(get.path(name)) for name in ("etcd", "kube-apiserver")}
    return {**servers, **image.ensure(docker(), stand_in())}


def newest_image() -> str | None:
    """Folder of the node image that was built last; None where none was."""
    images = list((cache.root() / "image").glob("*/image.json"))
    return str(max(images, key=lambda file: file.stat().st_mtime).parent) if images else None


def main(argv: Sequence[str]) -> int:
    """Print the parts, or with `--newest-image` the folder of the newest node image, and make nothing."""
    cli = argparse.ArgumentParser(prog="tools.local", description=__doc__, allow_abbrev=False)
    cli.add_argument(
        "--newest-image", action="store_true", help="print the folder of the newest node image, or null; make nothing"
    )
    answer: Callable[[], object] = newest_image if cli.parse_args(argv).newest_image else parts
    return exit_status(lambda: print(json.dumps(answer(), indent=1)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
