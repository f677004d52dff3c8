"""Ranked hits of several tracks fused into moments: plain functions over segments, ranks and scores.

Sources of the constants: TwelveLabs' guidance on multi-vector search with Marengo (weights, alpha, both fusions), and
Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion" (SIGIR 2009) for k = 60. Our own constants are marked as such.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

from bedrock_marengo.contract.html_tables import html_table
from bedrock_marengo.contract.models import UNTIMED_TRACKS
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.contract.words import span
from bedrock_marengo.search.settings import Fusion, SearchSettings
from bedrock_marengo.search.targets import WORDS, SearchTarget

__all__ = [
    "RRF_K",
    "Fusion",
    "Hit",
    "Moment",
    "SearchSettings",
    "SearchTarget",
    "cut_off",
    "find_moments",
    "rank",
]

RRF_K = 60
"""The constant of reciprocal rank fusion: Cormack et al. 2009, and TwelveLabs' guidance."""

TIE = 1e-6
"""Cosines this close are equal: the last bits of float32 differ between stores. Ours."""

MERGED_CLIPS = 20
"""How many of the best clips may merge into moments. Ours: of a short video, every clip is found."""

_PICTURE = ("visual", "visual-text", "visual-image")
"""Tracks of what is seen in a clip: photographs are ranked among these, or among fused vectors if there are none."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One segment that a search found.

    Attributes:
        segment: what was found.
        score: its cosine similarity to the query; on the track "words" the score of its text, which is no cosine.
        rank: from 1 within its track, once it is ranked. Equal scores share a rank: that of the last of them.
        is_cut: the store holds equal ones that were not requested. It then counts for nothing, as they do.
        track: the list that it belongs to: its segment's option, or "words" if its text was found.
    """

    segment: Segment
    score: float
    rank: int = 0
    is_cut: bool = False
    track: str = ""

    def __post_init__(self) -> None:
        if not self.track:
            object.__setattr__(self, "track", self.segment.option)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time range of one file that answers a query. Times in seconds.

    Attributes:
        source: raw S3 URI of the file.
        start_sec: where it begins.
        end_sec: where it ends.
        score: the fused score of its best clip; comparable only within one search.
        tracks: track -> its best hit in this moment, with rank and score; the track that contributed most comes first.
        hits: all its hits, in order of time.
        confidence: "low", "medium" or "high", a hint from its best cosine; None if unknown, as after ``find_moments``.
    """

    source: str
    start_sec: float
    end_sec: float
    score: float
    tracks: Mapping[str, Hit]
    hits: tuple[Hit, ...] = field(repr=False)
    confidence: Literal["low", "medium", "high"] | None = None

    @property
    def best(self) -> Hit:
        """The hit that contributed most."""
        return next(iter(self.tracks.values()))

    def _repr_html_(self) -> str:
        """A table, for notebooks: where it is, and the cosine of each track."""
        cosines = [(track, f"{hit.score:.3f}") for track, hit in self.tracks.items()]
        rows = [("file", self.source), ("time", span(self.start_sec, self.end_sec)), *cosines]
        return html_table(row for row in [*rows, ("confidence", self.confidence)] if row[1])

    @property
    def uri(self) -> str:
        """Its own time range as a URI, in which its best segment can be found."""
        return self.best.segment.uri_within(self.start_sec, self.end_sec)


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
    ranked = rank(
        hit for hit in hits if any(target.track == hit.track and target.holds(hit.segment) for target in targets)
    )
    clips = _fuse([hit for hit in ranked if hit.segment.scope == settings.scope], settings)
    if settings.with_assets:
        clips = _apply_assets(clips, [hit for hit in ranked if hit.segment.scope == "asset"], settings)
    return _choose(sorted(clips, key=_order), settings)


def cut_off(hits: Iterable[Hit], depth: int) -> list[Hit]:
    """The ``depth`` best hits of each track and scope. They are marked if there are more that are equal to the last.

    Args:
        hits: one more than ``depth`` for each track, if the store has so many.
        depth: how many count.
    """
    kept: list[Hit] = []
    for found in _by_track(hits).values():
        edge = found[depth].score + TIE if len(found) > depth else float("-inf")
        kept += [replace(hit, is_cut=hit.score <= edge) for hit in found[:depth]]
    return kept


def rank(hits: Iterable[Hit]) -> list[Hit]:
    """Hits with their ranks within each track and scope, best first: a rank counts the hits that are at least as good.

    So equal cosines share a rank, and a track that can't distinguish clips, such as a silent one, reorders nothing. A
    segment that was found twice, or a clip that two jobs embedded, counts once, with its best score. Photographs and
    what is seen in clips are ranked together, since a rank says nothing about the sizes of two separate lists.
    """
    lists: dict[tuple[str, str], list[Hit]] = {}
    for name, found in _by_track(hits).items():
        once: dict[_Clip, Hit] = {}
        for hit in found:
            once.setdefault(_clip(hit.segment), hit)
        lists[name] = list(once.values())
    ranked = []
    for (track, scope), found in lists.items():
        rivals = [hit.score for hit in found]
        if track in _PICTURE or track == "fused":
            rivals += [hit.score for image in UNTIMED_TRACKS for hit in lists.get((image, scope), ())]
        elif track in UNTIMED_TRACKS:
            clips = (hit for (_, of), hits in lists.items() for hit in hits if of == scope)
            rivals += _seen(clips).values()
        places = sorted(-score for score in rivals)
        ranked += [replace(hit, rank=bisect_right(places, TIE - hit.score)) for hit in found]
    return ranked


_Clip = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class _Scored:
    """One time range with the hits of all tracks.

    ``parts`` is what each hit adds to the score; ``seen`` the cosine of its picture, None if none was found.
    """

    source: str
    start_sec: float
    end_sec: float
    score: float
    parts: tuple[tuple[float, Hit], ...]
    seen: float | None

    @property
    def of_words(self) -> float:
        """What its words add to the score."""
        return sum(share for share, hit in self.parts if hit.track == WORDS)

    @property
    def is_image(self) -> bool:
        return all(hit.segment.option in UNTIMED_TRACKS for _, hit in self.parts)


def _order(clip: _Scored) -> tuple[float, bool, float, str, float, float]:
    # A photograph with the score of a clip comes after it.
    seen = -(clip.seen or 0.0) if clip.is_image else 0.0
    return -clip.score, clip.is_image, seen, clip.source, clip.start_sec, clip.end_sec


def _clip(of: Segment | _Scored) -> _Clip:
    # Milliseconds as integers, and no job, so that tracks embedded by two jobs are joined.
    return of.source, round(of.start_sec * 1000), round(of.end_sec * 1000)


def _by_track(hits: Iterable[Hit]) -> dict[tuple[str, str], list[Hit]]:
    """(track, scope) -> its hits, best first; equal ones in one order."""
    lists: defaultdict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in hits:
        lists[hit.track, hit.segment.scope].append(hit)
    for found in lists.values():
        found.sort(key=lambda hit: (-hit.score, hit.segment.source, hit.segment.start_sec, hit.segment.job))
    return lists


def _seen(hits: Iterable[Hit]) -> dict[_Clip, float]:
    """The cosine of each clip's picture: of its fused vector if there is no other."""
    seen: dict[_Clip, float] = {}
    fused: dict[_Clip, float] = {}
    for hit in hits:
        if hit.track in _PICTURE:
            seen[_clip(hit.segment)] = max(hit.score, seen.get(_clip(hit.segment), hit.score))
        elif hit.track == "fused":
            fused[_clip(hit.segment)] = hit.score
    return {**fused, **seen}


