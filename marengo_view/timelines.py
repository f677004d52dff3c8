"""A similarity timeline: how near a query is to each moment of a whole medium, track by track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from bedrock_marengo import InputError, MarengoClient, Query, Segment, SegmentEmbeddings
from bedrock_marengo.s3.presign import fragment
from bedrock_marengo.search.fusion import describe_query
from bedrock_marengo.search.weights import cosines
from marengo_view.drawing import HasMarengo, View, all_of, client_of, draw

__all__ = ["Chart", "chart_of", "timeline"]

Vector = npt.NDArray[np.float32]

MOST_BARS = 480
"""Of a row, two pixels each; more segments share one, which shows the best of them."""
_TICKS_SEC = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_TICKS = 10


def timeline(
    query: Query | str,
    segments: SegmentEmbeddings,
    client: MarengoClient | HasMarengo,
    *,
    vector: Vector | None = None,
    link: bool = True,
    expires_sec: int = 3600,
) -> View:
    """A query over a whole medium: a row of bars for each track, one bar for each clip, as high as its cosine.

    Each row has a scale of its own, from 0 or its lowest to its highest cosine, for tracks differ. The best clip of
    each stands out. A bar opens the medium at its time.

    Args:
        query: what to look for; embedding it is one call, unless ``vector`` is given.
        segments: of one medium, as ``embed_media`` gives them.
        client: a ``MarengoClient``, or a framework's embeddings.
        vector: the query's, ``(dimension,)``, where it is known.
        link: whether bars link to presigned URLs.
        expires_sec: how long these work.

    Raises:
        bedrock_marengo.ConfigurationError: ``expires_sec`` is not 1 second to 7 days.
        bedrock_marengo.InputError: No client, no clips, or a vector of another model.
        bedrock_marengo.ServiceError: AWS refused.

    Examples:
        ```python
        timeline("a goal", client.embed_media("s3://bucket/match.mp4", scopes=["clip"]), client)
        ```
    """
    core, [segments] = client_of(client), all_of([segments])
    if vector is None:
        vector = core.embed_query(query)

    @cache
    def medium() -> str:
        # All bars are of one medium, and signing is most of the work.
        return core.playable_url(segments[0], expires_sec=expires_sec).partition("#")[0]

    def href(segment: Segment) -> str:
        return f"{medium()}{fragment(segment)}" if link else ""

    return View(draw("timeline.html", charts=[chart_of(describe_query(query), segments, vector, href)]))


@dataclass(frozen=True, slots=True)
class Bar:
    """A clip, or a few: times in seconds, its cosine, and as shares of the row where it lies and how high it is."""

    start_sec: float
    end_sec: float
    cosine: float
    left: float
    width: float
    height: float
    is_best: bool
    href: str


@dataclass(frozen=True, slots=True)
class Row:
    """A track's bars and its highest cosine."""

    track: str
    highest: float
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """A medium's timeline. ``ticks`` are seconds."""

    query: str
    source: str
    end_sec: float
    ticks: Sequence[int]
    rows: Sequence[Row]


def chart_of(query: str, segments: SegmentEmbeddings, vector: Vector, href: Callable[[Segment], str]) -> Chart:
    """What the template draws of one medium.

    Raises:
        InputError: No clips in it, or a vector of another model.
    """
    clips = segments.select(scope="clip")
    end = float(clips.end_sec.max()) if len(clips) else 0.0
    if not end:
        raise InputError(f"{segments.source} has no clips to draw over time.")
    step = next((step for step in _TICKS_SEC if end / step <= _TICKS), _TICKS_SEC[-1])
    ticks = range(0, int(end) + 1, step)
    rows = [_row(clips.select(option=track), vector, end, href) for track in dict.fromkeys(clips.option)]
    return Chart(query, segments.source, end, ticks, rows)


def _row(clips: SegmentEmbeddings, vector: Vector, end: float, href: Callable[[Segment], str]) -> Row:
    scores = cosines(vector, clips.vectors)
    order = np.argsort(clips.start_sec, kind="stable")
    groups = np.array_split(order, min(len(order), MOST_BARS))
    low, high, best = min(0.0, float(scores.min())), float(scores.max()), int(scores.argmax())
    bars = []
    for group in groups:
        top = int(group[scores[group].argmax()])
        start, stop = float(clips.start_sec[group].min()), float(clips.end_sec[group].max())
        height = (float(scores[top]) - low) / ((high - low) or 1.0)
        bars.append(
            Bar(
                start_sec=start,
                end_sec=stop,
                cosine=float(scores[top]),
                left=start / end,
                width=(stop - start) / end,
                height=height,
                is_best=top == best,
                href=href(clips[top]),
            )
        )
    return Row(clips.option[0], high, bars)
