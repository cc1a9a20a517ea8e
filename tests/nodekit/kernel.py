"""Finds a kernel that guests of the tests boot: the machine's own, or Debian's cloud kernel by apt, kept in the cache."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

META = "linux-image-cloud-amd64"


def find_kernel() -> Path:
    """A readable /boot/vmlinuz-*, else the cached one, else a downloaded one; skips the test where none is available."""
    own = sorted(path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK))
    if own:
        return own[-1]
    base = os.environ.get("KATA_NODES_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kata-nodes"
    folder = Path(base) / "kernel"
    cached = sorted(folder.glob("vmlinuz-*"))
    if cached:
        return cached[-1]
    if shutil.which("apt-get") is None:
        pytest.skip("no kernel in /boot, and no apt-get to download one")
    folder.mkdir(parents=True, exist_ok=True)
    described = subprocess.run(["apt-cache", "show", META], capture_output=True, text=True, timeout=60, check=True).stdout
    match = re.search(r"^Depends: (linux-image-\S+)", described, flags=re.MULTILINE)
    assert match is not None, described
    with tempfile.TemporaryDirectory(dir=folder) as work:
        subprocess.run(["apt-get", "download", "-q", match[1]], cwd=work, timeout=240, check=True, capture_output=True)
        (package,) = Path(work).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), f"{work}/x"], timeout=120, check=True)
        (kernel,) = Path(work, "x/boot").glob("vmlinuz-*")
        return kernel.rename(folder / kernel.name)
