"""A search target in each store's filter language, joined with the user's own filter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from bedrock_marengo import ConfigurationError
from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.postgres import sql_text
from bedrock_marengo.search.targets import exact_sources
from bedrock_marengo.validation import is_number, short_repr

__all__ = [
    "dict_filter",
    "matches",
    "metadata_filter",
    "milvus_text",
    "sql_filter",
    "sql_text",
    "term_filter",
]


def metadata_filter(target: SearchTarget) -> Callable[[Mapping[str, Any]], bool]:
    """``SearchTarget.holds`` for metadata, for stores that filter by a function. What a row lacks excludes nothing."""
    sources, equals = exact_sources(target.sources), target.equals.items()

    def holds(metadata: Mapping[str, Any]) -> bool:
        return (
            all(metadata.get(name) == value for name, value in equals)
            and (not sources or metadata.get("source", sources[0]) in sources)
            and (target.start_sec is None or metadata.get("end_sec", math.inf) > target.start_sec)
            and (target.end_sec is None or metadata.get("start_sec", 0.0) < target.end_sec)
        )

    return holds


def dict_filter(target: SearchTarget, user_filter: Any) -> dict[str, Any] | None:
    """The filter language that Chroma, both PGVectors and S3 Vectors share; None if there is nothing to filter for."""
    terms: list[Any] = [{name: {"$eq": value}} for name, value in target.equals.items()]
    if sources := exact_sources(target.sources):
        terms.append({"source": {"$in": sources}})
    # Floats: PGVectorStore derives the column's type from the literal.
    if target.start_sec is not None:
        terms.append({"end_sec": {"$gt": float(target.start_sec)}})
    if target.end_sec is not None:
        terms.append({"start_sec": {"$lt": float(target.end_sec)}})
    terms += [user_filter] if user_filter else []
    # Chroma refuses an $and of one term.
    return {"$and": terms} if len(terms) > 1 else next(iter(terms), None)


def matches(where: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata match a filter of S3 Vectors or Pinecone, for stores that list all rows.

    A key that is missing matches nothing but ``$exists: False``; a list matches if one of its values does.

    Raises:
        ConfigurationError: An operator that is not known here.
    """
    if not isinstance(where, Mapping):
        raise ConfigurationError(f"filter={short_repr(where)}: expected a mapping.")
    return all(_matches_term(key, wanted, metadata) for key, wanted in where.items())


def _matches_term(key: str, wanted: Any, metadata: Mapping[str, Any]) -> bool:
    if key in ("$and", "$or"):
        return (all if key == "$and" else any)([matches(each, metadata) for each in wanted])
    values = metadata[key] if isinstance(metadata.get(key), list) else [metadata[key]] if key in metadata else []
    for operator, value in (wanted if isinstance(wanted, Mapping) else {"$eq": wanted}).items():
        if key.startswith("$") or operator not in _OPERATORS:
            raise ConfigurationError(
                f"filter has {operator if not key.startswith('$') else key!r}, which words='bm25' doesn't know for "
                f"this store: expected $and, $or, {', '.join(_OPERATORS)}."
            )
        if not _OPERATORS[operator](values, value):
            return False
    return True


_OPERATORS: Mapping[str, Callable[[list[Any], Any], bool]] = {
    "$eq": lambda values, wanted: any(_is_same(value, wanted) for value in values),
    "$ne": lambda values, wanted: bool(values) and not any(_is_same(value, wanted) for value in values),
    "$gt": lambda values, wanted: any(is_number(value) and value > wanted for value in values),
    "$gte": lambda values, wanted: any(is_number(value) and value >= wanted for value in values),
    "$lt": lambda values, wanted: any(is_number(value) and value < wanted for value in values),
    "$lte": lambda values, wanted: any(is_number(value) and value <= wanted for value in values),
    "$in": lambda values, wanted: any(_is_same(value, each) for value in values for each in wanted),
    "$nin": lambda values, wanted: bool(values) and not any(_is_same(v, each) for v in values for each in wanted),
    "$exists": lambda values, wanted: bool(values) == wanted,
    "$startsWith": lambda values, wanted: any(isinstance(value, str) and value.startswith(wanted) for value in values),
}


def _is_same(value: Any, wanted: Any) -> bool:
    # True is not 1 to a store.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def sql_filter(target: SearchTarget, user_filter: Any, name: Callable[[str], str], text: Callable[[str], str]) -> str:
    """The filter language that LanceDB and Milvus share, except for names and quotes; empty if there is none."""
    equals = "==" if text is milvus_text else "="
    terms = [f"{name(key)} {equals} {text(value)}" for key, value in target.equals.items()]
    if sources := exact_sources(target.sources):
        anyone = ", ".join(map(text, sources))
        terms.append(f"{name('source')} " + (f"in [{anyone}]" if text is milvus_text else f"IN ({anyone})"))
    if target.start_sec is not None:
        terms.append(f"{name('end_sec')} > {float(target.start_sec)}")
    if target.end_sec is not None:
        terms.append(f"{name('start_sec')} < {float(target.end_sec)}")
    return " and ".join([*terms, f"({user_filter})"] if user_filter else terms)


def term_filter(target: SearchTarget, user_filter: Any, keyword: Callable[[str], str]) -> list[Any]:
    """The filter language of OpenSearch and Elasticsearch. ``keyword`` names the field that keeps a text unanalyzed."""
    terms: list[Any] = [{"term": {keyword(name): value}} for name, value in target.equals.items()]
    if sources := exact_sources(target.sources):
        terms.append({"terms": {keyword("source"): sources}})
    if target.start_sec is not None:
        terms.append({"range": {"metadata.end_sec": {"gt": target.start_sec}}})
    if target.end_sec is not None:
        terms.append({"range": {"metadata.start_sec": {"lt": target.end_sec}}})
    if user_filter:
        terms += user_filter if isinstance(user_filter, list) else [user_filter]
    return terms


def milvus_text(value: str) -> str:
    """A string literal of Milvus' expressions."""
    return json.dumps(value, ensure_ascii=False)
