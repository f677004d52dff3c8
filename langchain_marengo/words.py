"""Words for segments that a LangChain store holds already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, Pegasus
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.search.records import Transcripts
from bedrock_marengo.search.stored_words import new_texts
from bedrock_marengo.validation import is_int, short_repr
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.known_stores import KNOWN_STORES, KnownStore, StoredRow, find_known_store
from langchain_marengo.stores import CHUNK

__all__ = ["aadd_words", "add_words"]


def add_words(
    store: VectorStore | Mapping[str, VectorStore],
    *,
    embeddings: MarengoEmbeddings,
    transcripts: Transcripts = True,
    descriptions: Pegasus | None = None,
    sources: Sequence[str] | None = None,
    chunk_size: int = CHUNK,
    max_cost_usd: float | None = None,
    **settings: Any,
) -> int:
    """Give the segments of a store their words, or other words, in place. Nothing is embedded again.

    IDs, metadata and vectors stay as they are: the store gets each segment's own vector again, from the output of its
    job. What is said and what is seen are replaced separately, and stay where nothing is found for a file. Running it
    again changes nothing, and costs nothing. A file whose words can't be had is a ``MarengoWarning``; others go on.

    Args:
        store: one of the stores of docs/stores.md, filled by ``add_segments`` or ``from_documents``. Not a Milvus with
            ``auto_id=True``, which can't replace a row. Or a store for each track: track -> store.
        embeddings: the model and output prefix of the segments.
        transcripts: as in ``MarengoLoader``: True reads captions next to the files on S3, a mapping or a callable gives
            them by source URI, ``Transcribe(...)`` transcribes files without captions. Captions of a local file aren't
            next to its upload.
        descriptions: ``Pegasus(...)`` describes what is seen in videos.
        sources: only these files, or those under a prefix that ends in "/". Default: all files of the store.
        chunk_size: rows in one call.
        max_cost_usd: the most that Transcribe and Pegasus may cost, in US dollars, over all files and stores.
        settings: durations, assume_duration_sec, force and timeout_sec, as for ``client.transcribe``.

    Returns:
        The number of segments with a new text.

    Raises:
        ConfigurationError: This store isn't supported, or has other embeddings, or a setting isn't valid.
        bedrock_marengo.InputError: ``sources`` isn't a list of S3 URIs, or there is no such setting.
        bedrock_marengo.SegmentNotFoundError: The job of a segment isn't under ``output_s3_uri``.

    Examples:
        ```python
        add_words(store, embeddings=embeddings, transcripts={"s3://bucket/match.mp4": Path("match.srt")})
        ```
    """
    if not isinstance(embeddings, MarengoEmbeddings):
        raise ConfigurationError(f"embeddings is {type(embeddings).__name__}: expected MarengoEmbeddings(...).")
    if not is_int(chunk_size):
        raise ConfigurationError(f"chunk_size={short_repr(chunk_size)}: expected a whole number of rows, 1 or more.")
    stores = list(store.values()) if isinstance(store, Mapping) else [store]
    # One run over all stores: they share the budget, and a file's words.
    known = {id(each): (each, _known(each)) for each in stores}
    rows = [
        (key, row) for key, (each, way) in known.items() for source in _exact(sources) for row in way.rows(each, source)
    ]
    by_text: defaultdict[str, list[tuple[int, StoredRow]]] = defaultdict(list)
    for key, row in rows:
        by_text[row.text].append((key, row))
    settings |= {"sources": sources, "max_cost_usd": max_cost_usd}
    texts = [(row.text, row.metadata) for _, row in rows]
    changed = 0
    with closing(
        new_texts(embeddings.core, texts, transcripts=transcripts, descriptions=descriptions, **settings)
    ) as files:
        for file in files:
            documents: defaultdict[int, list[Document]] = defaultdict(list)
            for old, new in file.items():
                for key, row in by_text[old]:
                    documents[key].append(Document(id=row.id, page_content=new, metadata=dict(row.metadata)))
            for key, given in documents.items():
                _write(*known[key], given, chunk_size)
                forget_contents()
                changed += len(given)
    return changed


async def aadd_words(
    store: VectorStore | Mapping[str, VectorStore], *, embeddings: MarengoEmbeddings, **settings: Any
) -> int:
    """``add_words`` for asyncio, on the embeddings' own threads."""
    return await embeddings.core.run_async(add_words, store, embeddings=embeddings, **settings)


def _write(store: VectorStore, known: KnownStore, documents: Sequence[Document], chunk_size: int) -> None:
    for first in range(0, len(documents), chunk_size):
        chunk = documents[first : first + chunk_size]
        known.add(store, {document.id: document for document in chunk if document.id})


def _known(store: VectorStore) -> KnownStore:
    known = find_known_store(store) if isinstance(store, VectorStore) else None
    if known is None:
        given = type(store).__name__ if isinstance(store, VectorStore) else short_repr(store)
        raise ConfigurationError(
            f"add_words doesn't support {given}, only {', '.join(KNOWN_STORES)}. Load the files again with their "
            "words, and add them with add_segments: finished jobs are reused."
        )
    if getattr(store, "auto_id", False):
        raise ConfigurationError(
            "This Milvus has auto_id=True, so that its rows can't be replaced: create it with auto_id=False."
        )
    own = getattr(store, "embeddings", None)
    own = getattr(own, "underlying_embeddings", own)
    if own is not None and not isinstance(own, MarengoEmbeddings):
        raise ConfigurationError(
            f"This {type(store).__name__} embeds with {type(own).__name__}, which would embed a segment's text "
            "instead of using its vector. Create the store with MarengoEmbeddings."
        )
    return known


def _exact(sources: Sequence[str] | None) -> Sequence[str | None]:
    """What to list: each file by itself, or the whole store."""
    if sources is None or isinstance(sources, str) or any(str(source).endswith("/") for source in sources):
        return [None]
    return list(dict.fromkeys(sources))
