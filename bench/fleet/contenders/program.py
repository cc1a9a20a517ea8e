"""This program as people use it: `pulumi up`, and `kata-nodes status` and `drift` for the check."""

import contextlib
import io
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from bench.fleet.contenders import CHANGE, CHECK, Command, Contender, parameter
from bench.fleet.hosts import Fleet, Host
from tests.e2e.checkout import Checkout

_NUMBERS = itertools.count(1)


class Program(Contender):
    """A stack of its own in a copy of the project that all share."""

    def __init__(self, fleet: Fleet, hosts: Sequence[Host], folder: Path, limit: int, checkout: Checkout) -> None:
        self.checkout = checkout
        self.stack = f"bench-{next(_NUMBERS)}"
        self._file = checkout.folder / "stacks" / f"Pulumi.{self.stack}.yaml"
        checkout.environment["HOME"] = str(checkout.folder)  # no SSH settings of the person who runs it
        entries = [{"name": host.name, "address": host.address, "hostKey": fleet.host_key} for host in hosts]
        config = {
            "kata-nodes:nodes": {"existing": entries},
            "kata-nodes:docker": {"repository": {"address": f"{fleet.address}/debian", "fingerprint": fleet.site.fingerprint}},
            "kata-nodes:kata": {"install": {"address": f"{fleet.address}/{fleet.site.archive}", "sha256": fleet.site.sha256}},
        }
        self._file.write_text(yaml.safe_dump({"config": config}))
        with contextlib.redirect_stdout(io.StringIO()):
            checkout.pulumi("stack", "init", self.stack)
            key = ("config", "set", "--secret", "--stack", self.stack, "kata-nodes:sshPrivateKey")
            checkout.pulumi(*key, stdin=fleet.login_key)
        super().__init__(fleet, hosts, folder, limit)

    def set(self, limit: int) -> None:
        super().set(limit)
        document = yaml.safe_load(self._file.read_text())
        document["config"]["kata-nodes:kata"]["kernelParams"] = [parameter(limit)]
        self._file.write_text(yaml.safe_dump(document))

    def commands(self, job: str) -> dict[str, Command]:
        def command(*argv: str) -> Command:
            return Command(argv, self.checkout.folder, self.checkout.environment)

        if job == CHECK:
            return {
                f"kata-nodes {verb}": command(sys.executable, "-m", "fleet", verb, self.stack) for verb in ("status", "drift")
            }
        return {"pulumi up": command("pulumi", "up", "--yes", "--skip-preview", "--stack", self.stack, "--non-interactive")}

    def fault(self, job: str, printed: str) -> str:
        # The check needs no look: it ends with another status where a host differs or cannot be measured.
        return printed if job == CHANGE and " updated" not in printed else ""
