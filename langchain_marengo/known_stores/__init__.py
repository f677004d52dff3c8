"""How each known store searches one track, filters, lists what it holds, and is created. A new store is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.vectorstores import VectorStore

from langchain_marengo.known_stores.chroma import CHROMA
from langchain_marengo.known_stores.known_store import KnownStore, NewStore, ScoredDocument, StoredRow
from langchain_marengo.known_stores.lancedb import COMMUNITY_LANCEDB, LANCEDB
from langchain_marengo.known_stores.memory import FAISS, IN_MEMORY
from langchain_marengo.known_stores.milvus import MILVUS
from langchain_marengo.known_stores.mongodb import MONGODB
from langchain_marengo.known_stores.pinecone import PINECONE
from langchain_marengo.known_stores.postgres import PGVECTOR, PGVECTORSTORE
from langchain_marengo.known_stores.qdrant import QDRANT
from langchain_marengo.known_stores.s3_vectors import S3_VECTORS
from langchain_marengo.known_stores.search_engines import ELASTICSEARCH, OPENSEARCH

__all__ = ["KNOWN_STORES", "KnownStore", "NewStore", "ScoredDocument", "StoredRow", "find_known_store", "of_class"]

KNOWN_STORES: Mapping[str, KnownStore] = {
    "InMemoryVectorStore": IN_MEMORY,
    "Chroma": CHROMA,
    "QdrantVectorStore": QDRANT,
    "FAISS": FAISS,
    "PGVector": PGVECTOR,
    "PGVectorStore": PGVECTORSTORE,
    "Milvus": MILVUS,
    "langchain_lancedb.LanceDB": LANCEDB,
    "LanceDB": COMMUNITY_LANCEDB,
    "AmazonS3Vectors": S3_VECTORS,
    "langchain_elasticsearch.ElasticsearchStore": ELASTICSEARCH,
    "OpenSearchVectorSearch": OPENSEARCH,
    "MongoDBAtlasVectorSearch": MONGODB,
    "PineconeVectorStore": PINECONE,
}


def find_known_store(store: VectorStore) -> KnownStore | None:
    """The row for a store's class or one of its base classes."""
    return of_class(type(store))


def of_class(cls: type[Any]) -> KnownStore | None:
    """The row for a class or one of its base classes, by name, so that no store's package is imported."""
    for base in cls.__mro__:
        for name in (f"{base.__module__.partition('.')[0]}.{base.__name__}", base.__name__):
            if name in KNOWN_STORES:
                return KNOWN_STORES[name]
    return None
