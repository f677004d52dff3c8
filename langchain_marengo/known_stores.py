"""How each known store searches one track by vector, filters, and lists what it holds. A new store is a new row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.validation import short_repr

__all__ = ["KNOWN_STORES", "Found", "KnownStore", "Row", "find_known_store"]

Found = tuple[Document, float | None]
"""A Document and its cosine similarity; None where the store tells something else."""

Row = tuple[str, Mapping[str, Any]]
"""The id and the metadata of one stored segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """What differs between stores.

    Attributes:
        search: (store, vector, k, place, the user's own filter) -> hits of that place, best first. The own filter is
            what the store itself takes, and is joined with ours.
        rows: (store, source or None for all) -> what it holds.
        make_room: (store, ids) -> None, before these ids are added: for stores that don't replace by id.
        max_k: most hits a search may ask for.
    """

    search: Callable[[Any, list[float], int, SearchTarget, Any], list[Found]]
    rows: Callable[[Any, str | None], Iterable[Row]]
    make_room: Callable[[Any, Sequence[str]], None] | None = None
    max_k: int | None = None


def find_known_store(store: VectorStore) -> KnownStore | None:
    """The row of a store's class or of one it derives from, by name, so that no store's package is imported."""
    for cls in type(store).__mro__:
        for name in (f"{cls.__module__.partition('.')[0]}.{cls.__name__}", cls.__name__):
            if name in KNOWN_STORES:
                return KNOWN_STORES[name]
    return None


# InMemoryVectorStore


def _in_memory_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    holds = _holds(place)
    if own is not None and not callable(own):
        raise ConfigurationError(
            f"filter={short_repr(own)}: InMemoryVectorStore takes a callable from a Document to bool."
        )
    found: list[Found] = store.similarity_search_with_score_by_vector(
        vector, k, filter=lambda document: holds(document.metadata) and (own is None or own(document))
    )
    return found


def _in_memory_rows(store: Any, source: str | None) -> Iterator[Row]:
    return _only(((key, row["metadata"]) for key, row in store.store.items()), source)


# Chroma


def _chroma_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    found = store.similarity_search_by_vector_with_relevance_scores(vector, k, filter=_dict_filter(place, own))
    settings = store._collection.configuration_json or {}
    space = next((settings[name]["space"] for name in ("hnsw", "spann") if settings.get(name)), None)
    return _similar(found, space == "cosine")


def _chroma_rows(store: Any, source: str | None) -> Iterator[Row]:
    offset = 0
    while True:
        where = {"source": source} if source is not None else None
        page = store.get(where=where, include=["metadatas"], limit=1000, offset=offset)
        yield from zip(page["ids"], page["metadatas"], strict=True)
        offset += len(page["ids"])
        if len(page["ids"]) < 1000:
            return


# Qdrant


def _qdrant_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    from qdrant_client import models

    def field(name: str, **how: Any) -> Any:
        return models.FieldCondition(key=f"{store.metadata_payload_key}.{name}", **how)

    must = [
        field("embedding_option", match=models.MatchValue(value=place.track)),
        field("embedding_scope", match=models.MatchValue(value=place.scope)),
    ]
    if sources := _exact_sources(place):
        must.append(field("source", match=models.MatchAny(any=sources)))
    if place.start_sec is not None:
        must.append(field("end_sec", range=models.Range(gt=place.start_sec)))
    if place.end_sec is not None:
        must.append(field("start_sec", range=models.Range(lt=place.end_sec)))
    if own is not None:
        must.append(own)
    found = store.similarity_search_with_score_by_vector(vector, k, filter=models.Filter(must=must))
    return [(document, score if store.distance == models.Distance.COSINE else None) for document, score in found]


def _qdrant_rows(store: Any, source: str | None) -> Iterator[Row]:
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
            with_payload=[store.metadata_payload_key],
        )
        yield from ((str(row.id), row.payload[store.metadata_payload_key]) for row in rows)
        if offset is None:
            return


# FAISS


def _faiss_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    holds = _holds(place)
    if own is not None and not callable(own):
        own = store._create_filter_func(own)
    found = store.similarity_search_with_score_by_vector(
        vector,
        k,
        filter=lambda metadata: holds(metadata) and (own is None or own(metadata)),
        # It filters what it has found: all must be found.
        fetch_k=max(k, store.index.ntotal),
    )
    return _similar(found, False)


