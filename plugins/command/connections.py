"""Dials machines by SSH, and lets all commands of one machine and login share a connection."""

import asyncio
import contextlib
import functools
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

import asyncssh

from plugins.command import local_user
from plugins.command.errors import CommandError, Unreachable
from plugins.command.user_ssh import UNUSABLE, Hop, Reader, UserSsh, read_for
from plugins.command.wire import Properties

# Source: retry.Until of the Pulumi SDK, which the official plugin dials with.
_FIRST_DELAY = 0.1
_DELAY_GROWTH = 1.5
_LONGEST_DELAY = 5.0

_KEEPALIVE_SECONDS = 15
_KEEPALIVES_MISSED = 8  # two minutes: an emulated node can be busy for long
_TOO_MANY_KEYS = "Too many authentication failures"
"""How sshd ends a login once it has refused as many keys as it allows (MaxAuthTries, by default six)."""
_AGENT_SECONDS = 10.0
"""Seconds in which an SSH agent must list its keys; it asks a person, if at all, for a signature."""
SHOWN = 4
"""Lines of settings that are named as passed over."""
MAX_ERRORS = 64 << 10
"""Bytes that are read of what a ProxyCommand says on standard error."""
SILENCE_SECONDS = _KEEPALIVE_SECONDS * _KEEPALIVES_MISSED
"""Seconds without an answer after which a connection counts as lost."""

_DIALS = 1024
"""Connections that are opened at the same time."""
_ADDRESS_SECONDS = 2.0
"""Seconds without an answer after which the next address of a host is tried beside the one before."""
_KEPT = 256
"""Connections from which on those without a session are closed: a process may have some 1000 files open (ulimit -n)."""
_LOOKUPS = 64
"""Names that are looked up at the same time. By default it is as many as there are processors and four more, and a name whose
servers are silent takes ten seconds."""
_OPEN_ATTEMPTS = 3
_OPEN_DELAY = 0.2

T = TypeVar("T")
P = ParamSpec("P")
Status = Callable[[str], Awaitable[None]]


class _Lookups(ThreadPoolExecutor):
    """Threads that nobody waits for: Python would join those of its own pool, so that a name whose servers are silent would keep
    the program from its end, after Ctrl-C too."""

    def __init__(self) -> None:
        super().__init__(_LOOKUPS)
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """What is to be called; None ends a thread."""
        self.started = 0

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As for every executor."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)

        self.calls.put(call)
        if self.started < _LOOKUPS:
            self.started += 1
            Thread(target=self._serve, name="lookup", daemon=True).start()
        return future

    def _serve(self) -> None:
        while call := self.calls.get():
            call()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread once its name is looked up, and wait for none."""
        for _ in range(self.started):
            self.calls.put(None)
        self.started = 0


def look_up_many() -> None:
    """Have the running loop look up many names at once, so that those without an answer keep none of the others waiting."""
    asyncio.get_running_loop().set_default_executor(_Lookups())


def try_each_address() -> None:
    """Have the running loop connect to another address of a host where one is silent: many machines have one of IPv6 in DNS that
    leads nowhere, on which the SSH library would wait until the time of the dial is over."""
    loop = asyncio.get_running_loop()
    connect = functools.partial(loop.create_connection, happy_eyeballs_delay=_ADDRESS_SECONDS)
    setattr(loop, "create_connection", connect)  # noqa: B010 # which the library calls without that argument


@dataclass(frozen=True)
class Login:
    """Whom to log in to, as whom and with what; commands with equal logins share connections."""

    host: str
    port: int
    user: str
    password: str | None = field(repr=False)
    private_key: str | None = field(repr=False)
    private_key_password: str | None = field(repr=False)
    agent_socket: str | None
    host_key: str | None
    proxy: "Connection | None"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


_KINDS: dict[str, Any] = {
    **dict.fromkeys(("user", "password", "privateKey", "privateKeyPassword", "agentSocketPath", "hostKey"), str),
    **dict.fromkeys(("port", "dialErrorLimit", "perDialTimeout"), int | float),
    "proxy": dict,
}
"""What a connection may have beside its host."""


@dataclass(frozen=True)
class Connection:
    """The `connection` input of a resource."""

    login: Login
    dial_error_limit: int
    """One less than the failed dials after which it gives up; -1: it never gives up."""
    per_dial_timeout: float | None
    """Seconds for one dial with login, None for no bound."""

    @staticmethod
    def parse(fields: Properties) -> "Connection":
        """From plain properties; what an older state lacks gets the schema's default."""
        if not isinstance(fields.get("host"), str) or not fields["host"]:
            raise CommandError("connection.host is missing: name the machine to connect to")
        for key, kind in _KINDS.items():
            if not isinstance(fields.get(key), kind | None):
                raise CommandError(
                    f"connection.{key} has a value of another kind, as in a state that somebody edited: correct it"
                )
        proxy = fields.get("proxy")
        return Connection(
            Login(
                host=fields["host"],
                port=int(fields.get("port") or 22),
                user=fields.get("user") or "root",
                password=fields.get("password"),
                private_key=fields.get("privateKey"),
                private_key_password=fields.get("privateKeyPassword"),
                agent_socket=fields.get("agentSocketPath"),
                host_key=fields.get("hostKey"),
                proxy=Connection.parse(proxy) if proxy else None,
            ),
            dial_error_limit=int(limit) if (limit := fields.get("dialErrorLimit")) is not None else 10,
            per_dial_timeout=float(seconds) or None if (seconds := fields.get("perDialTimeout")) is not None else 15.0,
        )


