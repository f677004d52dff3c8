"""Rows of a Pinecone index: what both frameworks' rows share. ``Index`` is pinecone's, of version 7 or later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bedrock_marengo.errors import ConfigurationError
from bedrock_marengo.search.contents import StoreContents

__all__ = ["check_index", "has_cosine", "iter_rows"]

MAX_TOP_K = 10_000
"""The most hits of one query, from Pinecone's operation limits."""
_FETCHED = 100
"""IDs in one fetch: they are in its URL. Pinecone lists as many in one page."""


def has_cosine(contents: StoreContents, index: Any) -> bool:
    """Whether the index's scores are cosines; only the index itself knows its metric."""
    if contents.has_cosine is None:
        contents.has_cosine = getattr(index.describe_index_stats(), "metric", None) == "cosine"
    return contents.has_cosine


def check_index(index: Any, dimension: int) -> None:
    """Refuse an index of another metric or dimension.

    Raises:
        ConfigurationError: Segments can't be kept in it.
    """
    stats = index.describe_index_stats()
    metric = getattr(stats, "metric", None) or "cosine"
    if (metric, stats.dimension) != ("cosine", dimension):
        raise ConfigurationError(
            f"This Pinecone index has metric={metric!r} and dimension={stats.dimension}, and segments need "
            f"metric='cosine' and dimension={dimension}. Create another: create_index(..., dimension={dimension}, "
            "metric='cosine')."
        )


def iter_rows(
    index: Any, namespace: str | None, source: str | None, dimension: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """ID and metadata of the rows of one source; of None, all. It sees new rows some seconds after they were written.

    Args:
        index: a pinecone Index.
        namespace: of the rows.
        source: the value of ``metadata["source"]``.
        dimension: of its vectors.
    """
    where = {"namespace": namespace or ""}
    keys: list[str] | None = None
    if source is not None:
        # Its lists have no filter, and a query without metadata stays below its limit of 4 MB.
        found = index.query(
            vector=[1.0] * dimension,
            top_k=MAX_TOP_K,
            filter={"source": {"$eq": source}},
            include_metadata=False,
            **where,
        )
        keys = [match["id"] for match in found["matches"]]
    if keys is None or len(keys) == MAX_TOP_K:
        # Version 7 lists strings.
        keys = [row if isinstance(row, str) else row.id for page in index.list(**where) for row in page]
    for first in range(0, len(keys), _FETCHED):
        for key, row in index.fetch(ids=keys[first : first + _FETCHED], **where).vectors.items():
            if source is None or (row.metadata or {}).get("source") == source:
                yield key, dict(row.metadata or {})
