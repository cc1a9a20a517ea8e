"""Read the fingerprints in a file of OpenPGP public keys, because a minimal node has no gpg to ask."""

import base64
import hashlib
import re
from collections.abc import Iterator

from nodekit.errors import NodeError
from nodekit.rules.text import printable

BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
END = "-----END PGP PUBLIC KEY BLOCK-----"
FILE = "The key file"
"""What a key is called where nobody knows from where it came."""
PUBLIC_KEY = 6
"""Tag of a primary public key packet (RFC 9580, section 5)."""
ALLOWED_TAGS = frozenset({2, PUBLIC_KEY, 12, 13, 14, 17})
"""Signature, primary key, trust, user id, subkey, user attribute: what a transferable public key consists of."""
MAX_KEY_PACKET = 0xFFFF
"""Bytes of a key packet: its length goes into the fingerprint in two bytes (RFC 9580, section 5.5.4)."""


def fingerprint(text: str) -> str:
    """A v4 fingerprint as 40 upper-case hexadecimal digits, blanks removed; raises NodeError `bad-input`."""
    digits = re.sub(r"\s", "", text).upper()
    if not re.fullmatch(r"[0-9A-F]{40}", digits):
        raise NodeError(
            "bad-input",
            f"Key fingerprint {printable(text, 80)!r} is not 40 hexadecimal digits",
            expected="the whole fingerprint that the repository's owner publishes",
        )
    return digits


def _invalid(why: str) -> NodeError:
    return NodeError("file-invalid", f"{FILE} is not an OpenPGP public key: {why}", "key")


def dearmour(data: bytes) -> bytes:
    """The packets of a key file, armoured or not. Raises NodeError `file-invalid`, also for a second block of any name:
    gpg, sqv and apt's own shell differ in which they read."""
    if data[:1] and data[0] & 0x80:
        return data
    text = data.decode("ascii", errors="replace").replace("\r\n", "\n")
    blocks = max(text.count("-----BEGIN"), text.count("-----END"))
    if blocks != 1:
        raise _invalid(f"it holds {blocks} armoured blocks, not one")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise _invalid("its armoured block is not one of a public key")
    lines = text.partition(BEGIN)[2].partition(END)[0].split("\n")[1:]
    if "" not in [line.strip() for line in lines]:
        raise _invalid("no empty line ends the armour's headers")
    body = [line.strip() for line in lines[[line.strip() for line in lines].index("") + 1 :] if line.strip()]
    checksum = body.pop()[1:] if body and re.fullmatch(r"=[A-Za-z0-9+/]{4}", body[-1]) else None
    try:
        packets = base64.b64decode("".join(body), validate=True)
    except ValueError as error:
        raise _invalid(f"its base64 is broken ({error})") from None
    if checksum is not None and int.from_bytes(base64.b64decode(checksum), "big") != _crc24(packets):
        raise _invalid("its checksum does not match")
    return packets


def armour(data: bytes) -> bytes:
    """A key file, armoured or not, as one armoured block and nothing else: apt reads exactly what was checked here."""
    packets = dearmour(data)
    body = base64.b64encode(packets).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    checksum = base64.b64encode(_crc24(packets).to_bytes(3, "big")).decode()
    return "\n".join([BEGIN, "", *lines, f"={checksum}", END, ""]).encode()


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet, old and new header format (RFC 9580, section 4.2); partial lengths are refused."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise _invalid(f"byte {at} begins no packet")
        if head & 0x40:
            tag, at = head & 0x3F, at + 1
            first = data[at] if at < len(data) else 255
            size = 1 if first < 192 else 2 if first < 224 else 5 if first == 255 else 0
            if size == 0:
                raise _invalid("a key packet has a partial length")
            field = data[at : at + size]
            length = (
                field[0]
                if size == 1
                else ((field[0] - 192) << 8) + field[-1] + 192
                if size == 2
                else int.from_bytes(field[1:], "big")
            )
        else:
            tag, at = (head & 0x3C) >> 2, at + 1
            if head & 3 == 3:
                raise _invalid("a packet has no length")
            size = 1 << (head & 3)
            field = data[at : at + size]
            length = int.from_bytes(field, "big")
        if len(field) < size or at + size + length > len(data):
            raise _invalid("it ends in the middle of a packet")
        yield tag, data[at + size : at + size + length]
        at += size + length


def primary_fingerprints(data: bytes) -> list[str]:
    """The fingerprint of every primary key in a key file. Raises NodeError `file-invalid`, also for keys that are not v4."""
    fingerprints: list[str] = []
    for tag, body in _packets(dearmour(data)):
        if tag not in ALLOWED_TAGS:
            raise _invalid(f"it holds a packet of type {tag}")
        if not fingerprints and tag != PUBLIC_KEY:
            raise _invalid(f"it begins with a packet of type {tag}, not with a primary key")
        if tag == PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise _invalid(f"a key of version {body[0] if body else 'none'} is not supported, only version 4")
            if len(body) > MAX_KEY_PACKET:
                raise _invalid(f"its key has {len(body)} bytes, more than {MAX_KEY_PACKET}")
            framed = b"\x99" + len(body).to_bytes(2, "big") + body
            fingerprints.append(hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper())
    if not fingerprints:
        raise _invalid("it holds no primary key")
    return fingerprints


def refuse_other_keys(data: bytes, expected: str, where: str) -> None:
    """Raise NodeError `repository-key-mismatch` unless the one primary key in the file from `where` is the expected one.

    Raises `file-invalid` for what is no key. `where` is an address, the path of a file, or file and line of a source with a key.
    """
    try:
        fingerprints = primary_fingerprints(data)
    except NodeError as error:
        case = "key" if "://" in where else "key-file"
        place = f"the key within {where}" if re.search(r":\d+$", where) else where
        message = f"{where} {error.message.removeprefix(f'{FILE} ')}"
        raise NodeError("file-invalid", message, case, place=place) from None
    if fingerprints != [expected]:
        raise NodeError(
            "repository-key-mismatch", f"{where} holds the key {', '.join(fingerprints[:5])}, expected {expected} and no other"
        )
