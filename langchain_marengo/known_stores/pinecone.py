"""Pinecone (langchain-pinecone)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo.search import pinecone
from bedrock_marengo.search.contents import contents_of
from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow, add_documents
from langchain_marengo.store_filters import dict_filter, matches


def _search(store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any) -> list[ScoredDocument]:
    found = store.similarity_search_by_vector_with_score(vector, k=k, filter=dict_filter(target, user_filter))
    is_cosine = pinecone.has_cosine(contents_of(store), store.index)
    return [(document, score if is_cosine else None) for document, score in found]


def _rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    dimension = store.embeddings.core.dimension
    for key, metadata in pinecone.iter_rows(store.index, store._namespace, source, dimension):
        # Its lists have no filter.
        if matches(user_filter or {}, metadata):
            yield StoredRow(key, metadata.pop(store._text_key, ""), metadata)


def _add(store: Any, documents: Mapping[str, Document]) -> None:
    # It would write the text into the caller's metadata, and Pinecone refuses None.
    metadata = {
        key: {name: value for name, value in document.metadata.items() if value is not None}
        for key, document in documents.items()
    }
    copies = {key: Document(document.page_content, metadata=metadata[key]) for key, document in documents.items()}
    add_documents(store, copies)


def _create(new: NewStore) -> Any:
    # A namespace for each track: a query reads its namespace only.
    store = new.cls(embedding=new.embeddings, namespace=new.name, **new.connection)
    pinecone.check_index(store.index, new.dimension)
    return store


PINECONE = KnownStore(
    search=_search,
    rows=_rows,
    add=_add,
    create=_create,
    # All metadata is indexed.
    create_indexes=lambda store, tracks: [],
)