@dataclass(eq=False)
class Link:
    """One live SSH connection and how many sessions use it."""

    ssh: asyncssh.SSHClientConnection
    way: "Link | None" = None
    """The connection that carries this one."""
    sessions: int = 0
    released: float = field(default_factory=time.monotonic)
    """When it began, or its last session ended."""
    limit: int | None = None
    """Sessions the server allows at once (sshd's MaxSessions), once it has refused one."""
    accepted_environment: dict[str, bool] = field(default_factory=dict)
    """Environment variables that were tried, and whether the server's AcceptEnv lets them through."""

    @property
    def usable(self) -> bool:
        return not self.ssh.is_closed() and (self.limit is None or self.sessions < self.limit)


class Pool:
    """All SSH connections of a process.

    With `user_ssh`, what a login leaves open comes from the user's own OpenSSH: keys, certificates, the agent, the way through
    other machines, which logins share, and known_hosts where no key is pinned. The plugin itself reads none of it, as the
    official one reads none.
    """

    def __init__(self, *, user_ssh: bool = False) -> None:
        local_user.complete()
        self._reader = Reader() if user_ssh else None
        self._dialing = asyncio.Semaphore(_DIALS)
        self._links: dict[Login, list[Link]] = {}
        self._dials: dict[Login, asyncio.Task[Link]] = {}
        self._agents: dict[str, asyncio.Task[str]] = {}
        self._silent: dict[Login, str] = {}
        """Machines on the way to others that gave no answer in time, and what was said of it."""
        self._dialed_through: list[Link] = []
        """Those through which a connection is being dialed."""

    @contextlib.asynccontextmanager
    async def session(
        self, connection: Connection, status: Status, open_session: Callable[[Link], Awaitable[T]]
    ) -> AsyncIterator[T]:
        """What `open_session` opens over a connection to the machine, which is dialled when there is none yet.

        A connection on which the server allows no further session is left to the others, a dead one is replaced.
        Raises CommandError, one sentence with a remedy, when the machine cannot be reached or refuses.
        """
        failures = 0
        while True:
            link = await self._link(connection, Credentials.load(connection.login), status)
            link.sessions += 1
            try:
                try:
                    opened = await open_session(link)
                except (OSError, asyncssh.Error) as error:
                    if isinstance(error, asyncssh.ChannelOpenError) and not link.ssh.is_closed():
                        if link.sessions > 1:
                            link.limit = link.sessions - 1
                            continue
                    else:
                        link.ssh.abort()
                    failures += 1
                    if failures > _OPEN_ATTEMPTS:
                        raise CommandError(f"{connection.login} opens no session: {error}") from error
                else:
                    yield opened
                    return
            finally:
                link.sessions -= 1
                link.released = time.monotonic()
                self._close_surplus()
            await asyncio.sleep(_OPEN_DELAY)

    async def open(self, connection: Connection, status: Status) -> None:
        """Connect, for who bounds how many do that at the same time. Raises CommandError as `session`."""
        await self._link(connection, Credentials.load(connection.login), status)

    def drop(self, login: Login) -> None:
        """Drops the connections of one login that nobody uses any more."""
        links = self._links.pop(login, [])
        for link in links:
            if not link.sessions:
                link.ssh.abort()
        if used := [link for link in links if link.sessions]:
            self._links[login] = used

    def _close_surplus(self) -> None:
        """Closes those that wait longest for a session, where there are too many: an engine works on some nodes at a time, and
        comes to a node again for a few resources one after the other."""
        links = [link for links in self._links.values() for link in links]
        if len(links) <= _KEPT:
            return
        needed = {id(link) for link in self._dialed_through} | {id(link.way) for link in links}
        idle = sorted((link for link in links if not link.sessions and id(link) not in needed), key=lambda link: link.released)
        closed = {id(link) for link in idle[: len(links) - _KEPT]}
        for login, others in list(self._links.items()):
            for link in others:
                if id(link) in closed:
                    link.ssh.close()
            self._links[login] = [link for link in others if id(link) not in closed]
            if not self._links[login]:
                del self._links[login]

    def close(self) -> None:
        """Drops every connection."""
        for task in (*self._dials.values(), *self._agents.values()):
            task.cancel()
        for links in self._links.values():
            for link in links:
                link.ssh.abort()
        self._links.clear()

    async def _link(self, connection: Connection, credentials: "Credentials", status: Status) -> Link:
        dials, delay = 0, _FIRST_DELAY
        while True:
            for link in self._links.get(connection.login, []):
                if link.usable:
                    return link
            try:
                # All that wait for the same machine wait for the same dial, and each counts its failure.
                return await asyncio.shield(self._dial(connection, credentials, status))
            except DialError as error:
                dials += 1
                limit = connection.dial_error_limit
                if error.final or -1 < limit < dials:
                    raise Unreachable(f"{error.sentence} (after {dials} failed attempt{'s'[: dials > 1]})") from error
                await status(f"Dial {dials}/{'inf' if limit == -1 else limit} failed: retrying ({error.reason})")
            await asyncio.sleep(delay)
            delay = min(delay * _DELAY_GROWTH, _LONGEST_DELAY)

    def _dial(self, connection: Connection, credentials: "Credentials", status: Status) -> asyncio.Task[Link]:
        login = connection.login
        if login not in self._dials:
            task = asyncio.create_task(self._dial_once(connection, credentials, status))
            self._dials[login] = task
            task.add_done_callback(functools.partial(self._dialed, login))
        return self._dials[login]

    def _dialed(self, login: Login, task: asyncio.Task[Link]) -> None:
        self._dials.pop(login, None)
        # All that waited may have given up before it failed, and asyncio prints the traceback of what nobody looks at.
        if not task.cancelled():
            task.exception()

    async def _dial_once(self, connection: Connection, credentials: "Credentials", status: Status) -> Link:
        login = connection.login
        own, way = None, login.proxy
        if self._reader:
            own, own_way = await asyncio.to_thread(_own, connection, self._reader)
            way = way or own_way
            if credentials.key is None:
                own = await self._with_agent_that_answers(own)
        proxy = await self._carrier(way, status) if way else None
        carriers = [proxy] if proxy else []
        self._dialed_through += carriers
        try:
            async with self._dialing:
                link = Link(await dial(connection, credentials, proxy.ssh if proxy else None, own), proxy)
        finally:
            for carrier in carriers:
                self._dialed_through.remove(carrier)
        alive = [other for other in self._links.get(login, []) if not other.ssh.is_closed()]
        self._links[login] = [*alive, link]
        return link

    async def _carrier(self, way: Connection, status: Status) -> Link:
        """The connection to a machine on the way to others. With the user's own settings, where nobody waits for a start, one
        that gave no answer in time is not waited for again: it would cost thousands of nodes behind it a quarter of an hour."""
        if fault := self._silent.get(way.login):
            raise Unreachable(fault)
        try:
            return await self._link(way, Credentials.load(way.login), status)
        except Unreachable as error:
            if self._reader and error.__cause__ and isinstance(error.__cause__.__cause__, TimeoutError):
                self._silent[way.login] = str(error)
            raise

    async def _with_agent_that_answers(self, own: UserSsh) -> UserSsh:
        """The settings, without an agent that does not answer: asyncssh would wait for it until the time of the login is over, or
        end the login, and the machine would be said not to answer. Each agent is asked once, for all machines."""
        path = os.environ.get("SSH_AUTH_SOCK", "") if own.agent is None else own.agent
        if not path:
            return own
        if path not in self._agents:
            self._agents[path] = asyncio.create_task(_fault_of_agent(path))
        fault = await asyncio.shield(self._agents[path])
        return replace(own, agent="", agent_fault=f"the SSH agent at {path} does not answer: {fault}") if fault else own


