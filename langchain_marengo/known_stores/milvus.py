"""Milvus (langchain-milvus)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow, add_documents
from langchain_marengo.store_filters import milvus_text, sql_filter


def _milvus_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    if not store.client.has_collection(store.collection_name):
        return []
    where = sql_filter(target, user_filter, str, milvus_text)
    fields, params = store._as_list(store._vector_field), store._as_list(store.search_params)
    # One that also searches by words has a second vector, and searches them only together.
    place = next((i for i, field in enumerate(fields) if field not in _text_vectors(store)), 0)
    param = params[place] if len(params) > place else None
    if len(fields) == 1:
        found = store.similarity_search_with_score_by_vector(vector, k, expr=where or None)
    else:
        found = _searched(store, vector, fields[place], k, where, search_params=param)
    is_cosine = param is not None and param.get("metric_type") == "COSINE"
    return [(document, score if is_cosine else None) for document, score in found]


def _milvus_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    field = next(iter(_text_vectors(store)), None)
    if field is None:
        raise ConfigurationError(
            "This Milvus has no text search: create its collection with builtin_function=BM25BuiltInFunction() and "
            "vector_field=['dense', 'sparse'], or use words='bm25'."
        )
    if not store.client.has_collection(store.collection_name):
        return []
    found = _searched(store, text, field, k, sql_filter(target, user_filter, str, milvus_text))
    # Milvus Lite returns its scores below 0.
    return [(document, abs(score)) for document, score in found]


def _text_vectors(store: Any) -> list[str]:
    """The fields that Milvus itself fills for BM25."""
    functions = [each for each in store._as_list(store.builtin_func) if type(each).__name__ == "BM25BuiltInFunction"]
    return [name for each in functions for name in store._as_list(each.output_field_names)]


def _searched(
    store: Any, query: list[float] | str, field: str, k: int, where: str, **settings: Any
) -> list[tuple[Document, float]]:
    found = store.client.search(
        store.collection_name, [query], anns_field=field, limit=k, filter=where, output_fields=["*"], **settings
    )
    documents: list[tuple[Document, float]] = store._parse_documents_from_search_results(found)
    return documents


def _milvus_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    if not store.client.has_collection(store.collection_name):
        return
    key = store._primary_field
    where = f"source == {milvus_text(source)}" if source is not None else f'{key} != ""'
    where = f"({where}) and ({user_filter})" if user_filter else where
    pages = store.client.query_iterator(store.collection_name, 1000, filter=where, output_fields=["*"])
    text = store._text_field
    others = {key, text, *store._as_list(store._vector_field)}
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
    # One with a vector for words, too, has an index for each.
    return new.cls(new.embeddings, collection_name=new.name, **{"index_params": index, **new.connection})


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
    text_search=_milvus_text_search,
    rows=_milvus_rows,
    add=_milvus_add,
    create=_milvus_create,
    create_indexes=_milvus_create_indexes,
)
