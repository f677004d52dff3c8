"""Text search of Elasticsearch and OpenSearch, as the stores of both frameworks use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["match_query"]

_MAX_TEXT = 2000
"""Characters, so 1,000 words at most: more than 1,024 can be refused (indices.query.bool.max_clause_count)."""


def match_query(field: str, text: str, filters: Sequence[Any] = ()) -> dict[str, Any]:
    """Rows with any word of a text, by BM25. Its beginning counts, 2,000 characters; syntax means nothing in it.

    Args:
        field: of the texts.
        text: what to search for.
        filters: clauses that don't change the scores.
    """
    return {"bool": {"must": [{"match": {field: {"query": text[:_MAX_TEXT]}}}], "filter": list(filters)}}
