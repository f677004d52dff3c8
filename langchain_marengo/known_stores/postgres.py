"""PGVector and PGVectorStore (langchain-postgres)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.postgres import (
    EXACT,
    VERSION,
    create_btree,
    create_hnsw,
    quoted,
    scan_settings,
    sql_text,
    store_inline,
)
from langchain_marengo.known_stores.known_store import (
    KnownStore,
    NewStore,
    ScoredDocument,
    StoredRow,
    add_documents,
    similar,
)
from langchain_marengo.store_filters import dict_filter


def _pgvector_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    found = store.similarity_search_with_score_by_vector(vector, k, filter=dict_filter(target, user_filter))
    return similar(found, "cosine" in str(store._distance_strategy).lower())


def _pgvector_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    table = store.EmbeddingStore
    with store._make_sync_session() as session:
        rows = session.query(table.id, table.document, table.cmetadata)
        rows = rows.filter(table.collection_id == store.get_collection(session).uuid)
        if source is not None:
            rows = rows.filter(table.cmetadata["source"].astext == source)
        if user_filter:
            rows = rows.filter(*_pgvector_filter(store, user_filter))
        yield from (StoredRow(str(key), text or "", metadata or {}) for key, text, metadata in rows.all())


def _pgvector_filter(store: Any, user_filter: Any) -> list[Any]:
    if store.use_jsonb:
        return [store._create_filter_clause(user_filter)]
    clauses: list[Any] = store._create_filter_clause_json_deprecated(user_filter)
    return clauses


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
    add_documents(store, documents)


def _pgvectorstore_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    inner = store._PGVectorStore__vs
    found = store._engine._run_as_sync(_nearest(inner, vector, k, target, user_filter))
    return similar(found, "cosine" in str(inner.distance_strategy).lower())


async def _nearest(
    inner: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    """As the store's own search, which returns the vectors, too, and no more rows than hnsw.ef_search."""
    from sqlalchemy import text

    # Literals, not parameters: a partial index serves only a filter that is known when the search is planned.
    terms = [f"{_field(inner, name)} = {sql_text(value)}" for name, value in target.equals.items()]
    params = {"query": str(vector)}
    rest = dict_filter(replace(target, is_implied=True), user_filter)
    distance = f"{quoted(inner.embedding_column)} {inner.distance_strategy.operator} :query AS distance"
    statement, given = _select(inner, distance, terms, rest, f"distance LIMIT {int(k)}")
    params |= given
    async with inner.engine.connect() as connection:
        for setting in inner.index_query_options.to_parameter() if inner.index_query_options else ():
            await connection.execute(text(f"SET LOCAL {setting}"))
        if inner.engine not in _versions:
            _versions[inner.engine] = (await connection.execute(text(VERSION))).scalar() or "0.0"
        ef_search = getattr(inner.index_query_options, "ef_search", 0)
        settings = scan_settings(k, _versions[inner.engine], ef_search=ef_search, is_selective=bool(rest))
        await connection.execute(text(settings))
        rows = (await connection.execute(statement, params)).mappings().all()
        if len(rows) < k:
            await connection.execute(text(EXACT))
            rows = (await connection.execute(statement, params)).mappings().all()
    return sorted(((_document(inner, row), row["distance"]) for row in rows), key=itemgetter(1))


def _pgvectorstore_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    inner = store._PGVectorStore__vs
    if inner.hybrid_search_config is None:
        raise ConfigurationError(
            "This PGVectorStore has no text search: create it with hybrid_search_config=HybridSearchConfig(...), or "
            "use words='bm25'."
        )
    found: list[tuple[Document, float]] = store._engine._run_as_sync(_by_text(inner, text, k, target, user_filter))
    return found


