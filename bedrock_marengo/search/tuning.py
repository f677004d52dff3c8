"""Track weights for one's own archive, by cross-validation: recommended only if the gain is unlikely to be chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np

from bedrock_marengo.errors import InputError
from bedrock_marengo.search.evaluation import SearchesTracks, check_evaluation, tracks_found, weights_by_name
from bedrock_marengo.search.metrics import FEW_QUESTIONS, Numbers, bootstrap, metric_names, score
from bedrock_marengo.search.questions import Question, read_questions
from bedrock_marengo.search.results import results_from
from bedrock_marengo.search.track_hits import TrackHits
from bedrock_marengo.search.weights import INTENT
from bedrock_marengo.validation import is_int, short_repr

__all__ = ["WeightSuggestion", "suggest_weights"]

MAX_CANDIDATES = 70
"""Weights that are tried: for three tracks all tenths, for more tracks larger steps. Ours."""


@dataclass(frozen=True, kw_only=True)
class WeightSuggestion:
    """Whether other weights than the retriever's own are better for some questions.

    Attributes:
        weights: the weights to use, track -> weight; None if there is no reason to change.
        best: the weights that are best for all these questions together; chance alone makes some weights the best.
        metric: by which they were compared.
        current: the mean of the retriever's own weights.
        validated: the mean of weights that were each chosen without the questions that they were measured on.
        low: where the 95 % interval of the difference of the two begins.
        high: where it ends.
        questions: how many there were.
        reason: why there is a recommendation, or none.
    """

    weights: Mapping[str, float] | None
    best: Mapping[str, float] = field(repr=False)
    metric: str
    current: float
    validated: float
    low: float
    high: float
    questions: int
    reason: str

    def __str__(self) -> str:
        used = ", ".join(f"{track}={weight:g}" for track, weight in (self.weights or {}).items())
        return "\n".join(
            [
                f"weights: {used}" if self.weights else "weights: keep those you have",
                self.reason,
                f"{self.metric} over {self.questions:,} questions: {self.current:.3f} with your weights, "
                f"{self.validated:.3f} cross-validated, difference {self.validated - self.current:+.3f} "
                f"[{self.low:+.3f}, {self.high:+.3f}]",
            ]
        )


def suggest_weights(
    retriever: SearchesTracks,
    questions: Any,
    *,
    k: int = 10,
    metric: str | None = None,
    folds: int = 5,
    min_iou: float | None = None,
    seed: int = 0,
) -> WeightSuggestion:
    """Look for better track weights for a ``MarengoRetriever``, with its own fusion and other settings.

    Each question is searched once; the weights are tried on what was found. In each fold, the weights that are best
    for the other questions are measured on those of the fold, so the gain is not that of weights fitted to the same
    questions. Weights are recommended only if there are 20 questions or more and the interval of the gain is above 0.

    Args:
        retriever: a ``MarengoRetriever`` of LangChain or LlamaIndex.
        questions: as for ``evaluate``.
        k: how many hits count.
        metric: what to compare by, such as "recall@1" or "MRR". Default: nDCG@k.
        folds: into how many parts the questions are divided, 2 or more.
        min_iou: as for ``evaluate``.
        seed: of the folds and the bootstrap.

    Raises:
        InputError: Not a ``MarengoRetriever``, or a wrong question or setting.
    """
    check_evaluation(k, min_iou, seed)
    names = metric_names(k)
    metric = f"nDCG@{k}" if metric is None else metric
    if metric not in names:
        raise InputError(f"expected {', '.join(names)}.", setting="metric", value=metric)
    if not is_int(folds, 2):
        raise InputError("expected a whole number, 2 or more.", setting="folds", value=folds)
    if not isinstance(retriever, SearchesTracks):
        raise InputError(
            f"{short_repr(retriever)} has no tracks to weigh: pass a MarengoRetriever of LangChain or LlamaIndex."
        )
    asked = read_questions(questions)
    hits = [retriever.search_tracks(question.query, k) for question in asked]
    candidates = [*_presets(hits), *_grid(tracks_found(hits))]
    values = np.array(
        [_values(candidates, *pair, k, min_iou, names.index(metric)) for pair in zip(asked, hits, strict=True)]
    )
    known = ~np.isnan(values).any(axis=1)
    return _decide(values[known], candidates, metric, folds, seed)


def _decide(
    values: Numbers, candidates: Sequence[Mapping[str, float]], metric: str, folds: int, seed: int
) -> WeightSuggestion:
    """``values``: (questions, 1 + candidates); the first column is that of the retriever's own weights."""
    count = len(values)
    chosen, current = _validated(values, folds, seed), values[:, 0]
    low, high = (float(bound[0]) for bound in bootstrap((chosen - current)[:, None], seed)) if count else (0.0, 0.0)
    best = int(values.mean(axis=0).argmax()) if count else 0
    if count < FEW_QUESTIONS:
        reason = f"{count:,} questions are too few to choose weights by: write {FEW_QUESTIONS} or more, better 50."
    elif low > 0 and best:
        reason = "The cross-validated gain is above 0 in the whole interval."
    elif not best:
        reason = "No weights that were tried are better than yours."
    else:
        reason = "The interval of the gain contains 0: with these questions, it may be chance. Write more questions."
    is_better = count >= FEW_QUESTIONS and low > 0 and best > 0
    return WeightSuggestion(
        weights=dict(candidates[best - 1]) if is_better else None,
        best=dict(candidates[best - 1]) if best else {},
        metric=metric,
        current=float(current.mean()) if count else 0.0,
        validated=float(chosen.mean()) if count else 0.0,
        low=low,
        high=high,
        questions=count,
        reason=reason,
    )


def _validated(values: Numbers, folds: int, seed: int) -> Numbers:
    """What each question scores with the weights that are best for the questions of the other folds."""
    count = len(values)
    chosen = values[:, 0].copy()
    if count < 2:
        return chosen
    for fold in np.array_split(np.random.default_rng(seed).permutation(count), min(folds, count)):
        others = np.delete(values, fold, axis=0)
        # Of equals the first, so the retriever's own weights if nothing is better.
        chosen[fold] = values[fold, int(others.mean(axis=0).argmax())]
    return chosen


def _values(
    candidates: Sequence[Mapping[str, float]],
    question: Question,
    hits: TrackHits,
    k: int,
    min_iou: float | None,
    column: int,
) -> list[float]:
    """The metric of one question: with the retriever's own weights, then with each candidate."""
    rankings = [hits.moments(), *(hits.moments(weights=weights) for weights in candidates)]
    return [score(results_from(moments), question.right, k, min_iou)[column] for moments in rankings]


def _presets(hits: Sequence[TrackHits]) -> list[Mapping[str, float]]:
    return [weights for name, weights in weights_by_name(hits[0]).items() if name != INTENT and weights]


def _grid(tracks: Sequence[str]) -> list[Mapping[str, float]]:
    """Weights that sum to 1, in the smallest steps of at least a tenth that leave few enough of them."""
    if not tracks:
        return []
    steps = next(n for n in range(10, 0, -1) if comb(n + len(tracks) - 1, n) <= MAX_CANDIDATES or n == 1)
    return [
        {track: part / steps for track, part in zip(tracks, parts, strict=True) if part}
        for parts in _parts(steps, len(tracks))
    ]


def _parts(total: int, count: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a total as a sum of so many whole numbers, by the places of the bars between them."""
    for bars in combinations(range(total + count - 1), count - 1):
        edges = (-1, *bars, total + count - 1)
        yield tuple(end - start - 1 for start, end in pairwise(edges))
