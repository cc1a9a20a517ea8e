"""What a report holds. The JSON form is these classes with their names in camel case, and its schema is derived from them.

Every text that a node, a guest or a state gave is bounded and has no control characters; it is not escaped for any markup.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

VERSION: Literal[1] = 1
"""Version of the form; it is raised by a change that readers must know about."""
Verdict = Literal["passed", "failed", "not tried"]
Outcome = Literal["proven", "drifted", "failed", "unproven", "gone"]
"""Of a node or a stack. `drifted`: proven, and something differs since. `unproven`: the stack has no proof of it. A stack
has the outcome of its worst node: failed, then unproven, then drifted; it has drifted too where only an object on a cluster
differs."""
StepState = Literal["done", "failed", "not reached", "not tried"]

NEVER_MEASURED = "nodes of a cluster are not measured"
"""Of one that the stack's output alone names."""

PROOF_IN_PODS = "KataProof"
"""Kind of what stands among the objects for a proof in pods that the stack does not hold."""


def camel(name: str) -> str:
    """The name of a field in the JSON form."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


@dataclass(frozen=True)
class Part:
    """Anything in a report."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "alias_generator": camel,
        "use_attribute_docstrings": True,
        "extra": "forbid",
    }


@dataclass(frozen=True)
class Failure(Part):
    """Why a proof failed."""

    code: str
    """A code of the catalogue of errors."""
    message: str
    remedy: str


@dataclass(frozen=True)
class Rung(Part):
    """One rung of the ladder, as read in one place."""

    name: str
    looks_at: str
    """What it reads or runs."""
    verdict: Verdict
    counts: bool
    """Whether what was promised needs it."""
    value: str
    """What was read, or the exit status of what was run."""
    detail: str
    """Words of the command, or why it was not tried."""
    at: float | None
    """Seconds from the start of the guest's kernel until it was reported; null where that was not recorded."""


@dataclass(frozen=True)
class Climb(Part):
    """The ladder in one place."""

    place: str
    verdict: Verdict
    seconds: float | None
    """That it took with the start of its guest; null where that was not recorded."""
    guest_kernel: str
    user_namespaces: int | None
    """What /proc/sys/user/max_user_namespaces read there."""
    command_line: str
    """Of the guest's kernel; of a pod's, only the parameters that its proof looks for."""
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Proof(Part):
    """The newest proof of a node with the stack's settings that is known."""

    source: Literal["node", "state", "cluster"]
    """Where it was read: the node's own record, the stack's state, or the stack's output `clusterProof`."""
    began: str | None
    """By the node's clock, in UTC; null where that was not recorded."""
    ended: str | None
    """By the clock of who ran the stack, in UTC; null where that is not known."""
    seconds: float | None
    passed: bool
    hypervisor: str
    sandbox: str | None
    """The sandbox that is promised to work in the guest; null: none."""
    failure: Failure | None
    climbs: tuple[Climb, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PastProof(Part):
    """One line of a node's timeline."""

    when: str
    seconds: float | None
    passed: bool
    code: str
    """Of the failure; empty where it passed."""
    guest_kernel: str
    user_namespaces: int | None
    docker: str
    """The version that dockerd answered; empty where it was not asked."""


@dataclass(frozen=True)
class Parameter(Part):
    """One parameter of the guests' kernel, and where it comes from."""

    text: str
    origin: str
    notes: tuple[str, ...]
    """What is known of it, such as that no mainline kernel reads it."""


@dataclass(frozen=True)
class Pair(Part):
    """Docker and Kata on a node."""

    docker: str
    kata: str
    runtime: str
    """Kata's: `go` or `rust`."""
    works: bool
    """False where it is known to break; an untested pair is not known to."""
    reason: str
    """What is known of it: that it works, that it is untested, or what breaks."""
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Step(Part):
    """One step on the way from a machine to a proven node."""

    name: str
    state: StepState
    why: str
    """Why it failed or was left out; empty elsewhere."""


@dataclass(frozen=True)
class Node(Part):
    """One node."""

    name: str
    address: str
    """Empty for a node of a cluster, which is proven by a pod."""
    outcome: Outcome
    not_measured: str
    """Why the node was not measured for this report; empty where it was."""
    steps: tuple[Step, ...]
    proof: Proof | None
    configuration: str
    """The file that Kata reads; empty where it is not known."""
    parameters: tuple[Parameter, ...]
    pair: Pair | None
    not_tried: tuple[str, ...]
    """What the proof left out, each with the reason."""
    timeline: tuple[PastProof, ...]
    """Proofs that are recorded, the newest first; those with other settings than the stack's are among them."""
    timeline_note: str
    """What of its proofs is not recorded."""
    differences: tuple[str, ...]
    """What differs on the node from what the stack made."""


@dataclass(frozen=True)
class ClusterObject(Part):
    """One object of the stack on a cluster; Jobs of proofs are told with their nodes."""

    cluster: str
    """The provider by which the stack reaches it."""
    kind: str
    namespace: str
    """Empty where the kind has none."""
    name: str
    state: Literal["as made", "differs", "not measured"]
    not_measured: str
    """Why it was not measured for this report; empty where it was."""
    differences: tuple[str, ...]
    """What differs from what the stack made."""


@dataclass(frozen=True)
class Check(Part):
    """One row of the stack's checklist."""

    item: str
    passed: bool
    measured: str


@dataclass(frozen=True)
class Report(Part):
    """One stack."""

    version: Literal[1]
    kind: Literal["stack"]
    written: str
    """When, in UTC."""
    stack: str
    outcome: Outcome
    nodes: tuple[Node, ...]
    objects: tuple[ClusterObject, ...]
    """On clusters; before them, as `KataProof`, each proof in pods of which the stack holds nothing."""
    checklist: tuple[Check, ...]
    """Empty where a proof failed or a node has none: that of an earlier `up` is not shown."""
    not_proven: tuple[str, ...]
    """What a stack that succeeded has not shown, such as Kata itself where a stand-in took its place, or machines that prove
    themselves as they start."""


@dataclass(frozen=True)
class Summary(Part):
    """One stack among many."""

    stack: str
    readable: bool
    """Whether its state could be read."""
    outcome: Outcome
    nodes: int
    proven: int
    failed: int
    drifted: int
    not_measured: int
    """Nodes, and objects on clusters, that should have been measured and could not be."""
    oldest: str | None
    """When the proof that is the oldest of its nodes' newest ones began, or else ended; null where none is known."""
    docker: tuple[str, ...]
    kata: tuple[str, ...]
    problem: str
    """The first reason why it is not proven; empty where it is."""


@dataclass(frozen=True)
class Fleet(Part):
    """Many stacks."""

    version: Literal[1]
    kind: Literal["fleet"]
    written: str
    """When, in UTC."""
    stacks: tuple[Summary, ...]


def as_json(value: Any) -> Any:
    """The JSON form."""
    if is_dataclass(value):
        return {camel(field.name): as_json(getattr(value, field.name)) for field in fields(value)}
    return [as_json(each) for each in value] if isinstance(value, tuple) else value
