"""What this machine's OpenSSH knows of other machines: the entries of ~/.ssh/config, and the keys of known_hosts."""

import fnmatch
import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from delivery.login import HOST_KEYS, SSH_PORT
from nodekit.errors import NodeError
from nodekit.host.process import run
from nodekit.host.reading import MAX_OWN, read_text
from nodekit.rules.text import printable
from stacks.configuration import ConfigError

WILDCARDS = re.compile(r"[*?!]")
IN_BRACKETS = re.compile(r"ssh://(?:(?P<user>[^@/]+)@)?\[(?P<address>[0-9A-Fa-f:.]+(?:%[^\]/]+)?)\](?::(?P<port>\d+))?/?")
"""An address of IPv6 as OpenSSH writes it in `proxyjump`; with `ssh://` before it, OpenSSH 9 and older do not take it."""


@dataclass(frozen=True)
class SshHost:
    """One machine as ssh would reach it."""

    name: str
    """As the settings call it."""
    address: str
    port: int
    user: str
    jump: str | None
    """The machine through which ssh goes there (ProxyJump), as the settings call it."""
    alias: str | None
    """The name under which ssh keeps its key (HostKeyAlias), where that is another one."""
    known_hosts: tuple[Path, ...]
    """Files in which ssh looks for its key."""

    @property
    def known_as(self) -> str:
        """Its name in known_hosts."""
        if self.alias:
            return self.alias
        return self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"


def matching(pattern: str, folder: Path) -> list[str]:
    """Names of Host entries of `folder`/config that match `pattern`, in the order of the file; a pattern matches no pattern.

    Files that config includes are not read.
    """
    try:
        lines = read_text(folder / "config", MAX_OWN).splitlines()
    except OSError:
        return []
    # What follows a # between words is a comment (OpenSSH 8.7 and newer).
    lines = [re.sub(r"\s#.*", "", line) for line in lines]
    entries = [match[1].split() for line in lines if (match := re.match(r"\s*host(?:\s*=\s*|\s+)(.+)", line, re.IGNORECASE))]
    names = [name.strip('"') for entry in entries for name in entry]
    return list(dict.fromkeys(name for name in names if not WILDCARDS.search(name) and fnmatch.fnmatch(name, pattern)))


def described(name: str, folder: Path) -> SshHost:
    """How ssh would reach `name`, by `ssh -G`, which contacts nobody. Raises ConfigError, also for a way that no stack can go."""
    config = folder / "config"
    argv = ["ssh", "-G", "-F", str(config) if config.exists() else "/dev/null"]
    if parts := IN_BRACKETS.fullmatch(name):
        options = [word for option, part in (("-l", parts["user"]), ("-p", parts["port"])) if part for word in (option, part)]
        argv += [*options, "--", parts["address"]]
    else:
        argv += ["--", name]
    settings = dict(line.split(" ", 1) for line in _answer(argv).splitlines() if " " in line)
    if settings.get("proxycommand", "none") != "none":
        raise ConfigError(
            f"{config} leads to {name} by a ProxyCommand, and a stack logs in directly or through one bastion. Where another "
            "machine is the way, name it there by ProxyJump; otherwise run the stack on a machine that needs no such command."
        )
    jump = settings.get("proxyjump")
    return SshHost(
        name,
        settings["hostname"],
        int(settings["port"]),
        settings["user"],
        None if jump in (None, "none") else str(jump),
        settings.get("hostkeyalias"),
        tuple(_files(f"{settings.get('userknownhostsfile', '')} {settings.get('globalknownhostsfile', '')}", folder)),
    )


def _files(names: str, folder: Path) -> Iterator[Path]:
    """The files of such a setting; those of OpenSSH's own folder are looked for in `folder`, which may be another one."""
    own = Path(pwd.getpwuid(os.getuid()).pw_dir, ".ssh")
    for name in names.split():
        file = Path(name).expanduser()
        yield folder / file.name if file.parent == own else file


def known_key(host: SshHost) -> str | None:
    """The key to pin for a machine in its files of known hosts, hashed names included; None when there is none.

    A machine of which no key is known by its port counts as the one without, as for ssh. Raises ConfigError.
    """
    lines = _known_lines(host, host.known_as)
    if all(line.startswith("@revoked") for line in lines) and host.alias is None and host.port != SSH_PORT:
        lines = _known_lines(host, host.address)
    return listed_key("\n".join(lines), None)


def _known_lines(host: SshHost, name: str) -> list[str]:
    files = [file for file in host.known_hosts if file.is_file()]
    answers = "".join(_answer(["ssh-keygen", "-F", name, "-f", str(file)]) for file in files)
    return [line for line in answers.splitlines() if not line.startswith("#")]


def listed_key(text: str, known_as: str | None) -> str | None:
    """The key of the best kind for `known_as` in lines as known_hosts has them (NAMES KIND KEY); with None, of any name.

    A key that a line revokes (@revoked NAMES KIND KEY) does not count.
    """
    lines = [line.split() for line in text.splitlines()]
    revoked = {parts[3] for parts in lines if len(parts) >= 4 and parts[0] == "@revoked"}
    for kind in HOST_KEYS:
        for parts in lines:
            named = len(parts) >= 3 and parts[1] == kind and parts[2] not in revoked
            if named and (known_as is None or known_as in parts[0].split(",")):
                return f"{kind} {parts[2]}"
    return None


def _answer(argv: list[str]) -> str:
    """What one of OpenSSH's programs prints; no output and no error is an answer too. Raises ConfigError."""
    try:
        result = run(argv, timeout=30, check=False)
    except NodeError as error:
        if error.code == "tool-missing":
            raise ConfigError(f"{argv[0]} is not installed on this machine. Install OpenSSH's client.") from None
        raise ConfigError(error.sentence()) from None
    if result.code and result.stderr.strip():
        # The last line only counts the faults, which are before it.
        cause = printable("; ".join(result.stderr.strip().splitlines()), 600)
        raise ConfigError(f"{' '.join(argv)}: {cause}. Correct the name, or the file.")
    return result.stdout
