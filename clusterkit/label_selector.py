"""Which nodes a label selector means is for the API server to say; whether it is one at all is known before."""

import re

from nodekit.errors import NodeError
from nodekit.rules.text import printable

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUE = rf"(?:{_NAME})?"
_REQUIREMENT = (
    rf"(?:!\s*)?{_KEY}|{_KEY}\s*(?:=|==|!=)\s*{_VALUE}|{_KEY}\s*[<>]\s*-?[0-9]+|"
    rf"{_KEY}\s+(?:in|notin)\s*\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\)"
)
_SELECTOR = re.compile(rf"\s*(?:{_REQUIREMENT})(?:\s*,\s*(?:{_REQUIREMENT}))*\s*")


def checked(selector: str) -> str:
    """The selector (kubernetes.io, Labels and Selectors). Raises NodeError `bad-input` for text that the API server refuses, and
    for none, which would mean every node.

    Otherwise it is refused only when nodes are looked up, after all that comes before.
    """
    if not _SELECTOR.fullmatch(selector):
        raise NodeError(
            "bad-input",
            f"{printable(repr(selector), 120)} is not a label selector",
            expected="one as for kubectl get nodes --selector, such as katacontainers.io/kata-runtime=true",
        )
    return selector
