"""What a run of the benchmark measured, as JSON lines, and the medians and ratios that follow from it."""

import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Where and when it was measured."""

    date: str
    cores: int
    memory_gib: int
    kernel: str
    processor: str


@dataclass(frozen=True)
class Sample:
    """One run of one command."""

    job: str
    contender: str
    hosts: int
    seconds: float
    processor_seconds: float
    """Of the machine that starts it: user and system time of the command and what it started and waited for."""
    host_seconds: float
    """Of all hosts together: processor time of everything on them."""
    others: float
    """Share of the machine's processors that other programs had meanwhile, from 0 to 1."""
    connections: float
    """That a host accepted, on average."""


@dataclass(frozen=True)
class Figure:
    """Medians of all samples of a contender at a job and a number of hosts."""

    job: str
    contender: str
    hosts: int
    seconds: float
    shortest: float
    longest: float
    processor_seconds: float
    host_seconds: float
    others: float
    connections: float
    runs: int


def this_machine() -> Machine:
    """The machine that this runs on, now."""
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return Machine(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        cores=os.cpu_count() or 1,
        memory_gib=round(memory / (1 << 20)),
        kernel=platform.release(),
        processor=models[0].partition(":")[2].strip() if models else platform.machine(),
    )


def line(record: Machine | Sample) -> str:
    """One line of JSON."""
    if isinstance(record, Machine):
        return json.dumps({"machine": asdict(record)})
    return json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(record).items()})


def read(text: str) -> tuple[Machine, list[Sample]]:
    """The machine and all samples of the lines of one run."""
    documents = [json.loads(row) for row in text.splitlines() if row]
    (machine,) = (Machine(**document["machine"]) for document in documents if "machine" in document)
    return machine, [Sample(**document) for document in documents if "machine" not in document]


def figures(samples: Iterable[Sample]) -> list[Figure]:
    """A figure for each contender, job and number of hosts, in the order in which they first appear."""
    groups: dict[tuple[str, str, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.job, sample.contender, sample.hosts), []).append(sample)
    return [_figure(*key, group) for key, group in groups.items()]


def _figure(job: str, contender: str, hosts: int, group: Sequence[Sample]) -> Figure:
    seconds = [sample.seconds for sample in group]
    return Figure(
        job=job,
        contender=contender,
        hosts=hosts,
        seconds=statistics.median(seconds),
        shortest=min(seconds),
        longest=max(seconds),
        processor_seconds=statistics.median(sample.processor_seconds for sample in group),
        host_seconds=statistics.median(sample.host_seconds for sample in group),
        others=statistics.median(sample.others for sample in group),
        connections=statistics.median(sample.connections for sample in group),
        runs=len(group),
    )


def ratio(known: Sequence[Figure], job: str, hosts: int, contender: str, other: str) -> float | None:
    """How many times as long one contender takes as another; None where either was not measured."""
    seconds = {figure.contender: figure.seconds for figure in known if (figure.job, figure.hosts) == (job, hosts)}
    if contender not in seconds or other not in seconds:
        return None
    return seconds[contender] / seconds[other]
