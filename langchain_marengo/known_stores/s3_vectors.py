"""Amazon S3 Vectors (langchain-aws)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError
from langchain_core.documents import Document

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.s3_vectors import MAX_REQUEST_BYTES, iter_rows, query_rows, query_words
from bedrock_marengo.search.targets import SearchTarget
from langchain_marengo.known_stores.known_store import (
    KnownStore,
    NewStore,
    ScoredDocument,
    StoredRow,
    of_source,
    similar,
)
from langchain_marengo.store_filters import dict_filter, matches

_VECTORS = 500
"""In one PutVectors, from botocore's model of the service."""
_NUMBER_BYTES = 24
"""Of one number of a vector as JSON, at most."""


def _s3_vectors_search(
    store: Any, vector: list[float], k: int, target: SearchTarget, user_filter: Any
) -> list[ScoredDocument]:
    # Its searches read the first page only, and the one by vector omits the distance.
    where = dict_filter(replace(target, sources=()), _joined(user_filter))
    rows = query_rows(store.client, _index(store), vector, k, where, target.sources)
    found = ((store._create_document(row), row["distance"]) for row in rows)
    return similar(found, store.distance_metric == "cosine")


def _s3_vectors_text_search(
    store: Any, text: str, k: int, target: SearchTarget, user_filter: Any
) -> list[tuple[Document, float]]:
    where = dict_filter(replace(target, sources=()), _joined(user_filter))
    key = store.page_content_metadata_key or "_page_content"
    found = query_words(store.client, _index(store), text, key, min(k, 10_000), where, target.sources)
    return [(store._create_document(row), score) for row, score in found]


def _s3_vectors_rows(store: Any, source: str | None, user_filter: Any = None) -> Iterator[StoredRow]:
    # ListVectors has no filter: the whole index is listed.
    documents = map(store._create_document, iter_rows(store.client, _index(store)))
    rows = (StoredRow(row.id, row.page_content, row.metadata) for row in documents)
    return of_source((row for row in rows if matches(user_filter or {}, row.metadata)), source)


def _s3_vectors_add(store: Any, documents: Mapping[str, Document]) -> None:
    """Add Documents by ID, as many in one request as the service takes: it bills at least 128 KB of each."""
    if not store.page_content_metadata_key:
        raise ConfigurationError(
            "This AmazonS3Vectors has page_content_metadata_key=None, and would not store the segments' URIs. Create "
            "it without that setting."
        )
    dimension = store.embeddings.core.dimension if hasattr(store.embeddings, "core") else 4096
    batch: dict[str, Document] = {}
    size = 0
    for key, document in documents.items():
        text = json.dumps([key, document.page_content, document.metadata])
        more = len(text) + _NUMBER_BYTES * dimension
        if len(batch) == _VECTORS or (batch and size + more > MAX_REQUEST_BYTES):
            _put(store, batch)
            batch, size = {}, 0
        batch[key] = document
        size += more
    if batch:
        _put(store, batch)


def _put(store: Any, batch: Mapping[str, Document]) -> None:
    try:
        store.add_documents(list(batch.values()), ids=list(batch), batch_size=len(batch))
    except ClientError as error:
        if "Filterable metadata" not in str(error):
            raise
        longest = max(batch.values(), key=lambda document: len(json.dumps(document.metadata)))
        raise ConfigurationError(
            f"S3 Vectors allows 2,048 bytes of filterable metadata, and a segment has more, such as one of "
            f"{longest.metadata.get('source')!r}. Its text must not count: create the index with "
            f"non_filterable_metadata_keys=[{store.page_content_metadata_key!r}]. Store less of your own metadata, or "
            "add the names of long fields that you don't filter for."
        ) from error


def _index(store: Any) -> dict[str, str]:
    return {"vectorBucketName": store.vector_bucket_name, "indexName": store.index_name}


def _joined(user_filter: Any) -> Any:
    """The service documents no filter with several keys."""
    if isinstance(user_filter, Mapping) and len(user_filter) > 1:
        return {"$and": [{key: value} for key, value in user_filter.items()]}
    return user_filter


def _s3_vectors_create(new: NewStore) -> Any:
    settings = {"non_filterable_metadata_keys": ["_page_content"], **new.connection}
    # Names of indexes have no underscore.
    store = new.cls(index_name=new.name.replace("_", "-"), embedding=new.embeddings, **settings)
    if store._get_index() is None:
        store._create_index(dimension=new.dimension)
    return store


S3_VECTORS = KnownStore(
    search=_s3_vectors_search,
    rows=_s3_vectors_rows,
    text_search=_s3_vectors_text_search,
    add=_s3_vectors_add,
    create=_s3_vectors_create,
    # All filterable metadata is indexed.
    create_indexes=lambda store, tracks: [],
)
