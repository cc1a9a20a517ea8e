"""The desired states that the node program is given: one function a verb, used by previews, nodes and tests alike."""

import hashlib
import json
from collections.abc import Sequence

from nodekit.rules import docker_matrix
from nodekit.rules.ladder import SANDBOXES

SEED_PARAMETER = "user_namespace.enable=1"
"""What the document that this project grew from asks for; inert on mainline kernels, harmless, and always written."""
RUNTIME_NAME = "kata"
"""Name under which Docker knows the Kata runtime."""

State = dict[str, object]


def wanted_parameters(given: Sequence[str], nested_sandbox: bool) -> list[str]:
    """Guest kernel parameters to merge: the document's own first when a nested sandbox is wanted, then the given ones."""
    first = [SEED_PARAMETER] if nested_sandbox and SEED_PARAMETER not in given else []
    return [*first, *given]


def preflight(node: str) -> State:
    """For the verb `preflight`."""
    return {"node": node}


def docker(
    node: str,
    *,
    version: str,
    repository_address: str,
    repository_fingerprint: str,
    repository_suite: str | None,
    kata_version: str,
    kata_runtime: str,
    config_path: str | None,
) -> State:
    """For the verb `docker`; raises NodeError `docker-kata-incompatible` for a pair that is known to break."""
    docker_matrix.refuse_if_incompatible(version, kata_version, kata_runtime)
    return {
        "node": node,
        "version": version,
        "kataVersion": kata_version,
        "kataRuntime": kata_runtime,
        "repository": {
            "address": repository_address,
            "fingerprint": repository_fingerprint,
            "suite": repository_suite,
            "component": "stable",
        },
        "runtimeName": RUNTIME_NAME,
        "configPath": config_path,
    }


def kata(
    node: str,
    *,
    hypervisor: str,
    runtime: str,
    version: str,
    archive_address: str | None,
    archive_sha256: str | None,
    kernel_params: Sequence[str],
    config_path: str | None,
) -> State:
    """For the verb `kata`."""
    return {
        "node": node,
        "hypervisor": hypervisor,
        "runtime": runtime,
        "version": version,
        "install": {"address": archive_address, "sha256": archive_sha256} if archive_address else None,
        "kernelParams": list(kernel_params),
        "configPath": config_path,
    }


def proof(
    node: str,
    *,
    hypervisor: str,
    runtime: str,
    nested_sandbox: bool,
    sandbox: str | None,
    kernel_params: Sequence[str],
    config_path: str | None,
    image: str | None,
    timeout_seconds: int,
    verified: Sequence[State],
) -> State:
    """For the verb `prove`; `verified` are the states that the proof vouches for, and its digest changes with them.

    `sandbox` is one of ladder.SANDBOXES, the first of them when None; it counts where a nested sandbox is promised.
    """
    return {
        "node": node,
        "hypervisor": hypervisor,
        "runtime": runtime,
        "sandbox": (sandbox or SANDBOXES[0]) if nested_sandbox else None,
        "expect": list(kernel_params),
        "configPath": config_path,
        "container": {"runtimeName": RUNTIME_NAME, "image": image, "network": True},
        "timeoutSeconds": timeout_seconds,
        "digest": hashlib.sha256(json.dumps(list(verified), sort_keys=True).encode()).hexdigest(),
    }
