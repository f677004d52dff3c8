"""Vector search of MongoDB Atlas, over a pymongo collection: what both frameworks' rows share."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.search.contents import StoreContents

__all__ = [
    "FILTER_FIELDS",
    "MAX_CANDIDATES",
    "add_filter_fields",
    "cosine_of",
    "create_vector_index",
    "find_rows",
    "nearest",
]

MAX_CANDIDATES = 10_000
"""``numCandidates`` of one ``$vectorSearch``, and so the most hits, from MongoDB's documentation of the stage."""
FILTER_FIELDS = ("embedding_option", "embedding_scope", "source", "start_sec", "end_sec")
"""What searches filter for: ``$vectorSearch`` refuses a filter for a field that its index doesn't name."""
_OVERSAMPLING = 10
"""Candidates for each hit: what both frameworks' stores request."""
_SCORE = "_marengo_score"
_READY_SEC = 120.0
"""How long a new index is waited for: as pymongo-search-utils does."""


def nearest(
    collection: Any, index: str, path: str, vector: list[float], k: int, where: Mapping[str, Any] | None
) -> list[tuple[dict[str, Any], float]]:
    """The nearest rows, best first, without their vectors, and their scores.

    Args:
        collection: a pymongo Collection.
        index: name of the vector search index.
        path: the field of the vector.
        vector: ``(dimension,)``.
        k: how many, at most ``MAX_CANDIDATES``.
        where: a filter in MongoDB's query language.

    Raises:
        ConfigurationError: The index can't filter for a field.
    """
    stage = {
        "index": index,
        "path": path,
        "queryVector": vector,
        "limit": k,
        "numCandidates": max(k, min(_OVERSAMPLING * k, MAX_CANDIDATES)),
        **({"filter": dict(where)} if where else {}),
    }
    pipeline = [{"$vectorSearch": stage}, {"$set": {_SCORE: {"$meta": "vectorSearchScore"}}}, {"$unset": path}]
    try:
        rows = list(collection.aggregate(pipeline))
    except Exception as error:
        if "needs to be indexed as" not in str(error):
            raise
        raise ConfigurationError(
            f"The vector search index {index!r} of {collection.full_name!r} can't filter for a field of this search: "
            f"{error!s:.200} Call create_indexes(...) once: it adds the fields of segments. Add your own fields to the "
            "index as {'type': 'filter', 'path': ...}.",
        ) from error
    return [(row, row.pop(_SCORE)) for row in rows]


def cosine_of(contents: StoreContents, collection: Any, index: str, path: str, score: float) -> float | None:
    """A score as a cosine; None if the index has another metric, or quantizes vectors, or doesn't show itself."""
    if contents.has_cosine is None:
        contents.has_cosine = _has_cosine(collection, index, path)
    # Of the cosine, vectorSearchScore is (1 + cosine) / 2.
    return 2 * score - 1 if contents.has_cosine else None


def _has_cosine(collection: Any, index: str, path: str) -> bool:
    try:
        fields = _definition(collection, index).get("fields", [])
    except Exception as error:
        # A role that may search need not be allowed to list indexes.
        if type(error).__name__ != "OperationFailure":
            raise
        return False
    return any(
        field.get("path") == path
        and field.get("similarity") == "cosine"
        and field.get("quantization", "none") == "none"
        for field in fields
    )


def _definition(collection: Any, index: str) -> dict[str, Any]:
    found = list(collection.list_search_indexes(index))
    return found[0]["latestDefinition"] if found else {}


def create_vector_index(collection: Any, index: str, path: str, dimension: int, prefix: str = "") -> None:
    """Create a vector search index for the cosine that can filter for segments, and wait until it can be queried.

    One that exists is left as it is.

    Args:
        collection: a pymongo Collection; it is created, too.
        index: name of the index.
        path: the field of the vector.
        dimension: of the vectors.
        prefix: of the metadata's fields, such as "metadata.".

    Raises:
        ConfigurationError: The index can't be queried after two minutes.
    """
    if collection.name not in collection.database.list_collection_names():
        collection.database.create_collection(collection.name)
    if _definition(collection, index):
        return
    fields = [
        {"type": "vector", "path": path, "numDimensions": dimension, "similarity": "cosine"},
        *({"type": "filter", "path": f"{prefix}{name}"} for name in FILTER_FIELDS),
    ]
    collection.create_search_index({"name": index, "type": "vectorSearch", "definition": {"fields": fields}})
    collection.create_index(f"{prefix}source")
    _wait(collection, index)


def add_filter_fields(collection: Any, index: str, prefix: str = "") -> list[str]:
    """Let a vector search index filter for segments, and index sources for listing and deleting.

    Returns:
        The fields that can be filtered for.

    Raises:
        ConfigurationError: There is no such index.
    """
    definition = _definition(collection, index)
    if not definition:
        raise ConfigurationError(
            f"{collection.full_name!r} has no vector search index {index!r}. Create it for the field of the vectors, "
            "or pass its name to the store.",
        )
    names = [f"{prefix}{name}" for name in FILTER_FIELDS]
    there = {field["path"] for field in definition["fields"] if field["type"] == "filter"}
    if missing := [name for name in names if name not in there]:
        fields = [*definition["fields"], *({"type": "filter", "path": name} for name in missing)]
        collection.update_search_index(index, {**definition, "fields": fields})
    collection.create_index(f"{prefix}source")
    return names


def _wait(collection: Any, index: str) -> None:
    until = time.monotonic() + _READY_SEC
    while not any(found.get("queryable") for found in collection.list_search_indexes(index)):
        if time.monotonic() > until:
            raise ConfigurationError(
                f"The new vector search index {index!r} of {collection.full_name!r} can't be queried after "
                f"{_READY_SEC:.0f} s. Wait until Atlas shows it as ready, and call this again.",
            )
        time.sleep(0.5)


def find_rows(collection: Any, path: str, where: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Rows without their vectors."""
    rows: Iterable[dict[str, Any]] = collection.find(where, {path: 0})
    return rows
