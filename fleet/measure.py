"""Asks all nodes at once, over one SSH connection each; a node that cannot be reached is an answer with its cause."""

import asyncio
import base64
import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from delivery import bundle, login, results
from fleet.errors import one_line
from fleet.hosts import Host
from nodekit.errors import NodeError
from nodekit.host.reading import MAX_OWN, read_text
from nodekit.rules.desired import Record
from nodekit.rules.difference import Difference
from nodekit.rules.proof import history
from nodekit.rules.text import printable
from nodekit.scripts import script
from plugins.command import remote
from plugins.command.connections import Connection, Pool, look_up_many, try_each_address
from plugins.command.errors import CommandError
from plugins.command.output import Output

AT_ONCE = 64
"""Nodes that are measured at the same time: a process may hold some 1000 connections, and a processor makes few of them."""
DIALS_BEHIND_JUMPS = 8
"""Connections that are opened at the same time where ~/.ssh/config may lead through other machines in a way that no two share:
sshd drops some of those whose login is not done, from ten on (MaxStartups 10:30:100)."""
DIAL_SECONDS = 10.0
MAX_RESULT = 4 << 20
"""Bytes that a node may answer; a proof's result has some 10 KiB, and all nodes together are kept at once."""
MOST = 100
"""Entries of any list of a node that are shown."""
ABSENT = "absent"
NEVER_REACHED = "the stack has done nothing on it: its last run ended before; run `pulumi up`"
"""Of a node without a step in the state, which does not say how it is reached."""
SUDO_WARNINGS = ("sudo: unable to resolve host ", "sudo: setrlimit(")
"""What sudo complains of and goes on."""
START = (
    "folder=/usr/local/lib/kata-nodes; program={program}; "
    "[ -r $folder/run.sh ] && . $folder/run.sh && is_program $folder/nodekit-$program.pyz $program || "
    "{{ echo; echo absent; exit 0; }}; "
    "nodekit $program {verb}"
)
"""What a node runs: its own copy of this checkout's program, if it is whole."""


@dataclass(frozen=True)
class Question:
    """A verb of the node program, and what it takes."""

    verb: str
    state: Callable[[Host], Record]


COMPARE = Question("compare", lambda host: host.state)


@dataclass(frozen=True)
class Measured:
    """What a node answered."""

    host: Host
    document: dict[str, Any] | None
    """The result of the verb, by default `compare`; None where there is none."""
    cause: str | None
    """Why there is none."""
    seconds: float
    sent: bool = False
    """Whether the program was sent along, because the node does not have this checkout's."""

    @property
    def records(self) -> list[Mapping[str, Any]]:
        """The proofs that the node has recorded, the oldest first."""
        proofs = (self.document or {}).get("proofs")
        return [each for each in proofs[-history.KEPT :] if isinstance(each, dict)] if isinstance(proofs, list) else []

    @property
    def record(self) -> Mapping[str, Any] | None:
        """The newest of them that is of the stack; None where there is none.

        A pass of which the state has no proof does not count: it is older than the run that ended before its proof. Nor does one
        that began before the proof of the state where that is not recorded, as on a full disk; where it is, their order counts,
        since a clock can be set back.
        """
        of_stack = next((each for each in reversed(self.records) if _is_of_stack(each, self.host)), None)
        if of_stack is None or (of_stack.get("passed") is True and self.host.evidence is None):
            return None
        began, in_state = of_stack.get("began"), (self.host.evidence or {}).get("began")
        is_recorded = any(each.get("began") == in_state for each in self.records)
        is_older = isinstance(began, str) and isinstance(in_state, str) and began < in_state and not is_recorded
        return None if is_older else of_stack

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What differs, that which the state alone shows included."""
        known = [{**difference.as_dict(), "traces": []} for difference in self.host.differences]
        known += list((self.document or {}).get("differences") or [])
        newest = self.records[-1] if self.records else None
        # Where the state has no proof, that is told already.
        if newest is not None and self.host.evidence is not None and not _is_of_stack(newest, self.host):
            began = f"its newest proof, which began {newest.get('began')}"
            known.append(_of_proof(f"{began}, is not the one that the stack wants: it ran with other settings"))
        return known

    @property
    def differences(self) -> list[dict[str, Any]]:
        """The same, and that the last proof failed, of which an older state knows nothing: there the one before it stands."""
        last = self.record
        if last is None or last.get("passed") is True:
            return self.changes
        error = last.get("error")
        code = f" [{error.get('code')}]" if isinstance(error, dict) else ""
        return [*self.changes, _of_proof(f"its last proof, which began {last.get('began')}, failed{code}")]

    @property
    def status(self) -> dict[str, Any]:
        """What the program's `status` measured; empty where nothing was."""
        status = (self.document or {}).get("status")
        return status if isinstance(status, dict) else {}


