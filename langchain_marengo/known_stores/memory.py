"""InMemoryVectorStore, and FAISS of langchain-community."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.validation import short_repr
from langchain_marengo.known_stores.known_store import KnownStore, ScoredDocument, StoredRow, of_source, similar
from langchain_marengo.store_filters import metadata_filter


def _in_memory_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    holds = metadata_filter(target)
    _check_callable(user_filter)
    found: list[ScoredDocument] = store.similarity_search_with_score_by_vector(
        vector, k, filter=lambda document: holds(document.metadata) and (user_filter is None or user_filter(document))
    )
    return found


def _in_memory_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    _check_callable(user_filter)
    # A list, because another thread may add rows.
    rows = (StoredRow(key, row["text"], row["metadata"]) for key, row in list(store.store.items()))
    if user_filter is not None:
        rows = (row for row in rows if user_filter(Document(id=row.id, page_content=row.text, metadata=row.metadata)))
    return of_source(rows, source)


def _check_callable(user_filter: Any) -> None:
    if user_filter is not None and not callable(user_filter):
        raise ConfigurationError(
            f"filter={short_repr(user_filter)}: for InMemoryVectorStore, expected a callable from a Document to bool."
        )


def _faiss_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    holds = metadata_filter(target)
    is_allowed = _faiss_filter(store, user_filter)
    found = store.similarity_search_with_score_by_vector(
        vector,
        k,
        filter=lambda metadata: holds(metadata) and is_allowed(metadata),
        # It filters only what it has found, so it must find all rows.
        fetch_k=max(k, store.index.ntotal),
    )
    return similar(found, False)


def _faiss_filter(store: Any, user_filter: Any) -> Callable[[Mapping[str, Any]], bool]:
    if user_filter is None:
        return lambda metadata: True
    is_allowed: Callable[[Mapping[str, Any]], bool] = store._create_filter_func(user_filter)
    return is_allowed


def _faiss_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    is_allowed = _faiss_filter(store, user_filter)
    found = ((key, store.docstore.search(key)) for key in list(store.index_to_docstore_id.values()))
    rows = (StoredRow(key, row.page_content, row.metadata) for key, row in found if isinstance(row, Document))
    return of_source((row for row in rows if is_allowed(row.metadata)), source)


def _faiss_add(store: Any, documents: Mapping[str, Document]) -> None:
    texts = [document.page_content for document in documents.values()]
    vectors = store._embed_documents(texts)
    with _FAISS:
        # FAISS raises on an id that it already has, and leaves its index half changed.
        _faiss_delete(store, list(documents))
        metadatas = [document.metadata for document in documents.values()]
        store.add_embeddings(zip(texts, vectors, strict=True), metadatas, list(documents))


def _faiss_delete(store: Any, ids: list[str]) -> None:
    with _FAISS:
        # It raises on an id that it doesn't have.
        known = set(store.index_to_docstore_id.values())
        if there := [key for key in ids if key in known]:
            store.delete(there)


_FAISS = ForkSafeLock()
"""Writers take turns: two at once would mix up which row of a FAISS index is which segment."""


# Numpy searches both: threads would wait for each other.
IN_MEMORY = KnownStore(
    search=_in_memory_search,
    rows=_in_memory_rows,
    at_once=lambda store: False,
    version=lambda store: len(store.store),
    is_local=True,
)
FAISS = KnownStore(
    search=_faiss_search,
    rows=_faiss_rows,
    add=_faiss_add,
    delete=_faiss_delete,
    at_once=lambda store: False,
    version=lambda store: store.index.ntotal,
    is_local=True,
)