def _fuse(ranked: Sequence[Hit], settings: SearchSettings) -> list[_Scored]:
    clips: defaultdict[_Clip, list[Hit]] = defaultdict(list)
    for hit in ranked:
        clips[_clip(hit.segment)].append(hit)
    seen = {
        **_seen(ranked),
        **{_clip(hit.segment): hit.score for hit in ranked if hit.track in UNTIMED_TRACKS},
    }
    by_rank = settings.fusion == "rrf"
    shares = _by_rank(clips.values(), settings.weights) if by_rank else _by_score(clips.values(), settings.weights)
    scored = []
    for (clip, hits), parts in zip(clips.items(), shares, strict=True):
        segment, score = hits[0].segment, sum(share for share, _ in parts)
        scored.append(_Scored(segment.source, segment.start_sec, segment.end_sec, score, parts, seen.get(clip)))
    return _behind_better_pictures(scored) if by_rank else scored


_Parts = tuple[tuple[float, Hit], ...]


def _by_rank(clips: Iterable[Sequence[Hit]], weights: Mapping[str, float]) -> list[_Parts]:
    clips = list(clips)
    # A clip with separate tracks and a fused vector counts twice, and so must a photograph.
    times = 2 if any({"fused", "separate"} <= {_block(hit.track) for hit in hits} for hits in clips) else 1
    shares = {track: times * weight if track in UNTIMED_TRACKS else weight for track, weight in weights.items()}
    return [
        tuple((0.0 if hit.is_cut else shares[hit.track] / (RRF_K + hit.rank), hit) for hit in hits) for hits in clips
    ]