def _own(connection: Connection, reader: Reader) -> tuple[UserSsh, Connection | None]:
    """The user's own settings for a login, and the way there by its ProxyJump.

    There is none by one that cannot be read, or leads to itself: asyncssh, which goes it then, says why it comes to no end.
    """
    own = read_for(connection.login.host, connection.login.port, connection.login.user)
    with contextlib.suppress(*UNUSABLE):
        return own, _way(connection, own.hops, reader)
    return own, None


def _way(connection: Connection, hops: Sequence[str], reader: Reader, behind: tuple[Hop, ...] = ()) -> Connection | None:
    """The machines of a ProxyJump, the first of which can be behind others too. Each is dialled once, whatever is behind it."""
    way: Connection | None = None
    for number, hop in enumerate(map(reader.hop, hops)):
        if hop in behind:
            raise RecursionError
        if number == 0:
            way = _way(connection, reader.of_hop(hop).hops, reader, (*behind, hop))
        way = replace(connection, login=Login(hop.host, hop.port, hop.user, None, None, None, None, None, way))
    return way


class DialError(Exception):
    """One dial that failed: the reason in short, and the sentence with remedy for the caller that gives up.

    `final` means that waiting does not help. The official plugin keeps dialing even then, for minutes.
    """

    def __init__(self, reason: str, sentence: str, final: bool = False) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence
        self.final = final


