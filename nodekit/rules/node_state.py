"""The desired states of the node program's verbs: one record each, which the stack writes and the verb reads."""

import hashlib
import json
from collections.abc import Sequence

from nodekit.errors import NodeError
from nodekit.rules.desired import Record
from nodekit.rules.kata import kata_releases
from nodekit.rules.kata.kata_releases import Archive
from nodekit.rules.proof.sandboxes import SANDBOXES
from nodekit.rules.text import printable

SEED_PARAMETER = "user_namespace.enable=1"
"""What the document that this project grew from asks for; inert on mainline kernels, harmless, and always written."""
DOCKER_VERSION, KATA_VERSION, KATA_RUNTIME, HYPERVISOR, TIMEOUT_SECONDS = "27.5.1", "3.32.0", "go", "qemu", 300
"""What a node has where its settings say nothing else."""
LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS = 30, 3600
"""Bounds of the time that the proof of one node may take."""
LEAST_OVERHEAD_SECONDS, MOST_OVERHEAD_SECONDS = 2, 600
"""Bounds of the time for which a sandbox is measured."""
RUNTIME_NAME = "kata"
"""Name under which Docker knows the Kata runtime."""


def merged_parameters(parameters: Sequence[str], nested_sandbox: bool) -> list[str]:
    """Guest kernel parameters to merge: the document's own first where a sandbox must nest, then `parameters`."""
    first = [SEED_PARAMETER] if nested_sandbox and SEED_PARAMETER not in parameters else []
    return [*first, *parameters]


class KataSettings(Record, kw_only=True):
    """Which Kata a node has, and how it comes there."""

    hypervisor: str
    runtime: str
    version: str
    install: dict[str, Archive] | None = None
    """The archives to choose from, by machine (`uname -m`, or kata_releases.EVERY); without it Kata is on the node."""
    config_path: str | None = None
    """Configuration file that Docker names to Kata; without it the one that the runtime finds by itself."""


class HandlerState(Record):
    """How Kata is registered in a cluster's container runtime."""

    name: str
    pod_annotations: list[str]
    """Annotations of pods that the runtime passes on to Kata."""
    runtime: str | None = None
    """One of handler_registration.RUNTIMES; without it the one that is found on the node."""


class PreflightState(Record):
    """For the verb `preflight`, which looks for what the verb `kata` will need before anything is changed."""

    node: str
    kata: KataSettings | None = None
    """Without it only the machine is looked at."""
    handler: HandlerState | None = None
    """With it the container runtime of a cluster is looked for, too."""


class Repository(Record):
    """The apt repository that Docker comes from."""

    address: str
    """`{id}` stands for the node's distribution."""
    fingerprint: str
    """Of the key that signs it."""
    suite: str | None = None
    """Without it the node's own release."""


class DockerState(Record):
    """For the verb `docker`."""

    node: str
    version: str
    repository: Repository
    kata_version: str
    kata_runtime: str
    config_path: str | None = None


class KataState(KataSettings, kw_only=True):
    """For the verb `kata`."""

    node: str
    kernel_params: list[str]
    """Merged by key into those of the file that Kata really reads."""
    handler: HandlerState | None = None
    """Without it the node serves no cluster."""


class ConvergeState(Record):
    """For the verb `converge`, which takes the steps before the proof in their order."""

    node: str
    program: str
    """sha256 of the node program, another one of which takes all steps again."""
    docker: DockerState
    kata: KataState
    """Of the preflight too (`preflight`)."""
    preflight_seconds: int
    """Bound on that step."""
    docker_seconds: int
    kata_seconds: int

    def __post_init__(self) -> None:
        for key in ("preflight", "docker", "kata"):
            seconds = getattr(self, f"{key}_seconds")
            if seconds < 1:  # none at all would be no bound
                raise NodeError("bad-input", f"Key {key}Seconds is {seconds}", expected="1 or more")


def preflight(kata: KataState) -> PreflightState:
    """What is looked for before a node gets that Kata."""
    settings = KataSettings(**{name: getattr(kata, name) for name in KataSettings.fields})
    return PreflightState(kata.node, settings, kata.handler)


class ProveState(Record):
    """For the verb `prove`."""

    node: str
    hypervisor: str
    runtime: str
    expect: list[str]
    """Parameters that the guest's command line must have."""
    sandbox: str | None
    """One of SANDBOXES that is promised to work in the guest, or null: nothing nests."""
    timeout_seconds: int
    """Bound on all guest boots together."""
    digest: str
    """Of all that the proof vouches for: it changes with what must be proven again."""
    config_path: str | None = None
    image: str | None = None
    """Image of the container in which the ladder is climbed as well; without it one that is made of the node's files."""

    def __post_init__(self) -> None:
        if not LEAST_TIMEOUT_SECONDS <= self.timeout_seconds <= MOST_TIMEOUT_SECONDS:
            raise NodeError(
                "bad-input",
                f"Key timeoutSeconds is {self.timeout_seconds}",
                expected=f"{LEAST_TIMEOUT_SECONDS} to {MOST_TIMEOUT_SECONDS}",
            )
        promised(self.sandbox, self.sandbox is not None)


class OverheadState(Record):
    """For the verb `overhead`."""

    node: str
    hypervisor: str
    runtime: str
    seconds: int
    """For which each of the two sandboxes is measured."""
    timeout_seconds: int
    """Bound on all of it."""
    config_path: str | None = None

    def __post_init__(self) -> None:
        bounds = {
            "seconds": (self.seconds, LEAST_OVERHEAD_SECONDS, MOST_OVERHEAD_SECONDS),
            "timeoutSeconds": (self.timeout_seconds, LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS),
        }
        for key, (value, minimum, maximum) in bounds.items():
            if not minimum <= value <= maximum:
                raise NodeError("bad-input", f"Key {key} is {value}", expected=f"{minimum} to {maximum}")


class CompareState(Record, kw_only=True):
    """For the verb `compare`: what a stack has done with a node, as far as it got."""

    node: str
    program: str | None = None
    """sha256 of the node program that the stack put there."""
    boot_id: str | None = None
    """Of the boot in which the node was proven."""
    preflight: PreflightState | None = None
    docker: DockerState | None = None
    kata: KataState | None = None


class RestoreState(Record):
    """For the verb `restore`."""

    node: str


def promised(sandbox: str | None, nested_sandbox: bool) -> str | None:
    """The sandbox that must work in the guest: one of SANDBOXES, the first where none is named; None: nothing nests.

    Raises NodeError `bad-input` for any other: no rung would count for it, so that its proof would pass whatever it finds.
    """
    if sandbox not in (*SANDBOXES, None):
        raise NodeError("bad-input", f"Key sandbox is {printable(repr(sandbox), 60)}", expected=f"one of {', '.join(SANDBOXES)}")
    return (sandbox or SANDBOXES[0]) if nested_sandbox else None


def archives(
    *, install_release: bool, archive: Archive | None, version: str, runtime: str, hypervisor: str
) -> dict[str, Archive] | None:
    """What a node installs, as `KataSettings.install`: nothing, one archive, or its own of the official ones.

    Raises NodeError `kata-release-unlisted`.
    """
    if archive:
        return {kata_releases.EVERY: archive}
    return kata_releases.archives(version, runtime, hypervisor) if install_release else None


def digest(verified: Sequence[object]) -> str:
    """Of all that a proof vouches for, such as the states of the verbs before it."""
    return hashlib.sha256(json.dumps(list(verified), sort_keys=True).encode()).hexdigest()
