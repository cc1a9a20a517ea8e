"""Keep which steps a node has taken, beside the program: an update of a node takes only those that have changed since."""

import json
import re
from pathlib import Path
from typing import Any

from nodekit.errors import NodeError
from nodekit.host.files import State, look, physical, put
from nodekit.host.lock import node_lock
from nodekit.host.proofs import FOLDER

RECORD = f"{FOLDER}/converged.json"
"""bootstrap.sh removes it where the stack creates or replaces the resource, so that every step is taken."""
RUN = "[0-9a-f]{16}"
"""How a run is named."""
MAX_RECORD = 64 << 10
"""Bytes of it; it has less than one KiB."""
LOCK_SECONDS = 300
"""Longest wait for another run on this node, which writes by way of the same name."""


class Converged:
    """The record, as far as it can be read: a step that it does not have is taken."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._steps: dict[str, Any] = {}
        self.run = ""
        """The last run that took a step."""
        try:
            document = json.loads(look(root, RECORD, MAX_RECORD).content or b"{}")
        except (NodeError, ValueError, RecursionError):
            return
        steps, run = (document.get(key) for key in ("steps", "run")) if isinstance(document, dict) else (None, None)
        if isinstance(steps, dict) and all(isinstance(step, dict) for step in steps.values()) and re.fullmatch(RUN, str(run)):
            self._steps, self.run = steps, str(run)

    def taken(self) -> list[str]:
        """Names of the steps, in their order."""
        return list(self._steps)

    def version(self, step: str, digest: str) -> str | None:
        """Which version a step brought; None where it was not taken for the state of this digest."""
        kept = self._steps.get(step, {})
        version = kept.get("version")
        return version if kept.get("digest") == digest and isinstance(version, str) else None

    def forget(self, step: str, run: str) -> None:
        """A step begins in a `run`: how it ends is not known. Raises NodeError `file-unwritable` or `node-busy`."""
        self._steps.pop(step, None)
        self.run = run
        self._write()

    def keep(self, step: str, digest: str, version: str) -> None:
        """A step was taken; `version` is empty where it brings none. Raises NodeError `file-unwritable` or
        `node-busy`."""
        self._steps[step] = {"digest": digest, "version": version}
        self._write()

    def clear(self) -> None:
        """Nothing of what was taken is there any more. Raises NodeError `file-unwritable` or `node-busy`."""
        if self._steps:
            self._steps = {}
            self._write()

    def _write(self) -> None:
        if physical(self._root, FOLDER).is_dir():  # not where a person started the program from elsewhere
            content = json.dumps({"steps": self._steps, "run": self.run}).encode()
            with node_lock(self._root, LOCK_SECONDS):
                put(self._root, RECORD, State("file", content=content, mode=0o600))
