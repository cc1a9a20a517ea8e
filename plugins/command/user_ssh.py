"""What the OpenSSH of the person who runs a command has for a login: the way through other machines, keys, agent, known_hosts.

What asyncssh cannot use of ~/.ssh/config counts as not there (own_config.py).
"""

import contextlib
import functools
import getpass
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from nodekit.host.reading import read
from plugins.command.own_config import OwnConfig

UNUSABLE = (ValueError, OSError, RuntimeError)
"""What comes of settings that cannot be read, or that name the home of a user who is not known (RuntimeError). No error of a
network is among them, as long as nothing is dialled."""
IDENTITIES = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed25519", "id_ecdsa", "id_rsa")
"""Files in ~/.ssh that count where no IdentityFile is set (ssh_config(5))."""
KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
KNOWN_HOSTS_OF_ALL = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
"""Files that count where no UserKnownHostsFile and no GlobalKnownHostsFile are set (ssh_config(5))."""
MAX_KNOWN_HOSTS = 16 << 20
"""Bytes that are read of one of them; a key has some 100."""
AS_SHELL = (
    "/bin/sh",
    "-c",
    '(while kill -0 $$ 2>/dev/null; do sleep 1; done) </dev/null >/dev/null & exec "$1" -c "$2" 2>"$3"',
    "sh",
)
"""Runs a ProxyCommand by the user's own shell, as ssh does. asyncssh takes what comes on standard error for words of the server,
and its end for that of the connection, so a process beside keeps it open as long as the command runs."""
JUMP = re.compile(r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<address>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?/?")
"""One machine of a ProxyJump."""


@dataclass(frozen=True)
class Hop:
    """One machine on the way to another."""

    host: str
    """As the settings call it."""
    port: int
    user: str


@dataclass(frozen=True)
class UserSsh:
    """What counts for one login."""

    hops: tuple[str, ...] = ()
    """The machines of its ProxyJump as it names them, in the order in which they are gone through."""
    identities: tuple[str, ...] = tuple(f"~/.ssh/{name}" for name in IDENTITIES)
    agent: str | None = None
    """Socket of the agent, empty for none; None where no IdentityAgent is set, and SSH_AUTH_SOCK counts."""
    agent_fault: str = ""
    """That it does not answer, and why; it does not count then."""
    known_hosts_files: tuple[str, ...] = (*KNOWN_HOSTS, *KNOWN_HOSTS_OF_ALL)
    proxy_command: tuple[str, ...] = ()
    """The program that leads there, and its arguments but the last: a file for what it says beside."""
    certificate_files: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Where and why something of the settings does not count."""
    options: asyncssh.SSHClientConnectionOptions | None = field(default=None, repr=False, compare=False)
    """The settings for asyncssh; None where it reads them itself."""

    def certificates(self, *, of_identities: bool = False) -> tuple[list[asyncssh.SSHCertificate], list[str]]:
        """Those of its CertificateFiles, and with `of_identities` those beside its keys. Then why others cannot be read, of which
        OpenSSH warns, and goes on."""
        certificates: list[asyncssh.SSHCertificate] = []
        unread: list[str] = []

        def load(file: str) -> None:
            try:
                certificates.extend(asyncssh.load_certificates(str(_place(file))))
            except (OSError, asyncssh.KeyImportError) as error:
                unread.append(f"CertificateFile {file}: {getattr(error, 'strerror', None) or error}")

        beside = [f"{file.removesuffix('.pub')}-cert.pub" for file in self.identities] if of_identities else []
        for file in (*self.certificate_files, *beside):
            load(file)
        return certificates, unread

    def keys(self) -> list[asyncssh.SSHKeyPair]:
        """The private keys among the identities. OpenSSH leaves out the others, for which asyncssh ends a login."""
        keys: list[asyncssh.SSHKeyPair] = []
        for file in self.identities:
            with contextlib.suppress(OSError, asyncssh.KeyImportError):
                keys += asyncssh.load_keypairs(str(_place(file)), ignore_encrypted=True)
        return keys

    def public_keys(self) -> list[asyncssh.SSHKey]:
        """The public keys of the identities, by which an agent has the private ones. One with a passphrase tells its own too."""
        keys: list[asyncssh.SSHKey] = []
        for file in self.identities:
            for name in (f"{file}.pub", file):
                with contextlib.suppress(OSError, asyncssh.KeyImportError):
                    keys.append(asyncssh.read_public_key(str(_place(name))))
                    break
        return keys

    def known_hosts(self) -> asyncssh.SSHKnownHosts:
        """The machines that are known. As for OpenSSH, a file that is not there and a line that is no entry cost no other one."""
        known = asyncssh.import_known_hosts("")
        for file in self.known_hosts_files:
            with contextlib.suppress(OSError):
                for line in read(_place(file), MAX_KNOWN_HOSTS).decode(errors="replace").splitlines():
                    fields = line.split()
                    # Without the comment, in which asyncssh takes ASCII alone.
                    with contextlib.suppress(ValueError):
                        known.load(" ".join(fields[: 4 if line.startswith("@") else 3]))
        return known


class Reader:
    """Reads the settings for logins, but those for a machine on the way to many others once."""

    def __init__(self) -> None:
        self.hop = functools.cache(hop)
        self.of_hop = functools.cache(lambda machine: read_for(machine.host, machine.port, machine.user))


def read_for(host: str, port: int, user: str) -> UserSsh:
    """The settings for a login; the defaults where they cannot be read."""
    try:
        options, own = _options(host, port, user)
        config: Any = options.config
        jump = config.get("ProxyJump")
        tokens = {"%%": "%", "%n": host, "%h": options.host, "%p": str(port), "%r": user}
        jump = re.sub(r"%.", lambda match: tokens.get(match[0], match[0]), jump) if jump else ""
        command = config.get("ProxyCommand")
        return UserSsh(
            hops=tuple(each.strip() for each in jump.split(",") if each.strip()),
            identities=tuple(config.get("IdentityFile", ())) or UserSsh.identities,
            agent=_agent(config.get("IdentityAgent", ())),
            known_hosts_files=(
                *config.get("UserKnownHostsFile", KNOWN_HOSTS),
                *config.get("GlobalKnownHostsFile", KNOWN_HOSTS_OF_ALL),
            ),
            proxy_command=(*AS_SHELL, os.environ.get("SHELL") or "/bin/sh", f"exec {command}") if command else (),
            certificate_files=tuple(config.get("CertificateFile", ())),
            passed_over=tuple(own.passed_over) if own else (),
            options=options if own else None,
        )
    except UNUSABLE:
        return UserSsh()


def _options(
    host: str, port: int | tuple[()], user: str | tuple[()]
) -> tuple[asyncssh.SSHClientConnectionOptions, OwnConfig | None]:
    """What the settings say of a machine, where what is not fixed is taken from them, and how they were read; None where asyncssh
    reads them, which alone looks for the whole names of hosts (CanonicalizeHostname). No file that they name is read."""

    def read(config: Any, of: asyncssh.SSHClientConnectionOptions | None = None) -> asyncssh.SSHClientConnectionOptions:
        return asyncssh.SSHClientConnectionOptions(
            options=of,
            config=config,
            host=host,
            port=port,
            username=user,
            client_keys=None,
            known_hosts=None,
            pkcs11_provider=None,
        )

    place = Path("~/.ssh/config").expanduser()
    if not os.access(place, os.R_OK):
        return read(None), None
    own = _loaded(place, final=False, host=host, port=port, user=user)
    if own.has_match_final():
        own = _loaded(place, final=True, host=host, port=port, user=user)
    if own.get("CanonicalizeHostname"):
        return read(()), None
    basis = read(None)
    basis.config = own
    options = read((), basis)
    options.config = own
    return options, own


def _loaded(place: Path, *, final: bool, **login: Any) -> OwnConfig:
    user, host, port = (login[key] for key in ("user", "host", "port"))
    own = OwnConfig.load(None, [place], False, False, final, getpass.getuser(), user, host, port)
    assert isinstance(own, OwnConfig)
    return own


def hop(text: str) -> Hop:
    """A machine of a ProxyJump. Raises one of UNUSABLE, also for what names no machine."""
    parts = JUMP.fullmatch(text)
    if parts is None:
        raise ValueError(f"ProxyJump {text}")
    host = parts["address"] or parts["name"]
    options, _ = _options(host, int(parts["port"]) if parts["port"] else (), parts["user"] or ())
    return Hop(host, options.port, options.username)


def _place(name: str) -> Path:
    """Of a file; where `~` is the home of a user who is not known, there is none."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _agent(value: str | Sequence[str] | None) -> str | None:
    """Socket of an IdentityAgent, which can be the name of a variable (ssh_config(5))."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return None
    if value == "SSH_AUTH_SOCK":
        return os.environ.get(value, "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return str(_place(value))
