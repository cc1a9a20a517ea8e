"""Damaged forms of genuine texts, and texts that were never one: what every parser is tried with."""

from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).resolve().parent / "corpus"
"""A genuine file of each kind, and those that once ended a parser."""
PIECES = (
    "=", ":", "[", "]", "{", "}", '"', "'", "\\", "#", "\n", "\r\n", "\t", "\0", "\ufeff", "\u202e", "\ud800", "\x85", "[[", "]]",
    '"""', "::error::", "-----BEGIN", "\\u0000", "1e999", "9" * 5000, "-1", "null", "true", "[]", "{}", "**", "../", "%00", "%ff",
    "[" * 2000, "{\"a\":" * 2000, "a." * 2000, "٢", "nan", "1_0", "0x", "1979-05-27",
)  # fmt: skip
"""What breaks parsers: marks of every format, numbers without end, nesting without end."""


def damaged(*genuine: str) -> st.SearchStrategy[str]:
    """One of the texts with up to six places cut out, doubled, or filled with something else; or any text at all."""
    piece = st.one_of(
        st.sampled_from(PIECES), st.text(max_size=12), st.sampled_from([word for text in genuine for word in text.split()])
    )

    @st.composite
    def broken(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(genuine))
        for _ in range(draw(st.integers(0, 6))):
            begin = draw(st.integers(0, len(text)))
            end = min(len(text), begin + draw(st.sampled_from((0, 0, 0, 1, 3, 20, 200))))
            text = text[:begin] + draw(st.one_of(piece, st.just(text[begin:end] * 2))) + text[end:]
        return text

    return st.one_of(broken(), broken(), broken(), st.text(max_size=200), st.lists(piece, max_size=8).map("".join))


def damaged_bytes(*genuine: bytes) -> st.SearchStrategy[bytes]:
    """The same for bytes."""

    @st.composite
    def broken(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(genuine))
        for _ in range(draw(st.integers(0, 6))):
            begin = draw(st.integers(0, len(data)))
            end = min(len(data), begin + draw(st.sampled_from((0, 1, 1, 1, 4, 60, 512))))
            data = data[:begin] + draw(st.binary(max_size=12)) + data[end:]
        return data

    return st.one_of(broken(), broken(), broken(), st.binary(max_size=300))


def values() -> st.SearchStrategy[object]:
    """Any value that JSON can hold."""
    scalar: st.SearchStrategy[object] = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
    return st.recursive(
        scalar,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
        max_leaves=12,
    )
