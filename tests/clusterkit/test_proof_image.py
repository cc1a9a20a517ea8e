"""The image of the proof, made of the same Debian and npm packages without a registry: every rung that counts is climbed in it.

What would be lost if this failed: a good node would be refused since its proof lacks a tool, or srt would stand in the image and
not run.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterkit import images, pod
from nodekit.rules.proof import ladder
from nodekit.rules.proof.sandboxes import SANDBOXES
from nodekit.scripts import ladder_script, script
from tests.clusterkit import proof_image
from tests.clusterkit.proof_image import CONTAINERFILE, FOLDER

LADDER = ladder_script()
NONCE, NODE_ID = "0123456789abcdef", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
INSIDE = """
set -eu
ip link set lo up
mount --bind "$1" "$1"
cd "$1"
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs masked proc/bus # as runtimes mask it
mount -t sysfs sys sys 2>/dev/null || mount --rbind /sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmp tmp
mkdir tmp/old
pivot_root . tmp/old
umount -l /tmp/old
cd /
mount -o remount,bind,ro /
shift
exec "$@"
"""
"""What a runtime does before it starts a container's process."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's file system."""
    place = tmp_path_factory.mktemp("image") / "root"
    proof_image.build(place)
    yield place
    shutil.rmtree(place)


def climbed(root: Path, *started: str) -> str:
    """What the ladder prints in a container of the image that starts so, on this machine's own kernel."""
    argv = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", str(root), *started]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "KATA_NODES_NONCE": NONCE,
        "HOME": "/tmp",
    }
    result = subprocess.run(
        [*argv, "/bin/sh", "-c", LADDER],
        stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.apt
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("npm"), reason="needs root, and npm for what the image has from it")
def test_every_rung_that_counts_is_climbed_in_the_image_behind_the_templates_entry(root: Path) -> None:
    template = pod.template("image", "kata-qemu", {}, entry=script("entry.sh"))
    command = template["spec"]["containers"][0]["command"]  # type: ignore[index]
    transcript = climbed(root, *command)
    for sandbox in SANDBOXES:
        judged = ladder.judge(transcript, NONCE, NODE_ID, [], sandbox=sandbox, place="pod")
        assert judged.passed, judged
        rungs = {rung.name: rung for rung in judged.rungs}
        assert not [rung for rung in rungs.values() if rung.counts and not rung.passed]
    rungs = {rung.name: rung for rung in ladder.judge(transcript, NONCE, NODE_ID, [], place="pod").rungs}
    assert rungs["sandbox-runtime"].passed and rungs["sandbox-runtime-proxy"].passed, "srt itself runs, not only its calls"
    as_user = ladder.judge(climbed(root, *command, "--user", "1000"), NONCE, NODE_ID, [], place="pod")
    assert as_user.passed, as_user.message
    # The template's ordinary user has no entry: only what works for it counts, and only that is promised.
    ordinary = (
        "setpriv",
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    )
    weaker = ladder.judge(climbed(root, *ordinary), NONCE, NODE_ID, [], place="pod")
    rungs = {rung.name: rung for rung in weaker.rungs}
    assert weaker.passed and rungs["srt-call-weaker"].counts and not rungs["sandbox-runtime"].counts
    # Without the entry the masks stay, and the proof fails: it does not pass a sandbox that would not start.
    bare = ladder.judge(climbed(root), NONCE, NODE_ID, [], place="pod")
    assert bare.code in ("proof-bwrap-failed", "proof-srt-failed") and "masked" in bare.message


def test_the_image_is_of_the_base_that_is_pinned_and_of_packages_that_are() -> None:
    (base,) = re.findall(r"^ARG DEBIAN=(\S+)$", CONTAINERFILE, re.MULTILINE)
    assert base == images.PROOF
    lock = (FOLDER / "package-lock.json").read_text()
    assert lock.count('"integrity": "sha512-') == lock.count('"node_modules/') and "resolved" not in lock
