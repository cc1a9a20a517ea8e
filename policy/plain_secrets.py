"""Recognize secrets: private keys, kubeconfigs with a login, tokens of known form, and values whose names give them away."""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FORMS: tuple[tuple[str, str], ...] = (
    ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a private key", r"PuTTY-User-Key-File-[0-9]|AGE-SECRET-KEY-1[0-9A-Z]{20}"),
    ("a kubeconfig with a login", r"client-key-data[\"']?\s*:\s*[\"']?[A-Za-z0-9+/=]{8}"),
    (
        "a kubeconfig with a login",
        r"(?s)\A(?=.*\bclusters\b)(?=.*\busers\b).*\b(?:token|password)[\"']?\s*:\s*[\"']?[^\s\"'{}\[\],]",
    ),
    ("a token of GitHub", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    ("a token of GitLab", r"\bglpat-[A-Za-z0-9_-]{20}"),
    ("a token of Pulumi", r"\bpul-[0-9a-f]{40}\b"),
    ("a token of Slack", r"\bxox[abeprs]-[A-Za-z0-9-]{10}"),
    ("a token of Vault", r"\bhv[sb]\.[A-Za-z0-9_-]{24}"),
    ("a key of an AWS account", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a signed token (JWT)", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("an address with a password", r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@\"'{}$<>]+:[^\s/@\"'{}$<>]+@"),
    ("a login of HTTP", r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+[A-Za-z0-9._~+/=-]{8}"),
    ("a bootstrap token of Kubernetes", r"(?<![A-Za-z0-9_.-])(?=[a-z0-9.]*[0-9])[a-z0-9]{6}\.[a-z0-9]{16}(?![A-Za-z0-9_.-])"),
    (
        "a password or token",
        r"(?i)(?:^|[\s;&'\"=,?])[a-z0-9_.-]*"
        r"(?:(?:password|passwd|passphrase|token|api[-_]?key|secret[-_]?key|access[-_]?key|client[-_]?secret)=|"
        # A secret of Kubernetes, Docker or a cloud is named in the same way; names are words in small letters, joined by a mark.
        r"secret=(?![\"']?(?:id=|(?-i:[a-z0-9]+(?:[-._/][a-z0-9]+)+)(?![^\s\"',;]))))[\"']?"
        r"(?=[^\s]{0,200}[0-9])[a-z0-9][^\s\"'$;&|<>(){}]{7,}",
    ),
    (
        "a password or token",
        r"(?i)(?:^|[\s'\"])--?[a-z0-9_.-]*(?:password|passwd|passphrase|token|api[-_]?key|secret[-_]?key|access[-_]?key|"
        r"client[-_]?secret)\s+[\"']?(?=[^\s]{0,200}[0-9])[a-z0-9][^\s\"'$;&|<>(){}]{7,}",
    ),
    (
        "a password or token",
        r"(?i)(?:^|[\s{,'\"])[a-z0-9_.-]*(?:password|passwd|passphrase|token|api[-_]?key|client[-_]?secret)[\"']?[ \t]*:[ \t]*"
        # An address (`vault:…`, `op://…`, `arn:…`) says where the secret lies, and what sops has encrypted (`ENC[…]`) is none.
        r"[\"']?(?![a-z][a-z0-9+.-]{0,30}:|ENC\[)(?=[^\s]{0,200}[0-9])[a-z0-9][^\s\"'$;&|<>(){}]{7,}",
    ),
    (
        "a password",
        r"\b(?:sshpass[ \t]+-p|docker[ \t]+login\b[^\n;&|]{0,200}[ \t]-p)[ \t]*[\"']?"
        r"(?=[^\s]{0,200}[0-9])[A-Za-z0-9][^\s\"'$;&|<>(){}]{7,}",
    ),
    (
        "a password",
        r"\bcurl\b[^\n;&|]{0,200}[ \t](?:-u|--user)[ \t=]*[\"']?[\w.@-]+:"
        r"(?=[^\s]{0,200}[0-9])[A-Za-z0-9][^\s\"'$;&|<>(){}]{7,}",
    ),
)
"""What it is, and the form of its text; the forms of tokens are those that their makers document for scanners to find. The last
five are an assignment (PASSWORD=…), an option (--token …), a line of YAML or JSON that a command writes (password: …), and
options of programs that take a password (sshpass -p …), of a text with a digit, so that neither words nor variables count; a word
of its own (`get secret k3s-serving`, `create token build-robot-2024`) is a verb's object, and a name follows it.
What is repeated from many places of a text has a bound: a megabyte would take minutes."""
_FORMS = tuple((description, re.compile(form)) for description, form in FORMS)
_TELLING = re.compile(
    r"(?:(?i:password|passwd|passphrase|token|api[-_]?key|(?:private|secret|access)[-_]?key|client[-_]?secret|join[-_]?script)|"
    r"\bsecret|_SECRET)\Z"
)
"""How names end whose value is a secret: DB_PASSWORD, sudoPassword, api-key. `secretName`, `tokenPath`, `tlsSecret` do not."""
_NAMING = re.compile(r"(?i)existing.*key|(?:.*[^a-z])?(?:creation|idempotency)[-_]?token")
"""Names of what is none: a key of a Secret that is there (existingSecretKey, in values of charts), and what tells two requests to
AWS apart (creationToken, idempotencyToken)."""
_ENCODED = re.compile(r"[A-Za-z0-9+/\s]{32,}={0,2}\s*")
_SWITCH = ("true", "false", "yes", "no", "on", "off", "1", "0")
"""What no secret is, in letters of any case: MYSQL_ALLOW_EMPTY_PASSWORD=yes turns something on."""
_ANNOTATION = re.compile(
    r"checksum/[\w.-]+=[0-9a-f]{32,128}|"
    r"[a-z0-9-]+(?:\.[a-z0-9-]+)+/[\w.-]*secret=(?:[a-z0-9][a-z0-9.-]{0,252}/)?[a-z0-9][a-z0-9.-]{0,252}"
)
"""Annotations, as KEY=VALUE, that hold the sum of a secret, at whose change pods are made again (checksum/secret), or name a
Secret, as those of ingress controllers do (nginx.ingress.kubernetes.io/auth-tls-secret=NAMESPACE/NAME)."""
_PLACEHOLDER = re.compile(r"\$\(\w[\w.-]*\)|\$\{\w+\}|\{\{[^{}\"'`]*\}\}")
"""What stands for a value from elsewhere: a variable of a container, or a template's field, but no text that a template holds."""
_ADDRESS = re.compile(r"(?:vault:|arn:|(?!https?:)[a-z][a-z0-9+.-]{0,30}://)[^\s'\"]+|ENC\[[^\[\]\s]+\]")
"""Where the secret lies, for what puts it there later (`vault:…`, `op://…`, `arn:…`), and what sops has encrypted."""


@dataclass(frozen=True)
class Secret:
    """A value that the engine was told to keep encrypted."""

    value: object


@dataclass(frozen=True)
class FoundSecret:
    """Something secret: its place, what it is (never the value), and whether the engine keeps it encrypted."""

    at: str
    description: str
    kept: bool


def form(text: str) -> str | None:
    """The secret that a text is, or holds, by its form; None when its form shows none."""
    return next((description for description, pattern in _FORMS if pattern.search(text)), None)


def telling(name: str) -> bool:
    """Whether a name says that its value is a secret."""
    return bool(_TELLING.search(name)) and not _NAMING.fullmatch(name)


def _stands_elsewhere(text: str) -> bool:
    return bool(_PLACEHOLDER.fullmatch(text) or _ADDRESS.fullmatch(text))


def secrets(value: object, at: str, name: str = "", kept: bool = False) -> Iterator[FoundSecret]:
    """Every secret below `value`, which lies at `at` under `name`; `Secret` marks what is kept encrypted.

    Texts that hold JSON or base64 are looked into. A list of `name` and `value`, as containers have their environment, counts
    as the object that it stands for.
    """
    if isinstance(value, Secret):
        yield from secrets(value.value, at, name, True)
    elif isinstance(value, Mapping):
        for key, below in value.items():
            called = value["name"] if key == "value" and isinstance(value.get("name"), str) else str(key)
            yield from secrets(below, f"{at}.{key}", called, kept)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from secrets(below, f"{at}[{index}]", name, kept)
    elif isinstance(value, str) and value.strip() and value.strip().lower() not in _SWITCH:
        if description := form(value):
            yield FoundSecret(at, description, kept)
        elif telling(name) and not _stands_elsewhere(value.strip()) and not _ANNOTATION.fullmatch(f"{name}={value}"):
            yield FoundSecret(at, f"the value of {name}", kept)
        else:
            yield from _within(value, at, kept)


def _within(text: str, at: str, kept: bool) -> Iterator[FoundSecret]:
    if text.lstrip().startswith(("{", "[")):
        try:
            yield from secrets(json.loads(text), at, "", kept)
        except (ValueError, RecursionError):
            return
    elif _ENCODED.fullmatch(text):
        try:
            plain = base64.b64decode("".join(text.split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield from secrets(plain, at, "", kept)
