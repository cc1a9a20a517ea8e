"""Which settings a node's guests really get, where each comes from, which files count for nothing, and why its pair works."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fleet import pairs
from fleet.measure import MOST, Measured
from nodekit.rules.kata import kernel_params
from nodekit.rules.proof.ladder import MAX_VALUE
from nodekit.rules.shapes import mapping
from nodekit.rules.text import printable

MAX_PARAMETERS = 64 << 10
"""Characters of a node's kernel_params that are looked at; a kernel reads some 2,000."""


def lines(measurement: Measured) -> Iterator[tuple[str, str]]:
    """Heading and sentence of each fact; what a node answers in another form than the program's is left out.

    A node can answer any number of them, and a table of 40,000 rows takes minutes: of each heading MOST are kept.
    """
    counts: Counter[str] = Counter()
    for heading, sentence in _facts(measurement):
        counts[heading] += 1
        if counts[heading] <= MOST:
            yield heading, printable(sentence, MAX_VALUE)
    yield from ((heading, f"(cut: {number - MOST} more)") for heading, number in counts.items() if number > MOST)


def _facts(measurement: Measured) -> Iterator[tuple[str, str]]:
    settings = measurement.host.state.kata
    if settings is None:
        yield "Kata", "the stack has not come to Kata on this node; run `pulumi up`"
        return
    yield "Address", measurement.host.address
    kata = mapping(measurement.status.get("kata"))
    configuration = mapping(mapping(mapping(kata.get("configurations")).get(settings.runtime)).get(settings.hypervisor))
    if "configFile" not in configuration:
        yield "Configuration", str(configuration.get("reason", "unknown"))
        return
    yield "Configuration", f"{configuration['configFile']}: {configuration.get('chosenBy', 'unknown')}"
    yield from (("Drop-in", str(path)) for path in _list(configuration.get("dropIns")))
    parameters = str(configuration.get("kernelParams", ""))
    if len(parameters) > MAX_PARAMETERS:
        yield "Note", f"kernel_params have {len(parameters)} characters, of which the first {MAX_PARAMETERS} are looked at"
    for token in kernel_params.tokens(parameters[:MAX_PARAMETERS]):
        yield "Parameter", f"{token}: {'; '.join([origin(token, settings.kernel_params), *remarks(token)])}"
    for dead in map(mapping, _list(configuration.get("dead"))):
        yield "Ignored file", f"{dead.get('path')}: {dead.get('reason')}"
    yield from (("Note", str(note)) for note in _list(configuration.get("notes")))
    yield from _pair(measurement, settings.runtime)
    yield from (("Edited", str(note)) for note in _list((measurement.document or {}).get("notes")))
    for key in ("restores", "keeps"):
        for name, change in mapping(measurement.status.get("changes")).items():
            if files := _list(mapping(change).get(key)):
                yield f"Restore {key}", f"{name}: {', '.join(map(str, files))}"


def origin(token: str, stack: Sequence[str]) -> str:
    """Whose a parameter is."""
    return "the stack's" if token in stack else "of the node's files: Kata's own, or an administrator's"


def remarks(token: str) -> tuple[str, ...]:
    """What is known of a parameter."""
    return tuple(part for part in (kernel_params.inert(token), kernel_params.note(token)) if part)


def _pair(measurement: Measured, runtime: str) -> Iterator[tuple[str, str]]:
    version, release = (
        mapping(mapping(measurement.status.get("docker")).get("daemon")).get("version"),
        mapping(measurement.status.get("kata")).get("version"),
    )
    if not isinstance(version, str) or not isinstance(release, str):
        return
    if (known := pairs.known(version, release, runtime)) is None:
        return
    verdict, sources = known
    yield "Pair", f"Docker {version} with Kata {release} ({runtime}): {pairs.with_sources(verdict.reason, sources)}"


def _list(value: object) -> list[Any]:
    """The entries of a list, or the names of an object."""
    return list(value) if isinstance(value, (list, dict)) else []
