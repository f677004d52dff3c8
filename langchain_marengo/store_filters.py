"""A search target in each store's filter language, joined with the user's own filter."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from bedrock_marengo.search.fusion import SearchTarget
from bedrock_marengo.search.postgres import sql_text

__all__ = ["dict_filter", "exact_sources", "metadata_filter", "milvus_text", "sql_filter", "sql_text", "term_filter"]


def metadata_filter(target: SearchTarget) -> Callable[[Mapping[str, Any]], bool]:
    """``SearchTarget.holds`` for metadata, for stores that filter by a function. What a row lacks excludes nothing."""
    sources, equals = exact_sources(target), target.equals.items()

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
    if sources := exact_sources(target):
        terms.append({"source": {"$in": sources}})
    # Floats: PGVectorStore derives the column's type from the literal.
    if target.start_sec is not None:
        terms.append({"end_sec": {"$gt": float(target.start_sec)}})
    if target.end_sec is not None:
        terms.append({"start_sec": {"$lt": float(target.end_sec)}})
    terms += [user_filter] if user_filter else []
    # Chroma refuses an $and of one term.
    return {"$and": terms} if len(terms) > 1 else next(iter(terms), None)


def sql_filter(target: SearchTarget, user_filter: Any, name: Callable[[str], str], text: Callable[[str], str]) -> str:
    """The filter language that LanceDB and Milvus share, except for names and quotes; empty if there is none."""
    equals = "==" if text is milvus_text else "="
    terms = [f"{name(key)} {equals} {text(value)}" for key, value in target.equals.items()]
    if sources := exact_sources(target):
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
    if sources := exact_sources(target):
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


def exact_sources(target: SearchTarget) -> list[str]:
    """The target's sources, if a store can filter for them: a prefix is not an equality, and is filtered for later."""
    return [] if any(source.endswith("/") for source in target.sources) else list(target.sources)