def _faiss_rows(store: Any, source: str | None) -> Iterator[Row]:
    found = ((key, store.docstore.search(key)) for key in list(store.index_to_docstore_id.values()))
    return _only(((key, row.metadata) for key, row in found if isinstance(row, Document)), source)


def _faiss_make_room(store: Any, ids: Sequence[str]) -> None:
    # FAISS raises on an id that it has, with its index half changed.
    known = set(store.index_to_docstore_id.values())
    if again := [key for key in ids if key in known]:
        store.delete(again)


# PGVector and PGVectorStore (langchain-postgres)


def _pgvector_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    found = store.similarity_search_with_score_by_vector(vector, k, filter=_dict_filter(place, own))
    return _similar(found, "cosine" in str(store._distance_strategy).lower())


def _pgvector_rows(store: Any, source: str | None) -> Iterator[Row]:
    table = store.EmbeddingStore
    with store._make_sync_session() as session:
        rows = session.query(table.id, table.cmetadata)
        rows = rows.filter(table.collection_id == store.get_collection(session).uuid)
        if source is not None:
            rows = rows.filter(table.cmetadata["source"].astext == source)
        yield from ((str(key), metadata) for key, metadata in rows.all())


def _pgvector_make_room(store: Any, ids: Sequence[str]) -> None:
    # Its ids are unique over all collections of a database; a row that exists stays where it is, without a word.
    table = store.EmbeddingStore
    with store._make_sync_session() as session:
        others = session.query(table.id).filter(table.id.in_(ids))
        if other := others.filter(table.collection_id != store.get_collection(session).uuid).first():
            raise ConfigurationError(
                f"Another collection of this database holds the segment {other[0]}, and PGVector keeps an id once for "
                "all collections: use a database for each collection, or PGVectorStore, which has a table for each."
            )


def _pgvectorstore_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    found = store.similarity_search_with_score_by_vector(vector, k, filter=_dict_filter(place, own))
    strategy = store._PGVectorStore__vs.distance_strategy
    return _similar(found, "cosine" in str(strategy).lower())


def _pgvectorstore_rows(store: Any, source: str | None) -> Iterator[Row]:
    where = {"source": {"$eq": source}} if source is not None else None
    # Without a limit it gives the number that its searches do.
    found = store.get(where=where, include=["metadatas"], limit=2**31 - 1)
    yield from zip(found["ids"], found["metadatas"], strict=True)


# LanceDB (langchain-community)


def _lancedb_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    table = store.get_table()
    if table is None:
        return []
    where = _sql_filter(place, own, "metadata.{}".format, _sql_text)
    rows = table.search(vector, vector_column_name=store._vector_key).distance_type("cosine")
    found = store.results_to_docs(rows.where(where, prefilter=True).limit(k).to_arrow(), score=True)
    return _similar(found, True)


def _lancedb_rows(store: Any, source: str | None) -> Iterator[Row]:
    table = store.get_table()
    if table is None:
        return
    rows = table.search().select([store._id_key, "metadata"]).limit(table.count_rows())
    if source is not None:
        rows = rows.where(f"metadata.source = {_sql_text(source)}")
    yield from ((row[store._id_key], row["metadata"]) for row in rows.to_list())


def _lancedb_make_room(store: Any, ids: Sequence[str]) -> None:
    if store.mode != "append":
        raise ConfigurationError(
            f"This LanceDB has mode={store.mode!r}, its default, which empties the table at each add: make it with "
            "mode='append'."
        )
    table = store.get_table()
    if table is not None:
        table.delete(f"{store._id_key} IN ({', '.join(map(_sql_text, ids))})")


# LanceDB (langchain-lancedb): metadata are one JSON text, so only the track can be asked for, by the URI.


def _partner_lancedb_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    table, _ = store._get_or_create_table()
    if table is None:
        return []
    where = f"text LIKE {_sql_text(f'%#t=%&track={place.track}&job=%')}"
    rows = table.search(vector).distance_type("cosine").where(f"{where} AND ({own})" if own else where, prefilter=True)
    found = (
        (Document(id=row["id"], page_content=row["text"], metadata=json.loads(row["metadata"])), row["_distance"])
        for row in rows.limit(k).to_list()
    )
    return _similar(found, True)


