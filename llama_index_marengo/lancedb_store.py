"""LanceDB (llama-index-vector-stores-lancedb): its own text search creates its index again after each change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores import MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from bedrock_marengo.search.lancedb import create_scalar_indexes, create_text_index, query_words
from bedrock_marengo.search.postgres import sql_text
from bedrock_marengo.search.targets import exact_sources

__all__ = ["lancedb_create_indexes", "lancedb_text_search"]


def lancedb_text_search(
    store: Any, text: str, k: int, filters: MetadataFilters | None, sources: Sequence[str]
) -> list[NodeWithScore]:
    """Nodes by the words of their text, best first; their scores are BM25's."""
    from llama_index.vector_stores.lancedb.base import _to_lance_filter

    if store._table is None:
        return []
    terms = [f"({_to_lance_filter(filters, store._metadata_keys)})"] if filters is not None else []
    # Of prefixes, hits are sifted later.
    if exact := exact_sources(sources):
        terms.append(f"metadata.source IN ({', '.join(map(sql_text, exact))})")
    rows = query_words(store._table, store.text_key, text, k, " AND ".join(terms))
    return [NodeWithScore(node=metadata_dict_to_node(row["metadata"]), score=row["_score"]) for row in rows]


def lancedb_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    """Scalar indexes of what searches filter for, and a full-text index."""
    if store._table is None:
        return []
    return [*create_scalar_indexes(store._table), create_text_index(store._table, store.text_key)]
