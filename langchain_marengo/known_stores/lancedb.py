"""LanceDB of langchain-community and of langchain-lancedb."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.lancedb import create_scalar_indexes, create_text_index, query_words
from langchain_marengo.known_stores.known_store import (
    KnownStore,
    NewStore,
    ScoredDocument,
    StoredRow,
    add_documents,
    of_source,
    similar,
)
from langchain_marengo.store_filters import sql_filter, sql_text


def _lancedb_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    table = store.get_table()
    if table is None:
        return []
    where = sql_filter(target, user_filter, "metadata.{}".format, sql_text)
    rows = table.search(vector, vector_column_name=store._vector_key).distance_type("cosine")
    if where:
        rows = rows.where(where, prefilter=True)
    found = store.results_to_docs(rows.limit(k).to_arrow(), score=True)
    return similar(found, True)


def _lancedb_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    table = store.get_table()
    if table is None:
        return []
    where = sql_filter(target, user_filter, "metadata.{}".format, sql_text)
    found = query_words(table, store._text_key, text, k, where)
    return [
        (Document(id=row[store._id_key], page_content=row[store._text_key], metadata=row["metadata"]), row["_score"])
        for row in found
    ]


def _lancedb_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    table = store.get_table()
    if table is None:
        return
    rows = table.search().select([store._id_key, store._text_key, "metadata"]).limit(table.count_rows())
    terms = [f"metadata.source = {sql_text(source)}"] if source is not None else []
    terms += [f"({user_filter})"] if user_filter else []
    if terms:
        rows = rows.where(" AND ".join(terms))
    yield from (StoredRow(row[store._id_key], row[store._text_key], row["metadata"]) for row in rows.to_list())


def _lancedb_add(store: Any, documents: Mapping[str, Document]) -> None:
    if store.mode != "append":
        raise ConfigurationError(
            f"This LanceDB has mode={store.mode!r}, its default, which empties the table each time rows are added. "
            "Create it with mode='append'."
        )
    table = store.get_table()
    if table is None:
        add_documents(store, documents)
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
    terms = [f"text LIKE {sql_text(f'%#t=%&track={target.track}&job=%')}"] if target.equals else []
    terms += [f"({user_filter})"] if user_filter else []
    rows = table.search(vector).distance_type("cosine")
    if terms:
        rows = rows.where(" AND ".join(terms), prefilter=True)
    return similar(((_partner_document(row), row["_distance"]) for row in rows.limit(k).to_list()), True)


def _partner_lancedb_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    table, _ = store._get_or_create_table()
    if table is None:
        return []
    where = f"({user_filter})" if user_filter else ""
    return [(_partner_document(row), row["_score"]) for row in query_words(table, "text", text, k, where)]


def _partner_document(row: Mapping[str, Any]) -> Document:
    return Document(id=row["id"], page_content=row["text"], metadata=json.loads(row["metadata"]))


def _partner_lancedb_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    table, _ = store._get_or_create_table()
    if table is None:
        return
    rows = table.search().select(["id", "text", "metadata"]).limit(table.count_rows())
    if user_filter:
        rows = rows.where(user_filter)
    found = (StoredRow(row["id"], row["text"], json.loads(row["metadata"])) for row in rows.to_list())
    yield from of_source(found, source)


def _partner_lancedb_add(store: Any, documents: Mapping[str, Document]) -> None:
    table, _ = store._get_or_create_table()
    if table is None:
        add_documents(store, documents)
        return
    vectors = store._embedding_function.embed_documents([document.page_content for document in documents.values()])
    rows = [
        {"vector": vector, "text": row.page_content, "metadata": json.dumps(row.metadata), "id": key}
        for vector, (key, row) in zip(vectors, documents.items(), strict=True)
    ]
    _lance_upsert(table, "id", rows)


def _lancedb_create(new: NewStore) -> Any:
    return new.cls(embedding=new.embeddings, table_name=new.name, mode="append", **new.connection)


def _partner_lancedb_create(new: NewStore) -> Any:
    return new.cls(new.embeddings, table_name=new.name, **new.connection)


def _lancedb_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    table = store.get_table()
    if table is None:
        return []
    return [*create_scalar_indexes(table), create_text_index(table, store._text_key)]


def _partner_lancedb_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    table, _ = store._get_or_create_table()
    return [create_text_index(table, "text")] if table is not None else []


COMMUNITY_LANCEDB = KnownStore(
    search=_lancedb_search,
    text_search=_lancedb_text_search,
    rows=_lancedb_rows,
    add=_lancedb_add,
    create=_lancedb_create,
    create_indexes=_lancedb_create_indexes,
)
LANCEDB = KnownStore(
    search=_partner_lancedb_search,
    text_search=_partner_lancedb_text_search,
    rows=_partner_lancedb_rows,
    add=_partner_lancedb_add,
    create=_partner_lancedb_create,
    create_indexes=_partner_lancedb_create_indexes,
)
