"""Have everything that stack `local` runs on this machine: Debian packages, servers, node image. Prints it as JSON."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools import get
from tools.cache import SetupError, exit_status, say
from tools.image import build as image

HERE = Path(__file__).resolve().parent
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """Debian packages of debian-packages.txt whose program is not there."""
    lines = [line.split() for line in (HERE / "debian-packages.txt").read_text().splitlines() if line and line[0] != "#"]
    return [package for program, package in lines if not shutil.which(program, path=SYSTEM_PATH)]


def system_packages() -> None:
    """Install what is missing, as root or by password-less sudo; raises SetupError with the command to run by hand."""
    missing = missing_packages()
    if not missing:
        return
    argv = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    by_hand = f"Run: sudo apt-get update && sudo {' '.join(argv)}"
    if not shutil.which("apt-get"):
        raise SetupError(f"These programs are missing, and this is no Debian: {', '.join(missing)}. Install them by hand.")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    say(f"Installing Debian packages: {', '.join(missing)} ...")
    begin = time.monotonic()
    for step in (["apt-get", "update", "--quiet"], argv):
        done = subprocess.run(
            [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *step],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0 or (left := missing_packages()):
        why = done.stderr.strip().splitlines()[-1:] or [f"still missing: {', '.join(left)}"]
        raise SetupError(f"The Debian packages {', '.join(missing)} could not be installed ({why[0]}). {by_hand}")
    say(f"Installing Debian packages: done in {time.monotonic() - begin:.0f} s")


def parts() -> dict[str, object]:
    """Paths of the servers and of what the node image consists of, after making what is missing."""
    system_packages()
    servers = {name: str(get.path(name)) for name in ("etcd", "kube-apiserver")}
    programs = ("dockerd", "docker-proxy", "docker")
    docker = {release: [get.path(f"{name}-{release}") for name in programs] for release in ("28", "27")}
    stand_in = [get.path(name) for name in ("kata-stand-in-shim", "kata-stand-in-agent")]
    return {**servers, **image.ensure(docker_28=docker["28"], docker_27=docker["27"], stand_in=stand_in)}


def main() -> int:
    """Print the parts."""
    return exit_status(lambda: print(json.dumps(parts(), indent=1)))


if __name__ == "__main__":
    sys.exit(main())
