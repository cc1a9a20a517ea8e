"""Starts, recognises and ends background processes, so that the programs of this folder leave nothing behind."""

import fcntl
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nodekit.errors import NodeError, of_system
from nodekit.host.node import boot_id
from nodekit.host.reading import MAX_OWN, MAX_SYSTEM, read, read_text
from nodekit.rules.text import harmless

OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""From which the kernel takes the ports of outgoing connections (ip(7))."""
PORTS = range(20_000, 30_000)
"""Where servers of this folder listen: below the outgoing ports of most systems, and below Kubernetes' NodePorts."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A person or a supervisor asked this program to stop; clean-up runs on its way out."""


def start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of process `pid` (proc(5), stat field 22), or None when there is none."""
    try:
        stat = read_text(f"/proc/{pid}/stat", MAX_SYSTEM)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and brackets; the numbers begin after its last bracket.
    return stat.rpartition(")")[2].split()[19]


def spawn(command: list[str], record: Path, log: Path) -> int:
    """Start `command` detached from this program and return its pid.

    Its identity (pid, start time, boot) is in `record` before its own code runs, so no kill of this program can
    leave it unknown. Standard output and error go to `log`. Raises NodeError when it cannot be started.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def identify() -> None:
        pid = os.getpid()
        identity = {"pid": pid, "start": start_time(pid), "boot": boot_id(Path("/"))}
        record.write_text(json.dumps(identity), encoding="ascii")
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)

    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                preexec_fn=identify,
            )
    except subprocess.SubprocessError as error:
        # All that Python says of what failed before the program's own code.
        raise NodeError("file-unwritable", f"{record} cannot be written, so {command[0]} was not started") from error
    except OSError as error:
        record.unlink(missing_ok=True)
        raise NodeError("local-program-not-started", f"{command[0]} cannot be run ({error.strerror})") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    # Reaped by init once this program has ended; until then `alive` knows a zombie by its pidfd.
    child.returncode = 0
    return child.pid


@contextmanager
def _handle(record: Path) -> Iterator[tuple[int, int] | None]:
    """(pidfd, pid) of the very process that `record` names, or None when it has ended."""
    try:
        known = json.loads(read(record, MAX_OWN))
        pid, start, boot = int(known["pid"]), known["start"], known["boot"]
        handle = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, TypeError):
        yield None
        return
    try:
        # The handle is held before the comparison: from here on the number cannot pass to another process.
        same = boot == boot_id(Path("/")) and start == start_time(pid)
        yield (handle, pid) if same and not select.select([handle], [], [], 0)[0] else None
    finally:
        os.close(handle)


def alive(record: Path) -> int | None:
    """Pid of the process that `record` names while it runs, else None."""
    with _handle(record) as process:
        return process[1] if process else None


def stop(record: Path, grace: float = 15.0) -> None:
    """End the process that `record` names (SIGTERM, `grace` seconds, SIGKILL) and forget it.

    A process that merely got the same number is never touched. Raises NodeError when even SIGKILL had no effect.
    """
    with _handle(record) as process:
        if process:
            handle, pid = process
            for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], seconds)[0]:
                    break
            else:
                raise NodeError("local-process-not-ended", f"process {pid} outlived SIGKILL")
    record.unlink(missing_ok=True)


def free_port(preferred: int | None = None, other_than: Collection[int] = ()) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, none of `other_than`: `preferred` when that one is free.

    Not one that the kernel would choose: any outgoing connection can have that before a server listens on it.
    """
    candidates = random.SystemRandom().sample(PORTS, 100)
    for port in (*([preferred] if preferred else []), *(port for port in candidates if port < _first_outgoing_port()), 0):
        if port in other_than:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise NodeError("local-no-port", "no TCP port of 127.0.0.1 is free")


def _first_outgoing_port() -> int:
    try:
        return int(read_text(OUTGOING_PORTS, MAX_SYSTEM).split()[0])
    except (OSError, ValueError, IndexError):
        return PORTS.stop


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Hold `directory` (made 0700 when absent) against other runs."""
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Another run may have removed the directory while this one waited for it.
            if directory.exists() and os.fstat(handle).st_ino == directory.stat().st_ino:
                yield
                return
        finally:
            os.close(handle)


