"""A text as the tokens that text ranking compares: of any language, without a stemmer and without stop words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

__all__ = ["tokens_of"]

_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF)),  # Thai, Lao; Burmese; Khmer; Tai
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x3100, 0x312F), (0x31A0, 0x31FF)),  # Kana, Bopomofo
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Han
)
"""Blocks of scripts that put no spaces between words: first and last character. From Unicode's list of blocks."""


def tokens_of(text: str, *, is_query: bool = False) -> list[str]:
    """Runs of letters, marks and digits; where words aren't separated by spaces, pairs of characters.

    Compatibility forms and case make no difference (NFKC, casefold). A document has single characters of such scripts,
    too, so that a query of one finds it.

    Args:
        text: any text.
        is_query: single characters are tokens only if they stand alone.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return [token for kind, run in groupby(text, _kind) if kind for token in _tokens(kind, "".join(run), is_query)]


def _tokens(kind: str, run: str, is_query: bool) -> Iterator[str]:
    if kind == "spaced":
        yield run
        return
    if len(run) == 1 or not is_query:
        yield from run
    yield from (run[i : i + 2] for i in range(len(run) - 1))


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """What a character belongs to; empty for spaces and punctuation."""
    if unicodedata.category(character)[0] not in "LMN":
        return ""
    return "unspaced" if any(first <= ord(character) <= last for first, last in _UNSPACED) else "spaced"
