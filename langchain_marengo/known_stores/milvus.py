"""Milvus (langchain-milvus)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow, add_documents
from langchain_marengo.store_filters import milvus_text, sql_filter


def _milvus_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    if not store.client.has_collection(store.collection_name):
        return []
    where = sql_filter(target, user_filter, str, milvus_text)
    found = store.similarity_search_with_score_by_vector(vector, k, expr=where or None)
    return [(document, score if _milvus_metric(store) == "COSINE" else None) for document, score in found]


def _milvus_metric(store: Any) -> str | None:
    params = store.search_params
    if isinstance(params, list):
        params = params[0] if params else None
    return params.get("metric_type") if params else None


def _milvus_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    if not store.client.has_collection(store.collection_name):
        return
    key = store._primary_field
    where = f"source == {milvus_text(source)}" if source is not None else f'{key} != ""'
    where = f"({where}) and ({user_filter})" if user_filter else where
    pages = store.client.query_iterator(store.collection_name, 1000, filter=where, output_fields=["*"])
    text = store._text_field
    others = {key, text, store._vector_field}
    while page := pages.next():
        for row in page:
            yield StoredRow(str(row[key]), row[text], {name: row[name] for name in row.keys() - others})
    pages.close()


def _milvus_add(store: Any, documents: Mapping[str, Document]) -> None:
    # Its add writes a second row with the same id.
    if store.auto_id or not store.client.has_collection(store.collection_name):
        add_documents(store, documents)
    else:
        store.upsert(ids=list(documents), documents=list(documents.values()))


def _milvus_create(new: NewStore) -> Any:
    index = {"index_type": "AUTOINDEX", "metric_type": "COSINE"}
    return new.cls(new.embeddings, collection_name=new.name, index_params=index, **new.connection)


def _milvus_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    if not store.client.has_collection(store.collection_name):
        return []
    names = ["embedding_option", "embedding_scope", "source"]
    there = {
        store.client.describe_index(store.collection_name, index)["field_name"]
        for index in store.client.list_indexes(store.collection_name)
    }
    indexes = store.client.prepare_index_params()
    for name in names:
        if name not in there:
            indexes.add_index(name, index_type="INVERTED")
    if len(indexes):
        store.client.create_index(store.collection_name, indexes)
    return names


MILVUS = KnownStore(
    search=_milvus_search,
    rows=_milvus_rows,
    add=_milvus_add,
    create=_milvus_create,
    create_indexes=_milvus_create_indexes,
)
