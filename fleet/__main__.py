"""The command `kata-nodes`: see what is true of a stack's nodes and clusters now, and repair it, by `pulumi` alone."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules load ends it without a traceback of their inside

import errno
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from heapq import nsmallest
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from fleet import engine
from fleet.cluster_objects import Cluster
from fleet.errors import FleetError
from fleet.hosts import Host
from fleet.stack import Answers, Stack, measured, names, of
from nodekit.rules.text import harmless
from plugins.command import local_user

if TYPE_CHECKING:  # the SSH library and rich take half a second to load, which --help and errors need not wait for
    from fleet.measure import Measured

OK, UNKNOWN, DRIFT = 0, 1, 2
"""Exit statuses: nothing differs, something could not be told, something differs."""


class Commands(TyperGroup):
    """All commands; a wrong command line ends with UNKNOWN, since 2 says of `drift` that something differs."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Of the words before the command."""
        with _usage_as_unknown():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Of the command's own words, and the command itself."""
        with _usage_as_unknown():
            return super().invoke(*args, **kwargs)


@contextmanager
def _usage_as_unknown() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # what the command line's library refuses
            error.exit_code = UNKNOWN
        raise


app = typer.Typer(
    name="kata-nodes",
    cls=Commands,
    help="See what is true on the nodes and clusters of a stack now, and put it right. Run it where you run `pulumi`: it reads "
    "the stack's state for what it has made and how that is reached, and every change is a `pulumi up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
OneStack = Annotated[Optional[str], typer.Argument(help="The stack; without it the one that is selected in this folder.")]
OfStack = Annotated[Optional[str], typer.Option("--stack", "-s", help="The stack; without it the one that is selected here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DAY = 86400
"""The longest wait in seconds: no clock of the system counts an endless one."""
Seconds = Annotated[float, typer.Option("--timeout", min=1, max=DAY, help="Seconds that a node or an API server may take.")]
Watch = Annotated[Optional[float], typer.Option(min=1, max=DAY, metavar="SECONDS", help="Measure again and again.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask: `pulumi up --yes --skip-preview`.")]
PATIENCE = 60.0
UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why standard output takes no more."""


class Format(str, Enum):
    """Of a report."""

    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """A sentence and an exit status in place of a traceback."""
    try:
        yield
    except FleetError as error:
        print(f"error: {harmless(str(error))}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _stack(name: str) -> Stack:
    # What reaches nodes is loaded meanwhile: the engine takes longer to answer.
    loading = Thread(target=import_module, args=("fleet.measure",))
    loading.start()
    try:
        return of(engine.deployment(name))
    finally:
        loading.join()  # a module that is loaded while Python ends fails with a traceback


def _unmeasured(measurement: "Measured") -> FleetError:
    """Why a node has not answered. Its own errors begin with its name already."""
    node, cause = measurement.host.name, str(measurement.cause)
    return FleetError(cause if cause.startswith((f"Node {node}:", f"Node {node} ")) else f"Node {node}: {cause}")


def _node(known: "Sequence[Host]", stack: str, name: str) -> Host:
    """The node of that name. Raises FleetError where there is none."""
    chosen = [host for host in known if host.name == name]
    if not chosen:
        raise FleetError(f"Stack {stack} has no node {name!r}. Its nodes: {', '.join(host.name for host in known) or 'none'}.")
    if chosen[0].gone:
        raise FleetError(f"Node {name} is gone: the stack's file says that its machine no longer exists.")
    return chosen[0]


def _measured(nodes: "Sequence[Host]", clusters: "Sequence[Cluster]", seconds: float) -> Answers:
    """Measure, and say on a terminal who has not answered yet."""
    from fleet import shown

    waiting = names(nodes, clusters)
    whole = len(waiting)
    with shown.progress(shown.text("")) as line:

        def tell(name: str = "") -> None:
            waiting.discard(name)
            line.update(shown.text(f"{whole - len(waiting)} of {whole} measured; waiting for {', '.join(nsmallest(5, waiting))}"))

        tell()
        return measured(nodes, clusters, seconds, tell)


def _answers(known: Stack, seconds: float) -> Answers:
    """All of a stack, measured."""
    return replace(_measured(known.nodes, known.clusters, seconds), unfinished=known.unfinished)


def _measured_nodes(nodes: "Sequence[Host]", seconds: float) -> "list[Measured]":
    return _measured(nodes, [], seconds).nodes


@app.command()
def status(
    stack: OneStack = None,
    as_json: AsJson = False,
    watch: Watch = None,
    timeout: Seconds = PATIENCE,
) -> None:
    """Measure every node, over one SSH connection each, and every object on a cluster, all at once.

    Exit 1 if one could not be measured.
    """
    with _errors_as_sentences():
        from fleet import shown

        name = engine.selected(stack)
        while True:
            known = _stack(name)  # each time: an `up` beside a watch changes what is to be measured, and what it should be
            answers = _answers(known, timeout)
            if as_json:
                print(shown.as_json(shown.document(name, answers, known.gone)))
            else:
                if watch is not None:
                    shown.console().clear()
                shown.write(shown.fleet(name, answers, known.gone))
            if watch is None:
                raise typer.Exit(UNKNOWN if answers.unmeasured_nodes or answers.unmeasured_objects else OK)
            sys.stdout.flush()
            time.sleep(watch)


@app.command()
def drift(stack: OneStack = None, as_json: AsJson = False, timeout: Seconds = PATIENCE) -> None:
    """Say what differs on nodes and clusters from what the stack made of them, and who could have changed it.

    Exit 2 if something differs, 0 if nothing does, 1 if something could not be measured and nothing else differs.
    """
    with _errors_as_sentences():
        from fleet import shown

        name = engine.selected(stack)
        known = _stack(name)
        answers = _answers(known, timeout)
        if as_json:
            print(shown.as_json(shown.document(name, answers, known.gone)))
        else:
            shown.write(shown.drift(answers))
            shown.write(shown.text(_summary(name, answers)))
        raise typer.Exit(_exit(answers))


def _exit(answers: Answers) -> int:
    if answers.differing_nodes or answers.differing_objects or answers.unfinished:
        return DRIFT
    return UNKNOWN if answers.unmeasured_nodes or answers.unmeasured_objects else OK


def _summary(name: str, answers: Answers) -> str:
    """One sentence; objects are in it where the stack has any."""
    kinds = [("nodes", len(answers.nodes), len(answers.differing_nodes), answers.unmeasured_nodes)] if answers.nodes else []
    if answers.clusters:
        kinds.append(("objects", len(answers.objects), len(answers.differing_objects), answers.unmeasured_objects))
    parts = [f"{differing} of {number} {kind} differ" for kind, number, differing, _ in kinds if differing]
    parts += [f"{len(answers.unfinished)} proofs in pods are not there"] if answers.unfinished else []
    repairs = _repairs(name, answers) if parts else []
    parts = parts or ["Nothing that was measured differs"]
    parts += [f"{unmeasured} {kind} could not be measured" for kind, _, _, unmeasured in kinds if unmeasured]
    return f"Stack {name}: {'; '.join([*parts, *repairs])}."


def _repairs(name: str, answers: Answers) -> list[str]:
    """Which of the differences `cure` repairs: all of nodes, and those of objects that a resource of the stack puts right."""
    repairable = [difference.repair is not None for each in answers.differing_objects for difference in each.differences]
    repairable += [True for _ in (*answers.differing_nodes, *answers.unfinished)]
    if not any(repairable):
        return ["no resource of the stack repairs that"]
    return [f"kata-nodes cure {name} repairs {'them' if all(repairable) else 'some of it'}"]


@app.command()
def cure(stack: OneStack = None, yes: Yes = False, timeout: Seconds = PATIENCE) -> None:
    """Repair what `drift` finds, by a `pulumi up` of just the resources that do it, and prove those nodes again.

    An `up` by itself compares settings with the state and sees no change on a node or a cluster. Exit 0 if nothing differs any
    more.
    """
    with _errors_as_sentences():
        from fleet import shown
        from fleet.cure import flags

        name = engine.selected(stack)
        known = _stack(name)
        answers = _answers(known, timeout)
        shown.write(shown.drift(answers))
        if (chosen := flags(answers)) is not None:
            sys.stdout.flush()
            if (code := engine.up(name, chosen, yes=yes)) != 0:
                raise typer.Exit(code)
            known = _stack(name)
            answers = _answers(known, timeout)
            shown.write(shown.drift(answers))
        shown.write(shown.text(_summary(name, answers)))
        raise typer.Exit(_exit(answers))


@app.command()
def prove(
    nodes: Annotated[list[str], typer.Argument(help="Names of nodes, as `status` lists them.")],
    stack: OfStack = None,
    yes: Yes = False,
) -> None:
    """Prove nodes again, by a `pulumi up` of their proofs alone."""
    with _errors_as_sentences():
        from fleet.cure import proofs

        name = engine.selected(stack)
        known = _stack(name).nodes
        chosen = proofs([_node(known, name, node).name for node in nodes], {host.name: dict(host.urns) for host in known})
        raise typer.Exit(engine.up(name, chosen, yes=yes))


@app.command()
def explain(
    node: Annotated[str, typer.Argument(help="Name of a node.")],
    stack: OfStack = None,
    as_json: AsJson = False,
    timeout: Seconds = PATIENCE,
) -> None:
    """Say what a node's guests really get, where each setting comes from, and which files have no effect."""
    with _errors_as_sentences():
        from fleet import shown
        from fleet.explain import lines

        name = engine.selected(stack)
        (measurement,) = _measured_nodes([_node(_stack(name).nodes, name, node)], timeout)
        if measurement.document is None:
            raise _unmeasured(measurement)
        rows = list(lines(measurement))
        if as_json:
            print(shown.as_json([{"subject": subject, "what": text} for subject, text in rows]))
            return
        shown.write(shown.table([node, ""], rows))
        shown.write(shown.differences(measurement))


@app.command()
def overhead(
    node: Annotated[str, typer.Argument(help="Name of a node.")],
    stack: OfStack = None,
    as_json: AsJson = False,
    seconds: Annotated[int, typer.Option(min=2, max=600, help="Seconds for which each of the two sandboxes is measured.")] = 10,
    timeout: Annotated[float, typer.Option(min=100, max=DAY, help="Seconds that all of it may take.")] = 300.0,
) -> None:
    """Measure an idle and a busy sandbox on a node, and propose the overhead of the RuntimeClass, with reasons.

    It starts two containers there, one after the other, and removes them. It sets nothing.
    """
    with _errors_as_sentences():
        from fleet import shown
        from fleet.measure import measure
        from fleet.overhead import classes, question, view

        name = engine.selected(stack)
        deployment = engine.deployment(name)
        host = _node(of(deployment).nodes, name, node)
        with shown.progress(shown.text(f"measuring an idle and a busy sandbox on {node}")):
            (measurement,) = measure([host], timeout, question=question(seconds, timeout))
        if measurement.document is None:
            raise _unmeasured(measurement)
        if as_json:
            print(shown.as_json({**measurement.document, "classes": classes(deployment)}))
            return
        shown.write(view(measurement.document, classes(deployment)))


@app.command()
def report(
    stacks: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="STACK", help="The stack; without it the one that is selected. With --fleet any number."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="Of the document.")] = Format.MARKDOWN,
    output: Annotated[Optional[Path], typer.Option("--output", "-o", help="Write it to this file.", dir_okay=False)] = None,
    fleet: Annotated[bool, typer.Option("--fleet", help="Sum up stacks, by default all of this project.")] = False,
    timeout: Seconds = PATIENCE,
) -> None:
    """Write down what was proven on a stack's nodes, and how: a document to keep or pass on. A failed stack has one too.

    It measures nodes and objects on clusters first. Exit 1 if no document could be written, or with --fleet if a stack's state
    could not be read.
    """
    with _errors_as_sentences():
        from fleet.report import command

        def measure(known: Stack) -> Answers:
            return _answers(known, timeout)

        if stacks and len(stacks) > 1 and not fleet:
            raise FleetError("A report is of one stack. Add --fleet to sum up many.")
        command.refuse_unwritable(output)
        if fleet:
            document, missed = command.of_many(stacks or engine.stacks(), measure)
            command.write(document, form.value, output)
            raise typer.Exit(UNKNOWN if missed else OK)
        name = engine.selected(stacks[0] if stacks else None)
        command.write(command.of_one(name, measure), form.value, output)


@app.command()
def errors(code: Annotated[Optional[str], typer.Argument(help="A code, such as proof-user-namespaces-zero.")] = None) -> None:
    """Explain an error's code: its cause and its remedies. Without a code, list all of them."""
    from fleet import shown
    from review.catalogue import KNOWN

    if code is None:
        shown.write(shown.table(["CODE", "CAUSE"], [[name, failure.cause] for name, failure in KNOWN.items()]))
        return
    failure = KNOWN.get(code.strip("[]"))
    if failure is None:
        near = [name for name in KNOWN if set(code.split("-")) & set(name.split("-"))]
        hint = f"Near it: {', '.join(near[:8])}." if near else "kata-nodes errors lists all."
        print(harmless(f"error: There is no code {code!r}. {hint}"), file=sys.stderr)
        raise typer.Exit(UNKNOWN)
    shown.write(shown.text(failure.cause))
    for remedy in dict.fromkeys(filter(None, (failure.remedy, *failure.cases.values()))):
        shown.write(shown.text(f"- {remedy.replace('{', '<').replace('}', '>')}."))  # a value of the run


@app.command()
def compat(
    docker: Annotated[Optional[str], typer.Option(help="Docker's version, such as 27.5.1.")] = None,
    kata: Annotated[Optional[str], typer.Option(help="Kata's version, such as 3.32.0.")] = None,
    runtime: Annotated[str, typer.Option(help="Kata's runtime: go or rust.")] = "go",
) -> None:
    """Say which Docker works with which Kata, and where that is known from. Exit 1 for a pair that is known to break."""
    from fleet import shown
    from fleet.pairs import rows
    from nodekit.errors import NodeError
    from nodekit.rules.docker import docker_matrix

    if docker is None and kata is None:
        shown.write(shown.table(["DOCKER", "KATA, GO SHIM", "KATA, RUST", "WHY", "SOURCES"], rows()))
        return
    try:
        verdict = docker_matrix.verdict(
            docker_matrix.SAFE_DOCKER if docker is None else docker,
            docker_matrix.NEWEST_PROVEN[1] if kata is None else kata,
            runtime,
        )
    except NodeError as error:
        print(f"error: {error.sentence()}", file=sys.stderr)
        raise typer.Exit(UNKNOWN) from None
    # The reason of a pair that is not known to break says whether it works or was never tried.
    print(harmless(verdict.reason if verdict.ok else f"breaks: {verdict.reason}. Use {verdict.cure}"))
    raise typer.Exit(OK if verdict.ok else UNKNOWN)


@app.command()
def doctor(stack: OneStack = None) -> None:
    """Check this machine: Python, Pulumi, login, plugins, SSH, the stack's file and state, the sites. Exit 1 for a fault.

    A site that does not answer here is only a note: it is the nodes that must reach it.
    """
    with _errors_as_sentences():
        from fleet import shown
        from fleet.doctor import findings

        faults = 0
        for finding in findings(stack):
            level = finding.level
            faults += level == "FAULT"
            color = {"FAULT": "red", "note": "yellow"}.get(level, "")
            shown.write(shown.text(f"{level:<5}  {finding.subject}: {finding.message}", color))
            if finding.cure:
                shown.write(shown.text(f"       {finding.cure}"))
        raise typer.Exit(UNKNOWN if faults else OK)


def main() -> None:
    """Run the command that was typed; one whose output cannot be written ends with a sentence, or silently if nobody reads it."""
    # A caller may have closed them. What is opened next would take their place, and errors would go to standard output.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 # of the process
    # Names and answers can hold what the locale's encoding cannot.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    local_user.complete()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        try:
            app(prog_name="kata-nodes")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        # What is left in memory would be tried again, and fail again, as Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(harmless(f"error: The output could not be written: {error.strerror}."), file=sys.stderr)
        sys.exit(UNKNOWN)


if __name__ == "__main__":
    main()
