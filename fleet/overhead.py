"""What a pod costs a node: a table of an idle and a busy sandbox, the overhead that follows, and where it is set."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType

from fleet import shown
from fleet.errors import FleetError
from fleet.hosts import Host, plain
from fleet.measure import MOST, Question
from nodekit.rules.node_state import OverheadState

CLASS = "kubernetes:node.k8s.io/v1:RuntimeClass"
QUANTITY = r"[0-9]{1,9}(Mi|m)"
"""What a proposal is made of."""
AROUND_SECONDS = 60
"""Of the time that a node may take: for the login, and for removing the containers once it is over."""
STARTS_SECONDS = 30
"""Least time for starting two guests and filling the memory of one."""


def question(seconds: int, timeout: float) -> Question:
    """What the node is asked, which measures each sandbox for `seconds`. Raises FleetError where `timeout` is too short."""
    left = int(timeout) - AROUND_SECONDS
    if left < 2 * seconds + STARTS_SECONDS:
        minimum = 2 * seconds + STARTS_SECONDS + AROUND_SECONDS
        raise FleetError(f"Two sandboxes of {seconds} s each need more than {timeout:g} s. Use --timeout {minimum} or more.")

    def state(host: Host) -> OverheadState:
        kata = host.state.kata
        if kata is None:
            raise FleetError(f"The stack has not come to Kata on node {host.name}: run `pulumi up`.")
        return OverheadState(host.state.node, kata.hypervisor, kata.runtime, seconds, left, kata.config_path)

    return Question("overhead", state)


def classes(deployment: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The overhead of each RuntimeClass that a stack has made, by the class's name."""
    result = {}
    for resource in deployment.get("resources") or []:
        if isinstance(resource, dict) and resource.get("type") == CLASS and not resource.get("external"):
            inputs = plain(resource.get("inputs") or {})
            fixed = (inputs.get("overhead") or {}).get("podFixed") or {}
            result[str((inputs.get("metadata") or {}).get("name"))] = {key: str(value) for key, value in fixed.items()}
    return result


def view(document: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> RenderableType:
    """What a person reads. Raises FleetError for an answer that is not of the program's form."""
    try:
        return _view(document, known)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # a number of hundreds of digits
        raise FleetError("The node answered with no measurement of the program.") from None


def _view(document: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> RenderableType:
    proposal = document["proposal"]
    parts: list[RenderableType] = [shown.table(["PROCESS", "IDLE MiB", "IDLE CPU", "BUSY MiB", "BUSY CPU"], _rows(document)), ""]
    parts += [shown.text(reason) for reason in proposal["reasons"]]
    if not proposal["comparable"]:
        return Group(*parts, shown.text("No proposal: the guests did not run on KVM.", "yellow"))
    for key in ("memory", "cpu", "memoryAtMost"):
        if proposal[key] and not re.fullmatch(QUANTITY, proposal[key]):
            raise ValueError("what people paste into a file is a quantity")
    parts += [shown.text(f"Proposal: memory {proposal['memory']}, cpu {proposal['cpu']}.", "bold")]
    if proposal["memoryAtMost"]:
        parts.append(shown.text(f"With memory {proposal['memoryAtMost']} no pod is killed because of what its guest touches."))
    for name, fixed in known.items():
        now = ", ".join(f"{key} {value}" for key, value in sorted(fixed.items())) or "none"
        parts.append(shown.text(f"The stack's class {name} has {now}."))
    lines = [
        "In the stack's file:",
        "    kata-nodes:kubernetes:",
        f"      overhead: {{memory: {proposal['memory']}, cpu: {proposal['cpu']}}}",
        "In a RuntimeClass of another maker:",
        "    overhead:",
        f"      podFixed: {{memory: {proposal['memory']}, cpu: {proposal['cpu']}}}",
    ]
    return Group(*parts, *map(shown.text, lines))


def _rows(document: Mapping[str, Any]) -> Iterator[list[str]]:
    """Processes of one name in one row; then what belongs to no process of the node."""
    idle, busy = document["idle"], document["busy"]
    names = dict.fromkeys(process["name"] for state in (busy, idle) for process in state["processes"])
    if len(names) > MOST:  # a node can answer any number of them, and each is looked for among all
        raise ValueError("a sandbox has a few processes")
    for name in names:
        yield [name, *(_of(state, name, key) for state in (idle, busy) for key in ("memoryMiB", "cpuMilli"))]
    yield ["the node's kernel", _number(idle["kernelMiB"]), "", _number(busy["kernelMiB"]), ""]
    guest = f"guest, of {document['guestMiB']} MiB"
    yield [
        guest,
        _number(idle["guestMiB"]),
        _milli(idle["guestCpuMilli"]),
        _number(busy["guestMiB"]),
        _milli(busy["guestCpuMilli"]),
    ]


def _of(state: Mapping[str, Any], name: str, key: str) -> str:
    values = [process[key] for process in state["processes"] if process["name"] == name]
    form: Callable[[float], str] = _milli if key == "cpuMilli" else _number
    return form(sum(values)) if values else ""


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _milli(value: float) -> str:
    return f"{value:.0f}m"
