"""Builds, once, the node image, the signed apt repository and the Kata archive that a local stack uses.

    python3 -m tools.image.build --docker-28 DOCKERD PROXY CLI --docker-27 DOCKERD PROXY CLI --stand-in SHIM AGENT

prints one JSON document with the paths of what was made; progress goes to standard error. Everything lies in a
folder of the cache named after a digest of all that it was built from, so a second run builds nothing. Needs
root: packages are installed into a new root folder.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tools import cache
from tools.cache import SetupError, say
from tools.image import archive, packages, rootfs
from tools.image.packages import DockerBinaries

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


def digest(releases: list[DockerBinaries], stand_in: StandIn) -> str:
    """A name for exactly this image: 16 hex digits over the binaries and the files of this folder."""
    total = hashlib.sha256()
    sources = sorted(path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for name, path in [
        *((str(path.relative_to(HERE)), path) for path in sources),
        *(
            (f"{release.release} {part}", path)
            for release in releases
            for part, path in (("daemon", release.daemon), ("proxy", release.proxy), ("client", release.client))
        ),
        ("shim", stand_in.shim),
        ("agent", stand_in.agent),
    ]:
        with path.open("rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what runs and how long it took."""
    say(f"  {name} ...")
    start = time.monotonic()
    yield
    say(f"  {name}: {time.monotonic() - start:.0f} s")


def build(folder: Path, current: DockerBinaries, previous: DockerBinaries, stand_in: StandIn) -> None:
    """Make everything in the empty `folder`; `image.json` comes last."""
    site, work, root = folder / "site", folder / "work", folder / "root"
    site.mkdir()
    work.mkdir()
    with step("Docker packages and signed repository"):
        fingerprint = packages.build_repository(site, [current, previous], work)
    with step("Debian 13 with Docker (downloads about 200 MB)"):
        rootfs.bootstrap(site / "debian", current.version, root)
    with step("Kata archive"):
        parts = archive.Parts(
            busybox=(root / "usr/bin/busybox").read_bytes(),
            shim=stand_in.shim.read_bytes(),
            agent=stand_in.agent.read_bytes(),
            boot_modules=archive.kernel_modules(root, archive.BOOT_MODULES),
            network_modules=archive.kernel_modules(root, archive.NETWORK_MODULES),
        )
        kata = archive.build_archive(site, parts)
    with step("disk"):
        rootfs.make_disk(root, folder)
    shutil.rmtree(root)
    shutil.rmtree(work)
    document = {"fingerprint": fingerprint, "archive": kata, "docker": [current.version, previous.version]}
    (folder / "image.json").write_text(json.dumps(document), encoding="utf-8")


def ensure(docker_28: Sequence[str | Path], docker_27: Sequence[str | Path], stand_in: Sequence[str | Path]) -> dict[str, object]:
    """The image's description, after building it when the cache has none.

    The first two arguments are dockerd, docker-proxy and docker of one release: 28.5.2 is installed, 27.5.1 is there to
    change to. The third is the stand-in's shim and agent.
    Raises `SetupError` or `OSError`; a failed or interrupted build leaves nothing.
    """
    current = DockerBinaries("28.5.2", *(Path(part) for part in docker_28))
    previous = DockerBinaries("27.5.1", *(Path(part) for part in docker_27))
    shim, agent = (Path(part) for part in stand_in)
    programs = StandIn(shim, agent)
    name = digest([current, previous], programs)

    def make(folder: Path) -> None:
        if os.geteuid() != 0:
            raise SetupError("Building the node image installs packages into a new root folder. Run this once as root.")
        if missing := missing_tools():
            raise SetupError(f"The node image needs tools that are missing. Run: apt-get install {' '.join(missing)}")
        # The lock of this entry is held: what lies beside it under its name is from a build that was killed.
        for stale in folder.parent.glob(f".{name}-*"):
            if stale != folder:
                shutil.rmtree(stale)
        build(folder, current, previous, programs)

    folder = cache.entry(f"image/{name}", make, "Building the node image (about 2 min, once)")
    document: dict[str, object] = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    paths = {"disk": "disk.raw", "kernel": "kernel", "initrd": "initrd.img", "site": "site"}
    return {"digest": name, **{key: str(folder / file) for key, file in paths.items()}, **document}


def main(arguments: list[str]) -> int:
    """Print the image's description; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tools.image.build", description=(__doc__ or "").splitlines()[0])
    parts = ("DOCKERD", "PROXY", "CLI")
    parser.add_argument("--docker-28", nargs=3, metavar=parts, required=True, help="28.5.2, installed in the image")
    parser.add_argument("--docker-27", nargs=3, metavar=parts, required=True, help="27.5.1, in the repository")
    parser.add_argument("--stand-in", nargs=2, metavar=("SHIM", "AGENT"), required=True, help="for the Kata archive")
    given = parser.parse_args(arguments)

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        print(json.dumps(ensure(given.docker_28, given.docker_27, given.stand_in)))
    except (SetupError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; nothing is left.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
