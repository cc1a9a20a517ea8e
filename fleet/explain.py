"""Which settings a node's guests really get, where each comes from, which files count for nothing, and why its pair works."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fleet import pairs
from fleet.measure import Measured
from nodekit.rules.kata import kernel_params


def lines(measurement: Measured) -> Iterator[tuple[str, str]]:
    """Heading and sentence of each fact."""
    settings = measurement.host.state.kata
    if settings is None:
        yield "Kata", "the stack has not come to Kata on this node; run `pulumi up`"
        return
    yield "Address", measurement.host.address
    configuration = (
        measurement.status.get("kata", {}).get("configurations", {}).get(settings.runtime, {}).get(settings.hypervisor)
    )
    if not isinstance(configuration, Mapping) or "configFile" not in configuration:
        yield "Configuration", str((configuration or {}).get("reason", "unknown"))
        return
    yield "Configuration", f"{configuration['configFile']}: {configuration['chosenBy']}"
    yield from (("Drop-in", str(path)) for path in configuration["dropIns"])
    for token in kernel_params.tokens(str(configuration["kernelParams"])):
        yield "Parameter", f"{token}: {'; '.join([origin(token, settings.kernel_params), *remarks(token)])}"
    yield from (("Ignored file", f"{dead['path']}: {dead['reason']}") for dead in configuration["dead"])
    yield from (("Note", str(note)) for note in configuration["notes"])
    yield from _pair(measurement, settings.runtime)
    yield from (("Edited", str(note)) for note in (measurement.document or {}).get("notes") or [])
    for key in ("restores", "keeps"):
        for name, change in _changes(measurement).items():
            if isinstance(change, Mapping) and change.get(key):
                yield f"Restore {key}", f"{name}: {', '.join(change[key])}"


def origin(token: str, stack: Sequence[str]) -> str:
    """Whose a parameter is."""
    return "the stack's" if token in stack else "of Kata's own files"


def remarks(token: str) -> tuple[str, ...]:
    """What is known of a parameter."""
    return tuple(part for part in (kernel_params.inert(token), kernel_params.note(token)) if part)


def _pair(measurement: Measured, runtime: str) -> Iterator[tuple[str, str]]:
    version, release = (
        measurement.status.get("docker", {}).get("daemon", {}).get("version"),
        measurement.status.get("kata", {}).get("version"),
    )
    if not isinstance(version, str) or not isinstance(release, str):
        return
    if (known := pairs.known(version, release, runtime)) is None:
        return
    verdict, sources = known
    links = f" ({', '.join(sources)})" if sources else ""
    yield "Pair", f"Docker {version} with Kata {release} ({runtime}): {verdict.reason}{links}"


def _changes(measurement: Measured) -> dict[str, Any]:
    changes = measurement.status.get("changes")
    return changes if isinstance(changes, dict) else {}
