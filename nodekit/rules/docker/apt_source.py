"""Read and write apt's lists of sources, so that our source never contradicts one that is there already."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodekit.errors import NodeError
from nodekit.rules.docker import openpgp
from nodekit.rules.text import printable, public

SOURCE = "/etc/apt/sources.list.d/kata-nodes-docker.sources"
"""Our own entry."""
DOCKER_ADDRESS = "https://download.docker.com/linux/{id}"
DOCKER_FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
"""Docker's repository, and the key that signs it, as Docker publishes both (docs.docker.com/engine/install)."""


FLAGS = ("trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure")
"""Options of an entry that make apt install what no key signed (sources.list(5))."""
SETTINGS = (
    "APT::Get::AllowUnauthenticated",
    "APT::Get::Force-Yes",
    "Acquire::AllowInsecureRepositories",
    "Acquire::AllowWeakRepositories",
    "Acquire::AllowDowngradeToInsecureRepositories",
)
"""Settings of apt.conf that do the same for every repository (apt-get(8), apt-secure(8))."""
_YES = frozenset({"yes", "true", "with", "on", "enable"})
_NO = frozenset({"no", "false", "without", "off", "disable"})
"""The words that apt takes for a truth value (apt, `StringToBool`), besides 0 and 1."""
_ONE = re.compile(r"\+?(0x)?0*1")
"""1 as apt reads it (strtol(3) with base 0)."""


class Source(NamedTuple):
    """One enabled entry: addresses, suites and components, and what `Signed-By` says (empty: nothing)."""

    addresses: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str
    line: int = 1
    """Where it begins in its file."""
    binary: bool = True
    """Whether it is for binary packages (`deb`), or for sources alone (`deb-src`)."""
    flags: tuple[str, ...] = ()
    """Those of `FLAGS` that are set, such as `trusted=yes`."""


class Entry(NamedTuple):
    """A source and the file that it stands in, as a path on the node."""

    file: str
    source: Source

    @property
    def where(self) -> str:
        """File and line, as editors take them."""
        return f"{self.file}:{self.source.line}"


def is_true(value: str) -> bool:
    """Whether apt takes this text for a yes."""
    word = value.strip().lower()
    return word in _YES or _ONE.fullmatch(word) is not None


def is_read(name: str) -> bool:
    """Whether apt reads a file of this name in sources.list.d (sources.list(5)); it skips backups, copies and hidden files."""
    return re.fullmatch(r"[A-Za-z0-9_:-][A-Za-z0-9_:.-]*\.(list|sources)", name) is not None


def repository_address(text: str, os_id: str) -> str:
    """The address for one system: `{id}` replaced, no slash at its end. Raises NodeError `bad-input` unless http(s)."""
    address = text.replace("{id}", os_id).rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9\[][^\s\"'\\{}@]*", address):
        raise NodeError(
            "bad-input",
            f"Repository address {public(text)!r} is not an http or https address without user name",
            expected="an address such as https://download.docker.com/linux/{id}",
        )
    return address


