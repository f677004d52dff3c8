"""A similarity timeline: how well a query matches each clip of a file, one row per track."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from bedrock_marengo import InputError, MarengoClient, Query, Segment, SegmentEmbeddings
from bedrock_marengo.s3.presign import fragment
from bedrock_marengo.search import cosines
from bedrock_marengo.search.citations import describe_query
from marengo_view.rendering import LEAST_COSINE, HasCore, View, client_of, embeddings_list, render

__all__ = ["Chart", "chart_of", "timeline", "without_empty_rows"]

Vector = npt.NDArray[np.float32]

MAX_BARS = 480
"""Bars per row, two pixels each. With more segments, neighbours share a bar, which shows the best of them."""
_TICK_STEPS_SEC = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MAX_TICKS = 10


def timeline(
    query: Query | str,
    segments: SegmentEmbeddings,
    client: MarengoClient | HasCore,
    *,
    vector: Vector | None = None,
    link: bool = True,
    expires_sec: int = 3600,
) -> View:
    """Compare a query with a whole file: a row of bars for each track, one bar per clip, its height the cosine.

    Scores differ between tracks, so each row has its own scale: from 0, or its lowest cosine if that is negative, to
    its highest. The best clip of each row is highlighted. A bar links to the file at its time.

    Args:
        query: what to look for. It is embedded with one call, unless ``vector`` is given.
        segments: the segments of one file, as returned by ``embed_media``.
        client: a ``MarengoClient`` or a framework's embeddings.
        vector: the query's vector, ``(dimension,)``, if you have it already.
        link: make each bar a link, by a presigned URL.
        expires_sec: how long these URLs are valid, in seconds.

    Raises:
        bedrock_marengo.ConfigurationError: ``expires_sec`` is not 1 second to 7 days.
        bedrock_marengo.InputError: ``client`` is not a client, the file has no clips, or ``vector`` is from another
            model.
        bedrock_marengo.ServiceError: AWS rejected a call.

    Examples:
        ```python
        timeline("a goal", client.embed_media("s3://bucket/match.mp4", scopes=["clip"]), client)
        ```
    """
    core, [segments] = client_of(client), embeddings_list([segments])
    if vector is None:
        vector = core.embed_query(query)

    @cache
    def signed_url() -> str:
        # One URL for all bars: signing is most of the work.
        return core.playable_url(segments[0], expires_sec=expires_sec).partition("#")[0]

    def href(segment: Segment) -> str:
        return f"{signed_url()}{fragment(segment)}" if link else ""

    return View(render("timeline.html", charts=[chart_of(describe_query(query), segments, vector, href)]))


@dataclass(frozen=True, slots=True)
class Bar:
    """One clip, or a few that share a bar. ``left``, ``width`` and ``height`` are fractions of the row."""

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
    """The timeline of one file; ``ticks`` are in seconds."""

    query: str
    source: str
    end_sec: float
    ticks: Sequence[int]
    rows: Sequence[Row]


def chart_of(query: str, segments: SegmentEmbeddings, vector: Vector, href: Callable[[Segment], str]) -> Chart:
    """The chart of one file.

    Raises:
        InputError: The file has no clips, or ``vector`` is from another model.
    """
    clips = segments.select(scope="clip")
    end = float(clips.end_sec.max()) if len(clips) else 0.0
    if not end:
        raise InputError(
            f"{segments.source} has no clips, and a timeline needs them. Embed the file with scopes=['clip']."
        )
    step = next((step for step in _TICK_STEPS_SEC if end / step <= _MAX_TICKS), _TICK_STEPS_SEC[-1])
    ticks = range(0, int(end) + 1, step)
    rows = [_row(clips.select(option=track), vector, end, href) for track in dict.fromkeys(clips.option)]
    return Chart(query, segments.source, end, ticks, rows)


def without_empty_rows(chart: Chart) -> Chart:
    """A chart without the tracks that show nothing: those of one clip, and those whose cosines are all 0.000."""
    shown = [row for row in chart.rows if len(row.bars) > 1 and any(abs(b.cosine) >= LEAST_COSINE for b in row.bars)]
    return replace(chart, rows=shown)


def _row(clips: SegmentEmbeddings, vector: Vector, end: float, href: Callable[[Segment], str]) -> Row:
    scores = cosines(vector, clips.vectors)
    order = np.argsort(clips.start_sec, kind="stable")
    groups = np.array_split(order, min(len(order), MAX_BARS))
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
