"""Make untrusted text safe to stand in a comment: no Markdown, no HTML, no mention, nothing that looks like a key."""

import re

from nodekit.rules.text import printable

HIDDEN = "[hidden]"
SHOWN = 300
"""Characters of one untrusted value that are shown."""
READ = 20_000
"""Characters of one untrusted value that are looked at."""
SECRET_NAME = re.compile(
    r"password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|credential|kubeconfig", re.IGNORECASE
)
"""Names whose values are never shown, marked as secret or not."""
TYPE = re.compile(r"[a-z][a-z0-9-]{0,40}(:[A-Za-z0-9./_-]{1,80}){1,2}")
"""Types of resources (pulumi, sdk/go/common/tokens)."""
_PEM = re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
# Every repetition has a bound: a fork chooses the text, and unbounded ones take quadratic time.
_NAMED = re.compile(rf"((?:{SECRET_NAME.pattern})[\w.-]{{0,40}}[\"']?\s{{0,5}}[:=]\s{{0,5}}[\"']?)[^\s\"',;]+", re.IGNORECASE)
_HEADER = re.compile(r"(authorization[\"']?\s{0,5}[:=]\s{0,5}[\"']?(?:basic|bearer|token)\s{1,5})[^\s\"',;]+", re.IGNORECASE)
# With a digit, as most have: without one, it would be the next word of a command.
_OPTION = re.compile(
    r"((?:^|(?<=[\s'\"]))--?[\w.-]{0,40}(?:password|passwd|passphrase|token|(?:api|secret|access)[-_]?key|client[-_]?secret)"
    r"\s{1,5}[\"']?)(?=[^\s]{0,200}[0-9])[^\s\"',;]+",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(://)[^\s/@]+@")
_KNOWN = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS access key ids
    r"|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bpul-[0-9a-f]{40}\b"
    r"|\bglpat-[\w-]{20,}|\bxox[abeprs]-[A-Za-z0-9-]{10,}|\bhv[sb]\.[\w-]{24,}"  # GitLab, Slack, Vault
    r"|\bAGE-SECRET-KEY-1[0-9A-Z]{20,}"
    r"|\beyJ[\w-]{10,500}\.[\w.-]+"  # JSON web tokens
    r"|\b[a-z0-9]{6}\.(?=[a-z]*[0-9])[a-z0-9]{16}\b"  # bootstrap tokens of Kubernetes
)
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{32,}")


def _looks_random(match: re.Match[str]) -> str:
    """Capitals, small letters and digits, several of each, as names and hexadecimal sums have not."""
    kinds = ("[A-Z]", "[a-z]", "[0-9]")
    return HIDDEN if all(len(re.findall(kind, match[0])) >= 3 for kind in kinds) else match[0]


def hide(text: str) -> str:
    """`text` without what is, or looks like, a key, password or token."""
    text = _PEM.sub(HIDDEN, text if len(text) <= READ else f"{text[:READ]}…")
    text = _KNOWN.sub(HIDDEN, _IN_URL.sub(rf"\1{HIDDEN}@", text))
    for form in (_HEADER, _OPTION, _NAMED):
        text = form.sub(rf"\1{HIDDEN}", text)
    return _LONG.sub(_looks_random, text)


def resource_type(token: str) -> str:
    """As `code`, of a resource's type: its parts are no name and value, as those of `tls:index/privateKey:PrivateKey` look."""
    words = token.replace(":", " ")
    return f"`{token}`" if TYPE.fullmatch(token) and hide(words) == words else code(token)


def code(text: str, limit: int = SHOWN) -> str:
    """Untrusted text as a code span of one line, which GitHub shows letter by letter: it mentions, links and formats nothing.

    A backtick, which alone could end the span, becomes an apostrophe.
    """
    line = " ".join(printable(hide(text), READ).split()).replace("`", "'")
    return f"`{line if len(line) <= limit else line[: limit - 1] + '…'}`" if line else "(empty)"
