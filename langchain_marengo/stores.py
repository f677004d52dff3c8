"""Add segments to any LangChain store, with their own vectors and IDs, and delete them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, InputError, MarengoError, Segment
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.segments import METADATA_KEYS
from bedrock_marengo.validation import is_int, require_many, short_repr
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.known_stores import KNOWN_STORES, KnownStore, find_known_store

__all__ = ["aadd_segments", "add_segments", "adelete_segments", "delete_segments"]

CHUNK = 500
"""Rows in one call. All known stores accept 500: Chroma up to 5,461, S3 Vectors no more."""


def add_segments(
    store: VectorStore, documents: Iterable[Document], *, replace: bool = False, chunk_size: int = CHUNK
) -> list[str]:
    """Add Documents from a loader to a store. Adding them again creates no duplicates.

    Args:
        store: any LangChain store whose embeddings are ``MarengoEmbeddings``.
        documents: the Documents that ``MarengoLoader`` loads, as a list or from ``lazy_load``.
        replace: then delete the other segments that the same sources had before, such as those of a video that has been
            replaced. A source without Documents is left unchanged: use ``delete_segments``. If two writers replace a
            source at the same time, the segments of one or of both are left, never none. Works with the stores in
            docs/stores.md. For other stores, use LangChain's ``index()`` with ``source_id_key="source"``,
            ``cleanup="scoped_full"`` and ``key_encoder=lambda document: document.id``. With ``cleanup="incremental"``,
            it writes sources of more than 100 segments again on each run.
        chunk_size: rows in one call.

    Returns:
        The IDs, in order.

    Raises:
        ConfigurationError: The store has other embeddings, or ``replace`` doesn't support it.
        InputError: A Document that isn't a segment, or a piece of one that a text splitter has cut.
    """
    _check_store(store)
    known = _known(store, "replace=True") if replace else find_known_store(store)
    _check_embeddings(store)
    _check_size(chunk_size)
    added: dict[str, None] = {}
    sources: dict[str, _Replacement] = {}
    for chunk in _chunks(require_many(documents, "add_segments", "Documents"), chunk_size):
        new = {key: document for key, document in chunk.items() if key not in added}
        added.update(dict.fromkeys(new))
        if replace and known is not None:
            _note(store, known, sources, new)
        if new:
            _add(store, known, new)
    if known is not None:
        for replacement in sources.values():
            replacement.finish(chunk_size)
    return list(added)


async def aadd_segments(
    store: VectorStore, documents: Iterable[Document], *, replace: bool = False, chunk_size: int = CHUNK
) -> list[str]:
    """``add_segments`` for asyncio, on the threads of the store's MarengoEmbeddings."""
    embeddings = _check_embeddings(store)
    if embeddings is None:
        raise ConfigurationError(f"{type(store).__name__} has no embeddings property: call add_segments in a thread.")
    return await embeddings.core.run_async(add_segments, store, documents, replace=replace, chunk_size=chunk_size)


def delete_segments(store: VectorStore, source: str, *, chunk_size: int = CHUNK) -> int:
    """Delete all segments of one source.

    Args:
        store: one of the stores of docs/stores.md.
        source: the raw S3 URI, as in ``metadata["source"]``.
        chunk_size: rows in one call.

    Returns:
        The number of deleted segments.

    Raises:
        InputError: The source isn't the S3 URI of an object.
        ConfigurationError: This store isn't supported.
    """
    # None would list, and so delete, all segments.
    if split_s3_uri(source)[1].rpartition("/")[2] == "":
        raise InputError(
            f"{source!r} is not an object: segments are deleted one source at a time. Pass s3://bucket/key."
        )
    _check_store(store)
    _check_size(chunk_size)
    known = _known(store, "delete_segments")
    ids = [row.id for row in known.rows(store, source)]
    _delete(store, known, ids, chunk_size)
    return len(ids)


async def adelete_segments(store: VectorStore, source: str, *, chunk_size: int = CHUNK) -> int:
    """``delete_segments`` for asyncio, on the threads of the store's MarengoEmbeddings."""
    embeddings = _check_embeddings(store)
    if embeddings is None:
        raise ConfigurationError(
            f"{type(store).__name__} has no embeddings property: call delete_segments in a thread."
        )
    return await embeddings.core.run_async(delete_segments, store, source, chunk_size=chunk_size)


def _check_store(store: VectorStore) -> None:
    if not isinstance(store, VectorStore):
        raise ConfigurationError(
            f"{short_repr(store)} is not a LangChain VectorStore: pass the store as the first argument."
        )