def _is_of_stack(record: Mapping[str, Any], host: Host) -> bool:
    """Whether a recorded proof is the stack's. A failure counts by its digest alone: an `up` that changes only the sandbox, and
    whose proof fails, leaves the proof before it in the state."""
    settings = host.proof_settings.items()
    promised = record.get("passed") is not True or all(record.get(key) == value for key, value in settings)
    return promised and record.get("digest") in host.promises


def _of_proof(message: str) -> dict[str, Any]:
    """A difference that another proof puts right."""
    return {**Difference("setting", printable(message, 200), "prove").as_dict(), "traces": []}


def measure(
    hosts: Sequence[Host], seconds: float, report: Callable[[Measured], None] = lambda _: None, question: Question = COMPARE
) -> list[Measured]:
    """Measure `hosts` in at most `seconds` each; `report` is told each as it answers. Those that are gone are left out."""
    return asyncio.run(_measure([host for host in hosts if not host.gone], seconds, report, question))


async def _measure(
    hosts: Sequence[Host], seconds: float, report: Callable[[Measured], None], question: Question
) -> list[Measured]:
    look_up_many()
    try_each_address()
    pool = Pool(user_ssh=True)
    places = asyncio.Semaphore(AT_ONCE)
    dials = asyncio.Semaphore(DIALS_BEHIND_JUMPS if _jumps(Path.home() / ".ssh/config") else AT_ONCE)
    program = bundle.content()

    async def measured_host(host: Host) -> Measured:
        async with places:
            if host.connection:
                measured = await _measured(pool, dials, host, program, seconds, question)
            else:
                measured = Measured(host, None, NEVER_REACHED, 0.0)
        report(measured)
        return measured

    try:
        return list(await asyncio.gather(*(measured_host(host) for host in hosts)))
    finally:
        pool.close()


def _jumps(config: Path) -> bool:
    """Whether a configuration of OpenSSH may lead through other machines in a way that no two share, unlike a ProxyJump."""
    try:
        text = read_text(config, MAX_OWN)
    except OSError:
        return False
    return re.search(r"^\s*(proxycommand|include|match|canonicalizehostname)\b", text, re.MULTILINE | re.IGNORECASE) is not None


