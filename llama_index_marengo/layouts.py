"""Layouts that searches are fast in: an index for each track, or one store with indexes on what is filtered for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import BaseNode, MetadataMode

from bedrock_marengo import ConfigurationError, InputError, Segment
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.search.weights import collection_names, tracks_of
from bedrock_marengo.validation import require_many, short_repr
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.known_stores import KNOWN_STORES, NewStore, find_known_store, of_class

__all__ = ["create_indexes", "create_track_indices", "insert_segments"]


def create_track_indices(
    store: type[Any],
    name: str,
    embed_model: MarengoEmbedding,
    *,
    tracks: Iterable[str] | None = None,
    **connection: Any,
) -> dict[str, VectorStoreIndex]:
    """Create an index with a collection or table of its own for each track. Opens those that exist.

    Args:
        store: the vector store's class: ChromaVectorStore, QdrantVectorStore, PGVectorStore, MilvusVectorStore,
            LanceDBVectorStore, MongoDBAtlasVectorSearch, PineconeVectorStore or S3VectorStore.
        name: the collections are ``{name}_{track}``, for the cosine and the model's dimension.
        embed_model: of the indices.
        tracks: default: those of a video, such as visual, audio and transcription.
        connection: passed to the class: ``client=`` for Chroma and Qdrant, ``uri=`` for Milvus and LanceDB, what
            ``from_params`` takes for PGVectorStore, ``bucket_name_or_arn=`` for S3VectorStore, both clients of
            MongoDB, ``pinecone_index=`` for Pinecone, whose namespaces they become.

    Returns:
        track -> index, for ``MarengoRetriever(indices=...)`` and ``insert_segments``.

    Raises:
        bedrock_marengo.InputError: A track that the model doesn't have.
        bedrock_marengo.ConfigurationError: This class isn't supported.

    Examples:
        ```python
        from chromadb import PersistentClient
        from llama_index.vector_stores.chroma import ChromaVectorStore

        client = PersistentClient("store")
        indices = create_track_indices(ChromaVectorStore, "videos", embed_model, client=client)
        insert_segments(indices, segmenter(MarengoReader("s3://bucket/videos/", embed_model=embed_model).load_data()))
        MarengoRetriever(indices=indices).retrieve("a goal from a corner")
        ```
    """
    known = of_class(store) if isinstance(store, type) else None
    if known is None or known.create is None:
        given = store.__name__ if isinstance(store, type) else short_repr(store)
        classes = ", ".join(name for name, row in KNOWN_STORES.items() if row.create is not None)
        raise ConfigurationError(
            f"create_track_indices doesn't support {given}: expected a class, one of {classes}. Create an index for "
            "each track yourself, and pass them as {track: index}."
        )
    model = embed_model.core.model
    indices = {}
    for track, own in collection_names(name, tracks, model).items():
        new = NewStore(store, own, model.dimension, connection)
        indices[track] = VectorStoreIndex.from_vector_store(known.create(new), embed_model=embed_model)
    return indices


def insert_segments(indices: Mapping[str, VectorStoreIndex], nodes: Sequence[BaseNode]) -> None:
    """Insert segments, each into the index of its track.

    Args:
        indices: track -> index, as from ``create_track_indices``.
        nodes: the nodes from ``MarengoSegmenter``, as a list.

    Raises:
        bedrock_marengo.InputError: A node that isn't a segment, or is of a track without index. Nothing is inserted.
    """
    routed: dict[int, list[BaseNode]] = {}
    for node in require_many(nodes, "insert_segments", "nodes"):
        text = node.get_content(MetadataMode.NONE)
        segment = Segment.find(text)
        if segment is None:
            raise InputError(f"{short_repr(text)} is not the text of a segment: insert other nodes with insert_nodes.")
        if segment.option not in indices:
            raise InputError(
                f"{short_repr(text)} is of the track {segment.option!r}, and there are indices only for "
                f"{', '.join(map(repr, indices)) or 'no track'}. Pass an index for {segment.option!r}, or leave out "
                "its nodes."
            )
        routed.setdefault(id(indices[segment.option]), []).append(node)
    try:
        for index in {id(index): index for index in indices.values()}.values():
            if id(index) in routed:
                index.insert_nodes(routed[id(index)])
    finally:
        forget_contents()


def create_indexes(index: VectorStoreIndex, *, tracks: Iterable[str] | None = None) -> list[str]:
    """Create indexes on what searches of one store for all tracks filter for. Those that exist are kept.

    Qdrant gets payload indexes, PostgreSQL an HNSW index of each track's clips, LanceDB scalar indexes and one of the
    text, once it holds rows; MongoDB's vector search index gets the fields. Chroma, S3 Vectors and Pinecone have theirs
    from the beginning.

    Args:
        index: the index whose vector store gets them.
        tracks: default: all tracks of the model of its embeddings.

    Returns:
        The names of the indexes.

    Raises:
        bedrock_marengo.ConfigurationError: This store isn't supported.
    """
    store = index.vector_store
    known = find_known_store(store)
    if known.create_indexes is None:
        classes = ", ".join(name for name, row in KNOWN_STORES.items() if row.create_indexes is not None)
        raise ConfigurationError(
            f"create_indexes doesn't support {type(store).__name__}, only {classes}. Index embedding_option, "
            "embedding_scope and source by the store's own means."
        )
    embed_model = index._embed_model
    if tracks is None and not isinstance(embed_model, MarengoEmbedding):
        raise ConfigurationError(f"The index embeds with {type(embed_model).__name__}: pass tracks=.")
    if tracks is None and isinstance(embed_model, MarengoEmbedding):
        tracks = tracks_of(embed_model.core.model)
    return known.create_indexes(store, list(tracks or ()))
