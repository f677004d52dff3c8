"""OpenSearch (langchain-community) and Elasticsearch (langchain-elasticsearch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from langchain_core.documents import Document

from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.match_queries import match_query
from bedrock_marengo.search.store_limits import limit_of
from langchain_marengo.known_stores.known_store import KnownStore, ScoredDocument, StoredRow, add_documents, similar
from langchain_marengo.store_filters import term_filter

_PAGE = 1000
_ALL: dict[str, Any] = {"match_all": {}}


def _opensearch_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    terms = term_filter(target, user_filter, "metadata.{}.keyword".format)
    filters = {"efficient_filter": {"bool": {"filter": terms}}} if terms else {}
    found = store.similarity_search_with_score_by_vector(vector, k, **filters)
    # The meaning of its score depends on the engine and the space.
    return similar(found, False)


def _opensearch_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    from opensearchpy.exceptions import NotFoundError

    query = match_query("text", text, term_filter(target, user_filter, "metadata.{}.keyword".format))
    body = {"query": query, "_source": ["text", "metadata"], "size": k}
    try:
        return _scored(store.client.search(index=store.index_name, body=body), "text")
    except NotFoundError:
        # It creates its index when the first row is added.
        return []


def _scored(page: Any, field: str) -> list[tuple[Document, float]]:
    rows = ((row, row["_source"]) for row in page["hits"]["hits"] if row["_score"] > 0)
    return [
        (Document(id=row["_id"], page_content=own.get(field, ""), metadata=own["metadata"]), row["_score"])
        for row, own in rows
    ]


def _opensearch_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    from opensearchpy.exceptions import NotFoundError

    pages = _serverless_pages if store.is_aoss else _opensearch_pages
    where = _all_of({"term": {"metadata.source.keyword": source}} if source is not None else None, user_filter)
    try:
        for row in pages(store, where):
            yield StoredRow(row["_id"], row["_source"].get("text", ""), row["_source"]["metadata"])
    except NotFoundError:
        # It creates its index when the first row is added.
        return


def _all_of(term: Any, user_filter: Any) -> dict[str, Any]:
    terms = [term] if term else []
    if user_filter:
        terms += user_filter if isinstance(user_filter, list) else [user_filter]
    return {"bool": {"filter": terms}} if len(terms) > 1 else terms[0] if terms else _ALL


def _opensearch_pages(store: Any, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    body = {"query": query, "_source": ["text", "metadata"], "size": _PAGE}
    page = store.client.search(index=store.index_name, body=body, params={"scroll": "5m"})
    while rows := page["hits"]["hits"]:
        yield from rows
        page = store.client.scroll(body={"scroll_id": page["_scroll_id"], "scroll": "5m"})


# OpenSearch Serverless has no scrolls, gives rows IDs of its own, and shows them up to a minute later. The store keeps
# a row's own ID in the field "id".


def _serverless_pages(store: Any, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    body = {"_source": ["text", "metadata", "id"], "size": _PAGE, "sort": ["id.keyword"]}
    last, seen = "", set[str]()
    while True:
        # From the last one on, since several rows may have the same.
        where = {"bool": {"filter": [query, {"range": {"id.keyword": {"gte": last}}}]}}
        rows = store.client.search(index=store.index_name, body={**body, "query": where})["hits"]["hits"]
        new = [row for row in rows if row["_id"] not in seen]
        yield from new
        if len(rows) < _PAGE or not new:
            return
        last = rows[-1]["_source"]["id"]
        seen = {row["_id"] for row in rows if row["_source"]["id"] == last}


def _opensearch_add(store: Any, documents: Mapping[str, Document]) -> None:
    old: list[str] = []
    if store.is_aoss and store.client.indices.exists(index=store.index_name):
        old = [row["_id"] for row in _serverless_pages(store, {"terms": {"id.keyword": list(documents)}})]
    add_documents(store, documents)
    if old:
        _opensearch_delete(store, old)


def _opensearch_delete(store: Any, ids: list[str]) -> None:
    # Serverless refuses requests to refresh.
    store.delete(ids, refresh_indices=not store.is_aoss)


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


def _elasticsearch_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    from elasticsearch import NotFoundError

    inner = store._store
    query = match_query(
        inner.text_field, text, term_filter(target, user_filter, partial(_elasticsearch_keyword, store))
    )
    fields = [inner.text_field, "metadata"]
    try:
        return _scored(store.client.search(index=inner.index, query=query, source=fields, size=k), inner.text_field)
    except NotFoundError:
        # It creates its index when the first row is added.
        return []


def _elasticsearch_keyword(store: Any, name: str) -> str:
    # Elasticsearch's own mapping of a text has a second field for it.
    mapped = (store._store.metadata_mappings or {}).get(name, {})
    return f"metadata.{name}" if mapped.get("type") == "keyword" else f"metadata.{name}.keyword"


def _elasticsearch_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    from elasticsearch import NotFoundError

    client, inner = store.client, store._store
    source_term = {"term": {_elasticsearch_keyword(store, "source"): source}} if source is not None else None
    query = _all_of(source_term, user_filter)
    fields = [inner.text_field, "metadata"]
    try:
        page = client.search(index=inner.index, query=query, source=fields, size=_PAGE, scroll="5m")
    except NotFoundError:
        # It creates its index when the first row is added.
        return
    while rows := page["hits"]["hits"]:
        for row in rows:
            yield StoredRow(row["_id"], row["_source"].get(inner.text_field, ""), row["_source"]["metadata"])
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="5m")


# Their mappings index all that is filtered for.
OPENSEARCH = KnownStore(
    search=_opensearch_search,
    text_search=_opensearch_text_search,
    rows=_opensearch_rows,
    add=_opensearch_add,
    delete=_opensearch_delete,
    upserts=lambda store: not store.is_aoss,
    create_indexes=lambda store, tracks: [],
)
ELASTICSEARCH = KnownStore(
    search=_elasticsearch_search,
    text_search=_elasticsearch_text_search,
    rows=_elasticsearch_rows,
    create_indexes=lambda store, tracks: [],
)
