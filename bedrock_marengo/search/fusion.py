"""Search that knows tracks: fuse ranked tracks, merge neighbours into moments. Plain functions over vectors and ranks.

Sources of the constants: TwelveLabs' guidance on multi-vector search with Marengo (weights, alpha, both fusions), and
Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion" (SIGIR 2009) for k = 60. What is ours says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo.contract.inputs import Media, Query
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.validation import is_int, is_number, require_many, short_repr

if TYPE_CHECKING:
    pass

__all__ = [
    "MOST_HITS",
    "RRF_K",
    "Fusion",
    "Hit",
    "Moment",
    "SearchSettings",
    "SearchTarget",
    "check_models",
    "describe_query",
    "find_moments",
    "growing_limits",
    "rank",
]

Vector = npt.NDArray[np.float32]
Fusion = Literal["rrf", "scores"]

RRF_K = 60
"""The constant of reciprocal rank fusion: Cormack et al. 2009, and TwelveLabs' guidance."""


MOST_HITS = 10_000
"""What a widening search asks a store for at most; ours."""

_ALONE = ("fused", "image")
"""Tracks that hold a moment by themselves, beside no others."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One segment that a search found: cosine ``score``, and ``rank`` from 1 within its track once it is ranked.

    Equal cosines share a rank, the last one's.
    """

    segment: Segment
    score: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """Where to search: one track and scope, and what a user limits the results to. Times in seconds.

    ``sources`` are raw S3 URIs; one that ends in "/" is a prefix. A time range keeps what overlaps it.
    """

    track: str
    scope: str = "clip"
    sources: tuple[str, ...] = ()
    start_sec: float | None = None
    end_sec: float | None = None

    def holds(self, segment: Segment) -> bool:
        """Whether a segment lies here."""
        return (
            segment.option == self.track
            and segment.scope == self.scope
            and (not self.sources or any(_is_of(segment.source, source) for source in self.sources))
            and (self.start_sec is None or segment.end_sec > self.start_sec)
            and (self.end_sec is None or segment.start_sec < self.end_sec)
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of one medium that answers a query. Times in seconds.

    Attributes:
        source: raw S3 URI of the medium.
        start_sec: where it begins.
        end_sec: where it ends.
        score: the fused score of its best clip; comparable within one search only.
        tracks: track -> its best hit in this moment, with rank and cosine; the track that counted most comes first.
        hits: all its hits, in order of time.
    """

    source: str
    start_sec: float
    end_sec: float
    score: float
    tracks: Mapping[str, Hit]
    hits: tuple[Hit, ...] = field(repr=False)

    @property
    def best(self) -> Hit:
        """The hit that counted most."""
        return next(iter(self.tracks.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How to search, whatever framework or store.

    Args:
        weights: track -> weight; tracks of weight 0 are not searched.
        k: moments wanted.
        fusion: "rrf", the sum of w / (60 + rank); or "scores", the sum of w * cosine over the sum of w.
        merge_gap_sec: clips of one source at most this far apart become one moment; None keeps clips apart.
        max_per_source: at most so many moments of one source.
        sources: only these sources; one that ends in "/" is a prefix.
        start_sec: only what overlaps this time and later.
        end_sec: only what overlaps the time before this.
        asset_gate: only clips of the so many best assets. Assets must be in the store (``scopes=["clip", "asset"]``).
        asset_boost: adds so much of its asset's fused score to a clip's.
        scope: "clip", or "asset" to find whole media.
        fetch_k: hits asked of each track. Default: 10 a moment, at least 50.

    Raises:
        InputError: A setting that makes no sense.
    """

    weights: Mapping[str, float]
    k: int = 5
    fusion: Fusion = "rrf"
    merge_gap_sec: float | None = None
    max_per_source: int | None = None
    sources: Sequence[str] = ()
    start_sec: float | None = None
    end_sec: float | None = None
    asset_gate: int | None = None
    asset_boost: float = 0.0
    scope: Literal["clip", "asset"] = "clip"
    fetch_k: int | None = None

    def __post_init__(self) -> None:
        for source in require_many(self.sources, "sources", "S3 URIs"):
            if not isinstance(source, str) or not source.startswith("s3://"):
                raise InputError(f"sources has {short_repr(source)}: give S3 URIs; one that ends in '/' is a prefix.")
        for name, choices in (("fusion", ("rrf", "scores")), ("scope", ("clip", "asset"))):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"expected {' or '.join(map(repr, choices))}.", setting=name, value=value)
        for name in ("k", "max_per_source", "asset_gate", "fetch_k"):
            value = getattr(self, name)
            if not (is_int(value) or (value is None and name != "k")):
                raise InputError("expected a whole number from 1.", setting=name, value=value)
        for name in ("merge_gap_sec", "start_sec", "end_sec", "asset_boost"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < float("inf")):
                raise InputError("expected a number from 0.", setting=name, value=value)
        if self.end_sec is not None and self.end_sec <= (self.start_sec or 0):
            raise InputError(f"end_sec={self.end_sec} leaves nothing after start_sec={self.start_sec or 0}.")

    @property
    def places(self) -> list[SearchTarget]:
        """The searches to make: one for each track, and one more for its assets if they gate or boost."""
        tracks = [track for track, weight in self.weights.items() if weight > 0]
        found = [SearchTarget(track, self.scope, tuple(self.sources), self.start_sec, self.end_sec) for track in tracks]
        if self._with_assets:
            found += [SearchTarget(track, "asset", tuple(self.sources)) for track in tracks]
        return found

    @property
    def depth(self) -> int:
        """Hits asked of each track."""
        return self.fetch_k or max(10 * self.k, 50)

    @property
    def _with_assets(self) -> bool:
        return self.scope == "clip" and (self.asset_gate is not None or self.asset_boost > 0)


