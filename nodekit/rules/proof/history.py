"""What a node keeps of its proofs: the last ones, each with its verdict, and every rung of the newest."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.node_state import ProveState

if TYPE_CHECKING:  # a check reads the record, and judges nothing
    from nodekit.rules.proof.ladder import Verdict

KEPT = 20
"""Proofs that a node keeps."""
MAX_HISTORY = 1 << 20
"""Bytes of the record; a proof with every rung has some 16 KiB, the others one or two."""


class Climb(NamedTuple):
    """The ladder in one place."""

    place: str
    verdict: "Verdict"
    seconds: float
    """From the proof's start, or from the end of the climb before it, until it was judged."""

    def as_dict(self) -> dict[str, object]:
        """The form in the record."""
        return {
            "place": self.place,
            "seconds": round(self.seconds, 2),
            "passed": self.verdict.passed,
            "guestKernel": self.verdict.guest_kernel,
            "userNamespaces": self.verdict.user_namespaces,
            "commandLine": self.verdict.command_line,
            "rungs": [rung.as_dict() for rung in self.verdict.rungs],
        }


def proof(
    state: ProveState,
    *,
    began: str,
    seconds: float,
    climbs: Sequence[Climb],
    result: Mapping[str, object] | None,
    failure: NodeError | None,
) -> dict[str, object]:
    """One proof as the record holds it; `result` is its document, or `failure` what ended it."""
    return {
        "began": began,
        "seconds": round(seconds, 2),
        "passed": failure is None,
        "digest": state.digest,
        "hypervisor": state.hypervisor,
        "runtime": state.runtime,
        "sandbox": state.sandbox,
        "error": failure and {"code": failure.code, "message": failure.message, "remedy": failure.remedy},
        "note": str((result or {}).get("note", "")),
        "dockerVersion": (result or {}).get("dockerVersion"),
        "guestKernel": climbs[-1].verdict.guest_kernel if climbs else None,
        "userNamespaces": climbs[-1].verdict.user_namespaces if climbs else None,
        "climbs": [climb.as_dict() for climb in climbs],
    }


def parsed(content: bytes) -> list[dict[str, object]]:
    """The proofs of a record, the oldest first; none where it is not a record, since nothing else depends on it."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return []
    return [entry for entry in document if isinstance(entry, dict)][-KEPT:] if isinstance(document, list) else []


def with_newest(kept: Iterable[Mapping[str, object]], newest: Mapping[str, object]) -> bytes:
    """The content of the record with one more proof; of earlier ones the rungs are dropped."""
    older = [{**entry, "climbs": []} for entry in kept]
    return json.dumps([*older, newest][-KEPT:], sort_keys=True).encode() + b"\n"
