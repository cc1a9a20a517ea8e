"""Register the Kata handler in the container runtime that serves a cluster on this node, as a transaction of its own."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nodekit.errors import NodeError
from nodekit.host import journal, kata_launching, units
from nodekit.host.cluster_runtime import CALL_TIMEOUT, Runtime, named_by_an_installer
from nodekit.host.failpoints import reach
from nodekit.host.files import look, put, read_bytes, resolve, text_of
from nodekit.host.journal import Transaction
from nodekit.host.process import run
from nodekit.host.reading import MAX_SYSTEM, read_text
from nodekit.host.signals import undisturbed
from nodekit.progress import say, step
from nodekit.rules import systemd_units
from nodekit.rules.kata import (
    containerd_config,
    crio_config,
    handler_registration,
    kata_config,
)
from nodekit.rules.kata.containerd_config import Handler, Registered, Target
from nodekit.rules.kata.handler_registration import K0S_FOLDER, K0S_MARK, Place
from nodekit.rules.text import printable

JOURNAL = "handler"
UNIT_RECORD = "unit"
"""The journal's record of the unit that reads what we changed; null for a runtime that reads it by itself."""
UNREAD_RECORD = "unread"
"""The journal's record while the configuration is new and the runtime has not read it."""
HEALTH_TIMEOUT = 120.0
"""Seconds for the runtime to be healthy after its restart."""
RESTART_TIMEOUT = 300.0
"""Seconds for `systemctl restart`, which for k3s and RKE2 ends when the control plane is up or the server has answered;
kata-deploy waits as long (`wait_till_node_is_ready_timeout`)."""
POLL = 0.5
SHIMS = ("containerd-shim", "conmon")
"""Beginnings of the names of processes that hold a container each, and live on while the runtime restarts."""


class Outcome(NamedTuple):
    """What became of the handler."""

    changed: bool
    runtime: str
    file: str
    """The file that registers it."""
    restarted: str | None
    """The unit that was restarted."""


class _Work(NamedTuple):
    """What to write, and how to see that it is in effect."""

    target: Target
    content: bytes


def register(root: Path, node: str, runtime: Runtime, handler: Handler) -> Outcome:
    """Register the handler with the runtime, and restart the runtime where it has something new to read.

    Whatever fails, the files are put back and the runtime has read them again. Raises NodeError `handler-foreign`,
    `snapshotter-missing`, `file-invalid` or `container-runtime-unhealthy`.
    """
    place = runtime.place
    known = _known(runtime, handler)
    refuse_snapshotter(node, runtime, handler.name, handler.snapshotter)
    if handler_registration.is_served(node, place.name, known, handler):
        assert known is not None
        if not known.keeps_devices:
            say(
                f"note: {known.file} registers {handler.name} without privileged_without_host_devices: a privileged pod's guest "
                "gets the node's devices"
            )
        if unread := known.without(handler.pod_annotations):
            lost = ", ".join(unread)
            say(f"note: {known.file} registers {handler.name} without pod_annotations for {lost}: a pod's own are not passed on")
        return Outcome(bool(withdraw(root)), place.name, known.file, None)
    work = _work(root, runtime, handler)
    others = [path for path in journal.paths(root, JOURNAL) if path != resolve(root, work.target.file)]
    records = journal.recorded(root, JOURNAL)
    if not others and UNREAD_RECORD not in records and read_bytes(root, work.target.file) == work.content:
        return Outcome(False, place.name, work.target.file, None)
    if UNREAD_RECORD in records:
        # An earlier run ended before it knew whether the runtime works with this: only the first state is known to be good.
        journal.put_back(root, JOURNAL)
    if place.name == "microk8s":
        _forget_copy(root)
    unit = _active(root, place)
    is_reread = False
    with Transaction(root, JOURNAL) as change:
        change.note(now={UNREAD_RECORD: True, UNIT_RECORD: unit})
        try:
            with step(f"Registering {handler.name} in {place.name}: {work.target.file}"):
                # What ours of an earlier run changed is no measure: it may be what is put right now.
                before = None if journal.paths(root, JOURNAL) else _whole(runtime)
                change.write(work.target.file, work.content, is_own=work.target.strategy == "drop-in")
                _refuse_unread(root, runtime, handler, work)
                _refuse_changed(runtime, work, before)
            is_reread = unit is not None
            _restart(root, runtime, unit, handler)
        except BaseException:
            with undisturbed():
                if change.roll_back() and is_reread and unit is not None:
                    with suppress(NodeError):  # the first failure is the one to report
                        _tell(unit)
                change.note(gone=(UNREAD_RECORD,) if journal.paths(root, JOURNAL) else (UNREAD_RECORD, UNIT_RECORD))
            raise
        change.forget(UNREAD_RECORD)
    if others:
        journal.give_back(root, JOURNAL, (resolve(root, work.target.file),), "")
    return Outcome(True, place.name, work.target.file, unit)