async def _measured(
    pool: Pool, dials: asyncio.Semaphore, host: Host, program: bytes, seconds: float, question: Question
) -> Measured:
    begin = time.monotonic()
    sent = False
    connection: Connection | None = None
    try:
        connection = _patient(Connection.parse(dict(host.connection)))
        async with dials:
            begin = time.monotonic()  # those that do not answer, and slow ways through others, cost the rest none of its time
            async with asyncio.timeout(seconds):
                await pool.open(connection, _ignore)
        async with asyncio.timeout(begin + seconds - time.monotonic()):
            state = json.dumps(question.state(host).document())
            start = START.format(program=_digest(program)[:12], verb=question.verb)
            text = await _run(pool, host, connection, f"sh -c {shlex.quote(start)}", state, seconds)
            if sent := login.last_line(text) == ABSENT:
                code = script("start_sent.py", "fleet")
                # On standard input: csh, as a login shell, takes no quotes around several lines.
                begin_code = f"import sys; exec(sys.stdin.buffer.read({len(code.encode())}))"
                command = f"python3 -I -c '{begin_code}' {_digest(program)} {question.verb}"
                sent_text = f"{code}{base64.b64encode(program).decode()}\n{state}"
                text = await _run(pool, host, connection, command, sent_text, seconds)
        return Measured(host, _document(text, question.verb), None, time.monotonic() - begin, sent)
    except TimeoutError:
        cause = f"no answer within {seconds:g} s; look whether the node is busy or hangs"
    except (CommandError, NodeError, ValueError) as error:
        cause = error.sentence() if isinstance(error, NodeError) else str(error)
    finally:
        if connection is not None:
            pool.drop(connection.login)
    return Measured(host, None, one_line(cause), time.monotonic() - begin, sent)


def _digest(program: bytes) -> str:
    return hashlib.sha256(program).hexdigest()


def _patient(connection: Connection) -> Connection:
    """The stack waits for machines that start; here one is there or is not."""
    way = connection.login.proxy
    login = replace(connection.login, proxy=_patient(way) if way else None)
    return replace(connection, login=login, dial_error_limit=1, per_dial_timeout=DIAL_SECONDS)


async def _run(pool: Pool, host: Host, connection: Connection, command: str, text: str, seconds: float) -> str:
    """What a command prints that runs as root and reads `text`."""
    line = f"timeout --kill-after=10 {int(seconds)} {command}"
    if host.sudo_password:
        as_root = script("as_root.sh", "delivery")
        line, text = login.as_root(as_root) + line, login.before(as_root, host.sudo_password, text)
    elif connection.login.user != "root":
        line = f"sudo -n {line}"
    output = Output("none", _ignore, MAX_RESULT)
    try:
        await remote.run(pool, connection, line, text, {}, {}, output, _ignore, _ignore)
    except CommandError as error:
        raise _explained(output, error) from None
    return output.text("stdout")


async def _ignore(_: str) -> None:
    """Nobody waits for it."""


def _explained(output: Output, error: CommandError) -> CommandError:
    """The program's own sentence in place of how its process ended."""
    lines = [line for line in output.text("stderr").splitlines() if line.strip()]
    messages = [
        line.removeprefix("error: ")
        for line in lines
        if line.startswith(("error: ", "sudo: ")) and not line.startswith(SUDO_WARNINGS)
    ]
    if messages:
        return CommandError(messages[-1])
    reason, _, rest = str(error).partition(": running ")
    # The plugin shows the command, which nobody typed here, and below it all that was printed, in which the last line says why.
    printed = [line for line in rest.partition('":\n')[2].splitlines() if line.strip() and not line.startswith(SUDO_WARNINGS)]
    # It speaks to somebody who runs `pulumi up`, which changes nodes.
    again = reason.replace(remote.AGAIN, "; measure again when it answers")
    return CommandError(f"{again}: {printed[-1]}" if printed else again)


def _document(text: str, verb: str) -> dict[str, Any]:
    try:
        document = results.parsed(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("verb") != verb or not _has_its_form(document):
        raise CommandError(f"the node answered with no result of the program, but {printable(text, 120)!r}")
    return document


def _has_its_form(document: Mapping[str, Any]) -> bool:
    """Whether what every command counts and shows of a result is of the form that the program gives it."""
    status, notes, differences = document.get("status", {}), document.get("notes", []), document.get("differences", [])
    return (
        isinstance(status, dict)
        and isinstance(notes, list)
        and isinstance(differences, list)
        and all(
            isinstance(each, dict)
            and all(isinstance(each.get(key), str) for key in ("kind", "what", "verb"))
            and isinstance(each.get("traces", []), list)
            for each in differences
        )
    )
