"""Elasticsearch (llama-index-vector-stores-elasticsearch): its own filters know nothing but equality of texts."""

from __future__ import annotations

from typing import Any

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from bedrock_marengo import ConfigurationError

__all__ = ["elasticsearch_asearch", "elasticsearch_search"]

_CLAUSES = {FilterCondition.AND: "filter", FilterCondition.OR: "should", FilterCondition.NOT: "must_not"}
_RANGES = {FilterOperator.GT: "gt", FilterOperator.GTE: "gte", FilterOperator.LT: "lt", FilterOperator.LTE: "lte"}
_TERMS = {FilterOperator.EQ: "term", FilterOperator.NE: "term", FilterOperator.IN: "terms", FilterOperator.NIN: "terms"}
_NOT = {FilterOperator.NE, FilterOperator.NIN}


def elasticsearch_search(
    store: Any, vector: list[float], k: int, filters: MetadataFilters | None
) -> list[NodeWithScore]:
    """The nearest nodes, best first, without scores: the store's are relative to each other."""
    return _nodes(store.query(_query(vector, k), es_filter=_clauses(store, filters)))


async def elasticsearch_asearch(
    store: Any, vector: list[float], k: int, filters: MetadataFilters | None
) -> list[NodeWithScore]:
    """``elasticsearch_search`` on the caller's event loop, to which the store's client belongs."""
    return _nodes(await store.aquery(_query(vector, k), es_filter=_clauses(store, filters)))


def _query(vector: list[float], k: int) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=vector, similarity_top_k=k)


def _nodes(found: VectorStoreQueryResult) -> list[NodeWithScore]:
    return [NodeWithScore(node=node) for node in found.nodes or ()]


def _clauses(store: Any, filters: MetadataFilters | None) -> list[dict[str, Any]]:
    return [_joined(store, filters)] if filters is not None else []


def _joined(store: Any, filters: MetadataFilters) -> dict[str, Any]:
    if filters.condition not in _CLAUSES:
        raise ConfigurationError(f"filters: the condition {filters.condition!r} is not one of AND, OR, NOT.")
    terms = [
        _joined(store, each) if isinstance(each, MetadataFilters) else _term(store, each) for each in filters.filters
    ]
    return {"bool": {_CLAUSES[filters.condition]: terms}}


def _term(store: Any, each: MetadataFilter) -> dict[str, Any]:
    if each.operator in _RANGES:
        return {"range": {f"metadata.{each.key}": {_RANGES[each.operator]: each.value}}}
    if each.operator not in _TERMS:
        raise ConfigurationError(
            f"filters: {each.key!r} has the operator {each.operator.value!r}, which can't be used with Elasticsearch. "
            f"Use one of {', '.join(operator.value for operator in (*_TERMS, *_RANGES))}."
        )
    values = each.value if isinstance(each.value, list) else [each.value]
    mapped = ((store._store.metadata_mappings or {}).get(each.key) or {}).get("type")
    # Elasticsearch's own mapping of a text has a second field for the whole of it.
    suffix = ".keyword" if mapped != "keyword" and any(isinstance(value, str) for value in values) else ""
    term = {_TERMS[each.operator]: {f"metadata.{each.key}{suffix}": each.value}}
    return {"bool": {"must_not": [term]}} if each.operator in _NOT else term