def find_moments(hits: Iterable[Hit], settings: SearchSettings) -> list[Moment]:
    """The ``k`` best moments, best first; one for each stretch of time, however many tracks found it.

    Args:
        hits: what the searches of ``settings.places`` found, in any order; what lies outside of them is passed over.
        settings: how to fuse and merge.

    Examples:
        >>> job = "3fa9c1d27b041e55"
        >>> hit = Hit(Segment("s3://b/a.mp4", 0.0, 6.0, "visual", "clip", job), score=0.12)
        >>> [moment] = find_moments([hit], SearchSettings(weights={"visual": 0.8}))
        >>> moment.start_sec, moment.end_sec, moment.tracks["visual"].rank
        (0.0, 6.0, 1)
    """
    places = settings.places
    ranked = rank(hit for hit in hits if any(place.holds(hit.segment) for place in places))
    clips = _fused([hit for hit in ranked if hit.segment.scope == settings.scope], settings)
    if settings._with_assets:
        clips = _weighed_by_assets(clips, [hit for hit in ranked if hit.segment.scope == "asset"], settings)
    clips.sort(key=lambda clip: (-clip.score, clip.source, clip.start_sec, clip.end_sec))
    return _chosen(clips, settings)


def rank(hits: Iterable[Hit]) -> list[Hit]:
    """Hits with their ranks within each track and scope, best first: a rank says how many are at least as good.

    So equal cosines share a rank, and a track that can't tell clips apart, such as a silent one, reorders nothing. A
    segment that was found twice, or a clip that two jobs embedded, counts once, by its best score.
    """
    lists: defaultdict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in hits:
        lists[hit.segment.option, hit.segment.scope].append(hit)
    ranked = []
    for found in lists.values():
        found.sort(key=lambda hit: (-hit.score, hit.segment.source, hit.segment.start_sec, hit.segment.job))
        once: dict[_Clip, Hit] = {}
        for hit in found:
            once.setdefault(_clip(hit.segment), hit)
        # The last of equal ones counts.
        places = {hit.score: place for place, hit in enumerate(once.values(), start=1)}
        ranked += [Hit(hit.segment, hit.score, places[hit.score]) for hit in once.values()]
    return ranked


def growing_limits(depth: int, most: int = MOST_HITS) -> Iterator[int]:
    """How many hits to ask a store for that can't filter for all that is wanted: ever more, until the caller stops."""
    ask = min(depth, most)
    while True:
        yield ask
        if ask >= most:
            return
        ask = min(4 * ask, most)


def describe_query(query: Query | str) -> str:
    """A query in words, for traces and pages: its text and the names of its media.

    Raises:
        InputError: No query.
    """
    if isinstance(query, str):
        return query
    if not isinstance(query, Query):
        raise InputError(f"{short_repr(query)} is no query: give a string, or Query(text=..., image=...) and the like.")
    media = [query.image, query.audio, query.video]
    media += query.images.values() if isinstance(query.images, Mapping) else query.images or []
    parts = [query.text, *(Media.of(medium).name for medium in media if medium is not None)]
    return " + ".join(part for part in parts if part)


def check_models(model_ids: Iterable[str | None], query_model_id: str, where: str) -> None:
    """Refuse a search in which vectors of two models would meet.

    Raises:
        ConfigurationError: Segments of another model than the query's.
    """
    if others := sorted({model_id for model_id in model_ids if model_id not in (None, query_model_id)}):
        raise ConfigurationError(
            f"{where} holds segments of {', '.join(map(str, others))}, and the query is embedded with "
            f"{query_model_id}: vectors of two models never compare. Search with the store's own model, or move its "
            "sources to a new store (langchain_marengo.migrate)."
        )


