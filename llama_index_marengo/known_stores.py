"""What differs between LlamaIndex's stores: scores, filters, threads, indexes, and how one is created. A table."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters

from bedrock_marengo import ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.search.postgres import (
    EXACT,
    VERSION,
    create_btree,
    create_hnsw,
    quoted,
    scan_settings,
    store_inline,
)
from bedrock_marengo.search.tokens import tokens_of
from llama_index_marengo.elasticsearch_store import elasticsearch_asearch, elasticsearch_search
from llama_index_marengo.lancedb_store import lancedb_create_indexes, lancedb_text_search
from llama_index_marengo.milvus_store import milvus_create, milvus_text_search
from llama_index_marengo.mongodb_store import (
    mongodb_create,
    mongodb_create_indexes,
    mongodb_nodes,
    mongodb_search,
)
from llama_index_marengo.opensearch_store import opensearch_nodes, opensearch_search, opensearch_text_search
from llama_index_marengo.pinecone_store import pinecone_create, pinecone_nodes, pinecone_search
from llama_index_marengo.s3_vectors_store import s3_vectors_create, s3_vectors_nodes, s3_vectors_search

__all__ = ["KNOWN_STORES", "UNKNOWN", "KnownStore", "NewStore", "find_known_store", "of_class"]


class NewStore(NamedTuple):
    """A vector store to create, or to open if it exists.

    Attributes:
        cls: the store's class.
        name: of the collection or table.
        dimension: length of each vector.
        connection: what its class needs to connect, as keywords.
    """

    cls: Any
    name: str
    dimension: int
    connection: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStore:
    """What differs between stores.

    Attributes:
        cosine: store -> how to turn its score into a cosine similarity; None if that is impossible.
        search: (store, vector, k, filters) -> nodes, best first; None for the index's own retriever.
        asearch: as ``search``, for ``aretrieve``, if it can't be called on another thread.
        search_sources: as ``search``, with the target's sources apart from the filters, for a store that limits those.
        text_search: (store, text, k, filters, sources) -> nodes by their text, best first, with scores above 0; the
            filters leave out the target's sources. None if the store has no text search, or none that is supported.
        nodes: store -> all its nodes, if its ``get_nodes`` can't return them.
        create: opens a collection or table for one track, with the cosine as metric; creates it if it doesn't exist.
        create_indexes: (store, tracks) -> the names of indexes on what searches filter for, which exist afterwards.
        only_equality: whether its filters know nothing but equality.
        is_only_async: store -> whether it can be searched by coroutines only.
        nothing_found: what it raises if nothing is found.
        at_once: whether several threads may search it at the same time.
        version: store -> a value that differs once rows were added, if there is one that takes next to no time.
        finds_all: whether a filtered search that finds nothing shows that the store holds nothing of the kind.
    """

    cosine: Callable[[Any], Callable[[float], float] | None] = lambda store: None
    search: Callable[[Any, list[float], int, MetadataFilters | None], list[NodeWithScore]] | None = None
    asearch: (
        Callable[[Any, list[float], int, MetadataFilters | None], Coroutine[Any, Any, list[NodeWithScore]]] | None
    ) = None
    search_sources: (
        Callable[[Any, list[float], int, MetadataFilters | None, Sequence[str]], list[NodeWithScore]] | None
    ) = None
    text_search: Callable[[Any, str, int, MetadataFilters | None, Sequence[str]], list[NodeWithScore]] | None = None
    nodes: Callable[[Any], Iterable[BaseNode]] | None = None
    create: Callable[[NewStore], Any] | None = None
    create_indexes: Callable[[Any, Sequence[str]], list[str]] | None = None
    only_equality: bool = False
    is_only_async: Callable[[Any], bool] = lambda store: False
    nothing_found: tuple[type[Exception], ...] = ()
    at_once: Callable[[Any], bool] = lambda store: True
    version: Callable[[Any], Hashable] = lambda store: None
    finds_all: bool = True


# Chroma


def _chroma_cosine(store: Any) -> Callable[[float], float] | None:
    # Its score is exp(-distance).
    settings = store._collection.configuration_json or {}
    space = next((settings[name]["space"] for name in ("hnsw", "spann") if settings.get(name)), None)
    return (lambda score: 1 + math.log(score)) if space == "cosine" else None


def _chroma_create(new: NewStore) -> Any:
    connection = dict(new.connection)
    settings = {"hnsw": {"space": "cosine", "ef_search": 100}}
    collection = connection.pop("client").get_or_create_collection(new.name, configuration=settings)
    return new.cls(chroma_collection=collection, **connection)


# Qdrant

_QDRANT_KEYS = {
    "embedding_option": "keyword",
    "embedding_scope": "keyword",
    "source": "keyword",
    "start_sec": "float",
    "end_sec": "float",
}


def _qdrant_create(new: NewStore) -> Any:
    store = new.cls(new.name, **new.connection)
    if not store.client.collection_exists(new.name):
        store._create_collection(new.name, new.dimension)
    return store


def _qdrant_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    for name, kind in _QDRANT_KEYS.items():
        # One that exists is left as it is.
        store.client.create_payload_index(store.collection_name, name, kind)
    return list(_QDRANT_KEYS)


def _qdrant_is_remote(store: Any) -> bool:
    return store._client is not None and not type(store._client._client).__name__.endswith("Local")


# PostgreSQL


def _postgres_search(store: Any, vector: list[float], k: int, filters: MetadataFilters | None) -> list[NodeWithScore]:
    """As the store's own search, which returns no more rows than hnsw.ef_search, and fewer if it filters."""
    from sqlalchemy import text

    # Two threads would create its table at once.
    with _CONNECTING:
        store._initialize()
    statement = store._build_query(vector, k, filters)
    with store._session() as session, session.begin():
        if store._engine not in _versions:
            _versions[store._engine] = session.execute(text(VERSION)).scalar() or "0.0"
        ef_search = int((store.hnsw_kwargs or {}).get("hnsw_ef_search", 0))
        is_selective = filters is not None and any(
            isinstance(each, MetadataFilters) or each.key not in ("embedding_option", "embedding_scope")
            for each in filters.filters
        )
        settings = scan_settings(k, _versions[store._engine], ef_search=ef_search, is_selective=is_selective)
        session.execute(text(settings))
        rows = session.execute(statement).all()
        if len(rows) < k:
            session.execute(text(EXACT))
            rows = session.execute(statement).all()
    found = store._db_rows_to_query_result([_postgres_row(row) for row in rows])
    return [NodeWithScore(node=node, score=score) for node, score in zip(found.nodes, found.similarities, strict=True)]