def refuse_snapshotter(node: str, runtime: Runtime, handler: str, snapshotter: str | None) -> None:
    """Raise NodeError `snapshotter-missing` where the runtime cannot give the handler's pods the snapshotter that they need."""
    if not snapshotter or runtime.place.name == "cri-o":
        return
    message = f"Node {node}: the handler {handler} needs the snapshotter {snapshotter}, and"
    if not containerd_config.has_devmapper(runtime.files):
        raise NodeError("snapshotter-missing", f"{message} {runtime.main} gives it no pool (pool_name), so every pod would fail")
    if not containerd_config.has_snapshotter_of_handler(runtime.files, runtime.release, snapshotter):
        release = ".".join(map(str, runtime.release))
        raise NodeError(
            "snapshotter-missing",
            f"{message} containerd {release} takes no snapshotter for one handler, so every pod would fail",
            "handler",
        )


def unregistered(root: Path, node: str, runtime: Runtime, handler: Handler) -> tuple[str, bytes, bytes | None] | None:
    """The file that `register` would write, its content to be, and its content now; None where it would write nothing.

    Raises NodeError `handler-foreign`, `snapshotter-missing`, or as reading does.
    """
    refuse_snapshotter(node, runtime, handler.name, handler.snapshotter)
    if handler_registration.is_served(node, runtime.place.name, _known(runtime, handler), handler):
        return None
    work = _work(root, runtime, handler)
    now = read_bytes(root, work.target.file)
    return None if now == work.content else (work.target.file, work.content, now)


def _known(runtime: Runtime, handler: Handler) -> Registered | None:
    """The handler of that name that somebody else registered."""
    if runtime.place.name == "cri-o":
        return crio_config.known(runtime.files, handler.name)
    return containerd_config.registered(runtime.files, runtime.release, handler.name)


def withdraw(root: Path) -> list[str]:
    """Take back what earlier settings registered; the files that changed."""
    if not journal.paths(root, JOURNAL) and not journal.recorded(root, JOURNAL):
        return []
    outcome = journal.put_back(root, JOURNAL)
    reread(root)
    journal.end(root, JOURNAL)
    for path, why in outcome.kept.items():
        say(f"left as it is: {path}: {why}")
    return outcome.restored


def reread(root: Path) -> None:
    """Have the runtime read its configuration again, as it is after ours was taken back; also after a kill."""
    with suppress(NodeError):  # pods of Kata alone would start by what is left there
        _forget_copy(root)
    unit = journal.recorded(root, JOURNAL).get(UNIT_RECORD)
    if isinstance(unit, str):
        _say_what_runs(root, unit)
        with suppress(NodeError), step(f"{unit} restarts, to forget the Kata handler"):
            _tell(unit)


def _forget_copy(root: Path) -> None:
    """Take our lines out of a file of MicroK8s into which its snap copied them: each revision of it has files of its own, and
    begins with those of the one before. The journal knows the file of the revision that was there then."""
    path = resolve(root, handler_registration.place_of("microk8s").main)
    content = read_bytes(root, path)
    if content is not None and path not in journal.paths(root, JOURNAL):
        text = kata_config.decode(content, path)
        if (kept := containerd_config.without_block(text)) != text:
            put(root, path, look(root, path)._replace(content=kept.encode()))
            say(f"took the Kata handler out of {path}, a copy of an older file")


