"""Run a verb and record, in order, its effects and the failure points that it reaches: `python audited.py TRACE VERB ROOT`.

Python's audit events (PEP 578) report every change of a file and every program that is started, whatever code asked for it."""

import json
import os
import sys
from pathlib import Path

from nodekit.host import failpoints

ASKING = (
    ("dpkg-query",), ("apt-cache",), ("apt-config", "dump"), ("apt-mark", "showauto"), ("apt-get", "install", "--simulate"),
    ("dockerd", "--validate"), ("prlimit",), ("setpriv",),
    ("journalctl",), ("kata-runtime", "--version"), ("systemd-detect-virt",),
    ("systemctl", "show"),
    ("systemctl", "reset-failed"),  # a counter in systemd's memory
)  # fmt: skip
"""Programs that change nothing, by how their arguments begin."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Trace:
    """Writes a line for each effect or point, except for what happens in `state`, the program's own folder."""

    def __init__(self, file: str, root: Path) -> None:
        self.handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.root = root
        self.state = f"{root}/var/lib/kata-nodes/"

    def say(self, *words: object) -> None:
        """Write one line."""
        os.write(self.handle, f"{' '.join(map(str, words))}\n".encode())

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """The hook."""
        if event == "subprocess.Popen":
            argv = [str(word) for word in arguments[1]] if isinstance(arguments[1], (list, tuple)) else []
            argv[0] = Path(argv[0]).name
            if not any(tuple(argv[: len(words)]) == words for words in ASKING):
                self.say("effect", *argv[:4])
        elif event == "open":
            path, _, flags = arguments
            if (
                isinstance(path, (str, bytes))
                and isinstance(flags, int)
                and flags & WRITING
                and flags & os.O_TMPFILE != os.O_TMPFILE
            ):
                self.file(event, os.fsdecode(path))
        elif event in ("os.rename", "os.link", "os.symlink"):
            self.file(event, os.fsdecode(arguments[1]))  # type: ignore[arg-type]
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.truncate", "os.setxattr"):
            path = arguments[0]
            if isinstance(path, (str, bytes, os.PathLike)) and self.will(event, os.fsdecode(path)):
                self.file(event, os.fsdecode(path))

    def will(self, event: str, path: str) -> bool:
        """Whether the call will do anything: the event comes before it."""
        if event == "os.rmdir":
            return Path(path).is_dir() and not any(Path(path).iterdir())
        return os.path.lexists(path) != (event == "os.mkdir")

    def file(self, event: str, path: str) -> None:
        """Record a path on the node, except for the lock, the null device, apt's temporary files, and the private folder."""
        if path.startswith(f"{self.state}kata/") or path == f"{self.state}kata":
            return
        if (
            path.startswith(("/dev/", "/proc/", "/run/kata-nodes-apt-"))
            or path.endswith("run/kata-nodes.lock")
            or "__pycache__" in path
        ):
            return
        self.say("effect", event, path)


def main() -> None:
    """Run the verb of the command line on the state on standard input."""
    trace = Trace(sys.argv[1], Path(sys.argv[3]))
    reach = failpoints.reach

    def recorded(name: str) -> None:
        trace.say("point", name)
        reach(name)

    failpoints.reach = recorded
    import importlib

    command = importlib.import_module(f"nodekit.commands.{sys.argv[2]}")
    sys.addaudithook(trace.audit)
    command.run(json.load(sys.stdin), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
