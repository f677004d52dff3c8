"""Segments, times and queries in words, for people."""

from __future__ import annotations

from collections.abc import Mapping

from bedrock_marengo.contract.inputs import Media, Query
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.contract.words import clock
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.results import SearchResult
from bedrock_marengo.validation import short_repr

__all__ = ["citation", "describe_query"]


def citation(found: Segment | SearchResult) -> str:
    """``match.mp4 at 00:06``: the file's name and when the segment or moment starts."""
    name = found.source.rpartition("/")[2]
    return f"{name} at {clock(found.start_sec)}" if found.end_sec > found.start_sec else name


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