def _work(root: Path, runtime: Runtime, handler: Handler) -> _Work:
    """Where the handler is written and what that file holds then."""
    place, form = runtime.place, containerd_config.version(runtime.files)
    if place.name == "cri-o":
        file = f"{place.drop_ins}/{crio_config.DROP_IN}"
        why = f"CRI-O merges every file in {place.drop_ins}"
        return _Work(Target(file, "drop-in", 0, why), crio_config.drop_in(handler).encode())
    if place.name == "k0s":
        file = f"{K0S_FOLDER}/{containerd_config.DROP_IN}"
        own = handler_registration.is_k0s_own(text_of(root, runtime.main))
        if not own and containerd_config.target(runtime.files, runtime.release, runtime.main).file != file:
            raise NodeError(
                "file-invalid",
                f"{runtime.main} is not k0s's own (its first line is not '{K0S_MARK}'), so k0s merges nothing of {K0S_FOLDER} "
                f"into it, and it does not register {handler.name} with ConfigPath {handler.config_path}",
                "k0s",
                file=runtime.main,
            )
        return _Work(
            Target(file, "drop-in", form, f"k0s merges every file in {K0S_FOLDER}"),
            containerd_config.drop_in(handler, max(form, 2)).encode(),
        )
    target = containerd_config.target(runtime.files, runtime.release, runtime.main)
    if target.strategy == "drop-in":
        return _Work(target, containerd_config.drop_in(handler, target.version).encode())
    if place.name in ("k3s", "rke2"):
        folder = runtime.main.rpartition("/")[0]
        # The first of both that is there is read, whatever version it has itself (k3s, pkg/agent/containerd/config.go).
        names = ("config-v3.toml.tmpl", "config.toml.tmpl") if form >= 3 else ("config.toml.tmpl",)
        templates = [f"{folder}/{name}" for name in names]
        file = next((path for path in templates if read_bytes(root, path) is not None), templates[0])
        text = text_of(root, file) or '{{ template "base" . }}\n'
        if containerd_config.names_handler(text, handler.name):
            # With the same table twice in it, containerd would not start, and with it all of k3s.
            raise NodeError(
                "handler-foreign",
                f"{file} registers a handler {handler.name} already, and {runtime.main}, which {place.name} writes from it at "
                "each start, does not hold that yet",
                "template",
                program=place.name,
            )
        why = f"{place.name} writes {runtime.main} from it at each start, and its own part stays"
        content = containerd_config.with_block(text, containerd_config.tables(handler, form))
        return _Work(Target(file, "edit", form, why), content.encode())
    text = kata_config.decode(read_bytes(root, target.file) or b"", target.file)
    with_runc = containerd_config.hides_runc(runtime.files, runtime.release)
    content = containerd_config.edited(text, target.file, handler, target.version, with_runc=with_runc)
    return _Work(target, content.encode())


def _whole(runtime: Runtime) -> Mapping[str, Any] | None:
    """The configuration that containerd puts together of its files; None for another runtime, or where it does not."""
    if runtime.place.name != "containerd":
        return None
    result = run(_printing(runtime), timeout=CALL_TIMEOUT, check=False)
    with suppress(NodeError):
        return kata_config.table(result.stdout, runtime.main) if result.code == 0 else None
    return None


def _printing(runtime: Runtime) -> list[str]:
    # From 2.0 on both print the same, but 2.0.0 to 2.0.5 leave out of a dump what they read in tables of version 2.
    verb = "migrate" if runtime.release >= (2, 0) else "dump"
    return [runtime.program, "--config", runtime.main, "config", verb]


def _refuse_changed(runtime: Runtime, work: _Work, before: Mapping[str, Any] | None) -> None:
    """Raise NodeError `file-invalid` where our tables change what pods of another handler are started with."""
    after = _whole(runtime)
    if before is None or after is None:
        return
    names = containerd_config.handlers(runtime.files, runtime.release)
    if changed := containerd_config.changed_handlers(before, after, names):
        raise NodeError(
            "file-invalid",
            f"containerd would read other settings of {printable(', '.join(changed), 200)} than now with {work.target.file}",
            "versions",
            file=runtime.main,
        )


def _refuse_unread(root: Path, runtime: Runtime, handler: Handler, work: _Work) -> None:
    """Have the runtime read its files before it is restarted with them; raises NodeError `file-invalid`."""
    if runtime.place.name == "containerd":
        argv = _printing(runtime)
    elif runtime.place.name == "cri-o":
        # Its own packages bring no main file, and one that is named must be there (CRI-O, `internal/criocli/criocli.go`).
        main = ["--config", runtime.main] if read_bytes(root, runtime.main) is not None else []
        argv = [runtime.program or "crio", *main, "--config-dir", runtime.place.drop_ins, "config"]
    else:
        return
    result = run(argv, timeout=CALL_TIMEOUT, check=False)
    output = printable((result.stderr.strip() or result.stdout.strip()).replace("\n", "; "), 400)
    if result.code == 0:
        table = kata_config.table(result.stdout, " ".join(argv))
        known = (
            crio_config.known([("", table)], handler.name)
            if runtime.place.name == "cri-o"
            else containerd_config.registered([("", table)], runtime.release, handler.name)
        )
        if known is not None and known.config_path == handler.config_path:
            return
        output = f"it does not hold the handler {handler.name}"
    raise NodeError(
        "file-invalid",
        f"{runtime.place.name} does not accept {work.target.file}: {output}",
        "imports",
        file=runtime.main,
    )


def _active(root: Path, place: Place) -> str | None:
    """The unit of the runtime that runs now; None where none does, or the runtime reads changes by itself."""
    others = named_by_an_installer(root, place.units) if place.name == "k3s" else []
    for unit in (*place.units, *others):
        if run(["systemctl", "is-active", unit], timeout=CALL_TIMEOUT, check=False).stdout.strip() in ("active", "activating"):
            return unit
    return None


