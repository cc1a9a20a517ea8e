"""Where a node differs from what a stack wants: a sentence, the verb that puts it right, and a file's unified diff."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from nodekit.rules.text import harmless, printable

MAX_DIFF_LINES = 200
"""Lines of one diff that are kept; a longer one only shows that it is another file."""
MAX_CHANGES = 2
"""Changes of packages that are told."""
MAX_LINE = 500
"""Characters of one line of a diff."""
HIDDEN = "[secret]"
"""What a diff shows in the place of a secret."""
_LOGIN = re.compile(r"(?<=://)[^/\s\"']+(?=@)")
"""User and password in an address, such as that of a proxy in daemon.json."""
_SECRET = re.compile(
    r"""((?:password|passwd|secret|token|auth|credentials?)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,{}\[\]"']+)""",
    re.IGNORECASE,
)
"""A setting that is a secret by its name, such as a registry's in containerd's configuration, and its value."""


class Difference(NamedTuple):
    """One thing that is not as the stack wants it."""

    kind: str
    """One of those that docs/guides/fleet.md explains."""
    message: str
    """One sentence."""
    verb: str
    """The verb of the node program that puts it right."""
    file: str | None = None
    diff: str | None = None
    """Unified diff from what the stack wants (-) to what the node has (+)."""
    packages: tuple[str, ...] = ()
    """The packages it is about, for which the node's package logs are read."""

    def as_dict(self) -> dict[str, object]:
        """The form in a result document."""
        return {"kind": self.kind, "what": self.message, "verb": self.verb, "file": self.file, "diff": self.diff}


def of_file(kind: str, message: str, verb: str, path: str, desired: bytes, now: bytes | None) -> Difference:
    """A difference in the content of a file; `now` is None where there is none."""
    return Difference(kind, message, verb, path, unified(path, desired, now, redact=without_secrets))


def without_secrets(line: str) -> str:
    """A line of a file that is not ours alone, with a word in place of each of its secrets: people post diffs."""
    return _SECRET.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, line))


def unified(
    path: str, desired: bytes, now: bytes | None, place: str = "node", redact: Callable[[str], str] = lambda line: line
) -> str:
    """The unified diff of a file of a node, or of what is in another `place`, cut, and harmless on a terminal.

    `redact` gives what may be shown of a line.
    """
    import difflib  # takes a while to load, and most nodes have no difference

    before, after = (text.decode(errors="replace").splitlines() for text in (desired, now or b""))
    lines = difflib.unified_diff(before, after, f"{path} (stack)", f"{path} ({place})" if now is not None else "/dev/null", n=2)
    kept = [printable(redact(line.rstrip("\n")), MAX_LINE) for line, _ in zip(lines, range(MAX_DIFF_LINES + 1), strict=False)]
    if len(kept) > MAX_DIFF_LINES:
        kept[MAX_DIFF_LINES:] = ["(cut)"]
    return "\n".join(kept)


def package_history(apt: str, dpkg: str, packages: Iterable[str]) -> list[str]:
    """The last changes of packages: who ran which command and when, by apt's history.log; dpkg.log where apt was not used.

    An apt that was killed has written no end: it lasts until the next one begins. What dpkg did before the log of apt begins may
    be of an apt whose log was rotated away. Times are the node's own, without a zone, as the logs have them.
    """
    names = frozenset(packages)
    changes: list[tuple[str, str]] = []
    begun: list[tuple[str, str | None]] = []
    for block in apt.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.strip().splitlines() if ": " in line)
        start = " ".join(fields.get("Start-Date", "").split())
        moved = [
            f"{verb.lower()} {name} ({versions})"
            for verb in ("Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge")
            for name, versions in re.findall(r"([^\s:,]+):\S+ \(([^)]*)\)", fields.get(verb, ""))
            if name in names
        ]
        if not start:
            continue
        begun.append((start, " ".join(fields.get("End-Date", "").split()) or None))
        if moved:
            who = fields.get("Requested-By") or "root"
            changes.append((start, f"{'; '.join(moved)}: {fields.get('Commandline', 'apt')}, run by {who}"))
    begun.sort(key=lambda run: run[0])
    following = [*(start for start, _ in begun), "~"][1:]
    by_apt = [(start, end or after) for (start, end), after in zip(begun, following, strict=True)]
    for line in dpkg.splitlines():
        words = line.split()
        if len(words) < 6 or words[2] not in ("install", "upgrade", "remove", "purge") or words[3].partition(":")[0] not in names:
            continue
        when = f"{words[0]} {words[1]}"
        if not any(begin <= when <= end for begin, end in by_apt):
            how = "without apt" if by_apt and by_apt[0][0] <= when else "of a time for which apt's log is not there"
            changes.append((when, f"{words[2]} {words[3].partition(':')[0]} ({words[4]}, {words[5]}) by dpkg, {how}"))
    return [harmless(f"{when}: {printable(change, 600)}") for when, change in sorted(changes)[-MAX_CHANGES:]]
