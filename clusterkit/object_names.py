"""Names of Kubernetes objects, so that one that no API server takes is refused before anything is made."""

import re

from nodekit.errors import NodeError
from nodekit.rules.text import printable

MOST = 253
"""Characters of an object's name (Kubernetes, "DNS Subdomain Names")."""
MOST_BEFORE_END = 230
"""Of a component's, to which the objects' own ends are added, and the plugin's eight letters."""
MOST_OF_LABEL = 63
"""Of a namespace's name and a handler's ("DNS Label Names"), and of one that is the value of a label."""
_PART = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(rf"{_PART}(\.{_PART})*")


def check(key: str, name: str, most: int = MOST) -> str:
    """The name of an object. Raises NodeError `bad-input` for another text, without showing it: it may be a secret."""
    if not _NAME.fullmatch(name) or len(name) > most:
        expected = f"small letters, digits, hyphens and dots, at most {most}, and a letter or digit at both ends"
        raise NodeError("bad-input", f"Key {key} is not a name that Kubernetes takes", expected=expected)
    return name


def check_label(key: str, name: str) -> str:
    """The name of a namespace or handler. Raises NodeError as `check`."""
    if not re.fullmatch(_PART, name) or len(name) > MOST_OF_LABEL:
        expected = f"small letters, digits and hyphens, at most {MOST_OF_LABEL}, and a letter or digit at both ends"
        raise NodeError("bad-input", f"Key {key} is not a name that Kubernetes takes", expected=expected)
    return name


def check_component(component: str, name: str, most: int = MOST_BEFORE_END) -> None:
    """Raise NodeError `bad-input` for the name of a `component` that cannot begin names of objects.

    The plugin adds to it what makes each name its own, and changes no letter of it.
    """
    if _NAME.fullmatch(name) and len(name) <= most:
        return
    raise NodeError(
        "bad-input",
        f"{component} {printable(repr(name), 100)} cannot name its objects on the cluster: such a name has small letters, "
        f"digits, hyphens and dots, begins and ends with a letter or digit, and has at most {most} characters here",
        expected=f"a name such as {_alike(name, most) or 'kata'}",
    )


def _alike(name: str, most: int) -> str:
    """The name in the form of Kubernetes: myProof is my-proof."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:most].rstrip("-")
