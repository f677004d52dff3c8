"""Words as a track: how a LangChain retriever searches the text of segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, Segment
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch
from bedrock_marengo.search.store_words import check_words_setting, hits_by_words, no_text_search
from bedrock_marengo.search.text_index import TextIndex, TextRow, kept_index, once_each
from langchain_marengo.known_stores import KNOWN_STORES, KnownStore, find_known_store

__all__ = ["check_words", "text_search"]

_Hits = list[StoreHit[Document]]


def check_words(words: Any, stores: Mapping[str, VectorStore]) -> None:
    """Refuse a setting that finds no words.

    Raises:
        ConfigurationError: Not "bm25", "store" or a retriever, or something that these stores lack.
    """
    if words is None or isinstance(words, BaseRetriever):
        return
    check_words_setting(words, "LangChain")
    for store in stores.values():
        known = find_known_store(store)
        if known is None:
            raise ConfigurationError(
                f"words={words!r} doesn't support {type(store).__name__}, only {', '.join(KNOWN_STORES)}. Pass a "
                "retriever that returns segments as words=."
            )
        if words == "store" and known.text_search is None:
            raise no_text_search(store)


def text_search(
    words: Any, stores: Mapping[str, VectorStore], text: str, target: SearchTarget, user_filter: Any
) -> StoreSearch[_Hits]:
    """The search of the words.

    Args:
        words: as ``check_words`` has it.
        stores: track -> store.
        text: what to search for.
        target: the words' target.
        user_filter: in the stores' own language.
    """
    unique = list({id(store): store for store in stores.values()}.values())
    if words == "bm25":
        return StoreSearch((target,), partial(_by_bm25, unique, text, target, user_filter), "The store", at_once=True)
    if words == "store":
        search = partial(_by_stores, unique, text, target, user_filter)
        at_once = all((known := find_known_store(store)) and known.at_once(store) for store in unique)
        return StoreSearch((target,), search, f"The text search of {type(unique[0]).__name__}", at_once=at_once)
    asked = cache(partial(_by_retriever, words, text))
    # It is asked once: what it finds does not depend on how much is requested.
    return StoreSearch((target,), lambda limit: asked(), f"This {type(words).__name__}", at_once=True)


def _by_bm25(stores: list[VectorStore], text: str, target: SearchTarget, user_filter: Any, limit: int) -> _Hits:
    known = [(store, way) for store in stores if (way := find_known_store(store)) is not None]
    index: TextIndex[Document] = kept_index(
        stores,
        user_filter,
        tuple(way.version(store) for store, way in known),
        partial(_rows, known, user_filter),
        is_local=all(way.is_local for _, way in known),
    )
    return index.search(text, target, limit)


def _rows(known: list[tuple[VectorStore, KnownStore]], user_filter: Any) -> Iterator[TextRow[Document]]:
    for store, way in known:
        for row in way.rows(store, None, user_filter):
            document = Document(id=row.id, page_content=row.text, metadata=dict(row.metadata))
            yield TextRow(row.text, document, row.metadata.get("model_id"))


def _by_stores(stores: list[VectorStore], text: str, target: SearchTarget, user_filter: Any, limit: int) -> _Hits:
    return hits_by_words([partial(_by_store, store, target, user_filter) for store in stores], text, limit)


def _by_store(
    store: VectorStore, target: SearchTarget, user_filter: Any, text: str, rows: int
) -> list[tuple[str, StoreHit[Document]]]:
    known = find_known_store(store)
    found = known.text_search(store, text, rows, target, user_filter) if known and known.text_search else []
    return [(document.page_content, _hit(document, score)) for document, score in found]


def _by_retriever(retriever: BaseRetriever, text: str) -> _Hits:
    # A rank is all that its results have in common with those of others.
    return once_each(_hit(document, 1.0 / place) for place, document in enumerate(retriever.invoke(text), start=1))


def _hit(document: Document, score: float | None) -> StoreHit[Document]:
    return StoreHit(Segment.find(document.page_content), document, score, document.metadata.get("model_id"))