def repository_word(text: str, field: str) -> str:
    """A suite or component as it may stand in a sources file; raises NodeError `bad-input`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", text):
        raise NodeError(
            "bad-input", f"Repository {field} {printable(text, 80)!r} is not one word", expected=f"a {field} such as stable"
        )
    return text


def source_text(address: str, suite: str, component: str, signed_by: str) -> str:
    """A deb822 sources file (sources.list(5)) for one repository.

    `signed_by` is the armoured key itself (apt 2.4 and newer), or the one line that another entry of the repository has for it.
    """
    lines = signed_by.splitlines()
    signer = f" {signed_by}\n" if len(lines) == 1 else "".join(["\n", *(f" {line or '.'}\n" for line in lines)])
    return (
        "# Written by kata-nodes; `restore` removes it.\n"
        f"Types: deb\nURIs: {address}\nSuites: {suite}\nComponents: {component}\nSigned-By:{signer}"
    )


def is_another(text: str, address: str, suite: str, fingerprint: str) -> bool:
    """Whether our own entry, as `source_text` wrote it, is one of another repository or key than these.

    An entry that somebody disabled, or whose key nobody can read any more, is theirs.
    """
    sources = parse(text, deb822=True)
    return bool(sources) and not any(
        address in source.addresses and suite in source.suites and _is_signed_by(source, fingerprint) for source in sources
    )


def _is_signed_by(source: Source, fingerprint: str) -> bool:
    words = source.signed_by.split()
    if len(words) == 1 and "/" not in words[0]:
        return words[0].rstrip("!").upper() == fingerprint
    try:
        return openpgp.primary_fingerprints(source.signed_by.encode()) == [fingerprint]
    except NodeError:
        return True


def parse(text: str, *, deb822: bool) -> list[Source]:
    """The enabled entries of a `.sources` file (`deb822`) or of a one-line `.list` file; what is neither is left out."""
    return _parse_stanzas(text) if deb822 else _parse_lines(text)


def alone(text: str, line: int, *, deb822: bool) -> str:
    """The text of the one entry that begins in this line of a sources file."""
    lines = text.split("\n")
    if not deb822:
        return lines[line - 1] + "\n"
    rest = itertools.takewhile(lambda each: each.rstrip("\r") != "", lines[line - 1 :])
    return "".join(f"{each}\n" for each in rest)


_WORD = re.compile(r"""(?:"[^"]*(?:"|\Z)|\[[^]]*(?:\]|\Z)|[^\s"[])+""")
_ENTRY = re.compile(r"""\s*(deb|deb-src)\s+(?:\[((?:"[^"]*"|[^]"])*)\]\s*)?(.*)""")


def _words(text: str) -> list[str]:
    """The words of a one-line entry without their quotes, in which a word may have blanks, and a letter stand as `%41` (apt,
    `ParseQuoteWord`)."""
    return [
        re.sub(r'%([0-9A-Fa-f]{2})|"', lambda part: chr(int(part[1], 16)) if part[1] else "", word)
        for word in _WORD.findall(text)
    ]


def _flags(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={printable(options[name], 20)}" for name in FLAGS if is_true(options.get(name, "")))


def _parse_lines(text: str) -> list[Source]:
    sources = []
    for number, line in enumerate(text.split("\n"), 1):
        text_before = re.match(r"(?:\[[^]]*(?:\]|\Z)|[^#])*", line)  # of a comment
        entry = _ENTRY.match(text_before[0]) if text_before else None
        words = _words(entry[3]) if entry else []
        if entry and len(words) > 1:
            options = {name: value for name, _, value in (word.partition("=") for word in _words(entry[2] or ""))}
            # By this spelling alone, unlike in a stanza.
            signed_by = " ".join(options.get("signed-by", "").replace(",", " ").split())
            flags = _flags({name.lower(): value for name, value in options.items()})
            sources.append(Source((words[0],), (words[1],), tuple(words[2:]), signed_by, number, entry[1] == "deb", flags))
    return sources


def _parse_stanzas(text: str) -> list[Source]:
    sources = []
    fields: dict[str, str] = {}
    first, last = 0, ""
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], 1):
        if not line:  # one of blanks ends no stanza for apt
            sources += _stanza(fields, first)
            fields, first, last = {}, 0, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t":
            # An embedded key writes its empty line as " ." (deb822(5)).
            fields[last] = fields.get(last, "") + "\n" + ("" if line.strip() == "." else line.strip())
        elif ":" in line:
            last, _, value = line.partition(":")
            last, first = last.strip().lower(), first or number
            fields[last] = value.strip()
    return sources


def _stanza(fields: Mapping[str, str], line: int) -> list[Source]:
    types = fields.get("types", "").split()
    if not {"deb", "deb-src"} & set(types) or fields.get("enabled", "yes").strip().lower() in (*_NO, "0"):
        return []
    addresses, suites, components = (tuple(fields.get(name, "").split()) for name in ("uris", "suites", "components"))
    signed_by = fields.get("signed-by", "").strip()
    if openpgp.BEGIN not in signed_by:
        signed_by = " ".join(signed_by.replace(",", " ").split())  # several, with commas or blanks between them
    return [Source(addresses, suites, components, signed_by, line, "deb" in types, _flags(fields))]


def _plain(address: str) -> str:
    """An address as apt compares it: without its scheme (`http`, `mirror+https`), user name and the slash at its end (apt,
    `URItoFileName`)."""
    return re.sub(r"^[a-z0-9+.-]+://(?:[^/@]*@)?", "http://", address).removesuffix("/")


def same_address(first: str, other: str) -> bool:
    """Whether apt takes two addresses for one repository's."""
    return _plain(first) == _plain(other)


