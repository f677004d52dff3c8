"""Amazon S3 Vectors, as both frameworks' stores use it: all pages of a query, within the service's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from bedrock_marengo.errors import ConfigurationError, warn_once

__all__ = ["MAX_CONSTRAINTS", "MAX_REQUEST_BYTES", "VectorRow", "iter_rows", "query_rows", "query_words"]

MAX_CONSTRAINTS = 100
"""Values in one filter of an ENHANCED query, from AWS's page on limits: each of an ``$in`` counts."""
MAX_REQUEST_BYTES = 20 * 1024 * 1024
"""Of one PutVectors, from AWS's page on limits."""
_MAX_TEXT = 1024
"""Characters of one text of a query, from botocore's model of the service."""
_PAGE = 100
_MAX_TOP_K = 10_000

VectorRow = dict[str, Any]
"""A vector as the service returns it: ``key``, ``metadata`` and, of a query, ``distance``."""


def query_rows(
    client: Any,
    index: Mapping[str, str],
    vector: Sequence[float],
    k: int,
    where: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
) -> list[VectorRow]:
    """The nearest ``k`` vectors that a filter matches, nearest first, each once.

    A filter is applied before the search (``queryMode="ENHANCED"``), since an index in CLASSIC mode may find fewer than
    ``k``. If the installed botocore doesn't know that yet, the nearest 10,000 are searched.

    Args:
        client: boto3's client for ``s3vectors``.
        index: its names or its ARN, as keywords of the client's calls.
        vector: ``(dimension,)``, as Python floats.
        k: at most 10,000.
        where: a filter in the service's language.
        sources: only these S3 URIs; one that ends in "/" is a prefix, which an older botocore can't filter for. More
            than a filter has room for are divided between several queries.

    Raises:
        ConfigurationError: The filter has more values than the service allows.
        botocore.exceptions.ClientError: The service refused the query.
    """
    room = MAX_CONSTRAINTS - _values(where or {})
    has_room = room >= bool(sources)
    # Without room, only an index in CLASSIC mode can answer: it has no such limit.
    is_enhanced = has_room and "queryMode" in _members(client)
    if not is_enhanced and any(source.endswith("/") for source in sources):
        # What is found is checked all the same.
        sources = ()
    found: dict[str, VectorRow] = {}
    for few in _divided(sources, room if has_room else len(sources)):
        terms = [*([where] if where else []), *([_any_of(few)] if few else [])]
        request = {
            **index,
            "queryVector": {"float32": list(vector)},
            "returnMetadata": True,
            "returnDistance": True,
            **({"filter": {"$and": terms} if len(terms) > 1 else terms[0]} if terms else {}),
            **({"queryMode": "ENHANCED"} if terms and is_enhanced else {}),
        }
        try:
            rows = _pages(client, request, k, k)
            if terms and not is_enhanced and len(rows) < k:
                rows = _pages(client, request, _MAX_TOP_K, k)
        except ClientError as error:
            if has_room or error.response["Error"]["Code"] != "ValidationException":
                raise
            raise ConfigurationError(
                f"The filter has {_values(where)} values, and an index of S3 Vectors in ENHANCED mode allows "
                f"{MAX_CONSTRAINTS}: those of an $in, and the track, the scope, times and a source, each count as one. "
                "Search in several steps."
            ) from error
        found |= {row["key"]: row for row in rows}
    return sorted(found.values(), key=lambda row: float(row["distance"]))[:k]