def _postgres_text_search(
    store: Any, text: str, k: int, filters: MetadataFilters | None, sources: Sequence[str]
) -> list[NodeWithScore]:
    if not store.hybrid_search:
        raise ConfigurationError(
            "This PGVectorStore has no text search: create it with hybrid_search=True and text_search_config=..., or "
            "use words='bm25'."
        )
    with _CONNECTING:
        store._initialize()
    with store._session() as session, session.begin():
        rows = session.execute(store._build_sparse_query(" ".join(tokens_of(text, is_query=True)), k, filters)).all()
    found = store._db_rows_to_query_result([_postgres_row(row) for row in rows])
    return [NodeWithScore(node=node, score=row.rank) for node, row in zip(found.nodes, rows, strict=True)]


def _postgres_row(row: Any) -> Any:
    from llama_index.vector_stores.postgres.base import DBEmbeddingRow

    custom = {name: value for name, value in row._asdict().items() if name not in _POSTGRES_COLUMNS}
    distance = getattr(row, "distance", None)
    similarity = 1 - distance if distance is not None else 0
    return DBEmbeddingRow(row.node_id, row.text, row.metadata_, custom, similarity)


_POSTGRES_COLUMNS = {"id", "node_id", "text", "metadata_", "distance", "rank"}
_CONNECTING = ForkSafeLock()
_versions: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Engine -> the version of its pgvector."""


def _postgres_create(new: NewStore) -> Any:
    from sqlalchemy import text

    hnsw = {"hnsw_m": 16, "hnsw_ef_construction": 64, "hnsw_ef_search": 100, "hnsw_dist_method": "vector_cosine_ops"}
    settings = {**new.connection, "hnsw_kwargs": {**hnsw, **(new.connection.get("hnsw_kwargs") or {})}}
    store = new.cls.from_params(table_name=new.name, embed_dim=new.dimension, **settings)
    with _CONNECTING:
        store._initialize()
    schema, table = store.schema_name, store._table_class.__tablename__
    with store._session() as session, session.begin():
        has_rows = text(f"SELECT EXISTS (SELECT FROM {quoted(schema)}.{quoted(table)})")  # noqa: S608
        if not session.execute(has_rows).scalar():
            session.execute(text(store_inline(schema, table, "embedding")))
    return store


def _postgres_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    from sqlalchemy import text

    with _CONNECTING:
        store._initialize()
    table = store._table_class.__tablename__
    # As its filters are written.
    option, scope, source = (f"metadata_->>'{name}'" for name in ("embedding_option", "embedding_scope", "source"))
    operators = "halfvec_cosine_ops" if store.use_halfvec else "vector_cosine_ops"
    indexes = create_hnsw(store.schema_name, table, "embedding", operators, tracks, option=option, scope=scope)
    indexes |= create_btree(store.schema_name, table, "source", source)
    with store._session() as session, session.begin():
        for statement in indexes.values():
            session.execute(text(statement))
    return list(indexes)


KNOWN_STORES: Mapping[str, KnownStore] = {
    "SimpleVectorStore": KnownStore(
        cosine=lambda store: float,
        at_once=lambda store: False,
        version=lambda store: len(store.data.embedding_dict),
    ),
    "ChromaVectorStore": KnownStore(
        cosine=_chroma_cosine,
        create=_chroma_create,
        # It has an index of each key of the metadata from the beginning.
        create_indexes=lambda store, tracks: [],
        version=lambda store: store._collection.count(),
    ),
    "QdrantVectorStore": KnownStore(
        create=_qdrant_create,
        create_indexes=_qdrant_create_indexes,
        # It may have been created with aclient= only.
        is_only_async=lambda store: store._client is None,
        at_once=_qdrant_is_remote,
    ),
    "PGVectorStore": KnownStore(
        cosine=lambda store: float,
        search=_postgres_search,
        text_search=_postgres_text_search,
        create=_postgres_create,
        create_indexes=_postgres_create_indexes,
    ),
    "MilvusVectorStore": KnownStore(
        cosine=lambda store: float if store.similarity_metric == "COSINE" else None,
        text_search=milvus_text_search,
        create=lambda new: milvus_create(new.cls, new.name, new.dimension, dict(new.connection)),
    ),
    "LanceDBVectorStore": KnownStore(
        nothing_found=(Warning,),
        create=lambda new: new.cls(table_name=new.name, **new.connection),
        text_search=lancedb_text_search,
        create_indexes=lancedb_create_indexes,
    ),
    "S3VectorStore": KnownStore(
        cosine=lambda store: float,
        search_sources=s3_vectors_search,
        nodes=s3_vectors_nodes,
        create=lambda new: s3_vectors_create(new.cls, new.name, new.dimension, new.connection),
        # All filterable metadata is indexed.
        create_indexes=lambda store, tracks: [],
    ),
    "MongoDBAtlasVectorSearch": KnownStore(
        cosine=lambda store: float,
        search=mongodb_search,
        nodes=mongodb_nodes,
        create=lambda new: mongodb_create(new.cls, new.name, new.dimension, dict(new.connection)),
        create_indexes=mongodb_create_indexes,
    ),
    "PineconeVectorStore": KnownStore(
        cosine=lambda store: float,
        search=pinecone_search,
        nodes=pinecone_nodes,
        create=lambda new: pinecone_create(new.cls, new.name, new.dimension, dict(new.connection)),
        # All metadata is indexed.
        create_indexes=lambda store, tracks: [],
    ),
    "OpensearchVectorStore": KnownStore(
        search=opensearch_search, text_search=opensearch_text_search, nodes=opensearch_nodes
    ),
    "ElasticsearchStore": KnownStore(
        search=elasticsearch_search,
        asearch=elasticsearch_asearch,
        # Its one client is asynchronous, and belongs to the event loop of the thread that it was first used in.
        is_only_async=lambda store: True,
        at_once=lambda store: False,
    ),
}

UNKNOWN = KnownStore(at_once=lambda store: False, finds_all=False)
"""Of other stores nothing is assumed."""


def find_known_store(store: Any) -> KnownStore:
    """The row for a store's class or one of its base classes; else ``UNKNOWN``."""
    return of_class(type(store)) or UNKNOWN


def of_class(cls: type[Any]) -> KnownStore | None:
    """The row for a class or one of its base classes, by name, so that no store's package is imported."""
    return next((KNOWN_STORES[base.__name__] for base in cls.__mro__ if base.__name__ in KNOWN_STORES), None)
