"""Make text that a node or a guest gave us safe to show."""

MAX_SHOWN = 2000
"""Characters of untrusted text that are ever shown in one place."""


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """`text` with control characters replaced by `?` (newline and tab kept) and cut to `limit` characters."""
    clean = "".join(c if c in "\n\t" or (c.isprintable() and c != "\x7f") else "?" for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