async def _by_text(
    inner: Any, words: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    """PostgreSQL's full text search for any of the words: its own ranks longer texts higher, so lengths count here."""
    config = inner.hybrid_search_config
    language = f"CAST({sql_text(config.tsv_lang or 'pg_catalog.simple')} AS regconfig)"
    content = f"to_tsvector({language}, {quoted(inner.content_column)})"
    document = quoted(config.tsv_column) if config.tsv_column else content
    query = f"CAST(replace(CAST(plainto_tsquery({language}, :words) AS text), '&', '|') AS tsquery)"
    rank = f"ts_rank({document}, {query}, 1) AS rank"
    order = f"rank DESC, {quoted(inner.id_column)} LIMIT {int(k)}"
    statement, given = _select(inner, rank, [f"{document} @@ {query}"], dict_filter(target, user_filter), order)
    async with inner.engine.connect() as connection:
        rows = (await connection.execute(statement, {"words": words, **given})).mappings().all()
    return [(_document(inner, row), row["rank"]) for row in rows]


def _select(inner: Any, measure: str, terms: list[str], where: Any, order: str) -> tuple[Any, dict[str, Any]]:
    """The statement that selects documents with a measure, and the parameters of its filter.

    Args:
        inner: the store.
        measure: what else is selected.
        terms: conditions in SQL.
        where: a filter in the store's own language; empty for none.
        order: of the rows, and how many.
    """
    from sqlalchemy import text

    given: dict[str, Any] = {}
    if where:
        clause, given = inner._create_filter_clause(where)
        terms = [*terms, f"({clause})"]
    columns = [inner.id_column, inner.content_column, *inner.metadata_columns]
    columns += [inner.metadata_json_column] if inner.metadata_json_column else []
    statement = text(
        f"SELECT {', '.join(map(quoted, columns))}, {measure} "  # noqa: S608
        f"FROM {quoted(inner.schema_name)}.{quoted(inner.table_name)} "
        f"{'WHERE ' + ' AND '.join(terms) if terms else ''} ORDER BY {order}"
    )
    return statement, given


_versions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Engine -> the version of its pgvector."""


def _document(inner: Any, row: Mapping[str, Any]) -> Document:
    metadata = row[inner.metadata_json_column] if inner.metadata_json_column else {}
    metadata = json.loads(metadata) if isinstance(metadata, str) else dict(metadata or {})
    metadata |= {name: row[name] for name in inner.metadata_columns}
    return Document(id=str(row[inner.id_column]), page_content=row[inner.content_column], metadata=metadata)


def _field(inner: Any, name: str) -> str:
    """A key of the metadata, as the store's filters have it."""
    if name in inner.metadata_columns or not inner.metadata_json_column:
        return name
    return f"{inner.metadata_json_column}->>{sql_text(name)}"


def _pgvectorstore_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    terms = [*([{"source": {"$eq": source}}] if source is not None else []), *([user_filter] if user_filter else [])]
    where = {"$and": terms} if len(terms) > 1 else next(iter(terms), None)
    # Without a limit it returns as few as its searches do.
    found = store.get(where=where, include=["documents", "metadatas"], limit=2**31 - 1)
    yield from map(StoredRow, found["ids"], found["documents"], found["metadatas"])


def _pgvectorstore_add(store: Any, documents: Mapping[str, Document]) -> None:
    """As the store's own method, which commits each row by itself, and so takes many times as long."""
    inner = store._PGVectorStore__vs
    if inner.hybrid_search_config is not None:
        add_documents(store, documents)
        return
    vectors = inner.embedding_service.embed_documents([document.page_content for document in documents.values()])
    columns = [inner.id_column, inner.content_column, inner.embedding_column, *inner.metadata_columns]
    rows = []
    for (key, document), vector in zip(documents.items(), vectors, strict=True):
        rest = dict(document.metadata)
        row = [key, document.page_content, str(vector), *(rest.pop(name, None) for name in inner.metadata_columns)]
        rows.append([*row, json.dumps(rest)] if inner.metadata_json_column else row)
    columns += [inner.metadata_json_column] if inner.metadata_json_column else []
    values = [{f"c{i}": value for i, value in enumerate(row)} for row in rows]
    names = [quoted(column) for column in columns]
    statement = (
        f"INSERT INTO {quoted(inner.schema_name)}.{quoted(inner.table_name)} ({', '.join(names)}) "  # noqa: S608
        f"VALUES ({', '.join(f':c{i}' for i in range(len(columns)))}) ON CONFLICT ({names[0]}) DO UPDATE SET "
        + ", ".join(f"{name} = EXCLUDED.{name}" for name in names[1:])
    )
    store._engine._run_as_sync(_execute(store._engine, [statement], values))


_COLUMNS = {
    "source": "TEXT",
    "start_sec": "DOUBLE PRECISION",
    "end_sec": "DOUBLE PRECISION",
    "embedding_option": "TEXT",
    "embedding_scope": "TEXT",
}
"""What searches filter for: real columns, where the rest of the metadata is JSON."""


def _pgvectorstore_create(new: NewStore) -> Any:
    from langchain_postgres import Column

    settings = dict(new.connection)
    engine, schema = settings.pop("engine"), settings.get("schema_name", "public")
    there = engine._run_as_sync(_columns_of(engine, schema, new.name))
    if not there:
        columns = [Column(name, kind) for name, kind in _COLUMNS.items()]
        engine.init_vectorstore_table(new.name, new.dimension, schema_name=schema, metadata_columns=columns)
    # A table that was made elsewhere may keep them in its JSON.
    settings["metadata_columns"] = [name for name in _COLUMNS if name in there or not there]
    store = new.cls.create_sync(engine, new.embeddings, new.name, **settings)
    inner = store._PGVectorStore__vs
    index = create_hnsw(schema, new.name, inner.embedding_column, inner.distance_strategy.index_function)
    inline = store_inline(schema, new.name, inner.embedding_column)
    engine._run_as_sync(_execute(engine, [*([] if there else [inline]), *index.values()]))
    return store


def _pgvectorstore_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    inner = store._PGVectorStore__vs
    indexes = create_hnsw(
        inner.schema_name,
        inner.table_name,
        inner.embedding_column,
        inner.distance_strategy.index_function,
        tracks,
        option=_field(inner, "embedding_option"),
        scope=_field(inner, "embedding_scope"),
    )
    indexes |= create_btree(inner.schema_name, inner.table_name, "source", _field(inner, "source"))
    store._engine._run_as_sync(_execute(store._engine, indexes.values()))
    return list(indexes)


async def _columns_of(engine: Any, schema: str, table: str) -> set[str]:
    """The columns of a table; none if there is no such table."""
    from sqlalchemy import text

    asked = "SELECT column_name FROM information_schema.columns WHERE table_schema = :schema AND table_name = :table"
    async with engine._pool.connect() as connection:
        return set((await connection.execute(text(asked), {"schema": schema, "table": table})).scalars())


async def _execute(engine: Any, statements: Iterable[str], rows: list[dict[str, Any]] | None = None) -> None:
    from sqlalchemy import text

    async with engine._pool.connect() as connection:
        for statement in statements:
            await connection.execute(text(statement), rows)
        await connection.commit()


# Its table is shared by all collections, and its vectors have no dimension unless one was set: it has no HNSW index.
PGVECTOR = KnownStore(search=_pgvector_search, rows=_pgvector_rows, add=_pgvector_add)
PGVECTORSTORE = KnownStore(
    search=_pgvectorstore_search,
    rows=_pgvectorstore_rows,
    text_search=_pgvectorstore_text_search,
    add=_pgvectorstore_add,
    create=_pgvectorstore_create,
    create_indexes=_pgvectorstore_create_indexes,
)
