"""Milvus (llama-index-vector-stores-milvus): its own text search leaves out a fifth of the query's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery

from bedrock_marengo import ConfigurationError

__all__ = ["milvus_create", "milvus_text_search"]


def milvus_text_search(
    store: Any, text: str, k: int, filters: MetadataFilters | None, sources: Sequence[str]
) -> list[NodeWithScore]:
    """Nodes by the words of their text, best first; their scores are BM25's. Hits are sifted by source later."""
    if not (store.enable_sparse and type(store.sparse_embedding_function).__name__ == "BM25BuiltInFunction"):
        raise ConfigurationError(
            "This MilvusVectorStore has no text search: create its collection with enable_sparse=True and "
            "sparse_embedding_function=BM25BuiltInFunction(), or use words='bm25'."
        )
    where, fields = store._prepare_before_search(VectorStoreQuery(filters=filters))
    found = store.client.search(
        store.collection_name,
        [text],
        anns_field=store.sparse_embedding_field,
        limit=k,
        filter=where,
        output_fields=fields,
    )
    nodes, scores, _ = store._parse_from_milvus_results(found)
    # Milvus Lite returns its scores below 0.
    return [NodeWithScore(node=node, score=abs(score)) for node, score in zip(nodes, scores, strict=True)]


def milvus_create(cls: Any, name: str, dimension: int, connection: dict[str, Any]) -> Any:
    """A store on a collection for the cosine, which is created if it doesn't exist."""
    index = {"index_type": "AUTOINDEX"}
    settings = {"similarity_metric": "COSINE", "index_config": index, **connection}
    return cls(collection_name=name, dim=dimension, **settings)
