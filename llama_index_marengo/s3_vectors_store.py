"""Amazon S3 Vectors (llama-index-vector-stores-s3): its own query reads only the first 100 hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores import MetadataFilters

from bedrock_marengo.search.s3_vectors import iter_rows, query_rows

__all__ = ["s3_vectors_nodes", "s3_vectors_search"]


def s3_vectors_search(
    store: Any, vector: Sequence[float], k: int, filters: MetadataFilters, sources: Sequence[str]
) -> list[tuple[BaseNode, float | None]]:
    """Nodes with their cosine similarity; None with another metric."""
    rows = query_rows(store.client, _index(store), vector, k, store._build_filter(filters), sources)
    is_cosine = store.distance_metric.lower() == "cosine"
    scores = [1.0 - row["distance"] if is_cosine else None for row in rows]
    return list(zip(store._parse_response({"vectors": rows}), scores, strict=True))


def s3_vectors_nodes(store: Any) -> Iterator[BaseNode]:
    """All nodes, in no order."""
    for row in iter_rows(store.client, _index(store)):
        yield from store._parse_response({"vectors": [row]})


def _index(store: Any) -> Mapping[str, str]:
    """An index by its ARN or by its name: an ARN contains the names of its bucket and of itself."""
    name, bucket = store.index_name_or_arn, store.bucket_name_or_arn
    if name.startswith("arn:"):
        return {"indexArn": name}
    return {"vectorBucketName": bucket.rpartition("/")[2], "indexName": name}
