"""The nodes that an index holds, wherever it keeps their texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import FilterCondition, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from llama_index_marengo.known_stores import find_known_store

__all__ = ["nodes_of"]

# Qdrant's default is 9,999.
_GET: Mapping[str, Mapping[str, Any]] = {"QdrantVectorStore": {"limit": 2**31 - 1}}


def nodes_of(index: VectorStoreIndex, filters: MetadataFilters | None = None) -> Iterator[BaseNode]:
    """All nodes that some filters allow.

    The store filters if it can. What it returns is checked all the same: not every store's list knows filters.

    Raises:
        NotImplementedError: The store can't list its nodes.
    """
    return (node for node in _listed(index, filters) if filters is None or _allows(filters, node.metadata))


def _listed(index: VectorStoreIndex, filters: MetadataFilters | None) -> Iterator[BaseNode]:
    store = index.vector_store
    if not store.stores_text:
        yield from list(index.docstore.docs.values())
        return
    if (nodes := find_known_store(store).nodes) is not None:
        yield from nodes(store)
        return
    for scope in ("clip", "asset"):
        wanted: list[MetadataFilter | MetadataFilters] = [MetadataFilter(key="embedding_scope", value=scope)]
        if filters is not None:
            wanted += filters.filters if filters.condition == FilterCondition.AND else [filters]
        yield from store.get_nodes(None, MetadataFilters(filters=wanted), **_GET.get(type(store).__name__, {}))


def _allows(filters: MetadataFilters, metadata: Mapping[str, Any]) -> bool:
    results = [
        _allows(each, metadata) if isinstance(each, MetadataFilters) else _matches(each, metadata)
        for each in filters.filters
    ]
    if filters.condition == FilterCondition.NOT:
        return not any(results)
    return any(results) if filters.condition == FilterCondition.OR else all(results)


def _matches(each: MetadataFilter, metadata: Mapping[str, Any]) -> bool:
    try:
        return build_metadata_filter_fn(lambda _: metadata, MetadataFilters(filters=[each]))("")
    except TypeError:
        # A text is neither more nor less than a number.
        return False
