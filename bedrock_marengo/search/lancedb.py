"""LanceDB's full-text search, as the stores of both frameworks use it: BM25 over an index of the text column."""

from __future__ import annotations

from typing import Any

from bedrock_marengo.errors import ConfigurationError

__all__ = ["create_scalar_indexes", "create_text_index", "query_words"]

_KINDS = {"embedding_option": "BITMAP", "embedding_scope": "BITMAP", "source": "BTREE"}
"""What searches filter for -> the kind of its index."""


def create_scalar_indexes(table: Any) -> list[str]:
    """Create the indexes of what searches filter for, and return the columns' names.

    Args:
        table: LanceDB's, with metadata in a struct.
    """
    columns = {f"metadata.{name}": kind for name, kind in _KINDS.items()}
    for column, kind in columns.items():
        table.create_scalar_index(column, index_type=kind, replace=True)
    return list(columns)


def create_text_index(table: Any, column: str) -> str:
    """Create a full-text index of a column, without a stemmer and stop words, and return the column's name.

    An index that exists is kept, whatever its language. It knows the words of languages without spaces, such as
    Chinese, Japanese and Thai; if the installed lancedb can't do so, words end at spaces and punctuation.

    Args:
        table: LanceDB's.
        column: of the texts.
    """
    if not _has_text_index(table, column):
        settings = {"stem": False, "remove_stop_words": False}
        try:
            table.create_fts_index(column, base_tokenizer="icu/split", **settings)
        except ValueError:
            table.create_fts_index(column, base_tokenizer="simple", **settings)
    return column


def query_words(table: Any, column: str, text: str, k: int, where: str = "") -> list[dict[str, Any]]:
    """The ``k`` best rows with any of a text's words, best first; ``_score`` is their BM25. Syntax means nothing.

    Args:
        table: LanceDB's.
        column: of the texts.
        text: what to search for.
        k: how many rows.
        where: a filter in SQL; it is applied before the search.

    Raises:
        ConfigurationError: The column has no full-text index: without one, LanceDB finds nothing.
    """
    import lancedb.query

    if not _has_text_index(table, column):
        raise ConfigurationError(
            f"This LanceDB table has no full-text index of {column!r}: create one with create_indexes(...) or "
            f"table.create_fts_index({column!r}), or use words='bm25'."
        )
    # Its class seems to need each of its fields, to a type checker.
    match: Any = lancedb.query.MatchQuery
    rows = table.search(match(text, column), query_type="fts")
    if where:
        rows = rows.where(where, prefilter=True)
    found: list[dict[str, Any]] = rows.limit(k).to_list()
    return found


def _has_text_index(table: Any, column: str) -> bool:
    return any(index.index_type == "FTS" and column in index.columns for index in table.list_indices())
