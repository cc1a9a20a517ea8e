"""Asks set-up for the built programs and images that the programs of this folder run, where their caller names none."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.process import progress
from nodekit.errors import NodeError
from nodekit.host.reading import MAX_OWN

CHECKOUT = Path(__file__).resolve().parent.parent
MAX_LINE = 1 << 16
"""Characters of a line of progress that are passed on at once."""
STOP_SECONDS = 60
"""Bound on the end of a set-up that is interrupted: it removes a root folder, and waits for what it has started there."""


def from_set_up(*arguments: str) -> Any:
    """What set-up (`python -m tools.local`) prints for these arguments; its progress goes to standard error as it comes.

    Set-up is a program of its own, because nothing else needs what it builds with. Raises NodeError when it fails.
    """
    last = ""
    with tempfile.TemporaryFile("w+") as printed:
        argv = [sys.executable, "-m", "tools.local", *arguments]
        with subprocess.Popen(argv, cwd=CHECKOUT, stdout=printed, stderr=subprocess.PIPE, text=True) as setup:
            assert setup.stderr
            try:
                while line := setup.stderr.readline(MAX_LINE):
                    progress(line.rstrip())
                    last = line
            except BaseException:
                # A build says nothing for minutes; interrupted as by a person, it removes what it has begun.
                setup.send_signal(signal.SIGINT)
                try:
                    setup.communicate(timeout=STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    setup.kill()
                raise
        if setup.returncode:
            why = last.strip().removeprefix("error: ") or f"set-up ended with {setup.returncode}"
            raise NodeError("local-part-failed", why)
        printed.seek(0)
        return json.loads(printed.read(MAX_OWN))


def completed(request: Mapping[str, object], parts: Mapping[str, str]) -> dict[str, object]:
    """`request`, with each missing key of `parts` (own key to the part's name) filled from the cache, made if need be.

    Raises NodeError when set-up cannot make a part.
    """
    if all(key in request for key in parts):
        return dict(request)
    built = from_set_up()
    return {**{key: built[name] for key, name in parts.items()}, **request}


def newest_image() -> Path | None:
    """Folder of the node image that was built last; None where none was."""
    folder = from_set_up("--newest-image")
    return Path(folder) if folder else None
