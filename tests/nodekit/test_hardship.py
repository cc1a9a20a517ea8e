"""What a real node can be like when the program comes: full, read-only, broken, busy. Each is one sentence with a remedy, and the
node is as it was."""

import json
from dataclasses import dataclass

import pytest

from tests.nodekit.debian_node import PROGRAM, DebianNode

pytestmark = [pytest.mark.debian, pytest.mark.timeout(600)]

RELEASE = "/opt/kata/share/defaults/kata-containers"
FILE = r"""printf '[hypervisor.qemu]\nkernel_params = "a=1"\n'"""
HAND = f"mkdir -p {RELEASE} && echo 3.32.0 > /opt/kata/VERSION && {FILE} > {RELEASE}/configuration.toml"
"""Lays out a Kata as somebody installs it by hand."""
# Filling ends, as it must, with "No space left".
FULL = "mkdir -p {0} && mount -t tmpfs -o size={1} tmpfs {0} && {{ cat /dev/zero > {0}/filler 2>/dev/null || true; }}"
IMPATIENT = """
import sys
sys.path.insert(0, sys.argv[1])
from nodekit.__main__ import main
from nodekit.commands import docker
docker.LOCK_SECONDS = 1
sys.exit(main([sys.argv[2]]))
"""
"""The node program, which waits a second for locks."""
HOLDER = 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w"); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(60)'
TURNED = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
READ_ONLY = "mkdir -p {0} && mount -t tmpfs -o ro tmpfs {0}"


@dataclass(frozen=True)
class Hardship:
    """A node in trouble: the script that makes it so, the verb that meets it, and the answer that helps."""

    script: str
    verb: str
    code: str
    says: tuple[str, ...]
    install: bool = False


