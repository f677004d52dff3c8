"""Layouts that searches are fast in: a store for each track, or one store with indexes on what is filtered for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.weights import collection_names, tracks_of
from bedrock_marengo.validation import short_repr
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.known_stores import KNOWN_STORES, NewStore, find_known_store, of_class

__all__ = ["create_indexes", "create_track_stores"]


def create_track_stores(
    store: type[VectorStore],
    name: str,
    embeddings: MarengoEmbeddings,
    *,
    tracks: Iterable[str] | None = None,
    **connection: Any,
) -> dict[str, VectorStore]:
    """Create a collection or table for each track, for the cosine and the model's dimension. Opens those that exist.

    Args:
        store: the store's class: Chroma, QdrantVectorStore, PGVectorStore, Milvus, AmazonS3Vectors,
            MongoDBAtlasVectorSearch, PineconeVectorStore or a LanceDB.
        name: the collections are ``{name}_{track}``; with a hyphen for AmazonS3Vectors; for Pinecone, the namespaces.
        embeddings: of the stores.
        tracks: default: those of a video, such as visual, audio and transcription.
        connection: passed to the class: ``client=`` for Chroma and Qdrant, ``engine=`` (a PGEngine) for PGVectorStore,
            ``connection_args=`` for Milvus, ``uri=`` for LanceDB, ``vector_bucket_name=`` for AmazonS3Vectors,
            ``database=`` (pymongo's) for MongoDB, ``index=`` (pinecone's, for the cosine) for Pinecone.

    Returns:
        track -> store, for ``MarengoRetriever(vectorstores=...)`` and ``add_segments``.

    Raises:
        InputError: A track that the model doesn't have.
        ConfigurationError: This class isn't supported.

    Examples:
        ```python
        stores = create_track_stores(Chroma, "videos", embeddings, persist_directory="store")
        add_segments(stores, MarengoLoader("s3://bucket/videos/", embeddings=embeddings).lazy_load())
        MarengoRetriever(vectorstores=stores, embeddings=embeddings).invoke("a goal from a corner")
        ```
    """
    known = of_class(store) if isinstance(store, type) else None
    if known is None or known.create is None:
        given = store.__name__ if isinstance(store, type) else short_repr(store)
        classes = ", ".join(name for name, row in KNOWN_STORES.items() if row.create is not None)
        raise ConfigurationError(
            f"create_track_stores doesn't support {given}: expected a class, one of {classes}. Create a store for each "
            "track yourself, and pass them as {track: store}."
        )
    create, names = known.create, collection_names(name, tracks, embeddings.core.model)
    return {track: create(NewStore(store, own, embeddings, connection)) for track, own in names.items()}


def create_indexes(store: VectorStore, *, tracks: Iterable[str] | None = None) -> list[str]:
    """Create indexes on what searches of one store for all tracks filter for. Those that exist are kept.

    Qdrant gets payload indexes, PGVectorStore an HNSW index of each track's clips, Milvus and LanceDB (community)
    scalar indexes, and both LanceDBs one of the text, once they hold rows; MongoDB's vector search index gets the
    fields. Chroma, S3 Vectors, Pinecone, Elasticsearch and OpenSearch have theirs from the beginning.

    Args:
        store: the store.
        tracks: default: all tracks of the model of its embeddings.

    Returns:
        The names of the indexes.

    Raises:
        ConfigurationError: This store isn't supported.
    """
    known = find_known_store(store)
    if known is None or known.create_indexes is None:
        classes = ", ".join(name for name, row in KNOWN_STORES.items() if row.create_indexes is not None)
        raise ConfigurationError(
            f"create_indexes doesn't support {type(store).__name__}, only {classes}. Index embedding_option, "
            "embedding_scope and source by the store's own means."
        )
    # That of langchain-lancedb doesn't say which it has.
    embeddings = store.embeddings or getattr(store, "_embedding_function", None)
    if tracks is None and not isinstance(embeddings, MarengoEmbeddings):
        raise ConfigurationError(f"{type(store).__name__} has no MarengoEmbeddings: pass tracks=.")
    if tracks is None and isinstance(embeddings, MarengoEmbeddings):
        tracks = tracks_of(embeddings.core.model)
    return known.create_indexes(store, list(tracks or ()))
