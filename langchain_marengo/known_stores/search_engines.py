"""OpenSearch (langchain-community) and Elasticsearch (langchain-elasticsearch)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.retrieve import limit_of
from langchain_marengo.known_stores.known_store import KnownStore, ScoredDocument, StoredRow, similar
from langchain_marengo.store_filters import term_filter


def _opensearch_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    terms = term_filter(target, user_filter, "metadata.{}.keyword".format)
    filters = {"efficient_filter": {"bool": {"filter": terms}}} if terms else {}
    found = store.similarity_search_with_score_by_vector(vector, k, **filters)
    # The meaning of its score depends on the engine and the space.
    return similar(found, False)


def _opensearch_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    query = {"term": {"metadata.source.keyword": source}} if source is not None else {"match_all": {}}
    body = {"query": query, "_source": ["text", "metadata"], "size": 1000}
    page = store.client.search(index=store.index_name, body=body, params={"scroll": "5m"})
    while rows := page["hits"]["hits"]:
        for row in rows:
            yield StoredRow(row["_id"], row["_source"].get("text", ""), row["_source"]["metadata"])
        page = store.client.scroll(body={"scroll_id": page["_scroll_id"], "scroll": "5m"})


# Elasticsearch (langchain-elasticsearch)


def _elasticsearch_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    def with_candidates(body: dict[str, Any], query: str | None) -> dict[str, Any]:
        # The store asks for 50, and Elasticsearch wants at least k, and at most 10,000.
        if "knn" in body:
            body["knn"]["num_candidates"] = max(k, min(2 * k, limit_of(store)))
        return body

    found = store.similarity_search_by_vector_with_relevance_scores(
        vector,
        k,
        filter=term_filter(target, user_filter, partial(_elasticsearch_keyword, store)),
        custom_query=with_candidates,
    )
    # Its index keeps vectors quantized, and its scores are of those.
    return similar(found, False)


def _elasticsearch_keyword(store: Any, name: str) -> str:
    # Elasticsearch's own mapping of a text has a second field for it.
    mapped = (store._store.metadata_mappings or {}).get(name, {})
    return f"metadata.{name}" if mapped.get("type") == "keyword" else f"metadata.{name}.keyword"


def _elasticsearch_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    client, inner = store.client, store._store
    query = {"term": {_elasticsearch_keyword(store, "source"): source}} if source is not None else {"match_all": {}}
    fields = [inner.text_field, "metadata"]
    page = client.search(index=inner.index, query=query, source=fields, size=1000, scroll="5m")
    while rows := page["hits"]["hits"]:
        for row in rows:
            yield StoredRow(row["_id"], row["_source"].get(inner.text_field, ""), row["_source"]["metadata"])
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="5m")


# Their mappings index all that is filtered for.
OPENSEARCH = KnownStore(search=_opensearch_search, rows=_opensearch_rows, create_indexes=lambda store, tracks: [])
ELASTICSEARCH = KnownStore(
    search=_elasticsearch_search, rows=_elasticsearch_rows, create_indexes=lambda store, tracks: []
)
