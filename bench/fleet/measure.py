"""Runs the contenders in turns, and times each run of each."""

import contextlib
import io
import itertools
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from bench.fleet.contenders import CHANGE, CHECK, CONVERGE, Command, Contender, fault_of_host
from bench.fleet.contenders.alone import Alone
from bench.fleet.contenders.others import Ansible, Pyinfra
from bench.fleet.contenders.program import Program
from bench.fleet.contenders.ssh import Ssh
from bench.fleet.hosts import Fleet, Host, fleet
from bench.fleet.records import Sample
from tests.e2e.checkout import Checkout

OWN: tuple[type[Contender], ...] = (Program, Alone, Ssh)
ALL: tuple[type[Contender], ...] = (*OWN, Ansible, Pyinfra)
SECONDS = 1800
"""Bound on one run."""
LIMITS = itertools.count(8000)
"""Values of the parameter: each change is a new one."""


T = TypeVar("T")


class Failed(Exception):
    """A run that did not do its job, so that its time means nothing."""


def turns(number: int, entries: Sequence[T]) -> list[T]:
    """The entries in the order of a round: each begins once, so that what wears off does so for all alike."""
    first = number % len(entries) if entries else 0
    return [*entries[first:], *entries[:first]]


class Bench:
    """The contenders on one fleet; `report` is told each sample."""

    def __init__(self, fleet: Fleet, report: Callable[[Sample], None]) -> None:
        self.fleet, self.report = fleet, report
        (fleet.folder / "checkout").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            self.checkout = Checkout(fleet.folder / "checkout")
        self.checkout.within = fleet.enter

    def measure(self, size: int, kinds: Sequence[type[Contender]], times: Mapping[str, int]) -> None:
        """All jobs on `size` hosts for each contender; the hosts of the last converge are checked and changed."""
        with self.converged(size, kinds, times[CONVERGE]) as contenders:
            for job in (CHECK, CHANGE):
                for number in range(times[job]):
                    for contender in turns(number, contenders):
                        self.do(job, contender)

    @contextlib.contextmanager
    def converged(self, size: int, kinds: Sequence[type[Contender]], times: int) -> Iterator[list[Contender]]:
        """The contenders, each with hosts that it has converged; fresh ones each time."""
        with ExitStack() as kept:
            contenders: list[Contender] = []
            for number in range(times):
                contenders = []
                for kind in turns(number, kinds):
                    stack = kept.enter_context(ExitStack())
                    contenders.append(self._fresh(kind, stack.enter_context(self.fleet.hosts(size))))
                    self.do(CONVERGE, contenders[-1])
                    if number < times - 1:
                        stack.close()
            yield contenders

    def _fresh(self, kind: type[Contender], hosts: list[Host]) -> Contender:
        folder = Path(tempfile.mkdtemp(prefix=f"{kind.__name__}-", dir=self.fleet.folder))
        if issubclass(kind, Program):
            return kind(self.fleet, hosts, folder, next(LIMITS), self.checkout)
        return kind(self.fleet, hosts, folder, next(LIMITS))

    def do(self, job: str, contender: Contender) -> None:
        """One run of each of a contender's commands for a job. Raises Failed where one did not do it."""
        if job == CHANGE:
            contender.set(next(LIMITS))
        for name, command in contender.commands(job).items():
            before, busy_before = _look(contender.hosts), _busy_seconds()
            seconds, processor_seconds, printed = self._timed(name, command)
            host_seconds, connections = (now - then for now, then in zip(_look(contender.hosts), before, strict=True))
            others = (_busy_seconds() - busy_before - processor_seconds - host_seconds) / seconds / (os.cpu_count() or 1)
            contender.after()
            faults = [contender.fault(job, printed)]
            if not isinstance(contender, Ssh) or isinstance(contender, Alone):
                faults += [fault_of_host(host, contender.limit) for host in contender.hosts]
            if fault := next(filter(None, faults), ""):
                raise Failed(f"{name}, {job} of {len(contender.hosts)} hosts: {fault}")
            size = len(contender.hosts)
            self.report(Sample(job, name, size, seconds, processor_seconds, host_seconds, max(0.0, others), connections / size))

    def _timed(self, name: str, command: Command) -> tuple[float, float, str]:
        """Seconds, processor seconds, and what it printed."""
        begin, used = time.perf_counter(), _used()
        result = subprocess.run(
            [*self.fleet.enter, *command.argv], cwd=command.folder, env=dict(command.environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        seconds, processor_seconds = time.perf_counter() - begin, _used() - used
        if result.returncode != 0:
            outputs = [path.read_text()[-1000:] for path in sorted(command.folder.glob("*.out"))[:2]]
            raise Failed(f"{name} ended with {result.returncode}: {result.stdout[-3000:]} {outputs}")
        return seconds, processor_seconds, result.stdout


def _look(hosts: Sequence[Host]) -> tuple[float, float]:
    """Processor seconds of all hosts together, and the connections that they have accepted."""
    return sum(host.processor_seconds() for host in hosts), sum(host.connections() for host in hosts)


def _busy_seconds() -> float:
    """How long the machine's processors have been at work (proc_stat(5): all but idle and iowait)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def bench(report: Callable[[Sample], None]) -> Iterator[Bench]:
    """A fleet, and the contenders on it."""
    with fleet() as running:
        yield Bench(running, report)
