"""Amounts as Kubernetes writes them (kubernetes.io, Quantity), so that two of them can be compared before the API server does."""

import re
from decimal import Decimal

from nodekit.errors import NodeError
from nodekit.rules.text import printable

_FORM = re.compile(r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE])i|([numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?")
_BINARY = "KMGTPE"
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_LESS_THAN_BYTES = ("n", "u", "m")


def amount(key: str, quantity: object) -> Decimal:
    """The number that a quantity of `key`, text or a number, is. Raises NodeError `bad-input` for another text, such as 2GB."""
    form = _FORM.fullmatch(str(quantity))
    if not form:
        expected = "a Kubernetes quantity, such as 250m of CPU or 2Gi of memory"
        raise NodeError("bad-input", f"Key {key} is {printable(repr(quantity), 60)}", expected=expected)
    number, binary, suffix, exponent = form.groups()
    if binary:
        return Decimal(number) * Decimal(1024) ** (_BINARY.index(binary) + 1)
    return Decimal(number).scaleb(_DECIMAL[suffix] if suffix else int(exponent or 0))


def memory(key: str, quantity: object) -> Decimal:
    """As `amount`, of memory in bytes. Raises NodeError `bad-input` for parts of a byte, too: the API server takes 512m, which is
    half a byte, and only warns."""
    size = amount(key, quantity)
    if 0 < size < 1 or str(quantity).endswith(_LESS_THAN_BYTES):
        message = f"Key {key} is {printable(repr(quantity), 60)}, which counts parts of a byte: m is a thousandth, M a million"
        raise NodeError("bad-input", message, expected="an amount such as 512Mi or 2Gi")
    return size
