"""The desired states that the node program is given: one function a verb, used by previews, nodes and tests alike."""

import hashlib
import json
from collections.abc import Sequence

from nodekit.errors import NodeError
from nodekit.rules.docker import docker_matrix
from nodekit.rules.kata import kata_releases
from nodekit.rules.proof.ladder import SANDBOXES

SEED_PARAMETER = "user_namespace.enable=1"
"""What the document that this project grew from asks for; inert on mainline kernels, harmless, and always written."""
RUNTIME_NAME = "kata"
"""Name under which Docker knows the Kata runtime."""

State = dict[str, object]


def wanted_parameters(given: Sequence[str], nested_sandbox: bool) -> list[str]:
    """Guest kernel parameters to merge: the document's own first when a nested sandbox is wanted, then the given ones."""
    first = [SEED_PARAMETER] if nested_sandbox and SEED_PARAMETER not in given else []
    return [*first, *given]


def install(
    *,
    install_release: bool | None,
    archive_address: str | None,
    archive_sha256: str | None,
    runtime: str,
    version: str,
    hypervisor: str,
) -> State | None:
    """What a node installs: nothing, one archive, or its own of the official ones, which are listed by machine (`uname -m`).

    Raises NodeError `kata-release-unlisted`, or `bad-input` when both ways are given.
    """
    if install_release and archive_address:
        raise NodeError("bad-input", f"An archive ({archive_address}) is given beside the official release", "two-sources")
    if install_release:
        return {"byMachine": kata_releases.archives(version, runtime, hypervisor)}
    return {"address": archive_address, "sha256": archive_sha256} if archive_address else None


def preflight(
    node: str,
    *,
    hypervisor: str,
    runtime: str,
    version: str,
    install_release: bool | None,
    archive_address: str | None,
    archive_sha256: str | None,
    config_path: str | None,
) -> State:
    """For the verb `preflight`, which looks for what the verb `kata` will need before anything is changed."""
    archive = install(
        install_release=install_release,
        archive_address=archive_address,
        archive_sha256=archive_sha256,
        runtime=runtime,
        version=version,
        hypervisor=hypervisor,
    )
    return {
        "node": node,
        "kata": {
            "hypervisor": hypervisor,
            "runtime": runtime,
            "version": version,
            "install": archive,
            "configPath": config_path,
        },
    }


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
    install_release: bool | None,
    archive_address: str | None,
    archive_sha256: str | None,
    kernel_params: Sequence[str],
    config_path: str | None,
    handler: str | None,
    container_runtime: str | None,
    allowed_annotations: Sequence[str] | None,
) -> State:
    """For the verb `kata`; raises as `install`.

    `handler` is the name under which a cluster's container runtime is to know Kata, None for a node that serves no cluster;
    `container_runtime` is one of handler_registration.RUNTIMES, or None for the one that is found.
    """
    archive = install(
        install_release=install_release,
        archive_address=archive_address,
        archive_sha256=archive_sha256,
        runtime=runtime,
        version=version,
        hypervisor=hypervisor,
    )
    return {
        "node": node,
        "hypervisor": hypervisor,
        "runtime": runtime,
        "version": version,
        "install": archive,
        "kernelParams": list(kernel_params),
        "configPath": config_path,
        "handler": None
        if handler is None
        else {"name": handler, "runtime": container_runtime, "podAnnotations": sorted(allowed_annotations or ())},
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
