"""A search as one self-contained HTML file: results with embedded clips, and timelines. It makes no requests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bedrock_marengo import MarengoClient, Query, Segment, SegmentEmbeddings
from bedrock_marengo.search import SearchResult, results_from
from bedrock_marengo.search.citations import describe_query
from marengo_view.cards import cards_of, files_of, wanted_words
from marengo_view.rendering import HasCore, asset, client_of, embeddings_list, render
from marengo_view.timelines import chart_of, without_empty_rows

__all__ = ["page"]

MAX_CHARTS = 5
"""The files of the best results get a timeline, up to this many."""
_WIDTH = 360
"""Of a clip, in pixels."""
_CARD_WIDTH = 300
"""Of the narrowest card: as many as fit share a row."""


def page(
    hits: Iterable[Any],
    *,
    client: MarengoClient | HasCore,
    query: Query | str,
    segments: SegmentEmbeddings | Iterable[SegmentEmbeddings] = (),
    query_vector: npt.NDArray[np.float32] | None = None,
    note: str = "",
    allowed_prefixes: Sequence[str] | None = None,
) -> str:
    """Write a search as one HTML file to keep or share: a player for each result, by file, and timelines.

    Clips (at most 20 seconds each) and thumbnails are embedded. The file plays anywhere and contains no links, no
    credentials and no third-party scripts. It can be used with mouse or keyboard.

    Args:
        hits: search results, best first, as for ``show``.
        client: a ``MarengoClient`` or a framework's embeddings, whose credentials read the files.
        query: the query that was searched for.
        segments: the segments that were searched; they add timelines for the five best files.
        query_vector: the query's vector, ``(dimension,)``. Without it, timelines embed the query (one call).
        note: a sentence for the top of the page.
        allowed_prefixes: S3 prefixes and objects; nothing else is read. Set this if others can write to your store.

    Raises:
        bedrock_marengo.ConfigurationError: PyAV is not installed.
        bedrock_marengo.InputError: ``hits`` is not a list, ``client`` is not a client, or ``query_vector`` and the
            segments come from different models.
        bedrock_marengo.ServiceError: AWS rejected the call that embeds the query.
    """
    core, found = client_of(client), results_from(hits)
    cards = cards_of(found, core, width=_WIDTH, allowed_prefixes=allowed_prefixes)
    text = describe_query(query)
    searched = _searched(found, segments)
    if searched and query_vector is None:
        query_vector = core.embed_query(query)

    def href(segment: Segment) -> str:
        return next((f"#hit-{number}" for number, hit in enumerate(found, start=1) if _contains(hit, segment)), "")

    charts = [chart_of(text, some, query_vector, href) for some in searched if query_vector is not None]
    charts = [shown for chart in charts if (shown := without_empty_rows(chart)).rows]
    script = asset("page.js")
    return render(
        "page.html",
        query=text,
        note=note,
        count=len(cards),
        files=files_of(cards),
        wanted=wanted_words(query),
        charts=charts,
        width=_CARD_WIDTH,
        is_page=True,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _searched(
    found: Sequence[SearchResult], segments: SegmentEmbeddings | Iterable[SegmentEmbeddings]
) -> list[SegmentEmbeddings]:
    """The segments to draw timelines of: files of the best results that have clips, best first."""
    best = list(dict.fromkeys(hit.source for hit in found))[:MAX_CHARTS]
    charted = (some for some in embeddings_list(segments) if some.source in best and some.media_type != "image")
    return sorted((some for some in charted if "clip" in some.scope), key=lambda some: best.index(some.source))


def _contains(hit: SearchResult, segment: Segment) -> bool:
    middle = (segment.start_sec + segment.end_sec) / 2
    return hit.source == segment.source and hit.start_sec <= middle < hit.end_sec
