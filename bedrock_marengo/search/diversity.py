"""Moments that differ: near-duplicates are dropped, and maximal marginal relevance, by the segments' own vectors.

MMR is Carbonell and Goldstein's (SIGIR 1998). Its relevance is a moment's score, divided by that of the best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.search.confidence import Bands, at_least
from bedrock_marengo.search.fusion import TIE, Hit, Moment, SearchSettings, find_moments
from bedrock_marengo.search.targets import WORDS
from bedrock_marengo.search.weights import Vector, cosines

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["choose_moments"]

_Known = tuple[Moment, dict[str, Vector]]
"""A moment, and the vector of its best segment on each embedding option."""


def choose_moments(
    client: MarengoClient, hits: Iterable[Hit], settings: SearchSettings, *, is_text: bool = False
) -> list[Moment]:
    """``find_moments`` with confidence, and without doubtful moments and near-duplicates, if the settings say so.

    Two moments are compared on the track that contributed most to the later one; they differ if one of them lacks it.

    Args:
        client: knows the segments' own vectors; it reads them from their jobs' outputs, and embeds nothing.
        hits: what the searches found.
        settings: how to fuse and choose.
        is_text: whether the query is a text alone.

    Raises:
        SegmentNotFoundError: A segment has no vector under the client's ``output_s3_uri``.
    """
    hits = list(hits)
    bands = Bands(hits, client.model.version, is_text)
    is_plain = settings.distinct is None and settings.mmr_lambda is None
    if not hits or (is_plain and settings.min_confidence is None):
        return [replace(moment, confidence=bands.of(moment)) for moment in find_moments(hits, settings)]
    # What is dropped must not take the place of another moment of its source.
    every = find_moments(hits, replace(settings, k=len(hits), max_per_source=None))
    every = [replace(moment, confidence=bands.of(moment)) for moment in every]
    every = [moment for moment in every if at_least(moment.confidence, settings.min_confidence)]
    if settings.mmr_lambda is None:
        return _distinct(client, every, settings, settings.k, settings.max_per_source)
    pool = _distinct(client, every, settings, max(4 * settings.k, 20), None)
    return _by_mmr(list(_known(client, pool)), settings, settings.mmr_lambda)


def _distinct(
    client: MarengoClient, moments: Sequence[Moment], settings: SearchSettings, count: int, max_per_source: int | None
) -> list[Moment]:
    """The first moments of which none is as near to an earlier one."""
    chosen: list[_Known] = []
    sources: Counter[str] = Counter()
    # Only the vectors that are needed are read: the first batch is often enough.
    for first in range(0, len(moments), count):
        batch = moments[first : first + count]
        for known in ((moment, {}) for moment in batch) if settings.distinct is None else _known(client, batch):
            source = known[0].source
            is_new = settings.distinct is None or all(
                (_similarity(known, other) or 0.0) < settings.distinct - TIE for other in chosen
            )
            if is_new and (max_per_source is None or sources[source] < max_per_source):
                chosen.append(known)
                sources[source] += 1
        if len(chosen) >= count:
            break
    return [moment for moment, _ in chosen[:count]]


def _by_mmr(pool: Sequence[_Known], settings: SearchSettings, mmr_lambda: float) -> list[Moment]:
    best = max((moment.score for moment, _ in pool), default=0.0) or 1.0
    chosen: list[_Known] = []
    sources: Counter[str] = Counter()
    rest = list(pool)
    nearest = [0.0] * len(rest)
    while rest and len(chosen) < settings.k:
        gains = [
            mmr_lambda * known[0].score / best - (1 - mmr_lambda) * near
            for known, near in zip(rest, nearest, strict=True)
        ]
        i = gains.index(max(gains))
        known = rest.pop(i)
        nearest.pop(i)
        if settings.max_per_source is None or sources[known[0].source] < settings.max_per_source:
            chosen.append(known)
            sources[known[0].source] += 1
            nearest = [max(near, _similarity(other, known) or 0.0) for other, near in zip(rest, nearest, strict=True)]
    return [moment for moment, _ in chosen]


def _known(client: MarengoClient, moments: Sequence[Moment]) -> Iterator[_Known]:
    segments: list[Segment] = [hit.segment for moment in moments for hit in moment.tracks.values()]
    vectors = dict(zip(segments, client.segment_vectors(segments), strict=True)) if segments else {}
    for moment in moments:
        # What was found by its words has a vector, too; one that was found by its vector goes first.
        hits = sorted(moment.tracks.values(), key=lambda hit: hit.track != WORDS)
        yield moment, {hit.segment.option: vectors[hit.segment] for hit in hits}


def _similarity(later: _Known, earlier: _Known) -> float | None:
    """The cosine of two moments on the later one's best option; None if the earlier one has no vector there."""
    track = later[0].best.segment.option
    if track not in earlier[1]:
        return None
    return float(cosines(later[1][track], earlier[1][track][None])[0])
