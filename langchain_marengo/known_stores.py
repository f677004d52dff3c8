"""How each known store searches one track, filters, and lists what it holds. A new store is a new row of the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.retrieve import limit_of
from bedrock_marengo.validation import short_repr
from langchain_marengo.s3_vectors_store import s3_vectors_add, s3_vectors_rows, s3_vectors_search
from langchain_marengo.store_filters import (
    dict_filter,
    exact_sources,
    metadata_filter,
    milvus_text,
    sql_filter,
    sql_text,
    term_filter,
)

__all__ = ["KNOWN_STORES", "KnownStore", "ScoredDocument", "StoredRow", "find_known_store"]

ScoredDocument = tuple[Document, float | None]
"""A Document and its cosine similarity to the query; None if the store returns something else."""


class StoredRow(NamedTuple):
    """One row that a store holds."""

    id: str
    text: str
    metadata: Mapping[str, Any]


def _add_documents(store: Any, documents: Mapping[str, Document]) -> None:
    store.add_documents(list(documents.values()), ids=list(documents))


def _delete_ids(store: Any, ids: list[str]) -> None:
    store.delete(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """What differs between stores.

    Attributes:
        search: (store, vector, k, target, user's filter) -> hits of that target, best first. The user's filter is in
            the store's own language, and is joined with the target's.
        rows: (store, source or None for all) -> the rows that it holds.
        add: (store, id -> Document) -> None: writes rows, and replaces those with the same ids. Whatever fails, a row
            that was there is not lost.
        delete: (store, ids) -> None. Ids that another writer has deleted are skipped.
    """

    search: Callable[[Any, list[float], int, SearchTarget, Any], list[ScoredDocument]]
    rows: Callable[[Any, str | None], Iterable[StoredRow]]
    add: Callable[[Any, Mapping[str, Document]], None] = _add_documents
    delete: Callable[[Any, list[str]], Any] = _delete_ids


def find_known_store(store: VectorStore) -> KnownStore | None:
    """The entry for a store's class or one of its base classes, by name, so that no store's package is imported."""
    for cls in type(store).__mro__:
        for name in (f"{cls.__module__.partition('.')[0]}.{cls.__name__}", cls.__name__):
            if name in KNOWN_STORES:
                return KNOWN_STORES[name]
    return None


# InMemoryVectorStore


def _in_memory_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    holds = metadata_filter(target)
    if user_filter is not None and not callable(user_filter):
        raise ConfigurationError(
            f"filter={short_repr(user_filter)}: for InMemoryVectorStore, expected a callable from a Document to bool."
        )
    found: list[ScoredDocument] = store.similarity_search_with_score_by_vector(
        vector, k, filter=lambda document: holds(document.metadata) and (user_filter is None or user_filter(document))
    )
    return found


def _in_memory_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    # A list, because another thread may add rows.
    return _of_source((StoredRow(key, row["text"], row["metadata"]) for key, row in list(store.store.items())), source)


# Chroma


def _chroma_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    found = store.similarity_search_by_vector_with_relevance_scores(vector, k, filter=dict_filter(target, user_filter))
    settings = store._collection.configuration_json or {}
    space = next((settings[name]["space"] for name in ("hnsw", "spann") if settings.get(name)), None)
    return _similar(found, space == "cosine")


def _chroma_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    offset = 0
    while True:
        where = {"source": source} if source is not None else None
        page = store.get(where=where, include=["documents", "metadatas"], limit=1000, offset=offset)
        yield from map(StoredRow, page["ids"], page["documents"], page["metadatas"])
        offset += len(page["ids"])
        if len(page["ids"]) < 1000:
            return


# Qdrant


def _qdrant_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    from qdrant_client import models

    def field(name: str, **how: Any) -> Any:
        return models.FieldCondition(key=f"{store.metadata_payload_key}.{name}", **how)

    must = [
        field("embedding_option", match=models.MatchValue(value=target.track)),
        field("embedding_scope", match=models.MatchValue(value=target.scope)),
    ]
    if sources := exact_sources(target):
        must.append(field("source", match=models.MatchAny(any=sources)))
    if target.start_sec is not None:
        must.append(field("end_sec", range=models.Range(gt=target.start_sec)))
    if target.end_sec is not None:
        must.append(field("start_sec", range=models.Range(lt=target.end_sec)))
    if user_filter is not None:
        must.append(user_filter)
    found = store.similarity_search_with_score_by_vector(vector, k, filter=models.Filter(must=must))
    return [(document, score if store.distance == models.Distance.COSINE else None) for document, score in found]


def _qdrant_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    from qdrant_client import models

    key = f"{store.metadata_payload_key}.source"
    must: list[Any] = (
        [models.FieldCondition(key=key, match=models.MatchValue(value=source))] if source is not None else []
    )
    offset = None
    while True:
        rows, offset = store.client.scroll(
            store.collection_name,
            scroll_filter=models.Filter(must=must),
            limit=1000,
            offset=offset,
            with_payload=[store.content_payload_key, store.metadata_payload_key],
        )
        text, metadata = store.content_payload_key, store.metadata_payload_key
        yield from (StoredRow(str(row.id), row.payload.get(text, ""), row.payload.get(metadata) or {}) for row in rows)
        if offset is None:
            return


# FAISS


def _faiss_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    holds = metadata_filter(target)
    if user_filter is not None and not callable(user_filter):
        user_filter = store._create_filter_func(user_filter)
    found = store.similarity_search_with_score_by_vector(
        vector,
        k,
        filter=lambda metadata: holds(metadata) and (user_filter is None or user_filter(metadata)),
        # It filters only what it has found, so it must find all rows.
        fetch_k=max(k, store.index.ntotal),
    )
    return _similar(found, False)


def _faiss_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    found = ((key, store.docstore.search(key)) for key in list(store.index_to_docstore_id.values()))
    rows = (StoredRow(key, row.page_content, row.metadata) for key, row in found if isinstance(row, Document))
    return _of_source(rows, source)


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


# PGVector and PGVectorStore (langchain-postgres)


def _pgvector_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    found = store.similarity_search_with_score_by_vector(vector, k, filter=dict_filter(target, user_filter))
    return _similar(found, "cosine" in str(store._distance_strategy).lower())


def _pgvector_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    table = store.EmbeddingStore
    with store._make_sync_session() as session:
        rows = session.query(table.id, table.document, table.cmetadata)
        rows = rows.filter(table.collection_id == store.get_collection(session).uuid)
        if source is not None:
            rows = rows.filter(table.cmetadata["source"].astext == source)
        yield from (StoredRow(str(key), text or "", metadata or {}) for key, text, metadata in rows.all())


def _pgvector_add(store: Any, documents: Mapping[str, Document]) -> None:
    # Its ids are unique across all collections of a database, and it silently keeps a row that exists.
    table = store.EmbeddingStore
    with store._make_sync_session() as session:
        others = session.query(table.id).filter(table.id.in_(documents.keys()))
        if other := others.filter(table.collection_id != store.get_collection(session).uuid).first():
            raise ConfigurationError(
                f"Another collection of this database holds the segment {other[0]}, and PGVector keeps each ID "
                "only once across all collections. Use a database for each collection, or PGVectorStore with a table "
                "for each."
            )
    _add_documents(store, documents)


def _pgvectorstore_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    found = store.similarity_search_with_score_by_vector(vector, k, filter=dict_filter(target, user_filter))
    strategy = store._PGVectorStore__vs.distance_strategy
    return _similar(found, "cosine" in str(strategy).lower())


def _pgvectorstore_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    where = {"source": {"$eq": source}} if source is not None else None
    # Without a limit it returns as few as its searches do.
    found = store.get(where=where, include=["documents", "metadatas"], limit=2**31 - 1)
    yield from map(StoredRow, found["ids"], found["documents"], found["metadatas"])


# LanceDB (langchain-community)


def _lancedb_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    table = store.get_table()
    if table is None:
        return []
    where = sql_filter(target, user_filter, "metadata.{}".format, sql_text)
    rows = table.search(vector, vector_column_name=store._vector_key).distance_type("cosine")
    found = store.results_to_docs(rows.where(where, prefilter=True).limit(k).to_arrow(), score=True)
    return _similar(found, True)


def _lancedb_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    table = store.get_table()
    if table is None:
        return
    rows = table.search().select([store._id_key, store._text_key, "metadata"]).limit(table.count_rows())
    if source is not None:
        rows = rows.where(f"metadata.source = {sql_text(source)}")
    yield from (StoredRow(row[store._id_key], row[store._text_key], row["metadata"]) for row in rows.to_list())


def _lancedb_add(store: Any, documents: Mapping[str, Document]) -> None:
    if store.mode != "append":
        raise ConfigurationError(
            f"This LanceDB has mode={store.mode!r}, its default, which empties the table each time rows are added. "
            "Create it with mode='append'."
        )
    table = store.get_table()
    if table is None:
        _add_documents(store, documents)
        return
    vectors = store._embedding.embed_documents([document.page_content for document in documents.values()])
    # A field that a row lacks would keep its old value.
    empty = dict.fromkeys(field.name for field in table.schema.field("metadata").type)
    names = (store._vector_key, store._id_key, store._text_key, "metadata")
    rows = [
        dict(zip(names, (vector, key, row.page_content, {**empty, **row.metadata}), strict=True))
        for vector, (key, row) in zip(vectors, documents.items(), strict=True)
    ]
    _lance_upsert(table, store._id_key, rows)


def _lance_upsert(table: Any, key: str, rows: list[dict[str, Any]]) -> None:
    table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)


# LanceDB (langchain-lancedb): metadata is one JSON text, so that only the track can be filtered for, in the URI.


def _partner_lancedb_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    table, _ = store._get_or_create_table()
    if table is None:
        return []
    where = f"text LIKE {sql_text(f'%#t=%&track={target.track}&job=%')}"
    rows = (
        table.search(vector)
        .distance_type("cosine")
        .where(f"{where} AND ({user_filter})" if user_filter else where, prefilter=True)
    )
    found = (
        (Document(id=row["id"], page_content=row["text"], metadata=json.loads(row["metadata"])), row["_distance"])
        for row in rows.limit(k).to_list()
    )
    return _similar(found, True)


def _partner_lancedb_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    table, _ = store._get_or_create_table()
    if table is None:
        return
    rows = table.search().select(["id", "text", "metadata"]).limit(table.count_rows()).to_list()
    yield from _of_source((StoredRow(row["id"], row["text"], json.loads(row["metadata"])) for row in rows), source)


def _partner_lancedb_add(store: Any, documents: Mapping[str, Document]) -> None:
    table, _ = store._get_or_create_table()
    if table is None:
        _add_documents(store, documents)
        return
    vectors = store._embedding_function.embed_documents([document.page_content for document in documents.values()])
    rows = [
        {"vector": vector, "text": row.page_content, "metadata": json.dumps(row.metadata), "id": key}
        for vector, (key, row) in zip(vectors, documents.items(), strict=True)
    ]
    _lance_upsert(table, "id", rows)


# Milvus


def _milvus_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    if not store.client.has_collection(store.collection_name):
        return []
    where = sql_filter(target, user_filter, str, milvus_text)
    found = store.similarity_search_with_score_by_vector(vector, k, expr=where)
    return [(document, score if _milvus_metric(store) == "COSINE" else None) for document, score in found]


def _milvus_metric(store: Any) -> str | None:
    params = store.search_params
    if isinstance(params, list):
        params = params[0] if params else None
    return params.get("metric_type") if params else None


def _milvus_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    if not store.client.has_collection(store.collection_name):
        return
    key = store._primary_field
    where = f"source == {milvus_text(source)}" if source is not None else f'{key} != ""'
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
        _add_documents(store, documents)
    else:
        store.upsert(ids=list(documents), documents=list(documents.values()))


# OpenSearch


def _opensearch_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    terms = term_filter(target, user_filter, "metadata.{}.keyword".format)
    found = store.similarity_search_with_score_by_vector(vector, k, efficient_filter={"bool": {"filter": terms}})
    # The meaning of its score depends on the engine and the space.
    return _similar(found, False)


def _opensearch_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    query = {"term": {"metadata.source.keyword": source}} if source is not None else {"match_all": {}}
    body = {"query": query, "_source": ["text", "metadata"], "size": 1000}
    page = store.client.search(index=store.index_name, body=body, params={"scroll": "5m"})
    while rows := page["hits"]["hits"]:
        for row in rows:
            yield StoredRow(row["_id"], row["_source"].get("text", ""), row["_source"]["metadata"])
        page = store.client.scroll(body={"scroll_id": page["_scroll_id"], "scroll": "5m"})


# Elasticsearch (langchain-elasticsearch)


def _elasticsearch_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    def with_candidates(body: dict[str, Any], query: str | None) -> dict[str, Any]:
        # The store asks for 50, and Elasticsearch wants at least k, and at most 10,000.
        if "knn" in body:
            body["knn"]["num_candidates"] = max(k, min(2 * k, limit_of(store)))
        return body

    found = store.similarity_search_by_vector_with_relevance_scores(
        vector,
        k,
        filter=term_filter(target, user_filter, partial(_elasticsearch_keyword, store)),
        custom_query=with_candidates,
    )
    # Its index keeps vectors quantized, and its scores are of those.
    return _similar(found, False)


def _elasticsearch_keyword(store: Any, name: str) -> str:
    # Elasticsearch's own mapping of a text has a second field for it.
    mapped = (store._store.metadata_mappings or {}).get(name, {})
    return f"metadata.{name}" if mapped.get("type") == "keyword" else f"metadata.{name}.keyword"


def _elasticsearch_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    client, inner = store.client, store._store
    query = {"term": {_elasticsearch_keyword(store, "source"): source}} if source is not None else {"match_all": {}}
    fields = [inner.text_field, "metadata"]
    page = client.search(index=inner.index, query=query, source=fields, size=1000, scroll="5m")
    while rows := page["hits"]["hits"]:
        for row in rows:
            yield StoredRow(row["_id"], row["_source"].get(inner.text_field, ""), row["_source"]["metadata"])
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="5m")


KNOWN_STORES: Mapping[str, KnownStore] = {
    "InMemoryVectorStore": KnownStore(search=_in_memory_search, rows=_in_memory_rows),
    "Chroma": KnownStore(search=_chroma_search, rows=_chroma_rows),
    "QdrantVectorStore": KnownStore(search=_qdrant_search, rows=_qdrant_rows),
    "FAISS": KnownStore(search=_faiss_search, rows=_faiss_rows, add=_faiss_add, delete=_faiss_delete),
    "PGVector": KnownStore(search=_pgvector_search, rows=_pgvector_rows, add=_pgvector_add),
    "PGVectorStore": KnownStore(search=_pgvectorstore_search, rows=_pgvectorstore_rows),
    "Milvus": KnownStore(search=_milvus_search, rows=_milvus_rows, add=_milvus_add),
    "langchain_lancedb.LanceDB": KnownStore(
        search=_partner_lancedb_search, rows=_partner_lancedb_rows, add=_partner_lancedb_add
    ),
    "LanceDB": KnownStore(search=_lancedb_search, rows=_lancedb_rows, add=_lancedb_add),
    "AmazonS3Vectors": KnownStore(
        search=s3_vectors_search,
        rows=lambda store, source: map(StoredRow._make, s3_vectors_rows(store, source)),
        add=s3_vectors_add,
    ),
    "langchain_elasticsearch.ElasticsearchStore": KnownStore(search=_elasticsearch_search, rows=_elasticsearch_rows),
    "OpenSearchVectorSearch": KnownStore(search=_opensearch_search, rows=_opensearch_rows),
}


def _similar(found: Iterable[tuple[Document, float]], is_cosine_distance: bool) -> list[ScoredDocument]:
    return [(document, 1.0 - distance if is_cosine_distance else None) for document, distance in found]


def _of_source(rows: Iterable[StoredRow], source: str | None) -> Iterator[StoredRow]:
    return (row for row in rows if source is None or row.metadata.get("source") == source)
