"""Chroma (langchain-chroma), embedded or served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow, similar
from langchain_marengo.store_filters import dict_filter


def _chroma_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    found = store.similarity_search_by_vector_with_relevance_scores(vector, k, filter=dict_filter(target, user_filter))
    settings = store._collection.configuration_json or {}
    space = next((settings[name]["space"] for name in ("hnsw", "spann") if settings.get(name)), None)
    return similar(found, space == "cosine")


def _chroma_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    terms = [*([{"source": source}] if source is not None else []), *([user_filter] if user_filter else [])]
    where = {"$and": terms} if len(terms) > 1 else next(iter(terms), None)
    offset = 0
    while True:
        page = store.get(where=where, include=["documents", "metadatas"], limit=1000, offset=offset)
        yield from map(StoredRow, page["ids"], page["documents"], page["metadatas"])
        offset += len(page["ids"])
        if len(page["ids"]) < 1000:
            return


def _chroma_create(new: NewStore) -> Any:
    # It searches its graph for the larger of ef_search and the number of hits.
    settings = {"hnsw": {"space": "cosine", "ef_search": 100}}
    return new.cls(new.name, new.embeddings, collection_configuration=settings, **new.connection)


CHROMA = KnownStore(
    search=_chroma_search,
    rows=_chroma_rows,
    create=_chroma_create,
    # It has an index of each key of the metadata from the beginning.
    create_indexes=lambda store, tracks: [],
    version=lambda store: store._collection.count(),
)
