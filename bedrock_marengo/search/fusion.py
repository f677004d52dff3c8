"""Ranked hits of several tracks fused into moments: plain functions over segments, ranks and scores.

Sources of the constants: TwelveLabs' guidance on multi-vector search with Marengo (weights, alpha, both fusions), and
Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion" (SIGIR 2009) for k = 60. Our own constants are marked as such.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bedrock_marengo.contract.inputs import Media, Query
from bedrock_marengo.contract.models import UNTIMED_TRACKS
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_int, is_number, require_many, short_repr

__all__ = [
    "RRF_K",
    "Fusion",
    "Hit",
    "Moment",
    "SearchSettings",
    "SearchTarget",
    "describe_query",
    "find_moments",
    "rank",
]

Fusion = Literal["rrf", "scores"]

RRF_K = 60
"""The constant of reciprocal rank fusion: Cormack et al. 2009, and TwelveLabs' guidance."""


_ALONE = ("fused", *UNTIMED_TRACKS)
"""Tracks whose one vector covers a whole moment."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One segment that a search found: cosine ``score``, and ``rank`` from 1 within its track once it is ranked.

    Equal cosines share a rank: that of the last of them.
    """

    segment: Segment
    score: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What one search looks for: one track and scope, and the user's limits. Times in seconds.

    ``sources`` are raw S3 URIs; one that ends in "/" is a prefix. A time range keeps the segments
    that overlap it.
    """

    track: str
    scope: str = "clip"
    sources: tuple[str, ...] = ()
    start_sec: float | None = None
    end_sec: float | None = None

    def holds(self, segment: Segment) -> bool:
        """Whether a segment belongs to this target."""
        return (
            segment.option == self.track
            and segment.scope == self.scope
            and (not self.sources or any(_is_of(segment.source, source) for source in self.sources))
            and (self.start_sec is None or segment.end_sec > self.start_sec)
            and (self.end_sec is None or segment.start_sec < self.end_sec)
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """A time range of one file that answers a query. Times in seconds.

    Attributes:
        source: raw S3 URI of the file.
        start_sec: where it begins.
        end_sec: where it ends.
        score: the fused score of its best clip; comparable only within one search.
        tracks: track -> its best hit in this moment, with rank and cosine; the track that contributed most comes first.
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
        """The hit that contributed most."""
        return next(iter(self.tracks.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How to search, in any framework and store.

    Args:
        weights: track -> weight; tracks of weight 0 are not searched.
        k: how many moments to return.
        fusion: "rrf", the sum of w / (60 + rank); or "scores", the sum of w * cosine over the sum of w.
        merge_gap_sec: clips of one source at most this far apart become one moment; None keeps each clip separate.
        max_per_source: the most moments of one source.
        sources: only these sources; one that ends in "/" is a prefix.
        start_sec: only segments that end after this time.
        end_sec: only segments that start before this time.
        asset_gate: only clips of this many best assets. The store must hold assets (``scopes=["clip", "asset"]``).
        asset_boost: adds this multiple of the asset's fused score to each of its clips' scores.
        scope: "clip", or "asset" to find whole files.
        fetch_k: how many hits to request for each track. Default: 10 for each moment, at least 50.

    Raises:
        InputError: A setting has a wrong value.
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
                raise InputError(
                    f"sources has {short_repr(source)}: expected S3 URIs; one that ends in '/' is a prefix.",
                    setting="sources",
                )
        for name, choices in (("fusion", ("rrf", "scores")), ("scope", ("clip", "asset"))):
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"expected {' or '.join(map(repr, choices))}.", setting=name, value=value)
        for name in ("k", "max_per_source", "asset_gate", "fetch_k"):
            value = getattr(self, name)
            if not (is_int(value) or (value is None and name != "k")):
                raise InputError("expected a whole number, 1 or more.", setting=name, value=value)
        for name in ("merge_gap_sec", "start_sec", "end_sec", "asset_boost"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and 0 <= value < float("inf")):
                raise InputError("expected a number, 0 or more.", setting=name, value=value)
        if self.end_sec is not None and self.end_sec <= (self.start_sec or 0):
            raise InputError(
                "expected a time after {start_sec}.",
                setting="end_sec",
                value=self.end_sec,
                remedy={"start_sec": self.start_sec or 0},
            )

    @property
    def targets(self) -> list[SearchTarget]:
        """What to search for: one target for each track, and one more for its assets if they gate or boost."""
        tracks = [track for track, weight in self.weights.items() if weight > 0]
        sources = tuple(self.sources)
        targets = [SearchTarget(track, self.scope, sources, self.start_sec, self.end_sec) for track in tracks]
        if self._with_assets:
            targets += [SearchTarget(track, "asset", sources) for track in tracks]
        return targets

    @property
    def depth(self) -> int:
        """How many hits to request for each track."""
        return self.fetch_k or max(10 * self.k, 50)

    @property
    def _with_assets(self) -> bool:
        return self.scope == "clip" and (self.asset_gate is not None or self.asset_boost > 0)


def find_moments(hits: Iterable[Hit], settings: SearchSettings) -> list[Moment]:
    """The ``k`` best moments, best first; one for each stretch of time, however many tracks found it.

    Args:
        hits: what the searches for ``settings.targets`` found, in any order; hits outside of these are skipped.
        settings: how to fuse and merge.

    Examples:
        >>> job = "3fa9c1d27b041e55"
        >>> hit = Hit(Segment("s3://b/a.mp4", 0.0, 6.0, "visual", "clip", job), score=0.12)
        >>> [moment] = find_moments([hit], SearchSettings(weights={"visual": 0.8}))
        >>> moment.start_sec, moment.end_sec, moment.tracks["visual"].rank
        (0.0, 6.0, 1)
    """
    targets = settings.targets
    ranked = rank(hit for hit in hits if any(target.holds(hit.segment) for target in targets))
    clips = _fuse([hit for hit in ranked if hit.segment.scope == settings.scope], settings)
    if settings._with_assets:
        clips = _apply_assets(clips, [hit for hit in ranked if hit.segment.scope == "asset"], settings)
    clips.sort(key=lambda clip: (-clip.score, clip.source, clip.start_sec, clip.end_sec))
    return _choose(clips, settings)


def rank(hits: Iterable[Hit]) -> list[Hit]:
    """Hits with their ranks within each track and scope, best first: a rank counts the hits that are at least as good.

    So equal cosines share a rank, and a track that can't distinguish clips, such as a silent one, reorders nothing. A
    segment that was found twice, or a clip that two jobs embedded, counts once, with its best score.
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
        # Of equal scores the last place counts.
        places = {hit.score: place for place, hit in enumerate(once.values(), start=1)}
        ranked += [Hit(hit.segment, hit.score, places[hit.score]) for hit in once.values()]
    return ranked


def describe_query(query: Query | str) -> str:
    """A query in words, for traces and pages: its text and the names of its files.

    Raises:
        InputError: Not a query.
    """
    if isinstance(query, str):
        return query
    if not isinstance(query, Query):
        raise InputError(
            f"{short_repr(query)} is not a query: expected a string or a Query, such as Query(text=..., image=...)."
        )
    media = [query.image, query.audio, query.video]
    media += query.images.values() if isinstance(query.images, Mapping) else query.images or []
    parts = [query.text, *(Media.of(file).name for file in media if file is not None)]
    return " + ".join(part for part in parts if part)


_Clip = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class _Scored:
    """One time range with the hits of all tracks. ``parts`` is what each hit adds to the score."""

    source: str
    start_sec: float
    end_sec: float
    score: float
    parts: tuple[tuple[float, Hit], ...]


def _clip(segment: Segment) -> _Clip:
    # Milliseconds as integers, and no job, so that tracks embedded by two jobs are joined.
    return segment.source, round(segment.start_sec * 1000), round(segment.end_sec * 1000)


def _fuse(ranked: Sequence[Hit], settings: SearchSettings) -> list[_Scored]:
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
    # A track without a hit here counts as a cosine of 0, so that a clip gains nothing from a missing track.
    tracks = {hit.segment.option for hit in hits}
    others = [track for track in weights if track not in _ALONE] if tracks - set(_ALONE) else []
    total = sum(weights[track] for track in {*others, *tracks})
    return [(weights[hit.segment.option] * hit.score / total, hit) for hit in hits]


def _apply_assets(clips: Sequence[_Scored], assets: Sequence[Hit], settings: SearchSettings) -> list[_Scored]:
    best: dict[str, float] = {}
    for asset in sorted(_fuse(assets, settings), key=lambda asset: (-asset.score, asset.source)):
        best.setdefault(asset.source, asset.score)
    allowed = list(best)[: settings.asset_gate]
    return [
        replace(clip, score=clip.score + settings.asset_boost * best.get(clip.source, 0.0))
        for clip in clips
        if settings.asset_gate is None or clip.source in allowed
    ]


def _choose(clips: Sequence[_Scored], settings: SearchSettings) -> list[Moment]:
    """Down the ranking until there are ``k`` moments: a clip joins its neighbours or starts a moment of its own."""
    groups: list[list[_Scored]] = []
    for clip in clips:
        near = [group for group in groups if _touches(group, clip, settings.merge_gap_sec)]
        if near:
            # A clip may connect two moments: they become one, at the place of the better one.
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
    # The best clip's parts first, so that its strongest track comes first.
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
