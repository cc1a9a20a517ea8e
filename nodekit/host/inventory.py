"""What one look at a node needs to know of Docker and Kata, each asked once: dpkg takes as long as all that is read of files."""

from functools import cached_property
from pathlib import Path

from nodekit.host import apt, docker, files, kata
from nodekit.rules.docker import daemon_json
from nodekit.rules.docker.docker_packages import DAEMONS, HELD, PackageState


class Inventory:
    """Of the node whose files lie in `root`. Each part is asked when first needed and then stays, so each look has its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def dockerd(self) -> docker.Answer:
        """What dockerd itself answers: it may run with other settings than its file holds by now."""
        return docker.ask(self.root)

    @cached_property
    def packages(self) -> dict[str, PackageState]:
        """The packages that this program pins, and those that hold another dockerd."""
        return apt.package_states(dict.fromkeys((*HELD, *DAEMONS)), self.root)

    @cached_property
    def runtimes(self) -> dict[str, object] | None:
        """Those that daemon.json registers; None where there is no such file."""
        content = files.read_bytes(self.root, daemon_json.PATH)
        return None if content is None else daemon_json.runtimes(content.decode(errors="replace"))

    @cached_property
    def kata(self) -> str | None:
        """The release of Kata."""
        return kata.version(self.root)