def _say_what_runs(root: Path, unit: str) -> None:
    files = units.files(root, unit)
    stops_all = bool(files) and systemd_units.stops_all(files)
    going_on, ending = 0, 0
    for process in (root / "proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if read_text(process, MAX_SYSTEM).startswith(SHIMS):
                going_on += 1
                if stops_all and f"/{unit}" in read_text(process.parent / "cgroup", MAX_SYSTEM):
                    going_on, ending = going_on - 1, ending + 1
    effects = []
    if ending:
        effects.append(
            f"{ending} containers end with it, since it has no KillMode=process, and the kubelet starts their pods again"
        )
    if going_on:
        effects.append(f"{going_on} containers run under shims of their own and go on running")
    say(f"{unit} restarts: {'; '.join(effects) or 'no container runs'}; until it is back the kubelet can start none")


def _tell(unit: str) -> None:
    run(["systemctl", "reset-failed", unit], timeout=CALL_TIMEOUT, check=False)
    try:
        run(["systemctl", "restart", unit], timeout=RESTART_TIMEOUT, status=f"systemctl status {unit}")
    except NodeError as error:
        if error.code != "tool-missing":  # after a roll-back, only the log shows why
            error.message = f"{error.message.rstrip('.')}; its log ends: {_log(unit)}"
        raise
    reach("runtime-restarted")


def _restart(root: Path, runtime: Runtime, unit: str | None, handler: Handler) -> None:
    """Restart the runtime and wait until it is healthy; raises NodeError `container-runtime-unhealthy`."""
    if unit is None:
        return
    _say_what_runs(root, unit)
    with step(f"{unit} restarts"):
        _tell(unit)
    end = time.monotonic() + HEALTH_TIMEOUT
    with step(f"Waiting until {unit} is healthy"):
        while (problem := _problem(root, runtime, unit, handler)) is not None:
            if time.monotonic() >= end:
                raise NodeError(
                    "container-runtime-unhealthy",
                    f"{problem}, {HEALTH_TIMEOUT:g} s after {unit} was restarted; its log ends: {_log(unit)}",
                    unit=unit,
                )
            time.sleep(POLL)
    _refuse_other_file(root, runtime, unit)


def _refuse_other_file(root: Path, runtime: Runtime, unit: str) -> None:
    """Raise NodeError `container-runtime-unhealthy` where the process that runs now reads another main file than the one that we
    know, as after a change of the unit that systemd has not loaded."""
    if runtime.place.name not in ("containerd", "cri-o"):
        return
    process = run(["systemctl", "show", "-p", "MainPID", "--value", unit], timeout=CALL_TIMEOUT, check=False).stdout.strip()
    words: list[str] = []
    with suppress(OSError):
        words = read_text(root / "proc" / process / "cmdline", MAX_SYSTEM).split("\0") if process.isdecimal() else []
    named = systemd_units.option(words, "config", "c")
    if named is None and words and runtime.place.name == "containerd":
        named = handler_registration.place_of("containerd").main
    if named and named.startswith("/") and resolve(root, named) != resolve(root, runtime.main):
        raise NodeError(
            "container-runtime-unhealthy",
            f"{unit} runs with {printable(named, 200)}, while its files and the handler's belong to {runtime.main}",
            "other-file",
            unit=unit,
        )


def _problem(root: Path, runtime: Runtime, unit: str, handler: Handler) -> str | None:
    """What is wrong with the runtime now; None when it is healthy."""
    state = run(["systemctl", "is-active", unit], timeout=CALL_TIMEOUT, check=False).stdout.strip()
    if state != "active":
        return f"{unit} is {printable(state, 40) or 'unknown'}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CALL_TIMEOUT)
            connection.connect(str(root / runtime.place.socket.lstrip("/")))
    except OSError as error:
        return f"{runtime.place.socket}: {error.strerror or error}"
    if runtime.place.name in ("k3s", "rke2"):
        files = kata_launching.containerd_files(root, runtime.main)
        if containerd_config.registered(files, runtime.release, handler.name) is None:
            return f"{runtime.main} does not hold the handler {handler.name}"
    if runtime.place.name == "containerd":
        rows = run(
            [runtime.program.removesuffix("containerd") + "ctr", "--address", runtime.place.socket, "plugins", "ls"],
            timeout=CALL_TIMEOUT,
            check=False,
        ).stdout
        states = [row.split() for row in rows.splitlines()]
        if not any(row[:2] == ["io.containerd.grpc.v1", "cri"] and row[-1] == "ok" for row in states if row):
            return "containerd's CRI plugin did not load"
    return None


def _log(unit: str) -> str:
    try:
        text = run(["journalctl", "-u", unit, "-n", "5", "-o", "cat", "--no-pager"], timeout=20, check=False).stdout
    except NodeError as error:
        return error.message
    return printable("; ".join(text.split("\n")).strip("; "), 600) or "empty"
