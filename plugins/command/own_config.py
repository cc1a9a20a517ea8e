"""Reads ~/.ssh/config as OpenSSH does, for asyncssh: of a line that it cannot use, that line alone is passed over."""

import functools
import re
import shlex
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from asyncssh.config import SSHClientConfig
from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs, get_public_key_algs

from nodekit.host.reading import read

MAX_CONFIG = 4 << 20
"""Bytes that are read of one file."""
MAX_DEPTH = 16
"""Files that include each other (OpenSSH, readconf.h, READCONF_MAX_DEPTH)."""
READ = frozenset(
    (
        *("host", "match", "include", "addressfamily", "bindaddress", "canonicalizehostname", "casignaturealgorithms"),
        *("certificatefile", "ciphers", "compression", "globalknownhostsfile", "hostkeyalgorithms", "hostname", "hostkeyalias"),
        *("identitiesonly", "identityagent", "identityfile", "kbdinteractiveauthentication", "kexalgorithms", "macs"),
        *("passwordauthentication", "port", "proxycommand", "proxyjump", "pubkeyauthentication", "tag", "tcpkeepalive", "user"),
        "userknownhostsfile",
    )
)
"""Keywords that decide whether and how a login comes about. The rest is set by its caller, or is for a person."""
RAW = frozenset(("proxycommand",))
"""Those of which a shell gets the rest of the line."""
WAYS = ("proxycommand", "proxyjump")
"""The first of them counts, and none after it (ssh_config(5))."""
EXPANDED = ("CertificateFile", "GlobalKnownHostsFile", "IdentityAgent", "IdentityFile", "UserKnownHostsFile")
"""Options with tokens and variables of the environment (ssh_config(5), TOKENS)."""
TOKENS_OF_WAYS = "%hnpr"
LINE = re.compile(r"\s*([^\s=#]+)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
WORD = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+""")
CONDITION = re.compile(r"(!?[A-Za-z]+)=(.+)", re.DOTALL)
"""One of Match, which can be written with `=`."""
ALGORITHMS: dict[str, Callable[[], Collection[bytes]]] = {
    "KexAlgorithms": get_kex_algs,
    "Ciphers": get_encryption_algs,
    "MACs": get_mac_algs,
    "HostKeyAlgorithms": lambda: [*get_certificate_algs(), *get_public_key_algs()],
    "CASignatureAlgorithms": get_public_key_algs,
}
"""Options that name algorithms -> those that asyncssh knows."""


class OwnConfig(SSHClientConfig):
    """What counts for one login."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.passed_over: list[str] = []
        """Where and why something of it does not count."""
        self._depth = 0
        self._way = ""

    def parse(self, path: Path) -> None:
        """Read a file, with all that it includes. Raises OSError where it cannot be read."""
        self._tokens = {"%": "%"}
        self._read(path)
        self._set_tokens()
        self._tokens["k"] = str(self._options.get("HostKeyAlias") or self._orig_host)
        self._tokens["j"] = str(self._options.get("ProxyJump") or "")
        for option in EXPANDED:
            self._expand(option)
        if isinstance(way := self._options.get("ProxyCommand"), str):
            self._options["ProxyCommand"] = self.of_way(way)
        for option, known in ALGORITHMS.items():
            self._leave_out_unknown(option, known)

    def of_way(self, text: str) -> str:
        """The value of a ProxyCommand or ProxyJump with its tokens replaced; what is none of them stays as it is."""
        return re.sub(f"%([{TOKENS_OF_WAYS}])", lambda match: self._tokens[match[1]], text)

    def _read(self, path: Path) -> None:
        before = self._path, self._line_no
        self._path, self._matching = path, True
        for self._line_no, line in enumerate(read(path, MAX_CONFIG).decode(errors="surrogateescape").split("\n"), 1):
            self._try(self._apply, line)
        self._path, self._line_no = before
        self._matching = True

    def _try(self, apply: Callable[[Any], None], source: str | Path) -> None:
        """Apply a line, or a file that one includes, or else pass over it."""
        try:
            apply(source)
        except OSError as error:
            self._pass_over(f"{source}: {error.strerror}")
        except (ValueError, RuntimeError) as error:  # RuntimeError: the home of a user who is not known
            self._pass_over(str(error))

    def _apply(self, line: str) -> None:
        parts = LINE.fullmatch(line.strip())
        keyword = parts[1].lower() if parts else ""
        if parts is None or keyword not in READ:
            return
        if keyword == "match":
            self._matching = False  # a condition that cannot be told matches nothing
        if not self._matching and keyword not in self._conditionals:
            return
        args = [parts[2]] if keyword in RAW else words(parts[2])
        if not args or not args[0]:
            raise ValueError(f"{parts[1]} has no value")
        if keyword == "match":
            args = self._conditions(args)
        if keyword in WAYS:
            if self._way not in ("", keyword):
                return
            # OpenSSH takes a ProxyCommand after `ProxyJump none` (readconf.c, parse_jump), but nothing after `ProxyCommand none`.
            self._way = "" if keyword == "proxyjump" and args[0].lower() == "none" else keyword
        option, handler = self._handlers[keyword]
        handler(self, option, args)
        if args:
            raise ValueError(f"{parts[1]} has more values than it takes")

    def _conditions(self, args: list[str]) -> list[str]:
        """The words of Match, with those of `exec` expanded by what is known so far."""
        split: list[str] = []
        for word in args:
            of_exec = bool(split) and split[-1].lower().removeprefix("!") == "exec"
            parts = None if of_exec else CONDITION.fullmatch(word)
            split += parts.groups() if parts else [word]
        self._set_tokens()
        self._tokens["k"] = str(self._options.get("HostKeyAlias") or self._orig_host)
        commands = [at for at, word in enumerate(split[:-1], 1) if word.lower().removeprefix("!") == "exec"]
        return [self._expand_val(word) if at in commands else word for at, word in enumerate(split)]

    def _include(self, option: str, args: list[str]) -> None:
        """Read other files, in the order of their names."""
        if self._depth >= MAX_DEPTH:
            raise ValueError("files that include each other too deeply")
        self._depth += 1
        try:
            for pattern in args:
                place = Path(pattern).expanduser()
                root = Path(place.anchor) if place.anchor else self._default_path
                inside = str(place.relative_to(place.anchor)) if place.anchor else pattern
                for path in sorted(path for path in root.glob(inside) if path.is_file()):
                    self._try(self._read, path)
        finally:
            self._depth -= 1
        args.clear()

    _handlers = {  # noqa: RUF012 # as in the class above
        **SSHClientConfig._handlers,
        "include": ("Include", _include),
    }

    def _expand(self, option: str) -> None:
        """Replace tokens and variables; a value of which one is not known does not count."""
        value = self._options.get(option)
        if value is None:
            return
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        # As OpenSSH does, each once: a key that is offered twice counts twice among those that a server refuses.
        expanded = list(dict.fromkeys(text for text in map(functools.partial(self._expanded, option), texts) if text is not None))
        if isinstance(value, list):
            self._options[option] = expanded
        elif expanded:
            self._options[option] = expanded[0]
        else:
            del self._options[option]

    def _expanded(self, option: str, text: str) -> str | None:
        try:
            return str(Path(self._expand_val(text)).expanduser())
        except (ValueError, RuntimeError) as error:
            self.passed_over.append(f"{option} {text}: {error}")
            return None

    def _leave_out_unknown(self, option: str, known: Callable[[], Collection[bytes]]) -> None:
        """Forget a list of algorithms of which asyncssh knows none: it would offer none at all."""
        value = self._options.get(option)
        if not isinstance(value, str) or value[:1] in ("+", "-", "^"):
            return
        names = [name.decode() for name in known()]
        if not any(fnmatch(name, pattern) for pattern in value.split(",") for name in names):
            del self._options[option]
            self.passed_over.append(f"{option} {value}: none of these algorithms is known here")

    def _pass_over(self, why: str) -> None:
        where = f"{self._path} line {self._line_no}: "
        self.passed_over.append(f"{where}{why.removeprefix(where)}")


def words(text: str) -> list[str]:
    """The words of a line as OpenSSH splits it, up to a comment. Raises ValueError for a quote without its end."""
    result: list[str] = []
    rest = text.strip()
    while rest and not rest.startswith("#"):
        word = WORD.match(rest)
        if word is None:
            raise ValueError("a quote has no end")
        result += shlex.split(word[0])
        rest = rest[word.end() :].lstrip()
    return result
