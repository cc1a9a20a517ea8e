"""Read and write apt's lists of sources, so that our source never contradicts one that is there already."""

import re
from dataclasses import dataclass

from nodekit.errors import NodeError
from nodekit.rules.text import printable

SOURCE = "/etc/apt/sources.list.d/kata-nodes-docker.sources"
"""Our own entry."""


@dataclass(frozen=True)
class Source:
    """One enabled entry for binary packages: addresses, suites and components, and what `Signed-By` says (empty: nothing)."""

    addresses: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str


def repository_address(text: str, os_id: str) -> str:
    """The address for one system: `{id}` replaced, no slash at its end. Raises NodeError `bad-input` unless http(s)."""
    address = text.replace("{id}", os_id).rstrip("/")
    if not re.fullmatch(r"https?://[A-Za-z0-9\[][^\s\"'\\{}@]*", address):
        raise NodeError(
            "bad-input",
            f"Repository address {printable(text, 200)!r} is not an http or https address without user name",
            "Give it like https://download.docker.com/linux/{id}",
        )
    return address


def repository_word(text: str, what: str) -> str:
    """A suite or component as it may stand in a sources file; raises NodeError `bad-input`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", text):
        raise NodeError(
            "bad-input", f"Repository {what} {printable(text, 80)!r} is not one word", f"Give a {what} such as stable"
        )
    return text


def source_text(address: str, suite: str, component: str, key: bytes) -> str:
    """A deb822 sources file (sources.list(5)) for one repository, its armoured key within (apt 2.4 and newer)."""
    lines = "".join(f" {line or '.'}\n" for line in key.decode("ascii").splitlines())
    return (
        "# Written by kata-nodes; `restore` removes it.\n"
        f"Types: deb\nURIs: {address}\nSuites: {suite}\nComponents: {component}\nSigned-By:\n{lines}"
    )


def parse(text: str, *, deb822: bool) -> list[Source]:
    """The enabled `deb` entries of a `.sources` file (`deb822`) or of a one-line `.list` file; what is neither is left out."""
    return _parse_stanzas(text) if deb822 else _parse_lines(text)


def _parse_lines(text: str) -> list[Source]:
    found = []
    for line in text.splitlines():
        entry = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if entry:
            options = dict(option.partition("=")[::2] for option in (entry[1] or "").split())
            signed_by = options.get("signed-by", "").replace(",", " ")
            found.append(Source((entry[2],), (entry[3],), tuple(entry[4].split()), signed_by))
    return found


def _parse_stanzas(text: str) -> list[Source]:
    found = []
    for stanza in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                # An embedded key writes its empty line as " ." (deb822(5)).
                fields[last] = fields.get(last, "") + "\n" + ("" if line.strip() == "." else line.strip())
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                fields[last] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off"):
            found.append(
                Source(
                    tuple(fields.get("uris", "").split()),
                    tuple(fields.get("suites", "").split()),
                    tuple(fields.get("components", "").split()),
                    fields.get("signed-by", "").strip(),
                )
            )
    return found


def same_repository(source: Source, address: str, suite: str) -> bool:
    """Whether apt would take this entry and ours for one repository, and so refuse two values of `Signed-By`."""
    return suite in source.suites and any(one.rstrip("/") == address for one in source.addresses)
