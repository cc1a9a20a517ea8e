"""The controller's image, made of Debian's Python and the locked packages without a registry, as its Containerfile says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.clusterkit.proof_image import output
from tools.image.rootfs import LISTING, debian_mirror, transfer_options

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "clusterkit" / "controller"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
PYTHON = re.findall(r"^ARG PYTHON=\S+/python:(3\.\d+)", CONTAINERFILE, re.MULTILINE)[0]
"""Version of Python, which Debian 13 has too."""
ENVIRONMENT = dict(pair.split("=", 1) for pair in re.findall(r"^ENV (.*)$", CONTAINERFILE, re.MULTILINE)[0].split())
ENTRY = re.findall(r'"([^"]*)"', re.findall(r"^ENTRYPOINT \[(.*)\]$", CONTAINERFILE, re.MULTILINE)[0])
USER = int(re.findall(r"^USER (\d+):\d+$", CONTAINERFILE, re.MULTILINE)[0])
WORKDIR = re.findall(r"^WORKDIR (\S+)$", CONTAINERFILE, re.MULTILINE)[0]


def build(root: Path) -> None:
    """The image's file system in the new folder `root`."""
    mirror = debian_mirror(output("apt-get", "indextargets", "--format", LISTING, "Created-By: Packages"))
    options = [f"--aptopt={option}" for option in transfer_options(output("apt-config", "dump"))]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--include=python3,ca-certificates", *options]
    argv += ['--aptopt=APT::Sandbox::User "root"', '--aptopt=APT::Install-Recommends "false"']
    result = subprocess.run(
        [*argv, "trixie", str(root), f"deb {mirror} trixie main"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (root / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
    (installed,) = re.findall(r"^RUN python -m (pip install .*)$", CONTAINERFILE, re.MULTILINE)
    arguments = [
        f"{root}{part}" if part == "/packages" else str(FOLDER / part[1:]) if part == "/requirements.txt" else part
        for part in installed.split()
    ]
    # For the image's Python and not this machine's.
    subprocess.run(
        [sys.executable, "-m", *arguments, "--python-version", PYTHON, "--implementation", "cp", "--quiet"],
        check=True,
        capture_output=True,
    )
    for sources, target in re.findall(r"^COPY (?!--)(.*) (/program/\S*)$", CONTAINERFILE, re.MULTILINE):
        place = root / target.lstrip("/")
        (place if target.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", *(str(ROOT / source) for source in sources.split()), str(place)], check=True)


def command(root: Path, *arguments: str) -> list[str]:
    """What runs the image's entry, as its user and in its file system."""
    user = f"--userspec={USER}:{USER}"
    named = [f"{name}={value}" for name, value in {"PATH": "/usr/local/bin:/usr/bin:/bin", **ENVIRONMENT}.items()]
    # KUBECONFIG stands for the service account's files, which a kubelet would mount.
    return ["chroot", user, str(root), "env", "-C", WORKDIR, *named, *ENTRY, *arguments]
