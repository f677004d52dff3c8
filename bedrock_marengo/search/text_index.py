"""Text ranking of clips by their words: BM25 over what a store holds, kept until its rows change."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple
from weakref import ref

import numpy as np

from bedrock_marengo.contract.segments import Segment, milliseconds
from bedrock_marengo.contract.words import Words, heading, words_in
from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.search.contents import KEPT_SEC, writes
from bedrock_marengo.search.retrieve import Item, StoreHit
from bedrock_marengo.search.targets import SearchTarget
from bedrock_marengo.search.tokens import tokens_of
from bedrock_marengo.search.weights import PRESETS

__all__ = ["MAX_CLIPS", "TextIndex", "TextRow", "check_bm25", "kept_index", "once_each"]

MAX_CLIPS = 100_000
"""Clips with words that one index holds: 170 hours of clips of 6 seconds, and a few hundred MB. Ours."""

_MOST_CLIPS, _MOST_INDEXES = 2 * MAX_CLIPS, 64
"""What all indexes of a process hold together; the one that was used least recently goes first. Ours."""

_SHARE = 20
"""An index is kept for so many times as long as it took to read the rows, so that reading takes 5 % of the time."""

_ORDER = {track: i for i, track in enumerate(PRESETS["visual"])}


class TextRow(NamedTuple, Generic[Item]):
    """One row of a store.

    Attributes:
        text: as it is stored.
        item: the framework's document or node.
        model_id: of its metadata, if there is one.
    """

    text: str
    item: Item
    model_id: str | None = None


@dataclass(slots=True)
class _Clip(Generic[Item]):
    """One clip, whichever tracks' rows carry its words."""

    hit: StoreHit[Item]
    words: dict[str, None]


@dataclass(frozen=True, slots=True)
class TextIndex(Generic[Item]):
    """The words of some clips, ranked by BM25 (Lucene's, k1 = 1.5, b = 0.75).

    Attributes:
        clips: scope -> a hit for each clip with words.
        texts: scope -> what is indexed of each: its words, and its file's name.
        rankings: scope -> bm25s' index.
    """

    clips: Mapping[str, Sequence[StoreHit[Item]]]
    texts: Mapping[str, Sequence[str]]
    rankings: Mapping[str, Any]

    @classmethod
    def of(cls, rows: Iterable[TextRow[Item]], previous: TextIndex[Any] | None = None) -> TextIndex[Item]:
        """An index of the rows' words. Rows that aren't segments, or have no words, are left out.

        Args:
            rows: what a store holds.
            previous: an earlier index, whose ranking is used again if the words are the same.

        Raises:
            ConfigurationError: bm25s isn't installed, or there are more than ``MAX_CLIPS`` clips with words.
        """
        clips = _clips(rows)
        texts = {scope: [_indexed(clip) for clip in by_key.values()] for scope, by_key in clips.items()}
        old = previous.rankings if previous else {}
        rankings = {
            scope: old[scope] if scope in old and previous and previous.texts[scope] == each else _ranking(each)
            for scope, each in texts.items()
        }
        return cls({scope: [clip.hit for clip in by_key.values()] for scope, by_key in clips.items()}, texts, rankings)

    def __len__(self) -> int:
        return sum(map(len, self.clips.values()))

    def search(self, text: str, target: SearchTarget, limit: int) -> list[StoreHit[Item]]:
        """The clips that have words of a text, best first; their scores are BM25's.

        Args:
            text: the query.
            target: its scope, sources and times.
            limit: how many.
        """
        ranking, clips = self.rankings.get(target.scope), self.clips.get(target.scope, ())
        if ranking is None or not (tokens := ranking.get_tokens_ids(tokens_of(text, is_query=True))):
            return []
        scores = ranking.get_scores_from_ids(tokens)
        found = []
        [places] = np.nonzero(scores > 0)
        for i in places[np.argsort(-scores[places], kind="stable")].tolist():
            if clips[i].segment is not None and target.holds(clips[i].segment):
                found.append(clips[i]._replace(score=float(scores[i])))
                if len(found) == limit:
                    break
        return found


def once_each(hits: Iterable[StoreHit[Item]]) -> list[StoreHit[Item]]:
    """The first hit of each clip: its words are in the rows of several tracks."""
    first: dict[Hashable, StoreHit[Item]] = {}
    for hit in hits:
        if hit.segment is not None:
            first.setdefault((hit.segment.scope, *_key(hit.segment)), hit)
    return list(first.values())


def check_bm25() -> Any:
    """The library for BM25.

    Raises:
        ConfigurationError: It isn't installed.
    """
    is_first = "bm25s" not in sys.modules
    try:
        import bm25s
    except ImportError:
        raise ConfigurationError(
            "words='bm25' needs the package bm25s: pip install 'bedrock-marengo[hybrid]'."
        ) from None
    if is_first:
        # It would log at DEBUG whatever the program's own level is.
        logging.getLogger("bm25s").setLevel(logging.NOTSET)
    return bm25s