HARDSHIPS = {
    "full where the journal lies": Hardship(
        FULL.format("/var/lib/kata-nodes", "8k"),
        "docker",
        "file-unwritable",
        ("/var/lib/kata-nodes", "No space left", "Free space"),
    ),
    "full where Docker's file lies": Hardship(
        FULL.format("/etc/docker", "8k"), "docker", "file-unwritable", ("/etc/docker/daemon.json", "No space left", "Free space")
    ),
    "full where packages are kept": Hardship(
        FULL.format("/var/cache/apt/archives", "64k") + " && mkdir -p /var/cache/apt/archives/partial",
        "docker",
        "package-install-failed",
        ("docker-ce", "enough free space"),
    ),
    "full where a release is installed": Hardship(
        FULL.format("/opt", "64k"), "kata", "file-unwritable", ("No space left", "needs about 2 GiB"), install=True
    ),
    "full where Kata's drop-in belongs": Hardship(
        f"{HAND} && "
        + FULL.format(f"{RELEASE}/config.d", "4k")
        + f" && : > {RELEASE}/config.d/filler && mount -o remount,nr_inodes=2 {RELEASE}/config.d",
        "kata",
        "file-unwritable",
        ("60-kata-nodes.toml", "No space left"),
    ),
    "read-only where Docker's file lies": Hardship(
        READ_ONLY.format("/etc/docker"),
        "docker",
        "file-unwritable",
        ("/etc/docker/daemon.json", "Read-only file system", "writable"),
    ),
    "read-only where dpkg keeps its database": Hardship(
        TURNED.format("/var/lib/dpkg"), "docker", "file-unwritable", ("/var/lib/dpkg", "Read-only file system", "writable")
    ),
    "read-only where a release is installed": Hardship(
        READ_ONLY.format("/opt"), "kata", "file-unwritable", ("Read-only file system", "writable"), install=True
    ),
    "read-only where Kata's drop-in belongs": Hardship(
        f"{HAND} && " + READ_ONLY.format(f"{RELEASE}/config.d"),
        "kata",
        "file-unwritable",
        ("60-kata-nodes.toml", "Read-only", "writable"),
    ),
    "broken TOML": Hardship(
        f"{HAND} && echo '[hypervisor.qemu' >> {RELEASE}/configuration.toml",
        "kata",
        "file-invalid",
        ("configuration.toml", "line 3", "Correct"),
    ),
    "a broken drop-in": Hardship(
        f"{HAND} && mkdir {RELEASE}/config.d && echo 'x = ' > {RELEASE}/config.d/20-theirs",
        "kata",
        "file-invalid",
        ("config.d/20-theirs", "line 1", "Correct"),
    ),
    "a folder where Kata's file should be": Hardship(
        f"{HAND} && rm {RELEASE}/configuration.toml && mkdir {RELEASE}/configuration.toml",
        "kata",
        "file-invalid",
        ("configuration.toml is not a regular file", "Move it away"),
    ),
    "a folder where Docker's file should be": Hardship(
        "mkdir -p /etc/docker/daemon.json",
        "docker",
        "file-invalid",
        ("/etc/docker/daemon.json is not a regular file", "Move it away"),
    ),
    "a folder where our drop-in should be": Hardship(
        f"{HAND} && mkdir -p {RELEASE}/config.d/60-kata-nodes.toml",
        "kata",
        "file-invalid",
        ("60-kata-nodes.toml", "Move it away"),
    ),
    "a configuration that is a dangling link": Hardship(
        f"{HAND} && rm {RELEASE}/configuration.toml && ln -s nowhere.toml {RELEASE}/configuration.toml",
        "kata",
        "kata-not-found",
        ("configuration.toml", "dangling"),
    ),
    "a Docker file that is a dangling link": Hardship(
        "mkdir -p /etc/docker && ln -s /srv/nowhere.json /etc/docker/daemon.json",
        "docker",
        "file-invalid",
        ("/etc/docker/daemon.json", "/srv/nowhere.json", "Remove"),
    ),
    "broken JSON": Hardship(
        "mkdir -p /etc/docker && echo '{' > /etc/docker/daemon.json",
        "docker",
        "file-invalid",
        ("/etc/docker/daemon.json", "line 2", "Correct"),
    ),
    "a broken journal": Hardship(
        "mkdir -p /var/lib/kata-nodes && echo '{' > /var/lib/kata-nodes/docker.json",
        "docker",
        "journal-invalid",
        ("docker.json", "move"),
    ),
    "another run at work": Hardship(
        "setsid flock /run/kata-nodes.lock sleep 60 > /dev/null 2>&1 & sleep 0.3",
        "docker",
        "node-busy",
        ("/run/kata-nodes.lock", "Wait until"),
    ),
    "another package manager at work": Hardship(
        f"setsid python3 -c '{HOLDER}' > /dev/null 2>&1 & sleep 0.5",
        "docker",
        "apt-lock-held",
        ("process", "(python3)", "Wait until"),
    ),
}


@pytest.mark.parametrize("name", HARDSHIPS)
def test_trouble_is_one_sentence_with_a_remedy_and_the_node_is_as_it_was(name: str, node: DebianNode) -> None:
    hardship = HARDSHIPS[name]
    node.ask("sh", "-euc", hardship.script)
    state = node.docker()
    if hardship.verb == "kata":
        state = node.kata() | ({} if hardship.install else {"install": None, "configPath": None})
    seen = "find", "/etc/docker", "/opt", "/var/lib/kata-nodes", "-xdev", "-ls"
    before = node.files(), node.packages(), node.run(*seen).stdout
    result = node.run("python3", "-I", "-c", IMPATIENT, PROGRAM, hardship.verb, stdin=json.dumps(state))
    error = json.loads(result.stdout)["error"]
    last = result.stderr.splitlines()[-1]
    assert (result.returncode, error["code"]) == (1, hardship.code), error
    assert last.startswith("error: ") and last.endswith(f"[{hardship.code}]") and "Traceback" not in result.stderr
    for words in hardship.says:
        assert words in last, (words, last)
    assert (node.files(), node.packages(), node.run(*seen).stdout) == before
