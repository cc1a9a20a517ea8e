"""Label selectors as text: their grammar, so that one that no API server takes is refused before anything is made."""

import re

from nodekit.errors import NodeError
from nodekit.rules.text import printable

MOST = 4096
"""Characters of a selector."""
KEY = r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
"""Patterns of a label's key and value, which are a taint's too."""
_SET = rf"\s+(?:in|notin)\s*\((?!\s*\))\s*{VALUE}\s*(?:,\s*{VALUE}\s*)*\)"
_REQUIREMENT = re.compile(rf"\s*(?:!\s*{KEY}|{KEY}(?:\s*(?:==?|!=)\s*{VALUE}|\s*[<>]\s*[0-9]{{1,18}}|{_SET})?)\s*")
"""One requirement (k8s.io/apimachinery, labels.Parse)."""


def check(selector: str) -> str:
    """The selector as given. Raises NodeError `bad-input` for one that is empty, or that an API server cannot parse."""
    end = -1
    if len(selector) <= MOST:
        while end < len(selector):
            requirement = _REQUIREMENT.match(selector, end + 1)
            # A comma stands between two requirements, and one is never the last character.
            if requirement is None or (requirement.end() < len(selector) and selector[requirement.end()] != ","):
                break
            end = requirement.end()
    if end != len(selector):
        raise NodeError(
            "bad-input",
            f"No API server can parse the label selector {printable(repr(selector), 160)}",
            expected="one as for kubectl get nodes --selector, such as katacontainers.io/kata-runtime=true",
        )
    return selector