_Clip = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A clip: what all tracks say of one stretch of time. ``parts`` is what each hit adds to the score."""

    source: str
    start_sec: float
    end_sec: float
    score: float
    parts: tuple[tuple[float, Hit], ...]


def _clip(segment: Segment) -> _Clip:
    # Milliseconds as integers, and no job: tracks that were embedded by two jobs meet.
    return segment.source, round(segment.start_sec * 1000), round(segment.end_sec * 1000)


def _fused(ranked: Sequence[Hit], settings: SearchSettings) -> list[_Scored]:
    clips: defaultdict[_Clip, list[Hit]] = defaultdict(list)
    for hit in ranked:
        clips[_clip(hit.segment)].append(hit)
    parts = _by_rank if settings.fusion == "rrf" else _by_score
    scored = []
    for hits in clips.values():
        segment, shares = hits[0].segment, parts(hits, settings.weights)
        score = sum(share for share, _ in shares)
        scored.append(_Scored(segment.source, segment.start_sec, segment.end_sec, score, tuple(shares)))
    return scored


def _by_rank(hits: Sequence[Hit], weights: Mapping[str, float]) -> list[tuple[float, Hit]]:
    return [(weights[hit.segment.option] / (RRF_K + hit.rank), hit) for hit in hits]


def _by_score(hits: Sequence[Hit], weights: Mapping[str, float]) -> list[tuple[float, Hit]]:
    # A track that found nothing here counts as a cosine of 0, so a clip gains nothing by being silent.
    tracks = {hit.segment.option for hit in hits}
    beside = [track for track in weights if track not in _ALONE] if tracks - set(_ALONE) else []
    total = sum(weights[track] for track in {*beside, *tracks})
    return [(weights[hit.segment.option] * hit.score / total, hit) for hit in hits]


def _weighed_by_assets(clips: Sequence[_Scored], assets: Sequence[Hit], settings: SearchSettings) -> list[_Scored]:
    best: dict[str, float] = {}
    for asset in sorted(_fused(assets, settings), key=lambda asset: (-asset.score, asset.source)):
        best.setdefault(asset.source, asset.score)
    let_in = list(best)[: settings.asset_gate]
    return [
        replace(clip, score=clip.score + settings.asset_boost * best.get(clip.source, 0.0))
        for clip in clips
        if settings.asset_gate is None or clip.source in let_in
    ]


def _chosen(clips: Sequence[_Scored], settings: SearchSettings) -> list[Moment]:
    """Down the ranking until there are ``k`` moments: a clip joins its neighbours or begins a moment of its own."""
    groups: list[list[_Scored]] = []
    for clip in clips:
        near = [group for group in groups if _touches(group, clip, settings.merge_gap_sec)]
        if near:
            # A clip may be the missing link between two moments; the better one keeps its place.
            near[0].extend([clip, *(other for group in near[1:] for other in group)])
            groups = [group for group in groups if not any(group is gone for gone in near[1:])]
        elif settings.max_per_source is None or _count(groups, clip.source) < settings.max_per_source:
            if len(groups) == settings.k:
                break
            groups.append([clip])
    return [_moment(group) for group in groups]


def _touches(group: Sequence[_Scored], clip: _Scored, gap_sec: float | None) -> bool:
    if gap_sec is None or group[0].source != clip.source:
        return False
    gap = round(gap_sec * 1000)
    start, end = round(clip.start_sec * 1000), round(clip.end_sec * 1000)
    return any(
        round(other.start_sec * 1000) - end <= gap and start - round(other.end_sec * 1000) <= gap for other in group
    )


def _count(groups: Iterable[Sequence[_Scored]], source: str) -> int:
    return sum(group[0].source == source for group in groups)


def _moment(group: Sequence[_Scored]) -> Moment:
    best = max(group, key=lambda clip: clip.score)
    tracks: dict[str, Hit] = {}
    # The best clip's parts first, so that its strongest track names the moment.
    for clip in (best, *group):
        for _, hit in sorted(clip.parts, key=lambda part: -part[0]):
            known = tracks.get(hit.segment.option)
            if known is None or hit.rank < known.rank:
                tracks[hit.segment.option] = hit
    hits = (hit for clip in group for _, hit in clip.parts)
    return Moment(
        source=best.source,
        start_sec=min(clip.start_sec for clip in group),
        end_sec=max(clip.end_sec for clip in group),
        score=best.score,
        tracks=tracks,
        hits=tuple(sorted(hits, key=lambda hit: (hit.segment.start_sec, hit.segment.end_sec, hit.segment.option))),
    )


def _is_of(source: str, wanted: str) -> bool:
    return source.startswith(wanted) if wanted.endswith("/") else source == wanted
