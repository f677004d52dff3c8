"""What differs between stores: one row of the table of known stores."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.embeddings import MarengoEmbeddings

__all__ = ["KnownStore", "NewStore", "ScoredDocument", "StoredRow", "add_documents", "of_source", "similar"]

ScoredDocument = tuple[Document, float | None]
"""A Document and its cosine similarity to the query; None if the store returns something else."""


class StoredRow(NamedTuple):
    """One row that a store holds."""

    id: str
    text: str
    metadata: Mapping[str, Any]


class NewStore(NamedTuple):
    """A store to create, or to open if it exists.

    Attributes:
        cls: the store's class.
        name: of the collection or table.
        embeddings: the store's.
        connection: what its class needs to connect, as keywords.
    """

    cls: Any
    name: str
    embeddings: MarengoEmbeddings
    connection: Mapping[str, Any]

    @property
    def dimension(self) -> int:
        """Length of each vector."""
        return self.embeddings.core.dimension


def add_documents(store: Any, documents: Mapping[str, Document]) -> None:
    """Add Documents by ID, as stores do by themselves."""
    store.add_documents(list(documents.values()), ids=list(documents))


def _delete_ids(store: Any, ids: list[str]) -> None:
    store.delete(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """What differs between stores.

    Attributes:
        search: (store, vector, k, target, user's filter) -> hits of that target, best first. The user's filter is in
            the store's own language, and is joined with the target's.
        rows: (store, source or None for all, user's filter if there is one) -> the rows that it holds.
        text_search: (store, text, k, target, user's filter) -> hits of that target by their text, best first, with
            scores above 0; None if the store has no text search, or none that is supported.
        add: (store, id -> Document) -> None: writes rows, and replaces those with the same ids. Whatever fails, a row
            that was there is not lost.
        upserts: store -> whether a row can be added again without leaving two, even right after it was added.
        delete: (store, ids) -> None. Ids that another writer has deleted are skipped.
        create: opens a collection or table for one track, with the cosine as metric; creates it if it doesn't exist.
        create_indexes: (store, tracks) -> the names of indexes on what searches filter for, which exist afterwards.
        at_once: store -> whether several threads may search it at the same time.
        version: store -> a value that differs once rows were added, if there is one that takes next to no time.
        is_local: whether listing its rows takes next to no time.
        finds_all: whether a filtered search that finds nothing shows that the store holds nothing of the kind.
    """

    search: Callable[[Any, list[float], int, SearchTarget, Any], list[ScoredDocument]]
    rows: Callable[..., Iterable[StoredRow]]
    text_search: Callable[[Any, str, int, SearchTarget, Any], list[tuple[Document, float]]] | None = None
    add: Callable[[Any, Mapping[str, Document]], None] = add_documents
    upserts: Callable[[Any], bool] = lambda store: True
    delete: Callable[[Any, list[str]], Any] = _delete_ids
    create: Callable[[NewStore], VectorStore] | None = None
    create_indexes: Callable[[Any, Sequence[str]], list[str]] | None = None
    at_once: Callable[[Any], bool] = lambda store: True
    version: Callable[[Any], Hashable] = lambda store: None
    is_local: bool = False
    finds_all: bool = True


def similar(found: Iterable[tuple[Document, float]], is_cosine_distance: bool) -> list[ScoredDocument]:
    """Documents and distances, with distances as similarities if they are of the cosine."""
    return [(document, 1.0 - distance if is_cosine_distance else None) for document, distance in found]


def of_source(rows: Iterable[StoredRow], source: str | None) -> Iterator[StoredRow]:
    """The rows of one source; of None, all."""
    return (row for row in rows if source is None or row.metadata.get("source") == source)
