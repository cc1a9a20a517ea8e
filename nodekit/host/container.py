"""Climb the ladder in one container of a Docker runtime, and leave no container behind."""

import os
from collections.abc import Sequence

from nodekit.errors import NodeError
from nodekit.host.initramfs import ladder_script
from nodekit.host.process import Finished, run

NAMES = ("deb.debian.org", "archive.ubuntu.com", "registry-1.docker.io")
"""Names for the container to resolve: the first that the node itself resolves."""


def name_to_resolve() -> str | None:
    """A name that this node resolves by DNS, so that a container ought to."""
    try:
        for name in NAMES:
            if run(["getent", "-s", "dns", "hosts", name], timeout=5, check=False).code == 0:
                return name
    except NodeError:
        pass  # a resolver that does not answer in time answers for no other name either
    return None


def climb(nonce: str, runtime: str, image: str, *, network: bool, capabilities: Sequence[str], seconds: float) -> Finished:
    """How `docker run` of the ladder ended; its lines start with `nonce`.

    Raises NodeError `command-timeout` after `seconds`, and `tool-missing` without Docker.
    """
    name = f"kata-nodes-proof-{nonce[:12]}"
    # The node's own daemon is meant, whatever a root user's environment or context says.
    env = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    docker = ["docker", "--context", "default"]
    command = [*docker, "run", "--rm", "-i", "--name", name, "--runtime", runtime]
    command += ["--network", "bridge" if network else "none", "--entrypoint", "sh", "-e", f"KATA_NODES_NONCE={nonce}"]
    if network:
        command += ["-e", "KATA_NODES_NETWORK=1", "-e", f"KATA_NODES_NAME={name_to_resolve() or ''}"]
    for capability in capabilities:
        command += ["--cap-add", capability]
    try:
        return run([*command, image, "-s"], timeout=seconds, stdin=ladder_script(), env=env, check=False)
    finally:
        run([*docker, "rm", "--force", "--volumes", name], timeout=60, env=env, check=False)
