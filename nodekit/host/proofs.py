"""Keep a node's proofs beside the program, failed ones too: a stack's state holds only the last one that succeeded."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from nodekit.errors import NodeError
from nodekit.host.files import State, look, physical, put
from nodekit.host.lock import node_lock
from nodekit.progress import say
from nodekit.rules.node_state import ProveState
from nodekit.rules.proof import history
from nodekit.rules.proof.history import Climb

if TYPE_CHECKING:
    from nodekit.rules.proof.ladder import Verdict

FOLDER = "/usr/local/lib/kata-nodes"
"""Where a stack puts the node program; it goes as a whole when the node leaves the stack."""
RECORD = f"{FOLDER}/proofs.json"
LOCK_SECONDS = 10
"""Longest wait for another run on this node, which writes by way of the same name; a proof that passed is not kept up by it."""


class Attempt:
    """A proof that runs."""

    def __init__(self) -> None:
        self.began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        """By this node's clock."""
        self.begin = time.monotonic()
        self.climbs: list[Climb] = []
        self.result: dict[str, object] | None = None

    def climbed(self, place: str, verdict: "Verdict") -> None:
        """Keep what the ladder read in one place, passed or not."""
        now = time.monotonic()
        self.climbs.append(Climb(place, verdict, now - self.begin - sum(climb.seconds for climb in self.climbs)))


@contextmanager
def recorded(root: Path, state: ProveState) -> Iterator[Attempt]:
    """Record how the with-block ends, which is a proof. One that is killed leaves no record."""
    attempt = Attempt()
    failure = None
    try:
        yield attempt
    except NodeError as error:
        failure = error
        raise
    finally:
        if failure is not None or attempt.result is not None:
            seconds, climbs, result = time.monotonic() - attempt.begin, attempt.climbs, attempt.result
            _keep(
                root,
                history.proof(state, began=attempt.began, seconds=seconds, climbs=climbs, result=result, failure=failure),
            )


def _keep(root: Path, newest: dict[str, object]) -> None:
    """Add a proof to the record. Neither a disk that cannot be written nor another run that goes on makes a proof fail."""
    if not physical(root, FOLDER).is_dir():  # the program was started from elsewhere, by a person
        return
    try:
        with node_lock(root, LOCK_SECONDS):
            content = history.with_newest(kept(root), newest)
            put(root, RECORD, State("file", content=content, mode=0o600))
    except NodeError as error:
        say(f"this proof is not recorded on the node: {error.message}")


def kept(root: Path) -> list[dict[str, object]]:
    """The recorded proofs, the oldest first; none where there is no record, or one that cannot be read."""
    try:
        return history.parsed(look(root, RECORD, history.MAX_HISTORY).content)
    except NodeError:
        return []
