"""Commands over a real sshd: sharing, refusals, retries, environment, cancellation."""

import asyncio
import contextlib
import errno
import os
import pwd
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from conftest import Sshd, StartSshd, free_port, new_key

from plugins.command import connections, remote, user_ssh
from plugins.command.connections import Connection, Pool
from plugins.command.errors import CommandError
from plugins.command.output import Output

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def ssh_agent(folder: Path, *keys: str) -> Iterator[str]:
    """The socket of an SSH agent, in a folder, that has these private keys in their order."""
    place = folder / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL) as agent:
        try:
            while not place.exists():
                time.sleep(0.02)
            for number, key in enumerate(keys):
                file = folder / f"key{number}"
                file.write_text(key)
                file.chmod(0o600)
                subprocess.run(["ssh-add", "-q", str(file)], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(place)})
            yield str(place)
        finally:
            agent.terminate()


@dataclass
class Client:
    """Runs commands through one pool and keeps the messages."""

    connection: dict[str, Any]
    pool: Pool = field(default_factory=Pool)
    statuses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    async def run(
        self,
        command: str,
        stdin: str = "",
        environment: dict[str, str] | None = None,
        previous: dict[str, str] | None = None,
        **connection: Any,
    ) -> Output:
        output = Output("none", self._status)
        await remote.run(
            self.pool,
            Connection.parse({**self.connection, **connection}),
            command,
            stdin,
            environment or {},
            previous or {},
            output,
            self._status,
            self._warn,
        )
        return output

    async def _status(self, message: str) -> None:
        self.statuses.append(message)

    async def _warn(self, message: str) -> None:
        self.warnings.append(message)


def with_client(connection: dict[str, Any], work: Callable[[Client], Awaitable[None]]) -> Client:
    client = Client(connection)

    async def main() -> None:
        try:
            await work(client)
        finally:
            client.pool.close()

    asyncio.run(main())
    return client


def refusal(connection: dict[str, Any], command: str = "true", **options: Any) -> tuple[str, Client]:
    """The error of a command that must fail, and the client that ran it."""
    seen: list[str] = []

    async def work(client: Client) -> None:
        with pytest.raises(CommandError) as error:
            await client.run(command, **options)
        seen.append(str(error.value))

    client = with_client(connection, work)
    return seen[0], client


def test_streams_stdin_and_environment(sshd: Sshd) -> None:
    async def work(client: Client) -> None:
        output = await client.run('cat; echo "$GREETING"; echo oops >&2', "given\n", {"GREETING": "hi"})
        assert (output.text("stdout"), output.text("stderr")) == ("given\nhi", "oops")
        assert (await client.run("exec <&-; echo done", "x" * 1_000_000)).text("stdout") == "done"
        large = await client.run("head -c 8000000 /dev/zero | tr '\\0' a; wc -c", "y" * 3_000_000)
        assert large.text("stdout") == "a" * 8_000_000 + "3000000"

    with_client(sshd.connection, work)


def test_failure_has_the_official_shape(sshd: Sshd) -> None:
    message, _ = refusal(sshd.connection, 'echo a; echo "b" >&2; exit 3')
    head, _, rest = message.partition("\n")
    assert head == r'Process exited with status 3: running "echo a; echo \"b\" >&2; exit 3":'
    assert sorted(rest.split()) == ["a", "b"]
    message, _ = refusal(sshd.connection, "kill -TERM $$")
    assert message.startswith("Process exited with status 143 from signal TERM: running ")


