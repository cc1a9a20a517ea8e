"""Make text that a node, a guest, a cluster or a site gave us safe to show, on terminals and in the logs of CI."""

import re

MAX_SHOWN = 2000
"""Characters of untrusted text that are ever shown in one place."""
_PLAIN = re.compile(r"[\n\t -~]*")
_BLANK = frozenset(
    chr(code)
    for low, high in (
        (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
        (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(low, high + 1)
)  # fmt: skip
"""What Python calls printable and no terminal shows (Unicode, Default_Ignorable_Code_Point, and the blank pattern of Braille)."""
_COMMAND = re.compile(r"^([^\S\n]*):(?=:.*::)", re.MULTILINE)
"""A workflow command of GitHub: `::name …::message` at the beginning of a line, with or without blanks before it."""
_OLD_COMMAND = re.compile(r"##(?=[\w.-]*\[)")
"""Those of Azure Pipelines (`##vso[`), TeamCity (`##teamcity[`) and GitHub's older form (`##[`), anywhere in a line."""


def harmless(text: str) -> str:
    """`text` with what could act on a terminal, reorder or hide what is read, or command a CI service made visible and inert.

    Control characters (C0 and C1; newline and tab are kept), marks of direction and characters without width become `?`; a
    command of CI gets a blank into its beginning.
    """
    clean = text
    if not _PLAIN.fullmatch(text):
        clean = "".join(c if c in "\n\t" or (c.isprintable() and c not in _BLANK) else "?" for c in text)
    return _OLD_COMMAND.sub("# #", _COMMAND.sub(r"\1: ", clean)) if ":" in clean or "#" in clean else clean


def printable(text: str, limit: int = MAX_SHOWN) -> str:
    """`text` made `harmless` and cut to `limit` characters."""
    clean = harmless(text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def public(address: str) -> str:
    """An address as it may be shown: without a login, and without what follows a `?` or `#`, which may be a signature."""
    scheme, mark, rest = address.partition("://")
    where = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = where.partition("/")
    return printable(f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}", 200)
