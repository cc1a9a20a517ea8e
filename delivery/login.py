"""Checks of a login to a node that contact nobody, and what a command of it is given: a sudo password, and the desired state."""

import base64
import ipaddress
import json
import re
from collections.abc import Iterable
from typing import Any

from nodekit.errors import NodeError
from nodekit.rules.text import printable

SSH_PORT = 22
"""Where an SSH server answers unless something else is said."""
HOST_KEYS: dict[str, tuple[tuple[str, ...], int]] = {
    "ssh-ed25519": (("ssh-ed25519",), 32),
    "ecdsa-sha2-nistp256": (("ecdsa-sha2-nistp256", "nistp256"), 65),
    "ecdsa-sha2-nistp384": (("ecdsa-sha2-nistp384", "nistp384"), 97),
    "ecdsa-sha2-nistp521": (("ecdsa-sha2-nistp521", "nistp521"), 133),
}
"""Kind of a host key that can be pinned, the best one first -> the strings that its data begins with, and the bytes of the last
one (RFC 8709, section 4; RFC 5656, section 3.1). A machine in FIPS mode has none of the first kind."""
LOGIN_KEYS = {"ssh-ed25519": 2, "ssh-rsa": 3}
"""Kind of a login key that EC2 takes -> of how many strings its data is made (RFC 8709, section 4; RFC 4253, section 6.6)."""
RSA = ("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")
"""Kinds of which the official command plugin takes only signatures by SHA-1 (`remote/connection.go`, `hostKeyAlgorithms`), which
OpenSSH has refused since 8.8."""
PUBLIC_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+\s|-----BEGIN [A-Z ]*PUBLIC KEY-----|---- BEGIN SSH2 PUBLIC KEY ----")
PRIVATE_KEY = re.compile("PRIVATE KEY-----|PuTTY-User-Key-File-")
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
DOMAIN_NAME = re.compile(rf"(?=.*[A-Za-z_-])({_LABEL}\.)*{_LABEL}\.?")
"""What Go's resolver, which the command plugin dials with, looks up as a name (net/dnsclient.go, isDomainName)."""
MOST_NAME = 253
"""Characters of such a name, without a dot at its end."""
RESULT = '{"'
"""How the result of a verb begins."""
OPENSSH_KEY = b"openssh-key-v1\0"
NO_CIPHER = b"\0\0\0\4none"
"""How an OpenSSH private key without a passphrase goes on (PROTOCOL.key of OpenSSH, section 1)."""


def host_key(text: str) -> str:
    """The key as `ssh-ed25519 AAAA…`, without a comment; its kind is one of `HOST_KEYS`. Raises NodeError `host-key-invalid`."""
    kind, data = (*public_half(text).split(), "", "")[:2]
    if not _is_of(kind, data):
        case = "rsa" if kind in RSA else ""
        raise NodeError("host-key-invalid", f"The host key {printable(text, 120)!r} is not an ed25519 or ECDSA public key", case)
    return f"{kind} {data}"


def public_half(text: str) -> str:
    """A host key of any kind; raises NodeError `host-key-invalid` for one that is the private half, without showing any of it.

    In /etc/ssh the two lie side by side, and previews and states show host keys.
    """
    if PRIVATE_KEY.search(text):
        raise NodeError("host-key-invalid", "What is set as a host key is a private key", "private")
    return text


def public_key(text: str | None) -> str:
    """The public half of a login key, of any kind.

    Raises NodeError `bad-input` for none, for one of `LOGIN_KEYS` that lacks a part, and for a private key, of which it
    shows nothing.
    """
    problem = ""
    if not text or not text.strip():
        problem = "holds nothing"
    elif PRIVATE_KEY.search(text):
        problem = "is a private key"
    elif (kind := text.split()[0]) in LOGIN_KEYS and not _is_whole(kind, (*text.split(), "")[1]):
        problem = f"is not a whole key of the kind {kind}"
    if not text or problem:
        raise NodeError(
            "bad-input", f"The public login key {problem}", expected="the content of the file whose name ends in .pub"
        )
    return text


def refuse_without_public_key(private_key: str | None) -> None:
    """Raise NodeError `bad-input` for the private half of a login key whose public half no machine would get."""
    if private_key is not None:
        expected = "the public key beside it, or neither of them for a pair of the pool's own"
        raise NodeError(
            "bad-input", "A private login key is set without its public key, so no machine would know it", expected=expected
        )


def _is_of(kind: str, encoded: str) -> bool:
    """Whether this is the data of a host key of that kind."""
    try:
        data = base64.b64decode(encoded, validate=True)
        names, size = HOST_KEYS[kind]
    except (ValueError, KeyError):
        return False
    strings = [*(name.encode() for name in names), data[-size:]]
    # A point of a curve is not compressed, which its first byte says (RFC 5656, section 3.1).
    return data == b"".join(len(part).to_bytes(4, "big") + part for part in strings) and (len(names) == 1 or data[-size] == 4)


def _is_whole(kind: str, encoded: str) -> bool:
    """Whether this is the data of a login key of that kind: strings, each after its length, of which the first is the kind."""
    parts = []
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    while data:
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            return False
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return len(parts) == LOGIN_KEYS[kind] and parts[0] == kind.encode()


