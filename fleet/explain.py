"""Which settings a node's guests really get, where each comes from, which files count for nothing, and why its pair works."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.measure import Measured
from nodekit.rules.docker import docker_matrix
from nodekit.rules.kata import kernel_params


def lines(one: Measured) -> Iterator[tuple[str, str]]:
    """Heading and sentence of each fact."""
    settings = one.host.state.kata
    if settings is None:
        yield "Kata", "the stack has not come to Kata on this node; run `pulumi up`"
        return
    yield "Address", one.host.address
    found = one.status.get("kata", {}).get("configurations", {}).get(settings.runtime, {}).get(settings.hypervisor)
    if not isinstance(found, Mapping) or "configFile" not in found:
        yield "Configuration", str((found or {}).get("reason", "unknown"))
        return
    yield "Configuration", f"{found['configFile']}: {found['chosenBy']}"
    yield from (("Drop-in", str(path)) for path in found["dropIns"])
    for token in kernel_params.tokens(str(found["kernelParams"])):
        yield "Parameter", f"{token}: {_origin(token, settings.kernel_params)}"
    yield from (("Ignored file", f"{dead['path']}: {dead['reason']}") for dead in found["dead"])
    yield from (("Note", str(note)) for note in found["notes"])
    yield from _pair(one, settings.runtime)
    yield from (("Edited", str(note)) for note in (one.document or {}).get("notes") or [])
    for key in ("restores", "keeps"):
        for name, change in _changes(one).items():
            if isinstance(change, Mapping) and change.get(key):
                yield f"Restore {key}", f"{name}: {', '.join(change[key])}"


def _origin(token: str, stack: list[str]) -> str:
    whose = "the stack's" if token in stack else "of Kata's own files"
    return "; ".join(part for part in (whose, kernel_params.inert(token), kernel_params.note(token)) if part)


def _pair(one: Measured, runtime: str) -> Iterator[tuple[str, str]]:
    version, release = one.status.get("docker", {}).get("daemon", {}).get("version"), one.status.get("kata", {}).get("version")
    if not isinstance(version, str) or not isinstance(release, str):
        return
    verdict = docker_matrix.verdict(version, release, runtime)
    (wanted, _) = docker_matrix.reported(version, "Docker")
    sources = [
        source
        for row in docker_matrix.MATRIX
        if row.first <= wanted and (row.end is None or wanted < row.end)
        for source in row.sources
    ]
    shown = f" ({', '.join(sources)})" if sources else ""
    yield "Pair", f"Docker {version} with Kata {release} ({runtime}): {verdict.reason}{shown}"


def _changes(one: Measured) -> dict[str, Any]:
    found = one.status.get("changes")
    return found if isinstance(found, dict) else {}
