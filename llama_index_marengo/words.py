"""Words for segments that a LlamaIndex index holds already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.utils import node_to_metadata_dict

from bedrock_marengo import ConfigurationError, Pegasus, Segment
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.search.records import Transcripts
from bedrock_marengo.search.stored_words import new_texts
from bedrock_marengo.validation import short_repr
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.rows import nodes_of

__all__ = ["aadd_words", "add_words"]

_CHUNK = 500
"""Rows in one call."""


def add_words(
    index: VectorStoreIndex | Mapping[str, VectorStoreIndex],
    *,
    embed_model: MarengoEmbedding | None = None,
    transcripts: Transcripts = True,
    descriptions: Pegasus | None = None,
    sources: Sequence[str] | None = None,
    max_cost_usd: float | None = None,
    **settings: Any,
) -> int:
    """Give the segments of an index their words, or other words, in place. Nothing is embedded again.

    IDs, metadata and vectors stay as they are. What is said and what is seen are replaced separately, and stay where
    nothing is found for a file. Running it again changes nothing, and costs nothing. A file whose words can't be had
    is a ``MarengoWarning``; the others go on. All nodes of the index are held in memory with their vectors, whatever
    ``sources`` is.

    Args:
        index: its texts are in its docstore (SimpleVectorStore, FAISS and others that keep no text), or in a
            ChromaVectorStore, QdrantVectorStore, PGVectorStore, S3VectorStore, or a MilvusVectorStore with
            ``upsert_mode=True``. Or an index for each track: track -> index.
        embed_model: the model and output prefix of the segments. Default: the index's model.
        transcripts: as in ``MarengoSegmenter``: True reads captions next to the files on S3, a mapping or a callable
            gives them by source URI, ``Transcribe(...)`` transcribes files without captions. Captions of a local file
            aren't next to its upload.
        descriptions: ``Pegasus(...)`` describes what is seen in videos.
        sources: only these files, or those under a prefix that ends in "/". Default: all files of the index.
        max_cost_usd: the most that Transcribe and Pegasus may cost, in US dollars, over all files and indexes.
        settings: durations, assume_duration_sec, force and timeout_sec, as for ``client.transcribe``.

    Returns:
        The number of segments with a new text.

    Raises:
        bedrock_marengo.ConfigurationError: This store isn't supported, the index has another embedding model, or a
            setting isn't valid.
        bedrock_marengo.InputError: ``sources`` isn't a list of S3 URIs, or there is no such setting.
        bedrock_marengo.SegmentNotFoundError: The job of a segment isn't under ``output_s3_uri``.

    Examples:
        ```python
        add_words(index, transcripts={"s3://bucket/match.mp4": Path("match.srt")})
        ```
    """
    # One run over all indexes: they share the budget, and a file's words.
    indexes = {id(each): each for each in (index.values() if isinstance(index, Mapping) else [index])}
    writers, nodes = {}, defaultdict[str, dict[int, BaseNode]](dict)
    for key, each in indexes.items():
        if not isinstance(each, VectorStoreIndex):
            raise ConfigurationError(f"{short_repr(each)} is not an index: expected a VectorStoreIndex.")
        writers[key] = _writer(each, _model(each, embed_model))
        for node in nodes_of(each):
            nodes[node.get_content(MetadataMode.NONE)][key] = node
    if not indexes:
        return 0
    texts = [(text, node.metadata) for text, found in nodes.items() for node in found.values()]
    core = _model(next(iter(indexes.values())), embed_model).core
    settings |= {"sources": sources, "max_cost_usd": max_cost_usd}
    changed = 0
    with closing(new_texts(core, texts, transcripts=transcripts, descriptions=descriptions, **settings)) as files:
        for file, key, write in ((file, *writer) for file in files for writer in writers.items()):
            given = [_with_text(nodes[old][key], new) for old, new in file.items() if key in nodes[old]]
            for first in range(0, len(given), _CHUNK):
                write(given[first : first + _CHUNK])
            forget_contents()
            changed += len(given)
    return changed


async def aadd_words(
    index: VectorStoreIndex | Mapping[str, VectorStoreIndex],
    *,
    embed_model: MarengoEmbedding | None = None,
    **settings: Any,
) -> int:
    """``add_words`` for asyncio, on the embedding model's own threads."""
    first = next(iter(index.values()), None) if isinstance(index, Mapping) else index
    model = _model(first, embed_model)
    return await model.core.run_async(add_words, index, embed_model=model, **settings)


