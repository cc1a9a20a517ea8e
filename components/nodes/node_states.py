"""The desired states of a node's verbs from a component's arguments, and their bounds: the same over SSH and at first boot."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from clusterkit import images
from components.nodes.settings import DockerSettings, KataSettings, Verification
from components.plain import derived, set_or
from components.refusals import reporting_refusals
from components.whole_numbers import whole
from nodekit.errors import NodeError
from nodekit.rules import node_state
from nodekit.rules.docker import apt_source, docker_matrix, openpgp
from nodekit.rules.kata import containerd_config, handler_registration, kata_layout, kernel_params
from nodekit.rules.kata.kata_releases import Archive
from nodekit.rules.text import printable, public

STEP_SECONDS = {"preflight": 480, "docker": 2400, "kata": 1800}
"""Bound on each step of the verb `converge`, in seconds: a slow mirror and an emulated node fit in, a hang does not last."""
CONVERGE_SECONDS = sum(STEP_SECONDS.values()) + 60
"""Bound on that verb, whose steps have their own: ends a program that hangs."""
PROOF_GRACE_SECONDS = 600
"""The proof's own bound ends a guest and a container; one that is this much later ends a program that hangs. In between, an image
is made, a container gets its least time, and both are removed, by a dockerd that may not answer."""

Document = dict[str, object]


@dataclass(frozen=True)
class NodeSettings:
    """What a node becomes; values may be outputs."""

    docker: DockerSettings
    kata: KataSettings
    verification: Verification

    @property
    def plan(self) -> dict[str, pulumi.Input[Any]]:
        """For people who read a preview: the states may be secret or not known yet, as they are with a sudo password."""
        archive, handler = self.kata.get("archive"), self.kata.get("handler")
        repository = self.docker.get("repository") or {}
        nested_sandbox = set_or(self.kata.get("nested_sandbox"), True)
        parameters = set_or(self.kata.get("kernel_params"), [])
        return {
            "dockerVersion": set_or(self.docker.get("version"), node_state.DOCKER_VERSION),
            "repositoryAddress": set_or(repository.get("address"), apt_source.DOCKER_ADDRESS),
            "repositoryFingerprint": set_or(repository.get("fingerprint"), apt_source.DOCKER_FINGERPRINT),
            "repositorySuite": set_or(repository.get("suite"), None),
            "kataVersion": set_or(self.kata.get("version"), node_state.KATA_VERSION),
            "kataRuntime": set_or(self.kata.get("runtime"), node_state.KATA_RUNTIME),
            "installRelease": set_or(self.kata.get("install_release"), archive is None),
            "archiveAddress": archive["address"] if archive else None,
            "archiveSha256": archive["sha256"] if archive else None,
            "configPath": derived(reporting_refusals(lambda kata: kata_settings(kata).config_path), self.kata),
            "hypervisor": set_or(self.kata.get("hypervisor"), node_state.HYPERVISOR),
            "nestedSandbox": nested_sandbox,
            "sandbox": self.kata.get("sandbox"),
            "kernelParams": derived(node_state.merged_parameters, parameters, nested_sandbox),
            "handler": handler["name"] if handler else None,
            "containerRuntime": handler.get("container_runtime") if handler else None,
            "allowedAnnotations": handler.get("allowed_annotations") if handler else None,
            "proofImage": set_or(self.verification.get("image"), None),
            "proofSeconds": self.timeout_seconds,
        }

    @property
    def timeout_seconds(self) -> pulumi.Input[int]:
        """Bound on the proof."""

        def bound(seconds: object) -> int:
            if seconds is None:
                return node_state.TIMEOUT_SECONDS
            return whole("timeoutSeconds", seconds, node_state.LEAST_TIMEOUT_SECONDS, node_state.MOST_TIMEOUT_SECONDS)

        return derived(reporting_refusals(bound), self.verification.get("timeout_seconds"))

    @property
    def seconds(self) -> dict[str, pulumi.Input[int]]:
        """Bound on each verb."""
        prove = derived(lambda seconds: seconds + PROOF_GRACE_SECONDS, self.timeout_seconds)
        return {"converge": CONVERGE_SECONDS, "prove": prove}

    def states(
        self, node: pulumi.Input[str], verified: Mapping[str, pulumi.Input[str]]
    ) -> tuple[dict[str, pulumi.Input[Any]], pulumi.Input[Document]]:
        """Of the verbs `converge` and `prove`; `verified` is what the proof vouches for beside the first, with the sha256 of the
        node program as `program`.

        What no node could become is refused by `pulumi.RunError`: two ways to install Kata, a release that is not listed, a pair
        of Docker and Kata that is known to break, a kernel parameter that no guest could be given.
        """

        def document(state: Callable[..., Any], *values: Any) -> pulumi.Input[Document]:
            return derived(reporting_refusals(lambda *known: state(*known).document()), node, *values)

        docker = document(docker_state, self.kata, self.docker)
        kata = document(kata_state, self.kata)
        prove = document(
            prove_state, self.kata, self.verification.get("image"), self.timeout_seconds, [docker, kata, dict(verified)]
        )
        bounds = {f"{step}Seconds": seconds for step, seconds in STEP_SECONDS.items()}
        return {"node": node, "program": verified["program"], "docker": docker, "kata": kata, **bounds}, prove


def settings_of(args: Mapping[str, Any]) -> NodeSettings:
    """From the arguments of a component that makes nodes."""
    records: list[Any] = [args.get(key) or {} for key in ("docker", "kata", "verification")]
    return NodeSettings(*records)


def kata_settings(kata: Mapping[str, Any]) -> node_state.KataSettings:
    """Which Kata a node has, of the record `kata`.

    Raises NodeError `bad-input`, or as `kata_layout.refuse_nesting` and `node_state.archives`.
    """
    archive = Archive(**kata["archive"]) if kata.get("archive") else None
    version, runtime = kata.get("version") or node_state.KATA_VERSION, kata.get("runtime") or node_state.KATA_RUNTIME
    hypervisor = kata.get("hypervisor") or node_state.HYPERVISOR
    if hypervisor not in kata_layout.HYPERVISORS:
        message = f"Hypervisor {printable(repr(hypervisor), 60)} is not known"
        raise NodeError("bad-input", message, expected=f"one of {', '.join(kata_layout.HYPERVISORS)}")
    kata_layout.refuse_nesting(hypervisor, _nested_sandbox(kata))
    install_release = kata.get("install_release")
    if archive and install_release:
        raise NodeError(
            "bad-input",
            f"An archive ({public(archive.address)}) is given beside the official release",
            "two-sources",
        )
    install = node_state.archives(
        install_release=install_release is not False, archive=archive, version=version, runtime=runtime, hypervisor=hypervisor
    )
    config_path = kata.get("config_path")
    if config_path and not re.fullmatch(r"/\S*", config_path):
        message = f"Key configPath is {printable(repr(config_path), 120)}, and Docker hands Kata a whole path"
        raise NodeError("bad-input", message, expected="the path of a file from / on, without spaces")
    if install and not config_path:
        # A release holds one file a hypervisor; Docker names the chosen one, so that no other file on the node counts.
        config_path = kata_layout.release_config_path(runtime, version, hypervisor)
    return node_state.KataSettings(
        hypervisor=hypervisor, runtime=runtime, version=version, install=install, config_path=config_path
    )


def _nested_sandbox(kata: Mapping[str, Any]) -> bool:
    return kata.get("nested_sandbox") is not False


def _parameters(kata: Mapping[str, Any]) -> list[str]:
    """Of the guest. Raises NodeError as `kernel_params.check`: the verb `kata` would refuse them too, once Docker was changed."""
    parameters = node_state.merged_parameters(kata.get("kernel_params") or [], _nested_sandbox(kata))
    kernel_params.check(parameters)
    return parameters


def _handler(kata: Mapping[str, Any]) -> node_state.HandlerState | None:
    """How a cluster's container runtime is to know Kata; None on a node that serves none.

    Raises NodeError as `containerd_config.check` and `handler_registration.place_of`: a machine of a group, which proves itself,
    would only say so on its console.
    """
    handler = kata.get("handler")
    if not handler:
        return None
    annotations, runtime = sorted(handler.get("allowed_annotations") or []), handler.get("container_runtime")
    containerd_config.check(handler["name"], annotations)
    if runtime is not None:
        handler_registration.place_of(runtime)
    return node_state.HandlerState(handler["name"], annotations, runtime)


def docker_state(node: str, kata: Mapping[str, Any], docker: Mapping[str, Any]) -> node_state.DockerState:
    """For the verb `docker`.

    Raises NodeError `docker-kata-incompatible` for a pair that is known to break, and `bad-input` for a repository that every
    node would refuse.
    """
    settings = kata_settings(kata)
    version, repository = docker.get("version") or node_state.DOCKER_VERSION, docker.get("repository") or {}
    docker_matrix.refuse_if_incompatible(version, settings.version, settings.runtime)
    apt_source.repository_address(repository.get("address") or apt_source.DOCKER_ADDRESS, "debian")
    openpgp.fingerprint(repository.get("fingerprint") or apt_source.DOCKER_FINGERPRINT)
    if suite := repository.get("suite"):
        apt_source.repository_word(suite, "suite")
    return node_state.DockerState(
        node=node,
        version=version,
        repository=node_state.Repository(
            repository.get("address") or apt_source.DOCKER_ADDRESS,
            repository.get("fingerprint") or apt_source.DOCKER_FINGERPRINT,
            suite or None,
        ),
        kata_version=settings.version,
        kata_runtime=settings.runtime,
        config_path=settings.config_path,
    )


def kata_state(node: str, kata: Mapping[str, Any]) -> node_state.KataState:
    """For the verb `kata`."""
    return node_state.KataState(**vars(kata_settings(kata)), node=node, kernel_params=_parameters(kata), handler=_handler(kata))


def prove_state(
    node: str, kata: Mapping[str, Any], image: str | None, timeout_seconds: int, verified: list[object]
) -> node_state.ProveState:
    """For the verb `prove`; its digest changes with `verified`. Raises NodeError `bad-input` for what is not an image's name."""
    settings = kata_settings(kata)
    if image:
        images.check("verification.image", image)
    return node_state.ProveState(
        node=node,
        hypervisor=settings.hypervisor,
        runtime=settings.runtime,
        expect=_parameters(kata),
        sandbox=node_state.promised(kata.get("sandbox"), _nested_sandbox(kata)),
        timeout_seconds=timeout_seconds,
        digest=node_state.digest(verified),
        config_path=settings.config_path,
        image=image or None,
    )