def _partner_lancedb_rows(store: Any, source: str | None) -> Iterator[Row]:
    table, _ = store._get_or_create_table()
    if table is None:
        return
    rows = table.search().select(["id", "metadata"]).limit(table.count_rows()).to_list()
    yield from _only(((row["id"], json.loads(row["metadata"])) for row in rows), source)


def _partner_lancedb_make_room(store: Any, ids: Sequence[str]) -> None:
    table, _ = store._get_or_create_table()
    if table is not None:
        table.delete(f"id IN ({', '.join(map(_sql_text, ids))})")


# Milvus


def _milvus_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    if not store.client.has_collection(store.collection_name):
        return []
    where = _sql_filter(place, own, str, _milvus_text)
    found = store.similarity_search_with_score_by_vector(vector, k, expr=where)
    return [(document, score if _milvus_metric(store) == "COSINE" else None) for document, score in found]


def _milvus_metric(store: Any) -> str | None:
    params = store.search_params
    if isinstance(params, list):
        params = params[0] if params else None
    return params.get("metric_type") if params else None


def _milvus_rows(store: Any, source: str | None) -> Iterator[Row]:
    if not store.client.has_collection(store.collection_name):
        return
    key = store._primary_field
    where = f"source == {_milvus_text(source)}" if source is not None else f'{key} != ""'
    pages = store.client.query_iterator(store.collection_name, 1000, filter=where, output_fields=["*"])
    own = {key, store._text_field, store._vector_field}
    while page := pages.next():
        yield from ((str(row[key]), {name: row[name] for name in row.keys() - own}) for row in page)
    pages.close()


def _milvus_make_room(store: Any, ids: Sequence[str]) -> None:
    if ids and store.client.has_collection(store.collection_name):
        store.delete(list(ids))


# Amazon S3 Vectors (langchain-aws)


def _s3_vectors_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    # Its own search by vector leaves the distance out.
    reply = store.client.query_vectors(
        vectorBucketName=store.vector_bucket_name,
        indexName=store.index_name,
        topK=k,
        queryVector={store.data_type: vector},
        filter=_dict_filter(place, own),
        returnMetadata=True,
        returnDistance=True,
    )
    found = ((store._create_document(row), row["distance"]) for row in reply["vectors"])
    return _similar(found, store.distance_metric == "cosine")


def _s3_vectors_rows(store: Any, source: str | None) -> Iterator[Row]:
    # ListVectors has no filter: the whole index is listed.
    pages = store.client.get_paginator("list_vectors").paginate(
        vectorBucketName=store.vector_bucket_name, indexName=store.index_name, returnMetadata=True
    )
    return _only(((row["key"], row["metadata"]) for page in pages for row in page["vectors"]), source)


# OpenSearch


def _opensearch_search(store: Any, vector: list[float], k: int, place: SearchTarget, own: Any) -> list[Found]:
    terms: list[Any] = [
        {"term": {"metadata.embedding_option.keyword": place.track}},
        {"term": {"metadata.embedding_scope.keyword": place.scope}},
    ]
    if sources := _exact_sources(place):
        terms.append({"terms": {"metadata.source.keyword": sources}})
    if place.start_sec is not None:
        terms.append({"range": {"metadata.end_sec": {"gt": place.start_sec}}})
    if place.end_sec is not None:
        terms.append({"range": {"metadata.start_sec": {"lt": place.end_sec}}})
    if own is not None:
        terms.append(own)
    found = store.similarity_search_with_score_by_vector(vector, k, efficient_filter={"bool": {"filter": terms}})
    # What its score means depends on the engine and the space.
    return _similar(found, False)


def _opensearch_rows(store: Any, source: str | None) -> Iterator[Row]:
    query = {"term": {"metadata.source.keyword": source}} if source is not None else {"match_all": {}}
    body = {"query": query, "_source": ["metadata"], "size": 1000}
    page = store.client.search(index=store.index_name, body=body, params={"scroll": "5m"})
    while rows := page["hits"]["hits"]:
        yield from ((row["_id"], row["_source"]["metadata"]) for row in rows)
        page = store.client.scroll(body={"scroll_id": page["_scroll_id"], "scroll": "5m"})


