"""What a pod of the proof reports: the ladder's lines as they stand in a termination message, for tests that play pods."""

from collections.abc import Mapping

from nodekit.rules.node_state import SEED_PARAMETER
from nodekit.rules.proof.ladder import REQUIRED

GUEST_ID = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
FACTS = {
    "boot-id": f"status=ok value={GUEST_ID} detail=",
    "kernel": "status=ok value=6.12.0 detail=",
    "command-line": f"status=ok value={SEED_PARAMETER} detail=",
    "user-namespaces": "status=ok value=7563 detail=",
    "uid": "status=ok value=0 detail=",
    "proc-masks": "status=ok value= detail=",
    "sandbox-runtime": "status=absent value= detail=",
}


def report(nonce: str, *, end: bool = True, dropped: tuple[str, ...] = (), **changed: str) -> str:
    """A passing report with lines changed (names with underscores), dropped, or without its end."""
    lines = {name: FACTS.get(name, "status=ok value=0 detail=") for name in REQUIRED}
    lines |= {name.replace("_", "-"): line for name, line in changed.items()}
    text = "".join(f"{nonce} rung={name} {line}\n" for name, line in lines.items() if name not in dropped)
    return text + (f"{nonce} end\n" if end else "")


ZERO: Mapping[str, str] = {"user_namespaces": "status=ok value=0 detail="}
"""A guest whose limit reads 0."""
