"""Add segments to any LangChain store, with their own vectors and IDs, and delete them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, InputError, MarengoError, Segment
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.segments import METADATA_KEYS
from bedrock_marengo.search.contents import forget_contents
from bedrock_marengo.validation import is_int, require_many, short_repr
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.known_stores import KNOWN_STORES, KnownStore, find_known_store

__all__ = [
    "Stores",
    "aadd_segments",
    "add_segments",
    "adelete_segments",
    "delete_ids",
    "delete_segments",
    "embeddings_of",
    "known_stores_of",
]

CHUNK = 500
"""Rows in one call. All known stores accept 500: Chroma up to 5,461, S3 Vectors no more."""


Stores = VectorStore | Mapping[str, VectorStore]
"""One store, or a store for each track."""


def add_segments(
    store: Stores, documents: Iterable[Document], *, replace: bool = False, chunk_size: int = CHUNK
) -> list[str]:
    """Add Documents from a loader to a store. Adding them again creates no duplicates.

    Args:
        store: any LangChain store whose embeddings are ``MarengoEmbeddings``; or a store for each track, as
            ``create_track_stores`` makes them: track -> store. Each Document goes to the store of its track.
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
        InputError: A Document that isn't a segment, or a piece of one that a text splitter has cut; or of a track that
            no store was given for. Of a list, nothing is written then.
    """
    stores = {id(each): each for each in _unique(store)}
    for each in stores.values():
        _check_store(each)
        if replace:
            _known(each, "replace=True")
        _check_embeddings(each)
    _check_size(chunk_size)
    documents = require_many(documents, "add_segments", "Documents")
    if isinstance(store, Mapping) and isinstance(documents, Sequence):
        _routed(store, {str(i): document for i, document in enumerate(documents)})
    added: dict[str, None] = {}
    replaced: dict[tuple[int, str], _Replacement] = {}
    try:
        for chunk in _chunks(documents, chunk_size):
            new = {key: document for key, document in chunk.items() if key not in added}
            added.update(dict.fromkeys(new))
            routed = _routed(store, new)
            if replace:
                _note(stores, replaced, routed)
            for key, rows in routed.items():
                _add(stores[key], find_known_store(stores[key]), rows)
        for replacement in replaced.values():
            replacement.finish(chunk_size)
    finally:
        forget_contents()
    return list(added)


async def aadd_segments(
    store: Stores, documents: Iterable[Document], *, replace: bool = False, chunk_size: int = CHUNK
) -> list[str]:
    """``add_segments`` for asyncio, on the threads of the store's MarengoEmbeddings."""
    core = embeddings_of(store, "add_segments").core
    return await core.run_async(add_segments, store, documents, replace=replace, chunk_size=chunk_size)


def delete_segments(store: Stores, source: str, *, chunk_size: int = CHUNK) -> int:
    """Delete all segments of one source.

    Args:
        store: one of the stores of docs/stores.md; or a store for each track: track -> store.
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
    deleted = 0
    for each, known in known_stores_of(store, "delete_segments", chunk_size):
        ids = [found.id for found in known.rows(each, source)]
        delete_ids(each, known, ids, chunk_size)
        deleted += len(ids)
    forget_contents()
    return deleted


async def adelete_segments(store: Stores, source: str, *, chunk_size: int = CHUNK) -> int:
    """``delete_segments`` for asyncio, on the threads of the store's MarengoEmbeddings."""
    core = embeddings_of(store, "delete_segments").core
    return await core.run_async(delete_segments, store, source, chunk_size=chunk_size)


def _unique(store: Stores) -> list[VectorStore]:
    """One store, or those of a mapping, each once."""
    if not isinstance(store, Mapping):
        return [store]
    if not store:
        raise ConfigurationError("The mapping of stores is empty: pass {track: store}, such as {'visual': store}.")
    return list({id(each): each for each in store.values()}.values())


def known_stores_of(store: Stores, what: str, chunk_size: int) -> list[tuple[VectorStore, KnownStore]]:
    """One store, or those of a mapping, each once with its entry.

    Raises:
        ConfigurationError: ``what`` doesn't support one of them, or ``chunk_size`` is invalid.
    """
    stores = _unique(store)
    for each in stores:
        _check_store(each)
    _check_size(chunk_size)
    return [(each, _known(each, what)) for each in stores]


def embeddings_of(store: Stores, what: str) -> MarengoEmbeddings:
    """The embeddings of a store, or of the first of a mapping that has any.

    Raises:
        ConfigurationError: They are others, or there are none.
    """
    stores = _unique(store)
    for each in stores:
        if embeddings := _check_embeddings(each):
            return embeddings
    raise ConfigurationError(f"{type(stores[0]).__name__} has no embeddings property: call {what} in a thread.")


def _routed(store: Stores, documents: Mapping[str, Document]) -> dict[int, dict[str, Document]]:
    """ID -> Document, by which of the stores it goes to.

    Raises:
        InputError: No store was given for the track of one.
    """
    if not isinstance(store, Mapping):
        return {id(store): dict(documents)} if documents else {}
    routed: dict[int, dict[str, Document]] = {}
    for key, document in documents.items():
        track = _segment(document).option
        if track not in store:
            raise InputError(
                f"{short_repr(document.page_content)} is of the track {track!r}, and there are stores only for "
                f"{', '.join(map(repr, store))}. Pass a store for {track!r}, or leave out its Documents."
            )
        routed.setdefault(id(store[track]), {})[key] = document
    return routed


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


def delete_ids(store: VectorStore, known: KnownStore, ids: list[str], size: int) -> None:
    """Delete rows, ``size`` in a call."""
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
            delete_ids(self._store, self._known, list(self._old), size)
            self._restore(size)

    def _restore(self, size: int) -> None:
        """Add again what another writer has deleted meanwhile."""
        if not self._known.upserts(self._store):
            return
        there = set()
        for row in self._known.rows(self._store, self._source):
            # Some stores give rows IDs of their own.
            segment = Segment.find(row.text)
            there |= {row.id, segment.id if segment else row.id}
        lost = [(key, document) for key, document in self._new.items() if key not in there]
        for first in range(0, len(lost), size):
            _add(self._store, self._known, dict(lost[first : first + size]))


def _note(
    stores: Mapping[int, VectorStore],
    replaced: dict[tuple[int, str], _Replacement],
    routed: Mapping[int, Mapping[str, Document]],
) -> None:
    """A chunk, before it is added. Of each of its sources, all stores are looked at: it may have lost a track."""
    for key, documents in routed.items():
        for id_, document in documents.items():
            source = _segment(document).source
            if (key, source) not in replaced:
                for each, store in stores.items():
                    replaced[each, source] = _Replacement(store, _known(store, "replace=True"), source)
            replaced[key, source].note(id_, document)
