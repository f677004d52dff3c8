"""Amazon S3 Vectors (langchain-aws)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bedrock_marengo.search.fusion import SearchTarget
from langchain_marengo.known_stores.known_store import KnownStore, ScoredDocument, StoredRow, of_source, similar
from langchain_marengo.store_filters import dict_filter


def _s3_vectors_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    # The wrapper's search by vector omits the distance.
    reply = store.client.query_vectors(
        vectorBucketName=store.vector_bucket_name,
        indexName=store.index_name,
        topK=k,
        queryVector={store.data_type: vector},
        **({"filter": where} if (where := dict_filter(target, user_filter)) else {}),
        returnMetadata=True,
        returnDistance=True,
    )
    found = ((store._create_document(row), row["distance"]) for row in reply["vectors"])
    return similar(found, store.distance_metric == "cosine")


def _s3_vectors_rows(store: Any, source: str | None) -> Iterator[StoredRow]:
    # ListVectors has no filter: the whole index is listed.
    pages = store.client.get_paginator("list_vectors").paginate(
        vectorBucketName=store.vector_bucket_name, indexName=store.index_name, returnMetadata=True
    )
    documents = (store._create_document(row) for page in pages for row in page["vectors"])
    return of_source((StoredRow(row.id, row.page_content, row.metadata) for row in documents), source)


# Its filter is applied during the search, and may return fewer rows than there are.
S3_VECTORS = KnownStore(search=_s3_vectors_search, rows=_s3_vectors_rows, finds_all=False)
