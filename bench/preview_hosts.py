"""What existing hosts add to a preview and to an `up` without a change, over a program of nothing, on the real engine.

Run by `make bench`; `--most 1000` for more hosts. All sizes are run in turns, so that a busy machine slows all of them alike, and
the least of ROUNDS counts. Every host answers on a port of its own: it must not be called.
"""

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import asyncssh
import typer
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.played_hosts import PlayedHosts
from tests.components.test_scale import tasks
from tests.e2e.checkout import Checkout

ROUNDS = 3
HOSTS = 100
"""The number that the limits are about."""
PREVIEW, UP = 5.0, 8.0
"""Most seconds that these may add to a preview, and to an `up` that changes nothing, on two cores with nothing else to do."""
STATE = 60 * 1024
"""Most bytes of a node in the state as it is; a backend that compresses it keeps about a fifth of them."""


class Run(NamedTuple):
    """One run of the engine."""

    seconds: float
    of_processors: float
    """Seconds that the processors worked for it: engine, program and plugin. They hold on a busy machine too."""
    printed: str


Runs = dict[int, Run]
"""By size, the run that took least."""
EMPTY = {"Pulumi.yaml": "name: empty\nruntime: python\n", "__main__.py": "import pulumi\n"}


class Stacks:
    """A stack of each size in one checkout, and the program of nothing beside it, whose size is 0."""

    def __init__(self, folder: Path, hosts: PlayedHosts, sizes: list[int]) -> None:
        self.hosts, self.checkout, self.empty = hosts, folder / "checkout", folder / "empty"
        for place in (self.checkout, self.empty):
            place.mkdir()
        self.environment = {
            **Checkout(self.checkout).environment,
            # Of each first `up`: the whole state is written once, and not after each resource.
            "PULUMI_EXPERIMENTAL": "true",
            "PULUMI_SKIP_CHECKPOINTS": "true",
        }
        for name, text in EMPTY.items():
            (self.empty / name).write_text(text)
        login = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        for size in sizes:
            if size:
                config = {"kata-nodes:nodes": {"existing": hosts.entries(size)}, "kata-nodes:kata": {"install": "release"}}
                (self.checkout / "stacks" / f"Pulumi.hosts-{size}.yaml").write_text(yaml.safe_dump({"config": config}))
            self.run(size, "stack", "init")
            if size:
                self.run(size, "config", "set", "--secret", "kata-nodes:sshPrivateKey", stdin=login)

    def run(self, size: int, *argv: str, stdin: str = "") -> Run:
        """A command of the engine, which must succeed."""
        begin, used = time.monotonic(), _processor_seconds()
        result = subprocess.run(
            ["pulumi", *argv, "--stack", f"hosts-{size}", "--non-interactive"], cwd=self.checkout if size else self.empty,
            env=self.environment, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        seconds, of_processors = time.monotonic() - begin, _processor_seconds() - used
        if result.returncode != 0:
            sys.exit(f"pulumi {' '.join(argv)} of {size} hosts ended with {result.returncode}:\n{result.stdout[-4000:]}")
        return Run(seconds, of_processors, result.stdout)

    def in_turns(self, sizes: list[int], rounds: int, *argv: str) -> Runs:
        """The least seconds of each size, and what was printed. Every host must be left alone."""
        runs: Runs = {}
        before = self.hosts.connections
        for _ in range(rounds):
            for size in sizes:
                run = self.run(size, *argv)
                runs[size] = min(runs.get(size, run), run)
        if self.hosts.connections != before:
            sys.exit(f"pulumi {' '.join(argv)} opened {self.hosts.connections - before} connections to hosts")
        return runs

    def state_bytes(self, size: int) -> int:
        """Of the stack, as the backend keeps it."""
        (file,) = (self.checkout / ".state").rglob(f"stacks/*/hosts-{size}.json")
        return file.stat().st_size


def _processor_seconds() -> float:
    """Of all that this process has started and that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(previews: Runs, ups: Runs, resources: Mapping[int, int], states: Mapping[int, int]) -> Iterator[str]:
    """A line for each size: what its hosts add, and what each of them costs more than those of the size before."""
    yield "hosts   resources   preview (processors)    next one   no-change up (…)        next one   state"
    before = 0
    for size in list(previews)[1:]:
        columns = [f"{size:5}", f"{resources[size]:9}"]
        for runs in (previews, ups):
            if size in runs:
                run, smaller, none = runs[size], runs[before], runs[0]
                slope = 1000 * (run.seconds - smaller.seconds) / (size - before)
                added = f"{run.seconds - none.seconds:+.1f} s ({run.of_processors - none.of_processors:+.1f} s)"
                columns.append(f"{added:20} {slope:8.0f} ms")
        if size in states:
            columns.append(f"{states[size] / size / 1024:7.1f} KiB each")
        yield "   ".join(columns)
        before = size


def main(
    most: Annotated[
        int, typer.Option(help="The largest number of hosts; of more than a hundred only previews are made.")
    ] = HOSTS,
    rounds: Annotated[int, typer.Option(help="Runs of each, of which the least counts.")] = ROUNDS,
) -> None:
    """Print the figures; 1 when one of a hundred hosts is above its limit."""
    each = (tasks(11) - tasks(1)) / 10
    sizes = sorted({0, min(10, most), min(HOSTS, most), most})
    applied = [size for size in sizes if size <= HOSTS]
    with tempfile.TemporaryDirectory() as folder:
        stacks = Stacks(Path(folder), PlayedHosts(most), sizes)
        previews = stacks.in_turns(sizes, rounds, "preview")
        for size in applied:
            stacks.run(size, "up", "--yes", "--skip-preview")
        ups = stacks.in_turns(applied, rounds, "up", "--yes", "--skip-preview")
        states = {size: stacks.state_bytes(size) for size in applied[1:]}
    resources = {size: int(match[1]) for size in sizes if (match := re.search(r"\+ (\d+) to create", previews[size].printed))}
    print(f"the program of nothing: preview {previews[0].seconds:.1f} s, no-change up {ups[0].seconds:.1f} s")
    print(f"a host: {each:.0f} tasks of the program, 0 connections")
    print("\n".join(table(previews, ups, resources, states)))
    print(f"limits of {HOSTS} hosts: preview +{PREVIEW:g} s, no-change up +{UP:g} s, state {STATE / 1024:.0f} KiB each")
    if HOSTS in states:
        added = [runs[HOSTS].seconds - runs[0].seconds for runs in (previews, ups)]
        raise typer.Exit(int(added[0] > PREVIEW or added[1] > UP or states[HOSTS] / HOSTS > STATE))


if __name__ == "__main__":
    typer.run(main)
