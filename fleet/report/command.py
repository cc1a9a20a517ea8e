"""Reads stacks and has their nodes measured for a report, and writes the document where it is asked for."""

import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from fleet import engine, hosts
from fleet.errors import FleetError
from fleet.report import build, html, markdown, summary
from fleet.report.document import Fleet, Report, Summary, as_json
from fleet.stack import Answers, Stack, of, proven_elsewhere, readable

Measure = Callable[[Stack], Answers]


def of_one(stack: str, measure: Measure) -> Report:
    """The document of a stack. Raises FleetError."""
    state = engine.deployment(stack)
    known = of(state)
    with readable():
        outputs, elsewhere = hosts.outputs(state), proven_elsewhere(state)
    answers = measure(known)
    return build.report(stack, known.nodes, answers.nodes, outputs, now(), answers.clusters, answers.unfinished, elsewhere)


def of_many(stacks: Sequence[str], measure: Measure) -> tuple[Fleet, bool]:
    """The document of many stacks, and whether the state of one could not be read."""
    summaries = [_summary(stack, measure) for stack in dict.fromkeys(stacks)]
    return summary.fleet(summaries, now()), any(not line.readable for line in summaries)


def _summary(stack: str, measure: Measure) -> Summary:
    try:
        return summary.of(of_one(stack, measure))
    except FleetError as error:
        return summary.unreadable(stack, str(error))


def now() -> str:
    """This moment, as reports have it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def rendered(document: Report | Fleet, form: str) -> str:
    """The text of a document: `html`, `markdown` or `json`."""
    if form == "json":
        return json.dumps(as_json(document), indent=1, ensure_ascii=False) + "\n"
    if isinstance(document, Report):
        return html.report(document) if form == "html" else markdown.report(document)
    return html.fleet(document) if form == "html" else markdown.fleet(document)


def refuse_unwritable(output: Path | None) -> None:
    """Refuse a place that will take no document, before nodes are measured, and a file that its owner has made read-only:
    evidence that is kept is not replaced. Raises FleetError."""
    if output is None:
        return
    with _unwritable_as_sentence(output):
        if output.exists() and not output.is_file():
            return
        place = Path(os.path.realpath(output))
        if not stat.S_ISDIR(place.parent.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        for path, right in ((place.parent, os.W_OK | os.X_OK), (place, os.W_OK)):
            if path.exists() and not os.access(path, right):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _unwritable_as_sentence(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FleetError(f"{output} cannot be written: {error.strerror or error}. Name another file.") from None


def write(document: Report | Fleet, form: str, output: Path | None) -> None:
    """Write it to a file, whole or not at all, to what is no file, or to standard output. Raises FleetError."""
    content = rendered(document, form).encode()
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with _unwritable_as_sentence(output):
        if output.exists() and not output.is_file():
            # A pipe, or a device such as /dev/stdout: for root, a file would otherwise be put in its place.
            with output.open("wb") as file:
                file.write(content)
        else:
            _write_whole(content, Path(os.path.realpath(output)))


def _mode(place: Path) -> int:
    """Of a file that is written again its own, of another what the umask leaves."""
    with suppress(FileNotFoundError):
        return stat.S_IMODE(place.stat().st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def _write_whole(content: bytes, place: Path) -> None:
    """Write a file by another one that takes its place."""
    handle, pending = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(pending).chmod(_mode(place))
        Path(pending).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(pending).unlink()
        raise
