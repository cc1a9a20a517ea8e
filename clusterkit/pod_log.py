"""A proof's report out of its pod's log, where the node has no termination message of a container that ended well.

Where a guest shares no files with its node (Firecracker, and `shared_fs` none: confidential guests, peer pods), Kata copies the
file for messages into the guest. Before 3.29.0 nothing of it comes back, from Firecracker under the Go runtime nothing ever, and
elsewhere only with the policy File, which would lose the last words of a container that fails (kata-containers issue 10758; its
`container.go`, stop, and `container_manager/container.rs`, copy_termination_log).
"""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from nodekit.rules.kata.kernel_params import Parameter, tokens

MOST = 1 << 18
"""Bytes of a log that are read: the ladder prints some thirty lines of at most 6 KB each."""
_LINE = re.compile(r"rung=([a-z-]{1,40}) status=(ok|fail|absent) value=([!-~]*) detail=([!-~]*)(?: at=([0-9.]{1,12}))?")
_LIMIT = "max_user_namespaces="
_SAFE = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What ladder.sh does not escape, beside letters and digits."""


def message(log: str, nonce: str, parameters: Iterable[str]) -> str:
    """The termination message that ladder.sh wrote in the guest, made of the lines that it printed: both are cut alike.

    `parameters` are those whose keys are kept of the kernel's command line. A line that begins with `nonce` and is garbled stays,
    since the judge refuses it; so the text is empty only where the log has no line of the ladder.
    """
    keys = {Parameter(each).key for each in parameters}
    written = ""
    for line in log.splitlines():
        start, _, text = line.partition(" ")
        if start != nonce:
            continue
        if text == "end":
            return f"{written}{nonce} end\n"
        match = _LINE.fullmatch(text)
        written += f"{nonce} {_brief(match, keys, len(written)) if match else _cut(text, 200)}\n"
    return written


def _brief(line: re.Match[str], keys: set[str], length: int) -> str:
    """A line as `say` of ladder.sh writes it into a message that has so many characters."""
    rung, status, value, detail, at = line.groups()
    value = _parameters(value, keys) if rung == "command-line" else _cut(value, 100)
    detail = _cut(detail, 120 if status == "fail" else 72) if length < 2800 else ""
    since = f" at={at}" if rung == "boot-id" and at else ""
    return f"rung={rung} status={status} value={value} detail={detail}{since}"


def _parameters(escaped: str, keys: set[str]) -> str:
    """Those of a command line that decide anything."""
    every = tokens(unquote(escaped, encoding="ascii", errors="replace"))
    decisive = [token for token in every if token == "--" or _LIMIT in token or Parameter(token).key in keys]
    return "%20".join(quote(token, safe=_SAFE) for token in decisive)


def _cut(escaped: str, length: int) -> str:
    """At most so many characters, never with half a %XX at the end."""
    return escaped if len(escaped) <= length else re.sub("%.?$", "", escaped[:length])
