"""Pinecone (llama-index-vector-stores-pinecone): its search also returns all vectors, which have a limit of 4 MB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from bedrock_marengo.search import pinecone
from bedrock_marengo.search.contents import contents_of

__all__ = ["pinecone_create", "pinecone_nodes", "pinecone_search"]


def pinecone_search(store: Any, vector: list[float], k: int, filters: MetadataFilters | None) -> list[NodeWithScore]:
    """The nearest nodes, best first; their scores are cosines, if the index has them."""
    from llama_index.vector_stores.pinecone.base import _to_pinecone_filter

    where = {"filter": _to_pinecone_filter(filters)} if filters is not None else {}
    found = store.client.query(vector=vector, top_k=k, include_metadata=True, namespace=store.namespace or "", **where)
    is_cosine = pinecone.has_cosine(contents_of(store), store.client)
    return [
        NodeWithScore(node=metadata_dict_to_node(match.metadata), score=match.score if is_cosine else None)
        for match in found.matches
    ]


def pinecone_nodes(store: Any) -> Iterator[BaseNode]:
    """All nodes."""
    rows = pinecone.iter_rows(store.client, store.namespace, None, 0)
    return (metadata_dict_to_node(metadata) for _, metadata in rows)


def pinecone_create(cls: Any, name: str, dimension: int, connection: dict[str, Any]) -> Any:
    """A store over a namespace of its own: a query reads its namespace only."""
    store = cls(namespace=name, **connection)
    pinecone.check_index(store.client, dimension)
    return store
