"""Retrieval metrics of one question, and bootstrap intervals over many. Times are compared in whole milliseconds.

Sources: recall, MRR and nDCG as in information retrieval (Jarvelin and Kekalainen 2002 for nDCG); "R@n, IoU=m" as in
moment retrieval (Gao et al., "TALL", ICCV 2017); the paired bootstrap as in Efron and Tibshirani (1993), percentiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bedrock_marengo.search.questions import RightMoment, milliseconds_of
from bedrock_marengo.search.results import SearchResult

__all__ = ["FEW_QUESTIONS", "bootstrap", "is_right", "metric_names", "score", "temporal_iou"]

FEW_QUESTIONS = 20
"""Bootstrap intervals of fewer questions are too narrow to decide by. Ours."""

LEVEL = 0.95
RESAMPLES = 4_000
_AT_ONCE = 2_000_000
"""Numbers in memory at once while resampling: 16 MB."""

_IOUS = (0.3, 0.5)

Numbers = npt.NDArray[np.float64]


def metric_names(k: int) -> tuple[str, ...]:
    """What ``score`` returns, in its order."""
    cuts = [n for n in (1, 5) if n <= k]
    recalls = [f"recall@{n}" for n in sorted({*cuts, k})]
    return (*recalls, "MRR", f"nDCG@{k}", "tIoU", *(f"R@{n}, IoU={iou}" for n in cuts for iou in _IOUS))


def temporal_iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Intersection over union of two time ranges in milliseconds: 0 to 1."""
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return max(0, shared) / (a[1] - a[0] + b[1] - b[0] - shared) if shared > 0 else 0.0


def is_right(hit: SearchResult, moment: RightMoment, min_iou: float | None = None) -> bool:
    """Whether a hit is a right moment: it is of its file, and at its time.

    It is at its time if the middle of one is within the other; with ``min_iou``, if their intersection over union is
    at least that. Any hit of an image, or of a file all of which is right, is at its time.
    """
    if hit.source != moment.source:
        return False
    if moment.span_ms is None:
        return True
    found = milliseconds_of(hit.start_sec, hit.end_sec)
    if found is None:
        return False
    if min_iou is not None:
        return temporal_iou(found, moment.span_ms) >= min_iou
    return _has_middle(found, moment.span_ms) or _has_middle(moment.span_ms, found)


def score(
    hits: Sequence[SearchResult | None], right: Sequence[RightMoment], k: int, min_iou: float | None = None
) -> list[float]:
    """The metrics of one question, in the order of ``metric_names(k)``. NaN for what no time can be compared for.

    Args:
        hits: what was found, best first; None for what is not a segment.
        right: the right moments, one or more.
        k: how many hits count.
        min_iou: see ``is_right``.
    """
    hits = hits[:k]
    ranks = [
        next((n for n, hit in enumerate(hits, start=1) if hit is not None and is_right(hit, moment, min_iou)), math.inf)
        for moment in right
    ]
    cuts = [n for n in (1, 5) if n <= k]
    recalls = [sum(rank <= n for rank in ranks) / len(ranks) for n in sorted({*cuts, k})]
    ideal = sum(1 / math.log2(1 + n) for n in range(1, min(len(ranks), k) + 1))
    gained = sum(1 / math.log2(1 + rank) for rank in ranks)
    # One hit may find several right moments at once, which is better than the ideal counts on.
    return [*recalls, 1 / min(ranks), min(1.0, gained / ideal), *_overlaps(hits, right, cuts)]


def bootstrap(values: Numbers, seed: int) -> Numbers:
    """The 95 % percentile interval of each column's mean, over resampled questions: ``(2, columns)``.

    All columns are of the same resamples, so differences of two columns stay paired.

    Args:
        values: ``(questions, columns)``; NaN counts for nothing.
        seed: of the resamples.
    """
    random = np.random.default_rng(seed)
    count = len(values)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    means = []
    for size in _chunks(RESAMPLES, max(1, _AT_ONCE // count)):
        times = random.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((times @ filled) / (times @ known.astype(np.float64)))
    every = np.concatenate(means)
    outside = (1 - LEVEL) / 2
    low_high = np.full((2, values.shape[1]), np.nan)
    usable = known.any(axis=0)
    if usable.any():
        low_high[:, usable] = np.nanpercentile(every[:, usable], [100 * outside, 100 * (1 - outside)], axis=0)
    return low_high


def _overlaps(hits: Sequence[SearchResult | None], right: Sequence[RightMoment], cuts: Sequence[int]) -> list[float]:
    """The mean over the timed moments of the best overlap, and whether one of the first n hits overlaps so much."""
    timed = [(moment.source, span) for moment in right if (span := moment.span_ms) is not None]
    if not timed:
        return [math.nan] * (1 + len(cuts) * len(_IOUS))
    ious = [[_iou(hit, source, span) for hit in hits] for source, span in timed]
    best = sum(max(row, default=0.0) for row in ious) / len(ious)
    return [best, *(float(any(iou >= m for row in ious for iou in row[:n])) for n in cuts for m in _IOUS)]


def _iou(hit: SearchResult | None, source: str, span: tuple[int, int]) -> float:
    found = milliseconds_of(hit.start_sec, hit.end_sec) if hit is not None and hit.source == source else None
    return temporal_iou(found, span) if found is not None else 0.0


def _has_middle(span: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the middle of the other is within the span, in half milliseconds: no rounding."""
    return 2 * span[0] <= other[0] + other[1] < 2 * span[1]


def _chunks(total: int, most: int) -> list[int]:
    return [min(most, total - done) for done in range(0, total, most)]