def test_twenty_commands_share_one_connection(sshd: Sshd, tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        # Each waits for all the others: they run at the same time.
        command = f"touch {tmp_path}/at%d; until [ $(ls {tmp_path} | grep -c ^at) = 20 ]; do sleep 0.05; done; echo %d"
        outputs = await asyncio.gather(*(client.run(command % (n, n)) for n in range(20)))
        assert [output.text("stdout") for output in outputs] == [str(n) for n in range(20)]

    with_client(sshd.connection, work)
    assert sshd.logins() == 1


def test_commands_over_the_servers_session_limit_get_further_connections(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd = start_sshd("MaxSessions 3")

    async def work(client: Client) -> None:
        command = f"touch {tmp_path}/at%d; until [ $(ls {tmp_path} | grep -c ^at) = 8 ]; do sleep 0.05; done"
        await asyncio.wait_for(asyncio.gather(*(client.run(command % n) for n in range(8))), 20)
        await asyncio.gather(*(client.run("true") for _ in range(3)))

    with_client(sshd.connection, work)
    assert sshd.logins() == 3


def test_another_login_gets_its_own_connection(sshd: Sshd) -> None:
    async def work(client: Client) -> None:
        await client.run("true")
        await client.run("true", hostKey=None)
        await client.run("true", perDialTimeout=9, dialErrorLimit=3)

    with_client(sshd.connection, work)
    assert sshd.logins() == 2


def test_connections_that_nobody_uses_do_not_pile_up(start_sshd: StartSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have 1024 files open: the thousandth node of a stack could not be dialed, and nothing frees one."""
    proxy, target = start_sshd("AllowTcpForwarding yes"), start_sshd()
    monkeypatch.setattr(connections, "_KEPT", 3)

    def of(number: int) -> dict[str, Any]:
        """A login of its own: the agent is not asked where there is a key."""
        return {"agentSocketPath": f"/agent-{number}"}

    def open_connections(client: Client) -> int:
        return sum(not link.ssh.is_closed() for links in client.pool._links.values() for link in links)

    async def work(client: Client) -> None:
        running = asyncio.create_task(client.run("sleep 3; echo done", proxy=proxy.connection))
        while not target.logins():
            await asyncio.sleep(0.05)
        for number in range(6):
            await client.run("true", **of(number))
            assert open_connections(client) <= 4, "the one that was dialed last has no session yet"
        assert (await running).text("stdout") == "done"
        # Behind the bastion again, whose connection carries the one before.
        assert (await client.run("echo again", proxy=proxy.connection)).text("stdout") == "again"
        logins = target.logins()
        await client.run("true", **of(5))
        await client.run("true", **of(0))
        assert target.logins() == logins + 1, "the last is kept, and the first is dialed again"
        assert proxy.logins() == 1

    with_client(target.connection, work)


def test_a_dead_connection_is_dialled_again(sshd: Sshd) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(CommandError, match=r'ended while the command ran.*; run `pulumi up` again .*running "kill'):
            await client.run("kill -9 $PPID; sleep 5")
        assert (await client.run("echo back")).text("stdout") == "back"

    with_client(sshd.connection, work)
    assert sshd.logins() == 2


def test_machine_that_falls_silent_is_named_with_what_to_do(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_KEEPALIVE_SECONDS", 0.3)

    async def work(client: Client) -> None:
        with pytest.raises(CommandError, match=r"keepalive for \d+ s: the machine hangs.*run `make up` .* again"):
            await client.run("(sleep 8; kill -CONT $PPID) >/dev/null 2>&1 & kill -STOP $PPID; sleep 20")

    with_client(sshd.connection, work)


def test_wrong_host_key_is_refused_with_both_fingerprints(sshd: Sshd) -> None:
    _, other = new_key()
    message, _ = refusal({**sshd.connection, "hostKey": other})
    for key in (other, sshd.host_key):
        assert asyncssh.import_public_key(key).get_fingerprint() in message
    assert f"127.0.0.1:{sshd.port}" in message and "host key mismatch" in message
    assert message.endswith("(after 1 failed attempt)")  # waiting does not help with a wrong key
    assert sshd.logins() == 0


def test_a_host_key_of_another_type_is_refused_too(sshd: Sshd) -> None:
    other = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_public_key().decode()
    message, _ = refusal({**sshd.connection, "hostKey": other})
    assert f"presents ssh-ed25519 {asyncssh.import_public_key(sshd.host_key).get_fingerprint()}" in message
    assert sshd.logins() == 0


@pytest.mark.parametrize("kind", ["ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"])
def test_a_host_key_that_is_not_the_servers_best_can_be_pinned(start_sshd: StartSshd, tmp_path: Path, kind: str) -> None:
    key = asyncssh.generate_private_key(kind)
    (tmp_path / "other").write_bytes(key.export_private_key())
    (tmp_path / "other").chmod(0o600)
    sshd = start_sshd(f"HostKey {tmp_path / 'other'}")

    async def work(client: Client) -> None:
        await client.run("true", hostKey=key.export_public_key().decode())
        await client.run("true")

    with_client(sshd.connection, work)


def test_machine_is_named_without_the_realm_of_its_user() -> None:
    """Users of a directory are called so: the realm was taken for the user, and the machine had a name of its own."""
    port = free_port()
    message, _ = refusal({"host": "127.0.0.1", "port": port, "user": "ada@EXAMPLE.NET", "password": "p", "dialErrorLimit": 0})
    assert message.startswith(f"cannot reach 127.0.0.1:{port}: ")


def test_refused_login_names_user_and_key(sshd: Sshd) -> None:
    private, _ = new_key()
    message, _ = refusal({**sshd.connection, "privateKey": private})
    fingerprint = asyncssh.import_private_key(private).get_fingerprint()
    assert message.startswith(f"127.0.0.1:{sshd.port} refused to let {sshd.user} log in with private key {fingerprint}: check ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"privateKey": "nonsense"}, "connection.privateKey for .* cannot be read"),
        ({"hostKey": "nonsense"}, "connection.hostKey for .* cannot be read"),
        ({"privateKey": None, "agentSocketPath": "/nowhere"}, "the SSH agent at /nowhere does not answer"),
        ({"host": ""}, "connection.host is missing"),
    ],
)
def test_bad_connections_are_refused_without_a_retry(sshd: Sshd, change: dict[str, Any], message: str) -> None:
    start = time.monotonic()
    seen, _ = refusal({**sshd.connection, "dialErrorLimit": -1, **change})
    assert re.search(message, seen)
    assert time.monotonic() - start < 2


def test_encrypted_private_key(sshd: Sshd) -> None:
    encrypted = asyncssh.import_private_key(sshd.private_key).export_private_key("pkcs8-pem", passphrase="open")

    async def work(client: Client) -> None:
        await client.run("true", privateKey=encrypted.decode(), privateKeyPassword="open")

    with_client(sshd.connection, work)
    message, _ = refusal({**sshd.connection, "privateKey": encrypted.decode()})
    assert "connection.privateKeyPassword" in message


def test_key_of_openssh_with_a_password_works_or_says_what_it_needs(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh-keygen writes no other form by itself, and the official plugin reads it: a right password was asked for again."""
    file = tmp_path / "own"
    file.write_text(sshd.private_key)
    file.chmod(0o600)
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open", "-f", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setattr(asyncssh.public_key, "_bcrypt_available", False)
    message, _ = refusal({**sshd.connection, "privateKey": file.read_text(), "privateKeyPassword": "open"})
    assert message.endswith("install the Python package bcrypt beside asyncssh, or give the key in another form "
                            "(ssh-keygen -p -m PKCS8 -f FILE)")  # fmt: skip


def test_comment_in_any_letters_is_no_part_of_a_key(sshd: Sshd) -> None:
    """As for the official plugin."""

    async def work(client: Client) -> None:
        key = f"# Schlüssel der Büros\n{client.connection['privateKey']}"
        await client.run("true", hostKey=f"{client.connection['hostKey']} root@büro", privateKey=key)

    with_client(sshd.connection, work)


def test_unreachable_host_is_tried_as_often_as_said() -> None:
    port = free_port()
    message, client = refusal({"host": "127.0.0.1", "port": port, "dialErrorLimit": 2})
    assert message.startswith(f"cannot reach 127.0.0.1:{port}: Connection refused; ") and message.endswith(
        "(after 3 failed attempts)"
    )
    assert [status.partition(" (")[0] for status in client.statuses] == [
        "Dial 1/2 failed: retrying",
        "Dial 2/2 failed: retrying",
    ]


def test_host_of_several_addresses_is_refused_in_the_words_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has `Connect call failed` there, whether nothing listens or no way leads to the machine, and the address twice."""
    tried = [f"[Errno {number}] Connect call failed ('{address}', 22)" for number, address in ((111, "::1"), (113, "10.0.0.5"))]

    async def connect(*_: object, **__: object) -> None:
        raise OSError(f"Multiple exceptions: {', '.join(tried)}")

    monkeypatch.setattr(asyncssh, "connect", connect)
    message, _ = refusal({"host": "node", "dialErrorLimit": 0})
    assert message.startswith("cannot reach node:22: Connection refused, No route to host; check that the machine is up")


def test_address_that_is_silent_costs_no_host_that_answers_at_another(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where DNS has an address of IPv6 that leads nowhere; the official plugin and ssh come to the next one."""
    monkeypatch.setattr(connections, "_ADDRESS_SECONDS", 0.3)

    def two(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        assert host == "two.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    async def work(client: Client) -> None:
        connections.try_each_address()
        assert (await client.run("echo there")).text("stdout") == "there"

    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.2", sshd.port))
        silent.listen(0)
        for _ in range(3):  # a listener whose queue is full answers nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", sshd.port))
        monkeypatch.setattr(socket, "getaddrinfo", two)
        with_client({**sshd.connection, "host": "two.example", "perDialTimeout": 5}, work)


def test_a_host_that_never_answers_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        message, _ = refusal({"host": "127.0.0.1", "port": silent.getsockname()[1], "dialErrorLimit": 0, "perDialTimeout": 1})
        assert "no answer in time within 1 s, though it took the connection" in message and "firewall" not in message
        assert time.monotonic() - start < 4


def test_bound_of_the_system_is_told_where_a_dial_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two minutes the plugin ended with an error of its own."""

    async def connect(*_: object, **__: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(asyncssh, "connect", connect)
    message, _ = refusal({"host": "node", "dialErrorLimit": 0, "perDialTimeout": 0})
    assert message.startswith("cannot reach node:22: no answer in time; check that the machine is up")


def test_agent_that_waits_for_a_person_is_not_told_as_a_firewall(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of `ssh-add -c`, or one in a password manager, is used once somebody allows it."""
    (tmp_path / "ask").write_text("#!/bin/sh\nsleep 3\nexit 1\n")
    (tmp_path / "ask").chmod(0o755)
    for name, value in {"SSH_ASKPASS": str(tmp_path / "ask"), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}.items():
        monkeypatch.setenv(name, value)
    with ssh_agent(tmp_path) as agent:
        (tmp_path / "own").write_text(sshd.private_key)
        (tmp_path / "own").chmod(0o600)
        subprocess.run(["ssh-add", "-q", "-c", str(tmp_path / "own")], check=True, env={**os.environ, "SSH_AUTH_SOCK": agent})
        own_ssh(tmp_path, monkeypatch)
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        message = own_answer({**sshd.connection, "perDialTimeout": 1}, without="privateKey")
        assert "whether an SSH agent waits for a person" in message and "firewall" not in message


def test_a_machine_that_comes_up_later_is_waited_for_by_one_dial_at_a_time(start_sshd: StartSshd) -> None:
    sshd = start_sshd()

    async def work(client: Client) -> None:
        waiting = [asyncio.create_task(client.run("echo up", dialErrorLimit=-1)) for _ in range(3)]
        while len(client.statuses) < 6:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(sshd.start)
        assert [output.text("stdout") for output in await asyncio.gather(*waiting)] == ["up"] * 3

    sshd.stop()
    client = with_client(sshd.connection, work)
    assert all("failed: retrying (" in status for status in client.statuses)
    assert "Dial 1/inf" in client.statuses[0]
    assert sshd.logins() == 1


def test_environment_the_server_refuses(sshd: Sshd) -> None:
    message, _ = refusal(sshd.connection, environment={"GREETING": "a", "OTHER": "b"})
    assert "does not accept the environment variable(s) OTHER: name them in AcceptEnv" in message

    async def work(client: Client) -> None:
        previous = {"PULUMI_COMMAND_STDOUT": "before", "UNLISTED": "x"}
        output = await client.run('echo "$PULUMI_COMMAND_STDOUT$UNLISTED"', previous=previous)
        assert output.text("stdout") == "before"

    client = with_client(sshd.connection, work)
    assert len(client.warnings) == 1 and "UNLISTED" in client.warnings[0]


@pytest.mark.timeout(60)
def test_an_environment_without_end_is_read_no_further_than_its_limit() -> None:
    async def work(client: Client) -> None:
        written = 0

        async def answer(process: Any) -> None:
            nonlocal written
            if process.command == "env":
                with contextlib.suppress(OSError, asyncssh.Error):
                    while written < 64 << 20:
                        process.stdout.write("x" * (1 << 16))
                        written += 1 << 16
                        await process.stdout.drain()
            process.exit(0)

        key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = await asyncssh.create_server(_PasswordServer, "127.0.0.1", 0, server_host_keys=[key], process_factory=answer)
        login: dict[str, Any] = {"host": "127.0.0.1", "port": acceptor.get_port(), "user": "ann", "dialErrorLimit": 0}
        with pytest.raises(CommandError, match=r"does not accept the environment variable\(s\) GREETING"):
            await client.run("x", environment={"GREETING": "a"}, **login, password="opens")
        assert written < 16 << 20
        acceptor.close()

    with_client({}, work)


def test_a_command_too_large_for_a_packet_is_refused(sshd: Sshd) -> None:
    message, _ = refusal(sshd.connection, "true " + "x" * 300_000)
    assert "pass the large part as stdin" in message


def test_cancelled_leaves_the_connection_to_the_others(sshd: Sshd, tmp_path: Path) -> None:
    async def work(client: Client) -> None:
        task = asyncio.create_task(client.run(f"touch {tmp_path}/started; exec sleep 20"))
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)
        assert task.cancelled()
        assert (await client.run("echo still here")).text("stdout") == "still here"

    with_client(sshd.connection, work)
    assert sshd.logins() == 1


def test_cancelled_signals_the_command() -> None:
    signals: list[str] = []

    class Session(asyncssh.SSHServerSession[bytes]):
        def connection_made(self, chan: Any) -> None:
            self.channel = chan

        def exec_requested(self, command: str) -> bool:
            return True

        def session_started(self) -> None:
            self.channel.write("started\n")

        def eof_received(self) -> bool:
            return True

        def signal_received(self, signal: str) -> None:
            signals.append(signal)
            self.channel.exit(1)

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

        def session_requested(self) -> "asyncssh.SSHServerSession[bytes]":
            return Session()

    async def work(client: Client) -> None:
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = await asyncssh.create_server(Server, "127.0.0.1", 0, server_host_keys=[host_key])
        connection = Connection.parse({"host": "127.0.0.1", "port": acceptor.get_port(), "dialErrorLimit": 0})
        started = asyncio.Event()

        async def show(line: str) -> None:
            started.set()

        running = remote.run(client.pool, connection, "x", "", {}, {}, Output("stdout", show), show, show)
        task = asyncio.create_task(running)
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        acceptor.close()

    with_client({}, work)
    assert signals == ["TERM"]


def test_through_a_proxy(start_sshd: StartSshd) -> None:
    proxy, target = start_sshd("AllowTcpForwarding yes"), start_sshd()

    async def work(client: Client) -> None:
        await asyncio.gather(*(client.run("true", proxy=proxy.connection) for _ in range(3)))

    with_client(target.connection, work)
    assert (proxy.logins(), target.logins()) == (1, 1)
    message, _ = refusal({**target.connection, "proxy": {**proxy.connection, "port": free_port()}})
    assert message.startswith("cannot reach 127.0.0.1:")


def test_login_with_the_ssh_agent(sshd: Sshd, tmp_path: Path) -> None:
    with ssh_agent(tmp_path, sshd.private_key) as agent:

        async def work(client: Client) -> None:
            await client.run("true", privateKey=None, agentSocketPath=agent)

        with_client(sshd.connection, work)


UNKNOWN_HERE = (
    "KexAlgorithms foo@bar",
    "Ciphers foo",
    "MACs foo",
    "HostKeyAlgorithms foo",
    "CASignatureAlgorithms foo",
    "CertificateFile ~/.ssh/absent-cert.pub",
    "IdentityFile ${NOT_SET_ANYWHERE}/key",
    "IdentityFile ~nobody-of-that-name/key",
    "UserKnownHostsFile ~nobody-of-that-name/known_hosts ~/.ssh/known_hosts",
    "GlobalKnownHostsFile ~nobody-of-that-name/known_hosts",
    "IdentityAgent ~nobody-of-that-name/agent",
    "Include ~nobody-of-that-name/config",
    "Match sessiontype shell",
    "AddressFamily of-my-own",
    "ProxyCommand",
)
"""What asyncssh cannot use, or what is not there."""


@pytest.mark.parametrize(
    "line", [*UNKNOWN_HERE, "Compression no # a comment", "# B\xfcro", "ServerAliveInterval 1m", "ConnectTimeout 10s"]
)
def test_line_that_cannot_be_used_costs_none_of_the_others(
    start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The settings of OpenSSH are read for `kata-nodes`, by a library that knows less of them than OpenSSH does. One line of them
    cost the whole file, and with it the way to each node."""
    jump, target = start_sshd("AllowTcpForwarding yes"), start_sshd()
    known = f"[127.0.0.1]:{jump.port} {jump.host_key}\n"
    own_ssh(tmp_path, monkeypatch, known_hosts=known, own=jump.private_key)
    (tmp_path / ".ssh/config").write_text(f"Host *\n {line}\n{jump_to(jump)}", encoding="latin-1")
    connection = {**target.connection, "host": "localhost"}
    assert own_answer(connection) == "there" and jump.logins() == 1
    message = own_answer({**connection, "port": free_port()})
    assert ("of ~/.ssh/config, this was passed over: " in message) == (line in UNKNOWN_HERE), message
    assert "localhost" in message and "left out" not in message


def test_way_that_leads_to_itself_is_told_and_costs_no_machine_that_needs_none(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_ssh(tmp_path, monkeypatch, "Host 127.0.0.1\n ProxyJump 127.0.0.1\n")
    assert own_answer(sshd.connection) == "there"
    message = own_answer({**sshd.connection, "port": free_port()})
    assert message.startswith("cannot reach 127.0.0.1:") and "~/.ssh/config was left out" in message


RELAY = """\
import os, socket, sys, threading

def say(text):
    print(text, file=sys.stderr, flush=True)

say("the way begins")
server = socket.create_connection((sys.argv[1], int(sys.argv[2])))

def back():
    while data := server.recv(65536):
        say("what comes back")
        os.write(1, data)
    os._exit(0)

threading.Thread(target=back).start()
while data := os.read(0, 65536):
    server.sendall(data)
"""
"""A way to a server that says on standard error what it does, as `ssh -W`, `cloudflared` and the clients of clouds do."""


def test_way_of_a_proxy_command_is_run_by_the_shell_and_may_say_what_it_does(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words were taken for the server's, and a variable or a `~` of the shell for a part of a name."""
    command = f"ProxyCommand env WAY=$HOME/relay {sys.executable} ~/relay %h %p # no comment"
    own_ssh(tmp_path, monkeypatch, f"Host 127.0.0.1\n {command}\n")
    (tmp_path / "relay").write_text(RELAY)
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert own_answer(sshd.connection) == "there"
    (tmp_path / ".ssh/config").write_text("Host *\n ProxyCommand absent-program %h\n")
    message = own_answer(sshd.connection)
    assert "the way there is the ProxyCommand of ~/.ssh/config, which said: " in message and "absent-program" in message
    assert sshd.logins() == 1


def test_proxy_command_that_hangs_is_ended_with_its_dial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not look at its input, as while it waits for a machine on the way, was left behind for each node."""
    own_ssh(tmp_path, monkeypatch, "Host *\n ProxyCommand sh -c 'echo $$ > ~/process; exec sleep 300'\n")
    message = own_answer({"host": "node", "password": "p", "dialErrorLimit": 0, "perDialTimeout": 1})
    assert "no answer in time within 1 s" in message and "the way there is the ProxyCommand" in message
    process = int((tmp_path / "process").read_text())
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(process, 0)
            time.sleep(0.05)
        os.kill(process, 9)
        pytest.fail("it was left behind")


def test_first_of_two_ways_counts_as_for_openssh(start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ProxyCommand none` above `Host *` is how a machine is left out of those that are behind another one."""
    jump, target = start_sshd("AllowTcpForwarding yes"), start_sshd()
    config = f"Host localhost\n ProxyCommand none\n{jump_to(jump)}"
    own_ssh(tmp_path, monkeypatch, config, known_hosts=f"[127.0.0.1]:{jump.port} {jump.host_key}\n", own=jump.private_key)
    assert own_answer({**target.connection, "host": "localhost"}) == "there" and jump.logins() == 0


def test_no_jump_leaves_a_command_its_turn_and_a_key_that_is_named_twice_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSH does (`ssh -G`): the machine was dialed directly, and a key counted twice among those that sshd refuses."""
    jump = "Host rack\n ProxyJump none\n IdentityFile ~/.ssh/own\n"
    own_ssh(
        tmp_path, monkeypatch, f"{jump}Host *\n ProxyCommand nc %h %p\n IdentityFile ~/.ssh/other\n IdentityFile ~/.ssh/own\n"
    )
    own = user_ssh.read_for("rack", 22, "root")
    assert own.hops == () and own.proxy_command[-1] == "exec nc rack 22"
    assert own.identities == (f"{tmp_path}/.ssh/own", f"{tmp_path}/.ssh/other")
    (tmp_path / ".ssh/config").write_text("Host rack\n ProxyCommand none\nHost *\n ProxyJump bastion\n")
    own = user_ssh.read_for("rack", 22, "root")
    assert own.hops == () == own.proxy_command


@pytest.mark.parametrize("place", ["%d/.ssh/known/%k", "${HOME}/.ssh/known/%h", "~/.ssh/known/%n", '"~/.ssh/known/%h"'])
def test_known_hosts_in_a_file_of_each_machine(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    own_ssh(tmp_path, monkeypatch, f"Host *\n UserKnownHostsFile {place}\n")
    (tmp_path / ".ssh/known").mkdir()
    (tmp_path / ".ssh/known/127.0.0.1").write_text(KNOWN.format(port=sshd.port, key=sshd.host_key))
    assert own_answer(sshd.connection, without="hostKey") == "there"


def test_included_files_count_in_the_order_of_their_names(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first value counts, and a folder lists its files in any order."""
    names = [f"{number:02}" for number in range(20, 0, -1)]
    own_ssh(tmp_path, monkeypatch, "Include more/*\nInclude more/01 config\n")
    (tmp_path / ".ssh/more").mkdir()
    for name in names:
        (tmp_path / ".ssh/more" / name).write_text(f"Host node\n HostName 127.0.0.{int(name)}\n")
    assert own_answer({**sshd.connection, "host": "node"}) == "there"


@pytest.mark.parametrize("condition", ["host 127.0.0.1", "host=127.0.0.1", 'exec "test %h = 127.0.0.1"', "final", "all"])
def test_block_of_a_condition_counts_as_for_openssh(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    own_ssh(tmp_path, monkeypatch, f"Match {condition}\n IdentityFile ~/.ssh/own\n", own=sshd.private_key)
    assert own_answer(sshd.connection, without="privateKey") == "there"
    negated = f"Match !{condition}\n IdentityFile ~/.ssh/own\n"
    if condition != "all":
        (tmp_path / ".ssh/config").write_text(negated)
        assert "refused to let" in own_answer(sshd.connection, without="privateKey")


def test_login_of_the_stack_counts_whatever_a_person_wants_to_be_asked_for(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_ssh(tmp_path, monkeypatch, "Host *\n PubkeyAuthentication no\n PasswordAuthentication no\n")
    assert own_answer(sshd.connection) == "there"

    async def work(client: Client) -> None:
        async def answer(process: Any) -> None:
            process.stdout.write("in\n")
            process.exit(0)

        client.pool = Pool(user_ssh=True)
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = await asyncssh.create_server(
            _PasswordServer, "127.0.0.1", 0, server_host_keys=[host_key], process_factory=answer
        )
        pinned = host_key.export_public_key().decode()
        login = {"host": "127.0.0.1", "port": acceptor.get_port(), "user": "ann", "hostKey": pinned, "dialErrorLimit": 0}
        assert (await client.run("x", **login, password="opens")).text("stdout") == "in"
        acceptor.close()

    with_client({}, work)


def test_terminal_of_the_users_own_settings_does_not_mix_the_streams(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RequestTTY force` is for a person. On a terminal, what a command reads, a sudo password too, stands in what it prints."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host *\n    RequestTTY force\n    RemoteCommand tmux new -A\n")
    monkeypatch.setenv("HOME", str(tmp_path))

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=True)
        output = await client.run("cat; echo oops >&2", stdin="hidden\n", environment={})
        assert (output.text("stdout"), output.text("stderr")) == ("hidden", "oops")

    with_client(sshd.connection, work)


@pytest.mark.parametrize("first", ["absent", "key.pub"])
def test_identity_that_is_no_private_key_costs_none_of_the_others(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """OpenSSH leaves out a file that is not there, and looks in its agent for the key of one that is public."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "key").write_text(sshd.private_key)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key.pub").write_text(f"{asyncssh.import_private_key(sshd.private_key).export_public_key().decode()}\n")
    lines = [f"IdentityFile {tmp_path / first}", f"IdentityFile {tmp_path / 'key'}"]
    (tmp_path / ".ssh/config").write_text("\n    ".join(["Host *", *lines]) + "\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=True)
        assert (await client.run("echo there")).text("stdout") == "there"

    with_client({key: value for key, value in sshd.connection.items() if key != "privateKey"}, work)


def own_ssh(home: Path, monkeypatch: pytest.MonkeyPatch, config: str = "", **files: str) -> None:
    """Gives the user this configuration of OpenSSH, and these files beside it."""
    (home / ".ssh").mkdir()
    for name, text in {"config": config, **files}.items():
        (home / ".ssh" / name).write_text(text)
        (home / ".ssh" / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def own_answer(connection: dict[str, Any], without: str = "") -> str:
    """What a command prints over a connection with the user's own settings, or why there is none."""
    answers: list[str] = []

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=True)
        try:
            answers.append((await client.run("echo there")).text("stdout"))
        except CommandError as error:
            answers.append(str(error))

    with_client({key: value for key, value in connection.items() if key != without}, work)
    return answers[0]


def jump_to(sshd: Sshd, way: str = "jump", further: str = "") -> str:
    """A configuration in which `localhost` is behind that server."""
    jump = f"Host jump\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile ~/.ssh/own\n"
    return f"{jump}{further}Host localhost 127.0.0.2 127.0.0.3 127.0.0.4\n ProxyJump {way}\n"


@pytest.mark.parametrize("way", ["jump", "{user}@[127.0.0.1]:{port}", "ssh://{user}@127.0.0.1:{port}", "%r@jump", "other,jump"])
def test_way_through_other_machines_is_written_as_openssh_takes_it(
    start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    jump, target = start_sshd("AllowTcpForwarding yes"), start_sshd()
    jumps = way.format(user=jump.user, port=jump.port)
    other = f"Host other\n HostName 127.0.0.1\n Port {jump.port}\n IdentityFile ~/.ssh/own\n"
    known = f"[127.0.0.1]:{jump.port} {jump.host_key}\n"
    config = jump_to(jump, jumps, other)
    own_ssh(tmp_path, monkeypatch, config, known_hosts=known, own=jump.private_key, id_rsa=jump.private_key)
    assert own_answer({**target.connection, "host": "localhost"}) == "there"


def test_nodes_behind_one_machine_share_the_connection_to_it(
    start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each had a login of its own there, of which sshd drops some from ten on (MaxStartups)."""
    jump = start_sshd("AllowTcpForwarding yes")
    target = start_sshd(*(f"ListenAddress 127.0.0.{number}" for number in (2, 3, 4)))
    own_ssh(
        tmp_path, monkeypatch, jump_to(jump), known_hosts=f"jump,[127.0.0.1]:{jump.port} {jump.host_key}\n", own=jump.private_key
    )

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=True)
        await asyncio.gather(*(client.run("true", host=f"127.0.0.{number}") for number in (2, 3, 4)))

    with_client(target.connection, work)
    assert (jump.logins(), target.logins()) == (1, 3)


@pytest.mark.parametrize("fault", ["refused", "unknown", "down"])
def test_fault_of_a_machine_on_the_way_is_told_of_that_machine(
    start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    jump, target = start_sshd("AllowTcpForwarding yes"), start_sshd()
    known = "" if fault == "unknown" else f"[127.0.0.1]:{jump.port} {jump.host_key}\n"
    key = new_key()[0] if fault == "refused" else jump.private_key
    own_ssh(tmp_path, monkeypatch, jump_to(jump), known_hosts=known, own=key)
    if fault == "down":
        jump.stop()
    message = own_answer({**target.connection, "host": "localhost"})
    words = {"refused": " refused to let ", "unknown": "log in once with ssh, which adds it", "down": "cannot reach jump:"}
    assert f"jump:{jump.port}" in message and words[fault] in message and "localhost" not in message


KNOWN = "[127.0.0.1]:{port} {key}\n"


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ("", {"known_hosts": f"garbage\n{KNOWN}"}),
        ("", {"known_hosts": f"{KNOWN[:-1]} of B\u00fcro\n"}),
        ("", {"known_hosts2": KNOWN}),
        ("Host *\n UserKnownHostsFile ~/.ssh/absent ~/.ssh/more\n", {"more": KNOWN}),
        ("Host *\n GlobalKnownHostsFile ~/.ssh/more\n PKCS11Provider /absent.so\n", {"more": f"|1|x|y z\n{KNOWN}"}),
    ],
)  # fmt: skip
def test_line_that_is_no_entry_of_known_hosts_costs_no_machine(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, files: dict[str, str]
) -> None:
    texts = {name: text.format(port=sshd.port, key=sshd.host_key) for name, text in files.items()}
    own_ssh(tmp_path, monkeypatch, config, **texts)
    assert own_answer(sshd.connection, without="hostKey") == "there"
    for file in files:
        (tmp_path / ".ssh" / file).write_bytes(texts[file].encode("latin-1"))
    assert own_answer(sshd.connection, without="hostKey") == "there"


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ("", "log in once with ssh"),
        (f"@revoked * {{key}}\n{KNOWN}", "another machine may answer"),
        ("none", "log in once with ssh"),
    ],
)
def test_machine_that_known_hosts_does_not_vouch_for_is_not_logged_in_to(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str, words: str
) -> None:
    """`UserKnownHostsFile none` is no file, and not that any machine is believed."""
    config = "Host *\n UserKnownHostsFile none\n" if known == "none" else ""
    own_ssh(tmp_path, monkeypatch, config, known_hosts=known.format(port=sshd.port, key=sshd.host_key))
    message = own_answer(sshd.connection, without="hostKey")
    assert "known_hosts does not vouch for" in message and words in message and sshd.logins() == 0


@pytest.mark.parametrize("line", ["", "IdentityAgent SSH_AUTH_SOCK", "IdentityAgent $OTHER"])
def test_key_that_cannot_be_read_costs_none_of_the_others(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    own_ssh(tmp_path, monkeypatch, f"Host *\n {line}\n", id_ed25519="no key", id_rsa="" if line else sshd.private_key)
    if not line:
        assert own_answer(sshd.connection, without="privateKey") == "there"
        return
    with ssh_agent(tmp_path, sshd.private_key) as agent:
        monkeypatch.setenv(line.rpartition(" ")[2].removeprefix("$"), agent)
        assert own_answer(sshd.connection, without="privateKey") == "there"


def test_agent_full_of_other_keys_costs_no_login_that_has_its_own(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshd ends a login after six keys that it refuses (MaxAuthTries): `pulumi up` came in, and `kata-nodes` did not."""
    own_ssh(tmp_path, monkeypatch)
    with ssh_agent(tmp_path, *(new_key()[0] for _ in range(7))) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        assert own_answer(sshd.connection) == "there" and "Failed publickey" not in sshd.log()
        message = own_answer(sshd.connection, without="privateKey")
        assert "too many keys were offered: name the key for 127.0.0.1 in ~/.ssh/config" in message
        assert "too many keys were offered: give connection.privateKey" in refusal({**sshd.connection, "privateKey": None})[0]


@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_key_that_an_identity_file_names_is_offered_although_the_agent_has_too_many(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    """OpenSSH offers it first; asyncssh offers all keys in the agent's order, and sshd ends the login before its turn."""
    own_ssh(tmp_path, monkeypatch, "Host *\n IdentityFile ~/.ssh/absent\n IdentityFile ~/.ssh/own\n", own=sshd.private_key)
    with ssh_agent(tmp_path, *(new_key()[0] for _ in range(7)), sshd.private_key) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(tmp_path / ".ssh/own")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert own_answer(sshd.connection, without="privateKey") == "there"


@pytest.mark.parametrize(("file", "lines"), [("of-ca.pub", "CertificateFile ~/.ssh/of-ca.pub"), ("own-cert.pub", "")])
@pytest.mark.parametrize("others", [0, 7])
def test_certificate_in_a_file_counts_for_a_key_that_the_agent_has(
    start_sshd: StartSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, lines: str, others: int
) -> None:
    """As Vault and others write it, beside a key with a passphrase: asyncssh takes it for the keys of files alone."""
    authority, person = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "authority.pub").write_bytes(authority.export_public_key())
    sshd = start_sshd(f"TrustedUserCAKeys {tmp_path / 'authority.pub'}")
    certificate = authority.generate_user_certificate(person.convert_to_public(), "x", principals=[sshd.user])
    config = f"Host *\n IdentityFile ~/.ssh/own\n {lines}\n"
    files = {file: certificate.export_certificate().decode(), "own.pub": person.export_public_key().decode()}
    own_ssh(tmp_path, monkeypatch, config, **files)
    with ssh_agent(tmp_path, *(new_key()[0] for _ in range(others)), person.export_private_key().decode()) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        assert own_answer(sshd.connection, without="privateKey") == "there"


@pytest.mark.parametrize("user_ssh", [False, True])
def test_home_that_this_user_may_not_read_costs_no_login_that_needs_none_of_it(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_ssh: bool
) -> None:
    """As root's, which `sudo -u` can keep in HOME: no host could be reached, for a folder of certificates that no host has."""
    own_ssh(tmp_path, monkeypatch)
    (tmp_path / ".ssh").chmod(0)
    answers: list[str] = []

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=user_ssh)
        answers.append((await client.run("echo there")).text("stdout"))

    connection, effective = sshd.connection, os.geteuid()
    try:
        if effective == 0:
            os.seteuid(65534)  # root may read everything
        with_client(connection, work)
    finally:
        os.seteuid(effective)
        (tmp_path / ".ssh").chmod(0o700)
    assert answers == ["there"]


@pytest.mark.parametrize("user_ssh", [False, True])
def test_user_without_a_name_and_a_home_reaches_a_machine_whose_login_is_known(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, user_ssh: bool
) -> None:
    """A container may run with any user id: `docker run --user 1234` sets no USER, and HOME is not always set."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    connection = sshd.connection
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")  # put back after the test, whatever the program sets
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    answers: list[str] = []

    async def work(client: Client) -> None:
        client.pool = Pool(user_ssh=user_ssh)
        answers.append((await client.run("echo there")).text("stdout"))

    with_client(connection, work)
    assert answers == ["there"]


def test_refused_login_says_whether_the_agent_of_the_environment_had_a_key(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyless = {**sshd.connection, "privateKey": None}
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    message, _ = refusal(keyless)
    assert "with no credential: give connection.privateKey, or start an SSH agent" in message
    with ssh_agent(tmp_path, new_key()[0]) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        message, _ = refusal(keyless)
    assert "with 1 key of the SSH agent: check connection.user" in message


@contextlib.contextmanager
def broken_agent(place: Path, *, silent: bool) -> Iterator[str]:
    """A socket at which an agent hangs up, or says nothing."""
    held: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    if not silent:
                        held.pop().close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield str(place)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize("silent", [True, False])
def test_agent_that_does_not_answer_is_named_and_ends_no_command_with_its_own_error(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """As one that was forwarded from a machine that is gone: the plugin waited for it without end, or raised a bare error."""
    monkeypatch.setattr(connections, "_AGENT_SECONDS", 0.5)
    with broken_agent(tmp_path / "agent", silent=silent) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        message, _ = refusal({**sshd.connection, "privateKey": None})
        assert message.startswith(f"the SSH agent at {agent} does not answer: {'no list of its keys' if silent else ''}")
        message, _ = refusal({**sshd.connection, "privateKey": None, "password": "wrong"})
        assert "refused to let" in message and "with password" in message


@pytest.mark.parametrize("silent", [True, False])
def test_agent_that_does_not_answer_costs_no_machine_that_lets_a_key_of_a_file_in(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """The machine was said not to answer, or to be behind a firewall, and so were all others."""
    monkeypatch.setattr(connections, "_AGENT_SECONDS", 0.5)
    own_ssh(tmp_path, monkeypatch, id_ed25519=sshd.private_key)
    with broken_agent(tmp_path / "agent", silent=silent) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        assert own_answer(sshd.connection, without="privateKey") == "there"
        (tmp_path / ".ssh/id_ed25519").unlink()
        message = own_answer(sshd.connection, without="privateKey")
        assert "refused to let" in message and f"the SSH agent at {agent} does not answer" in message
        sshd.stop()
        message = own_answer(sshd.connection, without="privateKey")
        assert "cannot reach" in message and "agent" not in message, "it has nothing to do with that"


@pytest.mark.parametrize("host", ["node..example", f"{'x' * 64}.example"])
def test_host_that_is_no_name_is_refused_at_once_with_it(host: str) -> None:
    """Python raises an error of an encoding there, which names no machine."""

    async def work(client: Client) -> None:
        with pytest.raises(CommandError, match=r"cannot reach .*\.example:22: its name has .*; correct connection.host"):
            await client.run("true")
        assert client.statuses == []

    with_client({"host": host, "password": "p"}, work)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 70000}, "cannot dial 127.0.0.1:70000: .*port must be 0-65535; correct connection.host, port"),
        ({"perDialTimeout": -1}, "cannot be negative; correct .*perDialTimeout"),
        ({"host": "a\0b"}, "null"),
        ({"user": "a\7b"}, "Prohibited character"),
    ],
)
def test_connection_that_cannot_be_dialed_at_all_is_refused_at_once_in_a_sentence(
    sshd: Sshd, change: dict[str, Any], message: str
) -> None:
    """Python's own errors, of which the engine would show "Unexpected <class 'OverflowError'>"."""
    seen, client = refusal({**sshd.connection, "dialErrorLimit": -1, **change})
    assert re.search(message, seen) and "correct connection.host" in seen and client.statuses == []


@pytest.mark.parametrize("user_ssh", [False, True])
def test_server_that_greets_with_other_letters_is_not_told_as_a_wrong_name_or_setting(user_ssh: bool) -> None:
    """Python raises the same error for these as for a file of settings, and one alike for a host's name."""

    async def work(client: Client) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-\xff\r\n")
            await reader.read()
            writer.close()

        client.pool = Pool(user_ssh=user_ssh)
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CommandError, match=rf"SSH with 127.0.0.1:{port} failed: .*check that an SSH server answers") as error:
            await client.run("true", host="127.0.0.1", port=port, dialErrorLimit=0)
        assert "name has" not in str(error.value) and "~/.ssh/config" not in str(error.value)
        server.close()

    with_client({"password": "p"}, work)


class _Bastion(asyncssh.SSHServer):
    """Lets everybody in, and forwards to any address."""

    def begin_auth(self, username: str) -> bool:
        return False

    def connection_requested(self, *_: object) -> bool:
        return True


def test_server_that_hangs_up_without_a_word_is_not_told_as_a_firewall() -> None:
    """As sshd does from its tenth login at once on, and for a while where several were refused (OpenSSH 9.8)."""

    async def work(client: Client) -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CommandError, match=r"closed it before the login .*\(MaxStartups\)") as error:
            await client.run("true", host="127.0.0.1", port=port, dialErrorLimit=1)
        assert "firewall" not in str(error.value) and "(after 2 failed attempts)" in str(error.value)
        server.close()

    with_client({"password": "p"}, work)


def test_server_without_a_common_algorithm_is_told_so_at_once() -> None:
    async def work(client: Client) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], kex_algs=["diffie-hellman-group1-sha1"])
        with pytest.raises(CommandError, match=r"share no algorithm: .*received diffie-hellman-group1-sha1") as error:
            await client.run("true", host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        assert "in its sshd_config (KexAlgorithms" in str(error.value) and "(after 1 failed attempt)" in str(error.value)
        server.close()

    with_client({"password": "p"}, work)


def test_machine_that_the_bastion_does_not_reach_is_told_as_seen_from_there() -> None:
    async def work(client: Client) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key], server_factory=_Bastion)
        proxy = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
        with pytest.raises(CommandError, match=r"^the bastion on the way to 127.0.0.1:\d+ opens no connection there: "):
            await client.run("true", host="127.0.0.1", port=free_port(), dialErrorLimit=0, proxy=proxy)
        server.close()

    with_client({"password": "p"}, work)


class _PasswordServer(asyncssh.SSHServer):
    """Knows one user by password."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == ("ann", "opens")


class _QuestionServer(asyncssh.SSHServer):
    """Knows one user by an answer to a question that is not called password."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Token:", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return list(responses) == ["opens"]


@pytest.mark.parametrize("server", [_PasswordServer, _QuestionServer])
def test_login_with_a_password(server: type[asyncssh.SSHServer]) -> None:
    async def work(client: Client) -> None:
        async def answer(process: Any) -> None:
            process.stdout.write("in\n")
            process.exit(0)

        host_key = asyncssh.generate_private_key("ssh-ed25519")
        acceptor = await asyncssh.create_server(server, "127.0.0.1", 0, server_host_keys=[host_key], process_factory=answer)
        login: dict[str, Any] = {"host": "127.0.0.1", "port": acceptor.get_port(), "user": "ann", "dialErrorLimit": 0}
        assert (await client.run("x", **login, password="opens")).text("stdout") == "in"
        with pytest.raises(CommandError, match="refused to let ann log in with password"):
            await client.run("x", **login, password="wrong")
        acceptor.close()

    with_client({}, work)
