"""MongoDB Atlas (llama-index-vector-stores-mongodb): its search refuses nested filters, and returns all vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import FilterCondition, MetadataFilters
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search import mongodb
from bedrock_marengo.search.contents import contents_of

__all__ = ["mongodb_create", "mongodb_create_indexes", "mongodb_nodes", "mongodb_search"]

_CONDITIONS = {FilterCondition.AND: "$and", FilterCondition.OR: "$or", FilterCondition.NOT: "$nor"}


def mongodb_search(store: Any, vector: list[float], k: int, filters: MetadataFilters | None) -> list[NodeWithScore]:
    """The nearest nodes, best first; their scores are cosines, if the index has them."""
    place = store.collection, store._vector_index_name, store._embedding_key
    where = _where(filters, store._metadata_key) if filters is not None else None
    contents = contents_of(store)
    return [
        NodeWithScore(node=_node(store, row), score=mongodb.cosine_of(contents, *place, score))
        for row, score in mongodb.nearest(*place, vector, k, where)
    ]


def mongodb_nodes(store: Any) -> Iterator[BaseNode]:
    """All nodes."""
    return (_node(store, row) for row in mongodb.find_rows(store.collection, store._embedding_key, {}))


def mongodb_create(cls: Any, name: str, dimension: int, connection: dict[str, Any]) -> Any:
    """A store over a collection of its own, with an index that can filter for segments."""
    store = cls(collection_name=name, **connection)
    path, prefix = store._embedding_key, f"{store._metadata_key}."
    mongodb.create_vector_index(store.collection, store._vector_index_name, path, dimension, prefix)
    return store


def mongodb_create_indexes(store: Any, tracks: Sequence[str]) -> list[str]:
    """Let the store's index filter for segments."""
    return mongodb.add_filter_fields(store.collection, store._vector_index_name, f"{store._metadata_key}.")


def _node(store: Any, row: dict[str, Any]) -> BaseNode:
    node = metadata_dict_to_node(row[store._metadata_key])
    node.set_content(row[store._text_key])
    return node


def _where(filters: MetadataFilters, prefix: str) -> dict[str, Any]:
    from llama_index.vector_stores.mongodb.pipelines import map_lc_mql_filter_operators

    terms: list[dict[str, Any]] = []
    for each in filters.filters:
        if isinstance(each, MetadataFilters):
            terms.append(_where(each, prefix))
        else:
            terms.append({f"{prefix}.{each.key}": {map_lc_mql_filter_operators(each.operator): each.value}})
    if filters.condition not in _CONDITIONS:
        raise ConfigurationError(f"filters: the condition {filters.condition!r} is not one of AND, OR, NOT.")
    return {_CONDITIONS[filters.condition]: terms}
