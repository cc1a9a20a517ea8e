"""Canaries: secrets of a test that are recognized wherever they come up, in whatever form they are written there."""

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 1 << 30
"""Bytes; a larger file is not looked into, and the test fails for it."""
COMMON = ("-----", "b3BlbnNzaC1rZXktdjEA")
"""Beginnings of lines that all private keys share."""


def forms(secret: str) -> set[bytes]:
    """The texts by which a secret is recognized: as it is, a key line by line as well, quoted for JSON or an address, in base64.

    Base64 of a text depends on where in the encoded whole it begins, so there are three, each without its uncertain ends.
    """
    lines = [line for line in secret.splitlines() if len(line) >= 24 and not line.startswith(COMMON)]
    pieces = {secret, *(lines if "PRIVATE KEY" in secret else ())}
    encodings = set()
    for piece in pieces:
        raw = piece.encode()
        encodings |= {raw, json.dumps(piece)[1:-1].encode(), urllib.parse.quote(piece).encode()}
        if len(raw) >= 12:
            encodings |= {base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 : -4] for shift in range(3)}
    return encodings


class Canaries:
    """The secrets of a test by name, and where they came up."""

    def __init__(self, **secrets: str) -> None:
        self._forms = {name: forms(secret) for name, secret in secrets.items()}
        self.seen: set[str] = set()
        """Places where a canary came up, as `NAME in PLACE`."""

    def add(self, name: str, secret: str) -> None:
        """Look for another secret from now on."""
        self._forms[name] = forms(secret)

    def look(self, content: bytes | str, place: str) -> None:
        """Look into a text that somebody sees."""
        raw = content.encode() if isinstance(content, str) else content
        self.seen |= {f"{name} in {place}" for name, texts in self._forms.items() if any(text in raw for text in texts)}

    def look_below(self, folder: Path) -> int:
        """Look into every file below a folder, and at its name; how many there were."""
        count = 0
        for file in sorted(folder.rglob("*")):
            if file.is_symlink() or not file.is_file():
                continue
            self.look(str(file), f"the name of {file}")
            assert file.stat().st_size < LONGEST, file
            self.look(file.read_bytes(), str(file))
            count += 1
        return count

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the arguments of every process of this machine and of its namespaces, again and again, while this runs."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.005):
                for entry in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        content = entry.read_bytes()
                    except OSError:
                        continue  # the process has ended
                    self.look(content, f"the arguments of {content[:40]!r}")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