def host_address(text: str, host: str) -> str:
    """The name or IP address of `host` (node or bastion). Raises NodeError `host-address-invalid`.

    With a port or brackets every dial would fail, since the port is added to it, and so with a user, a path, a space, a pattern,
    a list, or a character that nobody sees, as what is copied from a page can have.
    """
    try:
        if not DOMAIN_NAME.fullmatch(text) or len(text.rstrip(".")) > MOST_NAME:
            ipaddress.ip_address(text)
    except ValueError:
        message = f"The address {printable(text, 120)!r} of the {host} is not a host name or an IP address"
        raise NodeError("host-address-invalid", message) from None
    return text


def pinned(key: str | None, host: str) -> str:
    """The key that `host` (node or bastion) must show. Raises NodeError `host-key-missing` when there is none, or as
    `public_half`.

    Without one the connection believes whatever host answers at the address, and hands it the node program's desired states
    and a sudo password. Any kind of key counts; `host_key` is stricter, for keys that this program's own settings give.
    """
    if not key or not key.strip():
        raise NodeError("host-key-missing", f"The connection to the {host} has no host key")
    return public_half(key)


def refuse_unusable(key: str, host: str) -> None:
    """Refuse what the log-in to `host` (node or bastion) can certainly not use as a private key, without showing any of it.

    Raises NodeError `login-key-unusable`. The plugin that logs in has no word for these that says what to do. What is damaged in
    another way is left to it.
    """
    text = key.strip()
    lines = [line.strip() for line in text.splitlines()]
    problem = case = ""
    if PUBLIC_KEY.match(text):
        problem, case = "is a public key", "public"
    elif len(lines) == 1 and text.startswith(("/", "~", "./", "../")):
        problem, case = "is the path of a file", "path"
    elif text.startswith("PuTTY-"):
        problem, case = "is in PuTTY's own form", "putty"
    elif lines and lines[0].endswith("PRIVATE KEY-----") and _is_encrypted(lines):
        problem = "has a passphrase"
    if problem:
        raise NodeError("login-key-unusable", f"The private key of the login to the {host} {problem}", case)


def _is_encrypted(lines: list[str]) -> bool:
    if lines[0] == "-----BEGIN ENCRYPTED PRIVATE KEY-----" or "Proc-Type: 4,ENCRYPTED" in lines:
        return True
    try:
        data = base64.b64decode("".join(line for line in lines if not line.startswith("-----")))
    except ValueError:
        return False
    cipher = data.removeprefix(OPENSSH_KEY)[: len(NO_CIPHER)]
    return data.startswith(OPENSSH_KEY) and len(cipher) == len(NO_CIPHER) and cipher != NO_CIPHER


def refuse_doubled(hosts: Iterable[tuple[str, tuple[str, int] | None]]) -> None:
    """Refuse names with (address, port), None where that is not known yet or counts for nothing, of which two are the same node.

    Raises NodeError `node-doubled`.
    """
    names: set[str] = set()
    places: dict[tuple[str, int], str] = {}
    for name, place in hosts:
        if name in names:
            raise NodeError("node-doubled", f"The name {name} is given to two nodes")
        names.add(name)
        if place is None:
            continue
        address, port = place
        other = places.setdefault((_comparable(address), port), name)
        if other != name:
            raise NodeError(
                "node-doubled", f"The nodes {other} and {name} have the same address {address} and port {port}", "address"
            )


def _comparable(address: str) -> str:
    """The address in a form that is the same for every spelling of a name, and of an address of IPv6."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address.lower().rstrip(".")


def last_line(output: str) -> str:
    """What the command itself printed, one line; a login shell may print others before it, as an `echo` in .bashrc does, and what
    has no end of its own before a result: the title of a window, or a cursor that it shows again."""
    line = output.rstrip().rpartition("\n")[2]
    return line[max(line.find(RESULT), 0) :]


def as_root(script: str) -> str:
    """Begins a command line that runs the rest of it as root by `as_root.sh`, which comes on standard input (`before`). Where the
    rest begins with `--as-user`, it only looks whether it could."""
    return handed(script, "as-root")


def handed(script: str, name: str) -> str:
    """Begins a command line that runs a `script` of standard input, with the rest of the line as its arguments and the rest of
    standard input as its own. Errors of the shell have its `name`.

    The script is not a file: one in the login user's home could be replaced before it starts. dd takes exactly the script's bytes
    and leaves the rest, and what it prints of its work is thrown away; the quotes are those that every login shell understands.
    """
    return f"""sh -c 'exec sh -c "$(dd bs=1 count={len(script.encode())} 2>/dev/null)" "$0" "$@"' {name} """


def before(script: str, password: str | None, text: str) -> str:
    """Standard input of a command of `as_root`: the script, the password on a line, then `text`. Raises NodeError `bad-input`."""
    line = (password or "").removesuffix("\n").removesuffix("\r")
    if not line or any(c in line for c in "\n\r\0"):
        raise NodeError("bad-input", "sudoPassword is empty or has more than one line", "sudo-password")
    return f"{script}{line}\n{text}"


def desired_state(stdin: object) -> dict[str, Any]:
    """The desired state that ends a command's standard input, behind scripts and a password; empty where there is none, as where
    a preview cannot know it."""
    if not isinstance(stdin, str):
        return {}
    try:
        state = json.loads(stdin[stdin.rfind("\n{") + 1 :])  # the only line of it that begins so: the others are indented
    except (ValueError, RecursionError):
        return {}
    return state if isinstance(state, dict) else {}
