"""The words of a query, marked where captions and descriptions have them: whole words, in any case and script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import groupby

__all__ = ["parts_of", "query_words"]

_LITTLE = frozenset(
    re.findall(r"\w+", "a an and are as at by for from in is it its of on or s t that the this to was with")
)
"""English words, and ends of words such as it's, that say nothing about what was found."""
_JOINERS = "\u200c\u200d"
"""Within words of Persian and of Indian scripts."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese have no spaces between words."""


def query_words(text: str) -> frozenset[str]:
    """The words to mark. English words such as "the" are left out, unless the query has no others."""
    words = frozenset(_folded(run) for run, is_word in _runs(text) if is_word)
    return words - _LITTLE or words


def parts_of(text: str, words: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """A text in pieces, and whether each is one of the words."""
    unspaced = [re.escape(word) for word in sorted(words, key=len, reverse=True) if _UNSPACED.search(word)]
    for run, is_word in _runs(text):
        if unspaced and is_word and _UNSPACED.search(run):
            for i, part in enumerate(re.split(f"({'|'.join(unspaced)})", run, flags=re.IGNORECASE)):
                yield part, i % 2 == 1
        else:
            yield run, is_word and _folded(run) in words


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """A text in pieces: words, and what is between them. Vowel signs and accents are part of a word."""
    for is_word, letters in groupby(text, _is_of_word):
        yield "".join(letters), is_word


def _is_of_word(letter: str) -> bool:
    return letter.isalnum() or letter in _JOINERS or unicodedata.category(letter)[0] == "M"


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", word).casefold())
