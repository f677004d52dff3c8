"""What the tools need of a framework's retriever: search, and what the store holds, through its own filter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bedrock_marengo.search.retrieve import find_hits
from bedrock_marengo.search.track_hits import stored_query

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient
    from bedrock_marengo.search.track_hits import Searches

__all__ = ["Archive", "Row", "caller_loop", "loop_of_caller", "stored_items"]


loop_of_caller: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("marengo_tools_loop", default=None)
"""The event loop of an asynchronous call: some stores can be searched only there."""


@contextmanager
def caller_loop() -> Iterator[None]:
    """Let what runs on threads from here know the running event loop."""
    token = loop_of_caller.set(asyncio.get_running_loop())
    try:
        yield
    finally:
        loop_of_caller.reset(token)


@dataclass(frozen=True, slots=True)
class Row:
    """One segment or moment: its text, whose first line is its URI, and its metadata."""

    text: str
    metadata: Mapping[str, Any]


class Archive(Protocol):
    """A retriever, as the tools use it. Each framework's retriever has one.

    Attributes:
        client: the retriever's: reads files, asks Pegasus.
        sources: the only sources that the retriever searches, as it was made; one that ends in "/" is a prefix; empty
            for all.
        start_sec: its own limit in time; None for none.
        end_sec: the same.
        scope: "clip" or "asset": what it finds.
        is_filtered: whether it has a filter of its own, such as a tenant's. What ``rows`` returns has not passed it.
    """

    client: MarengoClient
    sources: Sequence[str]
    start_sec: float | None
    end_sec: float | None
    scope: Literal["clip", "asset"]
    is_filtered: bool

    def search(
        self, query: str, *, limit: int, sources: Sequence[str], start_sec: float | None, end_sec: float | None
    ) -> list[Row]:
        """The moments that answer a query, best first, through the retriever's filter. Embeds the query."""

    def stored(
        self, source: str, *, start_sec: float | None = None, end_sec: float | None = None, depth: int = 1
    ) -> list[Row]:
        """At most ``depth`` segments a track of one source, through the retriever's filter. Embeds nothing."""

    def rows(self) -> Iterable[Row] | None:
        """All rows of the store, whatever the filter; None if this kind of store can't list them."""


def stored_items(
    client: MarengoClient, searches: Searches, tracks: Sequence[str], source: str, **limits: Any
) -> list[Any]:
    """What a framework's stores hold of one source, as their own items.

    Args:
        client: the retriever's client.
        searches: the stores' searches.
        tracks: all tracks that the stores may hold.
        source: raw S3 URI.
        limits: of ``bedrock_marengo.search.track_hits.stored_query``.
    """
    query, settings = stored_query(client, tracks, source, **limits)
    return list(find_hits(client, query.array, settings, searches(query, settings))[1].values())