@dataclass(frozen=True)
class Credentials:
    """The keys of a login, read once: a key that cannot be read is refused before anything is dialled."""

    key: asyncssh.SSHKey | None
    host_key: asyncssh.SSHKey | None

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def load(login: Login) -> "Credentials":
        """Raises CommandError naming the input that cannot be read."""
        key = host_key = None
        # As bytes: what stands beside a key, such as the comment behind it, can have any letters.
        if login.private_key is not None:
            try:
                key = asyncssh.import_private_key(login.private_key.encode(), login.private_key_password)
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
                remedy = "give a whole private key in PEM or OpenSSH form, and connection.privateKeyPassword if it is encrypted"
                if "bcrypt" in str(error):
                    remedy = (
                        "install the Python package bcrypt beside asyncssh, or give the key in another form "
                        "(ssh-keygen -p -m PKCS8 -f FILE)"
                    )
                raise CommandError(f"connection.privateKey for {login} cannot be read: {error}; {remedy}") from None
        if login.host_key is not None:
            try:
                host_key = asyncssh.import_public_key(login.host_key.encode())
            except asyncssh.KeyImportError as error:
                raise CommandError(
                    f"connection.hostKey for {login} cannot be read: {error}; give one line as in authorized_keys, "
                    "for example 'ssh-ed25519 AAAA…'"
                ) from None
        return Credentials(key, host_key)


