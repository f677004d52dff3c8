"""OpenSearch, and OpenSearch Serverless, for which its own search compares the query with every row that it filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters

from bedrock_marengo.search.match_queries import match_query
from bedrock_marengo.search.targets import exact_sources

__all__ = ["opensearch_nodes", "opensearch_search", "opensearch_text_search"]

_SAMPLE = 1_000
_EFFICIENT = ("faiss", "lucene")
"""Engines that filter while they search."""


def opensearch_search(store: Any, vector: list[float], k: int, filters: MetadataFilters | None) -> list[NodeWithScore]:
    """The nearest nodes, best first, without scores: their meaning depends on the engine and the space."""
    client = store.client
    client._ensure_initialized()
    hidden = [*(client._excluded_source_fields or ()), client._embedding_field]
    if client._method["engine"] in _EFFICIENT:
        where = {"bool": {"filter": client._parse_filters(filters)}} if filters is not None else None
        body = client._default_approximate_search_query(
            vector, k, filters=where, vector_field=client._embedding_field, excluded_source_fields=hidden
        )
    else:
        body = client._knn_search_query(
            client._embedding_field, vector, k, filters=filters, excluded_source_fields=hidden
        )
    return [NodeWithScore(node=node) for node in _found(client, body)]


def opensearch_text_search(
    store: Any, text: str, k: int, filters: MetadataFilters | None, sources: Sequence[str]
) -> list[NodeWithScore]:
    """Nodes by the words of their text, best first; their scores are BM25's."""
    client = store.client
    client._ensure_initialized()
    terms = client._parse_filters(filters)
    # Of prefixes, hits are sifted later.
    if exact := exact_sources(sources):
        terms.append({"terms": {"metadata.source.keyword": exact}})
    hidden = {"exclude": [client._embedding_field]}
    body = {"query": match_query(client._text_field, text, terms), "size": k, "_source": hidden}
    found = client._to_query_result(client._os_client.search(index=client._index, body=body))
    return [
        NodeWithScore(node=node, score=score)
        for node, score in zip(found.nodes, found.similarities, strict=True)
        if score > 0
    ]


def opensearch_nodes(store: Any) -> Iterable[BaseNode]:
    """Some of its nodes."""
    client = store.client
    client._ensure_initialized()
    hidden = {"exclude": [client._embedding_field]}
    return _found(client, {"query": {"match_all": {}}, "size": _SAMPLE, "_source": hidden})


def _found(client: Any, body: dict[str, Any]) -> list[BaseNode]:
    found = client._to_query_result(client._os_client.search(index=client._index, body=body))
    nodes: list[BaseNode] = found.nodes
    return nodes
