"""QueryVectors: by a vector, by words, or by both, in pages."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import uuid4

from marengo_local.s3_vectors.checks import invalid, vector_of
from marengo_local.s3_vectors.filters import Filter, parse_filter
from marengo_local.s3_vectors.index import VectorIndex

__all__ = ["Queries"]

_PAGE: Final = 100
_MAX_CONSTRAINTS: Final = 100
_TOKEN_SEC: Final = 300.0
_MAX_OPEN: Final = 1_000
# Of Reciprocal Rank Fusion; AWS doesn't say which it uses.
_RRF: Final = 60
# What must be the same on each page.
_REPEATED: Final = ("topK", "queryVector", "filter", "queryMode", "queryTexts")


class _Hit(NamedTuple):
    key: str
    distance: float | None
    scores: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Open:
    """The hits of a query whose pages are being read."""

    asked: str
    hits: list[_Hit]
    until_sec: float


class Queries:
    """Answers queries, and keeps the hits of those that have more pages."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def page(self, index: VectorIndex, body: Mapping[str, Any]) -> dict[str, Any]:
        """One page of hits. Vectors that were deleted since the first page are left out of the later ones."""
        asked = hashlib.sha256(json.dumps([index.arn, *(body.get(name) for name in _REPEATED)]).encode()).hexdigest()
        name, _, start = body.get("nextToken", "").rpartition(".")
        if "nextToken" not in body:
            name, start = uuid4().hex, "0"
            self._open[name] = _Open(asked, _ranked(index, body), time.monotonic() + _TOKEN_SEC)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        query = self._open.get(name)
        if query is None or not start.isdecimal() or time.monotonic() > query.until_sec:
            raise invalid("/nextToken", "the token is invalid or has expired")
        if query.asked != asked:
            raise invalid("/nextToken", f"a page must be requested with the same {', '.join(_REPEATED)}")
        end = int(start) + _PAGE
        hits = [_shown(index, hit, body) for hit in query.hits[int(start) : end] if hit.key in index.rows]
        more = {"nextToken": f"{name}.{end}"} if end < len(query.hits) else {}
        if not more and "nextToken" not in body:
            del self._open[name]
        return {"vectors": hits, "distanceMetric": index.metric, **more}


def _shown(index: VectorIndex, hit: _Hit, body: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": hit.key}
    if body.get("returnDistance") and hit.distance is not None:
        shown["distance"] = hit.distance
    if body.get("returnMetadata"):
        shown["metadata"] = index.rows[hit.key].metadata
    if body.get("returnScores"):
        shown["scores"] = hit.scores
    return shown


def _ranked(index: VectorIndex, body: Mapping[str, Any]) -> list[_Hit]:
    mode, top_k = body.get("queryMode", index.mode), body["topK"]
    if (mode, index.mode) == ("CLASSIC", "ENHANCED"):
        raise invalid("/queryMode", "an ENHANCED index can't be queried in CLASSIC mode")
    if "queryVector" not in body and "queryTexts" not in body:
        raise invalid("/queryVector", "pass queryVector, queryTexts or both")
    wanted = _filter(index, body, mode)
    rankings: list[list[str]] = []
    distances: dict[str, float] = {}
    if "queryVector" in body:
        vector = vector_of(body["queryVector"], index.dimension, index.metric, "/queryVector")
        # CLASSIC filters what it meets during the search, so that fewer than topK may be left.
        found = index.nearest(vector, top_k, wanted, top_k if mode == "CLASSIC" else None)
        distances = dict(found)
        rankings.append(list(distances))
    if "queryTexts" not in body:
        return [_Hit(key, distance, {"vectorDistance": distance}) for key, distance in distances.items()]
    words = _word_scores(index, body["queryTexts"], mode, wanted)
    for scores in words.values():
        rankings.append(sorted(scores, key=lambda key: (-scores[key], key))[:top_k])
    return _fused(rankings, words, distances, top_k)


def _filter(index: VectorIndex, body: Mapping[str, Any], mode: str) -> Callable[[Mapping[str, Any]], bool]:
    if "filter" not in body:
        return lambda metadata: True
    wanted: Filter = parse_filter(body["filter"], index.non_filterable)
    if mode == "CLASSIC" and wanted.needs_enhanced:
        raise invalid("/filter", "$startsWith requires the ENHANCED index mode")
    if mode == "ENHANCED" and wanted.constraints > _MAX_CONSTRAINTS:
        raise invalid("/filter", f"{wanted.constraints} filter constraints; at most {_MAX_CONSTRAINTS} are allowed")
    return wanted.matches


def _word_scores(
    index: VectorIndex, texts: list[Mapping[str, str]], mode: str, wanted: Callable[[Mapping[str, Any]], bool]
) -> dict[str, dict[str, float]]:
    """Metadata key -> key of a vector -> BM25."""
    if mode == "CLASSIC":
        raise invalid("/queryTexts", "text search requires the ENHANCED index mode")
    keys = [text["metadataKey"] for text in texts]
    if len(set(keys)) < len(keys):
        raise invalid("/queryTexts", "each metadataKey can be searched only once")
    for key in keys:
        if key not in index.texts or index.texts[key].status != "ACTIVE":
            raise invalid("/queryTexts", f"{key} is not configured for text search, or its index is still being built")
    found = {text["metadataKey"]: index.text_scores(text["metadataKey"], text["text"]) for text in texts}
    return {
        name: {key: score for key, score in scores.items() if wanted(index.rows[key].metadata)}
        for name, scores in found.items()
    }


def _fused(
    rankings: list[list[str]], words: Mapping[str, Mapping[str, float]], distances: Mapping[str, float], top_k: int
) -> list[_Hit]:
    """Hits by Reciprocal Rank Fusion of all rankings; the order of a single one stays as it is."""
    fused: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            fused[key] = fused.get(key, 0.0) + 1 / (_RRF + rank)
    hits = []
    for key in sorted(fused, key=lambda key: (-fused[key], key))[:top_k]:
        scores: dict[str, Any] = {
            "bm25Scores": [{"metadataKey": name, "score": found[key]} for name, found in words.items() if key in found]
        }
        if len(rankings) > 1:
            scores["fused"] = fused[key]
        if key in distances:
            scores["vectorDistance"] = distances[key]
        # `distance` itself stays empty: nothing says that a hybrid query fills it.
        hits.append(_Hit(key, None, scores))
    return hits
