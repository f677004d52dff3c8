"""Words as a track by stores' own text searches: their index holds a segment's URI too, which is not a word."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.contract.words import words_in
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.search.retrieve import Item, StoreHit
from bedrock_marengo.search.store_limits import MAX_LIMIT
from bedrock_marengo.search.text_index import check_bm25, once_each
from bedrock_marengo.search.tokens import tokens_of

__all__ = ["check_words_setting", "hits_by_words", "is_found_by_words", "no_text_search"]

_ROWS_PER_CLIP = 3
"""Tracks of a video. Ours."""


def check_words_setting(words: Any, framework: str) -> None:
    """Refuse ``words=`` that is neither "bm25", with its library, nor "store"; a retriever is checked by its framework.

    Raises:
        ConfigurationError: Something else, or the library is missing.
    """
    if words not in ("bm25", "store"):
        raise ConfigurationError(
            f"expected 'bm25', 'store', or a {framework} retriever that returns segments.", setting="words", value=words
        )
    if words == "bm25":
        check_bm25()


def no_text_search(store: object) -> ConfigurationError:
    """The error of a store that has no text search of its own."""
    return ConfigurationError(
        f"words='store' needs a store with text search, and {type(store).__name__} has none that is supported: use "
        "words='bm25'."
    )


def hits_by_words(
    searches: Sequence[Callable[[str, int], Sequence[tuple[str, StoreHit[Item]]]]], query: str, limit: int
) -> list[StoreHit[Item]]:
    """The clips that stores find by their words, best first, each once.

    Several tracks have the same words, and some rows are found by their URI: stores are asked for more rows until there
    are enough clips.

    Args:
        searches: (text, number of rows) -> the best rows of one store, as (stored text, hit).
        query: any text. Stores get it without what can't be sent or stored; without words, they are not asked.
        limit: number of clips.
    """
    if not tokens_of(query):
        return []
    text = query.encode("utf-8", "replace").decode().replace("\0", " ")
    rows = min(_ROWS_PER_CLIP * limit, MAX_LIMIT)
    while True:
        found = [search(text, rows) for search in searches]
        hits = [hit for each in found for stored, hit in each if is_found_by_words(query, stored)]
        clips = once_each(sorted(hits, key=lambda hit: -(hit.score or 0.0)))[:limit]
        if len(clips) == limit or rows == MAX_LIMIT or all(len(each) < rows for each in found):
            return clips
        rows = min(4 * rows, MAX_LIMIT)


def is_found_by_words(query: str, text: str) -> bool:
    """Whether a stored text has words, and was not found by its URI or its times alone.

    How a store compares words is unknown: it may stem them, or drop accents. So a text counts unless a word of the
    query is in its URI or times, and none is like one of its words or of its file's name.

    Args:
        query: what was searched for.
        text: as it is stored.
    """
    words, segment = words_in(text), Segment.find(text)
    if not words or segment is None:
        return False
    asked = _folded(query, is_query=True)
    if asked.isdisjoint(_folded("\n".join(text.splitlines()[:2]))):
        return True
    own = _folded(f"{words}\n{segment.source.rpartition('/')[2]}")
    return not asked.isdisjoint(own) or any(_is_like(a, b) for a in asked for b in own)


def _folded(text: str, *, is_query: bool = False) -> set[str]:
    return set(map(_without_marks, tokens_of(text, is_query=is_query)))


def _without_marks(token: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", token) if unicodedata.category(c) != "Mn") or token


def _is_like(a: str, b: str) -> bool:
    """Whether two words may have one stem, or one is within the other."""
    shorter = min(len(a), len(b))
    stem = max(2, shorter - 2)
    return shorter > 2 and (a[:stem] == b[:stem] or a in b or b in a)