def _check_size(chunk_size: int) -> None:
    if not is_int(chunk_size):
        raise ConfigurationError(f"chunk_size={short_repr(chunk_size)}: expected a whole number of rows, 1 or more.")


def _check_embeddings(store: VectorStore) -> MarengoEmbeddings | None:
    embeddings = getattr(store, "embeddings", None)
    inner = getattr(embeddings, "underlying_embeddings", embeddings)
    if inner is None or isinstance(inner, MarengoEmbeddings):
        return inner
    raise ConfigurationError(
        f"This {type(store).__name__} embeds with {type(inner).__name__}, which would embed a segment's text "
        "instead of using its vector. Create the store with MarengoEmbeddings."
    )


def _chunks(documents: Iterable[Document], size: int) -> Iterator[dict[str, Document]]:
    chunk: dict[str, Document] = {}
    try:
        for document in documents:
            chunk[_segment(document).id] = document
            if len(chunk) >= size:
                yield chunk
                chunk = {}
    except MarengoError:
        # A loader raises at the end for the files that failed: the segments of the others are still added.
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _segment(document: Document) -> Segment:
    if not isinstance(document, Document):
        raise InputError(
            f"{short_repr(document)} is not a Document: add_segments takes a list of Documents from MarengoLoader."
        )
    segment = Segment.find(document.page_content)
    if segment is None and document.metadata.keys() >= set(METADATA_KEYS):
        raise InputError(
            f"{short_repr(document.page_content)} has a segment's metadata and not its text: a text splitter has cut "
            "it. A segment has one vector, and a piece of its text has none. Split only your other Documents."
        )
    if segment is None:
        raise InputError(
            f"{short_repr(document.page_content)} is not the text of a segment: add_segments takes Documents from "
            "MarengoLoader. Add other Documents with store.add_documents."
        )
    return segment


def _known(store: VectorStore, what: str) -> KnownStore:
    known = find_known_store(store)
    if known is None:
        raise ConfigurationError(
            f"{what} doesn't support {type(store).__name__}, only {', '.join(KNOWN_STORES)}. Use "
            "langchain_core.indexing.index(..., source_id_key='source', cleanup='scoped_full', "
            "key_encoder=lambda document: document.id)."
        )
    return known


def _add(store: VectorStore, known: KnownStore | None, documents: dict[str, Document]) -> None:
    if known is not None:
        known.add(store, documents)
    else:
        store.add_documents(list(documents.values()), ids=list(documents))


def _delete(store: VectorStore, known: KnownStore, ids: list[str], size: int) -> None:
    for first in range(0, len(ids), size):
        known.delete(store, ids[first : first + size])


class _Replacement:
    """What a store has of one source besides its new segments: seen before they were added, deleted afterwards.

    A writer deletes only rows that were there before it added its own, and makes sure of its own before and after. So
    whichever of two writers deletes last, its own segments are left. The store has no locks that would do this.
    """

    def __init__(self, store: VectorStore, known: KnownStore, source: str) -> None:
        self._store, self._known, self._source = store, known, source
        self._old = {row.id: None for row in known.rows(store, source)}
        self._new: dict[str, Document] = {}

    def note(self, key: str, document: Document) -> None:
        """A new segment, before it is added. It is kept only as long as there is something to replace."""
        self._old.pop(key, None)
        self._new[key] = document
        if not self._old:
            self._new.clear()

    def finish(self, size: int) -> None:
        """Delete what is replaced, once everything is added."""
        if self._old:
            self._restore(size)
            _delete(self._store, self._known, list(self._old), size)
            self._restore(size)

    def _restore(self, size: int) -> None:
        """Add again what another writer has deleted meanwhile."""
        there = set()
        for row in self._known.rows(self._store, self._source):
            # Some stores give rows IDs of their own.
            segment = Segment.find(row.text)
            there |= {row.id, segment.id if segment else row.id}
        lost = [(key, document) for key, document in self._new.items() if key not in there]
        for first in range(0, len(lost), size):
            _add(self._store, self._known, dict(lost[first : first + size]))


def _note(
    store: VectorStore, known: KnownStore, sources: dict[str, _Replacement], documents: dict[str, Document]
) -> None:
    for key, document in documents.items():
        source = _segment(document).source
        if source not in sources:
            sources[source] = _Replacement(store, known, source)
        sources[source].note(key, document)
