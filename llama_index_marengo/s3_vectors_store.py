"""Amazon S3 Vectors (llama-index-vector-stores-s3): its own query reads only the first 100 hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError
from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.vector_stores import MetadataFilters

from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.search.s3_vectors import iter_rows, query_rows

__all__ = ["s3_vectors_create", "s3_vectors_nodes", "s3_vectors_search"]


def s3_vectors_search(
    store: Any, vector: Sequence[float], k: int, filters: MetadataFilters | None, sources: Sequence[str]
) -> list[NodeWithScore]:
    """Nodes, best first, with their cosine similarity; with another metric, without a score."""
    rows = query_rows(_client(store), _index(store), vector, k, store._build_filter(filters), sources)
    is_cosine = store.distance_metric.lower() == "cosine"
    nodes = store._parse_response({"vectors": rows})
    return [
        NodeWithScore(node=node, score=1.0 - row["distance"] if is_cosine else None)
        for node, row in zip(nodes, rows, strict=True)
    ]


def s3_vectors_nodes(store: Any) -> Iterator[BaseNode]:
    """All nodes, in no order."""
    for row in iter_rows(_client(store), _index(store)):
        yield from store._parse_response({"vectors": [row]})


def s3_vectors_create(cls: Any, name: str, dimension: int, connection: Mapping[str, Any]) -> Any:
    """A store on a new index for the cosine, or on the one that has this name."""
    # Names of indexes have no underscore.
    name = name.replace("_", "-")
    try:
        return cls.create_index_from_bucket(index_name=name, dimension=dimension, **connection)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConflictException":
            raise
        return cls(name, **connection)


_CLIENTS = ForkSafeLock()


def _client(store: Any) -> Any:
    # The store makes a new one each time, and two threads can't do so with one session.
    with _CLIENTS:
        return store.client


def _index(store: Any) -> Mapping[str, str]:
    """An index by its ARN or by its name: an ARN contains the names of its bucket and of itself."""
    name, bucket = store.index_name_or_arn, store.bucket_name_or_arn
    if name.startswith("arn:"):
        return {"indexArn": name}
    return {"vectorBucketName": bucket.rpartition("/")[2], "indexName": name}
