"""MongoDB Atlas (langchain-mongodb)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo.search import mongodb
from bedrock_marengo.search.contents import contents_of
from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow
from langchain_marengo.store_filters import dict_filter


def _search(store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any) -> list[ScoredDocument]:
    # Its own search always requests ten candidates for each hit, of at most 10,000.
    place = store.collection, store._index_name, store._embedding_key
    found = mongodb.nearest(*place, vector, k, dict_filter(target, user_filter))
    contents = contents_of(store)
    return [(_document(store, row), mongodb.cosine_of(contents, *place, score)) for row, score in found]


def _document(store: Any, row: dict[str, Any]) -> Document:
    return Document(id=str(row.pop("_id")), page_content=row.pop(store._text_key, ""), metadata=row)


def _rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    terms = [*([{"source": source}] if source is not None else []), *([user_filter] if user_filter else [])]
    where = {"$and": terms} if terms else {}
    for row in mongodb.find_rows(store.collection, store._embedding_key, where):
        yield StoredRow(str(row.pop("_id")), row.pop(store._text_key, ""), row)


def _create(new: NewStore) -> Any:
    connection = dict(new.connection)
    collection = connection.pop("database")[new.name]
    store = new.cls(collection, new.embeddings, **connection)
    mongodb.create_vector_index(collection, store._index_name, store._embedding_key, new.dimension)
    return store


def _create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    return mongodb.add_filter_fields(store.collection, store._index_name)


MONGODB = KnownStore(search=_search, rows=_rows, create=_create, create_indexes=_create_indexes)
