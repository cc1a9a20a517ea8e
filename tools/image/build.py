"""Builds, once, the node image, the signed apt repository and the Kata archive that a local stack uses.

Everything lies in a folder of the cache named after a digest of all that it was built from, so a second run builds nothing.
Needs root: packages are installed into a new root folder.
"""

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools import cache
from tools.cache import SetupError, say
from tools.image import archive, boot, packages, rootfs
from tools.image.packages import DockerRelease

HERE = Path(__file__).resolve().parent
# Where each tool comes from on Debian, for the message when one is missing.
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "apt-ftparchive": "apt-utils",
    "gpg": "gpg",
    "gpgconf": "gpgconf",
    "gpg-agent": "gpg-agent",
}


def missing_tools() -> list[str]:
    """Debian packages of the tools that this machine lacks."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=packages.TOOL_PATH) is None})


@dataclass(frozen=True)
class StandIn:
    """The programs that take the place of Kata's shim and agent."""

    shim: Path
    agent: Path


def digest(releases: Sequence[DockerRelease], stand_in: StandIn | None) -> str:
    """A name for exactly this image: 16 hex digits over what it is made of and the files of this folder."""
    total = hashlib.sha256()
    sources = sorted(path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    programs = {"shim": stand_in.shim, "agent": stand_in.agent} if stand_in else {}
    for name, path in [
        *((str(path.relative_to(HERE)), path) for path in sources),
        *((f"{release.release} {part}", path) for release in releases for part, path in release.files.items()),
        *programs.items(),
    ]:
        with path.open("rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print what runs and how long it took."""
    say(f"  {name} ...")
    start = time.monotonic()
    yield
    say(f"  {name}: {time.monotonic() - start:.0f} s")


def build(folder: Path, releases: Sequence[DockerRelease], stand_in: StandIn | None) -> None:
    """Make everything in the empty `folder`; `image.json` comes last."""
    site, work, root = folder / "site", folder / "work", folder / "root"
    site.mkdir()
    work.mkdir()
    current = releases[0]
    with step("Docker packages and signed repository"):
        fingerprint = packages.build_repository(site, releases, work)
    with step("Debian 13 with Docker (downloads about 200 MB)"):
        rootfs.bootstrap(site / "debian", current.version, root)
        boot.add_vmlinux(root)
    with step("Kata archive"):
        parts = archive.ArchiveSources(
            busybox=(root / "usr/bin/busybox").read_bytes(),
            shim=stand_in.shim.read_bytes() if stand_in else None,
            agent=stand_in.agent.read_bytes() if stand_in else archive.IDLE,
            boot_modules=archive.kernel_modules(root, archive.BOOT_MODULES),
            network_modules=archive.kernel_modules(root, archive.NETWORK_MODULES),
        )
        kata = archive.build_archive(site, parts)
    with step("disk"):
        rootfs.make_disk(root, folder)
    shutil.rmtree(root)
    shutil.rmtree(work)
    document = {
        "fingerprint": fingerprint,
        "archive": kata,
        "docker": [release.version for release in releases],
        "containers": stand_in is not None,
    }
    (folder / "image.json").write_text(json.dumps(document), encoding="utf-8")


def ensure(releases: Sequence[DockerRelease], stand_in: StandIn | None) -> dict[str, object]:
    """The image's description, after building it when the cache has none.

    The first release is installed; a node can change to the others. Without a stand-in for Kata's shim and agent, a node
    starts no container of the runtime.
    Raises `SetupError` or `OSError`; a failed or interrupted build leaves nothing.
    """
    name = digest(releases, stand_in)

    def make(folder: Path) -> None:
        if os.geteuid() != 0:
            # PATH: sudo's own lacks Go, and without it another image is built than the one that is missing here.
            raise SetupError(
                "Building the node image installs packages into a new root folder, which needs root. Run once, in the checkout: "
                f'sudo env PATH="$PATH" {cache.CACHE}={shlex.quote(str(cache.root()))} python3 -m tools.local'
            )
        if missing := missing_tools():
            raise SetupError(f"The node image needs tools that are missing. Run: apt-get install {' '.join(missing)}")
        # The lock of this entry is held: what lies beside it under its name is from a build that was killed.
        for stale in folder.parent.glob(f".{name}-*"):
            if stale != folder:
                shutil.rmtree(stale)
        build(folder, releases, stand_in)

    folder = cache.entry(f"image/{name}", make, "Building the node image (about 2 min, once)")
    document: dict[str, object] = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    paths = {"disk": "disk.raw", "kernel": "kernel", "initrd": "initrd.img", "site": "site"}
    return {"digest": name, **{key: str(folder / file) for key, file in paths.items()}, **document}