def _by_score(clips: Iterable[Sequence[Hit]], weights: Mapping[str, float]) -> list[_Parts]:
    clips = list(clips)
    # Divided by what any clip here can have, so a track without a hit counts as a cosine of 0. The weight of images is
    # not part of it: an image has no other vector.
    blocks = {_block(hit.track) for hits in clips for hit in hits}
    blocks = blocks if blocks <= {"image", WORDS} else blocks - {"image"}
    total = sum(weight for track, weight in weights.items() if _block(track) in blocks)
    scale = _words_scale([hit for hits in clips for hit in hits])
    return [
        tuple(
            (0.0 if hit.is_cut else weights[hit.track] * hit.score * (scale if hit.track == WORDS else 1) / total, hit)
            for hit in hits
        )
        for hits in clips
    ]


def _words_scale(hits: Sequence[Hit]) -> float:
    """Makes the best score of the words equal to the best cosine: their own sizes can't be compared. Ours."""
    words = max((hit.score for hit in hits if hit.track == WORDS), default=0.0)
    cosine = max((hit.score for hit in hits if hit.track != WORDS), default=1.0)
    return max(cosine, 0.0) / words if words > 0 else 0.0


def _block(track: str) -> str:
    """A clip has separate tracks, a fused vector or both; an image has neither. Any of them may have words."""
    return "image" if track in UNTIMED_TRACKS else track if track in ("fused", WORDS) else "separate"


def _behind_better_pictures(scored: Sequence[_Scored]) -> list[_Scored]:
    """No photograph has a higher score than a clip whose picture is as good a match, words apart."""
    clips = sorted(
        (-clip.seen, clip.score - clip.of_words) for clip in scored if clip.seen is not None and not clip.is_image
    )
    least = list(accumulate((score for _, score in clips), min, initial=float("inf")))

    def limit(image: _Scored) -> float:
        return least[bisect_right(clips, (TIE - (image.seen or 0.0), float("inf")))] + image.of_words

    return [replace(clip, score=min(clip.score, limit(clip))) if clip.is_image else clip for clip in scored]


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
    """The ``k`` best moments. Their ranges depend on the ranking alone, not on ``k``."""
    merged = 0 if settings.merge_gap_sec is None else MERGED_CLIPS
    groups = _neighbors(clips[:merged], settings.merge_gap_sec or 0.0) + [[clip] for clip in clips[merged:]]
    chosen: list[list[_Scored]] = []
    for group in sorted(groups, key=lambda group: min(map(_order, group))):
        if len(chosen) == settings.k:
            break
        if settings.max_per_source is None or _count(chosen, group[0].source) < settings.max_per_source:
            chosen.append(group)
    return [_moment(group) for group in chosen]


def _neighbors(clips: Iterable[_Scored], gap_sec: float) -> list[list[_Scored]]:
    """Clips of one source that continue each other, grouped."""
    groups: list[list[_Scored]] = []
    gap, end = round(gap_sec * 1000), 0
    for clip in sorted(clips, key=lambda clip: (clip.source, clip.start_sec, clip.end_sec)):
        _, start, until = _clip(clip)
        if groups and groups[-1][0].source == clip.source and start - end <= gap:
            groups[-1].append(clip)
            end = max(end, until)
        else:
            groups.append([clip])
            end = until
    return groups


def _count(groups: Iterable[Sequence[_Scored]], source: str) -> int:
    return sum(group[0].source == source for group in groups)


def _moment(group: Sequence[_Scored]) -> Moment:
    best = max(group, key=lambda clip: clip.score)
    tracks: dict[str, Hit] = {}
    # The best clip's parts first, so that its strongest track comes first.
    for clip in (best, *group):
        for _, hit in sorted(clip.parts, key=lambda part: -part[0]):
            known = tracks.get(hit.track)
            if known is None or hit.rank < known.rank:
                tracks[hit.track] = hit
    hits = (hit for clip in group for _, hit in clip.parts)
    return Moment(
        source=best.source,
        start_sec=min(clip.start_sec for clip in group),
        end_sec=max(clip.end_sec for clip in group),
        score=best.score,
        tracks=tracks,
        hits=tuple(sorted(hits, key=lambda hit: (hit.segment.start_sec, hit.segment.end_sec, hit.track))),
    )