class _Client(asyncssh.SSHClient):
    """Answers the questions of the SSH handshake."""

    def __init__(self, login: Login, host_key: asyncssh.SSHKey | None) -> None:
        self._login = login
        self._host_key = host_key
        self._password_requested = False
        self.presented: asyncssh.SSHKey | None = None
        self.connected = False
        """Whether a server was reached; what goes wrong from then on is its doing."""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connected = True

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.presented = key
        return self._host_key is not None and key.public_data == self._host_key.public_data

    def kbdint_auth_requested(self) -> str | None:
        # Once only: the library asks again after each refusal.
        if self._login.password is None or self._password_requested:
            return None
        self._password_requested = True
        return ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        # As official: every question gets the password.
        return [self._login.password or ""] * len(prompts)


async def dial(
    connection: Connection,
    credentials: Credentials,
    proxy: asyncssh.SSHClientConnection | None,
    settings: UserSsh | None,
) -> asyncssh.SSHClientConnection:
    """One attempt to connect and log in, through `proxy` when given, with the user's own settings for what the login leaves open.

    Raises DialError.
    """
    login = connection.login
    client = _Client(login, credentials.host_key)
    pinned = credentials.host_key
    algorithms: str | tuple[()] = ()
    if pinned is not None:
        name = pinned.get_algorithm()
        algorithms = "^" + ("rsa-sha2-512,rsa-sha2-256" if name == "ssh-rsa" else name)
    async with contextlib.AsyncExitStack() as stack:
        keys: list[asyncssh.SSHKey | asyncssh.SSHKeyPair] = []
        if credentials.key is not None:
            keys.append(credentials.key)
        elif settings is None or login.agent_socket:
            keys.extend(await _agent_keys(login, stack))
        # An empty tuple leaves the choice to asyncssh, which decides as OpenSSH does.
        own: Any = () if settings else None
        agent: Any = own if settings is None or settings.agent is None else settings.agent
        if keys:
            agent = None  # asyncssh offers its keys before those of the login, and sshd ends a login after six (MaxAuthTries)
        known_hosts: Any = settings.known_hosts() if settings else None
        tunnel: Any = proxy or own
        passed_over: list[str] = []
        certificates: Any = ()
        command: Any = own
        errors: Any = None
        if settings and settings.options:
            tunnel, command = proxy or (own if settings.hops else None), None
            if settings.proxy_command and not proxy:
                with contextlib.suppress(OSError):  # a full disk costs the words alone
                    errors = stack.enter_context(tempfile.NamedTemporaryFile(prefix="kata-nodes-way-"))  # noqa: SIM115 # of the stack
                command = [*settings.proxy_command, errors.name if errors else os.devnull]
            certificates, unread_certificates = settings.certificates()
            passed_over = [*settings.passed_over, *unread_certificates]
        if pinned is not None:
            known_hosts = _known_to_nobody

        async def connect(config: Any, client_keys: Any) -> asyncssh.SSHClientConnection:
            try:
                return await connect_once(config, client_keys, agent, ())
            except asyncssh.DisconnectError as error:
                too_many = _TOO_MANY_KEYS in str(error)
                if settings is None or keys or not (too_many or isinstance(error, asyncssh.PermissionDenied)):
                    raise
                # OpenSSH offers first those of the agent that have a certificate in a file, and those that an IdentityFile names.
                certified = await _certified_keys(login, settings, stack)
                named = settings.public_keys() if too_many else []
                if not (certified or named):
                    raise
            if certified:
                return await connect_once(config, certified, None, ())
            return await connect_once(config, client_keys, agent, named)

        async def connect_once(config: Any, client_keys: Any, agent: Any, of_agent: Any) -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(
                login.host,
                login.port,
                tunnel=tunnel,
                proxy_command=command if config == () else None,
                config=config,
                options=settings.options if settings and config == () else None,
                client_factory=lambda: client,
                known_hosts=known_hosts,
                server_host_key_algs=algorithms,
                username=login.user,
                password=login.password,
                client_keys=client_keys,
                client_certs=certificates,
                agent_path=agent,
                agent_identities=of_agent,
                # OpenSSH knows no X.509. asyncssh looks for such certificates in ~/.ssh/crt, and fails where it may not look.
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                pkcs11_provider=None,  # its library is none of those that are locked here; an agent has its keys
                preferred_auth="publickey,password,keyboard-interactive"
                if credentials.key is not None
                else "password,keyboard-interactive,publickey",
                # What the login itself has counts, whatever a person wants to be asked for on other machines.
                public_key_auth=True if credentials.key is not None else (),
                password_auth=True if login.password is not None else (),
                kbdint_auth=True if login.password is not None else (),
                gss_auth=False,
                gss_kex=False,
                host_based_auth=False,
                connect_timeout=connection.per_dial_timeout,
                login_timeout=connection.per_dial_timeout or 0,
                keepalive_interval=_KEEPALIVE_SECONDS,
                keepalive_count_max=_KEEPALIVES_MISSED,
            )

        unread = f"; of ~/.ssh/config, this was passed over: {_first(passed_over)}" if passed_over else ""
        try:
            try:
                return await connect(own, keys or own)
            except UNUSABLE as error:
                if settings is None or client.connected or not _is_of_own_settings(error):
                    raise
            usable = keys or await _usable_keys(login, settings, stack)
            try:
                return await connect(own, usable)
            except UNUSABLE as error:
                if client.connected or not _is_of_own_settings(error):
                    raise
                # OpenSSH takes lines, such as those that end with a comment, that asyncssh does not; most machines need none.
                # It opens a way through each machine by the settings for that one, and so never comes to an end.
                why = "a ProxyJump leads to itself" if isinstance(error, RecursionError) else error
                unread = f"; ~/.ssh/config was left out, since it cannot be used here ({why}): write that line in another way"
                return await connect(None, usable)
        except (OSError, ValueError, OverflowError, asyncssh.Error) as error:
            from_agent = len(keys) if credentials.key is None else 0
            begun = client.connected and not errors
            explained = _explain(error, connection, credentials, client.presented, from_agent, settings is not None, begun)
            way = f"; the way there is the ProxyCommand of ~/.ssh/config{_last_line(errors.read(MAX_ERRORS))}" if errors else ""
            if settings and settings.agent_fault and isinstance(error, asyncssh.PermissionDenied):
                unread += f"; {settings.agent_fault}, so none of its keys was offered"
            raise DialError(explained.reason, explained.sentence + way + unread, explained.final) from error