def same_repository(source: Source, address: str, suite: str) -> bool:
    """Whether apt would take this entry and ours for one repository, and so refuse two values of `Signed-By`."""
    return suite in source.suites and any(same_address(each, address) for each in source.addresses)


def holds(source: Source, suite: str, component: str) -> bool:
    """Whether an entry of the repository has this component too; a suite that is a folder (`./`) has none."""
    return component in source.components or suite.endswith("/")


def _signer(signed_by: str) -> str:
    """`Signed-By` as apt compares it: fingerprints in capitals, a key within by its text."""
    return signed_by if "/" in signed_by or "\n" in signed_by else " ".join(signed_by.upper().split())


def refuse_contradiction(entries: Sequence[Entry]) -> None:
    """Raise NodeError `apt-sources-invalid` when two entries, in apt's order, give one repository different keys.

    apt then reads no list at all (apt, `debReleaseIndex::SetSignedBy`). An entry without a key that comes first takes the key of
    the next; any other difference counts, even two files with the same key.
    """
    signers: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        for address in entry.source.addresses:
            for suite in entry.source.suites:
                known = signers.setdefault((_plain(address), suite), entry)
                if _signer(known.source.signed_by) == _signer(entry.source.signed_by):
                    continue
                if not known.source.signed_by:
                    signers[_plain(address), suite] = entry
                    continue
                raise NodeError(
                    "apt-sources-invalid",
                    f"{known.where} and {entry.where} are entries for the same repository, {public(address)} "
                    f"{printable(suite, 80)}, and differ in Signed-By: {_key_of(known.source)} and {_key_of(entry.source)}; apt "
                    "reads no list at all then",
                    "conflict",
                    files=f"{known.file} or {entry.file}",
                )


def _key_of(source: Source) -> str:
    if not source.signed_by:
        return "nothing"
    return "a key within it" if "\n" in source.signed_by else printable(source.signed_by, 120)


def refuse_unsigned(entry: Entry, subject: str) -> None:
    """Raise NodeError `repository-unsigned` when this entry, from which `subject` would come, needs no signature."""
    if entry.source.flags:
        raise NodeError(
            "repository-unsigned",
            f"{entry.where} sets {' '.join(entry.source.flags)}, so that apt would install {subject} without a valid signature",
            options=" and ".join(flag.partition("=")[0] for flag in entry.source.flags),
            file=f"that entry of {entry.file}",
        )


def lax_settings(dump: str) -> list[str]:
    """Those of `SETTINGS` that `apt-config dump` reports as set, as it spells them."""
    pairs = re.findall(r'^(\S+) "([^"\n]*)";', dump, re.MULTILINE)
    known = {name.lower() for name in SETTINGS}
    # apt-get takes what stands below its own name as if it stood at the top (apt.conf(5)).
    return [name for name, value in pairs if name.lower().removeprefix("binary::apt-get::") in known and is_true(value)]


def proxy(dump: str, address: str) -> str | None:
    """The HTTP proxy that apt takes for an address, from what `apt-config dump` reports; None where it takes none.

    One of the host comes before one for all, and what https has not set it takes from http (apt-transport-http(1) and -https(1)).
    """
    pairs = {name.lower(): value for name, value in re.findall(r'^(\S+) "([^"\n]*)";', dump, re.MULTILINE)}
    scheme, _, rest = address.lower().partition("://")
    host = re.sub(r"^[^/@]*@|:\d+$", "", rest.partition("/")[0])
    methods = ("https", "http") if scheme == "https" else ("http",)
    names = [f"acquire::{method}::proxy{of}" for of in (f"::{host}", "") for method in methods]
    value = next((pairs[name] for name in names if pairs.get(name)), "")
    return value.rstrip("/") if value.startswith("http://") else None