def kept_index(
    stores: Sequence[object],
    user_filter: Any,
    version: Hashable,
    rows: Callable[[], Iterable[TextRow[Item]]],
    *,
    is_local: bool = False,
) -> TextIndex[Item]:
    """The index of some stores' rows. It is built once, and again when they change.

    It is kept while ``version`` is the same and this process writes nothing, for ``KEPT_SEC`` or 20 times as long as it
    took to build: other processes write, too.

    Args:
        stores: the stores; they are not kept alive.
        user_filter: what the rows were filtered by. A function's answer may change, so it is called each time.
        version: differs once rows were added.
        rows: reads the filtered rows.
        is_local: reading takes next to no time, and is done each time.

    Raises:
        ConfigurationError: See ``TextIndex.of``.
    """
    kept = _find(stores, user_filter)
    with kept.lock:
        now, current = time.monotonic(), (version, writes())
        if kept.index is None or is_local or callable(user_filter) or kept.current != current or now > kept.until:
            kept.index = TextIndex.of(rows(), kept.index)
            kept.current = current
            kept.until = time.monotonic() + max(KEPT_SEC, _SHARE * (time.monotonic() - now))
        index = kept.index
    _drop_oldest()
    return index


@dataclass(slots=True, eq=False)
class _Kept:
    """An index, and what it is of. The filter is a copy: a user may change theirs."""

    stores: tuple[ref[object], ...]
    user_filter: Any
    index: TextIndex[Any] | None = None
    current: Hashable = None
    until: float = 0.0
    lock: ForkSafeLock = field(default_factory=ForkSafeLock)


_LOCK = ForkSafeLock()
_kept: list[_Kept] = []
"""The one that was used last is the last."""


def _find(stores: Sequence[object], user_filter: Any) -> _Kept:
    with _LOCK:
        _kept[:] = [kept for kept in _kept if all(store() is not None for store in kept.stores)]
        for kept in _kept:
            same = len(kept.stores) == len(stores) and all(a() is b for a, b in zip(kept.stores, stores, strict=True))
            if same and _is_equal(kept.user_filter, user_filter):
                _kept.remove(kept)
                _kept.append(kept)
                return kept
        try:
            kept = _Kept(tuple(map(ref, stores)), deepcopy(user_filter))
        except Exception:
            # What can't be referenced or copied is not kept.
            return _Kept((), None)
        _kept.append(kept)
        return kept


def _is_equal(kept: Any, given: Any) -> bool:
    # 1 and True are equal, and not the same to a store.
    return type(kept) is type(given) and repr(kept) == repr(given) and bool(kept == given)


def _drop_oldest() -> None:
    with _LOCK:
        while len(_kept) > _MOST_INDEXES or (
            len(_kept) > 1 and sum(len(kept.index) for kept in _kept if kept.index) > _MOST_CLIPS
        ):
            _kept.pop(0)


def _clips(rows: Iterable[TextRow[Item]]) -> dict[str, dict[Hashable, _Clip[Item]]]:
    """Scope -> clip -> its words, of all rows."""
    clips: dict[str, dict[Hashable, _Clip[Item]]] = {}
    for row in rows:
        segment, text = Segment.find(row.text), words_in(row.text)
        if segment is None or not text:
            continue
        of_scope = clips.setdefault(segment.scope, {})
        hit = StoreHit(segment, row.item, None, row.model_id)
        clip = of_scope.setdefault(_key(segment), _Clip(hit, {}))
        if clip.hit.segment is not None and _order(segment) < _order(clip.hit.segment):
            clip.hit = hit
        clip.words |= dict.fromkeys(Words.find(text) or [text])
        if row.text.partition("\n")[2].startswith(heading(segment.source, segment.start_sec, segment.end_sec)):
            clip.words |= {segment.source.rpartition("/")[2]: None}
        if sum(map(len, clips.values())) > MAX_CLIPS:
            raise ConfigurationError(
                f"words='bm25' supports at most {MAX_CLIPS:,} clips with words, and this store holds more. Use "
                "words='store' if the store has text search of its own, a retriever of another search engine as "
                "words=, or a filter."
            )
    return clips


def _indexed(clip: _Clip[Any]) -> str:
    return "\n".join(sorted(clip.words))


def _ranking(texts: Sequence[str]) -> Any:
    """bm25s' index; None if there are no tokens."""
    tokens = [tokens_of(text) for text in texts]
    if not any(tokens):
        return None
    ranking = check_bm25().BM25()
    ranking.index(tokens, show_progress=False)
    return ranking


def _key(segment: Segment) -> tuple[str, int, int]:
    return segment.source, milliseconds(segment.start_sec), milliseconds(segment.end_sec)


def _order(segment: Segment) -> tuple[int, str, str]:
    """Which row stands for a clip: the first track of the presets."""
    return _ORDER.get(segment.option, len(_ORDER)), segment.option, segment.job