def _first(entries: Sequence[str]) -> str:
    """The first entries of a list, and how many more it has."""
    rest = [f"and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else []
    return "; ".join([*entries[:SHOWN], *rest])


def _last_line(words: bytes) -> str:
    """What a ProxyCommand said last."""
    lines = [line.strip() for line in words.decode(errors="replace").splitlines() if line.strip()]
    return f", which said: {lines[-1]}" if lines else ""


def _known_to_nobody(*_: object) -> tuple[list[str], list[str], list[str]]:
    """No key is known, so `_Client` is asked about the one that is presented."""
    return [], [], []


def _is_of_own_settings(error: Exception) -> bool:
    """Whether the user's own OpenSSH settings, or a file that they name, cannot be read.

    No error of a network names a file. Of errors of a value, that of a host's name (`_explain`) is none of them.
    """
    if isinstance(error, OSError):
        return error.filename is not None
    return not isinstance(error, UnicodeError) or isinstance(error, UnicodeDecodeError)


async def _usable_keys(login: Login, settings: UserSsh, stack: contextlib.AsyncExitStack) -> list[asyncssh.SSHKeyPair] | None:
    """The user's own keys that can be read, or else those of the agent.

    None where there are none: asyncssh takes an empty list for the files with the default names, and one of these may be what
    cannot be read.
    """
    if keys := settings.keys():
        return keys
    if settings.agent != "":
        with contextlib.suppress(CommandError):
            keys = await _agent_keys(replace(login, agent_socket=settings.agent), stack)
    return keys or None


async def _certified_keys(login: Login, settings: UserSsh, stack: contextlib.AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    """The agent's keys for which a file has a certificate, with it: asyncssh takes one for the keys of files alone."""
    certificates = {certificate.key.public_data: certificate for certificate in settings.certificates(of_identities=True)[0]}
    keys: list[asyncssh.SSHKeyPair] = []
    if certificates and settings.agent != "":
        with contextlib.suppress(CommandError):
            keys = await _agent_keys(replace(login, agent_socket=settings.agent), stack)
    certified = [key for key in keys if key.key_public_data in certificates and not key.has_cert]
    for key in certified:
        key.set_certificate(certificates[key.key_public_data])
    return certified


async def _agent_keys(login: Login, stack: contextlib.AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    """The keys that the SSH agent offers; it stays connected while `stack` is open, because it signs."""
    path = login.agent_socket or os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return []
    try:
        return await _listed(path, stack)
    except (OSError, ValueError, asyncssh.Error) as error:
        if login.agent_socket is None and login.password is not None:
            return []
        raise CommandError(
            f"the SSH agent at {path} does not answer: {_of_agent(error)}; start it, or correct connection.agentSocketPath "
            "or SSH_AUTH_SOCK, or give connection.privateKey"
        ) from None


async def _listed(path: str, stack: contextlib.AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    """The keys of the agent at a socket. Raises OSError, ValueError or asyncssh.Error."""
    async with asyncio.timeout(_AGENT_SECONDS):
        agent = await asyncssh.connect_agent(path)
        stack.push_async_callback(_hang_up, agent)
        return list(await agent.get_keys())


async def _hang_up(agent: asyncssh.SSHAgentClient) -> None:
    agent.close()
    with contextlib.suppress(OSError):  # one that has hung up first
        await agent.wait_closed()


async def _fault_of_agent(path: str) -> str:
    """Why the agent at a socket lists no keys; empty where it does."""
    try:
        async with contextlib.AsyncExitStack() as stack:
            await _listed(path, stack)
    except (OSError, ValueError, asyncssh.Error) as error:
        return _of_agent(error)
    return ""


def _of_agent(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no list of its keys within {_AGENT_SECONDS:g} s"
    return _of_system(error) if isinstance(error, OSError) else str(error)


def _explain(
    error: Exception,
    connection: Connection,
    credentials: Credentials,
    presented: asyncssh.SSHKey | None,
    from_agent: int,
    user_ssh: bool,
    begun: bool,
) -> DialError:
    """`begun`: whether a server took the connection, so that neither its address nor a firewall is the cause."""
    login = connection.login
    place = str(login).rpartition("@")[2]  # a user of a directory has one in his name
    pinned = credentials.host_key
    if isinstance(error, asyncssh.HostKeyNotVerifiable) and pinned is not None and presented is not None:
        return DialError(
            "host key mismatch",
            f"host key mismatch: {place} presents {presented.get_algorithm()} {presented.get_fingerprint()}, but "
            f"connection.hostKey is {pinned.get_algorithm()} {pinned.get_fingerprint()}: another machine answers, "
            "or its key was changed; if the change is meant, set connection.hostKey to the new key",
            final=True,
        )
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        key = f" {presented.get_algorithm()} {presented.get_fingerprint()}" if presented is not None else ""
        remedy = "compare its fingerprint with the machine's, and log in once with ssh, which adds it"
        if "revoked" in str(error):
            remedy = "another machine may answer; use it only if its owner says that the line with @revoked is wrong"
        sentence = f"{place} presents the host key{key}, which known_hosts does not vouch for ({error}): {remedy}"
        return DialError("host key not known", sentence, final=True)
    if isinstance(error, asyncssh.PermissionDenied):
        offered = [
            *([f"private key {credentials.key.get_fingerprint()}"] if credentials.key is not None else []),
            *(["password"] if login.password is not None else []),
            *([f"{from_agent} key{'s'[: from_agent > 1]} of the SSH agent"] if from_agent else []),
        ]
        if user_ssh and credentials.key is None and not from_agent:
            offered.append("the keys that OpenSSH would offer")
        remedy = "check connection.user, and that the key stands in that user's authorized_keys or the password is right"
        if not offered:
            remedy = "give connection.privateKey, or start an SSH agent with the key, named by SSH_AUTH_SOCK"
        return DialError(
            "login refused",
            f"{place} refused to let {login.user} log in with {' or '.join(offered) or 'no credential'}: {remedy}",
        )
    if isinstance(error, asyncssh.DisconnectError) and _TOO_MANY_KEYS in str(error):
        remedy = "give connection.privateKey, or take other keys out of the agent (ssh-add -d)"
        if user_ssh:
            remedy = f"name the key for {login.host} in ~/.ssh/config by IdentityFile, with IdentitiesOnly yes"
        return DialError("login refused", f"{place} ended the login of {login.user}, since too many keys were offered: {remedy}")
    garbled = isinstance(error, UnicodeDecodeError)  # what a server said, which is the only text that is decoded here
    if isinstance(error, UnicodeError) and not garbled:  # of the form of a name on the network (RFC 1035, section 2.3.4)
        reason = "its name has an empty part between dots, or one of more than 63 bytes"
        return DialError(reason, f"cannot reach {place}: {reason}; correct connection.host", final=True)
    if isinstance(error, (ValueError, OverflowError)) and not garbled:
        # Of a port over 65535, a bound below 0, and characters that no name of a host or user and no password has (RFC 4013).
        remedy = "correct connection.host, port, user, password or perDialTimeout"
        reason = str(error).rstrip(".")
        return DialError(reason, f"cannot dial {place}: {reason}; {remedy}", final=True)
    if isinstance(error, asyncssh.KeyExchangeFailed) and "No matching" in str(error):
        remedy = "allow one of those that were sent in its sshd_config (KexAlgorithms, Ciphers, MACs, HostKeyAlgorithms)"
        return DialError("no algorithm in common", f"{place} and this side share no algorithm: {error}; {remedy}", final=True)
    # The system has a bound of its own where the connection has none.
    bound = f" within {connection.per_dial_timeout:g} s" if connection.per_dial_timeout else ""
    if begun and (isinstance(error, TimeoutError) or "Login timeout" in str(error)):
        by_agent = credentials.key is None and (from_agent or user_ssh)
        asks = ", whether an SSH agent waits for a person who allows the signature" if by_agent else ""
        return DialError(
            "no answer in time",
            f"cannot log in to {place}: no answer in time{bound}, though it took the connection; look whether the machine hangs "
            f"or is busy{asks}, and check that connection.port is that of an SSH server",
        )
    if begun and isinstance(error, (ConnectionResetError, BrokenPipeError, asyncssh.ConnectionLost)):
        reason = _of_system(error) if isinstance(error, OSError) else str(error)
        return DialError(
            f"closed before the login ({reason})",
            f"{place} took the connection and closed it before the login ({reason}): a machine that is still starting does that, "
            "and an sshd with too many logins at once (MaxStartups) or that has refused several from here (PerSourcePenalties); "
            "look into its log (journalctl -u ssh), and check that connection.port is that of an SSH server",
        )
    if isinstance(error, asyncssh.ChannelOpenError):  # no session is asked for here
        return DialError(
            str(error),
            f"the bastion on the way to {place} opens no connection there: {error}; check connection.host and connection.port as "
            "the bastion sees them, and that its sshd may forward connections (AllowTcpForwarding)",
        )
    if isinstance(error, (OSError, TimeoutError)):
        late = isinstance(error, TimeoutError)
        reason = "no answer in time" if late else _of_system(error)
        return DialError(
            reason,
            f"cannot reach {place}: {reason}{bound if late else ''}; check that the machine is up, that connection.host and "
            "connection.port are right, and that no firewall is in between",
        )
    return DialError(
        str(error) or type(error).__name__,
        f"SSH with {place} failed: {str(error) or type(error).__name__}; check that an SSH server answers there",
    )


def _of_system(error: OSError) -> str:
    """The system's own words, in whose place asyncio has the call and the address; of several addresses, those of each."""
    numbers = [error.errno] if error.errno else [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    # A name that is not found has a number below zero, of another list.
    words = dict.fromkeys(os.strerror(number) for number in numbers if number > 0)
    return ", ".join(words) or error.strerror or str(error)
