"""One question as a query for each track, by a language model: what it is asked, and what of its answer is used."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bedrock_marengo.contract.inputs import Query
from bedrock_marengo.errors import warn_once
from bedrock_marengo.search.weights import ANCHORS

__all__ = ["decompose_prompt", "queries_in", "warn_of_failure"]

_MAX_CHARACTERS = 500
"""Of one query; more is not a query. Ours."""

_PROMPT = """Split a search query for a video archive into one query for each track. Write only what the query says \
about that track, short, in the language of the query. Leave out a track that it says nothing about.

Tracks:
{tracks}

Query: {question}

Answer with one JSON object and nothing else: track -> query."""


def decompose_prompt(question: str, tracks: Iterable[str]) -> str:
    """What a language model is asked.

    Args:
        question: the user's.
        tracks: those that are searched.
    """
    asked = "\n".join(f"- {track}: {ANCHORS[track]}" for track in _asked(tracks))
    # As JSON, so that a question can't continue the prompt.
    return _PROMPT.format(tracks=asked, question=json.dumps(question, ensure_ascii=False))


def queries_in(answer: Any, tracks: Sequence[str]) -> dict[str, Query]:
    """Track -> its query, of what a language model answered. The question itself is used for the rest.

    An answer is text, never a handle, path or URI. A photograph is searched for what a clip's picture is searched for:
    the two are ranked together.
    """
    found = dict(answer) if isinstance(answer, Mapping) else _object_in(answer if isinstance(answer, str) else "")
    asked = _asked(tracks)
    if found is None or any(not _is_query(found[track]) for track in found.keys() & set(asked)):
        _warn("the answer was not one JSON object of track -> query")
        found = found or {}
    queries = {track: Query(text=found[track].strip()) for track in asked if _is_query(found.get(track))}
    picture = next((queries[track] for track in ("visual", "visual-image") if track in queries), None)
    return {**queries, "image": picture} if picture is not None and "image" in tracks else queries


def warn_of_failure(error: Exception) -> dict[str, Query]:
    """The language model failed: no track has a query of its own, and the question itself is searched for."""
    _warn(f"the language model failed: {type(error).__name__}: {error!s:.200}")
    return {}


def _warn(reason: str) -> None:
    warn_once(
        "decompose",
        f"decompose= gave no queries that can be used, so tracks are searched for the question itself: {reason}.",
    )


def _asked(tracks: Iterable[str]) -> list[str]:
    return [track for track in tracks if track in ANCHORS and track not in ("fused", "image")]


def _is_query(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _MAX_CHARACTERS


def _object_in(answer: str) -> dict[str, Any] | None:
    """The JSON object of an answer, which may be in a code block or between words."""
    first, last = answer.find("{"), answer.rfind("}")
    try:
        found = json.loads(answer[first : last + 1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
