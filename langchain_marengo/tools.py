"""Tools for LangChain agents over a MarengoRetriever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bedrock_marengo import InputError, MarengoClient, Query
from bedrock_marengo.agents import Archive, Row, stored_items
from bedrock_marengo.validation import short_repr
from langchain_marengo.known_stores import find_known_store
from langchain_marengo.retrievers import MarengoRetriever

__all__ = ["archive_of"]


def archive_of(retriever: MarengoRetriever) -> Archive:
    """A retriever as the tools of ``bedrock_marengo.agents`` use it.

    Raises:
        bedrock_marengo.InputError: Not a MarengoRetriever.
    """
    if not isinstance(retriever, MarengoRetriever):
        raise InputError(f"{short_repr(retriever)} is not a retriever: expected langchain_marengo.MarengoRetriever.")
    return _Archive(retriever)


class _Archive:
    def __init__(self, retriever: MarengoRetriever) -> None:
        self._retriever = retriever
        self.client: MarengoClient = retriever.embeddings.core
        self.sources: Sequence[str] = tuple(retriever.sources)
        self.start_sec = retriever.start_sec
        self.end_sec = retriever.end_sec
        self.is_filtered = retriever.filter is not None

    def search(self, query: str, *, limit: int, **narrowed: Any) -> list[Row]:
        # A Query is text, whatever it says: a string could be a handle that stands for a file.
        found = self._retriever.invoke(Query(text=query), k=limit, **narrowed)
        return [Row(document.page_content, document.metadata) for document in found]

    def stored(
        self, source: str, *, start_sec: float | None = None, end_sec: float | None = None, depth: int = 1
    ) -> list[Row]:
        retriever = self._retriever
        found = stored_items(
            self.client,
            retriever._tracks,
            retriever._searches_of,
            source=source,
            scope=retriever.scope,
            start_sec=start_sec,
            end_sec=end_sec,
            depth=depth,
        )
        return [Row(document.page_content, document.metadata) for document in found]

    def rows(self) -> Iterator[Row] | None:
        stores = list({id(store): store for store in self._retriever._stores.values()}.values())
        known = [(store, find_known_store(store)) for store in stores]
        if any(each is None for _, each in known):
            return None
        return (
            Row(row.text, row.metadata) for store, each in known if each is not None for row in each.rows(store, None)
        )