def empty(directory: Path, names: tuple[str, ...]) -> None:
    """Remove the entries `names` of `directory`.

    Raises NodeError, and removes nothing, when something unknown lies there: a mistyped path deletes nothing.
    """
    strange = sorted(entry.name for entry in directory.iterdir() if entry.name.removesuffix(".new") not in names)
    if strange:
        raise NodeError("local-folder-foreign", f"{directory} holds {strange[0]!r}, which this program did not make")
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file that only its owner may read, or leave the old one."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    beside.rename(path)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, at most 4000 characters, without control characters."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read(16384).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return "(empty)"
    clean = "".join(c for c in text if c == "\n" or c.isprintable())
    return "\n".join(clean.strip().splitlines()[-lines:])[-4000:] or "(empty)"


def text_field(request: Mapping[str, object], key: str) -> str:
    """The non-empty string at `key`. Raises NodeError naming the key and what stood there."""
    value = request.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise NodeError("bad-input", f"{key} is {value!r}", expected=f"a non-empty string as {key}")
    return value


def path_field(request: Mapping[str, object], key: str) -> Path:
    """The absolute path at `key`. Raises NodeError naming the key and what stood there."""
    path = Path(text_field(request, key))
    if not path.is_absolute():
        raise NodeError("bad-input", f"{key} is {str(path)!r}", expected=f"an absolute path as {key}")
    return path


def progress(text: str) -> None:
    """Print one line of progress."""
    print(harmless(text), file=sys.stderr, flush=True)


def waiting(text: str, seconds: float, pause: float) -> Iterator[float]:
    """Seconds waited so far, for one try after the other with a `pause` between, until `seconds` are over; `text`, what is waited
    for, is a line of progress every ten seconds."""
    begin = reported = time.monotonic()
    while (waited := time.monotonic() - begin) < seconds:
        yield waited
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            progress(f"{text} ({waited:.0f} s of at most {seconds})")
        time.sleep(pause)


Verb = Callable[[dict[str, object]], dict[str, object]]


def removed(request: Mapping[str, object], clear: Callable[[Path], None]) -> dict[str, object]:
    """What every verb `down` does: `clear` ends what runs from the folder and empties it, then the folder goes."""
    directory = path_field(request, "directory")
    if not directory.is_dir():
        return {"removed": False}
    with owned(directory):
        clear(directory)
        directory.rmdir()
    return {"removed": True}


def serve_verbs(verbs: Mapping[str, Verb], program: str) -> int:
    """Run one verb: JSON object on standard input, JSON object on standard output; returns the exit status.

    0 done, 1 failed with one sentence and its remedy on standard error, 2 bad usage, 130 interrupted.
    """
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        progress(f"usage: python3 -m {program} {'|'.join(verbs)}  (settings as JSON on standard input)")
        return 2

    def interrupted(number: int, frame: FrameType | None) -> None:
        # The first signal wins: a second one must not break the clean-up of the first.
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    for each in SIGNALS:
        signal.signal(each, interrupted)
    os.umask(0o077)
    try:
        try:
            settings = json.loads(sys.stdin.read(MAX_OWN))
        except ValueError as error:
            raise NodeError("bad-input", f"standard input is not JSON ({error})", "object") from None
        if not isinstance(settings, dict):
            raise NodeError("bad-input", "standard input does not hold a JSON object", "object")
        print(json.dumps(verbs[sys.argv[1]](settings)))
    except (NodeError, OSError) as error:
        refusal = error if isinstance(error, NodeError) else of_system(error)
        progress(f"{program}: {refusal.sentence()}")
        return 1
    except Interrupted:
        progress(f"{program}: interrupted; what it had started is gone")
        return 130
    return 0
