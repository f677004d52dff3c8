"""SegmentDocumentStore: LlamaIndex's in-memory docstore, in linear time for long files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.storage.docstore.types import RefDocInfo
from llama_index.core.storage.docstore.utils import doc_to_json

from bedrock_marengo.fork_safety import ForkSafeLock

__all__ = ["SegmentDocumentStore"]

Pair = tuple[str, dict[str, Any]]

# One for all stores, because a store is copied and pickled. What it guards is short.
_LOCK = ForkSafeLock()


class SegmentDocumentStore(SimpleDocumentStore):
    """``SimpleDocumentStore`` for sources with thousands of nodes.

    With vector stores that keep no text (SimpleVectorStore, FAISS), an index adds its nodes to the docstore one by one.
    SimpleDocumentStore copies the whole list of a source's nodes each time, which takes half a minute for the 6,000
    segments of one long video, and as long to remove them. This class appends and removes in place. Threads can share
    it: in SimpleDocumentStore, a node that one thread adds while another removes its source may belong to no source
    afterwards, so that it is never removed. Each class can read what the other has persisted.

    Examples:
        ```python
        storage = StorageContext.from_defaults(docstore=SegmentDocumentStore())
        VectorStoreIndex.from_documents(media, storage_context=storage, transformations=[segmenter])
        ```
    """

    def _get_kv_pairs_for_insert(
        self, node: BaseNode, ref_doc_info: RefDocInfo | None, store_text: bool
    ) -> tuple[Pair | None, Pair | None, Pair | None]:
        source, key = node.ref_doc_id, node.node_id
        if source is None:
            pairs: tuple[Pair | None, Pair | None, Pair | None]
            pairs = super()._get_kv_pairs_for_insert(node, ref_doc_info, store_text)
            return pairs
        known = self._kvstore.get(source, collection=self._ref_doc_collection)
        if known is None:
            known = {"node_ids": [], "metadata": node.metadata}
            self._kvstore.put(source, known, collection=self._ref_doc_collection)
        metadata = {"doc_hash": node.hash, "ref_doc_id": source}
        if self._get_ref_doc_id(key) != source:
            # The store's copies are shallow, so that this is the stored list itself.
            known["node_ids"].append(key)
            self._kvstore.put(key, metadata, collection=self._metadata_collection)
        return (key, doc_to_json(node)) if store_text else None, (key, metadata), None

    def _remove_from_ref_doc_node(self, doc_id: str) -> None:
        source = self._get_ref_doc_id(doc_id)
        known = self._kvstore.get(source, collection=self._ref_doc_collection) if source else None
        if known is None or len(known["node_ids"]) == 1:
            super()._remove_from_ref_doc_node(doc_id)
        elif doc_id in known["node_ids"]:
            known["node_ids"].remove(doc_id)

    # The base class reads, changes and writes back what it knows of a source.

    def add_documents(
        self,
        docs: Sequence[BaseNode],
        allow_update: bool = True,
        batch_size: int | None = None,
        store_text: bool = True,
    ) -> None:
        """As in SimpleDocumentStore, one thread at a time."""
        with _LOCK:
            super().add_documents(docs, allow_update, batch_size, store_text)

    async def async_add_documents(
        self,
        docs: Sequence[BaseNode],
        allow_update: bool = True,
        batch_size: int | None = None,
        store_text: bool = True,
    ) -> None:
        """``add_documents`` for asyncio. Nothing here waits for a network."""
        self.add_documents(docs, allow_update, batch_size, store_text)

    def delete_document(self, doc_id: str, raise_error: bool = True) -> None:
        """As in SimpleDocumentStore, one thread at a time."""
        with _LOCK:
            super().delete_document(doc_id, raise_error)

    async def adelete_document(self, doc_id: str, raise_error: bool = True) -> None:
        """``delete_document`` for asyncio."""
        self.delete_document(doc_id, raise_error)

    def delete_ref_doc(self, ref_doc_id: str, raise_error: bool = True) -> None:
        """As in SimpleDocumentStore, one thread at a time."""
        with _LOCK:
            super().delete_ref_doc(ref_doc_id, raise_error)

    async def adelete_ref_doc(self, ref_doc_id: str, raise_error: bool = True) -> None:
        """``delete_ref_doc`` for asyncio."""
        self.delete_ref_doc(ref_doc_id, raise_error)