def _model(index: Any, embed_model: MarengoEmbedding | None) -> MarengoEmbedding:
    model = embed_model if embed_model is not None else getattr(index, "_embed_model", None)
    if not isinstance(model, MarengoEmbedding):
        raise ConfigurationError(f"embed_model is {type(model).__name__}: expected MarengoEmbedding(...).")
    return model


def _with_text(node: BaseNode, text: str) -> BaseNode:
    node = node.model_copy()
    node.set_content(text)
    return node


def _writer(index: VectorStoreIndex, model: MarengoEmbedding) -> Callable[[Sequence[BaseNode]], None]:
    """What replaces nodes of an index, wherever it keeps their texts."""
    store = index.vector_store
    known = next((_WRITERS[cls.__name__] for cls in type(store).__mro__ if cls.__name__ in _WRITERS), None)
    if store.stores_text and known is None:
        raise ConfigurationError(
            f"add_words doesn't support {type(store).__name__}, only {', '.join(_WRITERS)} and stores that keep no "
            "text. Delete the file's nodes with index.delete_ref_doc, and run MarengoSegmenter again with its words: "
            "finished jobs are reused."
        )
    if getattr(store, "_client", store) is None:
        raise ConfigurationError(f"This {type(store).__name__} has only an asynchronous client: open it with client=.")
    if not getattr(store, "upsert_mode", True):
        raise ConfigurationError(
            "This MilvusVectorStore would add a second row instead of replacing one: open it with upsert_mode=True."
        )

    def write(nodes: Sequence[BaseNode]) -> None:
        if store.stores_text and known is not None:
            segments = [Segment.parse(node.get_content(MetadataMode.NONE).partition("\n")[0]) for node in nodes]
            for node, vector in zip(nodes, model.core.segment_vectors(segments), strict=True):
                node.embedding = model.floats(vector)
            known(store, nodes)
        if kept := [node for node in nodes if index.docstore.document_exists(node.node_id)]:
            index.docstore.add_documents(kept, allow_update=True)

    return write


def _add(store: Any, nodes: Sequence[BaseNode]) -> None:
    store.add(list(nodes))


def _chroma_update(store: Any, nodes: Sequence[BaseNode]) -> None:
    # Its add skips rows that exist.
    store._collection.update(
        ids=[node.node_id for node in nodes],
        embeddings=[node.get_embedding() for node in nodes],
        metadatas=[{key: "" if value is None else value for key, value in _metadata(store, node)} for node in nodes],
        documents=[node.get_content(MetadataMode.NONE) for node in nodes],
    )


def _postgres_update(store: Any, nodes: Sequence[BaseNode]) -> None:
    from sqlalchemy import update

    # Its add writes a second row.
    table = store._table_class
    with store._session() as session, session.begin():
        for node in nodes:
            values = {"text": node.get_content(MetadataMode.NONE), "metadata_": dict(_metadata(store, node))}
            session.execute(update(table).where(table.node_id == node.node_id).values(values))


def _metadata(store: Any, node: BaseNode) -> Iterable[tuple[str, Any]]:
    return node_to_metadata_dict(node, remove_text=True, flat_metadata=store.flat_metadata).items()


_WRITERS: Mapping[str, Callable[[Any, Sequence[BaseNode]], None]] = {
    "ChromaVectorStore": _chroma_update,
    "QdrantVectorStore": _add,
    "PGVectorStore": _postgres_update,
    "MilvusVectorStore": _add,
    "S3VectorStore": _add,
}
"""A store's class -> what replaces its rows, with their vectors as they are."""
