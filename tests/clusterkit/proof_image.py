"""The image of the proof, made of its Debian and npm packages without a registry, as its Containerfile says."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from tools import cache
from tools.image.rootfs import LISTING, debian_mirror, transfer_options

FOLDER = Path(__file__).resolve().parents[2] / "images" / "proof"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
NPM_FILES = ("package.json", "package-lock.json")


def packages() -> list[str]:
    """The Debian packages of the image."""
    (listed,) = re.findall(r"--no-install-recommends \\\n *(.*) \\\n", CONTAINERFILE)
    return str(listed).split()


def output(*argv: str) -> str:
    """What a command prints."""
    return subprocess.run(argv, text=True, capture_output=True, check=True).stdout


def build(root: Path, *, sandbox_runtime: bool = True) -> None:
    """The image's file system in the new folder `root`; without sandbox-runtime, what npm brings and Node.js are left out."""
    mirror = debian_mirror(output("apt-get", "indextargets", "--format", LISTING, "Created-By: Packages"))
    options = [f"--aptopt={option}" for option in transfer_options(output("apt-config", "dump"))]
    included = [name for name in packages() if sandbox_runtime or name != "nodejs"]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(included)}", *options]
    argv += ['--aptopt=APT::Sandbox::User "root"', '--aptopt=APT::Install-Recommends "false"']
    result = subprocess.run(
        [*argv, "trixie", str(root), f"deb {mirror} trixie main"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")  # as the kubelet writes it
    if not sandbox_runtime:
        return
    program = root / "opt" / "kata-nodes-proof"
    program.mkdir()
    for name in NPM_FILES:
        shutil.copy(FOLDER / name, program)
    npm = re.findall(r"^RUN (npm ci .*)$", CONTAINERFILE, re.MULTILINE)[0].split()
    subprocess.run(npm, cwd=program, check=True, capture_output=True)
    ((target, link),) = re.findall(r"^RUN ln -s (\S+) (\S+)$", CONTAINERFILE, re.MULTILINE)
    (root / link.lstrip("/")).symlink_to(target)


def layer(*, sandbox_runtime: bool = False) -> Path:
    """The file system as a tar archive, from the cache; by default without sandbox-runtime: emulated guests take long with it."""

    def make(folder: Path) -> None:
        root = folder / "root"
        build(root, sandbox_runtime=sandbox_runtime)
        with tarfile.open(folder / "layer.tar", "w") as tar:
            tar.add(root, arcname=".")
        shutil.rmtree(root)

    key = cache.key([CONTAINERFILE, Path(__file__), *((FOLDER / name for name in NPM_FILES) if sandbox_runtime else ())])
    name = "proof-image-srt" if sandbox_runtime else "proof-image"
    return cache.entry(f"{name}-{key}", make, "Building the proof's image (about 1 min, once)") / "layer.tar"
