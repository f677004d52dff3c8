"""pgvector's indexes and how to search them, as SQL text: what both frameworks' PostgreSQL stores share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["EXACT", "VERSION", "create_btree", "create_hnsw", "quoted", "scan_settings", "sql_text", "store_inline"]

EF_SEARCH = 100
"""How many candidates a search of an HNSW index keeps, if no one has set more. Ours; pgvector's default is 40."""
MOST_EF_SEARCH = 1_000
"""pgvector's limit."""
ITERATIVE = (0, 8)
"""The first version of pgvector whose indexes go on scanning until they have found enough that pass the filter."""

VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
EXACT = "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true)"
"""Makes a search compare all rows that pass the filter: an HNSW index gives up after hnsw.max_scan_tuples."""


def scan_settings(k: int, version: str, *, ef_search: int = 0, is_selective: bool) -> str:
    """A statement that sets, for one transaction, how pgvector scans an index for ``k`` hits.

    Args:
        k: how many hits.
        version: pgvector's, such as "0.8.1".
        ef_search: what the user has set.
        is_selective: whether the filter says more than track and scope, so that reading few rows may be faster than
            the index. Else the planner is not asked: it doesn't count the cost of vectors that are stored out of line.
    """
    settings = {"hnsw.ef_search": str(max(ef_search, min(max(k, EF_SEARCH), MOST_EF_SEARCH)))}
    if tuple(int(number) for number in version.split(".")[:2]) >= ITERATIVE:
        settings |= {"hnsw.iterative_scan": "strict_order", "ivfflat.iterative_scan": "relaxed_order"}
    if not is_selective:
        settings["enable_seqscan"] = "off"
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())


def create_hnsw(
    schema: str,
    table: str,
    column: str,
    operators: str,
    tracks: Sequence[str] = (),
    *,
    option: str = "",
    scope: str = "",
) -> dict[str, str]:
    """Statements that create HNSW indexes where there are none: index name -> statement.

    Args:
        schema: the table's schema, unquoted.
        table: the table, unquoted.
        column: the vectors' column, unquoted.
        operators: the operator class of the metric, such as "vector_cosine_ops".
        tracks: a partial index of each track's clips; without them, one of all rows.
        option: the expression for a row's embedding option, exactly as searches filter for it.
        scope: the same for its scope.
    """
    on = f"ON {quoted(schema)}.{quoted(table)} USING hnsw ({quoted(column)} {operators})"
    if not tracks:
        name = _index_name(table, "hnsw")
        return {name: f"CREATE INDEX IF NOT EXISTS {quoted(name)} {on}"}
    return {
        (name := _index_name(table, f"{track}_clip_hnsw")): (
            f"CREATE INDEX IF NOT EXISTS {quoted(name)} {on} "
            f"WHERE {option} = {sql_text(track)} AND {scope} = {sql_text('clip')}"
        )
        for track in tracks
    }


def store_inline(schema: str, table: str, column: str) -> str:
    """A statement that keeps the vectors of new rows in the rows: pgvector's advice for tables that are searched a lot.

    One of up to 1,536 dimensions fits into a page, and PostgreSQL would store it elsewhere, compressed.
    """
    return f"ALTER TABLE {quoted(schema)}.{quoted(table)} ALTER COLUMN {quoted(column)} SET STORAGE PLAIN"


def create_btree(schema: str, table: str, name: str, expression: str) -> dict[str, str]:
    """A statement that creates an index of an expression where there is none: index name -> statement."""
    index = _index_name(table, f"{name}_idx")
    return {index: f"CREATE INDEX IF NOT EXISTS {quoted(index)} ON {quoted(schema)}.{quoted(table)} (({expression}))"}


def quoted(name: str) -> str:
    """A name in SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """A string literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _index_name(table: str, suffix: str) -> str:
    # PostgreSQL cuts names after 63 bytes, and two that are then equal are one index.
    if len(table.encode()) + len(suffix) < 60:
        return f"{table}_{suffix}"
    return f"marengo_{hashlib.sha256(table.encode()).hexdigest()[:12]}_{suffix}"