def query_words(
    client: Any,
    index: Mapping[str, str],
    text: str,
    key: str,
    k: int,
    where: Mapping[str, Any] | None = None,
    sources: Sequence[str] = (),
) -> list[tuple[VectorRow, float]]:
    """The ``k`` best vectors by the service's BM25, and their scores, best first. More than 1,024 characters are cut.

    Args:
        client: boto3's client for ``s3vectors``.
        index: its names or its ARN, as keywords of the client's calls.
        text: what to search for.
        key: of the metadata that is searched.
        k: at most 10,000.
        where: a filter in the service's language.
        sources: only these S3 URIs; one that ends in "/" is a prefix.

    Raises:
        ConfigurationError: The index or the installed botocore has no text search.
        botocore.exceptions.ClientError: The service refused the query.
    """
    if "queryTexts" not in _members(client):
        raise ConfigurationError(
            "The installed botocore can't search S3 Vectors by words: run pip install -U boto3, or use words='bm25'."
        )
    found: list[tuple[VectorRow, float]] = []
    for few in _divided(sources, MAX_CONSTRAINTS - _values(where or {})):
        terms = [*([where] if where else []), *([_any_of(few)] if few else [])]
        request = {
            **index,
            "queryTexts": [{"metadataKey": key, "text": text[:_MAX_TEXT]}],
            "returnMetadata": True,
            "returnScores": True,
            **({"filter": {"$and": terms} if len(terms) > 1 else terms[0]} if terms else {}),
        }
        try:
            rows = _pages(client, request, k, k)
        except ClientError as error:
            if "text search" not in str(error):
                raise
            raise ConfigurationError(
                f"This index of S3 Vectors can't be searched by words: {error!s:.200} Configure text search of {key!r} "
                "for it (docs/s3-vectors.md), or use words='bm25'."
            ) from error
        found += [(row, sum(each["score"] for each in row["scores"]["bm25Scores"])) for row in rows]
    return sorted(found, key=lambda pair: -pair[1])[:k]


def iter_rows(client: Any, index: Mapping[str, str]) -> Iterator[VectorRow]:
    """All vectors of an index with their metadata, in no order; none if there is no such index."""
    try:
        for page in client.get_paginator("list_vectors").paginate(**index, returnMetadata=True):
            yield from page["vectors"]
    except ClientError as error:
        # langchain-aws creates an index when it first adds to it.
        if error.response["Error"]["Code"] != "NotFoundException":
            raise


def _pages(client: Any, request: Mapping[str, Any], top_k: int, enough: int) -> list[VectorRow]:
    """Of the nearest ``top_k``, those that match: all pages, until there are enough."""
    if top_k > _PAGE and "nextToken" not in _members(client):
        if enough > _PAGE:
            warn_once(
                "pages of S3 Vectors",
                f"The installed botocore reads only the first {_PAGE} results of a query of S3 Vectors, and {enough} "
                "were requested. Run pip install -U boto3.",
            )
        top_k = _PAGE
    rows: list[VectorRow] = []
    more: dict[str, str] = {}
    while len(rows) < enough:
        page = client.query_vectors(**request, topK=top_k, **more)
        rows += page["vectors"]
        if "nextToken" not in page:
            break
        # A page may be empty and not the last.
        more = {"nextToken": page["nextToken"]}
    return rows


def _members(client: Any) -> Mapping[str, Any]:
    """What the installed botocore can ask of a query."""
    members: Mapping[str, Any] = client.meta.service_model.operation_model("QueryVectors").input_shape.members
    return members


def _divided(sources: Sequence[str], room: int) -> Iterator[Sequence[str]]:
    unique = list(dict.fromkeys(sources))
    for first in range(0, max(1, len(unique)), max(1, room)):
        yield unique[first : first + room]


def _any_of(sources: Sequence[str]) -> dict[str, Any]:
    exact = [source for source in sources if not source.endswith("/")]
    terms: list[dict[str, Any]] = [{"source": {"$in": exact}}] if exact else []
    terms += [{"source": {"$startsWith": source}} for source in sources if source.endswith("/")]
    return {"$or": terms} if len(terms) > 1 else terms[0]


def _values(where: Any) -> int:
    """How many values a filter has."""
    if isinstance(where, Mapping):
        return sum(map(_values, where.values()))
    return sum(map(_values, where)) if isinstance(where, list | tuple) else 1