KNOWN_STORES: Mapping[str, KnownStore] = {
    "InMemoryVectorStore": KnownStore(search=_in_memory_search, rows=_in_memory_rows),
    "Chroma": KnownStore(search=_chroma_search, rows=_chroma_rows),
    "QdrantVectorStore": KnownStore(search=_qdrant_search, rows=_qdrant_rows),
    "FAISS": KnownStore(search=_faiss_search, rows=_faiss_rows, make_room=_faiss_make_room),
    "PGVector": KnownStore(search=_pgvector_search, rows=_pgvector_rows, make_room=_pgvector_make_room),
    "PGVectorStore": KnownStore(search=_pgvectorstore_search, rows=_pgvectorstore_rows),
    "Milvus": KnownStore(search=_milvus_search, rows=_milvus_rows, make_room=_milvus_make_room, max_k=16_384),
    "langchain_lancedb.LanceDB": KnownStore(
        search=_partner_lancedb_search, rows=_partner_lancedb_rows, make_room=_partner_lancedb_make_room
    ),
    "LanceDB": KnownStore(search=_lancedb_search, rows=_lancedb_rows, make_room=_lancedb_make_room),
    "AmazonS3Vectors": KnownStore(search=_s3_vectors_search, rows=_s3_vectors_rows, max_k=100),
    "OpenSearchVectorSearch": KnownStore(search=_opensearch_search, rows=_opensearch_rows, max_k=10_000),
}
"""Limits: S3 Vectors' pages say 100 a query, OpenSearch's 10,000, Milvus' 16,384."""


def _holds(place: SearchTarget) -> Callable[[Mapping[str, Any]], bool]:
    """``Place.holds`` for metadata, for stores that filter by a function."""
    sources = _exact_sources(place)

    def holds(metadata: Mapping[str, Any]) -> bool:
        return (
            metadata.get("embedding_option") == place.track
            and metadata.get("embedding_scope") == place.scope
            and (not sources or metadata["source"] in sources)
            and (place.start_sec is None or metadata["end_sec"] > place.start_sec)
            and (place.end_sec is None or metadata["start_sec"] < place.end_sec)
        )

    return holds


def _dict_filter(place: SearchTarget, own: Any) -> dict[str, Any]:
    """The dialect that Chroma, both PGVectors and S3 Vectors share."""
    terms: list[Any] = [
        {"embedding_option": {"$eq": place.track}},
        {"embedding_scope": {"$eq": place.scope}},
    ]
    if sources := _exact_sources(place):
        terms.append({"source": {"$in": sources}})
    # Floats: PGVectorStore makes the column's type of the literal's.
    if place.start_sec is not None:
        terms.append({"end_sec": {"$gt": float(place.start_sec)}})
    if place.end_sec is not None:
        terms.append({"start_sec": {"$lt": float(place.end_sec)}})
    return {"$and": [*terms, own] if own else terms}


def _sql_filter(place: SearchTarget, own: Any, name: Callable[[str], str], text: Callable[[str], str]) -> str:
    """The dialect that LanceDB and Milvus share, but for names and quotes."""
    equals = "==" if text is _milvus_text else "="
    terms = [
        f"{name('embedding_option')} {equals} {text(place.track)}",
        f"{name('embedding_scope')} {equals} {text(place.scope)}",
    ]
    if sources := _exact_sources(place):
        anyone = ", ".join(map(text, sources))
        terms.append(f"{name('source')} " + (f"in [{anyone}]" if text is _milvus_text else f"IN ({anyone})"))
    if place.start_sec is not None:
        terms.append(f"{name('end_sec')} > {float(place.start_sec)}")
    if place.end_sec is not None:
        terms.append(f"{name('start_sec')} < {float(place.end_sec)}")
    return " and ".join([*terms, f"({own})"] if own else terms)


def _sql_text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _milvus_text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _exact_sources(place: SearchTarget) -> list[str]:
    # A prefix is no equality: then what comes back is sifted after the search.
    return [] if any(source.endswith("/") for source in place.sources) else list(place.sources)


def _similar(found: Iterable[tuple[Document, float]], is_cosine_distance: bool) -> list[Found]:
    return [(document, 1.0 - distance if is_cosine_distance else None) for document, distance in found]


def _only(rows: Iterable[Row], source: str | None) -> Iterator[Row]:
    return (row for row in rows if source is None or row[1].get("source") == source)
