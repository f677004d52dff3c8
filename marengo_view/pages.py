"""One self-contained page of a search: hits with clips inside, and timelines. It loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bedrock_marengo import MarengoClient, Query, Segment, SegmentEmbeddings
from bedrock_marengo.search.fusion import describe_query
from bedrock_marengo.search.results import SearchResult, results_from
from marengo_view.cards import cards_of
from marengo_view.drawing import HasMarengo, all_of, client_of, draw, source
from marengo_view.timelines import chart_of

__all__ = ["page"]

CHARTS = 5
"""Sources that get a timeline, those of the best hits."""
_WIDTH = 360


def page(
    hits: Iterable[Any],
    *,
    client: MarengoClient | HasMarengo,
    query: Query | str,
    segments: SegmentEmbeddings | Iterable[SegmentEmbeddings] = (),
    query_vector: npt.NDArray[np.float32] | None = None,
    note: str = "",
    allowed_prefixes: Sequence[str] | None = None,
) -> str:
    """A search as one HTML file to keep or send: players for the hits, a timeline of each source, for mouse and keys.

    The clips (of at most 20 seconds) and thumbnails are inside, so that it plays anywhere and holds no link, no
    credential and no script but its own.

    Args:
        hits: what a search gave, best first, as for ``show``.
        client: whose credentials read the media: a ``MarengoClient``, or a framework's embeddings.
        query: what was asked.
        segments: what was searched, for the timelines of the five best sources.
        query_vector: the query's, ``(dimension,)``; with ``segments`` and without it, the query is embedded.
        note: a sentence to put at the top.
        allowed_prefixes: S3 prefixes and objects; only these are read. Set it if others can write to your store.

    Raises:
        bedrock_marengo.ConfigurationError: PyAV is not installed.
        bedrock_marengo.InputError: No list of hits, no client, or a vector of another model than the segments'.
        bedrock_marengo.ServiceError: AWS refused the query.
    """
    core, found = client_of(client), results_from(hits)
    cards = cards_of(found, core, width=_WIDTH, allowed_prefixes=allowed_prefixes)
    text = describe_query(query)
    searched = _searched(found, segments)
    if searched and query_vector is None:
        query_vector = core.embed_query(query)

    def href(segment: Segment) -> str:
        return next((f"#hit-{number}" for number, hit in enumerate(found, start=1) if _holds(hit, segment)), "")

    charts = [chart_of(text, some, query_vector, href) for some in searched if query_vector is not None]
    script = source("page.js")
    return draw(
        "page.html",
        query=text,
        note=note,
        cards=cards,
        charts=charts,
        width=_WIDTH,
        is_page=True,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _searched(
    found: Sequence[SearchResult], segments: SegmentEmbeddings | Iterable[SegmentEmbeddings]
) -> list[SegmentEmbeddings]:
    """What timelines are drawn of: the sources of the best hits that have clips, in their order."""
    best = list(dict.fromkeys(hit.source for hit in found))[:CHARTS]
    drawn = (some for some in all_of(segments) if some.source in best and some.media_type != "image")
    return sorted((some for some in drawn if "clip" in some.scope), key=lambda some: best.index(some.source))


def _holds(hit: SearchResult, segment: Segment) -> bool:
    middle = (segment.start_sec + segment.end_sec) / 2
    return hit.source == segment.source and hit.start_sec <= middle < hit.end_sec
